#!/usr/bin/env python3
"""Feeds hostile receipts and messages to the functions that take them.

Receipts: a text is a receipt exactly if it reads like one, comes back as it
was, and then deletes or changes visibility, or not, or belongs to another
queue; no other error.  Messages: bodies, attributes, groups, deduplication
ids and subjects are sent, published and received; whether they are accepted
must agree with the rules written down here, and what is accepted must arrive
unchanged.  No input may crash the server, take long, or leave memory behind.

usage: messages.py [--inputs N] [--seed S]
"""
import argparse
import base64
import collections
import json
import os
import random
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "filter"))
# pylint: disable-next=wrong-import-position
from database import Database, copy_rows  # noqa: E402

BATCH = 5000
MAX_GROWTH = 512 * 1024
ENCODINGS = [("UTF8", "C.UTF-8", "utf-8"), ("SQL_ASCII", "C", "latin-1")]
OUTCOMES = ["receipt accepted", "receipt refused", "receipt of a message",
            "message accepted", "message refused"]

SETUP = """
SET statement_timeout = '60s';
SELECT pigeon.create_queue('q', max_message_size => 4096);
SELECT pigeon.create_queue('other');
SELECT pigeon.create_queue('fifo', fifo => true, max_message_size => 4096);
SELECT pigeon.create_topic('t', max_message_size => 4096);
SELECT pigeon.create_queue('subscriber');
SELECT pigeon.subscribe('t', 'subscriber');
SELECT pigeon.send('q', 'x') FROM generate_series(1, 20);
CREATE TEMP TABLE input (id int, kind text, body text, attributes text, group_id text, deduplication_id text,
    subject text, accept boolean);
CREATE TEMP TABLE leased AS SELECT receipt FROM pigeon.receive('q', 20, '12 h');

-- Every trial says what it came to; an error that is not foreseen ends the
-- run.
CREATE FUNCTION pg_temp.try_receipt(i input) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    r pigeon.receipt;
BEGIN
    BEGIN
        r := i.body::pigeon.receipt;
    EXCEPTION WHEN invalid_text_representation THEN
        RETURN CASE WHEN i.accept THEN 'FAILED ' || i.id
                    ELSE 'receipt refused' END;
    END;
    IF NOT i.accept OR r::text <> i.body
       OR NOT r OPERATOR(pigeon.=) i.body::pigeon.receipt THEN
        RETURN 'FAILED ' || i.id;
    END IF;
    BEGIN
        IF pigeon.change_visibility('q', r, '1 h')
           AND (SELECT a FROM unnest(pigeon.change_visibility('q', ARRAY[r], '1 h')) AS a) THEN
            RETURN 'receipt of a message';
        END IF;
        PERFORM pigeon.delete('other', ARRAY[r, r]);
        PERFORM pigeon.delete('fifo', r);
        PERFORM pigeon.delete('other', r);
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL;
    END;
    RETURN 'receipt accepted';
END $$;

CREATE FUNCTION pg_temp.arrived(i input, m pigeon.message) RETURNS boolean
LANGUAGE sql AS $$
    SELECT m.body = i.body AND m.attributes IS NOT DISTINCT FROM i.attributes::jsonb
$$;

CREATE FUNCTION pg_temp.try_message(i input) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    accepted boolean := true;
    arrived boolean;
    attributes jsonb;
BEGIN
    BEGIN
        attributes := i.attributes;
        IF i.subject IS NOT NULL THEN
            PERFORM pigeon.publish('t', i.body, i.subject, attributes, i.group_id, i.deduplication_id);
            SELECT pg_temp.arrived(i, m) AND m.subject = i.subject INTO arrived FROM pigeon.pop('subscriber') m;
        ELSIF i.deduplication_id IS NOT NULL THEN
            PERFORM pigeon.send('fifo', i.body, attributes, group_id => i.group_id,
                                deduplication_id => i.deduplication_id);
            SELECT pg_temp.arrived(i, m) AND m.group_id = i.group_id
                   AND m.deduplication_id = i.deduplication_id INTO arrived FROM pigeon.pop('fifo') m;
            PERFORM pigeon.purge_queue('fifo');
        ELSE
            PERFORM pigeon.send('q', i.body, attributes, group_id => i.group_id);
            SELECT pg_temp.arrived(i, m) AND m.group_id IS NOT DISTINCT FROM i.group_id INTO arrived FROM pigeon.pop('q') m;
        END IF;
    EXCEPTION WHEN invalid_parameter_value OR program_limit_exceeded OR invalid_text_representation
                   OR untranslatable_character OR statement_too_complex OR numeric_value_out_of_range THEN
        accepted := false;
    END;
    IF accepted AND arrived IS NOT TRUE OR i.accept <> accepted THEN
        RETURN 'FAILED ' || i.id;
    END IF;
    RETURN CASE WHEN accepted THEN 'message accepted' ELSE 'message refused' END;
END $$;

-- What a context has in reserve is no leak, nor are the buffers of the temporary table, up to temp_buffers.
CREATE FUNCTION pg_temp.memory() RETURNS bigint
LANGUAGE sql AS $$
    SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts
    WHERE name <> 'LocalBufferContext'
$$;
"""
RUN = b"""
SELECT 'outcome ' || count(*) || ' ' || outcome
FROM (SELECT CASE kind WHEN 'receipt' THEN pg_temp.try_receipt(input)
                       ELSE pg_temp.try_message(input) END AS outcome
      FROM input OFFSET 0) AS trial
GROUP BY outcome;
SELECT 'memory ' || pg_temp.memory();
TRUNCATE input;
CALL pigeon.maintain();
"""
END = b"SELECT 'damage ' || object || ' ' || problem FROM pigeon.check();\n"

