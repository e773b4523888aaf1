"""One message a call, durable commits, more and more clients.

Receivers in alternation: what many get is compared with what pigeon gets at best.
"""

from ..sweep import SENDING_PEERS, Point, Sweep, over

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128)

WORKLOADS = (
    Sweep("send", "Send of single messages", "clients", over("clients", CLIENTS, Point("send")), SENDING_PEERS),
    Sweep("receive-delete", "Receive + delete of single messages", "clients",
          over("clients", CLIENTS, Point("receive_delete")), alternating=True),
)
