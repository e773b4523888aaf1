"""The ratios that must hold, and what was measured of them.

A ratio is formed within each round, and the median of the rounds counts: the machine may be faster in one round than in
the next.  Peers are measured seconds apart; points of one axis are, too, where they take turns (sweep.py).
"""

import math
import operator
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from .results import Cell, Results


def _ratio(above: float, below: float) -> float:
    """A peer that gets nothing done at all is infinitely slower than one that does."""
    if below:
        return above / below
    return math.inf if above else math.nan


@dataclass(frozen=True)
class Check:
    """`above` divided by `below`, or less it, against a limit.

    Where several cells stand above, the worst counts; where several stand below, the highest (a peak) of those measured.
    """

    what: str
    above: tuple[Cell, ...]
    below: tuple[Cell, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    quick: bool = False
    difference: bool = False

    def measured(self, results: Results) -> float | None:
        """The ratio or difference, or None if a part of it was not measured."""
        above = [results.values(cell) for cell in self.above]
        below = [values for cell in self.below if (values := results.values(cell))]
        if not self.below:
            below = [[1.0] * len(above[0])]
        if [] in above or not below:
            return None
        worst = min if self.at_most is None else max
        compare = operator.sub if self.difference else _ratio
        return statistics.median(compare(worst(tops), max(bottoms)) for tops, bottoms in zip(zip(*above), zip(*below)))

    @property
    def required(self) -> str:
        return f">= {self.at_least:g}" if self.at_most is None else f"<= {self.at_most:g}"

    def holds(self, measured: float) -> bool:
        return measured >= self.at_least if self.at_most is None else measured <= self.at_most

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.above + self.below


def _versus(workload: str, point: str, peer: str) -> dict[str, tuple[Cell, ...]]:
    return {"above": (Cell(workload, point, "pigeon"),), "below": (Cell(workload, point, peer),)}


def _own(workload: str, above: str, below: str, metric: str) -> dict[str, tuple[Cell, ...]]:
    return {"above": (Cell(workload, above, "pigeon", metric),), "below": (Cell(workload, below, "pigeon", metric),)}


THIRD = 0.333
PEAK = tuple(Cell("receive-delete", clients, "pigeon") for clients in ("8", "32", "64", "128"))

ALL = (
    Check("single send, 8 clients / plain INSERT", **_versus("send", "8", "plain"), at_least=1.0, quick=True),
    Check("single send, 8 clients / PGMQ", **_versus("send", "8", "pgmq"), at_least=1.5, quick=True),
    Check("receive + delete of one, 8 clients / PGMQ", **_versus("receive-delete", "8", "pgmq"), at_least=3.5, quick=True),
    *(Check(f"receive + delete of one, {clients} clients / own peak", (Cell("receive-delete", clients, "pigeon"),), PEAK,
            at_least=0.8, quick=True) for clients in ("64", "128")),
    Check("receive + delete in batches of 100, 1 kB / PGMQ", **_versus("receive-delete-batch", "100", "pgmq"),
          at_least=5, quick=True),
    Check("send in batches of 100, 1 kB / PGMQ", **_versus("send-batch", "100", "pgmq"), at_least=2, quick=True),
    Check("WAL bytes of receive + delete, bodies of 100 B and 10 kB",
          tuple(Cell("receive-delete-body", body, "pigeon", "wal_bytes") for body in ("100 B", "10 kB")), at_most=400,
          quick=True),
    Check("WAL bytes of receive + delete, 1 MB bodies", (Cell("receive-delete-body", "1 MB", "pigeon", "wal_bytes"),),
          at_most=400),
    Check("receive after 200,000 deletes under a held horizon / on a fresh queue, p99",
          **_own("held", "200,000", "0", "p99_us"), at_most=1.5, quick=True),
    Check("receive after 1,000,000 deletes under a held horizon / on a fresh queue, p99",
          **_own("held", "1,000,000", "0", "p99_us"), at_most=1.5),
    Check("receive with 500,000 in flight and 500,000 delayed / with none, median",
          **_own("occupied", "both", "nothing", "p50_us"), at_most=1.5, quick=True),
    Check("receive with a backlog of 1,000,000 / of 1,000, median",
          **_own("backlog", "1,000,000", "1,000", "p50_us"), at_most=1.5, quick=True),
    Check("receive with a backlog of 10,000,000 / of 1,000, median",
          **_own("backlog", "10,000,000", "1,000", "p50_us"), at_most=1.5),
    Check("private memory of a backend after all calls / after a quarter", **_own("memory", "4/4", "1/4", "memory_bytes"),
          at_most=1.02),
    Check("throughput at minute 10 of a held horizon / minute 1", **_own("horizon-snapshot", "600", "60", "rate"),
          at_least=0.95),
    Check("bytes on disk at minute 10 of a held horizon / PGMQ",
          (Cell("horizon-snapshot", "600", "pigeon", "disk_bytes"),),
          (Cell("horizon-snapshot", "600", "pgmq", "disk_bytes"),), at_most=THIRD),
    # Who cannot keep the rate has fewer messages to store.
    Check("bytes on disk at minute 10 of a held horizon for each message sent so far / PGMQ",
          (Cell("horizon-snapshot", "600", "pigeon", "disk_per_message"),),
          (Cell("horizon-snapshot", "600", "pgmq", "disk_per_message"),), at_most=THIRD),
    *(Check(f"single send / publish to {subscribers} subscribers, rates",
            **_own("fan-out", "single send", subscribers, "rate"), at_most=limit)
      for subscribers, limit in (("10", 4), ("100", 25))),
    *(Check(f"publish to 10 subscribers / {what}, rates", **_versus("fan-out", "10", peer), at_least=1)
      for what, peer in (("ten sends in one statement", "sends"), ("PGMQ's send_topic", "pgmq_topics"))),
    *(Check(f"publish past 100 filters on {what}, added microseconds of CPU time",
            (Cell("filter", "one", peer, "cpu_us"),), (Cell("filter", "one", "unfiltered", "cpu_us"),), at_most=100,
            difference=True) for what, peer in (("attributes", "attribute_filters"), ("the body", "body_filters"))),
    Check("100,000 rows to three subscribers, INSERT ... SELECT / publish_batch",
          (Cell("bulk", "100,000", "insert_select"),), (Cell("bulk", "100,000", "publish_batch"),), at_least=0.8),
    *(Check(f"FIFO receive + delete, groups: {circumstances} / 10, CPU time",
            **_own("fifo-groups", circumstances, "10", "cpu_us"), at_most=1.5)
      for circumstances in ("100,000", "100,000 messages behind one", "100,000 blocked")),
    Check("FIFO messages/s, 16 senders and receivers, batches of 10", (Cell("fifo-throughput", "30", "pigeon"),),
          at_least=30_000),
    Check("FIFO messages/s, 16 senders and receivers, batches of 10 / PGMQ's grouped reads",
          **_versus("fifo-throughput", "30", "pgmq"), at_least=3),
    Check("time in a fair queue beside a flood of 100,000 / without, median",
          **_own("fair", "100,000 from one", "none", "p50_us"), at_most=3),
    *(Check(f"wake-up after commit, {waiting} waiting, {figure}, microseconds",
            (Cell("wakeup", waiting, "pigeon", metric),), at_most=limit)
      for waiting in ("one", "100, each at a queue of its own")
      for figure, metric, limit in (("median", "p50_us", 1000), ("p99", "p99_us", 5000))),
    Check("50 senders, NOTIFY / nothing", **_own("notify", "NOTIFY", "nothing", "rate"), at_least=0.9),
    Check("200 idle waiters, CPU of the whole server in % of a processor", (Cell("idle", "200", "pigeon", "cpu_percent"),),
          at_most=0.5),
    Check("disk size after 30 minutes in peace / after 5", **_own("soak", "1800", "300", "disk_bytes"), at_most=1.2),
)


def quick_cells() -> frozenset[Cell]:
    """What a quick run must measure."""
    return frozenset(cell for check in ALL if check.quick for cell in check.cells)


def table(results: Results, workload: str | None = None, expected: Callable[[Check], bool] = lambda check: False
          ) -> list[tuple[str, str, str, str]]:
    """Rows of (ratio, required, measured, verdict) of what was measured, or should have been: all, or those of one workload."""
    rows = []
    for check in ALL:
        measured = check.measured(results)
        if measured is not None and workload in (None, check.above[0].workload):
            rows.append((check.what, check.required, f"{measured:.2f}" if measured < 100 else f"{measured:.0f}",
                         "ok" if check.holds(measured) else "MISSED"))
        elif measured is None and expected(check):
            rows.append((check.what, check.required, "-", "not measured"))
    return rows
