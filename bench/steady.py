"""The second kind of workload: a fixed rate for minutes, with something in the way, watched over time."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from .cluster import Cluster
from .context import Context
from .load import Load, Pgbench, percentile
from .peers.peer import CHUNK, Peer

ABANDONED_TIMEOUT = 2           # seconds


@dataclass(frozen=True)
class Steady:
    """A workload at `rate` messages a second (None: as fast as it goes) for `seconds`, reported every `interval` seconds.

    There are so many senders that they keep the rate even when each send takes long, so that every peer has as much to
    store.  Receivers may be a tenth faster than senders.  `abandoned` receives in a hundred are never answered and come back
    after two seconds; these are also the receives whose time is reported, since nothing else is in their transaction.
    """

    name: str
    title: str
    hold: Callable[[Cluster, str], AbstractContextManager]
    seconds: int = 600
    interval: int = 60
    rate: int | None = 2000
    senders: int = 32
    receivers: int = 8
    abandoned: int = 2
    batch: int = 1
    groups: int = 0
    body: str = "1 kB"
    peers: tuple[str, ...] = ("pigeon", "plain", "pgmq")
    axis: str = "seconds"
    metric: str = "p99_us"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Every peer in turn, for the whole time."""
        for peer in context.participants(self.name, None, self.peers):
            self._run_peer(context, peer)

    def _run_peer(self, context: Context, peer: Peer) -> None:
        cluster, body = context.cluster, context.bodies[self.body]
        seconds = round(60 * context.minutes) if context.minutes else self.seconds
        interval = min(self.interval, max(1, seconds // 3))
        if self.groups:
            peer = peer.grouped(self.groups)
        for statement in (peer.drop(), peer.create()):
            cluster.sql(peer.database, statement)
        peer.fill(cluster, CHUNK, body)         # so that the planner's statistics are not those of an empty table
        cluster.vacuum(peer.database)
        cluster.checkpoint()
        if self.batch == 1:
            send = body.preamble() + peer.send(body.one())
        else:
            send = body.preamble(self.batch) + peer.send_batch_of(self.batch, body.many(self.batch))
        common = {"variables": body.variables(), "seconds": seconds}
        with self.hold(cluster, peer.database):
            start = time.time()
            senders = Pgbench(cluster, peer.database, [send], clients=self.senders,
                              rate=self.rate and self.rate / self.batch, **common)
            receivers = Pgbench(cluster, peer.database,
                                [peer.receive_delete(self.batch), peer.receive(1, ABANDONED_TIMEOUT)],
                                clients=self.receivers, rate=self.rate and 1.1 * self.rate / self.batch,
                                weights=[100 - self.abandoned, self.abandoned], **common)
            states = list(self._watch(cluster, peer, start, seconds, interval))
            sent = _per_interval(senders.finish(), start, interval)
            times = _receive_times(receivers.finish(), start, interval)
        for number, state in enumerate(states[1:], 1):
            elapsed, before = number * interval, states[number - 1]
            gone = state["deleted"] - before["deleted"]
            context.results.add(
                self.name, str(elapsed), peer.name, 1,
                rate=gone / (state["time"] - before["time"]),
                sent_rate=sent[number - 1] * self.batch / interval,
                p50_us=percentile(times[number - 1], 0.5),
                p99_us=percentile(times[number - 1], 0.99),
                disk_bytes=state["disk"],
                disk_per_message=state["disk"] / max(1, sum(sent[past] for past in range(number)) * self.batch),
                wal_directory_bytes=state["wal"], cpu_us=(state["cpu"] - before["cpu"]) * 1e6 / max(1, gone))
        cluster.sql(peer.database, peer.drop())

    @staticmethod
    def _watch(cluster: Cluster, peer: Peer, start: float, seconds: int, interval: int):
        """The state at the start and after every interval."""
        for elapsed in range(0, seconds + 1, interval):
            time.sleep(max(0.0, start + elapsed - time.time()))
            yield {"time": time.time(), "deleted": peer.deleted(cluster), "disk": cluster.disk_bytes(peer.database),
                   "wal": cluster.wal_directory_bytes(), "cpu": cluster.read().cpu_seconds}


def _receive_times(load: Load, start: float, interval: int) -> dict[int, list[int]]:
    """The durations of the transactions that only received, by interval."""
    times = defaultdict(list)
    for transaction in load.log:
        if transaction.script == 1:
            times[int((transaction.ended - start) // interval)].append(transaction.microseconds)
    return times


def _per_interval(load: Load, start: float, interval: int) -> Counter[int]:
    """How many transactions ended in each interval."""
    return Counter(int((transaction.ended - start) // interval) for transaction in load.log)
