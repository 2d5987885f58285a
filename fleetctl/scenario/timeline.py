"""The story of a run, as one would tell it to a colleague: what happened, what was decided, and why.

A journal listener. A thousand ranks that do the same are one line: what happens to ranks, pods or nodes one by one is
gathered until it has paused for a moment, or until something is decided. Sentences of decisions are the controller's
own (record, conditions, Events). Knows nothing of terminals.
"""

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fleetctl.gang.state import ranges
from fleetctl.rendezvous.messages import Ping, Reset
from fleetctl.scenario.facts import (
    CONTROLLER,
    Crew,
    conditions_of,
    holds,
    is_quarantined,
    is_ready,
    is_spare,
    is_terminating,
    rank_of,
    record_of,
    size_of,
)
from fleetctl.scenario.outcome import Level, Line
from fleetctl.sim.journal import (
    AgentHeard,
    Event,
    Faulted,
    Object,
    ProcessChanged,
    Restarting,
    TrainerEnded,
    TrainerStarted,
    Wrote,
)

PAUSE_S = 1.5
"""So long nothing of a kind has happened: then its line is told."""
LONGEST_S = 60.0
"""After so long it is told in any case."""
MOMENT_S = 0.5
"""What held for a moment only is not told."""
LONGEST_RANGES = 40
TOLD_ONE_BY_ONE = 3
"""Of a fault that hits one after the other, so many are told in full."""
SIGNALS = {s.value: s.name for s in signal.Signals}

Item = int | str
"""A rank, or the name of a node or of a spare."""


@dataclass(slots=True)
class _Many:
    """The same thing, happening to many. `one` and `many` are its sentences: `{}` is whom it happens to, `@` where.
    `noun`: what those are that have names."""

    actor: str
    one: str
    many: str
    first: float
    last: float
    items: dict[Item, None] = field(default_factory=dict)
    nodes: dict[str, None] = field(default_factory=dict)
    level: Level = "fact"
    noun: str = "node"

    def line(self, size: int) -> Line:
        until = f" (until {self.last:,.1f})" if self.last - self.first >= 0.1 else ""
        sentence = self.one if len(self.items) == 1 else self.many
        text = sentence.replace("@", _names(list(self.nodes))).replace("{}", _whom(self.items, size, self.noun))
        return Line(self.first, self.actor, text + until, self.level)


@dataclass(slots=True)
class _Latest:
    """Something that is said again and again in other words, of which only the last ones are told."""

    actor: str
    text: str
    first: float
    last: float

    def line(self, _: int) -> Line:
        return Line(self.last, self.actor, self.text, "decision")


