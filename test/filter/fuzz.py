#!/usr/bin/env python3
"""Feeds hostile policies, attributes and bodies to the filter functions.

No input may crash the server, raise an error that is not a verdict on the
policy, take long, or leave memory behind.  A body must be found invalid
exactly if PostgreSQL's type json refuses it, it is not an object, or it is
nested more than 1,000 levels deep.

usage: fuzz.py [--inputs N] [--seed S]
"""
import argparse
import collections
import itertools
import json
import random
import sys

from database import Database, copy_rows
from generate import Generator, Members

BATCH = 5000
MAX_GROWTH = 512 * 1024
# Inputs that hardly ever come to one of these would prove little.
OUTCOMES = ["policy that is not jsonb", "policy accepted", "policy invalid",
            "policy over a limit", "body matched", "body filtered out",
            "body invalid"]
ENCODINGS = [("UTF8", "C.UTF-8", "utf-8"), ("SQL_ASCII", "C", "latin-1"),
             ("LATIN1", "C", "latin-1"), ("EUC_JP", "C", "euc_jp")]

SETUP = """
SET statement_timeout = '60s';
CREATE TEMP TABLE input (id int, kind text, scope text, policy text,
                         attributes text, body text, deep boolean);

-- Every trial says what it came to; anything else is an error that ends the
-- run.  A policy may be refused, and jsonb_in may refuse it before.
CREATE FUNCTION pg_temp.try_policy(i input) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    policy jsonb;
    attributes jsonb;
BEGIN
    BEGIN
        policy := i.policy;
        attributes := i.attributes;
    EXCEPTION WHEN data_exception OR program_limit_exceeded OR
                   statement_too_complex OR feature_not_supported THEN
        RETURN 'policy that is not jsonb';
    END;
    BEGIN
        PERFORM pigeon.filter_result(policy, i.scope, attributes, i.body);
        RETURN 'policy accepted';
    EXCEPTION WHEN invalid_parameter_value THEN
        RETURN 'policy invalid';
    WHEN program_limit_exceeded THEN
        RETURN 'policy over a limit';
    END;
END $$;

CREATE FUNCTION pg_temp.is_object(body text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN json_typeof(body::json) = 'object';
EXCEPTION WHEN invalid_text_representation OR statement_too_complex THEN
    RETURN false;
END $$;

CREATE FUNCTION pg_temp.try_body(i input) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result text := pigeon.filter_result(i.policy::jsonb, 'body', NULL, i.body);
BEGIN
    IF (result <> 'invalid_message_body')
       <> (NOT i.deep AND pg_temp.is_object(i.body)) THEN
        RETURN 'FAILED ' || i.id;
    END IF;
    RETURN CASE result WHEN 'matched' THEN 'body matched'
                       WHEN 'message_body' THEN 'body filtered out'
                       ELSE 'body invalid' END;
END $$;

-- What a context has in reserve is no leak, nor are the buffers of the temporary table, up to temp_buffers.
CREATE FUNCTION pg_temp.memory() RETURNS bigint
LANGUAGE sql AS $$
    SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts
    WHERE name <> 'LocalBufferContext'
$$;

-- One statement that goes through many policies and messages: what it has
-- taken by its end is what would be lost.
CREATE FUNCTION pg_temp.soak() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    taken bigint;
    i input;
    verdict text;
BEGIN
    FOR round IN 1 .. 3 LOOP
        taken := pg_temp.memory() - before;
        before := pg_temp.memory();
        FOR i IN SELECT * FROM input WHERE kind = 'body' LOOP
            verdict := pigeon.filter_result(i.policy::jsonb, 'body', NULL,
                                            i.body);
        END LOOP;
    END LOOP;
    RETURN taken;
END $$;
"""
RUN = b"""
SELECT 'outcome ' || count(*) || ' ' || outcome
FROM (SELECT CASE kind WHEN 'policy' THEN pg_temp.try_policy(input)
                       ELSE pg_temp.try_body(input) END AS outcome
      FROM input OFFSET 0) AS trial
GROUP BY outcome;
SELECT 'memory ' || pg_temp.memory();
SELECT 'soak ' || pg_temp.soak();
TRUNCATE input;
"""

TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b'""', b"\\", b"\\u",
          b"\\u0000", b"\\ud83d", b"\\ude00", b"\\u00e9", b"\\u4e2d",
          b"\\uFFFF", b"\\x", b"-", b"+", b".", b"e", b"E", b"0", b"00",
          b"-0", b"1e999", b"1e-99999999999999999999999", b"true", b"tru",
          b"null", b"nul", b"NaN", b"Infinity", b" ", b"\n", b"\x0b", b"\x01",
          b"\x7f", b"\x80", b"\xc3", b"\xe9", b"\xff", b"//", b"'",
          b'"$or":[{},{}],', b'"exists"', b'"anything-but"', b'"wildcard"',
          b'"a":1,', b'"a.b":', b'{"prefix":""}', b'["<",0]', b"**", b"/"]


