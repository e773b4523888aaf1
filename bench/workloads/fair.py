"""Fair queues: a tenant that floods the queue must not make the others wait."""

from ..fairness import Fairness

WORKLOADS = (
    Fairness("fair", "Ten tenants send ten messages each, beside a flood of one more tenant"),
)
