"""What `fleetctl status` prints, line by line."""

from datetime import UTC, datetime

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
    Recovered,
    Seconds,
    Spend,
)
from fleetctl.gang.state import Container, Member, Pod
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
