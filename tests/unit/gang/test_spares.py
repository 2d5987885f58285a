"""Spares: kept while the gang runs, taken by ranks that lost their machine, never where nobody should go."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from fleetctl.gang.actions import CreatePods, CreateSpares, DeletePods, Plan
from fleetctl.gang.recreate import PODS_A_SECOND, REFILL_S, SETTLED_S, TRIED_AGAIN_S
from fleetctl.gang.spares import NONE_TAKEN, take, usable
from fleetctl.gang.spec import Match, PlacementSpec, UserRule
from fleetctl.gang.state import Node, Spare
from tests.unit.gang.worlds import World, a_gang, running_gang


def spared_gang(ranks: int = 4, spares: int = 2, **settings: Any) -> World:
    """It runs, and has its spares."""
    world = running_gang(ranks, spares=spares, **settings)
    world.now += timedelta(seconds=SETTLED_S)
    world.run()
    assert len(world.spares) == spares
    return world


def names(world: World) -> list[str]:
    return [spare.name for spare in world.spares]


def nodes_of(world: World, *ranks: int) -> list[str]:
    return [m.pod.node if m.pod else "" for m in (world.members[rank] for rank in ranks)]


def of(plan: Plan, kind: type) -> list[Any]:
    return [action for action in plan.actions if isinstance(action, kind)]


# Kept


def test_spares_are_made_when_the_gang_has_been_released() -> None:
    world = World(a_gang(4, spares=2))
    while not world.status.attempt.released:
        decided = world.think()
        assert not of(decided, CreateSpares)
        for action in decided.actions:
            world.carry_out(action)
    world.run()
    assert names(world) == ["llm-worker-spare-0", "llm-worker-spare-1"]


def test_a_spare_that_is_missing_is_made_again_and_not_more_often_than_every_few_seconds() -> None:
    world = spared_gang()
    world.now += timedelta(seconds=REFILL_S)
    del world.spares[0]
    refused = world.think()  # the API server does not make it
    assert len(of(refused, CreateSpares)) == 1
    assert not of(world.think(), CreateSpares)
    world.now += timedelta(seconds=REFILL_S)
    assert [len(action.spares) for action in of(world.think(), CreateSpares)] == [1]


def test_many_are_made_at_the_pace_of_pods() -> None:
    world = running_gang(4)
    world.think()
    world.now += timedelta(seconds=SETTLED_S)
    group = msgspec.structs.replace(world.gang.spec.groups[0], spares=60)
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, groups=[group]))
    assert [len(action.spares) for action in of(world.think(), CreateSpares)] == [PODS_A_SECOND]


def test_after_a_recovery_they_are_made_anew_when_a_dead_machine_has_its_taint() -> None:
    world = spared_gang()
    world.dies("node-1")
    world.run()
    assert world.status.attempt.released == 2
    assert not world.spares
    assert SETTLED_S - 5 < (world.think().wake_in or 0) <= SETTLED_S
    world.now += timedelta(seconds=SETTLED_S)
    world.run()
    assert len(world.spares) == 2


def test_one_that_its_node_turns_away_is_tried_again_a_minute_later() -> None:
    world = spared_gang()
    world.now += timedelta(seconds=TRIED_AGAIN_S)
    made = []
    for _ in range(200):
        world.spares = [replace(spare, over=True, ready=False) for spare in world.spares]
        decided = world.think()
        made += [world.clock() for _ in of(decided, CreateSpares)]
        for action in decided.actions:
            world.carry_out(action)
        world.now += timedelta(seconds=min(decided.wake_in or 1000, 1000))
        if len(made) == 4:
            break
    assert all(TRIED_AGAIN_S <= after - before <= TRIED_AGAIN_S + 6 for before, after in pairwise(made))


@pytest.mark.parametrize(
    "changes",
    [{"over": True}, {"on": Node(name="x", ready="False")}, {"on": Node(name="x", exists=False)},
     {"on": Node(name="x", quarantined=True)}, {"on": Node(name="x", conditions=frozenset({"KernelDeadlock"}))},
     {"on": Node(name="x", ready="Unknown"), "deleting": True}],
)  # fmt: skip
def test_a_spare_that_nobody_could_take_goes_at_once(changes: dict[str, Any]) -> None:
    world = spared_gang()
    world.now += timedelta(seconds=TRIED_AGAIN_S)
    world.spares[0] = replace(world.spares[0], **changes)
    world.nodes["x"] = changes.get("on", Node(name="x"))
    [deletion] = of(world.think(), DeletePods)
    assert [(pod.name, pod.uid, pod.grace_s) for pod in deletion.pods] == [
        (world.spares[0].name, world.spares[0].uid, 0)
    ]


def test_one_that_is_going_is_left_to_its_kubelet() -> None:
    world = spared_gang()
    world.spares[0] = replace(world.spares[0], deleting=True)
    assert not world.think().actions


def test_what_is_more_than_is_asked_for_goes() -> None:
    world = spared_gang()
    group = msgspec.structs.replace(world.gang.spec.groups[0], spares=1)
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, groups=[group]))
    world.run()
    assert names(world) == ["llm-worker-spare-0"]


def test_a_gang_that_has_ended_keeps_none() -> None:
    world = spared_gang()
    for rank in range(4):
        world.succeeds(rank)
    world.run()
    assert world.status.holds("Completed")
    assert not world.spares


def test_a_suspended_gang_keeps_none() -> None:
    world = spared_gang()
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, suspend=True))
    world.run()
    assert not world.spares


def test_none_are_made_while_it_only_observes() -> None:
    world = running_gang(4, spares=2, mode="Observe")
    world.now += timedelta(seconds=REFILL_S)
    assert not world.think().actions


# Taken


def test_ranks_of_a_dead_node_take_spares_and_these_are_made_anew() -> None:
    world = spared_gang()
    there = nodes_of(world, 2, 3)
    spares = [spare.on.name for spare in world.spares if spare.on]
    world.dies(there[0])
    world.run()
    assert world.status.attempt.released == 2
    assert sorted(nodes_of(world, 2, 3)) == sorted(spares)
    assert world.status.history[0].placed == "ranks 2-3 take spares"
    world.now += timedelta(seconds=SETTLED_S)
    world.run()
    assert len(world.spares) == 2


def test_the_room_is_free_before_the_pod_is_made() -> None:
    world = spared_gang()
    world.dies("node-1")
    seen = []
    while world.status.attempt.released == 1:
        decided = world.think()
        kinds = {type(action) for action in decided.actions}
        if CreatePods in kinds:
            seen.append((len(world.spares), of(decided, CreatePods)[0].onto))
        for action in decided.actions:
            world.carry_out(action)
    assert seen == [(0, {2: "spare-5", 3: "spare-6"})]


def test_more_ranks_than_spares_go_through_the_scheduler() -> None:
    world = spared_gang(spares=1)
    world.dies("node-1")
    world.run()
    assert sorted(nodes_of(world, 2, 3)) == ["node-2", "spare-5"]
    assert "no spare is left for rank 3" in world.status.history[0].placed


@pytest.mark.parametrize(
    "changes",
    [{"ready": False}, {"deleting": True}, {"over": True}, {"on": None}, {"group": "eval"}],
)
def test_only_a_spare_that_is_ready_is_taken(changes: dict[str, Any]) -> None:
    world = spared_gang(spares=1)
    world.spares[0] = replace(world.spares[0], **changes)
    world.dies("node-1")
    world.run()
    assert "spare-5" not in nodes_of(world, 2, 3)


@pytest.mark.parametrize(
    "changes", [{"silent": True}, {"ready": "False"}, {"quarantined": True}, {"conditions": frozenset({"XfsShutdown"})}]
)
def test_none_is_taken_on_a_node_where_nobody_should_go(changes: dict[str, Any]) -> None:
    world = spared_gang(spares=1)
    world.node("spare-5", **changes)
    world.dies("node-1")
    world.run()
    assert "spare-5" not in nodes_of(world, 2, 3)


def test_a_node_that_refuses_the_pod_is_not_asked_again() -> None:
    world = spared_gang(ranks=2, spares=2)
    world.exits(0, 3)
    world.pod(0, phase="Failed", reason="OutOfcpu")
    tried = []
    for _ in range(20):
        decided = world.think()
        for action in decided.actions:
            world.carry_out(action)
            if isinstance(action, CreatePods):
                world.now += timedelta(seconds=1)
                tried += action.onto.values()
                if len(tried) == 1:
                    world.pod(0, phase="Failed", reason="OutOfcpu")
                    world.update_life(0, connected=False)
    assert tried == ["spare-3", "spare-4"]
    assert world.status.attempt.released == 2


def test_a_slow_new_pod_is_given_up_for_a_spare() -> None:
    world = spared_gang(spares=3)
    world.dies("node-1")
    while not world.members[2].pod or world.members[2].pod.attempt == 1:
        for action in world.think().actions:
            world.carry_out(action)
    world.members[2] = replace(world.members[2], life=None)
    world.think()
    slow = nodes_of(world, 2)
    world.now += timedelta(seconds=61)
    world.run(40)
    assert world.status.attempt.released == 2
    assert nodes_of(world, 2) != slow
    assert nodes_of(world, 2)[0].startswith("spare-")


def test_all_anew_takes_none() -> None:
    world = spared_gang()
    rules = [UserRule(match=Match(exit_codes=[9]), action="RecreateGang")]
    policy = msgspec.structs.replace(world.gang.spec.recovery, rules=rules)
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, recovery=policy))
    world.exits(0, 9)
    world.run()
    assert world.status.attempt.released == 2
    assert len(world.spares) == 2


def test_a_spare_whose_room_is_given_to_one_rank_is_not_given_to_another() -> None:
    world = spared_gang()
    first = take([0], world.gang, world.members, world.snapshot().spares, left={}, avoid=(), before=NONE_TAKEN)
    second = take([0, 1], world.gang, world.members, world.snapshot().spares, left={}, avoid=(), before=first)
    assert second.by[0] == first.by[0]
    assert second.by[1] != first.by[0]
    third = take([1], world.gang, world.members, world.snapshot().spares, left={}, avoid=(), before=second)
    assert third.by == {1: second.by[1]}


def test_one_that_has_become_bad_is_given_up() -> None:
    world = spared_gang()
    spares = world.snapshot().spares
    first = take([0], world.gang, world.members, spares, left={}, avoid=(), before=NONE_TAKEN)
    gone = first.by[0].on
    assert gone
    again = take([0], world.gang, world.members, spares, left={}, avoid={gone.name}, before=first)
    assert again.by[0].uid != first.by[0].uid


def test_the_nearest_is_taken_by_the_labels_that_the_gang_names() -> None:
    def on(name: str, pod: str) -> Node:
        return Node(name=name, domains=("topology.kubernetes.io/zone=a", f"example.com/pod={pod}"))

    world = spared_gang()
    world.gang = replace(
        world.gang,
        spec=msgspec.structs.replace(world.gang.spec, placement=PlacementSpec(topology_keys=["example.com/pod"])),
    )
    spares = tuple(
        Spare(name=f"s{n}", uid=f"s{n}", version="1", group="worker", ready=True, on=on(f"n{n}", pod))
        for n, pod in enumerate("abc")
    )
    for pod, spare in (("b", "s1"), ("c", "s2"), ("a", "s0")):
        taken = take([3], world.gang, world.members, spares, left={3: on("dead", pod)}, avoid=(), before=NONE_TAKEN)
        assert taken.by[3].name == spare
        assert taken.because == f"rank 3 takes a spare in example.com/pod={pod}, where it was"


def test_usable_ones_are_those_that_could_be_taken_now() -> None:
    world = spared_gang()
    spares = world.snapshot().spares
    assert usable(spares) == list(spares)
    assert usable(spares, avoid={"spare-5"}) == [spares[1]]


def test_a_dead_machine_gives_no_room_to_whoever_waits_for_it_before_it_has_its_taint() -> None:
    world = running_gang(6)
    world.dies("node-2")
    while not world.status.attempt.replacing:
        for action in world.think().actions:
            world.carry_out(action)
    world.pod(0, node="", unschedulable=True, phase="Pending")  # somebody waits for room
    assert not of(world.think(), DeletePods)
    world.node("node-2", taints=frozenset({"node.kubernetes.io/unreachable"}))
    assert {pod.name for action in of(world.think(), DeletePods) for pod in action.pods} == {
        "llm-worker-4", "llm-worker-5"
    }  # fmt: skip
