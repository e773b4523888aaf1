#!/usr/bin/env python3
"""Model checker for FIFO queues.

Concurrent clients send, receive, pop, delete, release, extend and redrive at
random, and commit, roll back (to savepoints too), prepare transactions, let
leases expire until messages are dead-lettered, and are killed.  Everything that a client knows it writes into ordinary tables
in the same transaction, so what is in those tables at the end is the history
of what was committed.  It is checked against the model:

  order       what a receive returns of a group is the head of the group: when
              it has returned, no earlier message of the group is left that was
              not returned with it
  no loss     every message whose send was committed is deleted at last
  once        no message is deleted (or popped) twice, none that was not sent is received
  duplicates  all sends of a deduplication id gave the same message_id
  sequence    of two sends to a group, the one that was committed first has the
              smaller message_ids
  deadlocks   none, but between transactions that call send more than once; in the first
              half of the time there are no such
  schedule    when all is quiet, pigeon.check() finds nothing wrong: each group
              with messages has an entry in the schedule that is early enough

Connects as libpq does (PGHOST, PGPORT, PGDATABASE, ...); the database needs
the extension, and the role must be superuser.

    fifo_model.py [--seed N] [--seconds N] [--senders N] [--receivers N] [--groups N]

The seed determines what each client does, not how their steps interleave.
"""
import argparse
import multiprocessing
import random
import sys
import time
import traceback

import psycopg2
import psycopg2.errors

QUEUE = "fifo model"
DEAD = "fifo model dead"

SETUP = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS fifo_model CASCADE;
CREATE SCHEMA fifo_model;
-- One row for each accepted send; "after" is the largest id of the group that
-- was committed before this transaction asked for its ids.
CREATE TABLE fifo_model.sent (deduplication_id text, message_id bigint, group_id text, after bigint);
CREATE TABLE fifo_model.deleted (message_id bigint PRIMARY KEY);
CREATE TABLE fifo_model.violation (what text);
"""


class Client:
    """A connection that comes back when it is killed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.simple_until = 0   # transactions call send once until then
        self.connection = None
        self.counts = {}

    def connect(self):
        self.connection = psycopg2.connect("")
        with self.connection.cursor() as cursor:
            cursor.execute("SET application_name = 'fifo_model'; SET deadlock_timeout = '100ms'")
        self.connection.commit()

    def count(self, what, n=1):
        self.counts[what] = self.counts.get(what, 0) + n

    def run(self, until):
        while time.time() < until:
            try:
                if self.connection is None:
                    self.connect()
                self.step()
            except psycopg2.errors.DeadlockDetected as error:
                self.violation("deadlock: %s" % error)
                self.connection.rollback()
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self.count("killed")
                self.connection = None
        if self.connection is not None:
            self.connection.close()

    def violation(self, what):
        """Report at once, whatever becomes of the transaction."""
        with psycopg2.connect("") as other, other.cursor() as cursor:
            cursor.execute("INSERT INTO fifo_model.violation VALUES (%s)", (what,))

    def finish(self):
        """End the transaction in one way or the other."""
        choice = self.random.random()
        if choice < 0.12:
            self.connection.rollback()
            self.count("rolled back")
        elif choice < 0.2:
            name = "fifo_model_%d" % self.random.getrandbits(60)
            cursor = self.connection.cursor()
            cursor.execute("PREPARE TRANSACTION %s", (name,))
            self.connection.rollback()
            time.sleep(self.random.random() * 0.02)
            self.connection.autocommit = True
            try:
                cursor.execute("COMMIT PREPARED %s" if self.random.random() < 0.7
                               else "ROLLBACK PREPARED %s", (name,))
                self.count("prepared")
            except (psycopg2.errors.UndefinedObject, psycopg2.errors.ObjectNotInPrerequisiteState):
                self.count("prepared and ended by another")     # we were slow
            self.connection.autocommit = False
        else:
            self.connection.commit()


