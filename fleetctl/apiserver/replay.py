"""Replays a scenario on a real API server, in real time.

The same run is made in the simulator first: that says how long its gang takes to start, so that a fault which shall hit
a running gang does so here too, and its figures stand beside the real ones.
"""

from collections.abc import Callable
from pathlib import Path

from fleetctl.apiserver.world import ApiServerWorld
from fleetctl.errors import GiveUp
from fleetctl.scenario import faults as f
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.simulate import FirstRun, run_in, simulate, world_of
from fleetctl.sim.journal import Event

LATER_S = 0.5
"""The gang has run for so long in the simulator when what comes later waits here."""
ONLY_SIMULATED: dict[type[f.Fault], str] = {
    f.ClockJump: "the controllers' clock is this machine's",
    f.StaleLists: "a real API server does not lag behind when asked to",
    f.HistoryLost: "the real server's history is its own",
    f.Conflicts: "nobody can write just before a request that is on its way",
}


class NotHere(GiveUp):
    """The scenario needs what only the simulator has; the message says what."""


def replay(
    scenario: Scenario, seed: int, folder: Path, watch: Callable[[Event], None] | None = None
) -> tuple[Outcome, Outcome]:
    """What came of it in the simulator, and on a real API server. `folder` is empty, and keeps the logs. Raises NotHere
    before anything is started."""
    check(scenario)
    first = FirstRun(scenario.world.gang.ranks)
    simulated = simulate(scenario, seed, watch=first)
    world = ApiServerWorld(seed, folder, **world_of(scenario))
    outcome = run_in(world, scenario, watch=watch, starts_in_s=first.at + LATER_S)
    outcome.backend = "apiserver"
    if world.api.refused:
        outcome.broken = f"the API server refused: {world.api.refused[0]}"
        outcome.verdict = "fail"
    return simulated, outcome


def check(scenario: Scenario) -> None:
    """Raises NotHere."""
    for step in scenario.timeline:
        kind = type(step.fault)
        if kind in ONLY_SIMULATED:
            raise NotHere(f"{scenario.path}:{step.line}: {kind.name} is for the simulator: {ONLY_SIMULATED[kind]}")
