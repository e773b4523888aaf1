"""A scratch database with the extension, driven through psql."""
import os
import shutil
import subprocess
import sys
import tempfile


class Database:
    """Connects as psql does (PGHOST, PGPORT, ...), makes a database of its
    own, and drops it at the end."""

    def __init__(self, name, encoding="UTF8", locale="C.UTF-8"):
        self.name = name
        self.psql = find_psql()
        self.run("DROP DATABASE IF EXISTS %s" % name, "postgres")
        self.run("CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' "
                 "LC_COLLATE '%s' LC_CTYPE '%s'"
                 % (name, encoding, locale, locale), "postgres")

    def __enter__(self):
        self.run("CREATE EXTENSION pigeon")
        return self

    def __exit__(self, *exception):
        self.run("DROP DATABASE %s" % self.name, "postgres")

    def run(self, script, database=None):
        """Runs SQL in one session and returns what it prints, as bytes.

        The script is text or bytes, or an iterator over bytes."""
        if isinstance(script, str):
            script = script.encode()
        if isinstance(script, bytes):
            script = [script]
        with tempfile.TemporaryFile() as output, \
                tempfile.TemporaryFile() as errors:
            with subprocess.Popen(
                    [self.psql, "-X", "-q", "-A", "-t", "-v",
                     "ON_ERROR_STOP=1", "-d", database or self.name],
                    stdin=subprocess.PIPE, stdout=output, stderr=errors,
                    env={**os.environ, "PGCLIENTENCODING": "SQL_ASCII",
                         "PGOPTIONS": "-c client_min_messages=warning"}
                    ) as process:
                try:
                    for part in script:
                        process.stdin.write(part)
                    process.stdin.close()
                except BrokenPipeError:
                    pass        # psql has said why
            output.seek(0)
            errors.seek(0)
            if process.returncode != 0:
                sys.exit("psql failed: " +
                         errors.read().decode(errors="replace"))
            return output.read()


def find_psql():
    """The psql of PG_CONFIG, if that is set, or else the one on the path."""
    config = os.environ.get("PG_CONFIG")
    if config:
        directory = subprocess.run([config, "--bindir"], check=True,
                                   stdout=subprocess.PIPE).stdout
        return os.path.join(directory.decode().strip(), "psql")
    return shutil.which("psql") or sys.exit("psql not found")


def copy_field(value):
    """A value in the text format of COPY, as bytes."""
    if value is None:
        return b"\\N"
    if isinstance(value, str):
        value = value.encode()
    return (value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")
            .replace(b"\n", b"\\n").replace(b"\r", b"\\r"))


def copy_rows(rows):
    """The data of a COPY FROM STDIN, with its end mark."""
    return b"".join(b"\t".join(map(copy_field, row)) + b"\n"
                    for row in rows) + b"\\.\n"
