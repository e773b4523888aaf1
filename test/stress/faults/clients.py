"""Clients that use queues and topics in every way, whatever happens to them, and note down what they know.

What each does is random, so that every call meets every other and every fault.
"""
import collections
import os
import random
import socket
import struct
import time
import traceback

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from history import Deleted, Extended, Message, Outcome, Received, Sent, Transaction

ROLE = "client"
APPLICATION = "faults client"
GROUPS = 40
SCRATCH_QUEUES = 6

# Where messages of a queue may get to -> that queue.
FAMILIES = {"dead": "work", "fifo dead": "fifo retry", "fifo returned": "fifo retry"}
# Dead-letter queue -> where its messages go.  Those of a FIFO queue have lost their place in it.
REDRIVES = {"dead": "work", "fifo dead": "fifo returned"}
QUEUES = ("work", "dead", "orders", "shipped", "fifo", "fifo retry", "fifo dead", "fifo returned",
          "all news", "red news", "ticker", "plain ticker")

SETUP = """
CREATE ROLE client LOGIN;
GRANT CREATE ON SCHEMA public, pigeon TO client;
GRANT EXECUTE ON PROCEDURE pigeon.maintain() TO client;
SET ROLE client;
CREATE TABLE effect (queue text, number bigint);
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('work', dead_letter_queue => 'dead', max_receive_count => 3);
SELECT pigeon.create_queue('orders');
SELECT pigeon.create_queue('shipped');
SELECT pigeon.create_queue('fifo', fifo => true);
SELECT pigeon.create_queue('fifo dead', fifo => true);
SELECT pigeon.create_queue('fifo returned', fifo => true);
SELECT pigeon.create_queue('fifo retry', fifo => true, dead_letter_queue => 'fifo dead', max_receive_count => 3);
SELECT pigeon.create_topic('news');
SELECT pigeon.create_queue('all news');
SELECT pigeon.create_queue('red news');
SELECT pigeon.subscribe('news', 'all news');
SELECT pigeon.subscribe('news', 'red news', '{"colour": ["red"]}');
SELECT pigeon.create_topic('ticker', fifo => true);
SELECT pigeon.create_queue('ticker', fifo => true);
SELECT pigeon.create_queue('plain ticker');
SELECT pigeon.subscribe('ticker', 'ticker');
SELECT pigeon.subscribe('ticker', 'plain ticker');
"""

CONNECTION_OK = 0               # of libpq

# How a transaction ends, and how often.
ENDS = {"autocommit": 60, "commit": 20, "rollback": 5, "prepare": 4, "hang up": 2, "hang up in commit": 2}
CALM_ENDS = {"autocommit": 60, "commit": 20, "rollback": 5}

# Errors that clients have to expect of any call.
EXPECTED_ERRORS = {"57014", "40P01"}


def body_of(number):
    """The body of a message: mostly short, sometimes too long for a page."""
    mixed = number * 2654435761 % 2**32
    return "%d %s" % (number, "x" * (20000 if mixed % 499 == 0 else 20 + mixed % 280))


def is_red(number):
    return number % 3 == 0


def is_lost(connection, error):
    """Is there no connection after this error?  The driver does not always notice."""
    return connection is None or connection.closed or connection.info.status != CONNECTION_OK or error.pgcode is None


class HungUp(Exception):
    """The client has closed its own connection."""


