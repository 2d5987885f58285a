"""What is left of a run: its outcome, its trace, and what was seen in it.

The trace has one line for each event of the journal, JSON, and holds nothing that differs between two runs of the same
seed: no bodies (certificates are random), no wall clock. Its hash says whether two runs were the same run.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import msgspec

from fleetctl.gang.state import ranges
from fleetctl.rendezvous.messages import Ping, Release, Reset
from fleetctl.scenario.facts import CONTROLLER, conditions_of, holds, rank_of, record_of, size_of
from fleetctl.scenario.figures import Number, Recovery
from fleetctl.sim.journal import (
    AgentHeard,
    Calmed,
    Event,
    Faulted,
    Listed,
    Object,
    ProcessChanged,
    Restarting,
    TrainerEnded,
    TrainerStarted,
    Wrote,
)
from fleetctl.sim.oracle import Violation

Level = Literal["fact", "decision", "fault", "violation"]
Place = Literal["sim", "apiserver", "kind"]
"""Where a run took place."""


@dataclass(frozen=True, slots=True)
class Line:
    """Of the story of a run. `at` is in seconds since it began; `actor` is who did it."""

    at: float
    actor: str
    text: str
    level: Level = "fact"


@dataclass
class Outcome:
    """What came of one run. `unmet`: one sentence for each expectation that was not met. `broken`: why the world itself
    failed, so that nothing can be said of the gang; empty if it did not. `virtual_s`: how long the run was, in real
    seconds if not simulated. `trace_hash`: of simulated runs only. `evaluated`: how often each invariant was checked.
    `faults` and `situations` are what Seen counted, if it was asked."""

    scenario: str
    seed: int
    verdict: Literal["pass", "fail"]
    wall_s: float
    virtual_s: float
    trace_hash: str
    violations: list[Violation] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    broken: str = ""
    figures: dict[str, Number] = field(default_factory=dict)
    story: list[Line] = field(default_factory=list)
    backend: Place = "sim"
    recoveries: list[Recovery] = field(default_factory=list)
    evaluated: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    situations: dict[str, int] = field(default_factory=dict)


def not_run(scenario: str, seed: int, why: str, backend: Place = "sim") -> Outcome:
    """Of a run that did not take place."""
    return Outcome(scenario, seed, "fail", wall_s=0.0, virtual_s=0.0, trace_hash="", broken=why, backend=backend)


class Trace:
    """A journal listener. `write` is given each line, for a file; the digest is that of this file (`b2sum -l 64`)."""

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self._encode = msgspec.json.Encoder().encode
        self._write = write

    def __call__(self, event: Event) -> None:
        line = self._encode(_TELL[type(event)](event)) + b"\n"
        self._hash.update(line)
        if self._write:
            self._write(line)

    def digest(self) -> str:
        """16 hexadecimal digits."""
        return self._hash.hexdigest()


SITUATIONS: dict[str, str] = {
    "fault_while_gathering": "a fault began while a gang gathered",
    "raised_at_once": "the target was raised within 5 s of a release",
    "burnt_attempt": "an attempt was released and given up before all of its trainers had started",
    "victims_named_while_gathering": "further pods were named at the same target",
    "crash_while_gathering": "a controller crashed while a gang gathered",
    "crash_between_commit_and_release": "a controller crashed after the commit, before any agent heard of the release",
    "crash_while_half_released": "a controller crashed when some of the trainers had started, and not all",
    "takeover_while_gathering": "another controller went on with a recovery",
    "release_resent": "an agent was told of the same release again",
    "second_ping_round": "an agent was asked to promise the same attempt under another ticket",
    "trainer_outlives_its_pod": "a pod's object was gone while its trainer ran",
    "zombie_reset": "a life whose pod's object was gone was told to reset",
    "deleted_without_grace": "a controller removed a pod of a dead node",
    "deleted_with_grace": "a controller asked a live node to end a pod",
    "replaced_twice": "a rank got a third pod",
    "coordinator_moved": "rank 0 got another pod",
    "held": "a gang was Held",
    "suspended": "a gang was Suspended",
    "created_again": "a gang was created again under its name",
}
"""What can be seen in a journal, and should be in any campaign that is long enough."""
_AT_ONCE_S = 5.0


class Seen:
    """A journal listener. Counts faults by kind, and how often situations arose in which protocols like to fail.

    Of one gang at a time, as scenarios have it.
    """

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.situations: Counter[str] = Counter()
        self._gangs = 0
        self._size = 0
        self._record: Object = {}
        self._true: frozenset[str] = frozenset()
        self._released_at = -inf
        self._started: set[int] = set()
        """Ranks whose trainers have started in the attempt that was released last."""
        self._told: set[tuple[str, int, str]] = set()
        """Lives that have heard of its release."""
        self._pinged: dict[tuple[str, int], str] = {}
        self._pods: set[str] = set()
        """Uids of those that are there."""
        self._trains: dict[str, int] = {}
        """By uid of the pod, the rank of its trainer."""
        self._pods_of: Counter[int] = Counter()

    def __call__(self, event: Event) -> None:
        match event:
            case Wrote(plural="gangs"):
                self._gang(event)
            case Wrote(plural="pods"):
                self._pod(event)
            case TrainerStarted():
                self._trains[event.uid] = event.rank
                if event.attempt == self._record.get("released", 0):
                    self._started.add(event.rank)
            case TrainerEnded():
                self._trains.pop(event.uid, None)
            case AgentHeard():
                self._heard(event)
            case Faulted(phase="begins"):
                self.faults[event.fault] += 1
                self.situations["fault_while_gathering"] += self._gathers
            case ProcessChanged(what="crashes"):
                self._crashed()

    @property
    def _gathers(self) -> bool:
        return bool(self._record.get("target", 0) > self._record.get("released", 0))

    def _gang(self, event: Wrote) -> None:
        if event.before is None and event.after is not None:
            self._gangs += 1
            self._size = size_of(event.after)
            self._pods_of.clear()
            self.situations["created_again"] += self._gangs > 1
        before, after = self._record, record_of(event.after)
        target, released = after.get("target", 0), after.get("released", 0)
        if target > before.get("target", 0) > 0:
            self.situations["raised_at_once"] += event.at < self._released_at + _AT_ONCE_S
            self.situations["burnt_attempt"] += len(self._started) < self._size
        elif self._gathers and released == before.get("released", 0):
            named, known = ({r["uid"] for r in record.get("replacing") or ()} for record in (after, before))
            self.situations["victims_named_while_gathering"] += not named <= known
            self.situations["takeover_while_gathering"] += after.get("writer") != before.get("writer")
        if released > before.get("released", 0):
            self._released_at = event.at
            self._started.clear()
            self._told.clear()
        self._record = after
        conditions = conditions_of(event.after)
        true = frozenset(kind for kind in ("Held", "Suspended") if holds(conditions, kind))
        for kind in true - self._true:
            self.situations[kind.lower()] += 1
        self._true = true

    def _pod(self, event: Wrote) -> None:
        body = event.after or event.before or {}
        rank, uid = rank_of(body), body["metadata"]["uid"]
        if rank < 0:
            return
        if event.before is None:
            self._pods.add(uid)
            self._pods_of[rank] += 1
            self.situations["coordinator_moved"] += rank == 0 and self._pods_of[rank] == 2
            self.situations["replaced_twice"] += self._pods_of[rank] == 3
        if event.verb == "delete" and event.actor.startswith(CONTROLLER):
            self.situations["deleted_without_grace" if event.after is None else "deleted_with_grace"] += 1
        if event.after is None:
            self._pods.discard(uid)
            self.situations["trainer_outlives_its_pod"] += uid in self._trains

    def _heard(self, event: AgentHeard) -> None:
        message = event.message
        if isinstance(message, Release):
            told = event.uid, message.attempt, message.ticket
            self.situations["release_resent"] += told in self._told
            self._told.add(told)
        elif isinstance(message, Ping):
            asked = event.uid, message.attempt
            self.situations["second_ping_round"] += self._pinged.get(asked, message.ticket) != message.ticket
            self._pinged[asked] = message.ticket
        elif isinstance(message, Reset):
            self.situations["zombie_reset"] += event.uid not in self._pods

    def _crashed(self) -> None:
        if self._gathers:
            self.situations["crash_while_gathering"] += 1
        elif self._size and self._record.get("released", 0):
            self.situations["crash_between_commit_and_release"] += not self._told
            self.situations["crash_while_half_released"] += 0 < len(self._started) < self._size


def _started(e: TrainerStarted) -> Object:
    return {
        "at": round(e.at, 6), "event": "trainer started", "gang": e.gang, "rank": e.rank, "attempt": e.attempt,
        "uid": e.uid, "node": e.node, "ticket": e.ticket,
    }  # fmt: skip


def _ended(e: TrainerEnded) -> Object:
    return {
        "at": round(e.at, 6), "event": "trainer ended", "gang": e.gang, "rank": e.rank, "attempt": e.attempt,
        "uid": e.uid, "node": e.node, "exit_code": e.exit_code, "why": e.why,
    }  # fmt: skip


def _restarting(e: Restarting) -> Object:
    return {
        "at": round(e.at, 6), "event": "restarting", "gang": e.gang, "rank": e.rank, "uid": e.uid, "node": e.node,
        "by": e.by, "exit_code": e.exit_code,
    }  # fmt: skip


def _wrote(e: Wrote) -> Object:
    body = e.after or e.before or {}
    told = {
        "at": round(e.at, 6), "event": e.verb, "what": f"{e.plural}/{e.subresource}" if e.subresource else e.plural,
        "name": e.name, "actor": e.actor, "version": body["metadata"]["resourceVersion"],
    }  # fmt: skip
    if e.after is None:
        told["gone"] = True
    elif e.plural == "pods":
        before, after = e.before or {}, e.after
        phase = (after.get("status") or {}).get("phase")
        if phase != (before.get("status") or {}).get("phase"):
            told["phase"] = phase
        if (node := after["spec"].get("nodeName")) and (e.actor == "scheduler" or e.before is None):
            told["node"] = node
    elif e.plural == "gangs" and (record := _short(e.after)) != _short(e.before):
        told["attempt"] = record
    return told


def _short(gang: Object | None) -> Object:
    """The record, without moments."""
    record = record_of(gang)
    return {
        "target": record.get("target", 0),
        "released": record.get("released", 0),
        "writer": record.get("writer", ""),
        "cause": (record.get("cause") or {}).get("message", ""),
        "replacing": ranges(each.get("rank", 0) for each in record.get("replacing") or ()),
        "replace_created_before": record.get("replaceCreatedBefore", 0),
    }


def _listed(e: Listed) -> Object:
    return {"at": round(e.at, 6), "event": "listed", "what": e.plural, "actor": e.actor}


def _heard(e: AgentHeard) -> Object:
    message = {"message": type(e.message).__name__, **e.message._asdict()}
    return {"at": round(e.at, 6), "event": "agent heard", "uid": e.uid, "node": e.node, **message}


def _faulted(e: Faulted) -> Object:
    return {
        "at": round(e.at, 6), "event": f"fault {e.phase}", "fault": e.fault, "text": e.text, "ranks": ranges(e.ranks),
        "nodes": e.nodes,
    }  # fmt: skip


def _process(e: ProcessChanged) -> Object:
    return {"at": round(e.at, 6), "event": f"process {e.what}", "process": e.process}


def _calmed(e: Calmed) -> Object:
    return {"at": round(e.at, 6), "event": "calm", "faults": e.faults}


_TELL: dict[type[Event], Callable[[Any], Object]] = {
    TrainerStarted: _started,
    TrainerEnded: _ended,
    Restarting: _restarting,
    Wrote: _wrote,
    Listed: _listed,
    AgentHeard: _heard,
    Faulted: _faulted,
    ProcessChanged: _process,
    Calmed: _calmed,
}