class Fuzzer:
    def __init__(self, seed, codec):
        self.random = random.Random(seed)
        self.generator = Generator(seed)
        self.codec = codec

    def mutate(self, text):
        """Changes a few places of a text, as bytes."""
        data = bytearray(text.encode(self.codec, "replace"))
        for _ in range(self.random.choice([0, 0, 0, 0, 1, 1, 1, 2, 8])):
            at = self.random.randrange(len(data) + 1)
            to = min(len(data), at + self.random.randrange(12))
            change = self.random.randrange(6)
            if change == 0:
                del data[at:to]
            elif change == 1:
                data[at:at] = data[at:to] * self.random.randrange(1, 4)
            elif change == 2 and at < len(data):
                data[at] = self.random.randrange(1, 256)
            elif change == 3:
                data[at:to] = self.random.choice(TOKENS)
            elif change == 4:
                data[at:at] = self.random.choice(TOKENS)
            else:
                data[at:to] = reversed(data[at:to])
        return self.clean(bytes(data))

    def disturb(self, tree):
        """Puts other values in a few places of a tree."""
        if self.random.random() < 0.1:
            return self.random.choice(
                [self.generator.rule, self.generator.rules,
                 lambda: self.generator.policy("body"),
                 lambda: self.generator.value(0), lambda: Members(),
                 lambda: "".join(map(chr, self.random.choices(
                     range(1, 0x250), k=self.random.randrange(8))))])()
        if isinstance(tree, Members):
            return Members((name, self.disturb(value))
                           for name, value in tree)
        if isinstance(tree, list):
            return [self.disturb(value) for value in tree]
        return tree

    def clean(self, data):
        """Leaves what a text in this encoding can contain."""
        data = data.replace(b"\0", b"0")
        if self.codec == "latin-1":
            return data
        return data.decode(self.codec, "ignore").encode(self.codec)

    def noise(self):
        """Bytes without any structure, or tokens without any."""
        if self.random.random() < 0.5:
            return self.clean(self.random.randbytes(
                self.random.randrange(40)))
        return self.clean(b"".join(self.random.choices(
            TOKENS, k=self.random.randrange(20))))

    def deep(self):
        """Nesting, mostly around the limit, sometimes far beyond."""
        depth = self.random.choice([10, 99, 100, 101, 998, 999, 1000, 1001,
                                    2000, 20000])
        opening, closing = self.random.choice(
            [(b"[", b"]"), (b'{"a":', b"}"), (b'{"a":[', b"]}"),
             (b'{"$or":[{"a":["b"]},', b"]}"), (b'{"a.a":', b"}")])
        if len(opening) > 6:
            depth //= 2
        text = opening * depth + self.random.choice(
            [b"1", b'["a"]', b'{"b":["c"]}', b""]) + closing * depth
        if self.random.random() < 0.5:
            text = b'{"a":' + text + b"}"
        return text

    def huge(self):
        """A policy meant to take long or much."""
        many = self.random.choice([10, 151, 5000])
        return self.random.choice([
            '{"a":[{"anything-but":[%s]}]}' % ",".join(
                ["1e131000"] * many),
            '{"a":[{"anything-but":[%s]}]}' % ",".join(
                '"%d"' % i for i in range(many)),
            '{"a":[{"anything-but":{"wildcard":[%s]}}]}' % ",".join(
                ['"*a*b*"'] * many),
            '{"%s":["a"]}' % ".".join(["a"] * many),
            '{"a":[{"wildcard":"*%s*b"}]}' % ("a" * many),
            "{%s}" % ",".join('"%d":["a"]' % i for i in range(many)),
            '{"$or":[%s]}' % ",".join(['{"a":["a"],"b":["b"]}'] * many),
            "{%s}" % ",".join(
                '"%d":{"$or":[{"a":["a"]},{"b":["b"]}]}' % i
                for i in range(many)),
            '{"a":[%s]}' % ",".join(['"a"'] * many),
            '{"a":[{"equals-ignore-case":"%s"}]}' % ("\u00c9" * many),
        ]).encode(self.codec, "replace")

    def valid_policy(self):
        """A policy that is accepted."""
        key = json.dumps(self.generator.pick(self.generator.keys),
                         ensure_ascii=False)
        return self.generator.pick([
            '{%s:[{"exists":true}]}' % key, '{%s:[{"exists":false}]}' % key,
            '{"a":["a"]}', '{"a":{"b":[1],"c":[{"exists":false}]}}',
            '{"a.b":[{"anything-but":{"wildcard":"*a*b*"}}]}',
            '{"$or":[{"a":[{"prefix":"a"}]},{"b":[{"numeric":[">",0]}]}]}',
            '{"a":[{"equals-ignore-case":"ab"},{"cidr":"10.0.0.0/8"}],'
            '"a.b":[{"exists":true}],"a.a":[null,true]}',
        ]).encode(self.codec)

    def body(self):
        choice = self.random.random()
        if choice < 0.001:
            return self.deep()
        if choice < 0.0015:
            return b'{"a":"%s"}' % (b"a" * 100000)
        if choice < 0.002:
            return b'{"a":[%s]}' % b",".join([b'{"b":1,"c":2}'] * 5000)
        if choice < 0.1:
            return self.noise()
        return self.mutate(self.generator.text(self.generator.body()))

    def policy(self):
        choice = self.random.random()
        if choice < 0.002:
            return self.deep()
        if choice < 0.006:
            return self.huge()
        if choice < 0.05:
            return self.noise()
        tree = self.generator.policy(
            self.generator.pick(["attributes", "body"]))
        if choice < 0.7:
            return self.clean(self.generator.text(self.disturb(tree))
                              .encode(self.codec, "replace"))
        return self.mutate(self.generator.text(tree))

    def attributes(self):
        tree = self.generator.attributes()
        if tree is None:
            return None
        return self.clean(self.generator.text(self.disturb(tree))
                          .encode(self.codec, "replace"))

    def row(self, number):
        if number % 50 == 0:
            self.generator.focus()
        if self.random.random() < 0.5:
            body = self.body()
            return (str(number), "body", "body", self.valid_policy(), None,
                    body, "t" if is_deep(body) else "f")
        return (str(number), "policy",
                self.generator.pick(["attributes", "body"]), self.policy(),
                self.attributes(), self.body(), "f")


