"""Scenarios on a real API server end as they do in the simulator, with the same costs."""

import os
from pathlib import Path

import pytest

from fleetctl.apiserver.replay import NotHere, check, replay
from fleetctl.scenario.load import load
from fleetctl.scenario.report import problems

SCENARIOS = Path(__file__).parents[2] / "scenarios"
COSTS = ("attempts", "pods_created", "pods_deleted", "in_place_restarts", "bindings")


NAMES = ("container-exit", "controller-crash-half-released", "gpu-falls-off-the-bus", "node-killed", "two-leaders")
LONG = (
    "controller-crash-before-release",
    "hang-then-a-fault",
    "node-frozen-and-back",
    "release-lost",
    "two-faults-at-once",
)


@pytest.mark.parametrize("name", [*NAMES, *(LONG if "FLEETCTL_LONG_TESTS" in os.environ else ())])
def test_it_ends_as_in_the_simulator(name: str, tmp_path: Path) -> None:
    scenario = load(SCENARIOS / f"{name}.yaml")
    simulated, outcome = replay(scenario, 1, tmp_path)
    assert outcome.verdict == "pass", "\n".join((outcome.broken, *problems(outcome)))
    assert {cost: outcome.figures[cost] for cost in COSTS} == {cost: simulated.figures[cost] for cost in COSTS}


def test_what_only_the_simulator_has_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match=r"clock-jump.yaml:\d+: clock_jump is for the simulator"):
        check(load(SCENARIOS / "clock-jump.yaml"))
