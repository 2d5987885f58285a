"""Observations that come again, too late or not at all: the run ends as if they had come in time.

From the reference of each core scenario: what the leader was told of pods, nodes and gangs, and which deletions and
status writes followed. An observation is worth a plan if it changed something that can be read; if it was new, and the
last of its object, when such a write was decided; and if the object was another later: then believing it again, or
never having seen it, is a mistake. (Sieve asks for a write in the same cycle or the next; cycles of ours last 10 ms,
and most are about what agents say.) These are its plans:

stale       once the later state was seen, or that of another object under its name, all watches of that resource break,
            and a server whose cache stands still at this observation answers; ten seconds later it catches up
restarted   the same befalls a controller that has just been restarted, so that it knows nothing else
unobserved  it is told of the object only once this is over, or eight seconds later
delayed     it is told of the object once the next such write is done, or eight seconds later

Of objects whose plans are alike the first has them; all with FLEETCTL_LONG_TESTS=1.
"""

import asyncio
import functools
import itertools
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

import pytest

from fleetctl.controller.loop import GangLoop
from fleetctl.kube.client import WatchEvent
from fleetctl.kube.reflector import Reflector
from fleetctl.scenario.injector import Injector
from fleetctl.scenario.report import problems
from fleetctl.sim.journal import Event, Key, Listed, Object, Wrote
from fleetctl.sim.processes import CURRENT
from fleetctl.sim.stream import Stream
from fleetctl.sim.troubles import Behind, Stalled
from fleetctl.sim.watch import Line
from tests.simulation.reference import LONG, TEXTS, assert_same, reference, run

How = Literal["stale", "restarted", "unobserved", "delayed"]
HOWS: tuple[How, ...] = ("stale", "restarted", "unobserved", "delayed")
BEHIND_S = 10.0
BEHIND_A_RESTART_S, BEHIND_A_REPLACEMENT_S = 30.0, 60.0
"""Longer after a restart, until it leads; longest where the pod was replaced, until it has proven again that the node
is dead. No real API server lists what is as old as that: a gang released meanwhile would restart once more.
"""
WASTED: dict[How, int] = {"stale": 24, "restarted": 24, "unobserved": 0, "delayed": 0}
"""Writes that may be sent for nothing, which the API server refuses: a few for each pod that an old cache shows."""
HELD_S = 8.0
SOON_S = 0.02
"""By then a change has been told."""
WATCHED = ("pods", "nodes", "gangs")
CONTROLLER = "controller/"
PUT = Stream._put

State = tuple[Any, ...]
"""What decisions read of an object; empty: it is gone."""


def state_of(plural: str, body: Object | None) -> State:
    if body is None:
        return ()
    meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or () if c["type"] != "PodScheduled"}
    common = (meta["uid"], bool(meta.get("deletionTimestamp")), tuple(sorted(conditions.items())))
    if plural == "nodes":
        return (*common, tuple(taint["key"] for taint in spec.get("taints") or ()))
    if plural == "gangs":
        record = status.get("attempt") or {}
        return (*common, bool(spec.get("suspend")), record.get("target", 0), record.get("released", 0))
    return (*common, status.get("phase"), spec.get("nodeName"), *_containers(status))


def _containers(status: Object) -> tuple[Any, ...]:
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return tuple((c["name"], *c["state"], (c["state"].get("terminated") or {}).get("exitCode")) for c in found)


# The reference, as its leader saw it


@dataclass(frozen=True)
class Seen:
    """An observation. `version` is that of the change it told."""

    plural: str
    key: Key
    version: int
    state: State
    at: float


@dataclass(frozen=True)
class Plan:
    """Do this to the observation `seen`; `later` is the next of the object that tells another state, or another uid."""

    how: How
    seen: Seen
    later: Seen
    write: str
    """What was written upon it: verb, resource, subresource."""

    @property
    def replaced(self) -> bool:
        """Whether `later` is another object under that name."""
        return bool(self.later.state) and self.later.state[:1] != self.seen.state[:1]


@dataclass(frozen=True)
class Plans:
    """`observed` is how many observations there were, `pruned` how many of them are worth no plan."""

    observed: int
    pruned: int
    plans: list[Plan]


@dataclass
class Watching:
    """What the leader was told, when it began to decide, and what was written, in the reference."""

    told: list[tuple[float, str, Key, int]]
    cycles: list[float]
    writes: list[tuple[float, str]]
    states: dict[tuple[str, Key, int], State]


