"""Small and large bodies, one message a call, eight clients."""

from ..sweep import SENDING_PEERS, Point, Sweep, over

BODIES = ("100 B", "feed", "1 kB", "10 kB", "1 MB")
NOTES = "`feed` is the earthquake feed of `data/`, 712 bytes on average."

WORKLOADS = (
    Sweep("send-body", "Send of bodies of several sizes", "body", over("body", BODIES, Point("send")), SENDING_PEERS,
          notes=NOTES),
    Sweep("receive-delete-body", "Receive + delete of bodies of several sizes", "body",
          over("body", BODIES, Point("receive_delete")), notes=NOTES),
)
