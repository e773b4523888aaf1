"""A private PostgreSQL cluster for one benchmark run, and the meters on it.

Durability is on (fsync, synchronous_commit), autovacuum stays at its defaults, checkpoints come from the harness and
not from the clock.  Every peer has a database of its own, so that one peer's bloat or held horizon is not another's.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .huge_pages import HugePages

SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "300",
    "shared_buffers": "2GB",
    "max_wal_size": "16GB",
    "min_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
}
# One row a page, as many pages as shared_buffers: else whoever comes first pays for the memory's first touch.
TOUCH_SHARED_BUFFERS = """
CREATE UNLOGGED TABLE touch (filler text) WITH (fillfactor = 10);
INSERT INTO touch SELECT repeat('x', 900) FROM generate_series(1, (SELECT setting::int FROM pg_settings
                                                                   WHERE name = 'shared_buffers'));
DROP TABLE touch;
"""
# WAL segments for half of min_wal_size: a server that has run for a while uses them again and again, a new one would
# spend the time of the first samples on creating them.
CREATE_WAL_SEGMENTS = """
DO $$ BEGIN
    FOR segment IN 1..64 LOOP
        PERFORM pg_logical_emit_message(false, 'bench', '');
        PERFORM pg_switch_wal();
    END LOOP;
END $$;
CHECKPOINT;
"""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
WAL_LIMIT = 2 << 30                     # more WAL than this is not read record by record


@dataclass(frozen=True)
class Reading:
    """What the meters showed at one moment."""

    lsn: str
    cpu_seconds: float


@dataclass(frozen=True)
class Usage:
    """What the server spent between two readings.  wal_bytes is without full page images, or None if too much to read."""

    wal_bytes: int | None
    wal_total: int
    cpu_seconds: float


class Cluster:
    """Context manager: initdb, start, stop, remove.  It lives in TMPDIR, which must be on a disk."""

    def __init__(self, bindir: Path, libraries: str):
        self.bindir = bindir
        self.libraries = libraries
        self.directory = Path(tempfile.mkdtemp(prefix="pigeon-bench-"))
        self.data = self.directory / "data"
        self.as_server: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self.as_server = ["runuser", "-u", "postgres", "--"]

    def __enter__(self) -> "Cluster":
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
                 as_server=True)
        self.configure(SETTINGS | {"unix_socket_directories": f"'{self.directory}'",
                                   "shared_preload_libraries": f"'{self.libraries}'"})
        self.huge_pages = HugePages(int(self.run("postgres", "-D", self.data, "-C", "shared_memory_size_in_huge_pages",
                                                 as_server=True)))
        try:
            self.configure({"huge_pages": "on" if self.huge_pages.granted else "off"})
            self.start()
            self.sql("postgres", "CREATE EXTENSION pg_walinspect")
            self.sql("postgres", TOUCH_SHARED_BUFFERS)
            self.sql("postgres", CREATE_WAL_SEGMENTS)
        except BaseException:
            self.huge_pages.release()           # nobody calls __exit__ for us
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop", as_server=True)
        finally:
            self.huge_pages.release()
        shutil.rmtree(self.directory)

    def configure(self, settings: dict[str, str]) -> None:
        """Add settings, which the next start reads."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self) -> None:
        self.run("pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "start", as_server=True)

    def command(self, program: str, *arguments: object) -> list[str]:
        return [str(self.bindir / program), *map(str, arguments)]

    def run(self, program: str, *arguments: object, as_server: bool = False, **options) -> str:
        """Run a program of the server to its end and return its output; raise if it failed."""
        prefix = self.as_server if as_server else []
        done = subprocess.run(prefix + self.command(program, *arguments), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, cwd=self.directory, check=False, **options)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def connection(self, database: str) -> list[str]:
        """Arguments for any client program, to stand last."""
        return ["-h", str(self.directory), "-U", "postgres", database]

    def sql(self, database: str, text: str) -> str:
        """Run SQL text through psql and return what it printed, unaligned."""
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *self.connection(database), input=text).strip()

    def session(self, database: str) -> subprocess.Popen:
        """A psql session that stays open; the caller writes to its stdin and ends it."""
        return subprocess.Popen(self.command("psql", "-XAtq", *self.connection(database)), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, cwd=self.directory)

    def postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def read(self) -> Reading:
        lsn = self.sql("postgres", "SELECT pg_current_wal_insert_lsn()")
        return Reading(lsn, cpu_seconds(self.postmaster()))

    def usage(self, before: Reading) -> Usage:
        """What was spent since `before`."""
        after = self.read()
        total = int(self.sql("postgres", f"SELECT pg_wal_lsn_diff('{after.lsn}', '{before.lsn}')"))
        records = None
        if 0 < total < WAL_LIMIT:
            self.sql("postgres", "SELECT pg_switch_wal()")      # flushes, so that the range can be read
            records = int(self.sql("postgres", "SELECT coalesce(sum(record_size), 0)::bigint"
                                               f" FROM pg_get_wal_stats('{before.lsn}', '{after.lsn}')"))
        return Usage(records, total, after.cpu_seconds - before.cpu_seconds)

    def vacuum(self, database: str) -> None:
        """Clean a database up and gather the planner's statistics."""
        self.sql(database, "VACUUM ANALYZE")

    def checkpoint(self) -> None:
        """Write everything out; pages changed afterwards are logged whole, once."""
        self.sql("postgres", "CHECKPOINT")

    def disk_bytes(self, database: str) -> int:
        return int(self.sql("postgres", f"SELECT pg_database_size('{database}')"))

    def wal_directory_bytes(self) -> int:
        return int(self.sql("postgres", "SELECT sum(size)::bigint FROM pg_ls_waldir()"))


