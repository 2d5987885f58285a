"""Core scenarios at 16 ranks: what each does undisturbed, write by write, and whether a run that is hit ends the same.

Shared by the crash matrix (test_crash_matrix.py) and by stale and missed observations (test_observations.py), which say
when a run is hit, and by what. Both are Sieve's recipe: a plan for each step of the reference, never a random moment.

A run is the same as its reference until it is hit, because the same seed gives the same run. So a write is named by its
number, an agent's by its rank and number, an observation by the version of the object.
"""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

from fleetctl.scenario import simulate as simulation
from fleetctl.scenario.injector import Injector
from fleetctl.scenario.load import parse
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.report import problems, short_story
from fleetctl.sim.containers import LocalPod, Volume
from fleetctl.sim.journal import Event, Faulted, TrainerEnded, Wrote
from fleetctl.sim.kubelet import Kubelet
from fleetctl.sim.requests import Request

LONG = os.environ.get("FLEETCTL_LONG_TESTS") == "1"
SEED = 1
RESTART_AFTER_S = 3.0
COMPARED = ("attempts", "pods_created", "pods_deleted", "pods_recreated", "in_place_restarts", "bindings")
"""Figures that must be the reference's."""
KEPT = ("pods", "services", "configmaps", "secrets", "gangs", "nodes")
"""Resources whose objects are counted: made, and gone."""

MAY_DIFFER = {
    ("exit-then-node-killed", "in_place_restarts"): 2,
    ("node-killed-with-spares", "pods made"): 2,
    ("node-killed-with-spares", "pods gone"): 2,
}
"""By how much: the two ranks of the node that dies may have been told to restart before it died, or not. Whoever leads
after a spare was put out, and before its room was taken, takes another spare for the rank."""

WORLD = """
version: 1
name: {name}
why: A reference for plans.
world:
  gang: {{name: g, ranks: 16, spares: {spares}}}
  ranks_per_node: 2
  nodes: {nodes}
  {world}
timeline: {timeline}
expect:
- {end}
- quiet: {{for: {quiet}}}
"""
RUNS_AGAIN = "running: {attempt: 2, within: 120s}"
EXIT = "{at: 15s, fault: container_exit, select: {rank: 9}, with: {exit_code: 3}}"
KILLED = "{at: 15s, fault: node_killed, select: {node_of: 0}}"
SPARED = "{at: 50s, fault: node_power_loss, select: {node_of: 0}}"
SUSPENDED = "{at: 15s, fault: gang_edited, with: {spec: {suspend: true}}}"
RESUMED = "{when: {condition: Suspended}, after: 10s, fault: gang_edited, with: {spec: {suspend: false}}}"


def _text(name: str, end: str = RUNS_AGAIN, *steps: str, world: str = "controllers: 1", spares: int = 0) -> str:
    timeline = f"[{', '.join(steps)}]"
    quiet = "60s" if spares else "10s"  # so that a new leader has made the spares anew
    return WORLD.format(
        name=name, end=end, timeline=timeline, world=world, spares=spares, nodes=10 + spares, quiet=quiet
    )


TEXTS = {
    "start": _text("start", "running: {attempt: 1, within: 120s}"),
    "container-exit": _text("container-exit", RUNS_AGAIN, EXIT),
    "node-killed": _text("node-killed", RUNS_AGAIN, KILLED),
    "exit-then-node-killed": _text(
        "exit-then-node-killed",
        RUNS_AGAIN,
        EXIT,
        "{when: {target: 2}, after: 200ms, fault: node_killed, select: {node_of: 4}}",
    ),
    "suspended-and-resumed": _text("suspended-and-resumed", RUNS_AGAIN, SUSPENDED, RESUMED),
    "completed": _text("completed", "completed: {within: 120s}", world="trainer: {runs_for: 15s}"),
    "two-controllers": _text("two-controllers", RUNS_AGAIN, EXIT, world="controllers: 2"),
}
"""The core scenarios, by name."""
OTHERS = {
    "node-killed-before-a-standby": _text("node-killed-before-a-standby", RUNS_AGAIN, KILLED, world="controllers: 2"),
    "node-killed-with-spares": _text("node-killed-with-spares", RUNS_AGAIN, SPARED, spares=6),
}


@functools.cache
def scenario(name: str) -> Scenario:
    return parse((TEXTS | OTHERS)[name], f"{name}.yaml")


# One run


