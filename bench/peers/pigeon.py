"""pigeon itself."""

from ..cluster import Cluster
from .peer import MANY, Peer, random_groups


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
                    f"\\if :found\n{self.delete(':receipt', many=False)}\\endif\n")
        return (MANY.format(receive=f"SELECT receipt, body FROM pigeon.receive('bench', {count})")
                + self.delete(":receipts", many=True))

    def delete(self, receipt: str, many: bool) -> str:
        return f"SELECT pigeon.delete('bench', {receipt}::pigeon.receipt{'[]' if many else ''});\n"

    def table(self, cluster: Cluster) -> str:
        return cluster.sql(self.database, "SELECT pigeon.queue_table(id) FROM pigeon.queue WHERE name = 'bench'")

    def grouped(self, groups: int, prefix: str = "group") -> Peer:
        return Grouped(groups, prefix)

    def fanned_out(self, subscribers: int) -> Peer:
        return FannedOut(subscribers)

    def notifying(self) -> Peer:
        return Notifying()

    def send_as(self, tenant: str, count: int) -> str:
        return (f"SELECT count(*) FROM pigeon.send_batch('bench', array_fill('message'::text, ARRAY[{count}]),"
                f" group_ids => array_fill(({tenant})::text, ARRAY[{count}]));\n")

    def receive_timed(self) -> str:
        return ("WITH got AS MATERIALIZED (SELECT *, clock_timestamp() AS received_at"
                " FROM pigeon.receive('bench', 1, wait_time => interval '1 s')),"
                " gone AS MATERIALIZED (SELECT pigeon.delete('bench', receipt) FROM got)"
                " SELECT group_id AS tenant, received_at - sent_at AS waited FROM got, gone")

    def listen(self) -> str:
        return 'LISTEN "pigeon.bench"'

    def create_many(self, count: int) -> str:
        return f"SELECT pigeon.create_queue('bench_' || n) FROM generate_series(0, {count - 1}) n"

    def drop_many(self) -> str:
        return r"SELECT pigeon.drop_queue(name) FROM pigeon.queue WHERE name LIKE 'bench\_%'"

    def wake_send(self, number: str) -> str:
        return ("SELECT set_config('synchronous_commit', 'off', true),"
                f" pigeon.send('bench_' || {number}, clock_timestamp()::text);\n")

    def wake_receive(self, number: str) -> str:
        return (f"SELECT body AS sent FROM pigeon.receive('bench_' || {number}, 1, interval '1 h',"
                " wait_time => interval '1 s')")

    def wait(self, seconds: int) -> str:
        return f"SELECT body FROM pigeon.receive('bench', 1, wait_time => interval '{seconds} s');\n"


class Grouped(Pigeon):
    """A FIFO queue."""

    def __init__(self, groups: int, prefix: str):
        self.groups, self.prefix = groups, prefix
        self.group = f"'{prefix}-' || nextval('bench_group') % {groups}"

    def create(self) -> str:
        return ("SELECT pigeon.create_queue('bench', fifo => true);"
                " CREATE SEQUENCE IF NOT EXISTS bench_group CACHE 1000;")

    def send(self, body: str) -> str:
        return (f"SELECT pigeon.send('bench', {body}, group_id => {self.group},"
                " deduplication_id => gen_random_uuid()::text);\n")

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return (f"SELECT pigeon.send_batch('bench', array_agg(body), group_ids => array_agg({self.group}),"
                f" deduplication_ids => array_agg(gen_random_uuid()::text)) FROM unnest({bodies}) AS body;\n")

    def send_batch_of(self, count: int, bodies: str) -> str:
        choice, groups = random_groups(count, self.groups, self.prefix)
        ids = ", ".join(f"id || '-{n}'" for n in range(count))
        return (f"{choice}\\set id random(1, 9000000000000000000)\n"
                f"SELECT pigeon.send_batch('bench', {bodies}, group_ids => ARRAY[{', '.join(groups)}],"
                f" deduplication_ids => ARRAY[{ids}]) FROM (SELECT (:first)::int AS first, (:id)::text AS id) AS batch;\n")


class Notifying(Pigeon):
    """A queue whose worker sends NOTIFY."""

    def create(self) -> str:
        return "SELECT pigeon.create_queue('bench', notify => true)"


class FannedOut(Pigeon):
    """A topic with subscribers."""

    def __init__(self, subscribers: int):
        self.subscribers = subscribers

    def create(self) -> str:
        return f"""SELECT pigeon.create_topic('bench');
            SELECT pigeon.create_queue('bench-' || n) FROM generate_series(1, {self.subscribers}) n;
            SELECT pigeon.subscribe('bench', 'bench-' || n) FROM generate_series(1, {self.subscribers}) n;"""

    def drop(self) -> str:
        return f"""SELECT pigeon.drop_topic('bench', if_exists => true);
            SELECT pigeon.drop_queue('bench-' || n, if_exists => true) FROM generate_series(1, {self.subscribers}) n;"""

    def send(self, body: str) -> str:
        return f"SELECT pigeon.publish('bench', {body});\n"


class PigeonSends(Pigeon):
    """What a topic saves: one send to each queue, all in one statement."""

    name = "sends"
    title = "pigeon, a send to each queue"

    def fanned_out(self, subscribers: int) -> Peer:
        return SeparateSends(subscribers)


class SeparateSends(FannedOut):
    name = PigeonSends.name

    def send(self, body: str) -> str:
        sends = ", ".join(f"pigeon.send('bench-{number}', body)" for number in range(1, self.subscribers + 1))
        return f"SELECT {sends} FROM (SELECT {body} AS body) AS one;\n"
