"""Many messages a call, two clients: one for each core of a small machine."""

from ..sweep import SENDING_PEERS, Point, Sweep, over

SIZES = (1, 10, 100, 1000)

WORKLOADS = (
    Sweep("send-batch", "Send in batches", "messages per call", over("batch", SIZES, Point("send", clients=2)),
          SENDING_PEERS),
    Sweep("receive-delete-batch", "Receive + delete in batches", "messages per call",
          over("batch", SIZES, Point("receive_delete", clients=2))),
)
