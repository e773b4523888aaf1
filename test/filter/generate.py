"""Random policies and messages, made from few keys and values so that they
have something to say to each other."""
import json
import random

KEYS = ["a", "b", "c", "a.b", "b.c", "a.b.c", "a.a", "", "a b", "$or", "é"]
STRINGS = ["", "a", "b", "ab", "abc", "aab", "aba", "abab", "ba", "A", "AB",
           "aB", "é", "É", "éa", "ÉA", "ж", "Ж", "10", "true", "*", "a*b",
           "\\", "a\\*", "10.0.0.1", "10.0.0.255", "10.0.1.7", "192.168.7.9",
           "010.0.0.1", "10.0.0.1 ", "2001:db8::1", "2001:DB8:0:0::1",
           "2001:db9::1", "::ffff:10.0.0.1", "\U0001f600", "tab\t\"quote\"/"]
NUMBERS = ["0", "-0", "0.0", "0e5", "1", "1.0", "1e0", "10", "1e1", "10.00",
           "100e-1", "0.1e2", "-1", "-10", "-1E1", "10.5", "1.05e+1", "9.99999",
           "9.999990000000001", "0.00001", "1e-5", "1000000000", "1e9",
           "-1e9", "1000000000.00001", "12345678901234567890123456789",
           "12345678901234567890123456788", "1.2345678901234567890123456789e28",
           "123e100", "1.23e102", "1e-100"]
EXTREME_NUMBERS = ["1e400", "1e-400", "-1e131000", "1e126", "1e127", "1e-128",
                   "1e-129", "9.9e126"]
CIDRS = ["10.0.0.0/24", "10.0.0.0/8", "10.0.0.5/25", "10.0.0.1/32",
         "0.0.0.0/0", "2001:db8::/32", "2001:db8::/127", "::/0",
         "2001:db8::1/128", "10.0.0.0/23"]
BAD_CIDRS = ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "2001:db8::/129", "/8",
             "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "x/8", "10.0.0.0/08x",
             ""]
WILDCARDS = ["*", "a*", "*b", "a*b", "*a*", "a*b*", "*a*b*", "a\\*b", "\\\\",
             "ab*ab", "*é*", "a", "", "*\\**", "a*a*a"]
BAD_WILDCARDS = ["**", "a**b", "\\", "a\\", "\\a", "*a*b*c*", "\\\\\\"]


# Strings as a body can write them, though no policy can contain them.
ESCAPED = ['"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"a\\udc00"',
           '"\\ud800\\u0041b"', '"\\ud800\\ud800\\udc00"',
           '"\\uD83D\\uDE00"', '"\\b\\f\\/"']


class Number(str):
    """A number as JSON writes it."""


class Escaped(str):
    """A string as JSON writes it."""


