"""Whether a run ended, and went, as its scenario says: `expect`, all but the invariants.

A journal listener. Judges by what the kubelets ran and the API server committed. What it finds unmet it says in one
sentence each: what was expected, and what was seen.
"""

from collections.abc import Mapping
from typing import assert_never

from fleetctl.gang.state import ranges
from fleetctl.scenario.facts import (
    CONTROLLER,
    Crew,
    conditions_of,
    holds,
    is_quarantined,
    is_ready,
    is_spare,
    rank_of,
    record_of,
    recoveries_of,
)
from fleetctl.scenario.figures import Number, number_text
from fleetctl.scenario.model import Bound, Condition, End, Scenario, Sometime, WantedCause
from fleetctl.sim.journal import Event, Faulted, Object, Wrote

ENDS: dict[str, Condition] = {"completed": "Completed", "failed": "Failed", "held": "Held", "suspended": "Suspended"}


class Expectations:
    """Feed it every event. Times are seconds of the journal."""

    def __init__(self, scenario: Scenario) -> None:
        self._expect = scenario.expect
        self._crew = Crew()
        self._gang: Object | None = None
        self._conditions: dict[str, Object] = {}
        self._pods: set[str] = set()
        """Uids of the gang's pods that exist."""
        self._pods_of: dict[int, int] = {}
        """How many pods a rank has had."""
        self._quarantined: set[str] = set()
        self._ready: set[str] = set()
        """Uids of spares."""
        self._last_fault = 0.0
        self._last_write = 0.0
        """By anybody of fleetctl."""
        self._since: float | None = None
        """Since when the end holds."""
        self._never: dict[Condition, tuple[float, str]] = {}
        self._sometime: set[Sometime] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Wrote):
            if not self._wrote(event):
                return
        elif isinstance(event, Faulted):
            self._last_fault = event.at
        self._crew(event)
        if not self._ended():
            self._since = None
        elif self._since is None:
            self._since = event.at

    def reached(self, at: float) -> bool:
        """Whether the end that is expected holds at this moment."""
        return self._since is not None and self._since <= at

    def judge(self, at: float, figures: Mapping[str, Number]) -> list[str]:
        """What was expected and did not come true, if the run is over at this moment."""
        expect = self._expect
        unmet = [*self._end_unmet(), *self._quiet_unmet(at)]
        for kind, (when, message) in self._never.items():
            unmet.append(f"expected never {kind}; seen at {when:.1f} s: {message}")
        for wanted in expect.sometime:
            if wanted not in self._sometime:
                told = f' with "{wanted.message}" in its message' if wanted.message else ""
                unmet.append(f"expected {wanted.condition} sometime{told}; it never was{self._now(wanted.condition)}")
        unmet += self._causes_unmet()
        unmet += self._pods_unmet()
        unmet += self._nodes_unmet()
        for name, bound in expect.figures.items():
            value = figures[name]
            if value is None:
                unmet.append(f"expected {name} {bound_text(bound)}; there was nothing to measure")
            elif not bound.holds(value):
                unmet.append(f"expected {name} {bound_text(bound)}; it was {number_text(value)}")
        return unmet

    # What happens

    def _wrote(self, event: Wrote) -> bool:
        """Whether it may have begun or ended the end."""
        if event.plural == "leases":
            return False
        if event.actor.startswith(CONTROLLER):
            self._last_write = event.at
        if event.plural == "pods":
            self._pod(event)
            return event.after is None
        if event.plural == "nodes":
            change = self._quarantined.add if is_quarantined(event.after) else self._quarantined.discard
            change(event.name)
        if event.plural != "gangs":
            return False
        self._gang = event.after
        self._conditions = conditions_of(event.after)
        self._look_at_conditions(event.at)
        return True

    def _pod(self, event: Wrote) -> None:
        pod = event.after or event.before or {}
        if is_spare(pod):
            change = self._ready.add if event.after is not None and is_ready(event.after) else self._ready.discard
            change(pod["metadata"]["uid"])
        if (rank := rank_of(pod)) < 0:
            return
        if event.after is None:
            self._pods.discard(pod["metadata"]["uid"])
        elif event.before is None:
            self._pods.add(pod["metadata"]["uid"])
            self._pods_of[rank] = self._pods_of.get(rank, 0) + event.actor.startswith(CONTROLLER)

    def _look_at_conditions(self, at: float) -> None:
        for kind in self._expect.never:
            if kind not in self._never and holds(self._conditions, kind):
                self._never[kind] = (at, self._conditions[kind].get("message", ""))
        for wanted in self._expect.sometime:
            if self._says(wanted.condition, wanted.message):
                self._sometime.add(wanted)

    def _says(self, kind: Condition, message: str) -> bool:
        return holds(self._conditions, kind) and message in self._conditions[kind].get("message", "")

    def _ended(self) -> bool:
        end = self._expect.end
        match end.kind:
            case "running":
                record, runs = record_of(self._gang), self._crew.complete
                released = runs > 0 and runs == record.get("released", 0) == record.get("target", 0)
                return released and runs == (end.attempt or runs)
            case "completed" | "failed" | "held" | "suspended":
                return self._says(ENDS[end.kind], end.message)
            case "gone":
                return self._gang is None and not self._pods
            case _:
                assert_never(end.kind)

    # What is said of it

    def _end_unmet(self) -> list[str]:
        end, last = self._expect.end, self._last_fault
        after = f"within {end.within:g} s of the last fault ({last:.1f} s)" if last else f"within {end.within:g} s"
        if self._since is None:
            return [f"expected {_end_text(end)} {after}; at the end {self._seen()}"]
        if self._since - last > end.within:
            return [f"expected {_end_text(end)} {after}; it took {self._since - last:.1f} s"]
        return []

    def _quiet_unmet(self, at: float) -> list[str]:
        quiet_s = self._expect.quiet_s
        if not quiet_s or self._since is None or at - self._last_write >= quiet_s:
            return []
        return [
            f"expected {quiet_s:g} s of quiet at the end ({at:.1f} s); the last write was at {self._last_write:.1f} s"
        ]

    def _causes_unmet(self) -> list[str]:
        """Those that are not there, or not after those before them."""
        causes = recoveries_of(self._gang)
        left, unmet = iter(causes), []
        for wanted in self._expect.causes:
            if not any(_is(wanted, cause) for cause in left):
                told = ", ".join(f"{c['rule']} (rank {c.get('rank')}, {c['scope']})" for c in causes) or "none"
                unmet.append(f"expected a recovery with cause {_cause_text(wanted)}; the causes were: {told}")
        return unmet

    def _pods_unmet(self) -> list[str]:
        expect = self._expect
        unmet = []
        if not_same := [rank for rank in expect.same_pods if self._pods_of.get(rank, 0) != 1]:
            unmet.append(
                f"expected the same pods all along for rank {ranges(expect.same_pods)}; "
                f"seen otherwise for rank {ranges(not_same)}"
            )
        if expect.new_pods is not None:
            wanted, seen = set(expect.new_pods), {rank for rank, count in self._pods_of.items() if count > 1}
            if wanted != seen:
                unmet.append(f"expected new pods for {_ranks(wanted)} exactly; seen for {_ranks(seen)}")
        return unmet

    def _nodes_unmet(self) -> list[str]:
        unmet, expect = [], self._expect
        if expect.quarantined is not None:
            wanted = {f"node-{number}" for number in expect.quarantined}
            if wanted != self._quarantined:
                told = [", ".join(sorted(names)) or "none" for names in (wanted, self._quarantined)]
                unmet.append(f"expected in quarantine at the end: {told[0]}; it was: {told[1]}")
        if expect.spares_ready not in (None, len(self._ready)):
            unmet.append(f"expected {expect.spares_ready} spares ready at the end; it was {len(self._ready)}")
        return unmet

    def _seen(self) -> str:
        """The gang, as it is."""
        if self._gang is None:
            return f"there was no gang, and {len(self._pods):,} of its pods" if self._pods else "there was no gang"
        record = record_of(self._gang)
        attempt, runs = self._crew.newest()
        told = [
            f"target was {record.get('target', 0)}, released {record.get('released', 0)}",
            f"{runs:,} of {self._crew.size:,} trainers ran attempt {attempt}" if runs else "no trainer ran",
        ]
        told += [
            f"{kind}: {condition.get('message', '')}"
            for kind, condition in self._conditions.items()
            if kind in ("Held", "Failed", "Completed", "Suspended") and condition["status"] == "True"
        ]
        if "Accepted" in self._conditions and not holds(self._conditions, "Accepted"):
            told.append(f"not accepted: {self._conditions['Accepted'].get('message', '')}")
        return ", ".join(told)

    def _now(self, kind: Condition) -> str:
        """What that condition says at the end, if it is True."""
        return f" (at the end: {self._conditions[kind].get('message', '')})" if holds(self._conditions, kind) else ""


def bound_text(bound: Bound) -> str:
    """`8`, `at most 2`, `at least 1, at most 3`."""
    if bound.min is not None and bound.min == bound.max:
        return number_text(bound.min)
    if bound.min is None:
        return f"at most {number_text(bound.max)}"
    return f"at least {number_text(bound.min)}" + (
        f", at most {number_text(bound.max)}" if bound.max is not None else ""
    )


def _is(wanted: WantedCause, cause: Object) -> bool:
    return (
        cause["rule"] == wanted.rule
        and wanted.scope in (None, cause["scope"])
        and wanted.rank in (None, cause.get("rank"))
    )


def _cause_text(wanted: WantedCause) -> str:
    of = "" if wanted.rank is None else f" of rank {wanted.rank}"
    return f"{wanted.rule}{of}" + (f" ({wanted.scope})" if wanted.scope else "")


def _end_text(end: End) -> str:
    if end.kind == "running":
        return f"the gang to run attempt {end.attempt}" if end.attempt else "the gang to run"
    told = f' ("{end.message}")' if end.message else ""
    return f"the gang to be {end.kind}{told}"


def _ranks(ranks: set[int]) -> str:
    return f"rank {ranges(ranks)}" if ranks else "none"
