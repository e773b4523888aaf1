"""The load generator: pgbench with custom scripts and prepared statements."""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .cluster import Cluster

THREADS = 2


@dataclass(frozen=True)
class Transaction:
    """One line of pgbench's log: which script, when it ended, how long it took once it had begun."""

    script: int
    ended: float
    microseconds: int


@dataclass(frozen=True)
class Load:
    """What one run of pgbench did."""

    transactions: int
    seconds: float
    log: list[Transaction]

    def since(self, moment: float) -> "Load":
        """What it did after a moment."""
        log = [transaction for transaction in self.log if transaction.ended > moment]
        return Load(len(log), max((transaction.ended for transaction in log), default=moment) - moment, log)


class Pgbench:
    """One pgbench process: start it with the constructor, collect it with finish()."""

    def __init__(self, cluster: Cluster, database: str, scripts: list[str], *, clients: int, variables: dict[str, str],
                 seconds: float | None = None, transactions: int | None = None, rate: float | None = None,
                 weights: list[int] | None = None):
        self.cluster, self.database, self.clients = cluster, database, clients
        self.directory = Path(tempfile.mkdtemp(prefix="pigeon-pgbench-"))
        arguments: list[object] = ["-n", "-M", "prepared", "-c", clients, "-j", min(clients, THREADS), "-l",
                                   "--log-prefix", self.directory / "log"]
        arguments += ["-T", max(1, round(seconds))] if seconds else ["-t", transactions]
        if rate:
            arguments += ["-R", rate]
        for name, value in variables.items():
            arguments += ["-D", f"{name}={value}"]
        for number, script in enumerate(scripts):
            path = self.directory / f"script-{number}"
            path.write_text(script)
            arguments += ["-f", f"{path}@{weights[number] if weights else 1}"]
        with open(self.directory / "output", "wb") as output, open(self.directory / "errors", "wb") as errors:
            self.process = subprocess.Popen(cluster.command("pgbench", *arguments, *cluster.connection(database)),
                                            stdout=output, stderr=errors)

    def wait_until_connected(self) -> None:
        """Wait until every client is there; raise if one failed."""
        self._wait_for("count(*)")

    def wait_until_active(self) -> None:
        """Wait until every client is in the middle of a statement; raise if one failed."""
        self._wait_for("count(*) FILTER (WHERE state = 'active')")

    def _wait_for(self, count: str) -> None:
        """Wait until so many backends are counted as there are clients."""
        while self._backends(count) < self.clients:
            if self.process.poll() is not None:
                self.finish()
                raise RuntimeError("pgbench ended before all its clients were there")
            time.sleep(0.1)

    def abandon(self) -> None:
        """End the clients' backends in the middle of what they do, and forget about them."""
        self._backends("count(pg_terminate_backend(pid))")
        self.process.wait()
        shutil.rmtree(self.directory)

    def _backends(self, what: str) -> int:
        return int(self.cluster.sql("postgres", f"SELECT {what} FROM pg_stat_activity WHERE application_name = 'pgbench'"
                                                f" AND datname = '{self.database}'"))

    def finish(self) -> Load:
        """Wait for the end; raise if any client failed."""
        try:
            if self.process.wait() != 0:
                raise RuntimeError(f"pgbench failed: {(self.directory / 'errors').read_text()[-2000:]}")
            output = (self.directory / "output").read_text()
            transactions = int(re.search(r"actually processed: (\d+)", output)[1])
            rate = float(re.search(r"tps = ([\d.]+)", output)[1])
            return Load(transactions, transactions / rate if rate else 0, self._log())
        finally:
            shutil.rmtree(self.directory)

    def _log(self) -> list[Transaction]:
        log = []
        for path in self.directory.glob("log.*"):
            with open(path, encoding="ascii") as lines:
                for line in lines:
                    _, _, took, script, second, fraction, *lag = map(int, line.split())
                    log.append(Transaction(script, second + fraction / 1e6, took - sum(lag)))
        return log


def percentile(values: list[int], share: float) -> float | None:
    """The value below which `share` (0..1) of the values lie, by the nearest-rank method; None if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