class Timeline:
    """Feed it every event. `tell` is given each line once nothing can come before it any more."""

    def __init__(self, tell: Callable[[Line], None] | None = None) -> None:
        self._tell = tell
        self._story: list[Line] = []
        self._ready: list[Line] = []
        """Lines that must wait for one that may begin earlier."""
        self._open: dict[tuple[Item, ...], _Many | _Latest] = {}
        self._look_at = 0.0
        self._crew = Crew()
        self._nodes = 0
        self._ranks: dict[str, int] = {}
        """By pod uid."""
        self._faults: dict[tuple[str, str], tuple[float, int]] = {}
        """By fault and phase: when it was last, and how often in a row."""
        self._told: dict[tuple[str, int], set[Item]] = {}
        """Who has been told what of an attempt."""
        self._deleting: set[str] = set()
        self._homeless: set[str] = set()
        self._said: set[str] = set()
        """Sentences that the gang's status has said: its Events repeat them."""

    def __call__(self, event: Event) -> None:
        if event.at >= self._look_at:
            self._close_what_paused(event.at)
        tell = _TELL.get(type(event))
        if tell is not None:
            tell(self, event)

    def story(self) -> list[Line]:
        """All lines, in the order of time. The run is over."""
        self._close()
        self._flush()
        return self._story

    # Lines

    def _say(self, at: float, actor: str, text: str, level: Level = "fact") -> None:
        self._ready.append(Line(at, actor, text, level))
        self._flush()

    def _add(self, at: float, kind: tuple[Item, ...], item: Item, actor: str, one: str, many: str) -> _Many:
        """This happens to one more."""
        group = self._open.get(kind)
        if not isinstance(group, _Many):
            group = self._open[kind] = _Many(actor, one, many, at, at)
        group.last = at
        group.items[item] = None
        return group

    def _close_what_paused(self, at: float) -> None:
        self._look_at = at + PAUSE_S / 2
        paused = [k for k, many in self._open.items() if many.last + PAUSE_S <= at or many.first + LONGEST_S <= at]
        if paused:
            self._ready += [self._open.pop(kind).line(self._crew.size) for kind in paused]
            self._flush()

    def _close(self) -> None:
        """What comes now must not stand before what has happened so far."""
        self._ready += [many.line(self._crew.size) for many in self._open.values()]
        self._open.clear()

    def _flush(self) -> None:
        until = min((many.first for many in self._open.values()), default=float("inf"))
        self._ready.sort(key=lambda line: line.at)
        while self._ready and self._ready[0].at <= until:
            line = self._ready.pop(0)
            self._story.append(line)
            if self._tell:
                self._tell(line)

    # What the kubelets did

    def _started(self, event: TrainerStarted) -> None:
        self._crew(event)
        if event.rank < 0:
            return
        attempt, kind = event.attempt, ("starts", event.attempt)
        if self._crew.complete == attempt:
            self._open.pop(kind, None)
            self._say(event.at, "kubelets", f"{_all(self._crew.size, 'trainer')} run attempt {attempt}")
            return
        one, many = f"the trainer of {{}} runs attempt {attempt}", f"the trainers of {{}} run attempt {attempt}"
        self._add(event.at, kind, event.rank, "kubelets", one, many)

    def _ended(self, event: TrainerEnded) -> None:
        self._crew(event)
        if event.rank < 0 or event.why == "restart":  # that is told as a restart
            return
        if event.why == "itself":
            what = code(event.exit_code)
            one, many = f"the trainer of {{}} exits {what}", f"the trainers of {{}} exit {what}"
        else:
            what, one = event.why, f"the trainer of {{}} ends with its {event.why}"
            many = f"the trainers of {{}} end with their {event.why}s"
        self._add(event.at, ("ends", what), event.rank, "kubelets", one, many)

    def _restarting(self, event: Restarting) -> None:
        self._add(event.at, ("restarts",), event.rank, "kubelets", "{} restarts in place", "{} restart in place")

    # What the agents were told

    def _heard(self, event: AgentHeard) -> None:
        message, rank = event.message, self._ranks.get(event.uid, -1)
        if isinstance(message, Reset):
            if self._is_new("reset", message.attempt, event.uid):
                one, many = "{} is told to restart in place", "{} are told to restart in place"
                self._add(event.at, ("reset", message.attempt), rank, "agents", one, many)
        elif isinstance(message, Ping) and self._is_new("ping", message.attempt, rank):
            one = f"{{}} stands at the barrier of attempt {message.attempt}"
            many = f"{{}} stand at the barrier of attempt {message.attempt}"
            group = self._add(event.at, ("ping", message.attempt), rank, "agents", one, many)
            if len(group.items) == self._crew.size:
                del self._open["ping", message.attempt]
                self._say(event.at, "agents", many.format(_all(self._crew.size, "rank")))

    def _is_new(self, what: str, attempt: int, item: Item) -> bool:
        told = self._told.setdefault((what, attempt), set())
        if item in told:
            return False
        told.add(item)
        return True

    # What befell them

    def _faulted(self, event: Faulted) -> None:
        self._crew(event)
        kind = (event.fault, event.phase)
        last, times = self._faults.get(kind, (event.at, 0))
        times = times + 1 if event.at < last + PAUSE_S else 1
        self._faults[kind] = event.at, times
        items: tuple[Item, ...] = event.ranks or event.nodes
        if times <= TOLD_ONE_BY_ONE or not items:
            self._say(event.at, "scenario", event.text, "fault")
        for item in items if times > TOLD_ONE_BY_ONE else ():
            text = f"{event.fault} {event.phase} for {{}} too"
            self._add(event.at, ("fault", *kind), item, "scenario", text, text).level = "fault"

    def _process(self, event: ProcessChanged) -> None:
        self._say(event.at, _replica(event.process), f"{_replica(event.process)} {event.what}")

    # What was written

    def _wrote(self, event: Wrote) -> None:
        if event.plural == "pods":
            self._pod(event)
        elif event.plural == "gangs":
            self._gang(event)
        elif event.plural == "events" and event.after is not None and event.before is None:
            self._event(event, event.after)
        elif event.plural == "nodes":
            self._node(event)

    def _pod(self, event: Wrote) -> None:
        before, after = event.before, event.after
        pod = after or before or {}
        uid, rank = pod["metadata"]["uid"], rank_of(pod)
        if is_spare(pod):
            self._spare(event, pod)
        if rank < 0:
            return
        by = "" if event.actor.startswith(CONTROLLER) else f" by {event.actor.partition('/')[0]}"
        if before is None:
            self._ranks[uid] = rank
            if node := pod["spec"].get("nodeName"):
                one, many = "{} takes the room of a spare on @", "{} take the room of spares on @"
                self._add(event.at, ("takes",), rank, "controller", one, many).nodes[node] = None
            else:
                self._many_pods(event, rank, "created", f"is created{by}", f"are created{by}")
        elif after is None:
            self._homeless.discard(uid)
            if uid not in self._deleting:
                self._many_pods(event, rank, "deleted", f"is deleted{by}", f"are deleted{by}")
            elif not self._is_in_line("deleted", rank):
                self._many_pods(event, rank, "gone", "is gone", "are gone")
            self._deleting.discard(uid)
        elif is_terminating(after):
            if uid not in self._deleting:
                self._deleting.add(uid)
                self._many_pods(event, rank, "deleted", f"is deleted{by}", f"are deleted{by}")
        elif event.actor == "scheduler":
            self._scheduled(event, rank, uid, before, after)
        elif (phase := _phase(after)) in ("Failed", "Succeeded") and phase != _phase(before):
            reason = (after.get("status") or {}).get("reason", "")
            why = f": {reason}" if reason else ""
            self._many_pods(event, rank, f"{phase}{why}", f"is {phase}{why}", f"are {phase}{why}")

    def _is_in_line(self, kind: str, rank: int) -> bool:
        """Whether a line of this kind, with this rank, is still to be told."""
        return any(k[0] == kind and isinstance(many, _Many) and rank in many.items for k, many in self._open.items())

    def _scheduled(self, event: Wrote, rank: int, uid: str, before: Object, after: Object) -> None:
        node = after["spec"].get("nodeName")
        if node and not before["spec"].get("nodeName"):
            self._homeless.discard(uid)
            self._many_pods(event, rank, "bound", "is bound to @", "are bound to @").nodes[node] = None
        elif not node and uid not in self._homeless:
            self._homeless.add(uid)
            self._many_pods(event, rank, "homeless", "finds no node", "find no node")

    def _spare(self, event: Wrote, pod: Object) -> None:
        """It is made, ready, Failed, or no longer ready."""
        before, after, actor = event.before, event.after, event.actor.partition("/")[0]
        if before is None:
            what = "made", "is made", "are made"
        elif after is not None and is_ready(after) and not is_ready(before):
            what = "ready", "is ready on @", "are ready on @"
        elif after is not None and is_ready(before) and not is_ready(after):
            by = "" if actor in ("controller", "kubelet") else f", by {actor}"
            what = "left", f"is no longer ready on @{by}", f"are no longer ready on @{by}"
        elif after is not None and (reason := (after.get("status") or {}).get("reason")) and not is_terminating(before):
            what = "failed", f"is Failed on @: {reason}", f"are Failed on @: {reason}"
        else:
            return
        group = self._add(event.at, ("spare", *what), event.name, actor, f"{{}} {what[1]}", f"{{}} {what[2]}")
        group.noun = "spare"
        group.nodes[pod["spec"].get("nodeName", "")] = None

    def _many_pods(self, event: Wrote, rank: int, kind: str, one: str, many: str) -> _Many:
        actor = event.actor.partition("/")[0]
        return self._add(event.at, (kind, actor), rank, actor, f"the pod of {{}} {one}", f"the pods of {{}} {many}")

    def _node(self, event: Wrote) -> None:
        if event.before is None:
            self._nodes += 1
        elif event.after is None:
            self._add(event.at, ("node gone",), event.name, event.actor, "the Node {} is gone", "the Nodes {} are gone")
        else:
            if (quarantined := is_quarantined(event.after)) != is_quarantined(event.before):
                how = "quarantined" if quarantined else "out of quarantine"
                actor = _replica(event.actor.removeprefix(CONTROLLER))
                many = self._add(event.at, ("node", how), event.name, actor, f"{{}} is {how}", f"{{}} are {how}")
                many.level = "decision"
            ready, was = _ready(event.after), _ready(event.before)
            if ready != was:
                how = "Ready again" if ready == "True" else "marked NotReady"
                self._add(event.at, ("node", ready), event.name, event.actor, f"{{}} is {how}", f"{{}} are {how}")

    # What was decided

    def _gang(self, event: Wrote) -> None:
        self._crew(event)
        before, after = event.before, event.after
        if before is None and after is not None:
            size, self._told = size_of(after), {}
            self._say(
                event.at, event.actor, f"gang {event.name}: {size:,} rank{'s'[: size > 1]} on {self._nodes:,} nodes"
            )
        elif after is None:
            self._decided(event, f"gang {event.name} is gone")
        elif before is not None:
            if is_terminating(after) and not is_terminating(before):
                self._decided(event, f"gang {event.name} is to be deleted")
            self._attempt(event, record_of(before), record_of(after))
            self._conditions(event, conditions_of(before), conditions_of(after))

    def _attempt(self, event: Wrote, before: Object, after: Object) -> None:
        target, released = after.get("target", 0), after.get("released", 0)
        named = {each["uid"]: each.get("rank", 0) for each in after.get("replacing") or ()}
        fresh = {rank for uid, rank in named.items() if uid not in {e["uid"] for e in before.get("replacing") or ()}}
        why, known = ((record.get("cause") or {}).get("message", "") for record in (after, before))
        if target > before.get("target", 0) or (target > released and why != known):
            self._decided(event, f"attempt {target}: {why}")
        elif released > before.get("released", 0):
            self._decided(event, f"attempt {released} is released: {_all(self._crew.size, 'trainer')} may run")
        elif after.get("writer") != before.get("writer") and after.get("writer"):
            self._decided(event, f"{_replica(after['writer'].partition('/')[0])} takes over")
        if fresh:
            self._decided(
                event, f"attempt {target}: new pod{'s'[: len(fresh) > 1]} for {_whom(fresh, self._crew.size)}"
            )

    def _conditions(self, event: Wrote, before: dict[str, Object], after: dict[str, Object]) -> None:
        for kind, condition in after.items():
            message, old = condition.get("message", ""), before.get(kind)
            if old is not None and (old["status"], old.get("message", "")) == (condition["status"], message):
                continue
            self._said.add(message)
            if condition["status"] == "True":
                if kind == "Held" and holds(before, kind):
                    self._still_held(event, message)
                elif kind in ("Held", "Failed", "Completed", "Suspended"):
                    self._decided(event, f"{kind.upper()}: {message}")
                elif kind == "Accepted" and condition.get("reason") == "AcceptedWithWarnings":
                    self._decided(event, f"accepted with a warning: {message}")
            elif kind == "Held" and holds(before, kind):
                held = self._open.get(("held",))
                if held and event.at < held.last + MOMENT_S:
                    del self._open["held",]
                self._decided(event, "no longer held")
            elif kind == "Accepted":
                self._decided(event, f"not accepted: {message}")

    def _still_held(self, event: Wrote, message: str) -> None:
        """For another reason; or a thousand ranks that it waits for arrive one by one."""
        held = self._open.get(("held",))
        first = held.first if held else event.at
        actor = _replica(event.actor.removeprefix(CONTROLLER))
        self._open["held",] = _Latest(actor, f"HELD: {message}", first, event.at)

    def _event(self, event: Wrote, body: Object) -> None:
        """A Kubernetes Event, unless it repeats what the status has said."""
        note = body.get("note", "")
        if note and body.get("reason") != "Released" and note not in self._said:
            self._decided(event, note)

    def _decided(self, event: Wrote, text: str) -> None:
        """What a controller's sentence says is said once."""
        self._said.add(text)
        self._close()
        self._say(event.at, _replica(event.actor.removeprefix(CONTROLLER)), text, "decision")


