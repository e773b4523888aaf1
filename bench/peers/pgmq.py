"""PGMQ, which is one SQL file: the one that PGMQ_SQL names, or that of the npm package which has it for PGlite.

Nothing of it is in this repository.
"""

import functools
import os
import re
import tarfile
from pathlib import Path

from .. import driver
from ..cluster import Cluster
from .peer import MANY, Peer, random_groups

ARCHIVE = driver.DIRECTORY / "node_modules" / "@electric-sql" / "pglite-pgmq" / "dist" / "pgmq.tar.gz"
INSTALL_SCRIPT = re.compile(r"(.*/)?pgmq--[0-9.]+\.sql")         # no update from another version


@functools.cache
def definition() -> str:
    """PGMQ's SQL."""
    if path := os.environ.get("PGMQ_SQL"):
        return Path(path).read_text(encoding="utf-8")
    with tarfile.open(ARCHIVE) as archive:
        script, = (member for member in archive.getmembers() if INSTALL_SCRIPT.fullmatch(member.name))
        return archive.extractfile(script).read().decode("utf-8")


class Pgmq(Peer):
    name = "pgmq"
    title = "PGMQ"
    reader = "pgmq.read"

    @property
    def packages(self) -> tuple[str, ...]:
        return () if os.environ.get("PGMQ_SQL") else driver.packages()

    def missing(self, cluster: Cluster) -> str | None:
        if path := os.environ.get("PGMQ_SQL"):
            return None if Path(path).is_file() else f"PGMQ_SQL: no such file: {path}"
        return driver.prepare()

    def install(self, cluster: Cluster) -> None:
        cluster.sql(self.database, definition())

    def create(self) -> str:
        return "SELECT pgmq.create('bench')"

    def drop(self) -> str:
        return "SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name = 'bench'"

    def send(self, body: str) -> str:
        return f"SELECT pgmq.send('bench', ({body})::jsonb);\n"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return f"SELECT pgmq.send_batch('bench', ({bodies})::jsonb[], {delay});\n"

    def receive(self, count: int, timeout: int) -> str:
        return f"SELECT msg_id, message FROM {self.reader}('bench', {timeout}, {count});\n"

    def receive_delete(self, count: int) -> str:
        if count == 1:
            return (f"\\set msg_id 0\nSELECT msg_id, message FROM {self.reader}('bench', 30, 1) \\aset\n"
                    f"\\if :msg_id\n{self.delete(':msg_id', many=False)}\\endif\n")
        receive = f"SELECT msg_id AS receipt, message::text AS body FROM {self.reader}('bench', 30, {count})"
        return MANY.format(receive=receive) + self.delete(":receipts", many=True)

    def delete(self, receipt: str, many: bool) -> str:
        return f"SELECT pgmq.delete('bench', {receipt}::bigint{'[]' if many else ''});\n"

    def table(self, cluster: Cluster) -> str:
        return "pgmq.q_bench"

    def grouped(self, groups: int, prefix: str = "group") -> Peer:
        return Grouped(groups, prefix)

    def create_many(self, count: int) -> str:
        return f"SELECT pgmq.create('bench_' || n) FROM generate_series(0, {count - 1}) n"

    def drop_many(self) -> str:
        return r"SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name LIKE 'bench\_%'"

    def wake_send(self, number: str) -> str:
        return ("SELECT set_config('synchronous_commit', 'off', true),"
                f" pgmq.send('bench_' || {number}, to_jsonb(clock_timestamp()::text));\n")

    def wake_receive(self, number: str) -> str:
        return f"SELECT message #>> '{{}}' AS sent FROM pgmq.read_with_poll('bench_' || {number}, 3600, 1, 1)"

    def wait(self, seconds: int) -> str:
        return f"SELECT message FROM pgmq.read_with_poll('bench', 30, 1, {seconds});\n"


class Grouped(Pgmq):
    """A queue with message groups and PGMQ's own index for them, read as SQS reads a FIFO queue."""

    reader = "pgmq.read_grouped"

    def __init__(self, groups: int, prefix: str):
        self.groups, self.prefix = groups, prefix
        self.headers = f"jsonb_build_object('x-pgmq-group', '{prefix}-' || nextval('bench_group') % {groups})"

    def create(self) -> str:
        return ("SELECT pgmq.create('bench'); SELECT pgmq.create_fifo_index('bench');"
                " CREATE SEQUENCE IF NOT EXISTS bench_group CACHE 1000;")

    def send(self, body: str) -> str:
        return f"SELECT pgmq.send('bench', ({body})::jsonb, {self.headers});\n"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return (f"SELECT pgmq.send_batch('bench', array_agg(body), array_agg({self.headers}), {delay})"
                f" FROM unnest(({bodies})::jsonb[]) AS body;\n")

    def send_batch_of(self, count: int, bodies: str) -> str:
        choice, groups = random_groups(count, self.groups, self.prefix)
        headers = ", ".join(f"jsonb_build_object('x-pgmq-group', {group})" for group in groups)
        return (f"{choice}SELECT pgmq.send_batch('bench', ({bodies})::jsonb[], ARRAY[{headers}], 0)"
                " FROM (SELECT (:first)::int AS first) AS batch;\n")
