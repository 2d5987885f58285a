"""What people are told: conditions, Events, the sentences of the log, and when the gang is looked at again.

A story is a list of turns. Each turn is one plan, carried out, and reads as what it told: the conditions it changed,
the Event, `→` what else it did, `log` its reasons, `again` when it wakes. A message that users see is asserted here as
a whole, once.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from worlds import World, a_gang, running_gang

from fleetctl.gang.actions import WriteStatus
from fleetctl.gang.plan import plan
from fleetctl.gang.snapshot import Acceptance, Memory
from fleetctl.gang.spec import ApplicationBudget, Cause, NodeBudget, Ranks
from fleetctl.gang.state import Container, Ended

DEAD = "its agents are silent and its Lease did not move for {} s, while others' did"
SUSPENDED = "spec.suspend is true: the gang has no pods until it is false"
PAUSED = "spec.recovery.paused is true: nothing is done until it is false"
NO_ROOM = "rank 0: no node has room for the pod (kubectl describe pod says why); it goes on when one has"


def turn(world: World, **seen: Any) -> list[str]:
    """One plan, carried out, as it is told. `seen`: what differs in the snapshot."""
    decided = plan(replace(world.snapshot(), **seen), world.memory)
    world.memory = decided.memory or world.memory
    told = []
    for action in decided.actions:
        if isinstance(action, WriteStatus):
            before = world.status.conditions
            told += [
                f"{c.type}={c.status} {c.reason}: {c.message}" for c in action.status.conditions if c not in before
            ]
            if notice := action.notice:
                told.append(f"{notice.kind} Event {notice.reason} ({notice.action}): {notice.message}")
        else:
            told.append(f"→ {type(action).__name__}")
        world.carry_out(action)
    told += [f"log {reason}" for reason in decided.reasons]
    return [*told, f"again in {decided.wake_in:g} s"] if decided.wake_in is not None else told


def edit(world: World, **changes: Any) -> None:
    """Somebody edits the spec: `suspend`, or what belongs to spec.recovery."""
    suspend = changes.pop("suspend", world.gang.spec.suspend)
    recovery = msgspec.structs.replace(world.gang.spec.recovery, **changes)
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, suspend=suspend, recovery=recovery))


def test_a_start() -> None:
    world = World(a_gang(2))
    assert turn(world) == [
        "Accepted=True Accepted: the template can run as a gang",
        "Running=False Starting: 2 ranks gather for attempt 1",
        "log the gang starts",
    ]
    assert world.status.ranks == Ranks(total=2)
    assert world.status.attempt.cause == Cause(scope="Start", rule="start", message="the gang starts")
    assert turn(world) == [
        "→ CreateCompanions",
        "→ CreatePods",
        "log attempt 1 waits for rank 0-1",
        "log creates the pods of rank 0-1, 0 more later",
        "again in 1 s",
    ]
    assert turn(world) == [
        "→ Prove",
        "log attempt 1 waits",
        "log still to reach the coordinator: rank 1",
        "again in 1 s",
    ]
    assert turn(world) == [
        "→ Ping",
        "log everyone stands at the barrier; rank 0-1 is asked to promise",
        "again in 1 s",
    ]
    assert turn(world) == [
        "Running=True AllRanksReleased: 2 ranks run attempt 1",
        "Normal Event Released (Release): 2 ranks run attempt 1, 0.5 s after: the gang starts",
        "→ Release",
        "log 2 ranks run attempt 1",
        "again in 1 s",
    ]
    assert turn(world) == ["log 2 ranks run attempt 1"]


def test_a_template_that_is_checked_refused_or_warned_of() -> None:
    world = World(a_gang(2))
    assert turn(world, acceptance=None) == ["log the template is being checked"]
    refused = Acceptance(problems=("spec.x: do y", "spec.z: do not"))
    assert turn(world, acceptance=refused) == [
        "Accepted=False NotAccepted: spec.x: do y; spec.z: do not",
        "Running=False NotAccepted: spec.x: do y; spec.z: do not",
        "Warning Event NotAccepted (Accept): spec.x: do y; spec.z: do not",
        "log refused: spec.x: do y; spec.z: do not",
        "again in 10 s",
    ]
    assert turn(world, acceptance=refused) == ["log refused: spec.x: do y; spec.z: do not", "again in 10 s"]
    assert turn(world, acceptance=Acceptance(warnings=("spec.x: mind y", "spec.z: and this"))) == [
        "Accepted=True AcceptedWithWarnings: spec.x: mind y; spec.z: and this",
        "Running=False Starting: 2 ranks gather for attempt 1",
        "Warning Event TemplateWarning (Accept): spec.x: mind y; spec.z: and this",
        "log the gang starts",
    ]


def test_a_gang_that_is_deleted() -> None:
    assert turn(running_gang(2), deleting=True) == ["log the gang is being deleted"]


def test_a_restart_in_place() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    assert turn(world) == [
        "Running=False Recovering: attempt 2: rank 1 exited 3",
        "Recovering=True RestartInPlace: attempt 2: rank 1 exited 3",
        "Warning Event Recovering (RestartInPlace): attempt 2: rank 1 exited 3",
        "log attempt 2: rank 1 exited 3",
    ]
    assert turn(world) == [
        "→ Reset",
        "log attempt 2 waits for rank 0-1",
        "log restarts in place: rank 0-1",
        "again in 1 s",
    ]
    turn(world)
    assert turn(world) == [
        "Running=True AllRanksReleased: 2 ranks run attempt 2",
        "Recovering=False Released: 2 ranks run attempt 2",
        "Normal Event Released (Release): 2 ranks run attempt 2, 0.3 s after: rank 1 exited 3",
        "→ Release",
        "log 2 ranks run attempt 2",
        "again in 1 s",
    ]


def test_a_dead_node() -> None:
    world = running_gang(4)
    world.dies("node-1")
    because = f"node node-1 is dead: {DEAD.format(20)} (rank 2-3)"
    assert turn(world) == [
        f"Running=False Recovering: attempt 2: {because}",
        f"Recovering=True RecreatePod: attempt 2: {because}",
        f"Warning Event Recovering (RecreatePod): attempt 2: {because}",
        f"log attempt 2: {because}",
    ]
    assert turn(world) == [
        "→ Reset",
        "→ DeletePods",
        "log attempt 2 waits for rank 0-3",
        "log restarts in place: rank 0-1",
        "log deletes the pods of rank 2-3",
        "again in 1 s",
    ]


def test_a_pod_lost_meanwhile_is_news_but_not_the_cause() -> None:
    world = running_gang(6)
    world.dies("node-1")
    turn(world)
    world.pod(5, phase="Failed")
    because = f"node node-1 is dead: {DEAD.format(20)} (rank 2-3)"
    assert turn(world) == [
        "Warning Event Recovering (RecreatePod): attempt 2: the pod of rank 5 has failed",
        "log attempt 2: the pod of rank 5 has failed",
    ]
    running = world.status.condition("Running")
    assert running
    assert running.message == f"attempt 2: {because}"


def test_more_pods_than_the_pace_allows() -> None:
    world = World(a_gang(120))
    turn(world)
    for told in ("0-49, 70", "50-99, 20"):
        assert turn(world)[-2:] == [f"log creates the pods of rank {told} more later", "again in 1 s"]
        world.now += timedelta(seconds=1)


def test_a_change_of_leaders() -> None:
    world = running_gang(2)
    world.writer, world.memory = "controller-b/2", Memory()
    assert turn(world) == ["log controller-b/2 takes over from controller-a/1"]
    world.writer = "controller-a/1"
    assert turn(world) == ["log controller-b/2 leads now"]


def test_a_release_that_was_lost() -> None:
    world = running_gang(2)
    world.update_life(1, attempt=0)
    assert turn(world) == ["→ Release", "log rank 1 is released into attempt 1", "again in 1 s"]


def test_a_suspension() -> None:
    world = running_gang(2)
    world.terminates = False
    edit(world, suspend=True)
    assert turn(world) == [
        f"Running=False Suspended: {SUSPENDED}",
        f"Suspended=True Suspended: {SUSPENDED}",
        f"Normal Event Suspended (Suspend): {SUSPENDED}",
        f"log {SUSPENDED}",
    ]
    assert turn(world) == ["→ DeletePods", "log suspended: its pods are deleted", "again in 1 s"]
    assert turn(world) == ["log suspended"]
    edit(world, suspend=False)
    assert turn(world) == [
        "Running=False Starting: attempt 2: the gang is resumed",
        "Suspended=False Resumed: attempt 2: the gang is resumed",
        "Normal Event Resumed (Resume): attempt 2: the gang is resumed",
        "log attempt 2: the gang is resumed",
    ]
    assert world.status.attempt.cause
    assert world.status.attempt.cause.rule == "resumed"
    assert world.status.ranks.total == 2
    assert turn(world) == ["log attempt 2 waits for rank 0-1", "again in 5 s"]


def test_a_suspension_in_the_middle_of_a_recovery() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    turn(world)
    edit(world, suspend=True)
    assert turn(world)[:3] == [
        f"Running=False Suspended: {SUSPENDED}",
        f"Recovering=False Suspended: {SUSPENDED}",
        f"Suspended=True Suspended: {SUSPENDED}",
    ]


def test_a_gang_that_was_born_suspended() -> None:
    world = World(a_gang(2))
    edit(world, suspend=True)
    turn(world)
    assert turn(world) == ["log suspended"]
    edit(world, suspend=False)
    assert turn(world) == [
        "Suspended=False Resumed: the gang is not suspended",
        "Running=False Starting: 2 ranks gather for attempt 1",
        "Accepted=True Accepted: the template can run as a gang",
        "log the gang starts",
    ]


def test_a_pause() -> None:
    world = running_gang(2)
    edit(world, paused=True)
    assert turn(world) == [f"Held=True Paused: {PAUSED}", f"Warning Event Held (Hold): {PAUSED}", f"log held: {PAUSED}"]
    assert turn(world) == [f"log held: {PAUSED}"]
    world.new_life(1)
    assert turn(world) == [f"Running=False Held: {PAUSED}", f"log held: {PAUSED}"]
    world.update_life(1, attempt=1, promise=world.members[0].life and world.members[0].life.promise)
    assert turn(world) == ["Running=True AllRanksReleased: 2 ranks run attempt 1", f"log held: {PAUSED}"]
    edit(world, paused=False)
    assert turn(world) == ["Held=False Ended: no longer held", "log 2 ranks run attempt 1"]


def test_too_many_bad_nodes() -> None:
    world = running_gang(8)
    world.dies("node-1")
    world.dies("node-2")
    because = (
        "2 of 4 nodes are judged bad (node-1, node-2), more than the 1 that spec.recovery.unhealthyCeiling allows: "
        "nothing is deleted until they come back or it is raised; node node-1 is dead: " + DEAD.format(40)
    )
    assert turn(world) == [
        f"Running=False Held: {because}",
        f"Held=True UnhealthyCeiling: {because}",
        f"Warning Event Held (Hold): {because}",
        f"log held: {because}",
    ]


def test_bad_nodes_that_come_and_go_are_told_of_every_ten_seconds() -> None:
    world = running_gang(16)
    for number in range(3):
        world.dies(f"node-{number}")
    (first,) = [line for line in turn(world) if line.startswith("Held=True")]
    assert "3 of 8 nodes" in first
    world.dies("node-3")
    world.now += timedelta(seconds=9)
    assert turn(world)[-1] == "again in 5 s"
    assert "3 of 8" in str(world.status.condition("Held"))
    world.now += timedelta(seconds=1)
    _, held, event, _ = turn(world)
    assert "4 of 8 nodes" in held
    assert event.startswith("Warning Event Held")
    assert len(turn(world)) == 1  # it has been told


@pytest.mark.parametrize(("bad", "listed"), [(8, "node-7)"), (9, "node-7, …)")])
def test_of_many_bad_nodes_eight_are_listed(bad: int, listed: str) -> None:
    world = running_gang(20)
    for number in range(bad):
        world.dies(f"node-{number}")
    (held,) = [line for line in turn(world) if line.startswith("Held=True")]
    assert f"{bad} of 10 nodes are judged bad (node-0, node-1, node-2" in held
    assert f"node-6, {listed}, more than the 2 that" in held


def test_of_too_many_bad_nodes_the_first_is_told_of() -> None:
    world = running_gang(8)
    world.pod(1, node="node-3")
    world.dies("node-0")
    world.dies("node-1")
    assert turn(world)[-1].endswith(f"; node node-0 is dead: {DEAD.format(40)}")


def test_a_pod_that_is_somebody_elses() -> None:
    world = running_gang(2)
    world.pod(1, ours=False)
    because = "rank 1: pod llm-worker-1 belongs to somebody else; delete it or give the gang another name"
    assert turn(world) == [
        f"Held=True NeedsSomebody: {because}",
        f"Warning Event Held (Hold): {because}",
        f"log held: {because}",
    ]


def gathering_gang(ranks: int) -> World:
    """The first attempt is under way; all pods have been created."""
    world = World(a_gang(ranks))
    for _ in range(2):
        for action in world.think().actions:
            world.carry_out(action)
    return world


def test_an_image_without_a_shell() -> None:
    world = gathering_gang(2)
    stuck = Container(name="fleetctl-life", ended=Ended(exit_code=128, reason="StartError"))
    world.pod(1, phase="Failed", preparing=stuck)
    because = (
        "rank 1: init container fleetctl-life exited 128, StartError: does its image have no /bin/sh? "
        "Set lifeImage of the group to one that has, in a new gang"
    )
    assert turn(world) == [
        f"Running=False Held: {because}",
        f"Held=True NeedsSomebody: {because}",
        f"Warning Event Held (Hold): {because}",
        f"log held: {because}",
    ]


def test_a_record_that_makes_no_sense() -> None:
    world = running_gang(2)
    record = msgspec.structs.replace(world.status.attempt, target=3, released=5)
    world.status = msgspec.structs.replace(world.status, attempt=record)
    because = "the record makes no sense: target 3 < released 5"
    assert turn(world) == [
        f"Running=False Held: {because}",
        f"Held=True NeedsSomebody: {because}",
        f"Warning Event Held (Hold): {because}",
        f"log held: {because}",
    ]


def test_what_the_gathering_waits_for() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    turn(world)
    world.members[0] = replace(world.members[0], life=None)
    world.pod(0, node="", unschedulable=True, phase="Pending")
    turn(world)
    world.now += timedelta(seconds=11)
    assert turn(world) == [
        f"Running=False Held: {NO_ROOM}",
        f"Held=True Waiting: {NO_ROOM}",
        f"Warning Event Held (Hold): {NO_ROOM}",
        "log attempt 2 waits for rank 0",
        f"log {NO_ROOM}",
        "again in 1 s",
    ]
    assert turn(world) == ["log attempt 2 waits for rank 0", f"log {NO_ROOM}", "again in 5 s"]
    world.pod(0, node="node-0", unschedulable=False)
    assert turn(world) == [
        "Running=False Recovering: attempt 2: rank 1 exited 3",
        "Held=False Ended: no longer held",
        "log attempt 2 waits for rank 0",
        "again in 1 s",
    ]


def test_what_the_api_server_refuses_comes_after_what_the_gathering_waits_for() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    turn(world)
    world.members[0] = replace(world.members[0], life=None)
    world.pod(0, node="", unschedulable=True, phase="Pending")
    turn(world)
    world.now += timedelta(seconds=11)
    refused = "pods is forbidden: exceeded quota"
    assert turn(world, refused=refused)[1] == f"Held=True Waiting: {NO_ROOM}; {refused}"


def test_an_attempt_of_which_the_record_says_neither_cause_nor_time() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    turn(world)
    record = msgspec.structs.replace(world.status.attempt, cause=None, started_at="")
    world.status = msgspec.structs.replace(world.status, attempt=record)
    world.members[0] = replace(world.members[0], life=None)
    world.pod(0, node="", unschedulable=True, phase="Pending")
    turn(world)
    world.now += timedelta(seconds=11)
    assert f"Held=True Waiting: {NO_ROOM}" in turn(world)
    world.pod(0, node="node-0", unschedulable=False)
    assert turn(world)[0] == "Running=False Recovering: attempt 2"
    world.new_life(0)
    turn(world)
    told = turn(world)
    assert "Normal Event Released (Release): 2 ranks run attempt 2, 0.0 s after: unknown" in told
    cause = world.status.history[0].cause
    assert (cause.scope, cause.rule, cause.rank, cause.message) == ("Unknown", "unknown", None, "unknown")


def test_what_observe_would_do() -> None:
    world = running_gang(4, mode="Observe")
    world.dies("node-1")
    because = (
        f"Observe: would begin attempt 2: node node-1 is dead: {DEAD.format(20)} (rank 2-3); mode Enforce would let it"
    )
    assert turn(world) == [
        f"Running=False Held: {because}",
        f"Held=True Observe: {because}",
        f"Warning Event Held (Hold): {because}",
        f"log {because}",
        "again in 1 s",
    ]
    assert turn(world) == [f"log {because}", "again in 1 s"]


def test_what_observe_does_all_the_same() -> None:
    world = running_gang(3, mode="Observe")
    world.members[1] = replace(world.members[1], pod=None, life=None)
    world.new_life(2)
    told = turn(world)
    assert told[0].startswith("Running=False Held: Observe: would begin attempt 2: ")
    assert [line for line in told if line.startswith("→")] == ["→ Ping", "→ CreateCompanions", "→ CreatePods"]


def test_a_gang_that_completes() -> None:
    world = running_gang(2)
    world.succeeds(0)
    world.succeeds(1)
    assert turn(world) == [
        "Running=False Completed: all 2 ranks of attempt 1 exited 0",
        "Completed=True AllRanksExited0: all 2 ranks of attempt 1 exited 0",
        "Normal Event Completed (Complete): all 2 ranks of attempt 1 exited 0",
        "log all 2 ranks of attempt 1 exited 0",
    ]
    assert turn(world) == ["log the gang has ended"]


def test_a_fatal_exit() -> None:
    world = running_gang(2, fatal=(64,))
    world.exits(rank=1, code=64)
    world.pod(1, phase="Failed", restarting_since=None)
    because = "rank 1 exited 64, which a rule of the gang calls fatal"
    assert turn(world) == [
        f"Running=False Failed: {because}",
        f"Failed=True FatalExit: {because}",
        f"Warning Event Failed (Fail): {because}",
        f"log {because}",
    ]
    assert world.status.attempt.cause
    assert (world.status.attempt.cause.rank, world.status.attempt.cause.message) == (1, because)


def test_a_budget_that_is_spent() -> None:
    world = running_gang(2, budget=ApplicationBudget(restarts=0))
    world.exits(rank=1, code=3)
    because = "rank 1 exited 3; restarted 0 times within 24 hours (budget: 0)"
    assert turn(world) == [
        f"Running=False Failed: {because}",
        f"Failed=True BudgetExhausted: {because}",
        f"Warning Event Failed (Fail): {because}",
        f"log {because}",
    ]
    assert world.status.attempt.cause
    assert world.status.attempt.cause.rank == 1


def test_a_budget_that_is_spent_while_the_gang_gathers() -> None:
    world = running_gang(4, node_budget=NodeBudget(restarts=0))
    world.exits(rank=0, code=1)
    turn(world)
    world.dies("node-1")
    because = f"node node-1 is dead: {DEAD.format(20)} (rank 2-3); restarted 0 times within 24 hours (budget: 0)"
    assert turn(world) == [
        f"Running=False Failed: {because}",
        f"Recovering=False Failed: {because}",
        f"Failed=True BudgetExhausted: {because}",
        f"Warning Event Failed (Fail): {because}",
        f"log {because}",
    ]


def test_a_gang_that_was_released_has_shells_so_a_container_that_cannot_start_is_made_anew() -> None:
    world = running_gang(2)
    stuck = Container(name="fleetctl-life", ended=Ended(exit_code=128, reason="StartError"))
    world.pod(1, phase="Failed", preparing=stuck)
    world.run()
    assert (world.status.attempt.released, world.deleted) == (2, [("uid-1", 10)])


def test_a_coordinator_that_comes_late_is_no_fault_of_the_network() -> None:
    world = gathering_gang(3)
    world.update_life(0, connected=False)
    world.think()
    world.now += timedelta(seconds=60)
    world.think()
    world.update_life(0, connected=True)
    assert [type(action).__name__ for action in world.think().actions] == ["Prove"]
    world.now += timedelta(seconds=10)
    assert "cannot reach the coordinator" in world.think().reasons[1]


def test_above_the_ceiling_a_lost_record_waits_too_and_the_sentence_accuses_a_node() -> None:
    world = running_gang(8)
    world.exits(0, 3)
    world.carry_out(world.think().actions[0])
    for rank in range(8):
        world.update_life(rank, floor=5)
    world.dies("node-1", still_s=50)
    world.dies("node-2", still_s=50)
    (write,) = world.think().actions
    world.carry_out(write)
    assert world.status.attempt.replacing == []
    held = world.status.condition("Held")
    assert held is not None
    assert held.message.endswith("its Lease did not move for 40 s, while others' did")
