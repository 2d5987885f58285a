"""The same stories with the real HTTP library between controllers and API server, over connections in memory."""

from pathlib import Path

import pytest

from fleetctl.scenario.load import load
from fleetctl.scenario.report import problems
from fleetctl.scenario.simulate import simulate

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.mark.parametrize(
    ("name", "seed"),
    [("container-exit", 1), ("node-killed", 1), ("controller-crash-before-release", 1), ("api-away", 1)]
    + [("storm", seed) for seed in range(1, 6)],
)
def test_it_ends_as_it_does_without(name: str, seed: int) -> None:
    outcome = simulate(load(SCENARIOS / f"{name}.yaml"), seed, over_http=True)
    assert outcome.verdict == "pass", "\n".join((outcome.broken, *problems(outcome)))
