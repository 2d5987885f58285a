"""What the events of a journal say about the gang of a scenario: readers of raw objects, and who really trains.

Shared by those who measure, tell and judge a run; whether a fact is good or bad is theirs to say. A scenario has one
gang at a time: one that is created again begins anew here.
"""

from collections.abc import Mapping

from fleetctl.gang.pods import LABEL_RANK, LABEL_ROLE
from fleetctl.gang.quarantine import QUARANTINE
from fleetctl.sim.journal import Event, Faulted, Object, TrainerEnded, TrainerStarted, Wrote

CONTROLLER = "controller/"

STAND_STILL = frozenset(("node_dark", "node_frozen", "trainer_hangs"))
"""Faults under which a trainer may run and yet take no part: the others wait for it."""


def rank_of(pod: Object) -> int:
    """-1 if it is not a gang's."""
    rank = (pod["metadata"].get("labels") or {}).get(LABEL_RANK, "")
    return int(rank) if rank.isdecimal() else -1


def is_spare(pod: Object) -> bool:
    return (pod["metadata"].get("labels") or {}).get(LABEL_ROLE) == "spare"


def is_ready(spare: Object) -> bool:
    """All its containers run."""
    status = spare.get("status") or {}
    containers = status.get("containerStatuses") or ()
    runs = bool(containers) and all("running" in (each.get("state") or {}) for each in containers)
    return runs and status.get("phase") == "Running" and not is_terminating(spare)


def is_quarantined(node: Object | None) -> bool:
    return QUARANTINE in (((node or {}).get("metadata") or {}).get("labels") or {})


def is_terminating(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def size_of(gang: Object) -> int:
    """Number of ranks."""
    return sum(group["size"] for group in gang["spec"]["groups"])


def record_of(gang: Object | None) -> Object:
    """`status.attempt`; defaults are not written, so every field may be missing."""
    return ((gang or {}).get("status") or {}).get("attempt") or {}


def recoveries_of(gang: Object | None) -> list[Object]:
    """The causes of its recoveries, the first one first; of the one that is under way, too."""
    status = (gang or {}).get("status") or {}
    record = record_of(gang)
    causes = [each["cause"] for each in reversed(status.get("history") or ())]
    if record.get("target", 0) > record.get("released", 0) and "cause" in record:
        causes.append(record["cause"])
    return [cause for cause in causes if cause["scope"] not in ("Start", "Resume")]


def conditions_of(gang: Object | None) -> dict[str, Object]:
    """By type."""
    return {c["type"]: c for c in ((gang or {}).get("status") or {}).get("conditions") or ()}


def holds(conditions: Mapping[str, Object], kind: str) -> bool:
    """Whether the condition of that type is True."""
    return kind in conditions and conditions[kind]["status"] == "True"


class Crew:
    """Which trainers run, and in which attempt all of them do. Feed it every event."""

    def __init__(self) -> None:
        self.size = 0
        self.complete = 0
        """The attempt that every rank runs now, or has finished with exit code 0, while none stands still; 0: none."""
        self._ranks: dict[int, dict[int, tuple[str, str]]] = {}
        """By attempt: rank → uid of its pod, and node."""
        self._still: set[int | str] = set()
        """Ranks, and names of nodes, that stand still."""

    def __call__(self, event: Event) -> None:
        match event:
            case TrainerStarted() | TrainerEnded() if event.rank < 0:
                return  # of somebody else's pod
            case TrainerStarted():
                self._ranks.setdefault(event.attempt, {})[event.rank] = (event.uid, event.node)
            case TrainerEnded():
                ranks = self._ranks.get(event.attempt, {})
                if ranks.get(event.rank, ("",))[0] != event.uid or (event.why == "itself" and event.exit_code == 0):
                    return
                del ranks[event.rank]
                self._still.discard(event.rank)  # what has ended does not hang
                if not ranks:
                    del self._ranks[event.attempt]
            case Faulted() if event.fault in STAND_STILL:
                change = self._still.update if event.phase == "begins" else self._still.difference_update
                change((*event.ranks, *event.nodes))
            case Wrote(plural="gangs", before=None, after=dict() as gang):
                self.size = size_of(gang)
                self._ranks = {}
            case _:
                return
        self.complete = self._complete()

    def newest(self) -> tuple[int, int]:
        """The newest attempt that has any trainer, and how many of its ranks run; (0, 0) if there is none."""
        attempt = max(self._ranks, default=0)
        return attempt, len(self._ranks.get(attempt, ()))

    def _complete(self) -> int:
        for attempt, ranks in self._ranks.items():
            if len(ranks) == self.size and not (
                self._still and any(rank in self._still or node in self._still for rank, (_, node) in ranks.items())
            ):
                return attempt
        return 0
