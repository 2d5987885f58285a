"""Observe, paused, suspended: what fleetctl does not do when it is told not to."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from worlds import World, a_gang, running_gang

from fleetctl.gang.plan import CreatePods, DeletePods, Ping, Release, Reset
from fleetctl.gang.spec import GangSpec, Recovery


def change(world: World, **policy: Any) -> None:
    """Somebody edits spec.recovery."""
    recovery = msgspec.structs.replace(world.gang.spec.recovery, **policy)
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, recovery=recovery))


def suspend(world: World, yes: bool) -> None:
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, suspend=yes))


def message(world: World, kind: str = "Held") -> str:
    condition = world.status.condition(kind)
    return condition.message if condition and condition.status == "True" else ""


def touches(world: World, turns: int = 10) -> set[str]:
    """What is done in so many turns, writes apart."""
    done = set()
    for _ in range(turns):
        for action in world.think().actions:
            done.add(type(action).__name__)
            world.carry_out(action)
    return done - {"WriteStatus"}


def test_observe_starts_a_gang() -> None:
    world = World(a_gang(2, mode="Observe")).run()
    assert world.starts == [(0, 1), (1, 1)]


def test_observe_reports_a_dead_node_and_touches_nothing() -> None:
    world = running_gang(4, mode="Observe")
    world.dies("node-1")
    assert touches(world) == set()
    assert message(world).startswith("Observe: would begin attempt 2: node node-1 is dead")
    assert message(world).endswith("(rank 2-3); mode Enforce would let it")
    assert world.status.attempt.target == 1


def test_observe_lets_a_rank_that_restarted_by_itself_in_alone_and_burns_nothing() -> None:
    world = running_gang(3, mode="Observe")
    world.exits(rank=1, code=3)
    assert touches(world, 1) == set()
    assert message(world) == "Observe: would begin attempt 2: rank 1 exited 3; mode Enforce would let it"
    world.new_life(1)
    assert touches(world) == {"Ping", "Release"}
    assert world.status.attempt.target == 1
    assert world.starts[3:] == [(1, 1)]
    assert message(world) == ""
    assert world.status.holds("Running")


def test_observe_lets_a_rank_that_keeps_restarting_in_ever_later() -> None:
    world = running_gang(2, mode="Observe")
    waited = []
    for _ in range(4):
        world.new_life(1)
        began = world.now
        actions = world.think().actions
        while not any(isinstance(a, Ping) for a in actions):
            world.now += timedelta(seconds=1)
            actions = world.think().actions
        waited.append(round((world.now - began).total_seconds()))
        for action in actions:
            world.carry_out(action)
        touches(world, 3)
    assert waited == [0, 10, 20, 40]


def test_observe_creates_a_pod_that_is_gone_and_deletes_none() -> None:
    world = running_gang(2, mode="Observe")
    world.members[1] = replace(world.members[1], pod=None, life=None)
    assert "CreatePods" in touches(world)
    assert (world.status.attempt.target, world.starts[2:]) == (1, [(1, 1)])
    world.pod(0, phase="Failed", reason="Evicted")
    assert touches(world) == set()


def test_a_recovery_that_has_begun_is_finished_in_observe() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    change(world, mode="Observe")
    world.run()
    assert world.status.attempt.released == 2


def test_paused_nothing_is_done_about_a_fault_until_it_is_not() -> None:
    world = running_gang(4)
    change(world, paused=True)
    assert touches(world) == set()
    assert message(world) == "spec.recovery.paused is true: nothing is done until it is false"
    assert world.status.holds("Running")  # they train all the same
    world.dies("node-1")
    world.new_life(0)
    assert touches(world) == set()
    change(world, paused=False)
    world.run()
    assert (world.status.attempt.released, len(world.deleted), message(world)) == (2, 2, "")


def test_pausing_stops_a_recovery_that_is_under_way() -> None:
    world = running_gang(4)
    world.dies("node-1")
    world.carry_out(world.think().actions[0])
    change(world, paused=True)
    assert touches(world) == set()
    assert world.deleted == []


def test_paused_a_lost_release_is_still_made_good() -> None:
    world = running_gang(2)
    world.update_life(1, attempt=0)
    change(world, paused=True)
    assert isinstance(world.think().actions[0], Release)


def test_paused_says_nothing_about_the_first_start() -> None:
    world = World(a_gang(2, paused=True)).run()
    assert world.starts == [(0, 1), (1, 1)]


def test_a_pause_that_ends_is_not_shown_any_longer() -> None:
    world = running_gang(2)
    change(world, paused=True)
    world.run()
    change(world, paused=False)
    world.run()
    assert message(world) == ""
    assert world.status.attempt.target == 1


def test_a_suspended_gang_loses_its_pods_gracefully_and_resumes_in_a_new_attempt() -> None:
    world = running_gang(3)
    suspend(world, True)
    world.run()
    assert [grace for _, grace in world.deleted] == [None] * 3
    assert message(world, "Suspended") == "spec.suspend is true: the gang has no pods until it is false"
    assert not world.status.holds("Running")
    assert touches(world) == set()
    suspend(world, False)
    world.run()
    record = world.status.attempt
    assert (record.target, record.released, record.replace_created_before) == (2, 2, 0)
    assert sorted(world.starts[3:]) == [(0, 2), (1, 2), (2, 2)]
    assert message(world, "Suspended") == ""
    assert world.status.history[0].rung == "Resume"
    assert not world.status.budgets.application.hours
    assert not world.status.budgets.node.hours


def test_the_record_says_so_before_a_pod_of_a_suspended_gang_is_deleted() -> None:
    world = running_gang(2)
    suspend(world, True)
    (write,) = world.think().actions
    world.carry_out(write)
    assert world.status.attempt.replace_created_before == 2
    (delete,) = world.think().actions
    assert isinstance(delete, DeletePods)


def test_resumed_before_its_old_pods_are_gone_the_gang_waits_for_that() -> None:
    world = running_gang(2)
    world.terminates = False
    suspend(world, True)
    world.run()
    suspend(world, False)
    world.run()
    assert world.status.attempt.target == 2 > world.status.attempt.released
    for rank in range(2):
        world.members[rank] = replace(world.members[rank], pod=None, life=None)
    world.run()
    assert world.status.attempt.released == 2


@pytest.mark.parametrize("pods_deleted", [0, 1])
def test_resumed_at_once_the_pods_that_were_named_are_still_replaced(pods_deleted: int) -> None:
    world = running_gang(2)
    suspend(world, True)
    world.carry_out(world.think().actions[0])
    if pods_deleted:
        world.delete("uid-0", None)
    suspend(world, False)
    world.run()
    assert world.status.attempt.released == 2
    assert {m.pod.attempt for m in world.members if m.pod} == {2}


def test_a_pod_of_a_suspended_gang_on_a_dead_node_is_not_waited_for() -> None:
    world = running_gang(4)
    world.terminates = False
    suspend(world, True)
    world.run()
    world.dies("node-1")
    world.run()
    assert world.deleted[-2:] == [("uid-2", 0), ("uid-3", 0)]


def test_a_gang_that_is_born_suspended_makes_no_pod_until_it_is_resumed() -> None:
    world = World(a_gang(2))
    suspend(world, True)
    world.run()
    assert all(m.pod is None for m in world.members)
    assert message(world, "Suspended")
    suspend(world, False)
    world.run()
    assert world.starts == [(0, 1), (1, 1)]
    assert message(world, "Suspended") == ""


def test_the_ceiling_is_a_share_of_nodes_but_one_is_always_allowed() -> None:
    assert [Recovery(unhealthy_ceiling="20%").bad_nodes_allowed(n) for n in (1, 4, 10, 64)] == [1, 1, 2, 12]
    assert Recovery(unhealthy_ceiling="100%").bad_nodes_allowed(4) == 4
    assert isinstance(GangSpec(groups=[]).recovery, Recovery)


def test_creates_and_resets_are_never_planned_while_paused() -> None:
    world = running_gang(2)
    world.members[1] = replace(world.members[1], pod=None, life=None)
    change(world, paused=True)
    assert not any(isinstance(a, CreatePods | Reset) for a in world.think().actions)
