"""What `fleetctl status` prints, line by line."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import msgspec
import pytest

from fleetctl.cli.status import as_json, as_text
from fleetctl.controller.resources import GangObject
from fleetctl.gang.spec import (
    ApplicationSpend,
    AttemptRecord,
    Cause,
    Condition,
    GangSpec,
    GangStatus,
    Group,
    Latch,
    NodeSpend,
    Outcome,
    Recovered,
    Recovery,
    Seconds,
    Spend,
)
from fleetctl.gang.state import Container, Member, Pod, Spare
from fleetctl.kube.objects import ObjectMeta

NOW = datetime(2026, 11, 21, 6, 10, tzinfo=UTC)
CAUSE = Cause(scope="Container", rule="fatal-signal", rank=3, message="rank 3 exited 139 (SIGSEGV)")


def gang(*conditions: Condition, target: int = 4, released: int = 4) -> GangObject:
    status = GangStatus(
        conditions=list(conditions),
        attempt=AttemptRecord(target=target, released=released, cause=CAUSE),
        budgets=Spend(application=ApplicationSpend(hours={"2026-11-21T06": 2}, since_progress=1)),
        history=[
            Recovered(
                attempt=4,
                cause=CAUSE,
                rung="InPlace",
                at="2026-11-21T06:08:00Z",
                seconds=Seconds(barrier=4.1, total=4.7),
            )
        ],
    )
    spec = GangSpec(groups=[Group(name="worker", size=4, template={})])
    return GangObject(metadata=ObjectMeta(namespace="research", name="llm"), spec=spec, status=status)


def running(reason: str, message: str) -> Condition:
    at = "2026-11-21T06:09:50Z"
    return Condition(type="Running", status="True", reason=reason, message=message, last_transition_time=at)


def rank(number: int, **pod: object) -> Member:
    trainer = Container(name="trainer", running=True)
    made = {"name": "p", "uid": "u", "node": "n", "phase": "Running", "containers": (trainer,), **pod}
    return Member(rank=number, pod_name="p", trainer="trainer", pod=Pod(**made))  # type: ignore[arg-type]  # a dict of any fields


def test_a_gang_that_runs() -> None:
    text = list(as_text(gang(running("AllRanksReleased", "4 ranks run attempt 4")), tuple(map(rank, range(4))), NOW))
    assert text == [
        "Gang:     research/llm",
        "State:    AllRanksReleased, 10s ago",
        "          4 ranks run attempt 4",
        "Attempt:  4",
        "Ready:    4/4",
        "Ranks:    0-3  training",
        "Last:     attempt 4: rank 3 exited 139 (SIGSEGV); restarted in place, released after 4.7 s",
        "          (at the barrier after 4.1 s), 2m ago",
        "Budget:   2 of 10 restarts in 24 h, 1 of 3 in a row without progress",
    ]


def test_spares_that_could_be_taken_are_counted() -> None:
    group = Group(name="worker", size=4, template={}, spares=3)
    seen = gang(running("AllRanksReleased", "4 ranks run attempt 4"))
    seen = msgspec.structs.replace(seen, spec=GangSpec(groups=[group]))
    ready = Spare(name="s0", uid="s0", version="1", group="worker", ready=True)
    spares = (ready, replace(ready, deleting=True), replace(ready, ready=False))
    ranks = tuple(map(rank, range(4)))
    assert "Spares:   1/3 ready" in list(as_text(seen, ranks, NOW, spares))
    assert as_json(seen, ranks, spares)["spares"] == {"wanted": 3, "ready": 1}


def test_nodes_that_the_gang_wants_in_quarantine_are_named() -> None:
    seen, ranks = gang(running("AllRanksReleased", "4 ranks run attempt 4")), tuple(map(rank, range(4)))
    line = "Nodes:    in quarantine: gpu-10, gpu-2; see fleetctl quarantine"
    assert line in list(as_text(seen, ranks, NOW, (), ["gpu-10", "gpu-2"]))
    assert as_json(seen, ranks, (), ["gpu-10", "gpu-2"])["quarantined"] == ["gpu-10", "gpu-2"]
    assert as_json(seen, ranks)["quarantined"] is None


def test_a_gang_that_recovers_shows_which_ranks_are_where() -> None:
    waits = Container(name="trainer", waiting_reason="PodInitializing")
    pulls = Container(name="fleetctl-life", waiting_reason="ErrImagePull")
    ranks = (
        rank(0, containers=(waits,)),
        rank(1, containers=(waits,)),
        rank(2, restarting_since=1.0),
        rank(3, containers=(waits,), preparing=pulls),
    )
    text = list(as_text(gang(running("Recovering", "attempt 5: …"), target=5), ranks, NOW))
    assert text[3:8] == [
        "Attempt:  5 (released: 4)",
        "Ready:    0/4",
        "Ranks:    0-1  at the barrier",
        "          2    restarting in place",
        "          3    init container fleetctl-life: ErrImagePull",
    ]


def test_a_gang_without_a_controller() -> None:
    text = list(as_text(GangObject(metadata=ObjectMeta(name="llm"), spec=GangSpec(groups=[])), (), NOW))
    assert text[1] == "State:    New: no controller has looked at it yet; is one running?"


def test_for_programs() -> None:
    found = as_json(gang(running("AllRanksReleased", "…")), (rank(0), rank(1, phase="Succeeded"), rank(2), rank(3)))
    assert found["ranks"] == {"training": "0,2-3", "succeeded": "1"}
    assert (found["ready"], found["size"], found["state"]) == (3, 4, "AllRanksReleased")


STARTED = Cause(scope="Start", rule="start", message="the gang starts")
RESUMED = Cause(scope="Resume", rule="resumed", message="the gang is resumed")
NODE_DIED = Cause(scope="Node", rule="node-dead", rank=3, message="node n7 is dead: … (rank 3,17-24)")
RUNS = running("AllRanksReleased", "4 ranks run attempt 4")


def text(seen: GangObject) -> list[str]:
    return list(as_text(seen, tuple(map(rank, range(4))), NOW))


def starting(lines: list[str], with_: str) -> list[str]:
    return [line for line in lines if line.startswith(with_)]


def test_a_gang_that_is_only_observed_says_so() -> None:
    seen = gang(RUNS)
    observed = msgspec.structs.replace(seen, spec=msgspec.structs.replace(seen.spec, recovery=Recovery(mode="Observe")))
    lines = text(observed)
    assert lines[3:5] == ["Mode:     Observe: decides and reports, touches nothing", "Attempt:  4"]
    paused = Recovery(mode="Observe", paused=True)  # which Held tells
    assert (
        starting(text(msgspec.structs.replace(seen, spec=msgspec.structs.replace(seen.spec, recovery=paused))), "Mode")
        == []
    )
    assert starting(text(seen), "Mode") == []


@pytest.mark.parametrize(
    ("rung", "cause", "recreated", "told"),
    [
        ("Start", STARTED, "", "started"),
        ("Resume", RESUMED, "", "resumed"),
        ("InPlace", CAUSE, "", "rank 3 exited 139 (SIGSEGV); restarted in place"),
        (
            "RecreatePod",
            NODE_DIED,
            "3,17-24",
            "node n7 is dead: … (rank 3,17-24); rank 3,17-24 recreated, the others restarted in place",
        ),
    ],
)
def test_how_the_last_attempt_began(
    rung: Literal["Start", "Resume", "InPlace", "RecreatePod"], cause: Cause, recreated: str, told: str
) -> None:
    took = Seconds(barrier=31.04, total=33.25)
    last = Recovered(attempt=4, cause=cause, rung=rung, at="2026-11-21T05:00:00Z", seconds=took, recreated=recreated)
    older = Recovered(attempt=3, cause=CAUSE, rung="InPlace", at="2026-11-21T04:00:00Z", seconds=took)
    seen = gang(RUNS)
    status = msgspec.structs.replace(seen.status, history=[last, older])
    lines = text(msgspec.structs.replace(seen, status=status))
    assert starting(lines, "Last") == [f"Last:     attempt 4: {told}, released after 33.2 s"]
    assert "          (at the barrier after 31.0 s), 70m ago" in lines


def test_a_gang_that_has_no_history_yet_tells_none() -> None:
    seen = gang(RUNS)
    status = msgspec.structs.replace(seen.status, history=[])
    assert starting(text(msgspec.structs.replace(seen, status=status)), "Last") == []


def test_what_nodes_have_cost_is_told_when_they_have_cost_anything() -> None:
    seen = gang(RUNS)
    assert text(seen)[-1] == "Budget:   2 of 10 restarts in 24 h, 1 of 3 in a row without progress"
    spent = Spend(node=NodeSpend(hours={"2026-11-21T05": 2, "2026-11-21T06": 1}))
    lines = text(msgspec.structs.replace(seen, status=msgspec.structs.replace(seen.status, budgets=spent)))
    assert lines[-2:] == [
        "Budget:   0 of 10 restarts in 24 h, 0 of 3 in a row without progress",
        "          3 of 100 because of nodes or lost pods in 24 h",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "reason", "told"),
    [
        ("Held", "True", "Waiting", ["Held:     nothing is heard from node n7"]),
        ("Failed", "True", "BudgetExhausted", ["Failed:   nothing is heard from node n7"]),
        ("Completed", "True", "AllRanksExited0", ["Completed: nothing is heard from node n7"]),
        ("Accepted", "True", "AcceptedWithWarnings", ["Accepted: nothing is heard from node n7"]),
        # near misses
        ("Held", "False", "Ended", []),
        ("Failed", "Unknown", "BudgetExhausted", []),
        ("Accepted", "True", "Accepted", []),
        ("Recovering", "True", "RestartInPlace", []),
    ],
)
def test_which_conditions_are_told(
    kind: str, value: Literal["True", "False", "Unknown"], reason: str, told: list[str]
) -> None:
    at = "2026-11-21T06:09:00Z"
    message = "nothing is heard from node n7"
    found = Condition(type=kind, status=value, reason=reason, message=message, last_transition_time=at)
    lines = text(gang(RUNS, found))
    assert [line for line in lines if message in line] == told
    if told:
        assert lines.index(told[0]) == lines.index("Ranks:    0-3  training") + 1


HINT = "          see fleetctl explain llm -n research"


def with_status(**fields: object) -> GangObject:
    seen = gang(RUNS)
    return msgspec.structs.replace(seen, status=msgspec.structs.replace(seen.status, **fields))


def recovered(**outcome: float) -> Recovered:
    took = Seconds(barrier=4.1, total=4.7)
    at = "2026-11-21T06:08:00Z"
    return Recovered(attempt=4, cause=CAUSE, rung="InPlace", at=at, seconds=took, outcome=Outcome(**outcome))


def test_what_came_of_the_last_recovery() -> None:
    lines = text(with_status(history=[recovered(first_step=12.04)], furthest_step=4711))
    last = lines.index("          (at the barrier after 4.1 s), 2m ago")
    assert lines[last + 1 : last + 3] == ["          first step after 12.0 s", lines[-1]]
    assert HINT not in lines


def test_a_recovery_that_failed_says_so_and_where_to_read_on() -> None:
    lines = text(with_status(history=[recovered(ran=61.0), recovered(first_step=1.0)], furthest_step=4711))
    told = lines.index("          the recovery failed: it ran for 61.0 s, in which not all ranks made a step")
    assert lines[told + 1] == HINT
    assert HINT not in text(with_status(history=[recovered(first_step=1.0), recovered(ran=61.0)], furthest_step=4711))


def test_a_gang_that_failed_says_where_to_read_on() -> None:
    at = "2026-11-21T06:09:00Z"
    ended = Condition(type="Failed", status="True", reason="FatalExit", message="no more", last_transition_time=at)
    assert HINT in text(gang(RUNS, ended))
    assert HINT in text(msgspec.structs.replace(gang(ended), status=GangStatus(conditions=[ended])))  # before it ran
    assert HINT not in text(gang(RUNS))


def test_an_open_breaker_is_told_once() -> None:
    latch = Latch(since="2026-11-21T06:00:00Z", message="the breaker is open: … kubectl patch …", resets=0)
    at = "2026-11-21T06:00:00Z"
    held = Condition(type="Held", status="True", reason="BreakerOpen", message=latch.message, last_transition_time=at)
    lines = text(with_status(breaker=latch, conditions=[RUNS, held]))
    told = lines.index("Breaker:  opened 10m ago")
    assert lines[told + 1] == "          the breaker is open: … kubectl patch …"
    assert starting(lines, "Held") == []
    assert HINT in lines
    other = msgspec.structs.replace(held, message="rank 3: no node has room for the pod")
    assert starting(text(with_status(breaker=latch, conditions=[RUNS, other])), "Held") != []


def test_a_gang_whose_pods_were_all_made_anew() -> None:
    anew = msgspec.structs.replace(recovered(), rung="RecreateGang")
    told = "Last:     attempt 4: rank 3 exited 139 (SIGSEGV); all ranks recreated, released after 4.7 s"
    assert starting(text(with_status(history=[anew])), "Last") == [told]
