"""The figures of a run: how fast the gang recovered, and what it cost. What they mean is told in model.FIGURES.

A journal listener. Knows nothing of what is expected of a figure.
"""

from collections import Counter
from dataclasses import dataclass, field

from fleetctl.rendezvous.messages import Reset
from fleetctl.scenario.facts import (
    CONTROLLER,
    Crew,
    conditions_of,
    holds,
    is_quarantined,
    is_spare,
    is_terminating,
    rank_of,
    record_of,
)
from fleetctl.sim.journal import AgentHeard, Event, Faulted, Object, Restarting, Wrote

Number = float | int | None

HIT_TRAINERS = frozenset(
    (
        "container_exit",
        "out_of_memory",
        "crash_loop",
        "trainer_hangs",
        "pod_evicted",
        "node_killed",
        "node_power_loss",
        "node_rebooted",
        "node_dark",
        "node_frozen",
        "node_flapping",
        "node_deleted",
        "pod_deleted",
    )
)
"""Faults that stop a trainer, or take it away, while the gang runs."""

COUNTED = (
    "pods_created",
    "pods_deleted",
    "pods_recreated",
    "in_place_restarts",
    "bindings",
    "bindings_after_start",
    "spares_taken",
    "nodes_quarantined",
    "controller_writes",
    "status_writes",
)


@dataclass(slots=True)
class Recovery:
    """Of one raise of the target: the fault that had hit a trainer last ("": none since the release before), and what
    was measured of it, by the figure's name."""

    fault: str
    seconds: dict[str, float] = field(default_factory=dict)


