"""`fleetctl status` against a live gang, as an engineer would type it at night."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from fleet import FLEETCTL, Gang, fleetctl_status, plain_template, until


@pytest.fixture(scope="module")
def gang(fleet: None) -> Iterator[Gang]:
    """Its trainers take ten seconds to stop, so that somebody who types can see them restart."""
    template = plain_template("llm", env=[{"name": "IGNORE_SIGTERM", "value": "yes"}])
    template["spec"]["terminationGracePeriodSeconds"] = 10
    with Gang("llm", template=template) as slow:
        slow.running(attempt=1)
        yield slow


def test_a_running_gang(gang: Gang) -> None:
    lines = fleetctl_status(gang).splitlines()
    assert lines[0] == "Gang:     default/llm"
    assert lines[1].startswith("State:    AllRanksReleased, ")
    assert lines[2] == "          8 ranks run attempt 1"
    assert "Ready:    8/8" in lines
    assert "Ranks:    0-7  training" in lines


def test_a_recovery_under_way_and_its_story_afterwards(gang: Gang) -> None:
    gang.tell(4, "exit 12")
    until("somebody restarts", lambda: "restarting in place" in fleetctl_status(gang), every_s=0.05)
    gang.running(attempt=2)
    text = fleetctl_status(gang)
    assert "attempt 2: rank 4 exited 12; restarted in place, released after" in text
    assert "Budget:   1 of 1000 restarts in 24 h" in text


def test_for_programs(gang: Gang) -> None:
    found = json.loads(fleetctl_status(gang, "-o", "json"))
    assert (found["name"], found["size"], found["ready"]) == ("llm", 8, 8)
    assert found["ranks"] == {"training": "0-7"}
    assert found["status"]["attempt"]["released"] == 2


def test_a_gang_that_does_not_exist() -> None:
    answer = subprocess.run([FLEETCTL, "status", "nobody"], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith('fleetctl: gang "nobody" not found in namespace "default"')
