"""The fifth kind of workload: whole systems, each driven by a client program of the same kind, as an application would."""

import contextlib
from dataclasses import dataclass

from . import driver
from .cluster import cpu_seconds
from .context import Context
from .peers.peer import Peer

SECONDS = 5
LEAST_BACKLOG = 20_000          # messages before a receive, for everybody: there are systems that get slower with more


@dataclass(frozen=True)
class Operation:
    """What the clients do all the time: send, or receive and acknowledge, `batch` messages a call."""

    operation: str
    batch: int = 1


@dataclass(frozen=True)
class Systems:
    """Eight clients of one Node program, as fast as they can, 1 kB messages, everything durable before it is answered."""

    name: str
    title: str
    points: dict[str, Operation]
    peers: tuple[str, ...]
    clients: int = 8
    body: str = "1 kB"
    axis: str = "operation"
    metric: str = "rate"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Operations one after another; for each, rounds; in each round, every peer in turn."""
        if reason := driver.prepare():
            context.results.skipped[self.name] = reason
            return
        with contextlib.ExitStack() as stack:
            for peer in context.participants(self.name, None, self.peers):
                stack.enter_context(peer.running(context.cluster))
            for label, operation in self.points.items():
                peers = context.participants(self.name, label, self.peers)
                rates = {}
                for number in range(1, context.rounds + 1):
                    for peer in peers:
                        if operation.operation == "receive" and operation.batch > 1 and not peer.receives_batches:
                            continue
                        metrics = self._sample(context, peer, operation, rates.get(peer.name, 0))
                        rates[peer.name] = metrics["rate"]
                        context.results.add(self.name, label, peer.name, number, **metrics)

    def _sample(self, context: Context, peer: Peer, operation: Operation, rate: float) -> dict[str, float | None]:
        """Measure once.  A queue that ran empty proves nothing: it is filled higher and measured again."""
        cluster, body = context.cluster, context.bodies[self.body]
        seconds = context.seconds or SECONDS
        while True:
            peer.recreate(cluster)
            filled = 0
            if operation.operation == "receive":
                filled = max(LEAST_BACKLOG, round(1.5 * rate * seconds))
                peer.fill(cluster, filled, body)
            peer.tidy(cluster)
            before = cpu_seconds(peer.cpu_parent(cluster))
            done = driver.run(system=peer.system, settings=peer.settings(cluster, operation.batch), clients=self.clients,
                              operation=operation.operation, batch=operation.batch, seconds=seconds, body=body.lines[0])
            spent = cpu_seconds(peer.cpu_parent(cluster)) - before
            if operation.operation == "send" or done["messages"] < filled - self.clients * operation.batch:
                return {"rate": done["messages"] / done["seconds"], "p50_us": done["p50_us"], "p99_us": done["p99_us"],
                        "cpu_us": spent * 1e6 / done["messages"],
                        "client_cpu_us": done["cpu_seconds"] * 1e6 / done["messages"]}
            rate = 2 * max(rate, done["messages"] / done["seconds"])
