"""Redis streams (Debian's redis-server), every write synchronised before it is answered."""

import contextlib
import socket
from pathlib import Path

from ..cluster import Cluster
from .driven import Server


class Redis(Server):
    name = "redis"
    title = "Redis streams"
    program = Path("/usr/bin/redis-server")
    package = "redis-server"

    def arguments(self) -> list[str]:
        return ["--port", "0", "--unixsocket", f"{self.directory}/socket", "--unixsocketperm", "777",
                "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]

    def answers(self, cluster: Cluster) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(f"{self.directory}/socket")
            return True
        return False

    def settings(self, cluster: Cluster, batch: int) -> object:
        return {"path": f"{self.directory}/socket"}
