#!/usr/bin/env python3
"""Faults: concurrent clients of queues and topics, and everything that can happen to them and to their server.

    python3 test/stress/faults --data DIRECTORY [--rounds N] [--crashes N] [--kills N] [--messages N] [--clients N] [--seed N]
    python3 test/stress/faults --seconds N [--clients N] [--seed N]

Clients (clients.py) send, publish, receive, delete, extend, release, redrive and move messages of standard and FIFO
queues in transactions that end in every way, and note down what was acknowledged.  Meanwhile (server.py) backends are
killed, queries are cancelled or time out, clients hang up, connections run out, worker and launcher are ended, tables
are vacuumed, rewritten, reindexed, dumped and altered, queues are created and dropped, and again and again the server
is stopped at once, or one of its processes is killed.  A round goes on until there were so many crashes, killed
backends and acknowledged messages.

With --seconds there are only the clients, and somebody else sees to the faults.

At the end of a round all is calm for a while, in which counters must tell what clients did.  Then everything is taken
out, and the notes of all clients (history.py) must be such as a correct queue allows: see the checks there and below.

Needs a server of its own, which DIRECTORY and libpq's environment lead to as a superuser, with the extension.  Prints
what was done and found, and at last "N passed, N failed".
"""
import argparse
import collections
import multiprocessing
import sys
import time
from queue import Empty

import clients
import history
import server

CALM_SECONDS = 4


