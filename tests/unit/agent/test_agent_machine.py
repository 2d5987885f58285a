"""The rules of the machine, each with its near misses."""

import pytest

from fleetctl.agent.machine import DialCoordinator, Machine, OpenGate, Persist, RestartAll, SayHello, Send
from fleetctl.rendezvous.messages import Ping, Pong, Promised, Prove, Release, Released, Reset, Welcome

NOW = 100.0


def waiting(promise=None, floor=0):
    return lambda: Machine("life", 7.0, promise, 0, floor)


def running(attempt, promise=None, floor=0):
    return lambda: Machine("life", 7.0, promise or Promised(attempt, "old"), attempt, floor)


def ponged(attempt, ticket, at=NOW):
    def make():
        machine = waiting()()
        machine.on_message(Ping(attempt, ticket), at)
        return machine

    return make


PROMISES = lambda attempt, ticket: [Persist(attempt, ticket), Send(Pong(attempt, ticket))]  # noqa: E731
STARTS = lambda attempt: [OpenGate(attempt), Send(Released(attempt))]  # noqa: E731

ROWS = [
    # ping
    ("a waiting life persists its promise before it pongs", waiting(), Ping(1, "t"), NOW, PROMISES(1, "t")),
    ("the same ping again is ponged again", ponged(1, "t"), Ping(1, "t"), NOW, [Send(Pong(1, "t"))]),
    ("another ticket for the promised attempt is accepted", ponged(1, "t"), Ping(1, "u"), NOW, PROMISES(1, "u")),
    ("a higher attempt is accepted", ponged(1, "t"), Ping(2, "u"), NOW, PROMISES(2, "u")),
    ("a lower attempt is not", ponged(2, "t"), Ping(1, "u"), NOW, []),
    ("nor one below what an earlier life promised", waiting(floor=3), Ping(2, "t"), NOW, []),
    ("but that one itself is", waiting(floor=3), Ping(3, "t"), NOW, PROMISES(3, "t")),
    ("attempt 0 is nobody's", waiting(), Ping(0, "t"), NOW, []),
    ("a running life ignores a ping for its own attempt", running(2), Ping(2, "old"), NOW, []),
    ("a running life ignores a ping for the next", running(2), Ping(3, "t"), NOW, []),
    # release
    ("a promised ticket opens the gate before it is acknowledged", ponged(1, "t"), Release(1, "t"), NOW, STARTS(1)),
    ("five seconds after the pong as well", ponged(1, "t"), Release(1, "t"), NOW + 5, STARTS(1)),
    ("later it says hello", ponged(1, "t"), Release(1, "t"), NOW + 5.01, [SayHello()]),
    ("a promise of an earlier run has no pong yet", waiting(Promised(1, "t")), Release(1, "t"), NOW, [SayHello()]),
    ("another ticket opens nothing", ponged(1, "t"), Release(1, "u"), NOW, []),
    ("another attempt opens nothing", ponged(1, "t"), Release(2, "t"), NOW, []),
    ("without a promise nothing opens", waiting(), Release(1, "t"), NOW, []),
    ("an earlier life's promise entitles to nothing", waiting(floor=1), Release(1, "t"), NOW, []),
    ("a life released already says so again", running(2), Release(2, "old"), NOW, [Send(Released(2))]),
    ("and is not released twice", running(2), Release(3, "old"), NOW, []),
    ("whatever its files say it promised", running(2, Promised(3, "t")), Release(3, "t"), NOW, []),
    # reset
    ("a running life restarts for a later attempt", running(2), Reset(3), NOW, [RestartAll(3)]),
    ("not for its own", running(2), Reset(2), NOW, []),
    ("not for an earlier one", running(2), Reset(1), NOW, []),
    ("not for one below its promise", running(2, Promised(4, "t")), Reset(3), NOW, []),
    ("but for the one it promised", running(2, Promised(4, "t")), Reset(4), NOW, [RestartAll(4)]),
    ("a waiting life ignores it", ponged(1, "t"), Reset(2), NOW, []),
    # prove
    ("a waiting life dials the coordinator", waiting(), Prove("life-0"), NOW, [DialCoordinator("life-0")]),
    ("a running one too", running(2), Prove("life-0"), NOW, [DialCoordinator("life-0")]),
    # the rest
    ("what concerns the stream does not concern the machine", waiting(), Welcome(5.0), NOW, []),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message", "now", "expected"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS])
def test_rule(make, message, now, expected):
    assert repr(make().on_message(message, now)) == repr(expected)


def test_the_pong_that_counts_is_the_last_one_for_that_ticket():
    machine = ponged(1, "t", at=NOW)()
    machine.on_message(Ping(1, "u"), NOW + 4)
    assert machine.on_message(Release(1, "t"), NOW + 4) == []
    machine.on_message(Ping(1, "u"), NOW + 8)
    assert repr(machine.on_message(Release(1, "u"), NOW + 12)) == repr(STARTS(1))


def test_hello_says_where_this_life_stands():
    machine = ponged(2, "t")()
    assert machine.hello("token") == ("token", "life", 7.0, 0, (2, "t"), 2)
    machine.on_message(Release(2, "t"), NOW)
    assert machine.hello("token") == ("token", "life", 7.0, 2, (2, "t"), 2)


def test_hello_does_not_claim_the_promise_of_an_earlier_life():
    assert waiting(floor=3)().hello("token").promise is None


@pytest.mark.parametrize(
    ("promise", "released", "floor", "told"),
    [(None, 0, 0, 0), (None, 0, 3, 3), (None, 2, 0, 2), (Promised(2, "t"), 0, 0, 2), (Promised(2, "t"), 1, 3, 3)],
)
def test_hello_tells_below_what_nothing_is_accepted(promise, released, floor, told):
    assert Machine("life", 7.0, promise, released, floor).hello("token").floor == told


def test_a_pod_that_never_promised_accepts_every_attempt():
    assert Machine("life", 7.0, None, 0).hello("token").floor == 0
