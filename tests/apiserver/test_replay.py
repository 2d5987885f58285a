"""Scenarios on a real API server end as they do in the simulator, with the same costs."""

from pathlib import Path

import pytest

from fleetctl.apiserver.replay import NotHere, check, replay
from fleetctl.scenario.load import load
from fleetctl.scenario.report import problems

SCENARIOS = Path(__file__).parents[2] / "scenarios"
COSTS = ("attempts", "pods_created", "pods_deleted", "in_place_restarts", "bindings")


@pytest.mark.parametrize(
    "name",
    [
        "container-exit",
        "controller-crash-before-release",
        "controller-crash-half-released",
        "gpu-falls-off-the-bus",
        "hang-then-a-fault",
        "node-killed",
        "node-frozen-and-back",
        "release-lost",
        "two-faults-at-once",
        "two-leaders",
    ],
)
def test_it_ends_as_in_the_simulator(name: str, tmp_path: Path) -> None:
    scenario = load(SCENARIOS / f"{name}.yaml")
    simulated, outcome = replay(scenario, 1, tmp_path)
    assert outcome.verdict == "pass", "\n".join((outcome.broken, *problems(outcome)))
    assert {cost: outcome.figures[cost] for cost in COSTS} == {cost: simulated.figures[cost] for cost in COSTS}


def test_what_only_the_simulator_has_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match=r"clock-jump.yaml:\d+: clock_jump is for the simulator"):
        check(load(SCENARIOS / "clock-jump.yaml"))
