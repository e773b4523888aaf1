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
                    f"\\if :id\n{self.delete(':id', many=False)}\\endif\n")
        return (MANY.format(receive=CLAIM.format(count=count, timeout=30) + " AS receipt, body")
                + self.delete(":receipts", many=True))

    def delete(self, receipt: str, many: bool) -> str:
        wanted = f"ANY ({receipt}::bigint[])" if many else f"{receipt}::bigint"
        return f"DELETE FROM bench WHERE id = {wanted};\n"

    def notifying(self) -> Peer:
        return Notifying()

    def listen(self) -> str:
        return "LISTEN bench"

    def table(self, cluster: Cluster) -> str:
        return "bench"


class Notifying(Plain):
    """With the trigger that one often sees: a NOTIFY for every message."""

    def create(self) -> str:
        return super().create() + """;
            CREATE OR REPLACE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify('bench', NEW.id::text); RETURN NULL; END $$;
            CREATE TRIGGER notify AFTER INSERT ON bench FOR EACH ROW EXECUTE FUNCTION bench_notify()"""
