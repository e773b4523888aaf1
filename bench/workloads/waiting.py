"""A worker that waits must hear of a message at once, cost nothing meanwhile, and not slow the senders down."""

from ..idle import Idle
from ..sweep import Point, Sweep
from ..wakeup import Wakeup

SENDERS = Point("send", clients=50)

WORKLOADS = (
    Wakeup("wakeup", "From the commit of a send to the return of a waiting receive",
           {"one": 1, "100, each at a queue of its own": 100},
           notes="PGMQ's receive is `read_with_poll`, which looks every 100 ms."),
    Idle("idle", "Connections that wait at an empty queue", (0, 200),
         notes="CPU time of the whole server, its background processes included. PGMQ waits in `read_with_poll`."),
    Sweep("notify", "Fifty senders, with and without NOTIFY", "the queue sends", {
        "nothing": SENDERS,
        "NOTIFY": Point(**vars(SENDERS) | {"notify": True}),
    }, peers=("pigeon", "plain"), alternating=True,
          notes="pigeon: a queue with `notify => true`; plain SQL: a trigger that calls `pg_notify` for every message. One"
                " session listens."),
)