class Sender(Client):
    def __init__(self, seed, groups):
        super().__init__(seed)
        self.groups = groups

    def step(self):
        cursor = self.connection.cursor()
        for _ in range(1 if time.time() < self.simple_until else self.random.choice((1, 1, 2))):
            savepoint = self.random.random() < 0.2
            if savepoint:
                cursor.execute("SAVEPOINT s")
            self.send(cursor)
            if savepoint and self.random.random() < 0.5:
                cursor.execute("ROLLBACK TO s")
            if self.random.random() < 0.1:
                time.sleep(self.random.random() * 0.05)
        self.finish()
        time.sleep(self.random.random() * 0.01)

    def send(self, cursor):
        n = self.random.choice((1, 1, 3, 10))
        groups = [self.random.choice(self.groups) for _ in range(n)]
        # Some ids are sent again, by this client or another.
        ids = ["%d" % self.random.randrange(10 ** self.random.choice((3, 9))) for _ in range(n)]
        cursor.execute("SELECT group_id, max(message_id) FROM fifo_model.sent"
                       " WHERE group_id = ANY (%s) GROUP BY group_id", (groups,))
        after = dict(cursor.fetchall())
        try:
            cursor.execute("SAVEPOINT deadlock")
            cursor.execute("SELECT pigeon.send_batch(%s, bodies => %s, group_ids => %s,"
                           " deduplication_ids => %s)", (QUEUE, groups, groups, ids))
        except psycopg2.errors.DeadlockDetected:
            # Two calls of send in one transaction may meet in the other order.
            if time.time() < self.simple_until:
                raise
            cursor.execute("ROLLBACK TO deadlock")
            self.count("deadlocks of senders")
            return
        for message_id, group, key in zip([row[0] for row in cursor.fetchall()], groups, ids):
            cursor.execute("INSERT INTO fifo_model.sent VALUES (%s, %s, %s, %s)",
                           (key, message_id, group, after.get(group, 0)))
        self.count("sent", n)


class Receiver(Client):
    def __init__(self, seed, table):
        super().__init__(seed)
        self.table = table

    def step(self):
        cursor = self.connection.cursor()
        if self.random.random() < 0.2:
            self.pop(cursor)
            return
        one_transaction = self.random.random() < 0.4
        messages = self.receive(cursor)
        while one_transaction and messages and self.random.random() < 0.3:
            messages += self.receive(cursor)
        if not messages:
            self.connection.commit()
            time.sleep(0.005)
            return
        self.count("received", len(messages))
        if not one_transaction:
            if self.random.random() < 0.1:
                self.connection.rollback()
                return
            self.connection.commit()
            time.sleep(self.random.random() * 0.1)
        self.work(cursor, [message[:2] for message in messages])
        self.finish()

    def pop(self, cursor):
        cursor.execute("SELECT message_id FROM pigeon.pop(%s, %s)",
                       (QUEUE, self.random.choice((1, 5, 100))))
        for message_id, in cursor.fetchall():
            cursor.execute("INSERT INTO fifo_model.deleted VALUES (%s)", (message_id,))
            self.count("popped")
        self.finish()

    def receive(self, cursor):
        visibility = self.random.choice(("0.05 s", "0.3 s", "0.3 s", "1 s", "0"))
        cursor.execute("SELECT message_id, receipt::text, group_id, body, sequence_number"
                       " FROM pigeon.receive(%s, %s, %s)",
                       (QUEUE, self.random.choice((1, 2, 5, 10)), visibility))
        messages = cursor.fetchall()
        self.check(cursor, messages)
        return messages

    def work(self, cursor, messages):
        """Delete some, in order or not, one by one or at once, extend or release others."""
        if self.random.random() < 0.2:
            self.random.shuffle(messages)
        if self.random.random() < 0.2:
            messages, rest = messages[:1], messages[1:]
            for _, receipt in rest:
                cursor.execute("SELECT pigeon.change_visibility(%s, %s::pigeon.receipt, %s)",
                               (QUEUE, receipt, self.random.choice(("0", "0.2 s", "1 s"))))
        if self.random.random() < 0.5:
            cursor.execute("SELECT pigeon.delete(%s, %s::pigeon.receipt[])",
                           (QUEUE, [receipt for _, receipt in messages]))
            answers = cursor.fetchone()[0]
        else:
            answers = []
            for _, receipt in messages:
                cursor.execute("SELECT pigeon.delete(%s, %s::pigeon.receipt)", (QUEUE, receipt))
                answers.append(cursor.fetchone()[0])
        for (message_id, _), deleted in zip(messages, answers):
            if not deleted:
                self.count("leases lost")
                continue
            try:
                cursor.execute("INSERT INTO fifo_model.deleted VALUES (%s)", (message_id,))
            except psycopg2.errors.UniqueViolation:
                self.violation("message %d was deleted twice" % message_id)
                raise
            self.count("deleted")

    def check(self, cursor, messages):
        """Is what was received the head of each group?"""
        groups = {}
        for message_id, _, group, body, sequence_number in messages:
            groups.setdefault(group, []).append(message_id)
            if body != group or sequence_number != message_id:
                self.violation("message %d has another group's body" % message_id)
        for group, ids in groups.items():
            if ids != sorted(ids):
                self.violation("group %s came as %s" % (group, ids))
            cursor.execute("SELECT array_agg(message_id ORDER BY message_id) FROM %s"
                           " WHERE group_key = (SELECT group_key FROM %s WHERE message_id = %d)"
                           " AND message_id < %d AND message_id <> ALL (ARRAY[%s]::bigint[])"
                           % (self.table, self.table, ids[0], ids[-1], ",".join(map(str, ids))))
            earlier = cursor.fetchone()[0]
            if earlier:
                self.violation("group %s: %s came before %s" % (group, ids, earlier))


