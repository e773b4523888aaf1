"""What a peer is: a queue system that tells the harness its SQL."""

import contextlib
from contextlib import AbstractContextManager

from .. import bodies
from ..bodies import Body
from ..cluster import Cluster

CHUNK = 1000

# A receive of many: the bodies, and at last what delete needs of all of them, in the variable "receipts".
MANY = """WITH got AS MATERIALIZED ({receive})
 SELECT body, NULL::text AS receipts FROM got UNION ALL SELECT NULL, coalesce(array_agg(receipt), '{{}}')::text FROM got \\aset
"""


def random_groups(count: int, groups: int, prefix: str) -> tuple[str, list[str]]:
    """So many message groups that follow one another: a command that chooses them, and SQL for each of their names.

    The SQL reads the column "first" of what the command has set, so that a statement has one parameter for all of them.
    """
    return (f"\\set first {count} * random(0, {groups // count - 1})\n",
            [f"'{prefix}-' || first + {n}" for n in range(count)])


class Peer:
    """A queue system inside PostgreSQL, with one queue called `bench` in a database of its own.

    send, send_batch, receive and receive_delete return pgbench scripts; a script ends each statement in its own
    transaction, as a worker's connection does.  Statements return to the client what a worker needs: ids from a send,
    receipt and body from a receive.  pgbench keeps nothing but the last row of a result; so a receive of many returns
    the bodies row by row, and in one more row the array of receipts that delete is to be called with.
    """

    name: str
    title: str
    packages: tuple[str, ...] = ()          # of Debian, without which it cannot run
    system = "postgres"                     # its module in drivers/
    receives_batches = True

    @property
    def database(self) -> str:
        return f"bench_{self.name.replace('-', '_')}"

    def missing(self, cluster: Cluster) -> str | None:
        """Why this peer cannot run here, or None."""
        return None

    def install(self, cluster: Cluster) -> None:
        """Make the peer usable in its database, which exists and is empty."""

    def create(self) -> str:
        """SQL that makes the queue."""
        raise NotImplementedError

    def drop(self) -> str:
        """SQL that removes the queue and all it holds."""
        raise NotImplementedError

    def maintain(self) -> str:
        """SQL that does what the peer's own maintenance would do in time."""
        return ""

    def send(self, body: str) -> str:
        raise NotImplementedError

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        raise NotImplementedError

    def send_batch_of(self, count: int, bodies: str) -> str:
        """A script that sends a batch of so many; what else belongs to a message pgbench makes, as a client would."""
        return self.send_batch(bodies)

    def receive(self, count: int, timeout: int) -> str:
        raise NotImplementedError

    def receive_delete(self, count: int) -> str:
        raise NotImplementedError

    def delete(self, receipt: str, many: bool) -> str:
        """SQL that deletes by a receipt, or by an array of them, given as text."""
        raise NotImplementedError

    def grouped(self, groups: int, prefix: str = "group") -> "Peer":
        """The same peer with a FIFO queue, its messages spread evenly over so many groups."""
        raise NotImplementedError

    def fanned_out(self, subscribers: int) -> "Peer":
        """The same peer where every message sent reaches so many queues."""
        raise NotImplementedError

    def notifying(self) -> "Peer":
        """The same peer with a queue that sends NOTIFY when messages come."""
        raise NotImplementedError

    def listen(self) -> str:
        """SQL that listens to what such a queue sends."""
        raise NotImplementedError

    def create_many(self, count: int) -> str:
        """SQL that makes the queues bench_0, bench_1, ..."""
        raise NotImplementedError

    def drop_many(self) -> str:
        """SQL that removes them all."""
        raise NotImplementedError

    def wake_send(self, number: str) -> str:
        """A script that sends the present time to one of them, with a commit that does not wait for the disk."""
        raise NotImplementedError

    def wake_receive(self, number: str) -> str:
        """A query that waits there, up to a second, and returns a message's body as text in the column `sent`."""
        raise NotImplementedError

    def wait(self, seconds: int) -> str:
        """A script that waits for one message as long as that."""
        raise NotImplementedError

    def send_as(self, tenant: str, count: int) -> str:
        """A script that sends messages as a tenant, whose name is an SQL expression."""
        raise NotImplementedError

    def receive_timed(self) -> str:
        """A query that waits for one message, deletes it, and returns its `tenant` and the time it `waited`."""
        raise NotImplementedError

    def table(self, cluster: Cluster) -> str:
        """The table that has one row for every message in the queue, and loses it when the message is deleted."""
        raise NotImplementedError

    # What follows is the same for every peer inside PostgreSQL.

    def setup(self, cluster: Cluster) -> None:
        """Give the peer a database of its own, with the bodies in it."""
        cluster.sql("postgres", f"CREATE DATABASE {self.database}")
        self.install(cluster)
        bodies.install(lambda text: cluster.sql(self.database, text))

    def recreate(self, cluster: Cluster) -> None:
        """Make the queue anew, empty."""
        for statement in (self.drop(), self.maintain(), self.create()):
            cluster.sql(self.database, statement)

    def tidy(self, cluster: Cluster) -> None:
        """What maintenance would do in time."""
        if self.maintain():
            cluster.sql(self.database, self.maintain())
        cluster.vacuum(self.database)

    def running(self, cluster: Cluster) -> AbstractContextManager[None]:
        """Run the server that the peer needs besides PostgreSQL."""
        return contextlib.nullcontext()

    def cpu_parent(self, cluster: Cluster) -> int:
        """The process whose CPU time, with that of its descendants, is the peer's."""
        return cluster.postmaster()

    def settings(self, cluster: Cluster, batch: int) -> object:
        """What the driver needs to connect, and to call the queue with batches of that size."""
        sending = self.send("$1::text") if batch == 1 else self.send_batch("$1::text[]")
        return {"host": str(cluster.directory), "user": "postgres", "database": self.database,
                "statements": {"send": sending, "receive": self.receive(batch, 30),
                               "delete": self.delete("$1", many=batch > 1)}}

    def fill(self, cluster: Cluster, count: int, body: Body, delay: int = 0) -> None:
        """Send at least `count` messages, in batches, quickly."""
        statement = self.send_batch(body.stored(CHUNK), delay)
        for start in range(0, count, 100 * CHUNK):
            batches = -(-min(count - start, 100 * CHUNK) // CHUNK)
            cluster.sql(self.database, "BEGIN;\n\\o /dev/null\n" + statement * batches + "COMMIT;\n")

    def depth(self, cluster: Cluster) -> int:
        """How many messages the queue holds, in whatever state."""
        return int(cluster.sql(self.database, f"SELECT count(*) FROM {self.table(cluster)}"))

    def deleted(self, cluster: Cluster) -> int:
        """How many messages were deleted since the queue was made, as the statistics system has heard so far."""
        return int(cluster.sql(self.database, f"SELECT pg_stat_get_tuples_deleted('{self.table(cluster)}'::regclass)"))
