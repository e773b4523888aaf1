"""Topics: one publish to many subscribers, past many filters, and of many messages at once."""

from ..sweep import Point, Sweep, over

SUBSCRIBERS = (1, 10, 100)
SEND = Point("send", clients=2)

WORKLOADS = (
    Sweep("fan-out", "Publish to subscribers", "subscribers",
          {"single send": SEND} | over("subscribers", SUBSCRIBERS, SEND), peers=("pigeon", "sends", "pgmq_topics"),
          alternating=True),
    Sweep("filter", "Publish past filters that no message passes", "subscribers",
          {"one": Point("send", clients=1, transactions=2000)}, peers=("unfiltered", "attribute_filters", "body_filters"),
          metric="cpu_us", notes="Bodies and attributes are the same for all; one subscriber without a filter gets them."),
    Sweep("bulk", "Publish in bulk", "rows of 100 B per statement",
          {"100,000": Point("send", clients=1, batch=100_000, body="100 B", transactions=1)},
          peers=("insert_select", "publish_batch", "send_batches")),
)
