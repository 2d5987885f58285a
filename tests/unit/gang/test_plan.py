"""The planner, from the first start to the last exit. Each test is one story."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import pytest
from worlds import NOW, World, a_gang, committed, round_of, running_gang

from fleetctl.gang import budget
from fleetctl.gang.actions import CreatePods, Ping, Prove, Release, Reset, WriteStatus
from fleetctl.gang.attempt import Round
from fleetctl.gang.plan import LOOK_S, RECHECK_S, plan
from fleetctl.gang.snapshot import Acceptance, Memory
from fleetctl.gang.spec import (
    ApplicationBudget,
    ApplicationSpend,
    Budgets,
    Cause,
    Coordinator,
    Fact,
    GangStatus,
    Incident,
    NodeBudget,
    NodeSpend,
    Ranks,
    Recovered,
    Seconds,
    Spend,
)
from fleetctl.gang.state import Life, Promise, Verdict, Zombie


def kinds(world: World) -> list[str]:
    return [type(a).__name__ for a in world.think().actions]


def reason(world: World, kind: str = "Running") -> str:
    condition = world.status.condition(kind)
    return condition.reason if condition else "absent"


def verdict(scope: Literal["Container", "Node", "Unknown"]) -> Verdict:
    return Verdict(scope=scope, rule="any", rank=0, because="something happened")


def test_the_first_start_is_two_writes_and_releases_everyone_with_one_ticket() -> None:
    world = World(a_gang(3))
    order = []
    while actions := world.think().actions:
        order += [type(a).__name__ for a in actions]
        for action in actions:
            world.carry_out(action)
    assert order == ["WriteStatus", "CreateCompanions", "CreatePods", "Prove", "Ping", "WriteStatus", "Release"]
    assert world.starts == [(0, 1), (1, 1), (2, 1)]
    assert {m.life.promise for m in world.members if m.life} == {committed(world)}
    assert reason(world) == "AllRanksReleased"


def test_nothing_is_created_before_the_record_says_so() -> None:
    world = World(a_gang(2))
    assert kinds(world) == ["WriteStatus"]


def test_a_container_fault_restarts_everyone_else_in_place_once() -> None:
    world = running_gang(3)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    assert world.status.attempt.target == 2
    assert world.status.attempt.cause is not None
    assert world.status.attempt.cause.message == "rank 1 exited 3"
    (reset,) = world.think().actions
    assert reset == Reset(("uid-0", "uid-1", "uid-2"), 2)
    world.run()
    assert [s for s in world.starts if s[1] == 2] == [(0, 2), (1, 2), (2, 2)]
    assert world.status.history[0].cause.rank == 1


def test_a_member_that_is_on_its_way_down_is_not_told_to_restart_again() -> None:
    world = running_gang(3)
    world.exits(rank=1, code=3)
    world.update_life(1, leaving=True, connected=False)
    world.carry_out(world.think().actions[0])
    assert world.think().actions == (Reset(("uid-0", "uid-2"), 2),)


def test_a_second_fault_while_gathering_starts_no_second_attempt() -> None:
    world = running_gang(4)
    world.exits(rank=1, code=139)
    world.carry_out(world.think().actions[0])
    world.exits(rank=3, code=1)
    world.new_life(1)
    world.new_life(3)
    world.run()
    assert world.status.attempt.target == 2
    assert [s for s in world.starts if s[1] == 2] == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_a_life_lost_after_its_promise_draws_a_fresh_ticket() -> None:
    world = World(a_gang(2))
    for _ in range(4):
        for action in world.think().actions:
            world.carry_out(action)
    asked = world.memory.round
    assert asked
    world.new_life(1)
    (ping,) = world.think().actions
    assert isinstance(ping, Ping)
    assert ping.promise.attempt == 1
    assert ping.promise.ticket != asked.promise.ticket
    world.run()
    assert world.starts == [(0, 1), (1, 1)]


def test_a_lost_release_is_sent_again_to_whoever_holds_the_ticket() -> None:
    world = running_gang(3)
    world.update_life(2, attempt=0)
    assert world.think().actions == (Release(("uid-2",), committed(world)),)
    world.run()
    assert world.status.attempt.target == 1


def test_a_life_without_the_ticket_burns_the_attempt() -> None:
    world = running_gang(2)
    world.new_life(1)
    world.run()
    assert world.status.attempt.target == 2
    assert world.status.attempt.cause is not None
    assert world.status.attempt.cause.message == "rank 1 restarted (exit code not observed)"


def test_stale_evidence_about_an_earlier_life_is_discarded() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    seen = world.members[1].pod
    assert seen
    world.run()
    world.now += timedelta(seconds=30)
    world.pod(1, containers=seen.containers, restarting_since=seen.restarting_since)
    assert world.think().actions == ()


def test_a_new_leader_writes_its_name_first_and_resumes_without_a_new_attempt() -> None:
    world = running_gang(2)
    world.exits(rank=0, code=1)
    for action in world.think().actions:
        world.carry_out(action)
    world.writer, world.memory = "controller-b/2", Memory()
    assert kinds(world) == ["WriteStatus"]
    world.run()
    assert world.status.attempt.target == 2
    assert world.status.attempt.writer == "controller-b/2"
    assert sorted(world.starts)[-2:] == [(1, 1), (1, 2)]


def test_a_leader_that_was_overtaken_does_nothing() -> None:
    world = running_gang(2)
    world.status = msgspec.structs.replace(
        world.status, attempt=msgspec.structs.replace(world.status.attempt, writer="controller-b/2")
    )
    world.exits(rank=0, code=1)
    decided = world.think()
    assert decided.actions == ()
    assert decided.reasons == ("controller-b/2 leads now",)


def test_a_crash_loop_ends_failed_with_rank_code_and_count() -> None:
    world = running_gang(2, budget=ApplicationBudget(without_progress=3))
    for _ in range(4):
        world.exits(rank=1, code=1)
        world.run()
    failed = world.status.condition("Failed")
    assert failed
    assert failed.message == "rank 1 exited 1; restarted 3 times in a row without progress (budget: 3)"
    assert world.status.attempt.target == 4
    assert world.think().actions == ()


def test_an_attempt_that_made_progress_forgives_the_ones_before() -> None:
    world = running_gang(2, budget=ApplicationBudget(without_progress=1))
    for _ in range(3):
        world.now += timedelta(minutes=11)
        world.exits(rank=1, code=1)
        world.run()
    assert world.status.attempt.released == 4


def test_the_budget_of_the_window_is_not_forgotten_by_progress() -> None:
    world = running_gang(2, budget=ApplicationBudget(restarts=2, within_hours=24, without_progress=100))
    for _ in range(3):
        world.now += timedelta(hours=2)
        world.exits(rank=1, code=1)
        world.run()
    failed = world.status.condition("Failed")
    assert failed
    assert failed.message == "rank 1 exited 1; restarted 2 times within 24 hours (budget: 2)"


def test_restarts_leave_the_window_after_its_hours() -> None:
    world = running_gang(2, budget=ApplicationBudget(restarts=1, within_hours=3, without_progress=100))
    for _ in range(3):
        world.now += timedelta(hours=4)
        world.exits(rank=1, code=1)
        world.run()
    assert world.status.attempt.released == 4


def test_a_fatal_exit_code_ends_the_gang_at_once() -> None:
    world = running_gang(2, fatal=(64,))
    world.exits(rank=1, code=64)
    world.pod(1, phase="Failed", restarting_since=None)
    world.run()
    failed = world.status.condition("Failed")
    assert failed
    assert (failed.reason, failed.message) == ("FatalExit", "rank 1 exited 64, which a rule of the gang calls fatal")
    assert world.status.attempt.target == 1


def test_a_gang_whose_ranks_all_exit_0_is_complete() -> None:
    world = running_gang(2)
    world.succeeds(0)
    assert world.think().actions == ()
    world.succeeds(1)
    world.run()
    assert reason(world, "Completed") == "AllRanksExited0"
    assert world.think().actions == ()


def test_a_pod_that_belongs_to_somebody_else_is_never_touched() -> None:
    world = World(a_gang(2))
    world.carry_out(world.think().actions[0])
    world.create(0, attempt=1)
    world.pod(0, ours=False)
    world.run()
    assert world.status.holds("Held")
    assert world.starts == []


def test_a_refused_template_is_one_write_and_nothing_else() -> None:
    world = World(a_gang(2))
    refused = replace(world.snapshot(), acceptance=Acceptance(problems=("spec.x: do y",)))
    (write,) = plan(refused, Memory()).actions
    assert isinstance(write, WriteStatus)
    assert write.status.condition("Accepted") is not None
    assert not write.status.holds("Accepted")
    again = replace(refused, status=write.status)
    assert plan(again, Memory()).actions == ()


def test_warnings_do_not_refuse() -> None:
    world = World(a_gang(2))
    decided = plan(replace(world.snapshot(), acceptance=Acceptance(warnings=("spec.x: mind y",))), Memory())
    (write,) = decided.actions
    assert isinstance(write, WriteStatus)
    accepted = write.status.condition("Accepted")
    assert accepted
    assert (accepted.status, accepted.reason, accepted.message) == ("True", "AcceptedWithWarnings", "spec.x: mind y")


@pytest.mark.parametrize("every_s", [0.01, 0.4, 1.0])
def test_within_any_second_no_more_pods_are_created_than_the_pace_allows(every_s: float) -> None:
    world = World(a_gang(120))
    created: list[float] = []
    for _ in range(400):
        for action in world.think().actions:
            if isinstance(action, CreatePods):
                created += [world.clock()] * len(action.slots)
            world.carry_out(action)
        world.now += timedelta(seconds=every_s)
    assert world.status.attempt.released == 1
    assert len(created) == 120
    assert max(sum(at <= other < at + 0.999 for other in created) for at in created) == 50


def test_planning_twice_equals_once() -> None:
    world = running_gang(3)
    world.exits(rank=1, code=3)
    snapshot = world.snapshot()
    assert plan(snapshot, world.memory) == plan(snapshot, world.memory)


def test_a_gang_that_is_being_deleted_is_left_alone() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    assert plan(replace(world.snapshot(), deleting=True), world.memory).actions == ()


@pytest.mark.parametrize("target", [0, 1])
def test_a_record_that_makes_no_sense_is_held(target: int) -> None:
    world = running_gang(2)
    record = msgspec.structs.replace(world.status.attempt, target=target, released=5)
    world.status = msgspec.structs.replace(world.status, attempt=record)
    assert isinstance(world.status, GangStatus)
    (write,) = world.think().actions
    assert isinstance(write, WriteStatus)
    if target:
        assert write.status.holds("Held")


@pytest.mark.parametrize("dead", [0, 1, 2])
@pytest.mark.parametrize("promised", [2, 3, 5])
def test_a_record_that_makes_no_sense_is_held_whatever_the_members_do(dead: int, promised: int) -> None:
    world = running_gang(8)
    promise = Promise(attempt=3, ticket="t")
    for rank in range(8):
        world.new_life(rank)
        world.update_life(rank, promise=replace(promise, attempt=promised))
    lives = frozenset((m.life.uid, m.life.life_id) for m in world.members if m.life)
    world.memory = Memory(round=Round(promise, lives))
    for number in range(dead):
        world.dies(f"node-{number}")
    record = msgspec.structs.replace(world.status.attempt, target=3, released=5)
    world.status = msgspec.structs.replace(world.status, attempt=record)
    (write,) = world.think().actions
    assert isinstance(write, WriteStatus)
    assert write.status.attempt == record
    held = write.status.condition("Held")
    assert held
    assert held.message == "the record makes no sense: target 3 < released 5"


def test_a_life_that_waits_is_where_a_reset_would_bring_it_and_is_not_told() -> None:
    world = running_gang(3)
    world.new_life(1)
    world.carry_out(world.think().actions[0])
    assert world.think().actions == (Reset(("uid-0", "uid-2"), 2),)


@pytest.mark.parametrize("lost", [{"connected": False}, {"leaving": True}])
def test_a_rank_that_cannot_be_talked_to_is_not_at_the_barrier(lost: dict[str, bool]) -> None:
    world = World(a_gang(2))
    for _ in range(2):
        for action in world.think().actions:
            world.carry_out(action)
    world.update_life(1, **lost)
    decided = world.think()
    assert decided.actions == ()
    assert decided.reasons == ("attempt 1 waits for rank 1",)


def test_a_fault_is_acted_on_before_a_lost_release_is_made_good() -> None:
    world = running_gang(3)
    world.update_life(2, attempt=0)
    world.exits(rank=1, code=3)
    assert kinds(world) == ["WriteStatus"]


def test_a_release_is_not_sent_where_nobody_listens() -> None:
    world = running_gang(3)
    world.update_life(2, attempt=0, connected=False)
    assert world.think().actions == ()


def test_a_new_leader_writes_its_name_even_before_it_holds() -> None:
    world = running_gang(2)
    world.pod(0, ours=False)
    world.writer, world.memory = "controller-b/2", Memory()
    world.carry_out(world.think().actions[0])
    assert world.status.attempt.writer == "controller-b/2"
    world.run()
    assert world.status.holds("Held")


def test_a_pod_of_somebody_else_that_is_going_is_only_waited_for() -> None:
    world = World(a_gang(2))
    world.carry_out(world.think().actions[0])
    world.create(0, attempt=1)
    world.pod(0, ours=False)
    world.run()
    world.pod(0, deleting=True)
    world.run()
    assert not world.status.holds("Held")
    assert world.deleted == []
    world.members[0] = replace(world.members[0], pod=None, life=None)
    world.run()
    assert world.status.attempt.released == 1


def test_a_new_life_that_shows_an_old_promise_is_asked_again() -> None:
    world = World(a_gang(2))
    while not all(m.life and m.life.promise for m in world.members):
        for action in world.think().actions:
            world.carry_out(action)
    promise = round_of(world).promise
    world.new_life(1)
    world.update_life(1, promise=promise)
    (ping,) = world.think().actions
    assert isinstance(ping, Ping)
    assert ping.promise.ticket != promise.ticket


def test_a_round_for_an_earlier_attempt_commits_nothing() -> None:
    world = running_gang(2)
    for rank in range(2):
        world.update_life(rank, attempt=0)  # every release was lost: the lives of the first round still wait
    world.exits(rank=0, code=1)
    world.carry_out(world.think().actions[0])
    (ping,) = world.think().actions
    assert isinstance(ping, Ping)
    assert ping.promise.attempt == 2


def test_who_has_promised_is_not_asked_again_when_another_has_not() -> None:
    world = World(a_gang(2))
    while not world.memory.round:
        decided = world.think()
        for action in decided.actions:
            world.carry_out(action)
    asked = round_of(world)
    world.update_life(1, promise=None)  # the question or the answer was lost
    assert world.think().actions == (Ping(("uid-1",), asked.promise),)
    assert round_of(world) == asked


@pytest.mark.parametrize("on_its_way_down", [{"leaving": True}, {"connected": False}])
def test_either_sign_of_going_down_keeps_the_reset_away(on_its_way_down: dict[str, bool]) -> None:
    world = running_gang(3)
    world.exits(rank=1, code=3)
    world.update_life(1, **on_its_way_down)
    world.carry_out(world.think().actions[0])
    assert world.think().actions == (Reset(("uid-0", "uid-2"), 2),)


def test_a_refusal_is_checked_again_and_a_new_one_is_written() -> None:
    world = World(a_gang(3))
    refused = replace(world.snapshot(), acceptance=Acceptance(problems=("spec.x: do y",)))
    first = plan(refused, Memory())
    (write,) = first.actions
    assert isinstance(write, WriteStatus)
    assert write.status.ranks.total == 3
    again = plan(replace(refused, status=write.status), Memory())
    assert first.wake_in == again.wake_in == RECHECK_S
    (write,) = plan(replace(refused, status=write.status, acceptance=Acceptance(problems=("z",))), Memory()).actions
    assert isinstance(write, WriteStatus)


def test_the_rank_that_the_others_must_reach_is_the_coordinator() -> None:
    gang = a_gang(3)
    world = World(replace(gang, spec=msgspec.structs.replace(gang.spec, coordinator=Coordinator(index=1))))
    for _ in range(2):
        for action in world.think().actions:
            world.carry_out(action)
    (prove,) = world.think().actions
    life = world.members[1].life
    assert life
    assert prove == Prove(("uid-0", "uid-2"), "uid-1", life.life_id)


def test_while_the_gang_gathers_its_deadlines_are_looked_at_and_messages_sent_again() -> None:
    world = running_gang(2)
    assert world.think().wake_in is None
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    assert world.think().wake_in == 1.0  # the resets
    for rank in range(2):
        world.update_life(rank, leaving=True)
    waits = world.think()
    assert (waits.actions, waits.wake_in) == ((), LOOK_S)
    for rank in range(2):
        world.new_life(rank)
    asked = world.think()
    assert [type(a) for a in asked.actions] == [Ping]
    assert asked.wake_in == 1.0


def test_no_rank_counts_as_released_while_the_gang_gathers() -> None:
    world = running_gang(2)
    assert world.status.ranks == Ranks(total=2, released=2)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    assert world.status.ranks == Ranks(total=2, released=0)


def test_the_time_it_took_to_gather_is_no_progress() -> None:
    world = running_gang(2, budget=ApplicationBudget(without_progress=1))
    world.exits(rank=1, code=1)
    world.carry_out(world.think().actions[0])
    world.now += timedelta(seconds=700)
    for rank in range(2):
        world.new_life(rank)
    world.run()
    assert world.status.attempt.released == 2
    world.exits(rank=1, code=1)
    world.run()
    assert world.status.holds("Failed")


def test_a_leader_that_was_overtaken_neither_resets_nor_ends_a_hold() -> None:
    world = running_gang(2)
    world.pod(1, ours=False)
    world.run()
    assert world.status.holds("Held")
    record = msgspec.structs.replace(world.status.attempt, writer="controller-b/2", target=2)
    world.status = msgspec.structs.replace(world.status, attempt=record)
    world.zombies = [Zombie(rank=1, life=Life(uid="old", life_id="x", started_at=0, attempt=1))]
    assert world.think().actions == ()


def test_history_tells_how_long_it_took_to_gather_and_altogether() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    for rank in range(2):
        world.new_life(rank)
    world.now += timedelta(seconds=30)
    world.carry_out(world.think().actions[0])
    world.now += timedelta(seconds=5)
    world.run()
    seconds = world.status.history[0].seconds
    assert (round(seconds.barrier), round(seconds.total)) == (30, 35)


def test_history_tells_a_restart_in_place() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    world.now += timedelta(microseconds=1_234_567)
    world.run()
    assert world.status.history[0] == Recovered(
        attempt=2,
        cause=Cause(scope="Container", rule="container-exit", rank=1, message="rank 1 exited 3", node="node-0"),
        rung="InPlace",
        at="2026-11-21T06:00:08Z",
        seconds=Seconds(barrier=1.435, total=1.535),
        recreated="",
        incident=Incident(
            culprits="1",
            facts=[Fact(rule="container-exit", what="exited 3", ranks="1", at="2026-11-21T06:00:06Z")],
            refused=[
                "RecreatePod: the machine is not to blame for this alone",
                "RecreateGang: 2 ranks need no new pod: nothing speaks against their machines",
            ],
        ),
    )
    assert world.status.attempt.incident is None


def test_history_keeps_the_latest_recoveries() -> None:
    world = running_gang(2)
    for _ in range(21):
        world.exits(rank=1, code=3)
        world.run()
    assert [h.attempt for h in world.status.history] == list(range(22, 2, -1))


def test_a_start_recreates_nobody() -> None:
    world = running_gang(2)
    assert (world.status.history[0].rung, world.status.history[0].recreated) == ("Start", "")


def test_only_conditions_that_say_something_are_written_and_of_this_generation() -> None:
    world = running_gang(2)
    assert {c.type for c in world.status.conditions} == {"Accepted", "Running"}
    assert world.status.observed_generation == 1
    assert {c.observed_generation for c in world.status.conditions} == {1}


def test_a_condition_tells_since_when_it_has_been_so() -> None:
    world = running_gang(2)
    running = world.status.condition("Running")
    world.now += timedelta(hours=1)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    recovering = world.status.condition("Running")
    world.now += timedelta(hours=1)
    world.pod(0, ours=False)
    world.run()
    held = world.status.condition("Running")
    assert running
    assert recovering
    assert held
    assert running.last_transition_time < recovering.last_transition_time == held.last_transition_time
    assert (recovering.reason, held.reason) == ("Recovering", "Held")


def test_a_recovery_that_is_over_is_not_shown_any_longer() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    world.carry_out(world.think().actions[0])
    assert world.status.holds("Recovering")
    world.run()
    assert not world.status.holds("Recovering")


def test_a_failed_gang_neither_runs_nor_recovers() -> None:
    world = running_gang(2, fatal=(64,))
    world.exits(rank=1, code=64)
    world.pod(1, phase="Failed", restarting_since=None)
    world.run()
    assert world.status.holds("Failed")
    assert not world.status.holds("Running")


@pytest.mark.parametrize(("progressed", "in_a_row"), [(False, 3), (True, 1)])
def test_progress_forgives_what_was_in_a_row(progressed: bool, in_a_row: int) -> None:
    spent = Spend(application=ApplicationSpend(since_progress=2))
    after = budget.spend(spent, Budgets(), verdict("Container"), now=NOW, progressed=progressed)
    assert isinstance(after, Spend)
    assert after.application.since_progress == in_a_row


@pytest.mark.parametrize(("ran_s", "in_a_row"), [(10, 2), (594, 2), (595, 1), (2000, 1)])
def test_ten_minutes_are_progress_where_trainers_do_not_report_their_steps(ran_s: float, in_a_row: int) -> None:
    world = running_gang(2)
    world.exits(rank=1, code=3)
    world.run()
    world.now += timedelta(seconds=ran_s)
    world.exits(rank=1, code=3)  # 5 s later
    world.run()
    assert world.status.budgets.application.since_progress == in_a_row


@pytest.mark.parametrize("scope", ["Container", "Node", "Unknown"])
def test_only_what_the_gang_did_to_itself_is_charged_to_the_application(
    scope: Literal["Container", "Node", "Unknown"],
) -> None:
    before = Spend(
        application=ApplicationSpend(hours={"2026-11-21T05": 1}, since_progress=1),
        node=NodeSpend(hours={"2026-11-21T04": 2}),
    )
    after = budget.spend(before, Budgets(), verdict(scope), now=NOW, progressed=False)
    assert isinstance(after, Spend)
    if scope == "Container":
        hours = {"2026-11-21T05": 1, "2026-11-21T06": 1}
        assert after == Spend(application=ApplicationSpend(hours=hours, since_progress=2), node=before.node)
    else:
        hours = {"2026-11-21T04": 2, "2026-11-21T06": 1}
        assert after == Spend(application=before.application, node=NodeSpend(hours=hours))


def test_the_window_of_nodes_is_their_own_and_what_left_it_is_dropped() -> None:
    spent = Spend(node=NodeSpend(hours={"2026-11-20T20": 5, "2026-11-21T03": 1}))
    budgets = Budgets(node=NodeBudget(restarts=2, within_hours=6))
    after = budget.spend(spent, budgets, verdict("Node"), now=NOW, progressed=False)
    assert isinstance(after, Spend)
    assert after.node.hours == {"2026-11-21T03": 1, "2026-11-21T06": 1}


def test_no_spend_is_forgotten_inside_its_window() -> None:
    budgets, fault = Budgets(application=ApplicationBudget(restarts=1, within_hours=3)), verdict("Container")
    first = budget.spend(Spend(), budgets, fault, now=datetime(2026, 11, 21, 9, 45, tzinfo=UTC), progressed=False)
    assert isinstance(first, Spend)
    assert isinstance(
        budget.spend(first, budgets, fault, now=datetime(2026, 11, 21, 12, 15, tzinfo=UTC), progressed=False), str
    )


@pytest.mark.parametrize(("target", "released"), [(0, 0), (2, 1), (2, 2)])
def test_a_gang_whose_record_was_lost_goes_on_above_what_its_members_know(target: int, released: int) -> None:
    world = running_gang(2)
    for _ in range(2):
        world.exits(rank=1, code=3)
        world.run()
    record = msgspec.structs.replace(world.status.attempt, target=target, released=released)
    world.status = msgspec.structs.replace(world.status, attempt=record)
    world.carry_out(world.think().actions[0])
    assert world.status.attempt.target == 4
    world.run()
    assert world.status.attempt.released == 4
    assert world.starts[-2:] == [(0, 4), (1, 4)]


def test_the_first_leader_of_all_begins_although_nobody_led_before() -> None:
    world = World(a_gang(2), writer="controller-a/0")
    world.run()
    assert world.starts == [(0, 1), (1, 1)]
