"""Message bodies: what is sent, and how a script refers to it.

Every body is JSON, because one of the peers stores nothing else, and its filler is random base64, so that no peer's
storage can compress it.  A small body travels as a parameter of the statement, as from a real client.  A large one
(pgbench takes its variables from the command line, which ends at 128 kB) and the feed, whose lines differ, are read
from the table bench_body in the peer's own database: the same look-up for every peer.
"""

import base64
import json
import random
from dataclasses import dataclass
from pathlib import Path

FEED = Path(__file__).parent.parent / "data" / "earthquakes.ndjson"
LONGEST_PARAMETER = 100_000


@dataclass(frozen=True)
class Body:
    """One kind of body: a single text, or lines of which a script takes a random one."""

    name: str
    lines: tuple[str, ...]

    @property
    def is_parameter(self) -> bool:
        return len(self.lines) == 1 and len(self.lines[0]) <= LONGEST_PARAMETER

    def variables(self) -> dict[str, str]:
        """Variables that pgbench must define for the expressions below."""
        return {"body": self.lines[0]} if self.is_parameter else {}

    def preamble(self, count: int = 1) -> str:
        """Commands that a script needs before it uses the expressions below for `count` messages."""
        if self.is_parameter:
            return ""
        return f"\\set line random(1, {max(1, len(self.lines) - count + 1)})\n"

    def one(self) -> str:
        """SQL expression of one body, for a pgbench script."""
        if self.is_parameter:
            return "(:body)::text"
        return f"(SELECT body FROM bench_body WHERE name = '{self.name}' AND line = :line)"

    def many(self, count: int) -> str:
        """SQL expression of an array of `count` bodies, for a pgbench script."""
        if len(self.lines) == 1:
            return f"array_fill({self.one()}, ARRAY[{count}])"
        return f"ARRAY(SELECT body FROM bench_body WHERE name = '{self.name}' AND line BETWEEN :line AND :line + {count - 1})"

    def stored(self, count: int) -> str:
        """SQL expression of an array of `count` bodies without any script variable."""
        return (f"ARRAY(SELECT body FROM bench_body, generate_series(0, {count - 1} / {len(self.lines)})"
                f" WHERE name = '{self.name}' LIMIT {count})")


def _document(size: int) -> str:
    """A JSON document of exactly `size` bytes that does not compress."""
    head = {"order": 4711, "customer": "c-1089", "state": "paid", "note": ""}
    filler = size - len(json.dumps(head))
    head["note"] = base64.b64encode(random.Random(size).randbytes(filler)).decode()[:filler]
    return json.dumps(head)


def load() -> dict[str, Body]:
    """All bodies by name."""
    sizes = {"100 B": 100, "1 kB": 1000, "10 kB": 10_000, "1 MB": 1_000_000}
    bodies = {name: Body(name, (_document(size),)) for name, size in sizes.items()}
    bodies["feed"] = Body("feed", tuple(FEED.read_text().splitlines()))
    return bodies


def install(sql) -> None:
    """Store every body in the table bench_body, through `sql`, which runs SQL text in one database."""
    sql("CREATE TABLE bench_body (name text, line integer, body text, PRIMARY KEY (name, line));"
        "ALTER TABLE bench_body ALTER COLUMN body SET STORAGE EXTERNAL;")
    for body in load().values():
        rows = "\n".join(f"{body.name}\t{number}\t" + line.replace("\\", "\\\\") for number, line in
                         enumerate(body.lines, 1))
        sql(f"COPY bench_body FROM stdin;\n{rows}\n\\.\n")
    sql("VACUUM ANALYZE bench_body")
