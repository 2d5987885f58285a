"""The breaker: when too many nodes are called bad at once, none is left because of that, until somebody resets it."""

from dataclasses import replace
from datetime import timedelta

import msgspec
from worlds import World, a_gang, running_gang

from fleetctl.gang import breaker
from fleetctl.gang.actions import DeletePods
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import Breaker, Recovery
from fleetctl.gang.state import Verdict

LEAVING = frozenset({"karpenter.sh/disrupted"})


def called_bad(world: World, *nodes: int) -> None:
    for node in nodes:
        world.node(f"node-{node}", taints=LEAVING)


def with_policy(gang: Gang, **changes: object) -> Gang:
    recovery = msgspec.structs.replace(gang.spec.recovery, **changes)
    return replace(gang, spec=msgspec.structs.replace(gang.spec, recovery=recovery))


def a_world(ranks: int = 80) -> World:
    """Forty nodes, of which four may be called bad at once; the ceiling is far away."""
    world = running_gang(ranks)
    world.gang = with_policy(world.gang, unhealthy_ceiling="90%")
    return world


def held(world: World) -> str:
    condition = world.status.condition("Held")
    return condition.message if condition and condition.status == "True" else ""


def test_four_of_forty_nodes_are_believed() -> None:
    world = a_world()
    called_bad(world, *range(4))
    world.run(40)
    assert len(world.deleted) == 8
    assert world.status.breaker is None


def test_five_open_it_and_nothing_is_deleted() -> None:
    world = a_world()
    called_bad(world, *range(5))
    world.run(40)
    assert world.deleted == []
    assert world.status.attempt.target == 1
    assert "the breaker is open: 5 nodes were called bad within 10 min, more than the 4" in held(world)
    assert "node node-0 is going away (taint karpenter.sh/disrupted)" in held(world)
    patch = '{"spec":{"recovery":{"breaker":{"resets":1}}}}'
    assert held(world).endswith(f"kubectl patch gang llm -n default --type merge -p '{patch}'")
    assert world.status.holds("Running")


def test_it_stays_open_when_they_are_called_well_again() -> None:
    world = a_world()
    called_bad(world, *range(5))
    world.run()
    for node in range(5):
        world.node(f"node-{node}", taints=frozenset())
    world.run()
    called_bad(world, 7)
    world.run()
    assert world.status.breaker
    assert world.deleted == []


def test_what_comes_one_by_one_opens_it_too() -> None:
    world = a_world()
    for node in range(0, 16, 2):  # their pods go to the next one
        called_bad(world, node)
        world.run(40)
        world.now += timedelta(minutes=1)
    assert len(world.deleted) == 8
    assert world.status.breaker


def test_what_comes_slowly_does_not() -> None:
    world = a_world()
    for node in range(0, 16, 2):  # their pods go to the next one
        called_bad(world, node)
        world.run(40)
        world.now += timedelta(minutes=4)
    assert len(world.deleted) == 16
    assert world.status.breaker is None


def test_dead_nodes_do_not_count_and_are_left_while_it_is_open() -> None:
    world = a_world()
    called_bad(world, *range(5))
    world.run()
    world.dies("node-9", still_s=1000.0)
    world.run(40)
    assert {uid for uid, _ in world.deleted} == {"uid-18", "uid-19"}
    assert held(world).startswith("the breaker is open")


def test_a_container_fault_is_recovered_from_while_it_is_open() -> None:
    world = a_world()
    called_bad(world, *range(5))
    world.run()
    world.exits(rank=3, code=1)
    world.run()
    assert (world.status.attempt.released, world.deleted) == (2, [])
    assert held(world).startswith("the breaker is open")


def test_a_reset_closes_it_once() -> None:
    world = a_world()
    called_bad(world, *range(5))
    world.run()
    for node in range(1, 5):
        world.node(f"node-{node}", taints=frozenset())
    world.gang = with_policy(world.gang, breaker=Breaker(resets=1))
    world.run(40)
    assert len(world.deleted) == 2
    assert held(world) == ""
    called_bad(world, *range(10, 16))
    world.run()
    assert world.status.breaker
    assert world.status.breaker.resets == 1
    assert held(world).endswith("""-p '{"spec":{"recovery":{"breaker":{"resets":2}}}}'""")


def test_nothing_that_is_deleted_for_calls_goes_on_once_it_opens() -> None:
    world = a_world()
    world.terminates = False
    called_bad(world, 0)
    for _ in range(3):
        for action in world.think().actions:
            world.carry_out(action)
    gone = list(world.deleted)
    called_bad(world, *range(1, 6))
    for _ in range(5):
        decided = world.think()
        assert not any(isinstance(action, DeletePods) for action in decided.actions)
        for action in decided.actions:
            world.carry_out(action)
    assert world.deleted == gone


def test_while_we_only_observe_or_are_paused_it_is_not_opened() -> None:
    for changes in ({"mode": "Observe"}, {"paused": True}):
        world = a_world()
        world.gang = with_policy(world.gang, **changes)
        called_bad(world, *range(9))
        world.run()
        assert world.status.breaker is None
        assert world.deleted == []


def test_nodes_leave_the_count_after_the_window() -> None:
    policy = Recovery().breaker

    def call(node: str) -> Verdict:
        return Verdict(scope="Node", rule="node-condition", rank=0, because="?", node=node)

    called = breaker.counted({}, [call("a")], policy, 0.0)
    called = breaker.counted(called, [call("b")], policy, 300.0)
    assert set(breaker.counted(called, [], policy, 599.0)) == {"a", "b"}
    assert set(breaker.counted(called, [], policy, 600.0)) == {"b"}
    assert breaker.counted(called, [call("a")], policy, 599.0)["a"] == (0.0, 599.0)


def test_a_call_is_heeded_when_it_has_lasted_a_moment() -> None:
    policy, word = Recovery().breaker, Verdict(scope="Node", rule="node-condition", rank=0, because="?", node="a")
    called = breaker.counted({}, [word], policy, 10.0)
    assert breaker.unheeded(called, 11.4) == {"a"}
    assert breaker.unheeded(called, 11.5) == frozenset()
    called = breaker.counted(called, [], policy, 11.0)
    assert breaker.unheeded(called, 11.0) == frozenset()
    called = breaker.counted(called, [word], policy, 13.0)
    assert breaker.unheeded(called, 14.4) == {"a"}


def test_a_call_that_is_taken_back_at_once_does_nothing() -> None:
    world = a_world()
    called_bad(world, 0)
    assert world.think().actions == ()
    called_off = world.think()
    assert (called_off.actions, called_off.wake_in) == ((), breaker.HEED_S)
    world.node("node-0", taints=frozenset())
    world.run()
    assert (world.status.attempt.target, world.deleted) == (1, [])


def test_a_rank_that_fails_on_a_node_just_called_bad_restarts_at_once_and_then_leaves_it() -> None:
    world = a_world()
    called_bad(world, 0)
    world.exits(rank=1, code=139)
    world.carry_out(world.think().actions[0])
    assert (world.status.attempt.target, world.status.attempt.replacing) == (2, [])
    world.run(40)
    assert {uid for uid, _ in world.deleted} == {"uid-0", "uid-1"}
    assert world.status.attempt.released == 2


def test_three_always_may() -> None:
    assert [Breaker().allows(nodes) for nodes in (1, 39, 40, 1024)] == [3, 3, 4, 102]
    assert a_gang(2).spec.recovery.breaker == Breaker()
