"""What is left of a run: its outcome, and its trace.

The trace has one line for each event of the journal, JSON, and holds nothing that differs between two runs of the same
seed: no bodies (certificates are random), no wall clock. Its hash says whether two runs were the same run.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from fleetctl.gang.state import ranges
from fleetctl.scenario.facts import record_of
from fleetctl.scenario.faults import Backend
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
    failed, so that nothing can be said of the gang; empty if it did not. `virtual_s`: how long the run was, on kind in
    real seconds. `trace_hash`: of simulated runs only."""

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
    backend: Backend = "sim"
    recoveries: list[Recovery] = field(default_factory=list)


def not_run(scenario: str, seed: int, why: str, backend: Backend = "sim") -> Outcome:
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
        if (node := after["spec"].get("nodeName")) and e.actor == "scheduler":
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
