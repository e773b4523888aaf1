"""pigeon itself."""

from ..cluster import Cluster
from .peer import MANY, Peer


class Pigeon(Peer):
    name = "pigeon"
    title = "pigeon"

    def missing(self, cluster: Cluster) -> str | None:
        known = cluster.sql("postgres", "SELECT count(*) FROM pg_available_extensions WHERE name = 'pigeon'")
        return None if known == "1" else "the extension is not installed in this server"

    def install(self, cluster: Cluster) -> None:
        cluster.sql(self.database, "CREATE EXTENSION pigeon")

    def create(self) -> str:
        return "SELECT pigeon.create_queue('bench')"

    def drop(self) -> str:
        return "SELECT pigeon.drop_queue('bench', if_exists => true)"

    def maintain(self) -> str:
        return "CALL pigeon.maintain()"

    def send(self, body: str) -> str:
        return f"SELECT pigeon.send('bench', {body});\n"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return f"SELECT pigeon.send_batch('bench', {bodies}, delay => interval '{delay} s');\n"

    def receive(self, count: int, timeout: int) -> str:
        return f"SELECT receipt, body FROM pigeon.receive('bench', {count}, interval '{timeout} s');\n"

    def receive_delete(self, count: int) -> str:
        if count == 1:
            return ("\\set found 0\nSELECT 1 AS found, receipt, body FROM pigeon.receive('bench') \\aset\n"
                    "\\if :found\nSELECT pigeon.delete('bench', :receipt::pigeon.receipt);\n\\endif\n")
        return (MANY.format(receive=f"SELECT receipt, body FROM pigeon.receive('bench', {count})")
                + "SELECT pigeon.delete('bench', :receipts::pigeon.receipt[]);\n")

    def table(self, cluster: Cluster) -> str:
        return cluster.sql(self.database, "SELECT pigeon.queue_table(id) FROM pigeon.queue WHERE name = 'bench'")
