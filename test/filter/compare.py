#!/usr/bin/env python3
"""Compares the extension's filter policies with the reference matcher, on
random policies and messages.

usage: compare.py [--cases N] [--seed S]
"""
import argparse
import collections
import itertools
import sys

import reference
from database import Database, copy_rows
from generate import Generator

SETUP = """
CREATE TEMP TABLE trial (id int, policy text, scope text, attributes text,
                         body text);
CREATE FUNCTION pg_temp.attempt(policy text, scope text, attributes text,
                                body text)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN pigeon.filter_result(policy::jsonb, scope, attributes::jsonb, body);
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate;
END $$;
COPY trial FROM STDIN;
"""
QUERY = """
COPY (SELECT id, pg_temp.attempt(policy, scope, attributes, body)
      FROM trial ORDER BY id) TO STDOUT;
"""
def make_cases(generator):
    """Yields (policy, scope, attributes, body), all of them text or None."""
    while True:
        generator.focus()
        if generator.chance(0.3):
            policy, bodies = generator.duel()
            policy = generator.text(policy)
            for body in bodies:
                yield policy, "body", None, generator.text(body)
            continue
        scope = generator.pick(["attributes", "body", "body"])
        policy = generator.text(generator.policy(scope))
        for _ in range(5):
            attributes = body = None
            if scope == "attributes":
                tree = generator.attributes()
                if tree is not None:
                    attributes = generator.text(tree)
            elif not generator.chance(0.01):
                body = damaged(generator, generator.text(generator.body()))
            yield policy, scope, attributes, body


def damaged(generator, body):
    """The body, from time to time with a character changed."""
    if generator.chance(0.97):
        return body
    cut = generator.random.randrange(len(body))
    return body[:cut] + generator.pick(
        ["", ",", "}", "\\", "\\u0000", '"']) + body[cut + 1:]


def expected(case, policies):
    policy, scope, attributes, body = case
    key = (policy, scope)
    if key not in policies:
        policies.clear()
        policies[key] = reference.Policy(reference.parse(policy), scope)
    return reference.outcome(policies[key], attributes, body)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    cases = list(itertools.islice(make_cases(Generator(options.seed)),
                                  options.cases))
    with Database("pigeon_filter_compare") as database:
        printed = database.run(
            SETUP.encode() +
            copy_rows([(str(i), *case) for i, case in enumerate(cases)]) +
            QUERY.encode()).decode()
    actual = [line.split("\t")[1] for line in printed.splitlines()]

    failed = 0
    tally = collections.Counter()
    policies = {}
    for case, result in zip(cases, actual, strict=True):
        wanted = expected(case, policies)
        right = (result in wanted if isinstance(wanted, set)
                 else result == wanted)
        tally[result] += 1
        if not right:
            failed += 1
            if failed <= 10:
                print("policy     %s\nscope      %s\nattributes %s\n"
                      "body       %s\nexpected   %s\nactual     %s\n"
                      % (*case, wanted, result))

    # A comparison in which some outcome hardly occurs would prove little.
    outcomes = ["matched", "message_attributes", "message_body",
                "no_message_attributes", "invalid_attributes",
                "invalid_message_body", "22023", "54000"]
    for name in outcomes:
        print("%-22s %d" % (name, tally[name]))
        if tally[name] < options.cases // 1000:
            print("too few cases are %s" % name)
            failed += 1
    print("%d passed, %d failed" % (len(cases) - failed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
