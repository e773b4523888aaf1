"""A worker that waits must hear of a message at once."""

from ..wakeup import Wakeup

WORKLOADS = (
    Wakeup("wakeup", "From the commit of a send to the return of a waiting receive"),
)
