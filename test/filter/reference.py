"""A slow matcher for filter policies, written from the rules as the guide
(docs/filter-policies.md) states them, with no regard for speed.

It exists to be compared with the extension, so it shares neither code nor
method with it: messages are flattened to lists of values, and every
combination of values is tried.
"""
import ipaddress
import itertools
import json
import re
from decimal import Decimal

OPERATORS = {"anything-but", "cidr", "equals-ignore-case", "exists",
             "numeric", "prefix", "suffix", "wildcard"}
NESTABLE = {"equals-ignore-case", "prefix", "suffix", "wildcard"}
INVALID = "22023"
LIMIT = "54000"

MAX_KEYS = 5
MAX_COMBINATIONS = 150
MAX_DEPTH = 100
MAX_COMPLEXITY = 100


class Pairs(list):
    """The members of a JSON object, in order and with duplicates."""


def is_number(value):
    return isinstance(value, Decimal)


def is_string(value):
    return isinstance(value, str)


def parse(text):
    """Reads JSON with exact numbers.  Raises ValueError if it is none."""
    def refuse(constant):
        raise ValueError(constant)
    return json.loads(text, parse_float=Decimal, parse_int=Decimal,
                      parse_constant=refuse, object_pairs_hook=Pairs)


# ---------- policies ----------

class Policy:
    """A policy, as a list of the ways in which a message can match it.

    A way is a list of (path, rules), all of which must match; rules of None
    mean that there must be no value.
    """

    def __init__(self, tree, scope):
        self.scope = scope
        self.errors = set()
        self.paths = set()
        self.complexity = 0
        self.wildcards = False
        self.ways = [[]]
        if depth_of(tree) > MAX_DEPTH:
            self.errors.add(LIMIT)
        if not isinstance(tree, Pairs):
            self.errors.add(INVALID)
            return
        if self.combinations(tree, 1) > MAX_COMBINATIONS:
            self.errors.add(LIMIT)
        if tree:
            self.ways = list(self.object_ways(tree, ()))
        if len(self.paths) > MAX_KEYS:
            self.errors.add(LIMIT)
        if self.wildcards and self.complexity > MAX_COMPLEXITY:
            self.errors.add(LIMIT)

    @staticmethod
    def is_or(name, value):
        return (name == "$or" and type(value) is list and len(value) >= 2 and
                all(isinstance(branch, Pairs) for branch in value) and
                not any(inner in OPERATORS
                        for branch in value for inner, _ in branch))

    def combinations(self, tree, depth):
        product = 1
        for name, value in tree:
            if self.is_or(name, value):
                product *= sum(self.combinations(branch, depth)
                               for branch in value)
            elif isinstance(value, Pairs):
                product *= self.combinations(value, depth + 1)
            elif isinstance(value, list):
                product *= max(len(value), 1) * depth
        return product

    def object_ways(self, tree, prefix):
        if not tree:
            self.errors.add(INVALID)
        choices = []
        for name, value in tree:
            if self.is_or(name, value):
                choices.append([way for branch in value
                                for way in self.object_ways(branch, prefix)])
            elif isinstance(value, Pairs):
                if self.scope == "attributes":
                    self.errors.add(INVALID)
                choices.append(self.object_ways(value, prefix + (name,)))
            elif isinstance(value, list):
                choices.append(self.key_ways(prefix + (name,), value))
            else:
                self.errors.add(INVALID)
        return [sum(choice, []) for choice in itertools.product(*choices)]

    def key_ways(self, names, values):
        path = ".".join(names)
        self.paths.add(path)
        if self.scope == "body" and path.count(".") >= MAX_DEPTH:
            self.errors.add(LIMIT)
        if not values:
            self.errors.add(INVALID)
        absent = [rule for rule in values if is_exists(rule, False)]
        present = [rule for rule in values if not is_exists(rule, False)]
        points = []
        for rule in values:
            self.check_rule(rule, points)
        self.complexity += sum(points) * len(points)
        return ([[(path, present)]] if present else []) + \
               ([[(path, None)]] if absent else [])

    def check_rule(self, rule, points):
        if isinstance(rule, Pairs):
            if len(rule) != 1 or rule[0][0] not in OPERATORS:
                self.errors.add(INVALID)
            else:
                self.check_operator(*rule[0], points)
        elif isinstance(rule, list):
            self.errors.add(INVALID)
        elif is_number(rule):
            self.check_number(rule)

    def check_number(self, number):
        if not is_number(number) or \
           (number != 0 and not -128 <= number.adjusted() <= 126):
            self.errors.add(INVALID)

    def check_operator(self, name, operand, points):
        if name in ("prefix", "suffix", "equals-ignore-case"):
            if not is_string(operand):
                self.errors.add(INVALID)
        elif name == "wildcard":
            points.append(self.check_wildcard(operand))
        elif name == "exists":
            if not isinstance(operand, bool):
                self.errors.add(INVALID)
        elif name == "cidr":
            if not is_string(operand) or not network(operand):
                self.errors.add(INVALID)
        elif name == "numeric":
            self.check_numeric(operand)
        else:
            self.check_anything_but(operand, points)

    def check_wildcard(self, operand):
        self.wildcards = True
        if not is_string(operand) or \
           not re.fullmatch(r"(?:[^*\\]|\\[*\\]|\*(?!\*))*", operand, re.S):
            self.errors.add(INVALID)
            return 0
        stars = sum(part == "*" for part in wildcard_parts(operand))
        if stars > 3:
            self.errors.add(INVALID)
        return stars if stars <= 1 else 3 * stars

    def check_numeric(self, operand):
        if isinstance(operand, Pairs) or not isinstance(operand, list):
            self.errors.add(INVALID)
            return
        relations = operand[0::2]
        numbers = operand[1::2]
        if relations not in ([[r] for r in ("=", "<", "<=", ">", ">=")] +
                             [[low, high] for low in (">", ">=")
                              for high in ("<", "<=")]) or \
           len(numbers) != len(relations) or not all(map(is_number, numbers)):
            self.errors.add(INVALID)
            return
        for number in numbers:
            self.check_number(number)
        if len(numbers) == 2 and numbers[0] >= numbers[1]:
            self.errors.add(INVALID)

    def check_anything_but(self, operand, points):
        inner = []
        if isinstance(operand, Pairs):
            if len(operand) != 1 or operand[0][0] not in NESTABLE:
                self.errors.add(INVALID)
                return
            name, patterns = operand[0]
            if not isinstance(patterns, list) or isinstance(patterns, Pairs):
                patterns = [patterns]
            if not patterns:
                self.errors.add(INVALID)
            for pattern in patterns:
                self.check_operator(name, pattern, inner)
                if pattern == "" and name in ("prefix", "suffix"):
                    self.errors.add(INVALID)
        elif isinstance(operand, list):
            if not operand or not (all(map(is_string, operand)) or
                                   all(map(is_number, operand))):
                self.errors.add(INVALID)
            for value in operand:
                if is_number(value):
                    self.check_number(value)
        elif is_number(operand):
            self.check_number(operand)
        elif not is_string(operand):
            self.errors.add(INVALID)
        points.append(1 + sum(inner))