class Client:
    """A client, known by numbers no other client has."""

    def __init__(self, index, calm):
        self.random = random.Random(index)
        self.next_number = index * 10**8
        self.calm = calm
        self.connection = None
        self.durable = False
        self.transactions = []
        self.counts = collections.Counter()
        self.surprises = []
        self.acknowledged = None    # shared: messages whose send was acknowledged
        self.retries = []           # sends to FIFO queues whose outcome is unknown

    def main(self, stop, acknowledged, results):
        """Run in a process until told to stop; hand over what is known."""
        self.acknowledged = acknowledged
        try:
            while not stop.is_set():
                if self.connect():
                    self.step()
        except Exception:
            self.surprises.append(traceback.format_exc())
        if self.connection is not None:
            self.connection.close()
        results.put((self.transactions, self.counts, self.surprises))

    def connect(self):
        """Connect if need be; False: try again later."""
        if self.connection is not None:
            return True
        try:
            self.connection = psycopg2.connect("", user=ROLE, application_name=APPLICATION)
            self.connection.autocommit = True
            self.durable = self.random.random() < 0.7
            self.connection.cursor().execute("SET pigeon.durable_leases = %s", (self.durable,))
            return True
        except psycopg2.Error:
            self.counts["failed connections"] += 1
            self.connection = None
            time.sleep(0.05)
            return False

    def numbers(self, n):
        self.next_number += n
        return list(range(self.next_number - n, self.next_number))

    def choose(self, weights):
        return self.random.choices(list(weights), weights.values())[0]

    # Transactions

    def transact(self, work, allowed=(), end=None):
        """Do work(cursor, events) in a transaction that ends in some way; its outcome, which is noted down."""
        end = end or self.choose(CALM_ENDS if self.calm else ENDS)
        events = []
        asked = end == "autocommit"     # the server has been asked to commit
        timeout = not self.calm and self.random.random() < 0.03
        try:
            cursor = self.connection.cursor()
            if timeout:
                cursor.execute("SET statement_timeout = %s", (self.random.choice((1, 2, 5, 20)),))
            if end != "autocommit":
                cursor.execute("BEGIN")
            work(cursor, events)
            asked = asked or end in ("commit", "hang up in commit")
            if end == "commit":
                cursor.execute("COMMIT")
            elif end == "rollback":
                cursor.execute("ROLLBACK")
            elif end == "prepare":
                self.commit_in_two_phases(cursor)
            elif end in ("hang up", "hang up in commit"):
                self.hang_up(end == "hang up in commit")
            outcome = Outcome.ABORTED if end == "rollback" else Outcome.COMMITTED
            # A query that is cancelled while it waits for a standby does not fail.
            if any("might not have been replicated" in notice for notice in self.connection.notices):
                outcome = Outcome.UNKNOWN
            self.connection.notices.clear()
        except HungUp:
            outcome = Outcome.UNKNOWN if asked else Outcome.ABORTED
        except PrepareLost:
            outcome = Outcome.UNKNOWN
        except psycopg2.Error as error:
            outcome = self.outcome_of(error, asked, allowed)
        self.note(outcome, events)
        self.tidy(timeout)
        return outcome

    def outcome_of(self, error, asked, allowed):
        """What has become of a transaction that met an error."""
        if is_lost(self.connection, error):
            self.connection.close()
            self.counts["lost connections"] += 1
            return Outcome.UNKNOWN if asked else Outcome.ABORTED
        if error.pgcode in allowed:
            self.counts["errors expected of the call"] += 1
        elif error.pgcode in EXPECTED_ERRORS and not self.calm:
            self.counts["cancelled" if error.pgcode == "57014" else "deadlocks"] += 1
        elif error.pgcode != "40P01":
            self.surprises.append("%s: %s" % (error.pgcode, error))
        return Outcome.ABORTED

    def note(self, outcome, events):
        if outcome is Outcome.COMMITTED:
            n = sum(1 for event in events if isinstance(event, Sent))
            with self.acknowledged.get_lock():
                self.acknowledged.value += n
        if events:
            self.transactions.append(Transaction(outcome, self.durable, time.time(), events))

    def tidy(self, timeout):
        """Leave the connection as the next transaction wants it, or give it up."""
        try:
            cursor = self.connection.cursor()
            if self.connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
                cursor.execute("ROLLBACK")
            if timeout:
                cursor.execute("SET statement_timeout = 0")
        except psycopg2.Error:
            self.connection.close()
            self.connection = None

    def commit_in_two_phases(self, cursor):
        name = "faults %d" % self.random.getrandbits(60)
        try:
            cursor.execute("PREPARE TRANSACTION %s", (name,))
        except psycopg2.Error as error:
            if is_lost(self.connection, error):
                raise PrepareLost from None
            raise
        time.sleep(self.random.random() * 0.01)
        try:
            cursor.execute("COMMIT PREPARED %s", (name,))
        except psycopg2.Error:      # somebody will end it
            raise PrepareLost from None

    def hang_up(self, in_commit):
        """Cut the connection, perhaps just after COMMIT was sent."""
        with socket.socket(fileno=os.dup(self.connection.fileno())) as connection:
            try:
                if in_commit:
                    connection.sendall(b"Q" + struct.pack("!I", 11) + b"COMMIT\0")
                    time.sleep(self.random.random() * 0.003)
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass                # the server was faster
        self.connection.close()
        self.counts["hung up"] += 1
        raise HungUp

    # Sending

    def send(self, cursor, events, queue, numbers, groups):
        """Send messages to a queue, one by one or as a batch."""
        sent = [Sent((queue,), number, group) for number, group in zip(numbers, groups)]
        events.extend(sent)
        if len(numbers) > 1:
            cursor.execute("SELECT pigeon.send_batch(%s, %s::text[], group_ids => %s::text[], deduplication_ids => %s::text[])",
                           (queue, [body_of(number) for number in numbers], groups if groups[0] else None,
                            [str(number) for number in numbers] if groups[0] else None))
        else:
            cursor.execute("SELECT pigeon.send(%s, %s, group_id => %s, deduplication_id => %s)",
                           (queue, body_of(numbers[0]), groups[0], str(numbers[0]) if groups[0] else None))
        for event, (message_id,) in zip(sent, cursor.fetchall()):
            event.message_id = message_id

    def step_send(self):
        queue = self.random.choice(("work", "work", "orders"))
        n = self.random.choice((1, 1, 5, 50, 100))

        def work(cursor, events):
            self.send(cursor, events, queue, self.numbers(n), [None] * n)

        def work_with_savepoint(cursor, events):
            work(cursor, events)
            undone = []
            cursor.execute("SAVEPOINT s")
            work(cursor, undone)
            cursor.execute("ROLLBACK TO s")
            self.note(Outcome.ABORTED, undone)

        if self.random.random() < 0.1:
            self.transact(work_with_savepoint, end="commit")
        else:
            self.transact(work)

    def step_send_fifo(self):
        """Send to message groups; what may or may not have arrived is sent again."""
        if self.retries and self.random.random() < 0.5:
            queue, numbers, groups = self.retries.pop()
        else:
            n = self.random.choice((1, 1, 5, 20, 50))
            queue = self.random.choice(("fifo", "fifo", "fifo retry"))
            numbers = self.numbers(n)
            groups = [str(self.random.randrange(GROUPS)) for _ in numbers]
        outcome = self.transact(lambda cursor, events: self.send(cursor, events, queue, numbers, groups))
        if outcome is Outcome.UNKNOWN:
            self.retries.append((queue, numbers, groups))

    def step_publish(self):
        n = self.random.choice((1, 5, 20))
        numbers = self.numbers(n)
        red = [is_red(number) for number in numbers]

        def work(cursor, events):
            sent = [Sent(("all news", "red news") if is_red else ("all news",), number)
                    for number, is_red in zip(numbers, red)]
            events.extend(sent)
            attributes = ['{"colour": "%s"}' % ("red" if is_red else "blue") for is_red in red]
            cursor.execute("SELECT pigeon.publish_batch('news', %s::text[], attributes => %s::jsonb[])",
                           ([body_of(number) for number in numbers], attributes))
            for event, (message_id,) in zip(sent, cursor.fetchall()):
                event.message_id = message_id
        self.transact(work)

    def step_publish_fifo(self):
        number, = self.numbers(1)
        group = str(self.random.randrange(GROUPS))

        def work(cursor, events):
            # The plain queue has no groups.
            sent = [Sent(("ticker",), number, group), Sent(("plain ticker",), number)]
            events.extend(sent)
            cursor.execute("SELECT pigeon.publish('ticker', %s, group_id => %s, deduplication_id => %s)",
                           (body_of(number), group, str(number)))
            sent[0].message_id = sent[1].message_id = cursor.fetchone()[0]
        self.transact(work)

    # Receiving

    def receive(self, cursor, events, queue, n, timeout, pop=False):
        """The messages that a receive returns."""
        called = time.time()
        columns = "message_id, receipt::text, body, group_id, extract(epoch FROM visible_at)::float8"
        if pop:
            cursor.execute("SELECT " + columns + " FROM pigeon.pop(%s, %s)", (queue, n))
        else:
            cursor.execute("SELECT " + columns + " FROM pigeon.receive(%s, %s, make_interval(secs => %s), wait_time => %s)",
                           (queue, n, timeout, self.random.choice((None, None, "50 ms"))))
        messages = []
        for message_id, receipt, body, group, visible_at in cursor.fetchall():
            number = int(body.split(" ", 1)[0])
            messages.append(Message(number, message_id, receipt or "popped %d" % number, group,
                                    called if pop else visible_at, body == body_of(number)))
        if messages:
            events.append(Received(queue, called, 0 if pop else timeout, time.time(), messages))
        return messages

    def delete(self, cursor, events, queue, messages):
        deleted = [Deleted(queue, message.number, time.time()) for message in messages]
        events.extend(deleted)
        if len(messages) > 1:
            cursor.execute("SELECT pigeon.delete(%s, %s::pigeon.receipt[])",
                           (queue, [message.receipt for message in messages]))
            answers = cursor.fetchone()[0]
        else:
            cursor.execute("SELECT pigeon.delete(%s, %s::pigeon.receipt)", (queue, messages[0].receipt))
            answers = cursor.fetchone()
        for event, event.answer in zip(deleted, answers):
            pass

    def extend(self, cursor, events, queue, messages, timeout):
        extended = [Extended(message.receipt, time.time(), timeout) for message in messages]
        events.extend(extended)
        cursor.execute("SELECT pigeon.change_visibility(%s, %s::pigeon.receipt[], make_interval(secs => %s))",
                       (queue, [message.receipt for message in messages], timeout))
        for event, event.answer in zip(extended, cursor.fetchone()[0]):
            pass

    def step_consume(self, queues=("work", "work", "work", "dead", "all news", "red news", "plain ticker"), most=100):
        """Receive in one transaction, and delete, keep, release or forget in others."""
        queue = self.random.choice(queues)
        timeout = self.random.choice((0.3, 1, 3, 8))
        messages = []
        outcome = self.transact(lambda cursor, events: messages.extend(
            self.receive(cursor, events, queue, self.random.choice((1, most, most)), timeout)))
        if outcome is not Outcome.COMMITTED or not messages or self.connection is None:
            return
        fate = self.choose({"delete": 80, "keep": 5, "release": 5, "some": 10, "forget": 3})
        if fate == "keep":
            self.transact(lambda cursor, events: self.extend(cursor, events, queue, messages, self.random.choice((1, 3, 8))))
        elif fate == "release":
            self.transact(lambda cursor, events: self.extend(cursor, events, queue, messages, 0))
        elif fate == "some":
            messages = messages[:len(messages) // 2 + 1]
        if fate in ("delete", "keep", "some") and self.connection is not None:
            time.sleep(self.random.choice((0, 0, 0.02)))
            self.transact(lambda cursor, events: self.delete(cursor, events, queue, messages))

    def step_consume_fifo(self):
        self.step_consume(("fifo", "fifo", "fifo retry", "fifo dead", "fifo returned", "ticker"), most=30)

    def step_ship(self):
        """Receive, note, send on and delete, in one transaction."""
        def work(cursor, events):
            pop = self.random.random() < 0.4
            messages = self.receive(cursor, events, "orders", 60, 30, pop)
            if not messages:
                return
            numbers = [message.number for message in messages]
            cursor.execute("INSERT INTO effect SELECT 'orders', unnest(%s)", (numbers,))
            self.send(cursor, events, "shipped", numbers, [None] * len(numbers))
            self.take_out(cursor, events, "orders", messages, pop)
        self.transact(work, end=self.never_alone())

    def step_arrive(self):
        """The same for the second queue, where the way of a message ends."""
        def work(cursor, events):
            pop = self.random.random() < 0.4
            messages = self.receive(cursor, events, "shipped", 60, 30, pop)
            if messages:
                cursor.execute("INSERT INTO effect SELECT 'shipped', unnest(%s)", ([message.number for message in messages],))
                self.take_out(cursor, events, "shipped", messages, pop)
        self.transact(work, end=self.never_alone())

    def take_out(self, cursor, events, queue, messages, popped):
        if popped:
            events.extend(Deleted(queue, message.number, time.time(), True) for message in messages)
        else:
            self.delete(cursor, events, queue, messages)

    def never_alone(self):
        """An end for transactions of several statements."""
        end = "autocommit"
        while end == "autocommit":
            end = self.choose(CALM_ENDS if self.calm else ENDS)
        return end

    # All else

    def run_sql(self, sql, *arguments, allowed=()):
        self.transact(lambda cursor, events: cursor.execute(sql, arguments), allowed, "autocommit")

    def step_redrive(self):
        self.run_sql("SELECT pigeon.redrive(%s, %s)", *self.random.choice(tuple(REDRIVES.items())), allowed=("55000",))

    def step_look(self):
        self.run_sql(self.random.choice((
            "TABLE pigeon.queue_metrics", "TABLE pigeon.topic_metrics", "TABLE pigeon.queues",
            "SELECT count(*) FROM pigeon.queues, pigeon.peek(queue, 100)", "CALL pigeon.maintain()")), allowed=("42704",))    # a scratch queue

    def step_scratch(self):
        """Queues that come and go, with messages in them, some as subscribers."""
        queue = "scratch %d" % self.random.randrange(SCRATCH_QUEUES)
        gone = ("42704", "42710", "22023", "55000")
        for _ in range(self.random.choice((1, 1, 5))):
            if self.connection is None:
                return
            sql = self.random.choice((
                "SELECT pigeon.create_queue(%s, if_not_exists => true)",
                "SELECT pigeon.create_queue(%s, fifo => true, if_not_exists => true)",
                "SELECT pigeon.drop_queue(%s, if_exists => true)",
                "SELECT pigeon.send_batch(%s, ARRAY['a', 'b', 'c'], group_ids => ARRAY['a', 'a', 'b'],"
                " deduplication_ids => CASE WHEN random() < 0.5 THEN ARRAY['a', 'b', 'c'] END)",
                "SELECT pigeon.pop(%s, 2)",
                "SELECT pigeon.purge_queue(%s)",
                "SELECT pigeon.subscribe('news', %s)",
                "SELECT pigeon.unsubscribe(subscription_id) FROM pigeon.subscriptions WHERE queue = %s"))
            self.run_sql(sql, queue, allowed=gone)

    def step(self):
        steps = {self.step_send: 20, self.step_send_fifo: 12, self.step_publish: 6, self.step_publish_fifo: 6,
                 self.step_consume: 30, self.step_consume_fifo: 25, self.step_ship: 10, self.step_arrive: 10,
                 self.step_redrive: 1, self.step_look: 1, self.step_scratch: 2}
        if self.calm:
            del steps[self.step_redrive], steps[self.step_scratch]
        self.choose(steps)()


class PrepareLost(Exception):
    """Nobody knows what has become of a transaction that was to be prepared."""


class Drainer(Client):
    """A client that takes out all there is, when nobody else does anything."""

    def __init__(self, index, acknowledged):
        super().__init__(index, calm=True)
        self.acknowledged = acknowledged

    def take(self, queue):
        """Take some messages out; how many."""
        taken = []

        def work(cursor, events):
            messages = self.receive(cursor, events, queue, 1000, 60)
            if messages:
                taken.extend(messages)
                if queue in ("orders", "shipped"):
                    cursor.execute("INSERT INTO effect SELECT %s, unnest(%s)",
                                   (queue, [message.number for message in messages]))
                if queue == "orders":
                    numbers = [message.number for message in messages]
                    self.send(cursor, events, "shipped", numbers, [None] * len(numbers))
                self.delete(cursor, events, queue, messages)
        self.connect()
        self.transact(work, end="commit")
        return len(taken)

    def drain(self, seconds):
        """Take everything out; False if something cannot be had in this time."""
        until = time.time() + seconds
        while time.time() < until:
            if sum(self.take(queue) for queue in QUEUES) == 0:
                with self.connection.cursor() as cursor:
                    cursor.execute("SELECT coalesce(sum(visible + in_flight + delayed), 0) FROM pigeon.queues q,"
                                   " pigeon.exact_queue_metrics(q.queue) WHERE q.queue = ANY (%s)", (list(QUEUES),))
                    if cursor.fetchone()[0] == 0:
                        return True
                time.sleep(0.2)
        return False
