"""FIFO queues: what a receive costs must not depend on how many groups there are, or are blocked."""

from .. import hold
from ..steady import Steady
from ..sweep import Point, Sweep

PAIR = Point("receive_delete", clients=1, body="100 B", transactions=2000, backlog=4000, groups=1000)
MANY = 100_000

WORKLOADS = (
    Sweep("fifo-groups", "Receive + delete from a FIFO queue", "groups", {
        "10": Point(**vars(PAIR) | {"groups": 10}),
        "1,000": PAIR,
        "100,000": Point(**vars(PAIR) | {"groups": MANY, "backlog": MANY}),
        "100,000 messages behind one": Point(**vars(PAIR) | {"blocked": MANY, "blocked_groups": 1}),
        "100,000 blocked": Point(**vars(PAIR) | {"blocked": MANY, "blocked_groups": MANY}),
    }, peers=("pigeon",), metric="cpu_us", alternating=True),
    Steady("fifo-throughput", "16 senders, 16 receivers, 1,000 groups, batches of 10", hold.nothing, seconds=30,
           interval=10, rate=None, senders=16, receivers=16, abandoned=0, batch=10, groups=1000, body="100 B",
           peers=("pigeon", "pgmq"), metric="rate"),
)