def watching(name: str) -> Watching:
    seen = Watching([], [], [], {})
    worlds: list[Any] = []
    take, turn = Reflector._take, GangLoop._turn

    def taken(reflector: Any, event: WatchEvent[Any]) -> None:
        plural, world = reflector._resource.plural, worlds[0]
        if event.object is not None and plural in WATCHED and CURRENT.get() is world.leader.process:
            meta = event.object.metadata
            seen.told.append((world.now(), plural, (meta.namespace, meta.name), int(event.resource_version)))
        take(reflector, event)

    async def turned(loop: Any) -> float | None:
        if CURRENT.get() is worlds[0].leader.process:
            seen.cycles.append(worlds[0].now())
        return await turn(loop)

    def prepare(injector: Injector) -> None:
        world = injector.world
        worlds.append(world)

        def wrote(event: Event) -> None:
            if not isinstance(event, Wrote):
                return
            if event.plural in WATCHED:
                key = (event.namespace, event.name)
                seen.states[event.plural, key, world.api.version] = state_of(event.plural, event.after)
            if decides(event):
                seen.writes.append((event.at, kind(event)))

        world.journal.listeners.append(wrote)

    run(
        name,
        prepare,
        mock.patch.object(Reflector, "_take", taken),
        mock.patch.object(GangLoop, "_turn", turned),
    )
    return seen


def decides(event: Wrote) -> bool:
    """Whether it is a deletion or a write of a status, by a controller."""
    return event.actor.startswith(CONTROLLER) and kind(event) in ("delete-pods", "update-gangs-status")


def kind(event: Wrote) -> str:
    return "-".join(part for part in (event.verb, event.plural, event.subresource) if part)


@functools.cache
def plans(name: str) -> Plans:
    seen, begins = watching(name), reference(name).begins
    observations = [
        Seen(plural, key, version, seen.states[plural, key, version], at) for at, plural, key, version in seen.told
    ]
    upon = _upon(observations, seen)
    worth: dict[object, list[Plan]] = {}
    for one, what in upon.items():
        others = [o for o in observations if o.version > one.version and _other(o, one)]
        replaced = [o for o in others if o.state and o.state[:1] != one.state[:1]]
        for how, later in itertools.product(HOWS, dict.fromkeys((*others[:1], *replaced[:1]))):
            travels = how in ("stale", "restarted")
            if (later.at if travels else one.at) < begins or (later is not others[0] and not travels):
                continue  # that is a plan of `start`, or would withhold what lies between for long
            alike = (how, one.plural, _alike(one.state), _alike(later.state), what)
            worth.setdefault(alike, []).append(Plan(how, one, later, what[1]))
    chosen = [plan for alike in worth.values() for plan in (alike if LONG else alike[:1])]
    kept = {plan.seen for alike in worth.values() for plan in alike}
    return Plans(len(observations), len(observations) - len(kept), chosen)


def _upon(observations: list[Seen], seen: Watching) -> dict[Seen, tuple[float, str]]:
    """Observations that were news when something was decided, and the write that it was."""
    found = {}
    last: dict[tuple[str, Key], Seen] = {}
    news: dict[tuple[str, Key], Seen] = {}
    told = iter(observations)
    following = next(told, None)
    for at, what in seen.writes:
        decided = max(cycle for cycle in seen.cycles if cycle < at)
        while following is not None and following.at < decided:
            known = last.get((following.plural, following.key))
            if known is None or known.state != following.state:
                news[following.plural, following.key] = last[following.plural, following.key] = following
            following = next(told, None)
        found.update(dict.fromkeys(news.values(), (at, what)))
        news = {}
    return found


def _other(later: Seen, one: Seen) -> bool:
    return (later.plural, later.key) == (one.plural, one.key) and later.state != one.state


def _alike(state: State) -> State:
    """Without what tells one object from another: its uid, and the node of a pod."""
    return tuple(part for part in state[1:] if not str(part).startswith("node-"))


# Doing it to a run


def behind(injector: Injector, plan: Plan, listed: list[float]) -> None:
    """A server that stands still at the observation answers, once what came later was seen. `listed`: when it was."""
    world, began, seconds = injector.world, False, BEHIND_S
    if plan.how == "restarted":
        seconds = BEHIND_A_REPLACEMENT_S if plan.replaced else BEHIND_A_RESTART_S

    trouble = Behind(actor="controller", plural=plan.seen.plural, as_of=plan.seen.version)

    async def travel() -> None:
        await asyncio.sleep(SOON_S)
        injector.last_at = world.now()
        world.door.begin(trouble)
        if plan.how == "restarted":
            leader = world.leader
            leader.crash()
            leader.start()
        else:
            world.door.break_watches(actor="controller", plural=plan.seen.plural)
        await asyncio.sleep(seconds)
        injector.last_at = world.now()
        world.door.end(trouble)
        injector.under_way -= 1

    def begin(event: Event) -> None:
        nonlocal began
        if isinstance(event, Listed) and event.plural == plan.seen.plural and trouble in world.door.troubles:
            listed.append(event.at)
        if not began and isinstance(event, Wrote) and world.api.version >= plan.later.version:
            began = True
            injector.under_way += 1
            world.loop.spawn(None, travel())

    world.journal.listeners.append(begin)


