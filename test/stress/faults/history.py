"""What clients know of their calls, and whether a correct queue can have behaved so.

A client notes down each of its transactions with its outcome: COMMITTED, if
the server said so; ABORTED, if it cannot have been committed; UNKNOWN, if the
connection was lost after the commit was asked for.  Nothing is concluded from
what a transaction of unknown outcome wrote, but what was shown to it was shown.

A message has a number, which its body begins with and which is used for no
other message; so all of this can be told without believing what the database
says of itself.  Times are seconds; client and server have the same clock.
"""
import dataclasses
import enum
import math

# The clocks of two processes may be read in one order and compared in the other.
TOLERANCE = 0.001


class Outcome(enum.Enum):
    COMMITTED = 1
    ABORTED = 2
    UNKNOWN = 3


@dataclasses.dataclass(slots=True)
class Sent:
    """A message was sent, or published, to these queues."""
    queues: tuple
    number: int
    group: str | None = None
    message_id: int | None = None


@dataclasses.dataclass(slots=True)
class Message:
    """A message as it was received."""
    number: int
    message_id: int
    receipt: str
    group: str | None
    visible_at: float
    intact: bool                # its body is what was sent


@dataclasses.dataclass(slots=True)
class Received:
    """A receive, called and answered at these times, with a visibility timeout."""
    queue: str
    called: float
    timeout: float
    answered: float
    messages: list


@dataclasses.dataclass(slots=True)
class Deleted:
    """A delete, and what it returned; None: that is not known."""
    queue: str
    number: int
    called: float
    answer: bool | None = None


@dataclasses.dataclass(slots=True)
class Extended:
    """A change of visibility, and what it returned."""
    receipt: str
    called: float
    timeout: float
    answer: bool | None = None


@dataclasses.dataclass(slots=True)
class Transaction:
    outcome: Outcome
    durable: bool               # its leases survive a crash
    acknowledged: float         # when the client knew of its commit
    events: list


@dataclasses.dataclass(slots=True)
class Lease:
    """One delivery of one message, by a receive that was called and answered at these times."""
    queue: str
    called: float
    answered: float
    claimed: float              # when the receive looked at the clock
    end: float                  # nobody else may have it before; -inf: it may be lost


class Story:
    """All there is to know of one message in one family of queues."""
    __slots__ = ("sent", "committed_at", "message_ids", "leases", "deletes", "group", "altered")

    def __init__(self):
        self.sent = None        # the best outcome of those that sent it
        self.committed_at = math.inf
        self.message_ids = set()
        self.leases = []
        self.deletes = []       # (called, acknowledged, certain)
        self.group = None
        self.altered = False


class History:
    """The transactions of all clients, by message.

    A family is a queue and those its messages may get to: a message is in one of them.
    """

    def __init__(self, transactions, families):
        self.families = families
        self.stories = {}       # (family, number) -> Story
        self.batches = {}       # family -> [(answered, called, [(group, ids)])]
        self.leases = {}        # receipt -> Lease
        for transaction in transactions:
            for event in transaction.events:
                getattr(self, "_" + type(event).__name__.lower())(transaction, event)
        # A receipt may be used in a transaction that is read before the receive.
        for transaction in transactions:
            for event in transaction.events:
                if isinstance(event, Extended):
                    self._apply_extension(transaction, event)

    def story(self, queue, number):
        return self.stories.setdefault((self.families.get(queue, queue), number), Story())

    def _sent(self, transaction, event):
        for queue in event.queues:
            story = self.story(queue, event.number)
            story.group = event.group
            if transaction.outcome is Outcome.COMMITTED:
                story.sent = Outcome.COMMITTED
                story.committed_at = min(story.committed_at, transaction.acknowledged)
                story.message_ids.add(event.message_id)
            elif transaction.outcome is Outcome.UNKNOWN and story.sent is not Outcome.COMMITTED:
                story.sent = Outcome.UNKNOWN
            elif story.sent is None:
                story.sent = Outcome.ABORTED

    def _received(self, transaction, event):
        certain = transaction.outcome is Outcome.COMMITTED and transaction.durable
        groups = {}
        for message in event.messages:
            story = self.story(event.queue, message.number)
            story.message_ids.add(message.message_id)
            story.altered |= not message.intact
            lease = Lease(event.queue, event.called, event.answered, message.visible_at - event.timeout,
                          message.visible_at if certain else -math.inf)
            story.leases.append(lease)
            self.leases[message.receipt] = lease
            if message.group is not None:
                groups.setdefault(message.group, []).append(message.message_id)
        if groups:
            family = self.families.get(event.queue, event.queue)
            if family == event.queue:
                self.batches.setdefault(family, []).append((event.answered, event.called, list(groups.items())))

    def _deleted(self, transaction, event):
        if transaction.outcome is Outcome.ABORTED or event.answer is False:
            return
        certain = transaction.outcome is Outcome.COMMITTED and event.answer is True
        self.story(event.queue, event.number).deletes.append((event.called, transaction.acknowledged, certain))

    def _extended(self, transaction, event):
        pass

    def _apply_extension(self, transaction, event):
        lease = self.leases.get(event.receipt)
        if lease is None or transaction.outcome is Outcome.ABORTED or event.answer is False:
            return
        end = event.called + event.timeout
        if transaction.outcome is Outcome.COMMITTED and transaction.durable and event.answer is True:
            lease.end = end if lease.end > -math.inf else lease.end
        else:
            lease.end = min(lease.end, end)


