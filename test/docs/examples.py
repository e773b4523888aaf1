#!/usr/bin/env python3
"""Runs the examples of the documentation as a reader would: examples.py [PAGE...], by default all pages.

Every page gets a fresh database, named as the page, with the extension unless the page creates it itself; that and the
roles the page made are dropped afterwards. Its ```sql blocks go through one psql session, in order; its ```sh blocks run
in bash in a scratch directory, each followed by a new psql session. A ```text block right behind one of them is its
expected output, errors included; a block without such output must not fail. Blocks in other languages are not run.

Needs a server that the environment (PGHOST, PGUSER, ..., and PGDATA for blocks that restart it) leads to as a superuser.
Prints what failed, and at last "N passed, N failed".
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pages import ROOT, Block, all_pages, blocks

END = "== end of block =="
ROLES = "SELECT quote_ident(rolname) FROM pg_roles"


class Session:
    """A psql session in the database of a page."""

    def __init__(self, database: str):
        self.psql = subprocess.Popen(
            ["psql", "-Xq", "-P", "pager=off", "-d", database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)

    def run(self, sql: str) -> str:
        """Everything that psql prints for the statements."""
        output = ""
        self.psql.stdin.write(f"{sql}\n\\echo '{END}'\n")
        self.psql.stdin.flush()
        for line in self.psql.stdout:
            if line.rstrip("\n") == END:
                return output
            output += line
        return output + "(psql ended)\nERROR\n"

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()


def trimmed(text: str) -> list[str]:
    """The lines without trailing blanks, and without blank lines at the end."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def problem(block: Block, output: str, failed: bool) -> str | None:
    """What is wrong with the output of a block."""
    if block.output is None:
        return output if failed else None
    if trimmed(block.output) == trimmed(output):
        return None
    return "\n".join(difflib.unified_diff(trimmed(block.output), trimmed(output), "page", "server", lineterm=""))


def run_sh(block: Block, environment: dict[str, str]) -> tuple[str, bool]:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], env=environment, cwd=environment["SCRATCH"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
    return done.stdout, done.returncode != 0


def administer(sql: str) -> list[str]:
    """Runs a statement outside of the page's database; the lines it returns."""
    done = subprocess.run(["psql", "-XqAt", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql], check=True, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"})
    return done.stdout.splitlines()


def run_page(page: Path) -> tuple[int, int]:
    """Runs the blocks of a page; how many passed and failed."""
    database = page.stem.lower()
    found = [block for block in blocks(page) if block.language in ("sql", "sh")]
    administer(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
    administer(f'CREATE DATABASE "{database}"')
    roles = administer(ROLES)
    session = Session(database)
    if not any("CREATE EXTENSION pigeon;" in block.text for block in found):
        session.run("CREATE EXTENSION pigeon;")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "PGDATABASE": database, "SCRATCH": scratch}
        for block in found:
            if block.language == "sql":
                output = session.run(block.text)
                wrong = problem(block, output, bool(re.search(r"^(ERROR|FATAL|PANIC)\b", output, re.M)))
            else:
                session.close()
                wrong = problem(block, *run_sh(block, environment))
                session = Session(database)
            if wrong is None:
                passed += 1
            else:
                failed += 1
                print(f"FAILED {page.relative_to(ROOT)}:{block.line}\n{wrong}\n")
    session.close()
    administer(f'DROP DATABASE "{database}" WITH (FORCE)')
    for role in set(administer(ROLES)) - set(roles):
        administer(f"DROP ROLE {role}")
    return passed, failed


def main():
    pages = [Path(name).resolve() for name in sys.argv[1:]] or all_pages()
    results = [run_page(page) for page in pages]
    passed, failed = (sum(counts) for counts in zip(*results))
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
