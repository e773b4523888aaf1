"""PgQ (Debian's postgresql-NN-pgq3): sending only.

Its consumer reads whole batches, cut by a ticker, one after another; workers that share a queue message by message,
which is what the other workloads measure, it does not have.
"""

from ..cluster import Cluster
from .peer import Peer


class Pgq(Peer):
    name = "pgq"
    title = "PgQ"

    def missing(self, cluster: Cluster) -> str | None:
        known = cluster.sql("postgres", "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgq'")
        return None if known == "1" else "the extension pgq is not installed in this server"

    def install(self, cluster: Cluster) -> None:
        cluster.sql(self.database, "CREATE EXTENSION pgq")

    def create(self) -> str:
        return "SELECT pgq.create_queue('bench')"

    def drop(self) -> str:
        return "SELECT pgq.drop_queue(queue_name, true) FROM pgq.get_queue_info() WHERE queue_name = 'bench'"

    def send(self, body: str) -> str:
        return f"SELECT pgq.insert_event('bench', 'message', {body});\n"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return f"SELECT pgq.insert_event('bench', 'message', body) FROM unnest({bodies}) AS body;\n"
