#!/usr/bin/env python3
"""Checks that every SQL example of docs/filter-policies.md is executed, as it
stands there, by the regression test sql/filter_policy.sql, and that the
guide shows the results the test expects.

usage: examples.py
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOWN = {"t": "true", "f": "false"}


def results_of(statement, expected):
    """What the expected output has after a statement, as the guide shows it."""
    output = expected[expected.index(statement) + len(statement):]
    lines = []
    for line in output.lstrip("\n").splitlines():
        if re.match(r"SELECT|--", line):
            break
        lines.append(SHOWN.get(line, line))
    return lines


def main():
    guide = (ROOT / "docs/filter-policies.md").read_text()
    test = (ROOT / "sql/filter_policy.sql").read_text()
    expected = (ROOT / "expected/filter_policy.out").read_text()
    # A result is indented, or stands in a block of its own.
    guide = re.sub(r"```\n+```text\n(.*?)```\n",
                   lambda m: "```\n\n" + re.sub(r"(?m)^", "    ", m[1].rstrip("\n")) + "\n",
                   guide, flags=re.S)
    passed = failed = 0
    for block, shown in re.findall(r"```sql\n(.*?)```\n\n((?:    [^\n]*\n)+)",
                                   guide, re.S):
        statements = re.findall(r".*?;\n", block, re.S)
        results = [line.strip() for line in shown.splitlines()]
        wanted = []
        for statement in statements:
            if statement not in test or statement not in expected:
                print("not in the regression test:\n" + statement)
                failed += 1
                continue
            wanted += results_of(statement, expected)
        if results == wanted:
            passed += len(statements)
        else:
            print("the guide shows %s, the test expects %s:\n%s"
                  % (results, wanted, block))
            failed += 1
    if guide.count("```sql") != len(re.findall(r"```\n\n    ", guide)):
        print("an example has no result")
        failed += 1
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
