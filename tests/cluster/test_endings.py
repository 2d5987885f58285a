"""How a gang ends: complete, or failed with its reason on record and its pods kept."""

import time

import pytest
from fleet import Gang, get, kubectl, plain_template, together, until

pytestmark = [pytest.mark.usefixtures("fleet"), pytest.mark.together]


def test_a_gang_whose_ranks_all_exit_0_is_completed() -> None:
    with Gang("done", ranks=4) as gang:
        gang.running(attempt=1)
        together(lambda rank=rank: gang.tell(rank, "exit 0") for rank in range(4))
        done = until("the gang is completed", lambda: gang.holds("Completed"))
        assert done["message"] == "all 4 ranks of attempt 1 exited 0"
        assert "Completed" in kubectl("get", "gang", "done")
        assert kubectl("wait", "--for=condition=Completed", "gang/done", "--timeout=5s")


def test_a_crash_loop_ends_failed_with_rank_code_and_count_and_keeps_the_pods() -> None:
    spec = {"recovery": {"budgets": {"application": {"withoutProgress": 2}}}}
    template = plain_template("loop", env=[{"name": "HABIT", "value": "1:exit 7"}])
    with Gang("loop", ranks=4, spec=spec, template=template) as gang:
        failed = until("the gang has failed", lambda: gang.holds("Failed"), 120)
        assert failed["reason"] == "BudgetExhausted"
        assert failed["message"] in (
            "rank 1 exited 7; restarted 2 times in a row without progress (budget: 2)",
            "rank 1 restarted (exit code not observed); restarted 2 times in a row without progress (budget: 2)",
        )
        assert gang.attempt()["target"] == 3
        time.sleep(3)
        assert len(gang.pods()) == 4
        assert gang.attempt()["target"] == 3


def test_a_fatal_exit_code_ends_the_gang_at_once_with_the_code_on_record() -> None:
    spec = {"recovery": {"rules": [{"match": {"exitCodes": [64]}, "action": "FailGang"}]}}
    with Gang("fatal", ranks=4, spec=spec) as gang:
        gang.running(attempt=1)
        gang.tell(2, "exit 64")
        failed = until("the gang has failed", lambda: gang.holds("Failed"))
        assert failed["reason"] == "FatalExit"
        assert failed["message"] == "rank 2 exited 64, which a rule of the gang calls fatal"
        pod = until("the pod has failed", lambda: _failed(gang.pod(2)))
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 64
        assert gang.attempt()["target"] == 1


def _failed(name: str) -> dict[str, object] | None:
    pod = get("pod", name)
    return pod if pod["status"]["phase"] == "Failed" else None


def test_a_deleted_gang_leaves_nothing() -> None:
    with Gang("gone", ranks=2) as gang:
        gang.running(attempt=1)
    for kind in ("pods", "services", "configmaps"):
        until(f"no {kind} left", lambda kind=kind: not get(kind, "-l", "fleetctl.dev/gang=gone")["items"])
