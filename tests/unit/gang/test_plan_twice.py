"""S15: planning twice equals planning once, and what is carried out twice is as if it had been carried out once."""

import copy
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World, a_gang

from fleetctl.gang.plan import plan

RANKS = 4


def exits(world: World, rank: int) -> None:
    if world.members[rank].pod:
        world.exits(rank, code=3)


def comes_back(world: World, rank: int) -> None:
    if world.members[rank].pod:
        world.new_life(rank)


def breaks_off(world: World, rank: int) -> None:
    if world.members[rank].life:
        world.update_life(rank, connected=False, silent=True)


def loses_its_node(world: World, rank: int) -> None:
    pod = world.members[rank].pod
    if pod and pod.node:
        world.dies(pod.node)


def is_deleted(world: World, rank: int) -> None:
    if world.members[rank].pod:
        world.pod(rank, deleting=True)


def succeeds(world: World, rank: int) -> None:
    if world.members[rank].pod and world.members[rank].life:
        world.succeeds(rank)


def acts(world: World, rank: int) -> None:
    """As far as the rank's number says: a plan may be interrupted after any of its actions."""
    for action in world.think().actions[: rank + 1]:
        world.carry_out(action)


EVENTS: tuple[Callable[[World, int], None], ...] = (
    exits, comes_back, breaks_off, loses_its_node, is_deleted, succeeds, acts, acts, acts,
)  # fmt: skip


def state(world: World) -> object:
    lives = [(m.pod and m.pod.uid, m.life and (m.life.attempt, m.life.promise)) for m in world.members]
    return world.status, lives, set(world.deleted), set(world.starts)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, RANKS - 1)), max_size=25))
def test_whatever_happened(events: list[tuple[Callable[[World, int], None], int]]) -> None:
    world = World(a_gang(RANKS, unhealthy_ceiling="50%"))
    for happens, rank in events:
        happens(world, rank)
    snapshot = world.snapshot()
    decided = plan(snapshot, world.memory)
    assert decided == plan(snapshot, world.memory)
    once, twice = copy.deepcopy(world), copy.deepcopy(world)
    for action in decided.actions:
        once.carry_out(action)
        twice.carry_out(action)
        twice.carry_out(action)
    assert state(once) == state(twice)