class Withheld:
    """What controllers are not told of an object, from a version on, until it may be told, and no longer than HELD_S.

    `coalesced`: of what was withheld, only the last is told.
    """

    def __init__(self, injector: Injector, plan: Plan) -> None:
        self._injector = injector
        self._world = injector.world
        self._plan = plan
        self._lines: list[tuple[Stream, Line]] = []
        self.phase: Literal["not yet", "now", "over"] = "not yet"
        self._world.journal.listeners.append(self._happened)

    def put(self, stream: Stream, line: Line) -> None:
        """In place of Stream._put."""
        seen, request = self._plan.seen, stream.request
        mine = (request.plural, line.key) == (seen.plural, seen.key) and request.client.startswith(CONTROLLER)
        if not mine or self.phase == "over" or self._world.api.version < seen.version:
            PUT(stream, line)
            return
        if self.phase == "not yet":
            self.phase = "now"
            self._injector.under_way += 1
            self._world.loop.call_later(HELD_S, self._tell)
        self._lines.append((stream, line))
        if self._plan.how == "unobserved" and self._state() == self._plan.later.state:
            self._world.loop.call_soon(self._tell)

    def _happened(self, event: Event) -> None:
        if self.phase == "now" and self._plan.how == "delayed" and isinstance(event, Wrote) and decides(event):
            self._world.loop.call_later(SOON_S, self._tell)

    def _state(self) -> State:
        return state_of(self._plan.seen.plural, self._world.api.get(self._plan.seen.plural, *self._plan.seen.key))

    def _tell(self) -> None:
        if self.phase == "over":
            return
        self.phase = "over"
        self._injector.under_way -= 1
        self._injector.last_at = self._world.now()
        last = dict(self._lines) if self._plan.how == "unobserved" else None
        for stream, line in last.items() if last is not None else self._lines:
            PUT(stream, line)


def cells() -> list[Any]:
    return [pytest.param(name, plan, id=_called(name, plan)) for name in TEXTS for plan in plans(name).plans]


def _called(name: str, plan: Plan) -> str:
    seen = plan.seen
    return f"{name}-{plan.how}-{seen.plural}-{seen.key[1]}-version-{seen.version}-after-{plan.later.version}"


@pytest.mark.parametrize(("name", "plan"), cells())
def test_a_run_ends_the_same_whatever_is_observed_when(name: str, plan: Plan, request: pytest.FixtureRequest) -> None:
    withheld: list[Withheld] = []
    listed: list[float] = []
    if plan.how in ("stale", "restarted"):
        hit = run(name, lambda injector: behind(injector, plan, listed))
        assert listed
    else:
        hit = run(
            name,
            lambda injector: withheld.append(Withheld(injector, plan)),
            mock.patch.object(Stream, "_put", lambda stream, line: withheld[0].put(stream, line)),
        )
        assert withheld[0].phase == "over"
    assert_same(name, hit, WASTED[plan.how], request.node.nodeid)


def test_most_observations_are_worth_no_plan() -> None:
    observed, pruned = (sum(getattr(plans(name), what) for name in TEXTS) for what in ("observed", "pruned"))
    made = len(cells())
    print(f"{observed} observations, {pruned} pruned ({pruned / observed:.0%}); {made} plans")
    assert made >= 100
    assert pruned / observed >= 0.6


def test_a_standby_to_which_nothing_was_told_leads_on_what_is_there() -> None:
    """Its watch of pods is silent, as if the other end of the connection were gone, while the leader replaces the pods
    of a dead node; then it leads. Were it to believe what it knows, it would take ranks that run for lost.
    """
    from_s, leads_s, until_s = 20.0, 42.0, 125.0

    def prepare(injector: Injector) -> None:
        world = injector.world

        async def story() -> None:
            await asyncio.sleep(from_s)
            standby = next(c for c in world.controllers if c is not world.leader)
            trouble = Stalled(actor=f"{CONTROLLER}{standby.identity}", plural="pods")
            world.door.begin(trouble)
            await asyncio.sleep(leads_s - from_s)
            world.leader.crash()
            await asyncio.sleep(until_s - leads_s)
            injector.last_at = world.now()
            world.door.end(trouble)
            injector.under_way -= 1

        injector.under_way += 1
        world.loop.spawn(None, story())

    hit = run("node-killed-before-a-standby", prepare)
    assert hit.outcome.verdict == "pass", "\n".join(problems(hit.outcome))