class Figures:
    """Feed it every event; `finish` gives all figures by name, `recoveries` has each of them.

    A recovery begins with a raise of the target that is not the start of the gang, nor its resumption. It counts from
    the last fault that had hit a trainer by then; a raise without one (a rank that crashes again) has no detect_s.
    """

    def __init__(self) -> None:
        self.recoveries: list[Recovery] = []
        self._crew = Crew()
        self._counts: Counter[str] = Counter()
        self._worst: dict[str, float] = {}
        self._target = 0
        self._hit: float | None = None
        """When a fault hit a trainer last, unless the gang was released since."""
        self._hit_by = ""
        self._recovers_from: float | None = None
        self._raised: float | None = None
        self._told: set[str] = set()
        """Pods whose agents have heard the reset of this attempt."""
        self._ranks: set[int] = set()
        """Ranks that have had a pod."""
        self._spares: set[str] = set()
        """Names of spares that have had a pod."""
        self._started = False
        """It was released."""
        self._writes = 0
        """Since then, of those that count for a lost rank."""
        self._deleted: set[str] = set()
        self._first_fault: float | None = None
        self._idle_since: float | None = None
        self._idle_s = 0.0
        self._over = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Wrote):
            if event.plural == "leases":
                return
            self._wrote(event)
        elif isinstance(event, AgentHeard):
            self._heard(event)
        elif isinstance(event, Restarting):
            self._counts["in_place_restarts"] += 1
        elif isinstance(event, Faulted) and event.phase == "begins":
            self._faulted(event)
        self._crew(event)
        self._look(event.at)

    def finish(self, at: float) -> dict[str, Number]:
        """All figures, in the order in which they are shown. None: there was nothing to measure."""
        idle_s = self._idle_s + (at - self._idle_since if self._idle_since is not None else 0.0)
        figures: dict[str, Number] = {
            name: self._worst.get(name) for name in ("detect_s", "signal_s", "barrier_s", "recover_s")
        }
        figures |= {name: self._counts[name] for name in COUNTED}
        recreated = self._counts["pods_recreated"]
        return figures | {
            "writes_per_lost_rank": round(self._writes / recreated, 2) if recreated else None,
            "attempts": self._target,
            "wasted_rank_s": round(idle_s * self._crew.size, 3),
            "virtual_s": round(at, 3),
        }

    def _faulted(self, event: Faulted) -> None:
        if self._first_fault is None:
            self._first_fault = event.at
        if event.fault in HIT_TRAINERS:
            self._hit, self._hit_by = event.at, event.fault

    def _heard(self, event: AgentHeard) -> None:
        if (
            self._raised is not None
            and isinstance(event.message, Reset)
            and event.message.attempt == self._target
            and event.uid not in self._told
        ):
            self._told.add(event.uid)
            self._measure("signal_s", event.at - self._raised)

    def _wrote(self, event: Wrote) -> None:
        ours = event.actor.startswith(CONTROLLER)
        self._counts["controller_writes"] += ours
        self._writes += ours and self._started and self._counts_for_a_rank(event)
        if event.plural == "pods":
            self._pod(event, ours)
        elif event.plural == "nodes":
            self._counts["nodes_quarantined"] += is_quarantined(event.after) and not is_quarantined(event.before)
        elif event.plural == "gangs":
            self._counts["status_writes"] += ours and event.subresource == "status"
            if event.before is None:
                self._target, self._raised, self._ranks, self._over = 0, None, set(), False
                self._started = False
            self._gang(event.at, event.after)

    def _counts_for_a_rank(self, event: Wrote) -> bool:
        """Whether it is one request, and may be for the sake of a rank that was lost."""
        before, after = event.before, event.after
        if event.plural != "pods":
            return event.plural != "events"
        if before is None and after is not None and is_spare(after) and event.name not in self._spares:
            self._spares.add(event.name)
            return False
        # a deletion at once is told twice: as it is asked for, and as the object goes
        return after is not None or before is None or not is_terminating(before)

    def _pod(self, event: Wrote, ours: bool) -> None:
        before, after = event.before, event.after
        pod = after or before or {}
        rank = rank_of(pod)
        if rank < 0:
            return
        if before is None:
            self._counts["pods_created"] += ours
            self._counts["pods_recreated"] += ours and rank in self._ranks
            self._counts["spares_taken"] += ours and bool(pod["spec"].get("nodeName"))
            self._ranks.add(rank)
            return
        if (after is None or is_terminating(after)) and pod["metadata"]["uid"] not in self._deleted:
            self._deleted.add(pod["metadata"]["uid"])
            self._counts["pods_deleted"] += 1
        if (
            event.actor == "scheduler"
            and after
            and after["spec"].get("nodeName")
            and not before["spec"].get("nodeName")
        ):
            self._counts["bindings"] += 1
            self._counts["bindings_after_start"] += self._started

    def _gang(self, at: float, gang: Object | None) -> None:
        record, conditions = record_of(gang), conditions_of(gang)
        self._over = gang is None or any(holds(conditions, kind) for kind in ("Completed", "Failed", "Suspended"))
        target, released = record.get("target", 0), record.get("released", 0)
        if gang is None:
            return
        self._started = self._started or released > 0
        if target != self._target:
            raised, self._target, self._raised = target > self._target, target, None
            if raised and (record.get("cause") or {}).get("scope") not in ("Start", "Resume"):
                self._began(at)
        elif released == target and self._raised is not None:
            self._measure("barrier_s", at - self._raised)
            self._raised = self._hit = None

    def _began(self, at: float) -> None:
        """A recovery, or another try of the one that is under way."""
        self._told, self._raised = set(), at
        self.recoveries.append(Recovery(self._hit_by if self._hit is not None else ""))
        if self._hit is not None:
            self._measure("detect_s", at - self._hit)
        if self._recovers_from is None:
            self._recovers_from = self._hit
        self._hit = None

    def _look(self, at: float) -> None:
        """Whether the gang runs now, after this event."""
        runs = bool(self._crew.complete)
        if self._recovers_from is not None and self._crew.complete == self._target:
            self._measure("recover_s", at - self._recovers_from)
            self._recovers_from = None
        idle = self._first_fault is not None and not (runs or self._over)
        if idle and self._idle_since is None:
            self._idle_since = at
        elif not idle and self._idle_since is not None:
            self._idle_s += at - self._idle_since
            self._idle_since = None

    def _measure(self, name: str, seconds: float) -> None:
        self._worst[name] = max(self._worst.get(name, 0.0), round(seconds, 3))
        self.recoveries[-1].seconds[name] = round(seconds, 3)


def number_text(value: Number) -> str:
    """As people read it: `1,024`, `4.7`; `-` if there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}".rstrip("0")
