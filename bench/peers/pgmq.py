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
from .peer import MANY, Peer

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
        return f"SELECT msg_id, message FROM pgmq.read('bench', {timeout}, {count});\n"

    def receive_delete(self, count: int) -> str:
        if count == 1:
            return ("\\set msg_id 0\nSELECT msg_id, message FROM pgmq.read('bench', 30, 1) \\aset\n"
                    f"\\if :msg_id\n{self.delete(':msg_id', many=False)}\\endif\n")
        return (MANY.format(receive=f"SELECT msg_id AS receipt, message::text AS body FROM pgmq.read('bench', 30, {count})")
                + self.delete(":receipts", many=True))

    def delete(self, receipt: str, many: bool) -> str:
        return f"SELECT pgmq.delete('bench', {receipt}::bigint{'[]' if many else ''});\n"

    def table(self, cluster: Cluster) -> str:
        return "pgmq.q_bench"

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
