"""A connection that lives long must not cost more and more memory."""

from ..growth import Growth

WORKLOADS = (
    Growth("memory", "Private memory of a backend"),
)
