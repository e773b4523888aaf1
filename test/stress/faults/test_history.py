"""Each check notices what it is there for, and nothing else."""
import unittest

import history
from history import Deleted, Extended, Message, Outcome, Received, Sent, Transaction


def committed(at, *events, durable=True):
    return Transaction(Outcome.COMMITTED, durable, at, list(events))


def aborted(*events):
    return Transaction(Outcome.ABORTED, True, float("inf"), list(events))


def unknown(*events):
    return Transaction(Outcome.UNKNOWN, True, float("inf"), list(events))


def sent(number, group=None, queue="q"):
    return Sent((queue,), number, group, number + 100)


def received(at, *numbers, timeout=10, group=None, queue="q", intact=True):
    return Received(queue, at, timeout, at + 0.1, [
        Message(number, number + 100, "%d-%s-%f" % (number, queue, at), group, at + timeout, intact)
        for number in numbers])


def deleted(at, number, answer=True):
    return Deleted("q", number, at, answer)


class TestHistory(unittest.TestCase):
    def finds(self, transactions, *expected):
        found = history.History(transactions, {"dead": "q"})
        self.assertEqual([check.__name__ for check in history.CHECKS if list(check(found))],
                         [check.__name__ for check in expected])

    def test_all_is_well(self):
        self.finds([committed(1, sent(1), sent(2)), committed(2, received(2, 1, 2)),
                    committed(3, deleted(3, 1), deleted(3, 2)), aborted(sent(3)), unknown(sent(4))])

    def test_lost(self):
        self.finds([committed(1, sent(1))], history.lost)
        self.finds([committed(1, sent(1)), aborted(deleted(2, 1))], history.lost)
        self.finds([committed(1, sent(1)), committed(3, deleted(2, 1, False))], history.lost)
        self.finds([committed(1, sent(1)), unknown(deleted(2, 1, None))])

    def test_delivered_twice(self):
        end = committed(100, deleted(50, 1))
        self.finds([committed(1, sent(1)), committed(2, received(2, 1)), committed(5, received(5, 1)), end],
                   history.delivered_twice)
        self.finds([committed(1, sent(1)), committed(2, received(2, 1)), aborted(received(5, 1)), end],
                   history.delivered_twice)
        self.finds([committed(1, sent(1)), committed(2, received(2, 1)), committed(12.2, received(12.1, 1)), end])
        self.finds([committed(1, sent(1)), aborted(received(2, 1)), committed(5, received(5, 1)), end])
        self.finds([committed(1, sent(1)), committed(2, received(2, 1), durable=False),
                    committed(5, received(5, 1)), end])

    def test_at_the_same_time(self):
        end = committed(100, deleted(50, 1))
        self.finds([committed(1, sent(1)), committed(2.1, received(2, 1)), aborted(received(2.05, 1)), end])
        self.finds([committed(1, sent(1)), committed(2.1, received(2, 1)), committed(2.2, received(2.05, 1)), end],
                   history.delivered_twice)

    def test_extended(self):
        lease = received(2, 1)
        receipt = lease.messages[0].receipt
        begin = [committed(1, sent(1)), committed(2, lease)]
        end = committed(100, deleted(50, 1))
        self.finds(begin + [committed(6, Extended(receipt, 5, 10, True)), committed(13, received(13, 1)), end],
                   history.delivered_twice)
        self.finds(begin + [unknown(Extended(receipt, 5, 10)), committed(13, received(13, 1)), end])
        self.finds(begin + [committed(6, Extended(receipt, 5, 0, True)), committed(6, received(6, 1)), end])
        self.finds(begin + [unknown(Extended(receipt, 5, 0)), committed(6, received(6, 1)), end])
        self.finds(begin + [aborted(Extended(receipt, 5, 0)), committed(6, received(6, 1)), end],
                   history.delivered_twice)

    def test_undeleted(self):
        self.finds([committed(1, sent(1)), committed(3, deleted(2, 1)), committed(20, received(20, 1))],
                   history.undeleted)
        self.finds([committed(1, sent(1)), committed(3, deleted(2, 1)), committed(5, deleted(4, 1))],
                   history.undeleted)
        self.finds([committed(1, sent(1)), unknown(deleted(2, 1)), committed(20, received(20, 1))])

    def test_made_up(self):
        self.finds([committed(20, received(20, 1))], history.made_up)
        self.finds([aborted(sent(1)), committed(20, received(20, 1))], history.made_up)
        self.finds([unknown(sent(1)), committed(20, received(20, 1))])

    def test_altered(self):
        end = committed(100, deleted(50, 1))
        self.finds([committed(1, sent(1)), committed(2, received(2, 1, intact=False)), end], history.altered)
        other = received(2, 1)
        other.messages[0].message_id = 7
        self.finds([committed(1, sent(1)), committed(2, other), end], history.altered)

    def test_out_of_order(self):
        sends = [committed(1, sent(1, "g")), committed(1, sent(2, "g"))]
        end = committed(100, deleted(50, 1), deleted(50, 2))
        self.finds(sends + [committed(2, received(2, 2, group="g")), end], history.out_of_order)
        self.finds(sends + [committed(2, received(2, 2, 1, group="g")), end], history.out_of_order)
        self.finds(sends + [committed(2, received(2, 1, group="g")), aborted(deleted(2.5, 1)),
                            committed(3, received(3, 2, group="g")), end], history.out_of_order)
        self.finds(sends + [committed(2, received(2, 1, 2, group="g")), end])
        self.finds(sends + [committed(2, received(2, 1, group="g")), unknown(deleted(2.5, 1)),
                            committed(3, received(3, 2, group="g")), end])
        self.finds(sends + [committed(2, received(2, 1, queue="dead", group="g")),
                            committed(3, received(3, 2, group="g")), end])


if __name__ == "__main__":
    unittest.main()
