"""Topics: one publish to many subscribers, beside a single send and beside as many sends."""

from ..sweep import Point, Sweep, over

SUBSCRIBERS = (1, 10, 100)
SEND = Point("send", clients=2)

WORKLOADS = (
    Sweep("fan-out", "Publish to subscribers", "subscribers",
          {"single send": SEND} | over("subscribers", SUBSCRIBERS, SEND), peers=("pigeon", "sends")),
)
