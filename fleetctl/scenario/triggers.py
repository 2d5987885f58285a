"""When a fault begins: at a time, or when something happens in the world for the n-th time.

A journal listener. It counts; what to do about it is simulate.py's.
"""

from collections import Counter
from collections.abc import Callable

from fleetctl.gang.pods import LABEL_RANK
from fleetctl.scenario.model import Step, When
from fleetctl.sim.journal import Calmed, Event, Faulted, Object, Restarting, TrainerEnded, TrainerStarted, Wrote

Happening = tuple[str, int | str]


class Triggers:
    """Calls `begin(step)` at the event that a step waits for, once each."""

    def __init__(self, steps: tuple[Step, ...], begin: Callable[[Step], None]) -> None:
        self._begin = begin
        self._waiting: dict[Happening, list[tuple[Step, When]]] = {}
        self._seen: Counter[Happening] = Counter()
        for step in steps:
            if step.when:
                self._waiting.setdefault((step.when.kind, step.when.value), []).append((step, step.when))

    def waits_for_calm(self) -> bool:
        """Whether a step does."""
        return any(kind == "calm" for kind, _ in self._waiting)

    def missed(self) -> list[Step]:
        """The steps whose time has not come."""
        return [step for steps in self._waiting.values() for step, _ in steps]

    def __call__(self, event: Event) -> None:
        if not self._waiting:
            return
        for what in _happenings(event):
            if what not in self._waiting:
                continue
            self._seen[what] += 1
            due = [step for step, when in self._waiting[what] if when.occurrence <= self._seen[what]]
            left = [(step, when) for step, when in self._waiting[what] if when.occurrence > self._seen[what]]
            if left:
                self._waiting[what] = left
            else:
                del self._waiting[what]
            for step in due:
                self._begin(step)


def _happenings(event: Event) -> list[Happening]:
    match event:
        case TrainerStarted(rank=rank):
            return [("trainer_started", rank)]
        case TrainerEnded(rank=rank):
            return [("trainer_ended", rank)]
        case Calmed(faults=faults):
            return [("calm", faults)]
        case Restarting(rank=rank):
            return [("restarting", rank)]
        case Faulted(phase="begins", fault=fault):
            return [("fault", fault)]
        case Wrote(plural="pods"):
            return _of_pod(event)
        case Wrote(plural="gangs", after=dict() as after):
            return _of_gang(event.before or {}, after)
    return []


def _of_pod(event: Wrote) -> list[Happening]:
    pod = event.after or event.before or {}
    rank = (pod["metadata"].get("labels") or {}).get(LABEL_RANK, "")
    if not rank.isdecimal():
        return []
    if event.before is None:
        return [("pod_created", int(rank))]
    asked = event.after is None or event.after["metadata"].get("deletionTimestamp")
    return [("pod_deleted", int(rank))] if asked and not event.before["metadata"].get("deletionTimestamp") else []


def _of_gang(before: Object, after: Object) -> list[Happening]:
    old, new = before.get("status") or {}, after.get("status") or {}
    if old is new:
        return []
    found: list[Happening] = []
    for field in ("target", "released"):
        was, now = ((s.get("attempt") or {}).get(field, 0) for s in (old, new))
        if now != was:
            found.append((field, now))
    return found + [("condition", kind) for kind in _true(new) if kind not in _true(old)]


def _true(status: Object) -> list[str]:
    return [c["type"] for c in status.get("conditions") or () if c["status"] == "True"]
