"""What a peer is that pgbench cannot drive: it takes part in the workload "systems" only, through a client program."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import driver
from ..bodies import Body
from ..cluster import Cluster
from .peer import CHUNK, Peer

STARTING_SECONDS = 60


class Driven(Peer):
    """A system with a module in drivers/ that has the peer's name.  Unless it says otherwise, it lives in PostgreSQL."""

    @property
    def system(self) -> str:
        return self.name

    @property
    def packages(self) -> tuple[str, ...]:
        return driver.packages()

    def setup(self, cluster: Cluster) -> None:
        cluster.sql("postgres", f"CREATE DATABASE {self.database}")

    def settings(self, cluster: Cluster, batch: int) -> object:
        return {"host": str(cluster.directory), "user": "postgres", "database": self.database}

    def recreate(self, cluster: Cluster) -> None:
        driver.run(system=self.system, settings=self.settings(cluster, 1), operation="create", clients=1, batch=1)

    def fill(self, cluster: Cluster, count: int, body: Body, delay: int = 0) -> None:
        driver.run(system=self.system, settings=self.settings(cluster, CHUNK), operation="send", clients=2, batch=CHUNK,
                   messages=count, body=body.lines[0])


class Server(Driven):
    """A system with a server of its own: a private one, on this machine only, as the user that PostgreSQL runs as."""

    program: Path
    package: str
    directory: Path
    process: subprocess.Popen

    @property
    def packages(self) -> tuple[str, ...]:
        return (*super().packages, self.package)

    def missing(self, cluster: Cluster) -> str | None:
        return None if self.program.exists() else f"{self.program} is not there: Debian's {self.package} is not installed"

    def setup(self, cluster: Cluster) -> None:
        """It needs no database."""

    def tidy(self, cluster: Cluster) -> None:
        """It has nothing like VACUUM."""

    def cpu_parent(self, cluster: Cluster) -> int:
        return self.process.pid

    @contextlib.contextmanager
    def running(self, cluster: Cluster) -> Iterator[None]:
        self.directory = Path(tempfile.mkdtemp(prefix=f"pigeon-{self.name}-"))
        if cluster.as_server:
            shutil.chown(self.directory, "postgres", "postgres")
        try:
            with open(self.directory / "output", "wb") as output:
                self.process = subprocess.Popen([*cluster.as_server, "env", *self.environment(), self.program,
                                                 *self.arguments()], cwd=self.directory, stdout=output, stderr=output)
            try:
                self.wait_until(lambda: self.answers(cluster))
                yield
            finally:
                self.stop(cluster)
        finally:
            shutil.rmtree(self.directory)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + STARTING_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not start: {(self.directory / 'output').read_text()[-2000:]}")
            time.sleep(0.2)

    def environment(self) -> list[str]:
        """NAME=value, for the server."""
        return []

    def arguments(self) -> list[str]:
        """The server's command line."""
        return []

    def answers(self, cluster: Cluster) -> bool:
        """Whether a client can connect."""
        raise NotImplementedError

    def stop(self, cluster: Cluster) -> None:
        self.process.terminate()
        self.process.wait()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
