"""Whole systems side by side, through client libraries: what an application in the same language would get."""

from ..system import Operation, Systems

NOTES = """Eight clients in one Node program, bodies of 1 kB; each waits for the answer to one call before it makes the next.
The program has one thread and shares the two processors with the system under test, so its own CPU time per message is a
limit, too; `-` is where a system cannot do this, or pushes, so that there is no call to be timed. What each system calls
durable is not the same; see [how it is measured](../../bench/README.md#whole-systems)."""

PEERS = ("pigeon", "plain", "pgmq", "pg-boss", "graphile-worker", "rabbitmq", "redis")

WORKLOADS = (
    Systems("systems", "Whole systems, driven by a client program",
            {"send": Operation("send"), "receive": Operation("receive")}, PEERS, notes=NOTES),
    Systems("systems-batch", "Whole systems, 100 messages a call",
            {"send": Operation("send", 100), "receive": Operation("receive", 100)}, PEERS, notes=NOTES),
)