class Members(list):
    """The members of an object, in order, with duplicates."""


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.focus()

    def focus(self):
        """Settles on a few keys and values for what comes next."""
        self.keys = self.random.sample(KEYS, 4)
        self.strings = self.random.sample(STRINGS, 6)
        theme = self.pick(["any", "any", "letters", "addresses"])
        if theme == "letters":
            self.strings[2:] = [self.letters(8) for _ in range(4)]
        elif theme == "addresses":
            self.strings[2:] = [self.address() for _ in range(4)]
        self.numbers = self.random.sample(NUMBERS, 4)

    def pick(self, values):
        return self.random.choice(values)

    def chance(self, probability):
        return self.random.random() < probability

    def duel(self):
        """A policy of one rule, and values that come close to it."""
        name = self.pick(["anything-but", "cidr", "numeric", "wildcard"])
        policy = Members([("a", [self.operator(name)])])
        if name == "cidr":
            values = [self.address() for _ in range(3)]
        elif name == "numeric":
            values = [Number(value) for value in self.random.sample(NUMBERS, 3)]
        else:
            values = [self.letters(12), self.letters(12),
                      self.pick(STRINGS + NUMBERS)]
        values.append(Escaped(self.pick(ESCAPED)))
        return policy, [Members([("a", value)]) for value in values]

    def letters(self, most):
        return "".join(self.random.choices(
            "aab", k=self.random.randint(1, most)))

    def address(self):
        if self.chance(0.3):
            return "2001:db8::%x:%x" % (self.random.randrange(4),
                                        self.random.randrange(0x10000))
        return "10.0.%d.%d" % (self.random.randrange(4),
                               self.random.randrange(256))

    # ---------- policies ----------

    def policy(self, scope):
        if self.chance(0.01):
            return self.pick([None, "a", Number("1"), [], ["a"], Members()])
        return self.policy_object(scope, self.pick([1, 1, 2, 2, 3]), 0)

    def policy_object(self, scope, size, depth):
        members = Members()
        seen = set()
        for _ in range(size if not self.chance(0.005) else 0):
            key = self.pick(self.keys)
            if self.chance(0.08) and depth < 3:
                key = "$or"
                value = [self.policy_object(scope, self.random.randint(1, 2),
                                            depth + 1)
                         for _ in range(self.random.randint(2, 3)
                                        if not self.chance(0.03) else 1)]
            elif depth < 3 and self.chance(0.25 if scope == "body" else 0.01):
                value = self.policy_object(scope, self.random.randint(1, 2),
                                           depth + 1)
            elif self.chance(0.01):
                value = self.scalar()
            else:
                value = self.rules()
            if key not in seen:
                members.append((key, value))
                seen.add(key)
        return members

    def rules(self):
        if self.chance(0.004):
            return []
        if self.chance(0.004):
            return [Number(str(i)) for i in range(151)]
        if self.chance(0.01):
            return [self.operator(self.pick(["wildcard", "anything-but"]))
                    for _ in range(self.random.randint(3, 12))]
        return [self.rule() for _ in range(self.pick([1, 1, 1, 2, 2, 3, 4]))]

    def rule(self):
        if self.chance(0.35):
            return self.scalar()
        if self.chance(0.005):
            return self.pick([[], ["a"], Members(),
                              Members([("prefix", "a"), ("suffix", "b")]),
                              Members([("regex", "a")])])
        return self.operator(self.pick(
            ["anything-but", "anything-but", "cidr", "equals-ignore-case",
             "exists", "exists", "numeric", "numeric", "prefix", "suffix",
             "wildcard", "wildcard"]))

    def operator(self, name):
        if self.chance(0.02):
            operand = self.rule()
        elif name == "anything-but":
            operand = self.anything_but()
        elif name == "cidr":
            operand = self.cidr()
        elif name == "exists":
            operand = self.chance(0.5)
        elif name == "numeric":
            operand = self.numeric()
        elif name == "wildcard":
            operand = self.wildcard()
        else:
            operand = self.pick(self.strings)
        return Members([(name, operand)])

    def cidr(self):
        if self.chance(0.1):
            return self.pick(BAD_CIDRS)
        if self.chance(0.5):
            return self.pick(CIDRS)
        address = self.address()
        return "%s/%d" % (address, self.random.randint(100, 128)
                          if ":" in address else self.random.randint(20, 32))

    def wildcard(self):
        if self.chance(0.05):
            return self.pick(BAD_WILDCARDS)
        if self.chance(0.5):
            return self.pick(WILDCARDS)
        return self.pick(["", "*"]) + "*".join(
            self.letters(4)
            for _ in range(self.random.randint(1, 2))) + self.pick(["", "*"])

    def numeric(self):
        if self.chance(0.04):
            return self.pick([[], ["="], ["=", "1"], ["!", Number("1")],
                              [">", Number("1"), "<"],
                              ["<", Number("1"), ">", Number("0")],
                              [">", Number("1"), "<", Number("1.0")],
                              [">", Number("1"), ">", Number("2")],
                              [">", Number("1"), "<", Number("2"), "<",
                               Number("3")], [Number("1")]])
        if self.chance(0.6):
            return [self.pick(["=", "<", "<=", ">", ">="]),
                    self.policy_number()]
        return [self.pick([">", ">="]), Number(self.pick(["-10", "0", "1"])),
                self.pick(["<", "<="]), Number(self.pick(["1e1", "10.5", "2"]))]

    def anything_but(self):
        form = self.random.random()
        if form < 0.2:
            return self.pick(self.strings)
        if form < 0.35:
            return self.policy_number()
        if form < 0.5:
            return [self.pick(self.strings)
                    for _ in range(self.random.randint(1, 3))]
        if form < 0.6:
            return [self.policy_number()
                    for _ in range(self.random.randint(1, 3))]
        if form < 0.63:
            return self.pick([[], ["a", Number("1")], [None], True, None,
                              Members(), Members([("cidr", "10.0.0.0/8")]),
                              Members([("prefix", "")]),
                              Members([("suffix", [])])])
        name = self.pick(["prefix", "suffix", "wildcard",
                          "equals-ignore-case"])
        patterns = [self.wildcard() if name == "wildcard"
                    else self.pick(STRINGS[1:]) for _ in range(2)]
        return Members([(name, patterns if self.chance(0.3)
                         else patterns[0])])

    def policy_number(self):
        if self.chance(0.03):
            return Number(self.pick(EXTREME_NUMBERS))
        return Number(self.pick(self.numbers))

    # ---------- messages ----------

    def attributes(self):
        if self.chance(0.03):
            return None
        if self.chance(0.02):
            return self.pick([Members(), [], "a", None, Number("1"),
                              Members([("a", True)]), Members([("a", None)]),
                              Members([("a", [[]])]),
                              Members([("a", Members([("b", "c")]))]),
                              Members([("a", Members([("binary", None)]))])])
        members = Members()
        for key in self.random.sample(self.keys, self.random.randint(1, 4)):
            if self.chance(0.07):
                value = Members([("binary", "AAEC")])
            elif self.chance(0.3):
                value = [self.scalar()
                         for _ in range(self.random.randint(0, 3))]
            elif self.chance(0.35):
                value = self.number()
            else:
                value = self.pick(self.strings)
            members.append((key, value))
        return members

    def body(self):
        return self.object(0)

    def object(self, depth):
        members = Members()
        for _ in range(self.random.randint(1, 4)):
            members.append((self.pick(self.keys), self.value(depth + 1)))
        return members

    def value(self, depth):
        if depth < 4 and self.chance(0.3):
            return self.object(depth)
        if depth < 5 and self.chance(0.3):
            return [self.value(depth + 1)
                    for _ in range(self.random.randint(0, 3))]
        if self.chance(0.02):
            return Escaped(self.pick(ESCAPED))
        return self.scalar()

    def scalar(self):
        kind = self.random.random()
        if kind < 0.55:
            return self.pick(self.strings)
        if kind < 0.85:
            return self.number()
        return self.pick([True, False, None])

    def number(self):
        return Number(self.pick(self.numbers))

    # ---------- text ----------

    def text(self, value):
        """JSON for a value, with spaces and escapes here and there."""
        space = self.pick(["", "", " ", "\n\t "]) if self.chance(0.1) else ""
        if isinstance(value, (Number, Escaped)):
            return space + value
        if isinstance(value, str):
            return space + self.string(value)
        if isinstance(value, Members):
            return space + "{" + ",".join(
                self.string(name) + space + ":" + self.text(item)
                for name, item in value) + space + "}"
        if isinstance(value, list):
            return space + "[" + ",".join(map(self.text, value)) + space + "]"
        return space + json.dumps(value)

    def string(self, value):
        if self.chance(0.1):
            return '"' + "".join(
                "\\u%04x" % ord(c) if ord(c) < 0x10000 and self.chance(0.5)
                else json.dumps(c)[1:-1] for c in value) + '"'
        return json.dumps(value, ensure_ascii=self.chance(0.5))
