"""`fleetctl replay` on the real cluster: the same files and words as in simulation, and nothing is left of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fleet import FLEETCTL, Gang, get, kubectl

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LONG_RUN_S = 420


def replay(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, what was printed as JSON, and what to read when it is not as expected."""
    command = (FLEETCTL, "replay", "--context", "kind-fleetctl", "-o", "json", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_RUN_S, check=False)
    printed = json.loads(done.stdout or "null")
    runs = (printed or {}).get("runs") or [printed or {}]
    stories = [f"{line['at']:8.1f}  {line['text']}" for run in runs for line in run.get("story", ())]
    return done.returncode, printed, "\n".join([done.stderr, *stories])


def as_it_was() -> bool:
    """Whether no gang and no pod of one is left, and every node can be used."""
    nodes = get("nodes")["items"]
    ready = [
        any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]) for node in nodes
    ]
    usable = not any(node["spec"].get("unschedulable") for node in nodes)
    return (
        all(ready)
        and usable
        and not get("gangs", "-A")["items"]
        and not get("pods", "-l", "fleetctl.dev/gang")["items"]
    )


@pytest.mark.timeout(LONG_RUN_S)
def test_the_demo_ends_alike_on_both_backends(fleet: None) -> None:
    code, both, said = replay("--backend", "both", str(SCENARIOS / "demo-kind.yaml"))
    simulated, real = both["runs"]
    assert (code, simulated["verdict"], real["verdict"], real["unmet"]) == (0, "pass", "pass", []), said
    assert (simulated["backend"], real["backend"]) == ("sim", "kind")
    for figure in ("attempts", "pods_created", "pods_recreated", "pods_deleted", "bindings"):
        assert simulated["figures"][figure] == real["figures"][figure], figure
    assert as_it_was()


@pytest.mark.timeout(LONG_RUN_S)
@pytest.mark.parametrize("name", ["hang", "lemon-in-two-ways", "breaker-reset"])
def test_it_is_judged_as_the_simulator_says(name: str, fleet: None) -> None:
    code, run, said = replay("--backend", "kind", str(SCENARIOS / f"{name}.yaml"))
    assert (code, run["verdict"], run["unmet"]) == (0, "pass", []), said
    assert as_it_was()


@pytest.mark.long
@pytest.mark.timeout(LONG_RUN_S)
def test_faults_of_a_nemesis_break_no_invariant(fleet: None) -> None:
    count = 10
    code, run, said = replay("--backend", "kind", "--nemesis", "--faults", str(count), "--seed", "34")
    assert (code, run["violations"], run["unmet"], run["broken"]) == (0, [], [], ""), said
    faults = [line for line in run["story"] if line["level"] == "fault" and " is over" not in line["text"]]
    assert len(faults) == count
    assert len(run["recoveries"]) >= count // 2
    assert as_it_was()


def test_a_cluster_that_somebody_uses_is_refused_untouched(fleet: None) -> None:
    with Gang("somebodys") as gang:
        gang.running(attempt=1)
        before = kubectl("get", "pods,gangs,deployments", "-A", "-o", "name")
        code, _, said = replay("--backend", "kind", str(SCENARIOS / "container-exit.yaml"))
        assert code == 3
        assert "gangs are there already (gang.fleetctl.dev/somebodys)" in said
        assert kubectl("get", "pods,gangs,deployments", "-A", "-o", "name") == before