def code(exit_code: int) -> str:
    """`139 (SIGSEGV)`."""
    name = SIGNALS.get(exit_code - 128)
    return f"{exit_code} ({name})" if name else str(exit_code)


def _replica(identity: str) -> str:
    """A controller's name, without the number of its start."""
    name, _, number = identity.rpartition("_")
    return name if number.isdecimal() else identity


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _ready(node: Object) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "")


def _all(size: int, what: str) -> str:
    return f"all {size:,} {what}s" if size > 1 else f"the {what}"


def _whom(items: Iterable[Item], size: int, noun: str = "node") -> str:
    """`rank 417`, `8 ranks (96-103)`, `1,023 ranks (all but 417)`, `all 1,024 ranks`, `node-3, node-4`."""
    ranks = [item for item in items if isinstance(item, int)]
    if not ranks:
        return _names([item for item in items if isinstance(item, str)], noun)
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) == size:
        return _all(size, "rank")
    which = ranges(ranks)
    if len(ranks) > size / 2:
        which = f"all but {ranges(set(range(size)).difference(ranks))}"
    if len(which) > LONGEST_RANGES:
        which = which[:LONGEST_RANGES].rpartition(",")[0] + " …"
    return f"{len(ranks):,} ranks ({which})"


def _names(names: list[str], noun: str = "node") -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names):,} {noun}s ({names[0]}, {names[1]} …)"


_TELL: dict[type[Event], Callable[[Timeline, Any], None]] = {
    TrainerStarted: Timeline._started,
    TrainerEnded: Timeline._ended,
    Restarting: Timeline._restarting,
    AgentHeard: Timeline._heard,
    Faulted: Timeline._faulted,
    ProcessChanged: Timeline._process,
    Wrote: Timeline._wrote,
}
