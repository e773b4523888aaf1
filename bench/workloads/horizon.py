"""A fixed rate for ten minutes while something holds the xmin horizon, and for half an hour while nothing does."""

from .. import hold
from ..steady import Steady

WORKLOADS = (
    Steady("horizon-snapshot", "An idle repeatable read transaction", hold.idle_snapshot),
    Steady("horizon-writer", "A transaction that wrote and does not end", hold.long_writer),
    Steady("horizon-readers", "Overlapping readers of a minute each", hold.overlapping_readers),
    Steady("horizon-slot", "An abandoned replication slot", hold.abandoned_slot),
    Steady("dump", "pg_dump again and again", hold.repeated_dump),
    Steady("soak", "Half an hour in peace, autovacuum at its defaults", hold.nothing, seconds=1800, interval=300,
           senders=4, metric="disk_bytes"),
)
