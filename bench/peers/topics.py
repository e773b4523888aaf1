"""Ways to publish, side by side: past filters, in bulk, and PGMQ's own topics."""

import re

from ..cluster import Cluster
from .peer import Peer
from .pgmq import Pgmq, definition
from .pigeon import Pigeon

FILTERED = 100                  # subscriptions with a filter that no message passes
BULK_SUBSCRIBERS = 3
ATTRIBUTES = '{"kind": "order.paid", "customer": "c-1089", "amount": 250, "express": "no"}'

# One of each kind in turn; none is passed by a message of bodies.py, or by the attributes above.
ATTRIBUTE_FILTERS = (
    "jsonb_build_object('kind', jsonb_build_array('order.sent.' || n, 'order.returned.' || n))",
    "jsonb_build_object('kind', jsonb_build_array(jsonb_build_object('prefix', 'invoice.' || n)))",
    "jsonb_build_object('amount', jsonb_build_array(jsonb_build_object('numeric', jsonb_build_array('>', 1000 + n))))",
    "jsonb_build_object('kind', jsonb_build_array('order.paid'), 'customer', jsonb_build_array('c-' || n))",
    "jsonb_build_object('express', jsonb_build_array(jsonb_build_object('anything-but', jsonb_build_array('no', n::text))))",
)
BODY_FILTERS = (
    "jsonb_build_object('state', jsonb_build_array('sent ' || n, 'returned ' || n))",
    "jsonb_build_object('customer', jsonb_build_array(jsonb_build_object('prefix', 'd-' || n)))",
    "jsonb_build_object('order', jsonb_build_array(jsonb_build_object('numeric', jsonb_build_array('>', 10000 + n))))",
    "jsonb_build_object('state', jsonb_build_array('paid'), 'customer', jsonb_build_array('c-' || n))",
    "jsonb_build_object('state', jsonb_build_array(jsonb_build_object('anything-but', jsonb_build_array('paid', n::text))))",
)


class Unfiltered(Pigeon):
    """A topic with one subscriber, who gets every message."""

    name = "unfiltered"
    title = "no filters"
    filters: tuple[str, ...] = ()
    scope = "attributes"

    def create(self) -> str:
        statements = ["SELECT pigeon.create_topic('bench')", "SELECT pigeon.create_queue('bench')",
                      "SELECT pigeon.subscribe('bench', 'bench')"]
        for kind, policy in enumerate(self.filters):
            numbers = f"generate_series({kind + 1}, {FILTERED}, {len(self.filters)}) n"
            statements += [f"SELECT pigeon.create_queue('bench-' || n) FROM {numbers}",
                           f"SELECT pigeon.subscribe('bench', 'bench-' || n, {policy}, '{self.scope}') FROM {numbers}"]
        return ";\n".join(statements)

    def drop(self) -> str:
        return ("SELECT pigeon.drop_topic('bench', if_exists => true); SELECT pigeon.drop_queue(queue) FROM pigeon.queues")

    def send(self, body: str) -> str:
        return f"SELECT pigeon.publish('bench', {body}, attributes => '{ATTRIBUTES}');\n"


class AttributeFilters(Unfiltered):
    name = "attribute_filters"
    title = f"{FILTERED} more with filters on attributes"
    filters = ATTRIBUTE_FILTERS


class BodyFilters(Unfiltered):
    name = "body_filters"
    title = f"{FILTERED} more with filters on the body"
    filters = BODY_FILTERS
    scope = "body"


class Bulk(Pigeon):
    """INSERT ... SELECT into a topic."""

    name = "insert_select"
    title = f"INSERT ... SELECT, {BULK_SUBSCRIBERS} subscribers"

    def create(self) -> str:
        numbers = f"generate_series(1, {BULK_SUBSCRIBERS}) n"
        return f"""SELECT pigeon.create_topic('bench');
            SELECT pigeon.create_queue('bench-' || n) FROM {numbers};
            SELECT pigeon.subscribe('bench', 'bench-' || n) FROM {numbers};
            DO $$ BEGIN
                EXECUTE format('CREATE VIEW bench_topic AS SELECT * FROM %s',
                               (SELECT topic_view FROM pigeon.topics WHERE topic = 'bench'));
            END $$"""

    def drop(self) -> str:
        return ("DROP VIEW IF EXISTS bench_topic; SELECT pigeon.drop_topic('bench', if_exists => true);"
                " SELECT pigeon.drop_queue(queue) FROM pigeon.queues")

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return f"INSERT INTO bench_topic (body) SELECT unnest({bodies});\n"


class BulkBatch(Bulk):
    name = "publish_batch"
    title = f"publish_batch, {BULK_SUBSCRIBERS} subscribers"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        return f"SELECT count(*) FROM pigeon.publish_batch('bench', {bodies});\n"


class BulkSends(Bulk):
    name = "send_batches"
    title = f"{BULK_SUBSCRIBERS} times send_batch"

    def send_batch(self, bodies: str, delay: int = 0) -> str:
        calls = ", ".join(f"(SELECT count(*) FROM pigeon.send_batch('bench-{number}', {bodies}))"
                          for number in range(1, BULK_SUBSCRIBERS + 1))
        return f"SELECT {calls};\n"


class PgmqTopics(Pgmq):
    """PGMQ's topics, in versions that have them."""

    name = "pgmq_topics"
    title = "PGMQ, send_topic"

    def missing(self, cluster: Cluster) -> str | None:
        reason = super().missing(cluster)
        if reason is None:
            reason = None if re.search(r"FUNCTION\s+pgmq\.send_topic\b", definition()) else "this version of PGMQ has no send_topic"
        return reason

    def fanned_out(self, subscribers: int) -> Peer:
        return PgmqTopic(subscribers)


class PgmqTopic(PgmqTopics):
    def __init__(self, subscribers: int):
        self.subscribers = subscribers

    def create(self) -> str:
        numbers = f"generate_series(1, {self.subscribers}) n"
        return f"""SELECT pgmq.create('bench_' || n) FROM {numbers};
            SELECT pgmq.bind_topic('bench.#', 'bench_' || n) FROM {numbers};"""

    def drop(self) -> str:
        return "SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues()"

    def send(self, body: str) -> str:
        return f"SELECT pgmq.send_topic('bench.sent', ({body})::jsonb);\n"