def lost(history):
    """A message whose send was acknowledged is taken out by somebody in the end."""
    for (family, number), story in history.stories.items():
        if story.sent is Outcome.COMMITTED and not story.deletes:
            yield "message %d of %s is gone, and nobody deleted it" % (number, family)


def delivered_twice(history):
    """Nobody is given a message before a durable lease on it has ended.

    Of two receives that ran at the same time the second may have been the first
    to take the message, and have given it back.
    """
    for (family, number), story in history.stories.items():
        story.leases.sort(key=lambda lease: lease.claimed)
        for i, lease in enumerate(story.leases):
            for earlier in story.leases[:i]:
                if earlier.queue == lease.queue and lease.claimed < earlier.end - TOLERANCE \
                        and (lease.claimed > earlier.answered or lease.end > earlier.claimed):
                    yield ("message %d of %s was received at %f and, with the lease until %f, at %f"
                           % (number, family, earlier.claimed, earlier.end, lease.claimed))


def undeleted(history):
    """Nobody is given a message after a delete was acknowledged, which happens once."""
    for (family, number), story in history.stories.items():
        certain = [acknowledged for _, acknowledged, certain in story.deletes if certain]
        if len(certain) > 1:
            yield "message %d of %s was deleted %d times" % (number, family, len(certain))
        for lease in story.leases:
            if any(lease.called > acknowledged for acknowledged in certain):
                yield "message %d of %s was received after it was deleted" % (number, family)


def made_up(history):
    """Only messages that were sent are received."""
    for (family, number), story in history.stories.items():
        if story.sent in (None, Outcome.ABORTED) and story.leases:
            yield "message %d of %s was received and never sent" % (number, family)


def altered(history):
    """A message keeps its body and its message_id, and is stored once."""
    for (family, number), story in history.stories.items():
        if story.altered:
            yield "message %d of %s has another body" % (number, family)
        if len(story.message_ids) > 1:
            yield "message %d of %s has several ids: %s" % (number, family, sorted(story.message_ids))


def out_of_order(history):
    """A receive returns the head of each group, in order.

    Whatever was sent to the group before is deleted by then, or among what is
    returned.  What was a dead letter once has lost its place.
    """
    groups = {}
    for (family, number), story in history.stories.items():
        if story.group is not None and story.sent is Outcome.COMMITTED \
                and all(lease.queue == family for lease in story.leases):
            for message_id in story.message_ids:
                groups.setdefault((family, story.group), []).append((message_id, story))
    for members in groups.values():
        members.sort(key=lambda member: member[0])
    begin = dict.fromkeys(groups, 0)    # what is before has been deleted
    for family, batches in history.batches.items():
        for answered, called, received in sorted(batches):
            for group, ids in received:
                if ids != sorted(ids):
                    yield "group %s of %s came in the order %s" % (group, family, ids)
                yield from _passed_over(groups, begin, (family, group), set(ids), called, answered)


def _passed_over(groups, begin, key, ids, called, answered):
    members = groups.get(key, ())
    last = max(ids)
    i = begin.get(key, 0)
    at_head = True
    while i < len(members) and members[i][0] < last:
        message_id, story = members[i]
        gone = any(deleted <= answered for deleted, _, _ in story.deletes)
        if gone and at_head:
            begin[key] = i + 1
        else:
            at_head = False
        if not gone and message_id not in ids and story.committed_at < called:
            yield "group %s of %s: message %d came before %d" % (key[1], key[0], last, message_id)
        i += 1


CHECKS = (lost, delivered_twice, undeleted, made_up, altered, out_of_order)
