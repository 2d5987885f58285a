"""Every scenario that is shipped ends as it says, with no invariant broken."""

from pathlib import Path

import pytest

from fleetctl.scenario.load import load
from fleetctl.scenario.report import problems, replay_command
from fleetctl.scenario.simulate import simulate

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_ends_as_it_says(path: Path) -> None:
    scenario = load(path)
    outcome = simulate(scenario, scenario.seed)
    told = "\n".join((outcome.broken, *problems(outcome), replay_command(scenario, scenario.seed)))
    assert outcome.verdict == "pass", told