def cpu_seconds(root: int) -> float:
    """CPU time of a process and of all that descend from it, those that have ended included."""
    while True:
        family = _family(root)
        before = {pid: stat[13:15] for pid, stat in family.items()}     # what each has heard of its dead children
        seconds = sum(_own_seconds(pid, stat) + _seconds(stat[13:15]) for pid, stat in family.items())
        if {pid: stat[13:15] for pid, stat in _family(root).items()} == before:     # else one has ended meanwhile
            return seconds


def _seconds(ticks: list[str]) -> float:
    return sum(map(int, ticks)) / CLOCK_TICKS


def _own_seconds(pid: int, stat: list[str]) -> float:
    """What a process has used itself: to the nanosecond if it has one thread, as a server process of PostgreSQL, else in ticks.

    A tick is ten milliseconds: of many processes that do next to nothing, nothing would be seen.
    """
    if stat[17] == "1":
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return _seconds(stat[11:13])


def _family(root: int) -> dict[int, list[str]]:
    """The stat fields of a process and of all that descend from it."""
    everybody = {int(entry.name): stat for entry in Path("/proc").iterdir()
                 if entry.name.isdigit() and (stat := _stat(entry.name))}
    family = {}
    young = [root]
    while young:
        family |= {pid: everybody[pid] for pid in young if pid in everybody}
        young = [pid for pid, stat in everybody.items() if int(stat[1]) in young]
    return family


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def fdatasync_rate(bindir: Path) -> float:
    """The machine's own limit: 8 kB writes made durable per second, as pg_test_fsync measures them."""
    probe = Path(tempfile.gettempdir()) / "fsync-probe"
    with subprocess.Popen([bindir / "pg_test_fsync", "-s", "1", "-f", probe], stdout=subprocess.PIPE, text=True) as test:
        rate = next(float(line.split()[1]) for line in test.stdout if line.split()[:1] == ["fdatasync"])
        test.terminate()
    probe.unlink(missing_ok=True)
    return rate


def write_bandwidth() -> float:
    """The machine's own limit: bytes per second written in 8 MB pieces, each made durable."""
    probe = Path(tempfile.gettempdir()) / "write-probe"
    piece = os.urandom(8 << 20)
    file = os.open(probe, os.O_WRONLY | os.O_CREAT)
    start = time.monotonic()
    written = 0
    while time.monotonic() - start < 1:
        written += os.write(file, piece)
        os.fdatasync(file)
    elapsed = time.monotonic() - start
    os.close(file)
    probe.unlink()
    return written / elapsed
