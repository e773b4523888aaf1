"""RabbitMQ (Debian's rabbitmq-server): one node of its own, with a port mapper of its own, on the loopback interface."""

import contextlib
import socket
import subprocess
from pathlib import Path

from ..cluster import Cluster
from .driven import Server, free_port


class RabbitMq(Server):
    name = "rabbitmq"
    title = "RabbitMQ"
    program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    package = "rabbitmq-server"

    def environment(self) -> list[str]:
        self.port = free_port()
        self.mapper_port = free_port()
        configuration = self.directory / "rabbitmq.conf"
        configuration.write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        return [f"HOME={self.directory}", "ERL_EPMD_ADDRESS=127.0.0.1", f"ERL_EPMD_PORT={self.mapper_port}",
                f"RABBITMQ_DIST_PORT={free_port()}", f"RABBITMQ_NODENAME={self.node}",
                f"RABBITMQ_MNESIA_BASE={self.directory}/data", f"RABBITMQ_LOG_BASE={self.directory}/log",
                f"RABBITMQ_CONFIG_FILE={configuration}", f"RABBITMQ_ENABLED_PLUGINS_FILE={self.directory}/plugins",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}"]

    @property
    def node(self) -> str:
        return "bench@localhost"

    def answers(self, cluster: Cluster) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def settings(self, cluster: Cluster, batch: int) -> object:
        return f"amqp://127.0.0.1:{self.port}"

    def stop(self, cluster: Cluster) -> None:
        super().stop(cluster)
        subprocess.run([*cluster.as_server, "env", f"ERL_EPMD_PORT={self.mapper_port}", "epmd", "-kill"],
                       capture_output=True, check=False)
