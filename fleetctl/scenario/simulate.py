"""Runs a scenario in a simulated cluster, and gathers what is to be told of it.

Everything that judges or reports is a listener of the world's journal; nothing here decides who is right.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from math import inf
from typing import Any

from fleetctl.scenario.calm import Calm
from fleetctl.scenario.expectations import Expectations
from fleetctl.scenario.figures import Figures
from fleetctl.scenario.injector import Injector
from fleetctl.scenario.model import Scenario, Step
from fleetctl.scenario.outcome import Outcome, Trace
from fleetctl.scenario.timeline import Timeline
from fleetctl.scenario.triggers import Triggers
from fleetctl.sim import world as sim
from fleetctl.sim.journal import Event, Object, TrainerStarted, Wrote
from fleetctl.sim.lifecycle import merged
from fleetctl.sim.oracle import Oracle

NAMESPACE = "default"
LOOKS_EVERY_S = 0.5
STABLE_S = 5.0
"""An end that did not last for so long was none, whatever quiet is asked for."""


def simulate(
    scenario: Scenario, seed: int, *, watch: Callable[[Event], None] | None = None, over_http: bool = False
) -> Outcome:
    """One run. `watch` is told every event as it happens. Never raises for what goes wrong inside: see `broken`.

    `over_http`: with the real HTTP library between controllers and API server (sim/world.py).
    """
    return run_in(sim.World(seed, over_http=over_http, **world_of(scenario)), scenario, watch=watch)


def run_in(
    world: sim.World, scenario: Scenario, *, watch: Callable[[Event], None] | None = None, starts_in_s: float = inf
) -> Outcome:
    """The same in a world that has not begun yet, whatever its time and its API server are; it ends with the run.

    `starts_in_s`: how long the gang should take until it runs for the first time. What is to happen later than that
    waits if it takes longer.
    """
    began, collects = time.perf_counter(), gc.isenabled()
    gc.disable()  # finalizers must not run at moments that differ from run to run; and it is a third of the time
    run = _Run(world, scenario, watch, starts_in_s)
    mistakes = _Mistakes(run.failures)
    logging.getLogger("fleetctl").addHandler(mistakes)
    broken = ""
    try:
        run.world.loop.run_until_complete(run.story())
        broken = run.why_broken()
    except Exception as error:  # whatever it is, the run did not take place as written
        broken = f"{type(error).__name__}: {error}"
    at = run.world.now()
    outcome = run.outcome(at, broken)
    try:
        run.world.end()
    finally:
        logging.getLogger("fleetctl").removeHandler(mistakes)
        if collects:
            gc.enable()
    outcome.wall_s = time.perf_counter() - began
    return outcome


class _Mistakes(logging.Handler):
    """What production code logs as a mistake of its own breaks the run, although the controller goes on."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            self._failures.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


class FirstRun:
    """Waits until all ranks of a gang of that size run for the first time; `at`: when."""

    def __init__(self, ranks: int) -> None:
        self.at = inf
        self.seen = asyncio.Event()
        self._missing = set(range(ranks))

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainerStarted) and self._missing:
            self._missing.discard(event.rank)
            if not self._missing:
                self.at = event.at
                self.seen.set()