def is_deep(text):
    """Does the text nest more than 1,000 levels?  Strings that matter here
    contain no brackets."""
    if text.count(b"[") + text.count(b"{") <= 1000:
        return False
    depth = deepest = 0
    for byte in text:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest > 1000


def fuzz(name, locale, codec, inputs, seed):
    """Runs inputs in a database of this encoding.  Returns the number of
    failures."""
    fuzzer = Fuzzer(seed, codec)
    interesting = {}

    def script():
        yield SETUP.encode()
        for start in range(0, inputs, BATCH):
            rows = [fuzzer.row(number)
                    for number in range(start, min(start + BATCH, inputs))]
            interesting.clear()
            interesting.update({row[0]: row for row in rows})
            yield b"COPY input FROM STDIN;\n" + copy_rows(rows) + RUN

    with Database("pigeon_filter_fuzz", name, locale) as database:
        lines = database.run(script()).decode().splitlines()

    failures = []
    tally = collections.Counter()
    for line in lines:
        if line.startswith("outcome"):
            _, count, outcome = line.split(" ", 2)
            tally[outcome] += int(count)
            if outcome.startswith("FAILED"):
                failures.append(outcome.split()[1])
    for number in failures[:10]:
        print("failed: seed %d, encoding %s, input %s %r"
              % (seed, name, number, interesting.get(number, "")))
    memory = [int(line.split()[1]) for line in lines
              if line.startswith("memory")]
    soaked = max(int(line.split()[1]) for line in lines
                 if line.startswith("soak"))
    growth = memory[-1] - memory[min(1, len(memory) - 1)]
    print("%-10s %8d inputs, memory %d kB, grown by %d bytes, "
          "within a statement by %d" % (name, inputs, memory[-1] // 1024,
                                        growth, soaked))
    missing = [outcome for outcome in OUTCOMES
               if tally[outcome] < inputs // 1000]
    for outcome in OUTCOMES:
        print("  %-25s %d" % (outcome, tally[outcome]))
    for outcome in missing:
        print("too few inputs came to: " + outcome)
    return (len(failures) + len(missing) + (growth > MAX_GROWTH) +
            (soaked > MAX_GROWTH))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    share = -(-options.inputs // len(ENCODINGS))
    failed = sum(fuzz(name, locale, codec, share, seed)
                 for (name, locale, codec), seed
                 in zip(ENCODINGS, itertools.count(options.seed)))
    print("%d passed, %d failed" % (share * len(ENCODINGS) - failed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
