"""Observe, paused, suspended: what fleetctl does not do when it is told not to."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from worlds import World, a_gang, committed, running_gang

from fleetctl.gang.actions import CreatePods, DeletePods, Ping, Release, Reset, WriteStatus
from fleetctl.gang.plan import plan
from fleetctl.gang.snapshot import Acceptance
from fleetctl.gang.spec import GangSpec, Ranks, Recovery
from fleetctl.gang.state import Life, Zombie


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
    assert (world.status.history[0].rung, world.status.history[0].recreated) == ("Resume", "")
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


def test_paused_beats_observe() -> None:
    world = running_gang(2, mode="Observe")
    change(world, paused=True)
    world.new_life(1)
    assert touches(world) == set()
    assert message(world).startswith("spec.recovery.paused is true")


def test_observe_reports_what_enforce_would_hold_for() -> None:
    world = running_gang(8, mode="Observe")
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    assert touches(world) == set()
    assert message(world).startswith("Observe: would begin attempt 2: node node-1 is dead")


def test_a_paused_gang_ends_when_its_ranks_do() -> None:
    world = running_gang(2)
    change(world, paused=True)
    world.succeeds(0)
    world.succeeds(1)
    world.run()
    assert world.status.holds("Completed")
    assert not world.status.holds("Running")


def test_a_paused_gang_fails_of_a_fatal_exit() -> None:
    world = running_gang(2, fatal=(64,))
    change(world, paused=True)
    world.exits(rank=1, code=64)
    world.pod(1, phase="Failed", restarting_since=None)
    world.run()
    assert message(world, "Failed")


def test_a_suspended_gang_never_deletes_a_pod_that_is_not_its_own() -> None:
    world = running_gang(2)
    world.pod(0, ours=False, attempt=0)
    suspend(world, True)
    assert "DeletePods" not in touches(world)
    assert "belongs to somebody else" in message(world)


def test_a_gang_suspended_at_the_barrier_replaces_even_the_pods_that_stand_there() -> None:
    world = World(a_gang(2))
    for _ in range(3):
        for action in world.think().actions:
            world.carry_out(action)
    assert all(m.at_barrier for m in world.members)
    suspend(world, True)
    world.carry_out(world.think().actions[0])
    suspend(world, False)
    world.run()
    assert sorted(world.deleted) == [("uid-0", None), ("uid-1", None)]
    assert {m.pod.attempt for m in world.members if m.pod} == {2}


def test_the_pods_of_a_suspended_gang_are_deleted_not_told_to_restart() -> None:
    world = running_gang(2)
    suspend(world, True)
    world.carry_out(world.think().actions[0])
    suspend(world, False)
    world.carry_out(world.think().actions[0])
    assert [type(a) for a in world.think().actions] == [DeletePods]


def test_a_gang_that_is_born_suspended_is_not_checked_and_names_its_writer() -> None:
    world = World(a_gang(2))
    suspend(world, True)
    refused = replace(world.snapshot(), acceptance=Acceptance(problems=("spec.x: do y",)))
    (write,) = plan(refused, world.memory).actions
    assert isinstance(write, WriteStatus)
    assert write.status.condition("Accepted") is None
    assert write.status.holds("Suspended")
    assert write.status.attempt.writer == world.writer


def test_suspending_ends_a_recovery_that_is_under_way() -> None:
    world = running_gang(4)
    world.dies("node-1")
    world.carry_out(world.think().actions[0])
    assert world.status.holds("Recovering")
    suspend(world, True)
    world.carry_out(world.think().actions[0])
    assert world.status.attempt.replacing == []
    assert not world.status.holds("Recovering")


def test_no_rank_of_a_suspended_gang_counts_as_released() -> None:
    world = running_gang(2)
    suspend(world, True)
    world.run()
    assert world.status.ranks == Ranks(total=2, released=0)


def test_observe_resets_no_zombie_of_the_attempt_that_runs() -> None:
    world = running_gang(2, mode="Observe")
    world.zombies = [Zombie(rank=1, life=Life(uid="old", life_id="x", started_at=0, attempt=1))]
    assert touches(world) == set()


def test_observe_lets_a_rank_in_at_once_that_has_been_well_for_long_and_never_waits_for_ever() -> None:
    world = running_gang(2, mode="Observe")

    def restarts() -> int:
        """How long it waits at the barrier, seconds."""
        world.new_life(1)
        began = world.now
        decided = world.think()
        while not any(isinstance(a, Ping) for a in decided.actions):
            assert decided.wake_in == 1.0
            world.now += timedelta(seconds=1)
            decided = world.think()
        for action in decided.actions:
            world.carry_out(action)
        touches(world, 3)
        return round((world.now - began).total_seconds())

    assert [restarts() for _ in range(9)][-2:] == [300, 300]
    world.now += timedelta(seconds=601)
    assert [restarts(), restarts()] == [0, 10]


def test_observe_creates_at_the_same_pace() -> None:
    world = running_gang(60, mode="Observe")
    world.members = [replace(m, pod=None, life=None) for m in world.members]

    def created() -> list[int]:
        return [len(a.slots) for a in world.think().actions if isinstance(a, CreatePods)]

    assert (created(), created()) == ([50], [])
    world.now += timedelta(seconds=1)
    assert created() == [50]


def test_a_suspended_gang_is_deleted_at_the_same_pace() -> None:
    world = running_gang(60)
    suspend(world, True)
    world.carry_out(world.think().actions[0])

    def deletes() -> int:
        return sum(len(a.pods) for a in world.think().actions if isinstance(a, DeletePods))

    (delete,) = world.think().actions
    world.carry_out(delete)
    assert len(world.deleted) == 50
    assert world.think().actions == ()
    world.now += timedelta(seconds=1)
    assert deletes() == 10


def test_observe_lets_a_rank_in_at_once_on_a_machine_that_has_just_booted() -> None:
    world = running_gang(2, mode="Observe")
    world.new_life(1)
    decided = plan(replace(world.snapshot(), monotonic=3.0), world.memory)
    assert [type(a) for a in decided.actions] == [WriteStatus, Ping]


@pytest.mark.parametrize("begun", [False, True])
def test_a_gang_paused_in_a_fault_is_not_said_to_run(begun: bool) -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    if begun:
        world.carry_out(world.think().actions[0])
        world.pod(1, restarting_since=None, containers=())  # the evidence has been overwritten
    change(world, paused=True)
    world.run()
    running = world.status.condition("Running")
    assert running
    assert (running.status, running.reason) == ("False", "Held")


def test_a_gang_that_is_paused_again_says_so_again() -> None:
    world = running_gang(2)
    for paused in (True, False, True):
        change(world, paused=paused)
        world.run()
    assert message(world)


def test_a_hold_for_another_reason_is_told() -> None:
    world = running_gang(2)
    change(world, paused=True)
    world.run()
    world.pod(1, ours=False)
    world.run()
    assert message(world).startswith("rank 1: pod llm-worker-1 belongs to somebody else")


def test_time_spent_paused_counts_towards_no_deadline() -> None:
    world = running_gang(4, in_place_deadline_seconds=120)
    world.exits(rank=0, code=1)
    touches(world, 1)
    change(world, paused=True)
    world.run()
    world.now += timedelta(minutes=10)
    world.run()
    change(world, paused=False)
    world.run()
    assert (world.deleted, world.status.attempt.released, message(world)) == ([], 2, "")


def test_nor_does_it_for_a_rank_that_was_lost_before() -> None:
    world = running_gang(4, in_place_deadline_seconds=120)
    world.exits(rank=0, code=1)
    touches(world, 1)
    world.update_life(3, connected=False)
    world.run()
    change(world, paused=True)
    world.run()
    world.now += timedelta(minutes=10)
    world.run()
    change(world, paused=False)
    world.run()
    assert world.deleted == []
    world.now += timedelta(seconds=121)
    world.run()
    assert world.deleted == [("uid-3", 10)]


def test_observe_lets_a_rank_in_alone_whatever_else_is_wrong() -> None:
    world = running_gang(4, mode="Observe")
    world.node("node-0", taints=frozenset({"karpenter.sh/disrupted"}))
    world.new_life(3)
    touches(world)
    assert world.starts[4:] == [(3, 1)]


def test_a_foreign_pod_is_not_deleted_by_a_suspended_gang() -> None:
    world = running_gang(2)
    world.pod(0, ours=False, deleting=True, attempt=0)
    suspend(world, True)
    world.dies("node-0")
    touches(world, 5)
    assert "uid-0" not in [uid for uid, _ in world.deleted]


def test_a_fatal_code_of_a_pod_of_the_suspended_gang_does_not_end_the_resumed_one() -> None:
    world = running_gang(2, fatal=(64,))
    world.terminates = False
    suspend(world, True)
    world.run()
    world.exits(rank=1, code=64)
    world.pod(1, phase="Failed", restarting_since=None)
    suspend(world, False)
    world.run()
    assert not world.status.finished


def test_a_gang_that_breaks_while_paused_is_not_said_to_run_and_one_that_heals_is() -> None:
    world = running_gang(2)
    change(world, paused=True)
    world.run()
    world.new_life(1)
    world.run()
    assert not world.status.holds("Running")
    world.update_life(1, promise=committed(world), attempt=1)
    world.run()
    assert world.status.holds("Running")


@pytest.mark.parametrize("policy", [{"paused": True}, {"mode": "Observe"}])
def test_nobody_is_let_into_an_attempt_that_is_being_replaced(policy: dict[str, Any]) -> None:
    world = running_gang(3)
    world.update_life(1, attempt=0)  # the release was lost
    world.exits(rank=0, code=3)
    world.carry_out(world.think().actions[0])
    change(world, **policy)
    assert not any(isinstance(action, Release) for action in world.think().actions)
