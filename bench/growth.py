"""The third kind of workload: one connection calls and calls; does its backend's memory grow?"""

import time
from dataclasses import dataclass
from pathlib import Path

from .cluster import Cluster
from .context import Context
from .load import Pgbench
from .peers.peer import Peer

STEPS = 4
SECONDS = 12


@dataclass(frozen=True)
class Growth:
    """Send, receive and delete over one connection; the backend's private memory after each quarter of the time."""

    name: str
    title: str
    body: str = "1 kB"
    peers: tuple[str, ...] = ("pigeon", "plain", "pgmq")
    axis: str = "share of the calls"
    metric: str = "memory_bytes"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Every peer in turn."""
        for peer in context.participants(self.name, None, self.peers):
            self._run_peer(context, peer)

    def _run_peer(self, context: Context, peer: Peer) -> None:
        cluster, body = context.cluster, context.bodies[self.body]
        seconds = max(STEPS, context.seconds or SECONDS)
        for statement in (peer.drop(), peer.create()):
            cluster.sql(peer.database, statement)
        script = body.preamble() + peer.send(body.one()) + peer.receive_delete(1)
        start = time.monotonic()
        load = Pgbench(cluster, peer.database, [script], clients=1, seconds=seconds, variables=body.variables())
        sizes = []
        for step in range(1, STEPS + 1):
            time.sleep(max(0.0, start + seconds * step / STEPS - 0.3 - time.monotonic()))
            sizes.append(_private_bytes(cluster, peer.database))
        done = load.finish()
        for step, size in enumerate(sizes, 1):
            context.results.add(self.name, f"{step}/{STEPS}", peer.name, 1, memory_bytes=size,
                                rate=done.transactions / done.seconds, messages=done.transactions)
        cluster.sql(peer.database, peer.drop())


def _private_bytes(cluster: Cluster, database: str) -> int:
    """Memory that belongs to pgbench's backend alone."""
    pid = cluster.sql("postgres", f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}'"
                                  " AND application_name = 'pgbench' AND backend_type = 'client backend'")
    status = Path(f"/proc/{int(pid)}/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))