def depth_of(tree):
    if isinstance(tree, Pairs):
        return 1 + max([depth_of(value) for _, value in tree], default=0)
    if isinstance(tree, list):
        return 1 + max(map(depth_of, tree), default=0)
    return 0


def is_exists(rule, operand):
    return isinstance(rule, Pairs) and len(rule) == 1 and \
        rule[0][0] == "exists" and rule[0][1] is operand


def wildcard_parts(pattern):
    return re.findall(r"\\.|.", pattern, re.S)


def network(text):
    if not re.fullmatch(r"[^/%]+/[0-9]+", text):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


# ---------- values ----------

def accepts(rules, value):
    return any(accepts_one(rule, value) for rule in rules)


def accepts_one(rule, value):
    if isinstance(rule, Pairs):
        return operator_accepts(*rule[0], value)
    return type(rule) is type(value) and rule == value


def operator_accepts(name, operand, value):
    if name == "exists":
        return value is not None and value != ""
    if name == "numeric":
        return is_number(value) and all(
            {"=": value == bound, "<": value < bound, "<=": value <= bound,
             ">": value > bound, ">=": value >= bound}[relation]
            for relation, bound in zip(operand[0::2], operand[1::2]))
    if name == "anything-but":
        return not excluded(operand, value)
    if not is_string(value):
        return False
    if name == "prefix":
        return value.startswith(operand)
    if name == "suffix":
        return value.endswith(operand)
    if name == "equals-ignore-case":
        return value.lower() == operand.lower()
    if name == "wildcard":
        expression = "".join(".*" if part == "*" else re.escape(part[-1])
                             for part in wildcard_parts(operand))
        return re.fullmatch(expression, value, re.S) is not None
    assert name == "cidr"
    try:
        return ipaddress.ip_address(value) in network(operand)
    except ValueError:
        return False


