"""What a careful application writes by hand: one table, its primary key the only index, prepared statements.

Its connections plan without sequential scans: a plan prepared while the queue happens to be empty would otherwise scan
and sort the whole table ever after.
"""

from ..cluster import Cluster
from .peer import MANY, Peer

CLAIM = """UPDATE bench SET visible_at = now() + interval '{timeout} s', receive_count = receive_count + 1
 WHERE id = ANY (ARRAY(SELECT id FROM bench WHERE visible_at <= now() ORDER BY id LIMIT {count} FOR UPDATE SKIP LOCKED))
 RETURNING id"""


class Plain(Peer):
    name = "plain"
    title = "plain SQL"

    def install(self, cluster: Cluster) -> None:
        cluster.sql("postgres", f"ALTER DATABASE {self.database} SET enable_seqscan = off")

    def create(self) -> str:
        return """CREATE TABLE bench (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            visible_at timestamptz NOT NULL DEFAULT now(),
            receive_count integer NOT NULL DEFAULT 0,
            body text NOT NULL)"""

    def drop(self) -> str:
        return "DROP TABLE IF EXISTS bench"

    def send(self, body: str) -> str:
        return f"INSERT INTO bench (body) VALUES ({body}) RETURNING id;\n"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return (f"INSERT INTO bench (visible_at, body) SELECT now() + interval '{delay} s', unnest({bodies})"
                " RETURNING id;\n")

    def receive(self, count: int, timeout: int) -> str:
        return CLAIM.format(count=count, timeout=timeout) + ", body;\n"

    def receive_delete(self, count: int) -> str:
        if count == 1:
            claim = CLAIM.format(count=1, timeout=30)
            return (f"\\set id 0\n{claim}, body \\aset\n"
                    "\\if :id\nDELETE FROM bench WHERE id = :id::bigint;\n\\endif\n")
        return (MANY.format(receive=CLAIM.format(count=count, timeout=30) + " AS receipt, body")
                + "DELETE FROM bench WHERE id = ANY (:receipts::bigint[]);\n")

    def table(self, cluster: Cluster) -> str:
        return "bench"
