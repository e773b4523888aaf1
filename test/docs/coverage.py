#!/usr/bin/env python3
"""Checks that the documentation is complete and holds together.

 - Every function and procedure that users may call, every view and its columns, every type and its fields, and every
   setting has its place in docs/: functions, views, types and settings a heading that names them, columns and
   arguments a mention of their name on that page.
 - Links between pages lead to pages and headings that exist.
 - META.json names the version of the control file.

Needs a server as examples.py does. Prints what is wrong, and at last "N passed, N failed".
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from pages import ROOT, all_pages, prose

DATABASE = "coverage"

FUNCTIONS = """
    SELECT p.proname, array_to_string(p.proargnames, ' ') FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
    WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pigeon')
    AND obj_description(p.oid, 'pg_proc') !~ '^(I/O|hash|implementation of|event trigger:|trigger:|internal:)'
"""
RELATIONS = """
    SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum)
    FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND c.relkind = 'v'
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pigeon') GROUP BY c.relname
"""
TYPES = """
    SELECT t.typname, string_agg(a.attname, ' ' ORDER BY a.attnum)
    FROM pg_depend d JOIN pg_type t ON t.oid = d.objid LEFT JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE d.deptype = 'e' AND d.classid = 'pg_type'::regclass AND t.typtype IN ('b', 'c', 'e', 'd') AND t.typelem = 0
    AND coalesce(c.relkind, 'c') = 'c'
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pigeon') GROUP BY t.typname
"""
SETTINGS = "SELECT name, '' FROM pg_settings WHERE name LIKE 'pigeon.%'"


def query(sql: str, database: str = DATABASE) -> list[list[str]]:
    output = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", "LOAD 'pigeon'", "-c", sql],
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line.split("|") for line in output.splitlines()]


def administer(sql: str):
    subprocess.run(["psql", "-Xq", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", "SET client_min_messages = warning",
                    "-c", sql], check=True)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ +(.*)$", prose(page), flags=re.M)


def anchors(page: Path) -> set[str]:
    """The anchors that the headings get where the pages are shown; equal ones are numbered."""
    found: set[str] = set()
    for heading in headings(page):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found


def undocumented() -> list[str | None]:
    """For every object, what is missing of it, or None."""
    verdicts: list[str | None] = []
    places: dict[str, str] = {}
    for page in all_pages():
        for heading in headings(page):
            for name in re.findall(r"`(?:pigeon\.)?([\w.]+)(?:\([^`]*)?`", heading):
                places[name] = places.get(name, "") + page.read_text()
    for sql in (FUNCTIONS, RELATIONS, TYPES, SETTINGS):
        for name, parts in query(sql):
            name = name.removeprefix("pigeon.")
            if name not in places:
                verdicts.append(f"{name} has no heading on any page")
                continue
            missing = [part for part in parts.split() if not re.search(rf"\b{re.escape(part)}\b", places[name])]
            verdicts.append(f"{name}: not mentioned: {', '.join(missing)}" if missing else None)
    return verdicts


def broken_links() -> list[str | None]:
    verdicts: list[str | None] = []
    for page in all_pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if re.match(r"\w+:", target):
                continue
            path, _, fragment = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            good = file.exists() and (not fragment or fragment in anchors(file))
            verdicts.append(None if good else f"{page.relative_to(ROOT)}: broken link {target}")
    return verdicts


def versions() -> list[str | None]:
    control = re.search(r"^default_version *= *'(.*)'", (ROOT / "pigeon.control").read_text(), re.M)[1]
    meta = json.loads((ROOT / "META.json").read_text())
    return [None if version == control else f"META.json says version {version}, the control file {control}"
            for version in (meta["version"], meta["provides"]["pigeon"]["version"])]


def main():
    administer(f"DROP DATABASE IF EXISTS {DATABASE}")
    administer(f"CREATE DATABASE {DATABASE}")
    query("CREATE EXTENSION pigeon")
    verdicts = undocumented() + broken_links() + versions()
    problems = [verdict for verdict in verdicts if verdict]
    for verdict in problems:
        print(f"FAILED {verdict}")
    print(f"{len(verdicts) - len(problems)} passed, {len(problems)} failed")
    sys.exit(bool(problems))


main()