class Counts:
    """How many objects of each resource were made and went, whoever did it. A journal listener."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Wrote) and event.plural in KEPT and (event.before is None or event.after is None):
            self.counts[f"{event.plural} {'made' if event.before is None else 'gone'}"] += 1


@dataclass
class Run:
    """A run that is over."""

    outcome: Outcome
    counts: dict[str, int]
    sent: int
    """How many writes its controllers sent, those that were refused too; Leases and Events apart."""

    def result(self) -> dict[str, Any]:
        """What must be the same however the run was hit."""
        return {**{name: self.outcome.figures[name] for name in COMPARED}, **self.counts}


Prepare = Callable[[Injector], None]


def run(name: str, prepare: Prepare = lambda injector: None, *patches: Any) -> Run:
    """`prepare` is given the world, by its injector, before anything happens; `patches` hold during the run."""

    class Prepared(Injector):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.world.door.before_write.append(count)
            prepare(self)

    counted, sent = Counts(), 0

    def count(request: Request) -> None:
        nonlocal sent
        sent += counts(request) and request.plural != "events"

    with ExitStack() as stack:
        for patch in (mock.patch.object(simulation, "Injector", Prepared), *patches):
            stack.enter_context(patch)
        outcome = simulation.simulate(scenario(name), SEED, watch=counted)
    return Run(outcome, dict(counted.counts), sent)


def differences(name: str, hit: Run, wasted: int) -> list[str]:
    """How a run that was hit did not end as its reference; so many writes it may have sent for nothing."""
    undisturbed = reference(name).run
    wanted, found = undisturbed.result(), hit.result()
    told = list(problems(hit.outcome))
    for what in dict.fromkeys((*wanted, *found)):
        should, is_ = wanted.get(what, 0), found.get(what, 0)
        if abs(is_ - should) > MAY_DIFFER.get((name, what), 0):
            told.append(f"DIFFERS   {what}: {is_}, and {should} in the reference")
    if hit.sent > undisturbed.sent + wasted:
        told.append(f"WASTED    {hit.sent} writes were sent, and {undisturbed.sent} in the reference")
    return told


def assert_same(name: str, hit: Run, wasted: int, test: str) -> None:
    """Fails with the story of the run, and how to see it again."""
    if told := differences(name, hit, wasted):
        again = f"see it again:  pytest -n0 '{test}'"
        raise AssertionError("\n".join(("", *told, "", *short_story(hit.outcome), "", again)))


# The reference


@dataclass(frozen=True)
class Write:
    """A write of a controller that was committed. `sent` and `committed` are its numbers among those that were."""

    kind: str
    name: str
    sent: int
    committed: int
    at: float


@dataclass(frozen=True)
class Kept:
    """What the agent of that rank wrote to its files, and its number among what it wrote."""

    rank: int
    what: Literal["promise", "release"]
    number: int
    at: float


@dataclass
class Reference:
    """What an undisturbed run did."""

    run: Run
    writes: list[Write]
    kept: list[Kept]
    begins: float
    """Until then it is as `start` is, whose only beginning is 0: the first fault, or the first trainer that ended."""


@functools.cache
def reference(name: str) -> Reference:
    sent: list[tuple[Request, float]] = []
    committed: list[Request] = []
    kept: list[Kept] = []
    begins: list[float] = []

    def prepare(injector: Injector) -> None:
        world = injector.world

        def disturbed(event: Event) -> None:
            if isinstance(event, Faulted | TrainerEnded):
                begins.append(event.at)

        world.journal.listeners.append(disturbed)
        world.door.before_write.append(lambda r: sent.append((r, world.now())) if counts(r) else None)
        world.door.after_write.append(lambda r: committed.append(r) if counts(r) else None)

    def keeps(injector: Injector, pod: LocalPod, what: Any, number: int, write: Callable[[], None]) -> None:
        write()
        kept.append(Kept(pod.rank, what, number, injector.world.now()))

    done = run_with_agents(name, keeps, prepare)
    if done.outcome.verdict != "pass":
        raise AssertionError("\n".join((f"the reference {name} fails:", *problems(done.outcome))))
    number_of = {id(request): number for number, request in enumerate(committed)}
    writes = [
        Write(_kind(request), request.name, number, number_of[id(request)], at)
        for number, (request, at) in enumerate(sent)
        if id(request) in number_of
    ]
    return Reference(done, writes, kept, min(begins, default=0.0))


def counts(request: Request) -> bool:
    """Whether it is a write of a controller that we number: not of its Lease, and no dry run."""
    controllers = request.client.startswith("controller/")
    return controllers and request.plural != "leases" and not request.query.get("dryRun")


def _kind(request: Request) -> str:
    return "-".join(part for part in (request.verb, request.plural, request.subresource) if part)


def sampled(writes: list[Write]) -> list[Write]:
    """Of many writes in a row that do the same to one pod each: the first, one in the middle and the last."""
    if LONG:
        return writes
    rows = [list(row) for _, row in itertools.groupby(writes, lambda write: write.kind)]
    return [row[n] for row in rows for n in sorted({0, len(row) // 2, len(row) - 1})]


# Agents and their files

Keeps = Callable[[Injector, LocalPod, str, int, Callable[[], None]], None]


def run_with_agents(name: str, keeps: Keeps, prepare: Prepare = lambda injector: None) -> Run:
    """A run in which `keeps` carries out every write of an agent: whose, which, its number for that rank, the write."""
    injectors: list[Injector] = []
    numbers: Counter[int] = Counter()

    def prepared(injector: Injector) -> None:
        injectors.append(injector)
        prepare(injector)

    def watched(what: str, original: Callable[..., None]) -> Callable[..., None]:
        def write(volume: Volume, *values: Any) -> None:
            pod = next(p for _, p in injectors[0].world.local_pods(injectors[0].gang) if p.volume is volume)
            number = numbers[pod.rank]
            numbers[pod.rank] += 1
            keeps(injectors[0], pod, what, number, lambda: original(volume, *values))

        return write

    return run(
        name,
        prepared,
        mock.patch.object(Volume, "keep_promise", watched("promise", Volume.keep_promise)),
        mock.patch.object(Volume, "keep_release", watched("release", Volume.keep_release)),
    )


def kubelet_of(injector: Injector, pod: LocalPod) -> Kubelet:
    return next(kubelet for kubelet, there in injector.world.local_pods(injector.gang) if there is pod)
