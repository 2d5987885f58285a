"""A rank that cannot come back in place gets a new pod, and no other: dead nodes, lost pods, deadlines, brakes."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from worlds import World, a_gang, running_gang

from fleetctl.gang.actions import CreatePods, DeletePods, Deletion, Reset, WriteStatus
from fleetctl.gang.snapshot import Memory
from fleetctl.gang.spec import ApplicationBudget, NodeBudget, Replacing
from fleetctl.gang.state import Container, Ended, Life, Zombie


def step(world: World) -> list[str]:
    """One plan, carried out."""
    actions = world.think().actions
    for action in actions:
        world.carry_out(action)
    return [type(a).__name__ for a in actions]


def message(world: World, kind: str = "Held") -> str:
    condition = world.status.condition(kind)
    return condition.message if condition and condition.status == "True" else ""


def starts_of(world: World, attempt: int) -> list[int]:
    return sorted(rank for rank, number in world.starts if number == attempt)


def test_a_dead_node_costs_its_own_pods_and_a_restart_in_place_of_the_others() -> None:
    world = running_gang(8)
    world.dies("node-1")
    world.run()
    assert sorted(world.deleted) == [("uid-2", 0), ("uid-3", 0)]
    assert {m.rank: m.pod.node for m in world.members if m.pod and m.pod.attempt == 2} == {2: "node-2", 3: "node-2"}
    assert starts_of(world, 2) == list(range(8))
    record, last = world.status.attempt, world.status.history[0]
    assert (record.target, record.replacing) == (2, [])
    assert last.cause.message == (
        "node node-1 is dead: its agents are silent and its Lease did not move for 20 s, while others' did (rank 2-3)"
    )
    assert (last.rung, last.recreated) == ("RecreatePod", "2-3")
    assert sum(world.status.budgets.node.hours.values()) == 1
    assert not world.status.budgets.application.hours


def test_the_record_names_the_victims_before_anything_is_deleted_and_the_others_restart_meanwhile() -> None:
    world = running_gang(4)
    world.dies("node-1")
    assert step(world) == ["WriteStatus"]
    assert world.status.attempt.replacing == [
        Replacing(rank=2, uid="uid-2", node="node-1", bad=True),
        Replacing(rank=3, uid="uid-3", node="node-1", bad=True),
    ]
    assert world.think().actions == (
        Reset(("uid-0", "uid-1"), 2),
        DeletePods((Deletion("llm-worker-2", "uid-2", "1", 0), Deletion("llm-worker-3", "uid-3", "1", 0))),
    )


def test_replacements_avoid_the_bad_node_even_if_a_new_leader_creates_them() -> None:
    world = running_gang(4)
    world.dies("node-1")
    for _ in range(2):
        step(world)
    world.memory, world.writer = Memory(), "controller-b/2"
    assert step(world) == ["WriteStatus"]  # takes over
    create = world.think().actions[-1]
    assert isinstance(create, CreatePods)
    assert create.avoid == ("node-1",)


@pytest.mark.parametrize("evidence", [{"silent": False, "still_s": 100.0}, {"silent": True, "still_s": 19.0}])
def test_without_proof_nothing_is_done(evidence: dict[str, float]) -> None:
    world = running_gang(4)
    world.dies("node-1")
    world.node("node-1", ready="Unknown", **evidence)
    assert world.think().actions == ()


def test_several_silent_nodes_need_longer_proof() -> None:
    world = running_gang(8, unhealthy_ceiling="50%")
    world.dies("node-1", still_s=39)
    world.dies("node-2", still_s=25)
    assert world.think().actions == ()
    world.node("node-1", still_s=40)
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-2", "uid-3", "uid-4", "uid-5"]  # the second joins
    assert world.status.attempt.released == 2
    assert starts_of(world, 2) == list(range(8))
    assert {m.pod.node for m in world.members if m.pod} == {"node-0", "node-3"}
    assert world.status.history[0].recreated == "2-5"


def test_above_the_ceiling_nothing_is_deleted_and_the_gang_says_so() -> None:
    world = running_gang(8)
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    world.run()
    assert world.deleted == []
    assert world.status.attempt.target == 1
    assert message(world).startswith(
        "2 of 4 nodes are judged bad (node-1, node-2), more than the 1 that spec.recovery.unhealthyCeiling allows"
    )
    for rank in (2, 3, 4, 5):  # the network has healed
        world.update_life(rank, connected=True, silent=False)
    for name in ("node-1", "node-2"):
        world.node(name, silent=False, still_s=0.0)
    world.run()
    assert (world.status.attempt.target, message(world)) == (1, "")
    assert world.status.holds("Running")


def test_above_the_ceiling_while_gathering_nothing_is_deleted_either() -> None:
    world = running_gang(8)
    world.exits(rank=0, code=1)
    step(world)
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    world.run()
    assert world.deleted == []
    assert "unhealthyCeiling" in message(world)


def test_a_node_lost_while_gathering_joins_at_the_same_target_and_becomes_the_cause() -> None:
    world = running_gang(4)
    world.exits(rank=0, code=1)
    step(world)
    world.dies("node-1")
    world.run()
    assert world.status.attempt.released == 2
    assert {uid for uid, _ in world.deleted} == {"uid-2", "uid-3"}
    assert starts_of(world, 2) == [0, 1, 2, 3]
    assert world.status.history[0].cause.scope == "Node"


def test_a_node_that_comes_back_after_it_was_named_keeps_its_pods() -> None:
    world = running_gang(4)
    world.dies("node-1")
    step(world)
    world.node("node-1", silent=False, still_s=0.0)
    for rank in (2, 3):
        world.update_life(rank, connected=True, silent=False)
    world.run()
    assert world.deleted == []
    assert world.status.attempt.released == 2
    assert starts_of(world, 2) == [0, 1, 2, 3]


def test_a_node_rebooted_in_time_comes_back_in_place() -> None:
    world = running_gang(4)
    world.dies("node-1", still_s=4.0)
    world.node("node-1", silent=False)
    for rank in (2, 3):
        world.new_life(rank)
    world.run()
    assert (world.deleted, world.status.attempt.released) == ([], 2)


@pytest.mark.parametrize("taint", ["cloud.google.com/impending-node-termination", "karpenter.sh/disrupted"])
def test_a_node_that_is_about_to_go_is_left_gracefully(taint: str) -> None:
    world = running_gang(4)
    world.node("node-0", taints=frozenset({taint}))
    world.run()
    assert sorted(world.deleted) == [("uid-0", 10), ("uid-1", 10)]
    assert world.status.attempt.released == 2
    assert world.status.history[0].cause.message == f"node node-0 is going away (taint {taint}) (rank 0-1)"


def test_a_pod_that_stays_terminating_is_waited_for_and_told_of() -> None:
    world = running_gang(4)
    world.terminates = False
    world.node("node-0", taints=frozenset({"karpenter.sh/disrupted"}))
    world.run()
    world.pod(0, finalizers=("example.com/keep",))
    world.now += timedelta(seconds=61)
    world.run()
    assert len(world.deleted) == 2
    assert "rank 0: the pod stays Terminating: finalizer example.com/keep" in message(world)
    assert "rank 1: the pod stays Terminating on node node-0; it is not force-deleted" in message(world)
    world.dies("node-0")  # until it is
    world.run()
    assert sorted(world.deleted[2:]) == [("uid-0", 0), ("uid-1", 0)]
    assert (world.status.attempt.released, message(world)) == (2, "")


def test_a_rank_that_does_not_come_back_in_place_gets_a_new_pod_elsewhere() -> None:
    world = running_gang(4, in_place_deadline_seconds=60)
    world.exits(rank=0, code=1)
    step(world)
    world.update_life(3, connected=False)  # its agent cannot be reached; its kubelet lives
    world.run()
    world.now += timedelta(seconds=40)
    world.run()
    assert world.deleted == []
    world.now += timedelta(seconds=25)
    world.run()
    assert world.deleted == [("uid-3", 10)]
    assert world.status.attempt.released == 2
    assert world.status.history[0].recreated == "3"
    assert [m.pod.node for m in world.members if m.pod][3] == "node-2"


def test_a_new_pod_has_a_longer_deadline() -> None:
    world = World(a_gang(2, recreate_deadline_seconds=900))
    for _ in range(2):
        step(world)
    world.members[1] = replace(world.members[1], life=None)
    world.run()
    world.now += timedelta(seconds=890)
    world.run()
    assert world.deleted == []
    world.now += timedelta(seconds=20)
    world.run()
    assert world.deleted == [("uid-1", 10)]
    assert world.status.attempt.released == 1


def test_a_pod_without_a_node_is_not_replaced_but_told_of() -> None:
    world = World(a_gang(2))
    for _ in range(2):
        step(world)
    world.members[1] = replace(world.members[1], life=None)
    world.pod(1, node="", unschedulable=True, phase="Pending")
    world.run()
    world.now += timedelta(hours=10)
    world.run()
    assert world.deleted == []
    assert message(world) == (
        "rank 1: no node has room for the pod (kubectl describe pod says why); it goes on when one has"
    )


def test_a_failed_pod_is_made_anew_whatever_its_reason() -> None:
    world = running_gang(2)
    world.pod(1, phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    world.run()
    assert (world.deleted, world.status.attempt.released) == ([("uid-1", 10)], 2)
    assert world.status.history[0].cause.message == (
        "node node-0 ended the pod: Evicted (The node was low on resource: memory.) (rank 1)"
    )


def test_terminal_pods_are_replaced_even_above_the_ceiling_for_they_harm_nobody() -> None:
    world = running_gang(8)
    for rank in range(8):
        world.pod(rank, phase="Failed", reason="NodeShutdown")
    world.run()
    assert (len(world.deleted), world.status.attempt.released) == (8, 2)


def test_a_rank_that_exited_0_too_early_is_needed_again_and_costs_nothing_more() -> None:
    world = running_gang(3)
    world.succeeds(2)
    world.exits(rank=0, code=1)
    world.run()
    assert (world.deleted, world.status.attempt.released) == ([("uid-2", 10)], 2)
    assert sum(world.status.budgets.application.hours.values()) == 1
    assert not world.status.budgets.node.hours


def test_an_init_container_that_always_fails_ends_the_gang_with_the_reason() -> None:
    world = World(a_gang(2, budget=ApplicationBudget(without_progress=3)))
    failed = Container(name="prepare", ended=Ended(exit_code=2, reason="Error"))
    for _ in range(20):
        step(world)
        if world.members[1].pod and not world.status.finished:
            world.pod(1, phase="Failed", preparing=failed)
    assert message(world, "Failed") == (
        "the pod of rank 1 has failed: init container prepare exited 2; "
        "restarted 3 times in a row without progress (budget: 3)"
    )
    assert len(world.deleted) == 3


def test_a_pod_that_somebody_deletes_may_use_its_grace_then_the_gang_restarts() -> None:
    world = running_gang(3)
    world.pod(1, deleting=True, disruption="EvictionByEvictionAPI", containers=world.members[1].pod.containers)  # type: ignore[union-attr]
    running = replace(world.members[1].pod.containers[0], running=True)  # type: ignore[union-attr]
    world.pod(1, containers=(running,))
    assert world.think().actions == ()
    world.update_life(1, leaving=True)
    step(world)
    assert world.status.attempt.cause
    assert world.status.attempt.cause.message == "the pod of rank 1, llm-worker-1, was evicted (a drain?)"
    world.members[1] = replace(world.members[1], pod=None, life=None)
    world.run()
    assert (world.deleted, world.status.attempt.released) == ([], 2)
    assert world.status.history[0].recreated == "1"


def test_the_budget_of_nodes_is_its_own() -> None:
    world = running_gang(4, node_budget=NodeBudget(restarts=1))
    world.dies("node-1")
    world.run()
    assert world.status.attempt.released == 2
    world.dies("node-0")
    world.run()
    assert message(world, "Failed").endswith("restarted once within 24 hours (budget: 1)")
    assert len(world.deleted) == 2


def test_a_zombie_is_told_to_stop_and_the_release_waits_for_it() -> None:
    world = running_gang(2)
    life = world.members[1].life
    world.members[1] = replace(world.members[1], pod=None, life=None)
    world.zombies = [Zombie(rank=1, life=replace(life, uid="old"))]  # type: ignore[type-var]
    for _ in range(8):
        step(world)
    assert world.status.attempt.target == 2 > world.status.attempt.released
    assert world.think().actions[-1] == Reset(("old",), 2)
    assert message(world) == ("rank 1: its former pod, which was deleted, still runs; it goes on when that has stopped")
    world.zombies = [Zombie(rank=1, life=Life(uid="old", life_id="new", started_at=0))]  # it waits now, for ever
    world.run()
    assert (world.status.attempt.released, message(world)) == (2, "")


def test_a_zombie_that_waits_or_is_silent_burns_nothing() -> None:
    world = running_gang(2)
    world.zombies = [
        Zombie(rank=1, life=Life(uid="old", life_id="new", started_at=0)),
        Zombie(rank=0, life=Life(uid="older", life_id="x", started_at=0, attempt=1, silent=True)),
    ]
    assert world.think().actions == ()


def test_nobody_is_released_before_all_reach_the_coordinators_new_pod() -> None:
    world = running_gang(4)
    world.dies("node-0")
    world.run()
    assert world.status.attempt.released == 2
    coordinator = world.members[0].pod
    assert coordinator
    assert {m.life.reaches for m in world.members[1:] if m.life} == {coordinator.uid}
    world.exits(rank=3, code=1)
    order = []
    while kinds := step(world):
        order += kinds
    assert "Prove" not in order  # it has not moved since


def test_a_coordinator_that_cannot_be_reached_is_told_of() -> None:
    world = World(a_gang(3))
    for _ in range(2):
        step(world)
    world.now += timedelta(seconds=11)
    decided = world.think()
    world.now += timedelta(seconds=11)
    decided = world.think()
    assert decided.reasons[1] == (
        "rank 1-2: cannot reach the coordinator through Service llm-coordinator, port 28100; "
        "does a NetworkPolicy forbid it?"
    )


def test_a_big_incident_is_named_and_deleted_in_portions() -> None:
    world = running_gang(200, unhealthy_ceiling="50%")
    for number in range(45):
        world.dies(f"node-{number}")
    deleted: list[float] = []
    for _ in range(100):
        for action in world.think().actions:
            if isinstance(action, WriteStatus):
                assert len(action.status.attempt.replacing) <= 64
            if isinstance(action, DeletePods):
                names = {r.uid for r in world.status.attempt.replacing}
                assert {d.uid for d in action.pods} <= names
                deleted += [world.clock()] * len(action.pods)
            world.carry_out(action)
        world.now += timedelta(seconds=0.3)
    assert (len(deleted), world.status.attempt.released) == (90, 2)
    assert max(sum(at <= other < at + 0.999 for other in deleted) for at in deleted) == 50


def test_what_the_record_has_no_room_to_name_yet_is_not_deleted() -> None:
    world = running_gang(200, unhealthy_ceiling="50%")
    for number in range(45):
        world.dies(f"node-{number}")
    for _ in range(4):
        for action in world.think().actions:
            if not isinstance(action, CreatePods):  # no quota: what was named has no successor
                world.carry_out(action)
        world.now += timedelta(seconds=1)
    assert [uid for uid, _ in world.deleted] == [f"uid-{rank}" for rank in range(64)]


def test_what_the_api_server_refuses_is_told_and_tried_again() -> None:
    world = running_gang(2)
    world.members[1] = replace(world.members[1], pod=None, life=None)
    step(world)
    world.refused = 'pods "llm-worker-1" is forbidden: exceeded quota'
    actions = [type(a).__name__ for a in world.think().actions]
    assert actions[0] == "WriteStatus"
    assert actions[-1] == "CreatePods"
    world.carry_out(world.think().actions[0])
    assert message(world) == world.refused
    world.refused = ""
    world.run()
    assert (world.status.attempt.released, message(world)) == (2, "")


def test_a_status_of_an_earlier_version_has_nothing_to_replace() -> None:
    world = running_gang(2)
    wire = msgspec.json.encode(world.status)
    assert b"replacing" not in wire
    assert b"replaceCreatedBefore" not in wire


def test_above_the_ceiling_while_gathering_nothing_is_named_or_paid_for() -> None:
    world = running_gang(8)
    world.exits(rank=0, code=1)
    step(world)
    spent = world.status.budgets
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    world.run()
    assert (world.status.attempt.replacing, world.status.budgets) == ([], spent)


def test_the_ceiling_counts_nodes_not_ranks() -> None:
    world = running_gang(20)  # on 10 nodes, of which 2 may be bad
    for number in (1, 2, 3):
        world.dies(f"node-{number}", still_s=50)
    world.run()
    assert (world.deleted, world.status.attempt.target) == ([], 1)
    assert message(world).startswith("3 of 10 nodes are judged bad (node-1, node-2, node-3), more than the 2 that ")


def test_nodes_left_earlier_in_this_recovery_count_towards_the_ceiling() -> None:
    world = running_gang(8)
    world.dies("node-1")
    for _ in range(3):
        step(world)
    assert world.status.attempt.released == 1
    world.dies("node-2", still_s=50)
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-2", "uid-3"]
    assert message(world).startswith("2 of 4 nodes are judged bad (node-1, node-2)")


def test_a_pod_that_has_ended_does_not_keep_a_recovery_from_a_dead_node_from_beginning() -> None:
    world = running_gang(8)
    world.pod(2, phase="Failed", reason="Evicted")
    world.dies("node-2")
    assert step(world) == ["WriteStatus"]
    assert [r.rank for r in world.status.attempt.replacing] == [2, 4, 5]


def test_a_pod_that_failed_by_itself_accuses_no_node_in_the_record() -> None:
    world = running_gang(8)
    world.pod(0, phase="Failed")
    step(world)
    assert world.status.attempt.replacing == [Replacing(rank=0, uid="uid-0")]
    world.dies("node-1")
    world.run()
    assert (len(world.deleted), world.status.attempt.released) == (3, 2)


def test_a_rank_at_the_barrier_on_a_node_that_goes_away_is_replaced_before_the_release() -> None:
    world = World(a_gang(4))
    for _ in range(3):
        step(world)
    assert all(m.at_barrier for m in world.members)
    world.node("node-0", taints=frozenset({"karpenter.sh/disrupted"}))
    world.run()
    assert sorted(world.deleted) == [("uid-0", 10), ("uid-1", 10)]
    assert {m.pod.node for m in world.members if m.pod} == {"node-1"}
    assert world.starts == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_ranks_that_exit_0_while_the_gang_gathers_complete_nothing() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=1)
    step(world)
    world.succeeds(0)
    world.succeeds(1)
    world.run()
    assert not world.status.holds("Completed")
    assert (len(world.deleted), world.status.attempt.released) == (2, 2)


def test_a_zombie_that_speaks_up_after_the_promises_still_holds_up_the_release() -> None:
    world = World(a_gang(2))
    while not all(m.life and m.life.promise for m in world.members):
        step(world)
    world.zombies = [Zombie(rank=1, life=Life(uid="old", life_id="x", started_at=0, attempt=1))]
    for _ in range(3):
        step(world)
    assert world.status.attempt.released == 0
    world.zombies = []
    world.run()
    assert world.status.attempt.released == 1


def test_an_image_without_a_shell_is_told_of_and_nothing_is_tried() -> None:
    world = World(a_gang(2))
    for _ in range(2):
        step(world)
    stuck = Container(name="fleetctl-life", ended=Ended(exit_code=128, reason="StartError"))
    world.pod(1, phase="Failed", preparing=stuck)
    world.run()
    assert world.deleted == []
    assert message(world).startswith(
        "rank 1: init container fleetctl-life exited 128, StartError: does its image have no /bin/sh?"
    )


@pytest.mark.parametrize(
    ("phase", "name", "reason"),
    [
        ("Failed", "prepare", "StartError"),  # the user's own
        ("Failed", "fleetctl-life", "Error"),
        ("Pending", "fleetctl-life", "StartError"),  # the kubelet has not given up
    ],
)
def test_other_init_containers_that_fail_are_no_matter_of_the_shell(phase: str, name: str, reason: str) -> None:
    world = World(a_gang(2))
    for _ in range(2):
        step(world)
    world.pod(1, phase=phase, preparing=Container(name=name, ended=Ended(exit_code=128, reason=reason)))
    world.run()
    assert world.status.attempt.released == 1
    assert len(world.deleted) == (phase == "Failed")


def test_the_deadline_of_a_new_pod_is_the_users() -> None:
    world = World(a_gang(2, recreate_deadline_seconds=300))
    for _ in range(2):
        step(world)
    world.members[1] = replace(world.members[1], life=None)
    world.run()
    world.now += timedelta(seconds=310)
    world.run()
    assert world.deleted == [("uid-1", 10)]


def test_each_pod_has_the_whole_deadline_for_itself() -> None:
    world = World(a_gang(2, recreate_deadline_seconds=300))
    for _ in range(2):
        step(world)
    world.update_life(1, connected=False)
    for _ in range(3):
        world.run()
        world.now += timedelta(seconds=200)
        world.members[1] = replace(world.members[1], pod=None, life=None)  # somebody deletes it
        step(world)
        world.update_life(1, connected=False)
    world.run()
    assert world.deleted == []


def test_a_rank_that_was_at_the_barrier_has_its_deadline_from_when_it_is_lost() -> None:
    world = running_gang(4, in_place_deadline_seconds=120)
    world.exits(rank=0, code=1)
    step(world)
    world.update_life(3, connected=False)
    world.run()
    world.now += timedelta(seconds=100)
    world.update_life(2, connected=False)
    world.run()
    world.now += timedelta(seconds=25)
    world.run()
    assert world.deleted == [("uid-3", 10)]


def test_the_time_a_gang_runs_counts_towards_no_deadline() -> None:
    world = running_gang(4, in_place_deadline_seconds=120)
    world.run()
    world.now += timedelta(hours=1)
    world.update_life(3, connected=False)
    world.exits(rank=0, code=1)
    world.run()
    assert (world.deleted, message(world)) == ([], "")


def test_a_zombie_is_told_again_every_second() -> None:
    world = running_gang(2)
    world.new_life(1)
    world.run()
    world.zombies = [Zombie(rank=1, life=Life(uid="old", life_id="x", started_at=0, attempt=1))]
    decided = world.think()
    assert (decided.actions, decided.wake_in) == ((Reset(("old",), 2),), 1.0)


def test_of_two_that_are_lost_while_gathering_the_node_is_the_cause_and_is_charged() -> None:
    world = running_gang(6)
    world.exits(rank=3, code=1)
    step(world)
    spent = world.status.budgets.application
    world.pod(0, phase="Failed")
    world.pod(5, phase="Failed")
    world.dies("node-1")
    step(world)
    record, recovering = world.status.attempt, world.status.condition("Recovering")
    assert [r.rank for r in record.replacing] == [0, 2, 3, 5]
    assert record.cause
    assert record.cause.rule == "node-dead"
    assert recovering
    assert recovering.reason == "RecreatePod"
    assert world.status.budgets.application == spent
    assert sum(world.status.budgets.node.hours.values()) == 1


def test_a_pod_that_fails_after_a_node_was_lost_does_not_become_the_cause() -> None:
    world = running_gang(6)
    world.dies("node-1")
    step(world)
    world.pod(5, phase="Failed")
    step(world)
    assert [r.rank for r in world.status.attempt.replacing] == [2, 3, 5]
    assert world.status.attempt.cause
    assert world.status.attempt.cause.rule == "node-dead"


def test_while_the_coordinator_is_not_there_nobody_is_said_not_to_reach_it() -> None:
    world = World(a_gang(3))
    for _ in range(2):
        step(world)
    world.update_life(0, connected=False)
    world.run()
    world.now += timedelta(seconds=11)
    decided = world.think()
    assert decided.reasons == ("attempt 1 waits for rank 0",)


def test_the_cause_counts_only_the_ranks_on_its_node() -> None:
    world = running_gang(8, unhealthy_ceiling="50%")
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    world.run()
    assert world.status.history[0].cause.message.endswith(" (rank 2-3)")


def test_a_budget_that_ends_while_the_gang_gathers_ends_the_recovery_too() -> None:
    world = running_gang(4, node_budget=NodeBudget(restarts=0))
    world.exits(rank=0, code=1)
    step(world)
    world.dies("node-1")
    world.run()
    assert message(world, "Failed").endswith("restarted 0 times within 24 hours (budget: 0)")
    assert not world.status.holds("Recovering")
    assert world.status.attempt.cause
    assert world.status.attempt.cause.rule == "node-dead"
    assert world.deleted == []


def test_a_first_start_that_was_held_up_is_still_a_start() -> None:
    world = World(a_gang(2))
    for _ in range(2):
        step(world)
    pod, life = world.members[1].pod, world.members[1].life
    world.members[1] = replace(world.members[1], life=None)
    world.pod(1, node="", unschedulable=True, phase="Pending")
    world.run()
    world.now += timedelta(seconds=11)
    world.run()
    assert "no node has room" in message(world)
    world.members[1] = replace(world.members[1], pod=pod)
    step(world)
    running = world.status.condition("Running")
    assert running
    assert (running.reason, message(world)) == ("Starting", "")
    world.members[1] = replace(world.members[1], life=life)
    world.run()
    assert world.status.attempt.released == 1


def test_time_spent_above_the_ceiling_counts_towards_no_deadline() -> None:
    world = running_gang(8)
    world.exits(rank=0, code=1)
    step(world)
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    world.run()
    world.now += timedelta(minutes=10)
    world.run()
    for rank in (2, 3, 4, 5):
        world.update_life(rank, connected=True, silent=False)
    for name in ("node-1", "node-2"):
        world.node(name, silent=False, still_s=0.0)
    world.run()
    assert (world.deleted, world.status.attempt.released, message(world)) == ([], 2, "")


def test_time_spent_above_the_ceiling_counts_for_whoever_cannot_be_told() -> None:
    world = running_gang(8)
    world.exits(rank=0, code=1)
    step(world)
    world.update_life(7, connected=False)  # its agent cannot be reached; its kubelet lives
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    world.run()
    world.now += timedelta(minutes=10)
    world.run()
    for rank in (2, 3, 4, 5):
        world.update_life(rank, connected=True, silent=False)
    for name in ("node-1", "node-2"):
        world.node(name, silent=False, still_s=0.0)
    world.run()
    assert world.deleted == [("uid-7", 10)]
    assert world.status.attempt.released == 2


def test_a_foreign_pod_that_terminates_on_a_dead_node_is_never_deleted_by_us() -> None:
    world = World(a_gang(2))
    step(world)
    world.create(0, attempt=0)
    world.pod(0, ours=False, deleting=True)
    world.members[0] = replace(world.members[0], life=None)
    world.dies("node-0")
    for _ in range(5):
        step(world)
    assert world.deleted == []


def test_an_evicted_pod_beside_a_dead_node_is_replaced_with_those_of_the_node() -> None:
    world = running_gang(8)
    world.pod(2, phase="Failed", reason="Evicted")
    world.dies("node-2")
    world.run()
    assert sorted(world.deleted) == [("uid-2", 10), ("uid-4", 0), ("uid-5", 0)]
    assert world.status.attempt.released == 2


def test_one_big_incident_is_paid_for_once() -> None:
    world = running_gang(200, unhealthy_ceiling="50%")
    for number in range(45):
        world.dies(f"node-{number}")
    world.run(steps_max=40)
    assert world.status.attempt.released == 2
    assert sum(world.status.budgets.node.hours.values()) == 1


def test_a_node_that_was_proven_dead_is_not_waited_for_any_more() -> None:
    world = running_gang(4)
    world.exits(rank=3, code=1)
    world.carry_out(world.think().actions[0])  # the target is raised
    world.dies("node-0", still_s=0.0)
    world.think()
    world.now += timedelta(seconds=31)
    assert any(isinstance(a, WriteStatus) and a.status.holds("Held") for a in world.think().actions)
    world.node("node-0", still_s=30.0)
    world.carry_out(world.think().actions[0])  # its pods are named
    assert {r.rank for r in world.status.attempt.replacing} == {0, 1}
    assert not any(isinstance(a, WriteStatus) for a in world.think().actions)
