"""The first kind of workload: as fast as possible for some seconds, at several points along one axis."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from . import hold
from .cluster import Usage
from .context import Context
from .load import Load, Pgbench, percentile
from .peers.peer import CHUNK, Peer

FAR_FUTURE = 7200               # seconds; what is in flight or delayed stays so
SECONDS = 5
PEERS = ("pigeon", "plain", "pgmq")
SENDING_PEERS = (*PEERS, "pgq")
CLIENTS_PER_SECOND = 64         # whose connections are made in that time, and whose caches are filled in as much again
WARM_UP_CALLS = 800             # of all clients together


@dataclass(frozen=True)
class Point:
    """One set of circumstances.

    operation     send | receive_delete | receive (a lease without an end; needs a fixed number of transactions)
    clients       concurrent connections
    batch         messages per call
    body          a name in bodies.py
    backlog       visible messages when the clock starts; None: as many as the run will take, and some more
    in_flight     messages received before by somebody who has not answered yet
    delayed       messages whose delay has not ended
    deleted       messages sent and deleted under a snapshot that is still held
    groups        a FIFO queue with so many message groups
    blocked       messages in groups of their own, each of which is blocked: its first message is in flight
    blocked_groups  how many groups those are
    subscribers   a topic with so many queues subscribed
    notify        the queue sends NOTIFY, and somebody listens
    transactions  a fixed number per client, instead of a time
    """

    operation: str
    clients: int = 8
    batch: int = 1
    body: str = "1 kB"
    backlog: int | None = None
    in_flight: int = 0
    delayed: int = 0
    deleted: int = 0
    groups: int = 0
    blocked: int = 0
    blocked_groups: int = 0
    subscribers: int = 0
    notify: bool = False
    transactions: int | None = None


@dataclass(frozen=True)
class Sweep:
    """A workload: points by the name that the tables show.

    Points that are to be compared closely with each other are measured in alternation: the queue is then made anew for
    each sample.
    """

    name: str
    title: str
    axis: str
    points: dict[str, Point]
    peers: tuple[str, ...] = PEERS
    metric: str = "rate"
    notes: str = ""
    alternating: bool = False

    def run(self, context: Context) -> None:
        """Points one after another; at each, rounds; in each round, every peer in turn.  In alternation: round by round."""
        rounds = range(1, context.rounds + 1)
        for some in ([number] for number in rounds) if self.alternating else [rounds]:
            for label, point in self.points.items():
                self._measure(context, label, point, some)

    def _measure(self, context: Context, label: str, point: Point, rounds: Iterable[int]) -> None:
        """Some rounds at one point."""
        with contextlib.ExitStack() as stack:
            queues = [Queue(context, peer, point, stack) for peer in context.participants(self.name, label, self.peers)]
            for number in rounds:
                for queue in queues:
                    context.results.add(self.name, label, queue.peer.name, number, **queue.sample())
            for queue in queues:
                context.cluster.sql(queue.peer.database, queue.peer.drop())


def over(field_name: str, values: tuple, base: Point, label=str) -> dict[str, Point]:
    """Points that differ in one field."""
    return {label(value): dataclasses.replace(base, **{field_name: value}) for value in values}


@dataclass
class Queue:
    """One peer's queue at one point, from its preparation to its last sample."""

    context: Context
    peer: Peer
    point: Point
    stack: contextlib.ExitStack
    visible: int = 0
    expected_rate: float = field(default=0)

    def __post_init__(self) -> None:
        point, cluster = self.point, self.context.cluster
        if point.groups:
            self.peer = self.peer.grouped(point.groups)
        if point.subscribers:
            self.peer = self.peer.fanned_out(point.subscribers)
        if point.notify:
            self.peer = self.peer.notifying()
            self.stack.enter_context(hold.listener(cluster, self.peer.database, self.peer.listen()))
        self.peer.recreate(self.context.cluster)
        if point.deleted:
            self.stack.enter_context(hold.idle_snapshot(cluster, self.peer.database))
            self._fill(point.deleted)
            self._pgbench(self.peer.receive_delete(CHUNK), clients=1, transactions=-(-point.deleted // CHUNK))
        if point.in_flight:
            self._fill(point.in_flight)
            self._pgbench(self.peer.receive(CHUNK, FAR_FUTURE), clients=1, transactions=-(-point.in_flight // CHUNK))
        if point.delayed:
            self._fill(point.delayed, delay=FAR_FUTURE)
        if point.blocked:
            self._block()
        self.visible = 0
        cluster.checkpoint()
        self._warm_up()

    def sample(self) -> dict[str, float | None]:
        """Measure once.  A queue that ran empty proves nothing: it is filled higher and measured again."""
        while True:
            self._prepare()
            metrics = self._measure()
            self.expected_rate = max(self.expected_rate, metrics["rate"])
            if self.point.operation != "receive_delete" or self.visible > self.point.clients * self.point.batch:
                return metrics
            self.expected_rate *= 2

    def _measure(self) -> dict[str, float | None]:
        cluster, point = self.context.cluster, self.point
        deleting = point.operation == "receive_delete"
        depth = self.peer.depth(cluster) if deleting else 0
        everything, load, usage = self._run()
        gone = everything.transactions * point.batch
        if deleting:            # a transaction may find nothing
            gone = depth - self.peer.depth(cluster)
        if point.operation != "send":
            self.visible -= gone
        messages = round(gone * load.transactions / max(1, everything.transactions))
        times = [transaction.microseconds for transaction in load.log]

        def per_message(spent: float | None) -> float | None:
            return spent / messages if messages and spent is not None else None

        return {
            "rate": messages / load.seconds if messages else 0.0,
            "p50_us": percentile(times, 0.5),
            "p99_us": percentile(times, 0.99),
            "wal_bytes": per_message(usage.wal_bytes),
            "wal_total": per_message(usage.wal_total),
            "cpu_us": per_message(usage.cpu_seconds * 1e6),
            "messages": messages,
            "seconds": load.seconds,
        }

    def _run(self) -> tuple[Load, Load, Usage]:
        """Run the script: all it did, what of that is measured, and what the server spent on the latter."""
        cluster, point = self.context.cluster, self.point
        if point.transactions:
            before = cluster.read()
            load = self._pgbench(self._script(), clients=point.clients, transactions=point.transactions)
            return load, load, cluster.usage(before)
        pgbench = self._start(self._script(), clients=point.clients, seconds=self._seconds())
        pgbench.wait_until_connected()
        time.sleep(self._lead())
        before, moment = cluster.read(), time.time()
        everything = pgbench.finish()
        return everything, everything.since(moment), cluster.usage(before)

    def _lead(self) -> float:
        """How long new connections work before they are measured: users keep theirs."""
        return self.point.clients / CLIENTS_PER_SECOND

    def _seconds(self) -> float:
        """How long a run takes, with the time to make connections, which pgbench counts, too."""
        return 2 * self._lead() + (self.context.seconds or SECONDS)

    def _script(self) -> str:
        body = self.context.bodies[self.point.body]
        match self.point.operation, self.point.batch:
            case "send", 1:
                return body.preamble() + self.peer.send(body.one())
            case "send", count:
                return body.preamble(count) + self.peer.send_batch(body.many(count))
            case "receive", count:
                return self.peer.receive(count, FAR_FUTURE)
            case "receive_delete", count:
                return self.peer.receive_delete(count)
        raise ValueError(f"unknown operation {self.point.operation}")

    def _start(self, script: str, **options) -> Pgbench:
        return Pgbench(self.context.cluster, self.peer.database, [script],
                       variables=self.context.bodies[self.point.body].variables(), **options)

    def _pgbench(self, script: str, **options) -> Load:
        return self._start(script, **options).finish()

    def _fill(self, count: int, delay: int = 0) -> None:
        self.peer.fill(self.context.cluster, count, self.context.bodies[self.point.body], delay)
        self.visible += -(-count // CHUNK) * CHUNK

    def _block(self) -> None:
        point = self.point
        blocked = self.peer.grouped(point.blocked_groups, "blocked")
        blocked.fill(self.context.cluster, point.blocked, self.context.bodies[point.body])
        count = min(CHUNK, point.blocked_groups)
        self._pgbench(self.peer.receive(count, FAR_FUTURE), clients=1, transactions=-(-point.blocked_groups // count))
        blocked.fill(self.context.cluster, point.blocked_groups, self.context.bodies[point.body])   # each has one waiting

    def _needed(self) -> int:
        """How many visible messages the next sample must find."""
        point = self.point
        if point.operation == "send":
            return 0
        if point.backlog is not None:
            return point.backlog
        if point.transactions is not None:
            return point.transactions * point.clients * point.batch
        return round(1.5 * self.expected_rate * self._seconds()) + 2 * point.clients * point.batch

    def _prepare(self) -> None:
        if self.point.operation == "send":
            self.peer.recreate(self.context.cluster)
            self.context.cluster.checkpoint()       # so that the sample finds WAL segments that are used again
        if self.visible < self._needed():
            self._fill(self._needed() - self.visible)
        self.peer.tidy(self.context.cluster)

    def _warm_up(self) -> None:
        """A short run that is thrown away: it fills caches and tells how fast this peer about is."""
        point = self.point
        transactions = max(5, min(100, WARM_UP_CALLS // point.clients) // point.batch)
        if point.operation != "send":
            self._fill(2 * transactions * point.clients * point.batch)
        load = self._pgbench(self._script(), clients=point.clients, transactions=transactions)
        if point.operation != "send":
            self.visible -= load.transactions * point.batch
        self.expected_rate = 2 * load.transactions * point.batch / load.seconds
