"""Peers abort while a whole failure domain is silent: the domain is named, and no machine is accused."""

from collections.abc import Callable

import pytest
from worlds import World, a_gang

from fleetctl.gang.actions import StrikeNode
from fleetctl.gang.spec import Cause
from fleetctl.gang.state import Strike

RACK = "topology.kubernetes.io/rack=b"


@pytest.fixture
def world() -> World:
    """Ranks 0-3 are in rack a, 4-7 in rack b."""
    world = World(a_gang(8, unhealthy_ceiling="50%")).run()
    for number in range(4):
        world.node(f"node-{number}", domains=(f"topology.kubernetes.io/rack={'ab'[number // 2]}",))
    return world


def falls_silent(world: World, still_s: float = 5.0) -> None:
    for name in ("node-2", "node-3"):
        world.dies(name, still_s)


def is_back(world: World) -> None:
    for name in ("node-2", "node-3"):
        world.node(name, silent=False, still_s=0.0)
    for rank in range(4, 8):
        world.update_life(rank, connected=True, silent=False)


def recovers(world: World) -> list[str]:
    """The nodes that were struck until the next attempt ran."""
    struck = []
    while actions := world.think().actions:
        for action in actions:
            world.carry_out(action)
            if isinstance(action, StrikeNode):
                struck.append(action.node)
    assert world.status.attempt.released == world.status.attempt.target
    return struck


def cause(world: World) -> Cause:
    assert world.status.attempt.cause
    return world.status.attempt.cause


def test_the_domain_is_named_and_not_who_lost_it(world: World) -> None:
    falls_silent(world)
    assert world.think().actions == ()  # as long as nobody ends
    world.exits(rank=3, code=134)
    world.exits(rank=1, code=1)
    world.run()
    assert cause(world) == Cause(
        scope="Unknown",
        rule="domain-silent",
        rank=4,
        message=f"{RACK} fell silent (rank 4-7): its network, or its power",
    )
    assert (world.deleted, world.status.attempt.replacing) == ([], [])
    is_back(world)
    assert recovers(world) == []
    [recovered, _] = world.status.history
    assert (recovered.cause, recovered.rung) == (cause(world), "InPlace")
    assert recovered.incident
    assert (recovered.incident.culprits, recovered.incident.cascade) == ("4", "1,3")
    assert world.status.budgets.application.since_progress == 0
    assert sum(world.status.budgets.node.hours.values()) == 1


def test_it_is_named_too_if_it_is_missed_only_after_they_ended(world: World) -> None:
    world.exits(rank=3, code=134)
    world.carry_out(world.think().actions[0])
    assert cause(world).rule == "fatal-signal"
    world.new_life(3)
    falls_silent(world)
    world.run()
    is_back(world)
    assert recovers(world) == []
    told = world.status.history[0].cause
    assert (told.scope, told.rule, told.rank, told.node) == ("Unknown", "domain-silent", 4, "")


def test_who_is_heard_in_a_domain_that_is_mostly_silent_is_not_named(world: World) -> None:
    world.node("node-1", domains=(RACK,))
    falls_silent(world)
    world.exits(rank=0, code=134)
    world.run()
    assert (cause(world).rule, cause(world).rank) == ("domain-silent", 4)


def one_node_only(world: World) -> None:
    world.dies("node-2", 5.0)


def slow_restarts(world: World) -> None:
    falls_silent(world)
    for rank in range(4, 8):
        world.update_life(rank, leaving=True)


@pytest.mark.parametrize(
    ("silence", "code"), [(falls_silent, 139), (falls_silent, 3), (one_node_only, 134), (slow_restarts, 134)]
)
def test_an_end_of_its_own_is_not_explained_by_it_nor_any_by_less_than_that(
    world: World, silence: Callable[[World], None], code: int
) -> None:
    silence(world)
    world.exits(rank=3, code=code)
    world.run()
    assert (cause(world).scope, cause(world).rank) == ("Container", 3)


def test_a_program_error_before_an_abort_stays_the_culprit(world: World) -> None:
    falls_silent(world)
    world.exits(rank=2, code=3)
    world.exits(rank=1, code=134)
    world.run()
    assert (cause(world).rule, cause(world).rank) == ("container-exit", 2)


def test_a_machine_that_was_struck_before_is_no_lemon_because_its_rank_lost_its_peers(world: World) -> None:
    world.node("node-1", strikes=(Strike(at=world.clock() - 3600, rule="hang", who="default/llm/2"),))
    falls_silent(world)
    world.exits(rank=3, code=134)
    world.run()
    assert (cause(world).rule, world.deleted) == ("domain-silent", [])


def test_machines_that_are_proven_dead_in_the_end_are_replaced_in_the_same_attempt(world: World) -> None:
    falls_silent(world)
    world.exits(rank=3, code=134)
    world.run()
    falls_silent(world, still_s=120.0)
    world.run(40)
    assert {uid for uid, _ in world.deleted} == {"uid-4", "uid-5", "uid-6", "uid-7"}
    assert (world.status.attempt.released, world.status.history[0].cause.rule) == (2, "node-dead")