class Redriver(Client):
    """Sends dead letters back, into the midst of what goes on in their groups."""

    def step(self):
        time.sleep(self.random.random() * 0.2)
        redrive(self.connection)
        self.count("redriven")


def redrive(connection):
    """Start a redrive task, unless one is running, and go on with it."""
    connection.autocommit = True
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT pigeon.redrive(%s)", (DEAD,))
    except psycopg2.errors.ObjectNotInPrerequisiteState:
        cursor.execute("CALL pigeon.maintain()")


def client_main(client, until, results):
    """Run a client; the result is what it counted, or the error that ended it."""
    try:
        client.run(until)
        results.put(client.counts)
    except Exception:           # pylint: disable=broad-except
        results.put(traceback.format_exc())


def end_prepared(cursor, generator, age="0"):
    """End the transactions that killed clients have left prepared."""
    cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'fifo_model_%%'"
                   " AND prepared <= clock_timestamp() - %s::interval", (age,))
    for gid, in cursor.fetchall():
        try:
            cursor.execute(generator.choice(("COMMIT", "ROLLBACK")) + " PREPARED %s", (gid,))
        except (psycopg2.errors.UndefinedObject, psycopg2.errors.ObjectNotInPrerequisiteState):
            pass                # its client was only slow


def disturb(processes, generator, until):
    """Kill the clients' backends, one at a time, until the clients have ended."""
    connection = psycopg2.connect("")
    connection.autocommit = True
    cursor = connection.cursor()
    while any(process.is_alive() for process in processes):
        time.sleep(generator.random() * 0.4)
        end_prepared(cursor, generator, "0.5 s")
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'fifo_model'")
        pids = [row[0] for row in cursor.fetchall()]
        if pids and time.time() < until:
            cursor.execute("SELECT pg_terminate_backend(%s)", (generator.choice(pids),))
    connection.close()


def run_clients(clients, seconds, generator):
    until = time.time() + seconds
    for client in clients:
        client.simple_until = until - seconds / 2
    results = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=client_main, args=(client, until, results))
                 for client in clients]
    for process in processes:
        process.start()
    disturb(processes, generator, until)
    counts = {}
    errors = []
    for result in [results.get() for _ in processes]:
        if isinstance(result, str):
            errors.append(result)
            continue
        for what, n in result.items():
            counts[what] = counts.get(what, 0) + n
    for process in processes:
        process.join()
    return counts, errors


