"""A check that cannot fail is none: a broken controller, a broken world and an unmet expectation are each told as such.

What happens without each safeguard, test_ablations.py says.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetctl.gang import attempt, judgement
from fleetctl.gang import plan as planning
from fleetctl.gang.state import Verdict
from fleetctl.scenario.load import load
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.simulate import simulate
from fleetctl.sim.kubelet import Kubelet

ROOT = Path(__file__).parents[2]
FLEETCTL = str(Path(sys.executable).with_name("fleetctl"))


def run(name: str, seed: int = 1) -> Outcome:
    return simulate(load(ROOT / "scenarios" / f"{name}.yaml"), seed)


def broken(outcome: Outcome) -> set[str]:
    """The invariants that the run violated."""
    assert outcome.verdict == "fail"
    assert not outcome.broken
    return {violation.invariant for violation in outcome.violations}


def test_a_controller_that_finds_fault_with_everybody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def suspicious(members: object, gang: object, missing_s: object = None) -> tuple[Verdict, ...]:
        found = honest(members, gang, missing_s)  # type: ignore[arg-type]
        made_up = Verdict(scope="Container", rule="container-exit", rank=2, because="rank 2 looks odd")
        return found or (made_up,)

    honest = judgement.diagnose
    monkeypatch.setattr(judgement, "diagnose", suspicious)
    assert "S16" in broken(run("start"))


def test_a_mistake_of_the_controller_breaks_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(planning._PLANNERS, attempt.Gather, lambda *_: 1 / 0)
    outcome = run("start")
    assert outcome.verdict == "fail"
    assert "ZeroDivisionError" in outcome.broken


def test_a_broken_world_is_no_verdict_about_the_gang(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_kubelet(self: Kubelet, pod: object) -> None:
        raise RuntimeError("this kubelet is broken")

    monkeypatch.setattr(Kubelet, "_start_regular", broken_kubelet)
    outcome = run("start")
    assert outcome.verdict == "fail"
    assert "this kubelet is broken" in outcome.broken


def test_an_unmet_expectation_says_what_was_expected_and_seen_and_how_to_replay_it(tmp_path: Path) -> None:
    text = (ROOT / "scenarios/container-exit.yaml").read_text().replace("attempts: 2,", "attempts: 2, bindings: 9,")
    (tmp_path / "container-exit.yaml").write_text(text)
    done = subprocess.run(
        [FLEETCTL, "replay", "container-exit.yaml", "--seed", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "bindings" in done.stdout
    assert "fleetctl replay container-exit.yaml --seed 3" in done.stdout.splitlines()


def test_json_says_the_same_for_programs() -> None:
    done = subprocess.run(
        [FLEETCTL, "replay", str(ROOT / "scenarios/start.yaml"), "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert (said["verdict"], said["violations"], said["seed"]) == ("pass", [], 1)
    assert {"wall_s", "virtual_s", "trace_hash", "figures"} <= said.keys()