RECEIPT = re.compile(r"(0|[1-9][0-9]*)-(0|[1-9][0-9]*)-(0|[1-9][0-9]*)-"
                     r"(0|[1-9a-f][0-9a-f]*)", re.ASCII)
ATTRIBUTE_NAME = re.compile(r"(?!aws\.|amazon\.)[a-z0-9_-]+(\.[a-z0-9_-]+)*",
                            re.IGNORECASE | re.ASCII)


def is_receipt(text):
    match = RECEIPT.fullmatch(text)
    return match is not None and all(
        int(part, base) < limit for part, base, limit in zip(
            match.groups(), (10, 10, 10, 16), (2**31, 2**63, 2**31, 2**32)))


def is_id(text):
    return 1 <= len(text) <= 128 and all("!" <= c <= "~" for c in text)


class Fuzzer:
    def __init__(self, seed, codec):
        self.random = random.Random(seed)
        self.codec = codec

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, values):
        return self.random.choice(values)

    def size(self, text):
        return len(text.encode(self.codec))

    def forbidden(self, text):
        """Has it a character that a message must not have?"""
        return any(c < " " and c not in "\t\n\r" or
                   self.codec == "utf-8" and c in "\ufffe\uffff"
                   for c in text)

    def characters(self, n):
        """Text, sometimes with characters that are not allowed."""
        ranges = [(0x20, 0x7f)] * 6 + [(9, 14), (0x7f, 0x100)]
        if self.chance(0.05):
            ranges.append((1, 0x20))
        if self.codec == "utf-8":
            ranges += [(0x100, 0xd800), (0xe000, 0xfffe), (0x10000, 0x110000)]
            if self.chance(0.05):
                ranges.append((0xfffe, 0x10000))
        return "".join(chr(self.random.randrange(*self.pick(ranges)))
                       for _ in range(n))

    def length(self):
        return self.pick([0, 1, 1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 127, 128,
                          129])

    def receipt(self):
        numbers = [self.pick(["0", "1", "2", "3", "2147483647", "2147483648",
                              "9223372036854775807", "9223372036854775808",
                              str(self.random.randrange(2**self.random
                                                        .randrange(1, 70)))])
                   for _ in range(3)]
        text = "-".join(numbers + [format(self.random.randrange(
            2**self.random.randrange(1, 34)), "x")])
        if self.chance(0.5):
            at = self.random.randrange(len(text) + 1)
            to = min(len(text), at + self.random.randrange(3))
            text = text[:at] + self.pick(
                ["", "", "-", "--", "0", "00", " ", "+", "f", "F", "g", "x",
                 "\n", "9" * 30, self.characters(2), text]) + text[to:]
        return text

    def value(self):
        """An attribute's value as JSON, whether it is allowed, and its size."""
        kind = self.random.randrange(12)
        if kind < 4:
            text = self.characters(self.length())
            return (json.dumps(text, ensure_ascii=False),
                    text != "" and not self.forbidden(text),
                    6 + self.size(text))
        if kind < 7:
            digits = str(self.random.randrange(10**self.pick([1, 3, 38, 39,
                                                              40])))
            exponent = self.pick([0, 0, 0, -1, 1, 20, -20, 87, 90, 126, 127,
                                  -128, -129, -150, 200])
            sign = self.pick(["", "-"])
            shown = digits + ("e%d" % exponent if exponent else "")
            stripped = digits.strip("0") if digits != "0" else ""
            magnitude = len(digits.lstrip("0")) - 1 + exponent
            good = (digits.strip("0") == "" or
                    len(stripped) <= 38 and -128 <= magnitude <= 126)
            return sign + shown, good, 6 + 1 + len(digits) + abs(exponent)
        if kind < 9:
            data = self.random.randbytes(self.length())
            text = base64.b64encode(data).decode()
            good = data != b""
            if self.chance(0.2):
                text = text + self.pick(["!", "=", "====", "A", "\u00e9"])
                good = False
            return json.dumps({"binary": text}, ensure_ascii=False), good, \
                6 + len(data)
        if kind < 10:
            elements, good, size = [], True, 12
            for _ in range(self.random.randrange(4)):
                element = self.pick(["1", "true", "false", "null", '"x"', '""',
                                     '"\u00e9"', "[]", "{}", "[1]", "1e200",
                                     '"\\u0001"'])
                good = good and element not in ("[]", "{}", "[1]", "1e200",
                                                '"\\u0001"')
                elements.append(element)
                size += 200 if "e2" in element else len(element) + 2
            return "[" + ", ".join(elements) + "]", good, size
        return self.pick(["true", "false", "null", "{}", '{"a": 1}',
                          '{"binary": 1}', '{"binary": "AA==", "a": 1}',
                          "[" * 500 + "]" * 500]), False, 0

    def name(self):
        if self.chance(0.9):
            name = self.pick(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
                              "k", "a.b", "A-b_c.9", "n" * 256])
        else:
            name = self.pick(["", ".", ".a", "a.", "a..b", "n" * 257, "AWS.x",
                              "aws.", "Amazon.y", "a b", "\u00e9", "a\n",
                              "amazonas", "a/b"])
        return name, (ATTRIBUTE_NAME.fullmatch(name) is not None
                      and len(name) <= 256)

    def attributes(self):
        """Attributes as JSON, whether they are allowed, and their size at
        most."""
        if self.chance(0.03):
            return self.pick(["1", "[]", '"x"', "null", "{", "", "[[[[",
                              "[" * 10000 + "]" * 10000, '{"a": NaN}',
                              '{"a": "\\u0000"}']), False, 0
        members, good, size = {}, True, 0
        for _ in range(self.pick([0, 1, 1, 2, 3, 9, 10, 11])):
            name, name_good = self.name()
            if name in members:
                continue
            value, value_good, value_size = self.value()
            members[name] = value
            good = good and name_good and value_good
            size += self.size(name) + value_size
        good = good and len(members) <= 10
        return "{" + ", ".join(
            json.dumps(name, ensure_ascii=False) + ": " + value
            for name, value in members.items()) + "}", good, size

    def identifier(self):
        if self.chance(0.8):
            return "".join(chr(self.random.randrange(33, 127))
                           for _ in range(self.pick([1, 2, 64, 128])))
        return self.characters(self.length())

    def message(self, number):
        body = self.characters(self.length())
        if self.chance(0.01):
            body = self.pick(["x" * 4096, "x" * 4097, "[" * 4000,
                              "\u00e9" * 2048, "\u00e9" * 2049])
        good = body != "" and not self.forbidden(body)
        size = self.size(body)
        attributes = group = deduplication = subject = None
        if self.chance(0.6):
            attributes, allowed, more = self.attributes()
            good = good and allowed
            size += more
            if more > 3500 and good:   # the size is only known to be less
                attributes, size = None, self.size(body)
        good = good and size <= 4096
        where = self.random.randrange(3)
        if where > 0 or self.chance(0.5):
            group = self.identifier()
            good = good and is_id(group)
        if where == 1:
            deduplication = self.identifier()
            good = good and is_id(deduplication)
        elif where == 2:
            subject = self.pick(["s", "x" * 100, "x" * 101,
                                 self.characters(self.length())])
            good = (good and 1 <= len(subject.encode(self.codec) if self.codec == "latin-1" else subject) <= 100 and
                    all(c >= " " and c != "\x7f" for c in subject) and
                    (self.codec != "utf-8" or not any("\x80" <= c <= "\x9f" or c in "\u2028\u2029\ufffe\uffff" for c in subject)))
        return (str(number), "message", body, attributes, group,
                deduplication, subject, "t" if good else "f")

    def row(self, number, leased):
        if self.chance(0.5):
            text = self.pick(leased) if self.chance(0.1) else self.receipt()
            return (str(number), "receipt", text, None, None, None, None,
                    "t" if is_receipt(text) else "f")
        return self.message(number)

    def encoded(self, row):
        return tuple(field if field is None else field.encode(self.codec)
                     for field in row)


