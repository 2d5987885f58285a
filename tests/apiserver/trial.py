"""One scenario on a real API server, with what no scenario file can say: done by the test, when the test says.

Counts what the controllers ask of the API server. Knows nothing of what is expected.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleetctl.apiserver.world import ApiServerWorld
from fleetctl.scenario.facts import record_of
from fleetctl.scenario.load import parse
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.report import problems
from fleetctl.scenario.simulate import FirstRun, run_in, world_of
from fleetctl.sim.journal import Event, ProcessChanged, Wrote
from fleetctl.sim.requests import Request
from fleetctl.sim.troubles import Between, Further, Trouble
from fleetctl.sim.troubles import Outcome as Answered

STARTS_IN_S = 5.0
"""A timeline's later times wait until the gang runs (run_in)."""
INSIDE = Path(__file__).parent / "inside"
WINDOW_S = 10.0


@dataclass(frozen=True)
class Requests(Trouble):
    """No trouble: notes when each request came, and from which client. Must begin before all others."""

    seen: list[tuple[float, Request]] = field(default_factory=list)

    async def meet(self, request: Request, further: Further, between: Between) -> Answered:
        self.seen.append((time.time(), request))
        return await further()


@dataclass
class Trial:
    """`do` runs in the world once an event fits `when`; `began` and `ended` are Unix times of that. `happened`: what
    befell controllers."""

    scenario: Scenario
    world: ApiServerWorld
    when: Callable[[Event], bool] | None = None
    do: Callable[[ApiServerWorld], Awaitable[None]] | None = None
    began: float = 0.0
    ended: float = 0.0
    requests: Requests = field(default_factory=Requests)
    happened: list[ProcessChanged] = field(default_factory=list)

    def run(self) -> Outcome:
        """Passed, or the test fails and says why."""
        self.world.door.begin(self.requests)
        outcome = run_in(self.world, self.scenario, watch=self._watch, starts_in_s=STARTS_IN_S)
        told = "\n".join((outcome.broken, *problems(outcome), *self.world.api.refused))
        assert outcome.verdict == "pass", told
        assert not self.world.api.refused, told
        assert self.do is None or self.ended, "what the test was to do did not happen, or not to its end"
        return outcome

    def _watch(self, event: Event) -> None:
        if isinstance(event, ProcessChanged):
            self.happened.append(event)
        if self.do is not None and self.when is not None and not self.began and self.when(event):
            self.began = time.time()
            self.world.loop.spawn(None, self._do(self.do))

    async def _do(self, do: Callable[[ApiServerWorld], Awaitable[None]]) -> None:
        await do(self.world)
        self.ended = self.ended or time.time()

    def leads_at(self, after: float) -> float | None:
        """When a process first held the Lease after that; world's time. None: none did."""
        leads = (e.at for e in self.happened if e.what == "leads")
        return next((at for at in leads if at > after), None)


def trial(text: str, folder: Path, seed: int = 1) -> Trial:
    """The scenario of this YAML, in a world that has not begun."""
    scenario = parse(text, "trial")
    return Trial(scenario, ApiServerWorld(seed, folder, **world_of(scenario)))


def target_is_raised(event: Event) -> bool:
    """To 2: the recovery is under way, and whoever asked for that has not been answered yet."""
    return isinstance(event, Wrote) and event.plural == "gangs" and record_of(event.after).get("target") == 2


def all_run(ranks: int) -> Callable[[Event], bool]:
    """Once all ranks run for the first time."""
    first = FirstRun(ranks)

    def now(event: Event) -> bool:
        first(event)
        return first.seen.is_set()

    return now


def rates(times: list[float], since: float, until: float) -> tuple[float, float]:
    """How many a second: over all that time, and in the worst ten seconds."""
    inside = sorted(each for each in times if since <= each < until)
    worst = max((sum(first <= each < first + WINDOW_S for each in inside) for first in inside), default=0)
    return len(inside) / (until - since), worst / WINDOW_S


def look_inside(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Controllers that start from now on tell more of themselves (inside/sitecustomize.py), in that folder."""
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(INSIDE))
    monkeypatch.setenv("TOLD", str(folder))


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.1)
