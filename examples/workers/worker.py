#!/usr/bin/python3
"""A worker in Python: runs a command for each message of a queue.

    worker.py CONNECTION QUEUE COMMAND [ARGUMENT...]

The command gets the message's body on its standard input.  If it succeeds the
message is deleted; if it fails the message comes back when its visibility
timeout ends, and goes to the dead-letter queue in the end.

The queue needs notify => true: the worker sleeps in LISTEN and, when it is
woken, receives until the queue is empty.  It looks once a minute anyway, since
notifications are not kept for who is not connected.  While a command runs, a
thread extends the visibility of its message, and ends the command if the message
is somebody else's by now.  At SIGTERM or SIGINT the worker
finishes its message and leaves.  Needs psycopg2 (Debian: python3-psycopg2).
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2 import sql

SLOW_POLL = 60  # seconds
VISIBILITY = 30  # seconds, from one extension to the next a third of it


class Stop:
    """Set by a signal; can be waited for together with a connection."""

    def __init__(self):
        self.requested = False
        self.reader, self._writer = socket.socketpair()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number, frame):
        self.requested = True
        self._writer.send(b"x")


@contextmanager
def heartbeat(dsn, queue, receipt, seconds, process):
    """Keeps a message invisible to others until the block ends; ends the process if that is not possible."""
    done = threading.Event()

    def extend():
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not done.wait(seconds / 3):
                cursor.execute("SELECT pigeon.change_visibility(%s, %s::pigeon.receipt, make_interval(secs => %s))",
                               (queue, receipt, seconds))
                if not cursor.fetchone()[0]:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGTERM)
                    break
        connection.close()

    thread = threading.Thread(target=extend)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def work(dsn, connection, queue, command, seconds):
    """Receives and processes one message; False if there is none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT receipt::text, body FROM pigeon.receive(%s, 1, make_interval(secs => %s))",
                       (queue, seconds))
        row = cursor.fetchone()
        if row is None:
            return False
        receipt, body = row
        # A session of its own, so that Ctrl-C stops the worker and not the command.
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
            with heartbeat(dsn, queue, receipt, seconds, process):
                process.communicate(body.encode())
        if process.returncode == 0:
            cursor.execute("SELECT pigeon.delete(%s, %s::pigeon.receipt)", (queue, receipt))
    return True


def main(dsn, queue, *command, seconds=VISIBILITY):
    stop = Stop()
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier("pigeon." + queue)))
    while not stop.requested:
        while not stop.requested and work(dsn, connection, queue, command, seconds):
            pass
        if not stop.requested:
            select.select([connection, stop.reader], [], [], SLOW_POLL)
            connection.poll()
            connection.notifies.clear()
    connection.close()


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