def fuzz(name, locale, codec, inputs, seed):
    """Runs inputs in a database of this encoding.  Returns the number of
    failures."""
    fuzzer = Fuzzer(seed, codec)
    rows = {}

    def script():
        yield SETUP.encode()
        # Queue 1, messages 1 to 20: their leases are random, so mostly lost.
        leased = ["1-%d-1-%x" % (message, fuzzer.random.randrange(2**32))
                  for message in range(1, 21)]
        for start in range(0, inputs, BATCH):
            batch = [fuzzer.row(number, leased)
                     for number in range(start, min(start + BATCH, inputs))]
            rows.update({row[0]: row for row in batch})
            yield (b"COPY input FROM STDIN;\n" +
                   copy_rows(map(fuzzer.encoded, batch)) +
                   b"UPDATE input SET body = (SELECT receipt::text FROM leased ORDER BY receipt::text OFFSET id % 20 LIMIT 1), accept = true"
                   b" WHERE kind = 'receipt' AND id % 10 = 0;\n" + RUN)
        yield END

    with Database("pigeon_message_fuzz", name, locale) as database:
        lines = database.run(script()).decode(errors="replace").splitlines()

    failures = [line for line in lines if line.startswith("damage")]
    tally = collections.Counter()
    for line in lines:
        if line.startswith("outcome"):
            _, count, outcome = line.split(" ", 2)
            tally[outcome] += int(count)
            if outcome.startswith("FAILED"):
                number = outcome.split()[1]
                failures.append("seed %d, encoding %s, input %s"
                                % (seed, name, rows[number]))
    for failure in failures[:10]:
        print("failed: " + failure)
    memory = [int(line.split()[1]) for line in lines
              if line.startswith("memory")]
    growth = memory[-1] - memory[min(1, len(memory) - 1)]
    print("%-10s %8d inputs, memory %d kB, grown by %d bytes"
          % (name, inputs, memory[-1] // 1024, growth))
    for outcome in OUTCOMES:
        print("  %-25s %d" % (outcome, tally[outcome]))
    missing = [outcome for outcome in OUTCOMES
               if tally[outcome] < inputs // 100]
    for outcome in missing:
        print("too few inputs came to: " + outcome)
    return len(failures) + len(missing) + (growth > MAX_GROWTH)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    share = -(-options.inputs // len(ENCODINGS))
    failed = sum(fuzz(name, locale, codec, share, options.seed + place)
                 for place, (name, locale, codec) in enumerate(ENCODINGS))
    print("%d passed, %d failed" % (share * len(ENCODINGS) - failed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
