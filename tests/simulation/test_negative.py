"""A check that cannot fail is none: a broken controller, a broken world and an unmet expectation are each told as such.

Each safeguard is taken away by itself, and the scenario that shows that it is missed fails with the invariant named.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetctl.gang import attempt
from fleetctl.gang import plan as planning
from fleetctl.scenario.load import load, parse
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


def with_test(name: str, test: attempt.Test) -> object:
    """The table of steps with one of its tests replaced."""
    return tuple((tuple(test if t.__name__ == name else t for t in tests), step) for tests, step in attempt.STEPS)


def test_a_release_before_everyone_stands_at_the_barrier_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def present(s: attempt.Situation) -> bool:
        return s.record.target > 1 or everyone_present(s)

    def promised(s: attempt.Situation) -> bool:
        asked = s.round is not None and s.round.promise.attempt == s.record.target
        return asked and (s.record.target > 1 or everyone_promised(s))

    everyone_present, everyone_promised = attempt.everyone_present, attempt.everyone_promised
    monkeypatch.setattr(attempt, "STEPS", with_test("everyone_present", present))
    monkeypatch.setattr(attempt, "STEPS", with_test("everyone_promised", promised))
    assert "S1" in broken(run("container-exit"))


def test_a_pod_that_the_record_does_not_name_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_names", lambda victims: [])
    monkeypatch.setattr(attempt.Situation, "named", property(lambda self: self.victims))
    monkeypatch.setattr(attempt.Situation, "unnamed", property(lambda self: ()))
    assert "S6" in broken(run("node-killed"))


def test_a_pace_that_is_not_held_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "PODS_A_SECOND", 10_000)
    text = (ROOT / "scenarios/start.yaml").read_text()
    many = text.replace("ranks: 8}\n  ranks", "ranks: 256}\n  ranks").replace("nodes: 5", "nodes: 130")
    many = many.split("expect:")[0] + "expect:\n- running: {attempt: 1, within: 60s}\n"
    assert "S7" in broken(simulate(parse(many, "start.yaml"), 1))


def test_a_budget_that_is_not_kept_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning.budget, "spend", lambda spent, *_, **__: spent)
    assert "S8" in broken(run("container-exit"))


def test_a_ceiling_that_nobody_heeds_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "STEPS", with_test("too_much_is_bad", lambda s: False))
    assert "S13" in broken(run("more-nodes-than-the-ceiling"))


def test_a_controller_that_finds_fault_with_everybody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def suspicious(members: object, gang: object, missing_s: object = None) -> tuple[planning.Verdict, ...]:
        found = honest(members, gang, missing_s)  # type: ignore[arg-type]
        made_up = planning.Verdict(scope="Container", rule="container-exit", rank=2, because="rank 2 looks odd")
        return found or (made_up,)

    honest = planning.diagnose
    monkeypatch.setattr(planning, "diagnose", suspicious)
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
