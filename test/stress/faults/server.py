"""The server that the clients use, and what happens to it."""
import collections
import os
import random
import signal
import subprocess
import sys
import time

import psycopg2

from clients import APPLICATION, ROLE, is_lost

# How often each kind of trouble comes, until its share of a crash is reached.
TROUBLES = {"terminate": 60, "cancel": 40, "exhaust": 2, "end_worker": 4, "end_launcher": 1, "end_prepared": 20}


class Server:
    """A server of our own, known by its data directory, and a superuser's connection to it."""

    def __init__(self, data, seed):
        self.data = data
        self.random = random.Random(seed)
        self.connection = None
        self.counts = collections.Counter()

    def rows(self, sql, *arguments):
        """Run SQL, waiting for the server if need be."""
        until = time.time() + 120
        while True:
            try:
                if self.connection is None:
                    self.connection = psycopg2.connect("")
                    self.connection.autocommit = True
                cursor = self.connection.cursor()
                cursor.execute(sql, arguments)
                return cursor.fetchall() if cursor.description else []
            except psycopg2.Error as error:
                if not is_lost(self.connection, error) or time.time() > until:
                    raise
                self.connection = None
                time.sleep(0.05)

    def value(self, sql, *arguments):
        return self.rows(sql, *arguments)[0][0]

    def pg_ctl(self, *arguments):
        subprocess.run(["pg_ctl", "-s", "-w", "-t", "120", "-D", self.data, *arguments], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def crash(self):
        """Stop the server at once, without anything that a shutdown does, and start it again."""
        self.pg_ctl("-m", "immediate", "stop")
        self.pg_ctl("-l", os.path.join(self.data, "faults.log"), "start")
        self.counts["crashes"] += 1

    def kill_a_process(self):
        """Kill a process so that the server restarts by itself."""
        started = self.value("SELECT pg_postmaster_start_time()")
        pids = self.rows("SELECT pid FROM pg_stat_activity WHERE application_name = %s OR backend_type = %s",
                         APPLICATION, self.random.choice(("pigeon worker", "pigeon launcher", "none")))
        if not pids:
            return
        try:
            os.kill(self.random.choice(pids)[0], signal.SIGKILL)
        except ProcessLookupError:
            return              # it has just ended
        self.counts["crashes by SIGKILL"] += 1
        self.rows("SELECT pg_sleep(1)")     # fails, or comes too early
        assert self.value("SELECT pg_postmaster_start_time()") == started

    def signal_some(self, what, function, condition, *arguments):
        """Call a function on the process id of one of these; how many there were."""
        n = len(self.rows("SELECT " + function + "(pid) FROM pg_stat_activity WHERE " + condition
                          + " ORDER BY random() LIMIT 1", *arguments))
        self.counts[what] += n

    def terminate(self):
        self.signal_some("backends killed", "pg_terminate_backend", "application_name = %s", APPLICATION)

    def cancel(self):
        self.signal_some("cancels", "pg_cancel_backend", "application_name = %s AND state = 'active'", APPLICATION)

    def end_worker(self):
        self.signal_some("workers ended", "pg_terminate_backend", "backend_type = 'pigeon worker'")

    def end_launcher(self):
        self.signal_some("launchers ended", "pg_terminate_backend", "backend_type = 'pigeon launcher'")

    def exhaust(self):
        """Use up the connections for a moment."""
        connections = []
        try:
            while len(connections) < 1000:
                connections.append(psycopg2.connect("", user=ROLE))
        except psycopg2.OperationalError:
            self.counts["connections exhausted"] += 1
        time.sleep(0.3)
        for connection in connections:
            connection.close()

    def end_prepared(self, age="1 s"):
        """End transactions that nobody will end any more."""
        for gid, in self.rows("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'faults %%'"
                              " AND prepared < clock_timestamp() - %s::interval", age):
            try:
                self.rows(self.random.choice(("COMMIT", "ROLLBACK")) + " PREPARED %s", gid)
                self.counts["prepared transactions left"] += 1
            except (psycopg2.errors.UndefinedObject, psycopg2.errors.ObjectNotInPrerequisiteState):
                pass            # its client was only slow

    def trouble(self):
        """Do one of these things."""
        getattr(self, self.random.choices(list(TROUBLES), TROUBLES.values())[0])()


class Janitor:
    """Somebody who works on the tables beneath the load."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.connection = None
        self.counts = collections.Counter()
        self.surprises = []

    def main(self, stop, results):
        while not stop.is_set():
            try:
                if self.connection is None:
                    self.connection = psycopg2.connect("", application_name="faults janitor")
                    self.connection.autocommit = True
                    self.run("SET lock_timeout = '1 s'")
                self.step()
            except psycopg2.Error as error:
                self.complain(error)
        results.put((self.counts, self.surprises))

    def complain(self, error):
        """Note down an error that does not belong to the faults."""
        if is_lost(self.connection, error):
            self.connection = None
            time.sleep(0.05)
        # A lock that was not to be had, a deadlock, a queue that was dropped.
        elif error.pgcode not in ("55P03", "40P01", "42P01", "42704"):
            self.surprises.append("janitor: %s: %s" % (error.pgcode, error))

    def run(self, sql, *arguments):
        cursor = self.connection.cursor()
        cursor.execute(sql, arguments)
        return cursor.fetchall() if cursor.description else []

    def step(self):
        self.random.choice((self.rewrite, self.rewrite, self.rewrite, self.alter, self.maintain, self.check, self.dump))()
        time.sleep(0.02)

    def rewrite(self):
        tables = [row[0] for row in self.run(
            "SELECT 'pigeon.' || relname FROM pg_class c WHERE relnamespace = 'pigeon'::regnamespace"
            " AND relkind = 'r' AND relname ~ '^([qgd]_|log_|queue|subscription)'")]
        command = self.random.choice(("VACUUM", "VACUUM FULL", "VACUUM FREEZE", "ANALYZE", "REINDEX TABLE",
                                      "REINDEX TABLE CONCURRENTLY"))
        self.run("%s %s" % (command, self.random.choice(tables)))
        self.counts[command] += 1

    def alter(self):
        self.run("SELECT pigeon.alter_queue(queue, tags => %s, wait_time => %s, visibility_timeout => %s)"
                 " FROM pigeon.queues ORDER BY random() LIMIT 1", '{"a": "%d"}' % self.random.getrandbits(30),
                 self.random.choice(("0", "10 ms")), self.random.choice(("5 s", "30 s")))
        self.counts["queues altered"] += 1

    def maintain(self):
        self.run("CALL pigeon.maintain()")
        self.counts["maintain() called"] += 1

    def check(self):
        """Look for damage; who has locked a table for long is no damage."""
        for thing, problem in self.run("SELECT * FROM pigeon.check() WHERE problem !~ '^cannot be looked at'"):
            self.surprises.append("check(): %s %s" % (thing, problem))
        self.counts["check() called"] += 1

    def dump(self):
        """Dump all of it, if no table goes away meanwhile."""
        if self.random.random() < 0.2:
            done = subprocess.run(["pg_dump", "--no-sync", "--lock-wait-timeout=2000", "-Fc", "-f", os.devnull],
                                  stderr=subprocess.PIPE)
            self.counts["dumps" if done.returncode == 0 else "dumps that failed"] += 1
            if done.returncode != 0:
                sys.stderr.buffer.write(done.stderr)