class Report:
    """What was checked, and what came of it."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, problems):
        problems = list(problems)
        if problems:
            self.failed += 1
            print("not ok - %s: %d" % (what, len(problems)))
            for problem in problems[:10]:
                print("    %s" % (problem,))
        else:
            self.passed += 1
            print("ok - %s" % what)
        sys.stdout.flush()


class Group:
    """Processes that run until they are told to stop, and what they hand over then."""

    def __init__(self, acknowledged):
        self.stop = multiprocessing.Event()
        self.results = multiprocessing.Queue()
        self.acknowledged = acknowledged
        self.processes = []
        self.surprises = []

    def start(self, target, *arguments):
        process = multiprocessing.Process(target=target, args=(self.stop, *arguments, self.results), daemon=True)
        process.start()
        self.processes.append(process)

    def finish(self, machine):
        """Tell all to stop; yields what each has to say."""
        self.stop.set()
        for _ in self.processes:
            yield self.next_result(machine)
        for process in self.processes:
            process.join()

    def next_result(self, machine):
        """What one process hands over.  It may wait for a prepared transaction that nobody else will end."""
        until = time.time() + 300
        while time.time() < until:
            try:
                return self.results.get(timeout=1)
            except Empty:
                machine.end_prepared()
        raise TimeoutError("somebody does not stop: %s" % machine.rows(
            "SELECT pid, application_name, state, wait_event_type, wait_event, query FROM pg_stat_activity"))


def run_clients(first, arguments, acknowledged, calm):
    group = Group(acknowledged)
    for i in range(arguments.clients):
        group.start(clients.Client(first + i, calm).main, acknowledged)
    return group


def disturb(machine, arguments, acknowledged):
    """Crash the server so often, and between two crashes do all the rest."""
    for crash in range(arguments.crashes):
        kills = machine.counts["backends killed"] + arguments.kills / arguments.crashes
        messages = acknowledged.value + arguments.messages / arguments.crashes
        until = time.time() + 300
        sigkill = crash % 2 == 1
        while machine.counts["backends killed"] < kills or acknowledged.value < messages:
            if time.time() > until:
                raise TimeoutError("the clients have come to a halt")
            time.sleep(machine.random.random() * 0.2)
            machine.trouble()
            if sigkill and machine.counts["backends killed"] > kills - arguments.kills / arguments.crashes / 2:
                machine.kill_a_process()
                sigkill = False
        machine.crash()


def counters(machine):
    """What has been counted, by queue and counter."""
    return {(queue, what): n for queue, *values in machine.rows(
        "SELECT queue, sent, received, deleted FROM pigeon.queue_metrics")
        for what, n in zip(("sent", "received", "deleted"), values)}


def count_events(transactions):
    """What has to have been counted, by queue and counter."""
    counts = collections.Counter()
    for transaction in transactions:
        if transaction.outcome is not history.Outcome.COMMITTED:
            continue
        for event in transaction.events:
            if isinstance(event, history.Sent):
                for queue in event.queues:
                    counts[queue, "sent"] += 1
            elif isinstance(event, history.Received):
                counts[event.queue, "received"] += len(event.messages)
            elif isinstance(event, history.Deleted) and event.answer:
                counts[event.queue, "deleted"] += 1
    return counts


def wrong_counters(before, after, expected):
    for key in sorted(after):
        if key[0] in clients.QUEUES and after[key] - before[key] != expected[key]:
            yield "%s %s: counted %d, true are %d" % (*key, after[key] - before[key], expected[key])


def wrong_figures(machine):
    """Numbers of messages that are not those one can count, when nobody does anything."""
    differences = """
        SELECT m.queue, m.visible, m.in_flight, m.delayed, e.visible, e.in_flight, e.delayed
        FROM pigeon.queue_metrics m, pigeon.exact_queue_metrics(m.queue) e
        WHERE NOT m.approximate AND (m.visible, m.in_flight, m.delayed) <> (e.visible, e.in_flight, e.delayed)"""
    for _ in range(20):         # leases end, the worker moves dead letters
        found = machine.rows(differences)
        if not found:
            break
        time.sleep(0.5)
    return found


def wrong_effects(machine, transactions):
    """Who receives, works and deletes in one transaction has worked exactly once."""
    done = {queue: collections.Counter(number for number, in machine.rows(
        "SELECT number FROM effect WHERE queue = %s", queue)) for queue in ("orders", "shipped")}
    for queue, numbers in done.items():
        yield from ("message %d of %s was processed %d times" % (number, queue, n)
                    for number, n in numbers.items() if n > 1)
    sent = set()
    possible = set()
    for transaction in transactions:
        for event in transaction.events:
            if isinstance(event, history.Sent) and event.queues == ("orders",):
                if transaction.outcome is history.Outcome.COMMITTED:
                    sent.add(event.number)
                elif transaction.outcome is history.Outcome.UNKNOWN:
                    possible.add(event.number)
    yield from ("message %d of orders was not processed" % number for number in sent - done["orders"].keys())
    yield from ("message %d of orders was never sent" % number for number in done["orders"].keys() - sent - possible)
    yield from ("message %d was shipped and did not arrive, or the other way round" % number
                for number in done["orders"].keys() ^ done["shipped"].keys())


def leftovers(machine):
    """What is left of messages when all have been deleted and maintenance has run."""
    for queue, in machine.rows("SELECT queue FROM pigeon.queues WHERE queue LIKE 'scratch%%'"):
        machine.rows("SELECT pigeon.drop_queue(%s)", queue)
    tables = [table for table, in machine.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace"
        " AND relkind = 'r' AND relname ~ '^([qg]_[0-9]+|log_([0-9]+|old))$'")]
    count = " UNION ALL ".join("SELECT '%s', count(*) FROM %s" % (table, table) for table in tables)
    for _ in range(60):         # the worker may have the log to itself for a moment
        machine.rows("UPDATE pigeon.log_state SET current_since = '2000-01-01'")
        machine.rows("CALL pigeon.maintain()")
        found = machine.rows("SELECT * FROM (" + count + ") AS c (name, n) WHERE n > 0")
        if not found:
            break
        time.sleep(0.5)
    return found


def run_round(number, machine, arguments, report):
    acknowledged = multiprocessing.Value("q", 0)
    first = (arguments.seed * 1000 + number) * 1000
    begin = time.time()
    machine.counts.clear()
    machine.rows("TRUNCATE effect")

    group = run_clients(first, arguments, acknowledged, calm=False)
    janitors = Group(acknowledged)
    janitors.start(server.Janitor(first).main)
    if arguments.seconds:
        time.sleep(arguments.seconds)
    else:
        disturb(machine, arguments, acknowledged)
    (work, surprises), = janitors.finish(machine)
    transactions, counts = [], collections.Counter()

    def collect(group):
        for more, what, surprising in group.finish(machine):
            transactions.extend(more)
            counts.update(what)
            surprises.extend(surprising)

    collect(group)
    # A client that has hung up in the middle of a commit may be gone before its backend.
    patience = time.monotonic() + 60
    while machine.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", clients.APPLICATION):
        if time.monotonic() > patience:
            surprises.append("a client's backend does not end")
            break
        time.sleep(0.05)
    machine.end_prepared("0")
    before = counters(machine)
    n = len(transactions)
    group = run_clients(first + 500, arguments, acknowledged, calm=True)
    time.sleep(CALM_SECONDS)
    collect(group)
    after = counters(machine)
    expected = count_events(transactions[n:])
    load_seconds = time.time() - begin
    report.check("counters tell what was done", wrong_counters(before, after, expected))
    report.check("numbers of messages are what one can count", wrong_figures(machine))
    report.check("check() finds nothing", machine.rows("SELECT * FROM pigeon.check()"))

    drainer = clients.Drainer(first + 999, acknowledged)
    report.check("everything can be taken out", [] if drainer.drain(120) else machine.rows(
        "SELECT queue, m.* FROM pigeon.queues, pigeon.peek(queue, 1000) m"))
    transactions += drainer.transactions
    known = history.History(transactions, clients.FAMILIES)
    for check in history.CHECKS:
        report.check(check.__doc__.splitlines()[0].rstrip("."), check(known))
    report.check("each effect was there exactly once", wrong_effects(machine, transactions))
    report.check("nothing is left after maintain()", leftovers(machine))
    report.check("check() finds nothing in the end", machine.rows("SELECT * FROM pigeon.check()"))
    report.check("no call failed for another reason than the faults", surprises + drainer.surprises)

    outcomes = collections.Counter(transaction.outcome.name for transaction in transactions)
    print("round %d, %d s of load, %d s in all: %d acknowledged messages" % (
        number, load_seconds, time.time() - begin, acknowledged.value))
    for figures in machine.counts, work, counts, outcomes:
        print("    " + ", ".join("%s %d" % item for item in sorted(figures.items())))
    sys.stdout.flush()
    return machine.counts + collections.Counter({"acknowledged messages": acknowledged.value})


def main():
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--data", help="data directory of the server")
    parser.add_argument("--seconds", type=float, help="cause no faults for so long")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--crashes", type=int, default=10, help="crashes in a round")
    parser.add_argument("--kills", type=int, default=200, help="backends killed in a round")
    parser.add_argument("--messages", type=int, default=200000, help="messages acknowledged in a round")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    machine = server.Server(arguments.data, arguments.seed)
    machine.rows(clients.SETUP + "RESET ROLE")
    report = Report()
    total = sum((run_round(number, machine, arguments, report) for number in range(arguments.rounds)),
                collections.Counter())
    print("%d crashes, %d killed backends, %d acknowledged messages" % (
        total["crashes"], total["backends killed"], total["acknowledged messages"]))
    print("%d passed, %d failed" % (report.passed, report.failed))
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