def excluded(operand, value):
    if isinstance(operand, Pairs):
        name, patterns = operand[0]
        if not isinstance(patterns, list):
            patterns = [patterns]
        return any(operator_accepts(name, pattern, value)
                   for pattern in patterns)
    return accepts(operand if isinstance(operand, list) else [operand], value)


# ---------- messages ----------

class Message:
    """A message as a list of (path, value, position), where the position
    says which element of which array the value is in."""

    def __init__(self, tree, nested):
        self.values = []
        self.arrays = 0
        self.nested = nested
        if nested:
            tree = undotted([(name.split("."), value)
                             for name, value in tree])
        for name, value in tree:
            self.flatten([name], value, {})

    def flatten(self, names, value, position):
        if isinstance(value, Pairs):
            for name, inner in value:
                self.flatten(names + [name], inner, position)
        elif isinstance(value, list):
            self.arrays += 1
            array = self.arrays
            for index, inner in enumerate(value):
                self.flatten(names, inner, {**position, array: index})
        else:
            self.values.append((".".join(names), value, position))

    def matches(self, way):
        wanted = [[position for where, value, position in self.values
                   if where == path and accepts(rules, value)]
                  for path, rules in way if rules is not None]
        absent = [path for path, rules in way if rules is None]
        for positions in itertools.product(*wanted):
            picked = {}
            if all(picked.setdefault(array, index) == index
                   for position in positions
                   for array, index in position.items()) and \
               not any(where in absent and
                       all(picked.get(array, index) == index
                           for array, index in position.items())
                       for where, _, position in self.values):
                return True
        return False


def undotted(members):
    """Turns dotted names into nesting, and what one name has several times
    into one object and otherwise into alternatives, as in an array."""
    groups = {}
    for names, value in members:
        groups.setdefault(names[0], []).append((names[1:], value))
    result = Pairs()
    for name, group in groups.items():
        inner = []
        others = []
        is_object = False
        for rest, value in group:
            if rest:
                inner.append((rest, value))
            elif isinstance(value, Pairs):
                inner.extend((key.split("."), item) for key, item in value)
            else:
                others.append(undotted_value(value))
                continue
            is_object = True
        if is_object:
            others.append(undotted(inner))
        result.append((name, others[0] if len(others) == 1 else others))
    return result


def undotted_value(value):
    if isinstance(value, Pairs):
        return undotted([(name.split("."), item) for name, item in value])
    if isinstance(value, list):
        return [undotted_value(item) for item in value]
    return value


def is_binary(value):
    return isinstance(value, Pairs) and len(value) == 1 and \
        value[0][0] == "binary" and is_string(value[0][1])


def is_attribute(value):
    if isinstance(value, Pairs):
        return is_binary(value)
    if isinstance(value, list):
        return not any(isinstance(item, list) for item in value)
    return is_string(value) or is_number(value)


def outcome(policy, attributes, body):
    """What becomes of a message: the result's name, or a set of SQLSTATEs
    for an invalid policy.  Attributes and body are JSON text or None."""
    if policy.errors:
        return policy.errors
    if policy.ways == [[]]:
        return "matched"
    if policy.scope == "body":
        try:
            tree = parse(body) if body is not None else None
        except ValueError:
            tree = None
        if not isinstance(tree, Pairs):
            return "invalid_message_body"
        message = Message(tree, nested=True)
        failure = "message_body"
    else:
        tree = parse(attributes) if attributes is not None else Pairs()
        if isinstance(tree, Pairs) and not tree:
            return "no_message_attributes"
        if not isinstance(tree, Pairs) or \
           not all(is_attribute(value) for _, value in tree):
            return "invalid_attributes"
        message = Message(Pairs((name, value) for name, value in tree
                                if not is_binary(value)), nested=False)
        failure = "message_attributes"
    return "matched" if any(map(message.matches, policy.ways)) else failure
