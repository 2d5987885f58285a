"""A container fault anywhere restarts the whole gang in place, once: same pods, same nodes, nothing scheduled."""

from collections.abc import Callable

import pytest
from fleet import Audit, Gang, kubectl, plain_template, together


def restarted_in_place_once(gang: Gang, fault: Callable[[], object], *, initialised: bool = False) -> str:
    """Injects the fault and checks all that a recovery promises; returns the cause that the record names."""
    before, attempt, audit = gang.seen(), gang.attempt()["released"], Audit()
    prepared = len(gang.records("prepared"))
    fault()
    gang.running(attempt + 1)
    after = gang.seen_since(before)
    for rank in range(gang.ranks):
        was, now = before[rank], after[rank]
        assert (now.uid, now.node, now.ip) == (was.uid, was.node, was.ip)
        assert now.restarts == {name: count + 1 for name, count in was.restarts.items()}, f"rank {rank}"
    assert audit.pod_changes() == []
    assert audit.calls_of_agents() == []
    writes = audit.writes_of_controller()
    assert len(writes) <= 6, writes
    if initialised:
        assert len(gang.records("prepared")) == prepared + gang.ranks
    record = gang.attempt()
    assert (record["target"], record["released"]) == (attempt + 1, attempt + 1)
    return str(record["cause"]["message"])


@pytest.mark.parametrize(
    ("rank", "command", "cause"),
    [
        (3, "exit 3", "rank 3 exited 3"),
        (0, "crash", "rank 0 exited 139 (SIGSEGV)"),
        (6, "eat", "rank 6 was killed because it met its memory limit (OOMKilled)"),
    ],
)
def test_a_trainer_that_dies_restarts_the_gang_in_place(article: Gang, rank: int, command: str, cause: str) -> None:
    assert restarted_in_place_once(article, lambda: article.tell(rank, command), initialised=True) == cause


def test_a_second_regular_container_that_crashes_restarts_the_gang_in_place(article: Gang) -> None:
    cause = restarted_in_place_once(article, lambda: article.tell(4, "7", "nccl-healthcheck"), initialised=True)
    assert cause == "rank 4, container nccl-healthcheck, exited 7"


def test_a_sidecar_with_a_restart_rule_of_its_own_restarts_the_gang_in_place(article: Gang) -> None:
    cause = restarted_in_place_once(article, lambda: article.tell(2, "42", "logs"), initialised=True)
    assert cause == "rank 2, container logs, exited 42"


def test_a_trainer_that_ignores_sigterm_is_restarted_all_the_same(fleet: None) -> None:
    template = plain_template("stubborn", env=[{"name": "IGNORE_SIGTERM", "value": "yes"}])
    with Gang("stubborn", template=template) as gang:
        gang.running(attempt=1)
        assert restarted_in_place_once(gang, lambda: gang.tell(5, "exit 1")) == "rank 5 exited 1"


def test_two_faults_at_once_are_one_restart(article: Gang) -> None:
    cause = restarted_in_place_once(
        article,
        lambda: together([lambda: article.tell(1, "exit 139"), lambda: article.tell(5, "exit 1")]),
        initialised=True,
    )
    assert cause in ("rank 1 exited 139 (SIGSEGV)", "rank 5 exited 1")


def test_a_fault_leaves_its_story_in_events_history_and_status(gang: Gang) -> None:
    restarted_in_place_once(gang, lambda: gang.tell(7, "exit 9"))
    story = kubectl("describe", "gang", gang.name)
    assert "rank 7 exited 9" in story
    (latest, *_) = gang.status()["history"]
    assert latest["cause"]["rank"] == 7
    assert latest["rung"] == "InPlace"
    assert 0 < latest["seconds"]["barrier"] <= latest["seconds"]["total"] < 60
    events = kubectl(
        "get", "events", "-o", "custom-columns=:reason,:message", "--field-selector", "involvedObject.kind=Gang"
    )
    assert "rank 7 exited 9" in events
    assert "Released" in events
