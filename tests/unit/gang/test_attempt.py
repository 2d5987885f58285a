"""The attempt table: every state has an answer, and every interrupted prefix of a recovery is safe.

A recovery is a list of actions. Here each is cut short everywhere: the controller dies between any two (its memory is
gone, another leads), a rank restarts by itself between any two, a release is lost. From every such prefix the gang must
end up running one attempt, with no rank started twice in it and nobody released without the committed ticket.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World, a_gang, committed, running_gang

from fleetctl.gang import attempt
from fleetctl.gang.actions import Action, Release
from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.snapshot import Memory
from fleetctl.gang.spec import AttemptRecord
from fleetctl.gang.state import Life, Member, Pod, Promise

Disturbance = Callable[[World, Action], bool]
"""Does something to the world just before an action; false if the action is not to be carried out any more."""


def new_leader(world: World, action: Action) -> bool:
    world.memory = Memory()
    name, _, term = world.writer.rpartition("/")
    world.writer = f"{name}x/{int(term) + 1}"
    return False


def forgetful_leader(world: World, action: Action) -> bool:
    world.memory = Memory()
    return False


def rank_1_restarts(world: World, action: Action) -> bool:
    if world.members[1].pod:
        world.new_life(1)
    return True


def first_release_is_lost(world: World, action: Action) -> bool:
    if isinstance(action, Release):
        world.carry_out(replace(action, uids=action.uids[1:]))
        return False
    return True


DISTURBANCES = (new_leader, forgetful_leader, rank_1_restarts, first_release_is_lost)


def beginnings() -> Iterator[tuple[str, Callable[[], World]]]:
    def faulty() -> World:
        world = running_gang(3)
        world.exits(rank=0, code=1)
        return world

    def dead_node() -> World:
        world = running_gang(3)
        world.dies("node-1")
        return world

    yield "first start", lambda: World(a_gang(3))
    yield "a fault", faulty
    yield "a dead node", dead_node


def run_disturbed(world: World, at: dict[int, Disturbance]) -> World:
    """Runs to the end, with a disturbance before the n-th action."""
    count = 0
    for _ in range(60):
        decided = world.think()
        if not decided.actions:
            return world
        for action in decided.actions:
            disturb = at.get(count)
            count += 1
            if disturb and not disturb(world, action):
                break
            world.carry_out(action)
    raise AssertionError(f"never at rest: {decided}")


def check_safe(world: World, attempts_max: int) -> None:
    record = world.status.attempt
    assert record.target == record.released <= attempts_max
    assert len(world.starts) == len(set(world.starts)), "a rank started twice in an attempt"
    for member in world.members:
        assert member.life
        assert member.life.attempt == record.released
        assert member.life.promise == committed(world)


@pytest.mark.parametrize("begin", [pytest.param(make, id=name) for name, make in beginnings()])
@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("when", range(18))
def test_any_prefix_of_a_recovery_is_safe(begin: Callable[[], World], disturb: Disturbance, when: int) -> None:
    world = begin()
    first = world.status.attempt.released
    run_disturbed(world, {when: disturb})
    # only a rank that restarts after the release costs another attempt
    check_safe(world, attempts_max=first + 1 + (disturb is rank_1_restarts))


@pytest.mark.parametrize("begin", [pytest.param(make, id=name) for name, make in beginnings()])
def test_any_two_interruptions_are_safe(begin: Callable[[], World]) -> None:
    for (i, j), (a, b) in itertools.product(
        itertools.combinations(range(14), 2), itertools.product(DISTURBANCES, repeat=2)
    ):
        world = begin()
        first = world.status.attempt.released
        run_disturbed(world, {i: a, j: b})
        check_safe(world, attempts_max=first + 3)


UIDS = st.sampled_from(["a", "b"])
PROMISES = st.none() | st.builds(Promise, attempt=st.integers(0, 3), ticket=st.sampled_from(["t", "u"]))
LIVES = st.none() | st.builds(
    Life,
    uid=UIDS,
    life_id=st.sampled_from(["x", "y"]),
    started_at=st.integers(0, 3),
    attempt=st.integers(0, 3),
    promise=PROMISES,
    leaving=st.booleans(),
    connected=st.booleans(),
)
PODS = st.none() | st.builds(
    Pod,
    name=st.just("p"),
    uid=UIDS,
    ours=st.booleans(),
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    deleting=st.booleans(),
    restarting_since=st.none() | st.integers(0, 4),
)
RECORDS = st.builds(
    AttemptRecord,
    target=st.integers(0, 3),
    released=st.integers(0, 3),
    ticket=st.sampled_from(["", "t", "u"]),
    writer=st.sampled_from(["", "me/1", "other/0", "other/2", "no number"]),
)
ROUNDS = st.none() | st.builds(
    attempt.Round,
    promise=st.builds(Promise, attempt=st.integers(0, 3), ticket=st.sampled_from(["t", "u"])),
    lives=st.frozensets(st.tuples(UIDS, st.sampled_from(["x", "y"]))),
)


def member(rank: int, pod: Pod | None, life: Life | None) -> Member:
    return Member(rank=rank, pod_name=f"p-{rank}", trainer="t", pod=pod, life=life)


@settings(max_examples=1500, deadline=None)
@given(RECORDS, st.lists(st.tuples(PODS, LIVES), min_size=1, max_size=3), ROUNDS)
def test_no_state_is_without_an_answer(
    record: AttemptRecord, seen: list[tuple[Pod | None, Life | None]], asked: attempt.Round | None
) -> None:
    members = [member(rank, pod, life) for rank, (pod, life) in enumerate(seen)]
    released = Promise(attempt=record.released, ticket=record.ticket)
    circumstances = Circumstances(released=released, target=record.target)
    verdicts = diagnose(members, circumstances)
    situation = attempt.Situation(record, members, verdicts, "me/1", asked)
    step = attempt.step(situation)
    if isinstance(step, attempt.CommitRelease):  # S10: only lives that stand at the barrier and hold this very promise
        assert step.promise.attempt == record.target > record.released
        assert all(m.at_barrier and m.holds(step.promise) for m in members)
    if isinstance(step, attempt.Release):
        assert all(m.life and m.life.promise == situation.committed for m in step.members)
    if isinstance(step, attempt.Gather):
        assert all(m.life and 0 < m.life.attempt < record.target for m in step.reset)
    if attempt.written_by_a_later_leader(situation):
        assert isinstance(step, attempt.Rest)


def test_a_promise_for_another_ticket_does_not_commit() -> None:
    world = World(a_gang(2))
    while not (world.memory.round and all(m.life and m.life.promise for m in world.members)):
        for action in world.think().actions:
            world.carry_out(action)
    world.update_life(1, promise=Promise(attempt=1, ticket="somebody else's"))
    before = world.status
    (again,) = world.think().actions
    world.carry_out(again)
    assert world.status == before


def test_the_record_is_taken_over_only_from_an_earlier_term() -> None:
    world = running_gang(2)
    later = msgspec.structs.replace(world.status.attempt, writer="other/9")
    step = attempt.step(attempt.Situation(later, world.members, (), world.writer))
    assert isinstance(step, attempt.Rest)
