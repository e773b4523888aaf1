"""What one receive costs in a queue that holds much: waiting, in flight, delayed, or deleted but not yet removable."""

from ..sweep import Point, Sweep, over

RECEIVE = Point("receive", clients=1, body="100 B", transactions=900, backlog=1000)
HALF_MILLION = 500_000
MILLION = 1_000_000

WORKLOADS = (
    Sweep("backlog", "Receive from a long queue", "messages waiting",
          over("backlog", (1000, MILLION, 10 * MILLION), RECEIVE, label="{:,}".format), metric="p50_us"),
    Sweep("occupied", "Receive beside messages in flight and delayed", "occupied by", {
        "nothing": RECEIVE,
        "500,000 in flight": Point(**vars(RECEIVE) | {"in_flight": HALF_MILLION}),
        "500,000 delayed": Point(**vars(RECEIVE) | {"delayed": HALF_MILLION}),
        "both": Point(**vars(RECEIVE) | {"in_flight": HALF_MILLION, "delayed": HALF_MILLION}),
    }, metric="p50_us"),
    Sweep("held", "Receive after deletes under a held horizon", "deleted before",
          over("deleted", (0, 200_000, MILLION), RECEIVE, label="{:,}".format), metric="p99_us"),
)
