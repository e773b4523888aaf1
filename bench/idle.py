"""The sixth kind of workload: many wait for a message that does not come.  What does waiting cost?"""

import time
from dataclasses import dataclass

from .cluster import cpu_seconds
from .context import Context
from .load import Pgbench
from .peers.peer import Peer

SECONDS = 10
SETTLING_SECONDS = 2
MORE_WAIT = 10                  # seconds; the measurement ends before


@dataclass(frozen=True)
class Idle:
    """The CPU time of the whole server while so many connections wait at one empty queue, as a share of one processor."""

    name: str
    title: str
    waiters: tuple[int, ...]
    peers: tuple[str, ...] = ("pigeon", "pgmq")
    axis: str = "waiting connections"
    metric: str = "cpu_percent"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Every peer in turn, once: ten seconds of doing nothing do not vary."""
        for waiters in self.waiters:
            for peer in context.participants(self.name, str(waiters), self.peers):
                self._sample(context, peer, waiters)

    def _sample(self, context: Context, peer: Peer, waiters: int) -> None:
        cluster = context.cluster
        seconds = max(SECONDS, context.seconds or 0)
        peer.recreate(cluster)
        cluster.checkpoint()
        load = None
        if waiters:
            load = Pgbench(cluster, peer.database, [peer.wait(seconds + MORE_WAIT)], clients=waiters, transactions=1,
                           variables={})
            load.wait_until_active()
        time.sleep(SETTLING_SECONDS)
        start, before = time.monotonic(), cpu_seconds(cluster.postmaster())
        time.sleep(seconds)
        spent, elapsed = cpu_seconds(cluster.postmaster()) - before, time.monotonic() - start
        if load:
            load.abandon()
        context.results.add(self.name, str(waiters), peer.name, 1, cpu_percent=100 * spent / elapsed, cpu_seconds=spent,
                            seconds=elapsed)
        cluster.sql(peer.database, peer.drop())
