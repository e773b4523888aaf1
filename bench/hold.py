"""What holds the xmin horizon, or otherwise stands in the way, while a steady workload runs.

Each is a context manager that takes the cluster and the database of the peer under test: a snapshot holds back only
the tables of its own database, a replication slot those of all.
"""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from .cluster import Cluster

READER_SECONDS = 60
STANDBY_PORT = 5433
STANDBY_PATIENCE = 60           # seconds until it holds the horizon


def _begin(cluster: Cluster, database: str, statements: str) -> subprocess.Popen:
    """A session in which `statements` have been carried out and whose transaction is still open."""
    session = cluster.session(database)
    session.stdin.write(f"{statements}\n\\echo ready\n")
    session.stdin.flush()
    while session.stdout.readline().strip() != "ready":
        if session.poll() is not None:
            raise RuntimeError(f"the session that should hold the horizon ended: {statements}")
    return session


def _end(session: subprocess.Popen) -> None:
    session.communicate("ROLLBACK;\n")


@contextlib.contextmanager
def _meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in a thread; at the end tell it to stop, wait for it, and raise what it raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, stop)
        try:
            yield
        finally:
            stop.set()
        future.result()


SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;"


@contextlib.contextmanager
def nothing(cluster: Cluster, database: str) -> Iterator[None]:
    """Nobody is in the way."""
    yield


@contextlib.contextmanager
def idle_snapshot(cluster: Cluster, database: str) -> Iterator[None]:
    """A session that sits idle in a repeatable read transaction."""
    session = _begin(cluster, database, SNAPSHOT)
    try:
        yield
    finally:
        _end(session)


@contextlib.contextmanager
def listener(cluster: Cluster, database: str, listen: str) -> Iterator[None]:
    """A session that listens and takes what comes ten times a second."""
    with subprocess.Popen(cluster.command("psql", "-XAtq", *cluster.connection(database)), stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, text=True) as session:
        session.stdin.write(f"{listen};\nSELECT \\watch 0.1\n")
        session.stdin.flush()
        try:
            yield
        finally:
            session.terminate()


@contextlib.contextmanager
def long_writer(cluster: Cluster, database: str) -> Iterator[None]:
    """A transaction that wrote one row long ago and has not ended."""
    session = _begin(cluster, database, "CREATE TEMP TABLE held (n integer); BEGIN; INSERT INTO held VALUES (1);")
    try:
        yield
    finally:
        _end(session)


@contextlib.contextmanager
def overlapping_readers(cluster: Cluster, database: str) -> Iterator[None]:
    """Reports of a minute each, every next one begun before the last has ended: the horizon moves, but always lags."""
    def relay(stop: threading.Event) -> None:
        older = _begin(cluster, database, SNAPSHOT)
        while not stop.wait(READER_SECONDS / 2):
            newer = _begin(cluster, database, SNAPSHOT)
            if not stop.wait(READER_SECONDS / 2):
                _end(older)
                older, newer = newer, None
            if newer:
                _end(newer)
        _end(older)

    with _meanwhile(relay):
        yield


@contextlib.contextmanager
def abandoned_slot(cluster: Cluster, database: str) -> Iterator[None]:
    """The slot of a standby with hot_standby_feedback that was lost: it holds both the horizon and the WAL."""
    cluster.sql("postgres", "CHECKPOINT; SELECT pg_create_physical_replication_slot('abandoned')")
    try:
        with _standby(cluster, "abandoned"):
            for _ in range(STANDBY_PATIENCE):
                if cluster.sql("postgres", "SELECT xmin IS NOT NULL FROM pg_replication_slots, pg_sleep(1)") == "t":
                    break
            else:
                raise RuntimeError("the standby does not hold the horizon")
        yield
    finally:
        cluster.sql("postgres", "SELECT pg_drop_replication_slot('abandoned') FROM pg_sleep(1)")


@contextlib.contextmanager
def _standby(cluster: Cluster, slot: str) -> Iterator[None]:
    """A small standby that tells its horizon to the primary; stopped the hard way, and removed."""
    standby = cluster.directory / "standby"
    try:
        cluster.run("pg_basebackup", "-D", standby, "-S", slot, "-R", "-c", "fast", "--no-sync",
                    "-h", cluster.directory, "-U", "postgres", as_server=True)
        with open(standby / "postgresql.conf", "a", encoding="utf-8") as conf:
            # Huge pages are reserved for one server only.
            conf.write("huge_pages = off\nshared_buffers = 128MB\nhot_standby_feedback = on\n"
                       f"wal_receiver_status_interval = 1\nport = {STANDBY_PORT}\n")
        cluster.run("pg_ctl", "-D", standby, "-l", cluster.directory / "standby.log", "-w", "start", as_server=True)
        try:
            yield
        finally:
            cluster.run("pg_ctl", "-D", standby, "-m", "immediate", "stop", as_server=True)
    finally:
        shutil.rmtree(standby, ignore_errors=True)


@contextlib.contextmanager
def repeated_dump(cluster: Cluster, database: str) -> Iterator[None]:
    """pg_dump of the database under test, again and again; some ballast makes each take seconds."""
    cluster.sql(database, "CREATE TABLE ballast AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 500000) n")
    def dump(stop: threading.Event) -> None:
        while not stop.is_set():
            cluster.run("pg_dump", "-Fc", "-Z", "0", "--no-sync", "-f", "/dev/null", *cluster.connection(database))

    try:
        with _meanwhile(dump):
            yield
    finally:
        cluster.sql(database, "DROP TABLE ballast")