class _Run:
    def __init__(
        self, world: sim.World, scenario: Scenario, watch: Callable[[Event], None] | None, starts_in_s: float
    ) -> None:
        self.scenario = scenario
        self.starts_in_s = starts_in_s
        self.first_run = FirstRun(scenario.world.gang.ranks)
        self.world = world
        self.body = gang_body(scenario)
        self.key = (NAMESPACE, scenario.world.gang.name)
        self.injector = Injector(self.world, scenario, self.key, self.body)
        self.oracle = Oracle(not_judged=[n.invariant for n in scenario.expect.not_judged])
        self.calm = Calm()
        self.figures = Figures()
        self.timeline = Timeline()
        self.expectations = Expectations(scenario)
        self.trace = Trace()
        self.triggers = Triggers(scenario.timeline, self._begin_soon)
        self.failures: list[str] = []
        self._wrote_at = 0.0
        self.world.journal.listeners += [
            self.trace,
            self.oracle,
            self.figures,
            self.calm,
            self.expectations,
            self.timeline,
            self.triggers,
            self._note_write,
            self.first_run,
            *([watch] if watch else []),
        ]

    async def story(self) -> None:
        """From an empty cluster to the end that is expected, or until it is too late for it."""
        end, quiet_s = self.scenario.expect.end, max(STABLE_S, self.scenario.expect.quiet_s)
        await self.world.begin()
        self.world.create_gang(self.body)
        for step in self.scenario.timeline:
            if step.at is not None:
                self.injector.under_way += 1
                self.world.loop.spawn(None, self._carry_out(step, step.at))
        while not self.failures:
            await asyncio.sleep(LOOKS_EVERY_S)
            now = self.world.now()
            if self.injector.under_way:
                continue
            if self.triggers.waits_for_calm() and (calmed := self.calm.look(now)):
                self.world.journal.tell(calmed)
                continue  # what waited for it has just begun
            over = not self.triggers.missed()
            calm_since = max(self._wrote_at, self.injector.last_at)
            if over and now > calm_since + quiet_s and self.expectations.reached(now - quiet_s):
                return
            if now > self.injector.last_at + end.within + quiet_s:
                return

    def _note_write(self, event: Event) -> None:
        if isinstance(event, Wrote) and event.actor.startswith("controller/") and event.plural != "leases":
            self._wrote_at = event.at

    def _begin_soon(self, step: Step) -> None:
        self.injector.under_way += 1  # from now on, also while it waits for its `after`
        self.world.loop.spawn(None, self._carry_out(step, 0.0))

    async def _carry_out(self, step: Step, at: float) -> None:
        try:
            await asyncio.sleep(min(at, self.starts_in_s))
            if at > self.starts_in_s:
                await self.first_run.seen.wait()
            await asyncio.sleep(max(0.0, at - self.starts_in_s) + step.after)
            await self.injector.carry_out(step)
        except LookupError as error:
            self.failures.append(f"{self.scenario.path}:{step.line}: {error}")
        finally:
            self.injector.under_way -= 1

    def why_broken(self) -> str:
        """What went wrong with the world itself."""
        loop = self.world.loop
        lost = [{"message": "nobody asked for this error", "exception": error} for error in loop.lost_errors()]
        told = [*self.failures, *(_one_line(failure) for failure in [*loop.failures, *lost])]
        return "; ".join(told[:3])

    def outcome(self, at: float, broken: str) -> Outcome:
        expect = self.scenario.expect
        self.oracle.finish(at, end=expect.end.kind, bound_s=expect.end.within, quiet_s=expect.quiet_s)
        figures = self.figures.finish(at)
        unmet = self.expectations.judge(at, figures)
        unmet += [
            f"the fault {type(step.fault).name} (line {step.line}) never began: what it waits for did not happen"
            for step in self.triggers.missed()
        ]
        good = not (broken or unmet or self.oracle.violations)
        return Outcome(
            scenario=self.scenario.name,
            seed=self.world.seed,
            verdict="pass" if good else "fail",
            wall_s=0.0,
            virtual_s=at,
            trace_hash=self.trace.digest(),
            violations=list(self.oracle.violations),
            unmet=unmet,
            broken=broken,
            figures=figures,
            recoveries=self.figures.recoveries,
            evaluated=dict(self.oracle.evaluated),
            story=self.timeline.story(),
        )


def world_of(scenario: Scenario) -> dict[str, Any]:
    """What a world needs to be the scenario's, but for the seed."""
    wanted, of, latency = scenario.world, scenario.world.trainer, scenario.world.latency
    ranges = {name: (getattr(latency, name).low, getattr(latency, name).high) for name in latency.__struct_fields__}
    return {
        "nodes": wanted.nodes,
        "ranks_per_node": wanted.ranks_per_node,
        "nodes_per_rack": wanted.nodes_per_rack,
        "controllers": wanted.controllers,
        "latency": sim.Latency(**ranges),
        "trainer": sim.Trainer(
            step_s=of.step,
            reports_steps=of.reports_steps,
            runs_for_s=of.runs_for,
            stops_in=(of.stops_in.low, of.stops_in.high),
            checkpoint_s=of.checkpoint_every,
        ),
    }


def gang_body(scenario: Scenario) -> Object:
    """The Gang that the scenario tries."""
    gang = scenario.world.gang
    trainer: dict[str, Any] = {"name": "trainer", "image": "trainer:sim", "command": ["train"]}
    group: Object = {"name": "worker", "size": gang.ranks, "template": {"spec": {"containers": [trainer]}}}
    spec: Object = {
        "groups": [{**group, "spares": gang.spares} if gang.spares else group],
        "recovery": scenario.policy_given,
    }
    return {
        "apiVersion": "fleetctl.dev/v1alpha1",
        "kind": "Gang",
        "metadata": {"name": gang.name, "namespace": NAMESPACE},
        "spec": merged(spec, gang.spec),
    }


def _one_line(failure: dict[str, Any]) -> str:
    error = failure.get("exception")
    told = f"{failure.get('message')}" + (f": {type(error).__name__}: {error}" if error else "")
    return " ".join(told.split())