def drain(connection, cursor, tables, seconds):
    """Receive and delete all that is left, dead letters too; what then remains is stuck."""
    until = time.time() + seconds
    while time.time() < until:
        cursor.execute("WITH message AS MATERIALIZED (SELECT * FROM pigeon.receive(%s, 1000, '10 s')),"
                       " gone AS MATERIALIZED (SELECT message_id, pigeon.delete(%s, receipt) AS deleted"
                       " FROM message)"
                       " INSERT INTO fifo_model.deleted SELECT message_id FROM gone WHERE deleted"
                       " RETURNING message_id", (QUEUE, QUEUE))
        if cursor.rowcount == 0:
            cursor.execute("SELECT count(*) FROM (%s) AS messages" % " UNION ALL ".join("TABLE " + table for table in tables))
            if cursor.fetchone()[0] == 0:
                return
            redrive(connection)
            time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--senders", type=int, default=5)
    parser.add_argument("--receivers", type=int, default=6)
    parser.add_argument("--groups", type=int, default=12)
    arguments = parser.parse_args()

    connection = psycopg2.connect("")
    connection.autocommit = True
    cursor = connection.cursor()
    end_prepared(cursor, random.Random(0))
    cursor.execute(SETUP)
    tables = []
    for queue, options in ((DEAD, ""), (QUEUE, ", dead_letter_queue => '%s', max_receive_count => 4" % DEAD)):
        cursor.execute("SELECT pigeon.drop_queue(%s, if_exists => true)", (queue,))
        cursor.execute("SELECT pigeon.create_queue(%s, fifo => true" + options + ")", (queue,))
        cursor.execute("SELECT queue_table FROM pigeon.queues WHERE queue = %s", (queue,))
        tables.append(cursor.fetchone()[0])

    groups = ["g%d" % i for i in range(arguments.groups)]
    seed = arguments.seed * 1000
    clients = [Sender(seed + i, groups) for i in range(arguments.senders)]
    clients += [Receiver(seed + 500 + i, tables[1]) for i in range(arguments.receivers)]
    clients.append(Redriver(seed + 900))
    counts, errors = run_clients(clients, arguments.seconds, random.Random(seed + 999))
    print("seed %d: %s" % (arguments.seed,
                           ", ".join("%s %d" % item for item in sorted(counts.items()))))

    end_prepared(cursor, random.Random(seed))
    passed = failed = 0

    def check(what, sql):
        cursor.execute(sql)
        report(what, cursor.fetchall())

    def report(what, rows):
        nonlocal passed, failed
        if rows:
            failed += 1
            print("not ok - %s: %s" % (what, rows[:5]))
        else:
            passed += 1
            print("ok - %s" % what)

    report("every client ran to its end", errors)
    check("pigeon.check() finds nothing wrong", "SELECT * FROM pigeon.check()")
    cursor.execute("SELECT pigeon.alter_queue(%s, max_receive_count => 1000)", (QUEUE,))
    drain(connection, cursor, tables, 60)
    check("every receive returned the heads of groups, no message was deleted twice",
          "SELECT what FROM fifo_model.violation")
    check("every message sent was deleted",
          "SELECT message_id FROM fifo_model.sent EXCEPT SELECT message_id FROM fifo_model.deleted")
    check("only messages sent were deleted",
          "SELECT message_id FROM fifo_model.deleted EXCEPT SELECT message_id FROM fifo_model.sent")
    check("nothing is left", "SELECT message_id FROM %s UNION ALL SELECT message_id FROM %s" % tuple(tables))
    check("messages were dead-lettered and redriven", "SELECT 'none' FROM pigeon.redrive_tasks HAVING max(moved) = 0")
    check("each deduplication id belongs to one message",
          "SELECT deduplication_id, array_agg(DISTINCT message_id) FROM fifo_model.sent"
          " GROUP BY deduplication_id HAVING count(DISTINCT message_id) > 1")
    check("message_ids of a group rise in the order of commits",
          "SELECT s.message_id, s.after FROM fifo_model.sent s WHERE message_id <= after AND NOT EXISTS"
          " (SELECT FROM fifo_model.sent t WHERE t.message_id = s.message_id AND t.ctid <> s.ctid)")
    check("the run was not idle",
          "SELECT 'only ' || count(*) FROM fifo_model.deleted HAVING count(*) < %d"
          % min(200, arguments.seconds * 20))
    connection.close()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
