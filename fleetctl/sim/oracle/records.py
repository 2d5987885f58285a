"""What the JSON of a Gang says, read anew: the oracle shares no code with fleetctl.gang, lest both misread alike.

The wire omits defaults, so whatever is missing, or has not the type it should have, is its default. Never raises.
"""

from dataclasses import dataclass, field
from typing import Any

from fleetctl.sim.journal import Object

IN_PLACE_S, RECREATE_S = 120, 900
CEILING_PERCENT = 20


def table(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[Object]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def whole(value: object, otherwise: int = 0) -> int:
    return value if type(value) is int else otherwise


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def number(value: object, otherwise: int = 0) -> int:
    """A whole number that is written as text, as labels are."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else otherwise


def metadata(item: Object | None) -> Object:
    return table((item or {}).get("metadata"))


def uid(item: Object | None) -> str:
    return text(metadata(item).get("uid"))


def label(item: Object | None, name: str) -> str:
    return text(table(metadata(item).get("labels")).get(f"fleetctl.dev/{name}"))


def owner(pod: Object | None) -> str:
    """Uid of the Gang that owns the pod; empty if none does."""
    for reference in rows(metadata(pod).get("ownerReferences")):
        if reference.get("kind") == "Gang" and text(reference.get("apiVersion")).startswith("fleetctl.dev/"):
            return text(reference.get("uid"))
    return ""


def is_spare(pod: Object | None) -> bool:
    """Whether it only keeps room for a rank."""
    return label(pod, "role") == "spare"


def node_of(pod: Object | None) -> str:
    return text(table((pod or {}).get("spec")).get("nodeName"))


def phase(pod: Object | None) -> str:
    return text(table((pod or {}).get("status")).get("phase"))


def is_ready(spare: Object | None) -> bool:
    """All its containers run."""
    containers = rows(table((spare or {}).get("status")).get("containerStatuses"))
    runs = bool(containers) and all("running" in table(each.get("state")) for each in containers)
    return runs and phase(spare) == "Running" and not is_deleting(spare)


def is_terminal(pod: Object | None) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_deleting(item: Object | None) -> bool:
    return bool(metadata(item).get("deletionTimestamp"))


def conditions(item: Object | None) -> dict[str, Object]:
    """By type."""
    return {text(c.get("type")): c for c in rows(table((item or {}).get("status")).get("conditions"))}


def is_true(condition: Object | None) -> bool:
    return condition is not None and condition.get("status") == "True"


@dataclass(frozen=True, slots=True)
class Record:
    """`status.attempt` of a Gang."""

    target: int = 0
    released: int = 0
    ticket: str = ""
    writer: str = ""
    cause: Object = field(default_factory=dict)
    replacing: tuple[Object, ...] = ()
    created_before: int = 0
    started_at: str = ""
    released_at: str = ""

    @staticmethod
    def of(gang: Object | None) -> "Record":
        raw = table(table((gang or {}).get("status")).get("attempt"))
        return Record(
            target=whole(raw.get("target")),
            released=whole(raw.get("released")),
            ticket=text(raw.get("ticket")),
            writer=text(raw.get("writer")),
            cause=table(raw.get("cause")),
            replacing=tuple(rows(raw.get("replacing"))),
            created_before=whole(raw.get("replaceCreatedBefore")),
            started_at=text(raw.get("startedAt")),
            released_at=text(raw.get("releasedAt")),
        )

    @property
    def identity(self) -> str:
        """The process that wrote it last."""
        return self.writer.rpartition("/")[0]

    @property
    def term(self) -> int:
        """How often the Lease had changed hands when that process took it; -1 if the writer is none."""
        return number(self.writer.rpartition("/")[2], -1)

    @property
    def rank(self) -> int | None:
        """The rank that the cause names."""
        rank = self.cause.get("rank")
        return rank if type(rank) is int else None

    def names(self, pod_uid: str) -> bool:
        """Whether the record allows this pod to be deleted, by uid."""
        return any(row.get("uid") == pod_uid for row in self.replacing)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user asks for: `size` ranks, so many spares, deadlines in seconds, the share of nodes that may be bad in
    percent."""

    size: int = 0
    spares: int = 0
    observes: bool = False
    in_place_s: int = IN_PLACE_S
    recreate_s: int = RECREATE_S
    ceiling_percent: int = CEILING_PERCENT

    @staticmethod
    def of(gang: Object | None) -> "Limits":
        spec = table((gang or {}).get("spec"))
        recovery = table(spec.get("recovery"))
        return Limits(
            size=sum(whole(group.get("size")) for group in rows(spec.get("groups"))),
            spares=sum(whole(group.get("spares")) for group in rows(spec.get("groups"))),
            observes=recovery.get("mode") == "Observe",
            in_place_s=whole(recovery.get("inPlaceDeadlineSeconds"), IN_PLACE_S),
            recreate_s=whole(recovery.get("recreateDeadlineSeconds"), RECREATE_S),
            ceiling_percent=number(text(recovery.get("unhealthyCeiling")).removesuffix("%"), CEILING_PERCENT),
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit` restarts within so many hours, and the hourly buckets of what was spent."""

    limit: int
    within_hours: int
    hours: dict[str, int]

    @staticmethod
    def of(gang: Object | None, kind: str, limit: int) -> "Budget":
        allowed = budget(gang, "spec", kind)
        spent = table(budget(gang, "status", kind).get("hours"))
        return Budget(
            limit=whole(allowed.get("restarts"), limit),
            within_hours=whole(allowed.get("withinHours"), 24),
            hours={hour: count for hour, count in spent.items() if type(count) is int},
        )


def budget(gang: Object | None, part: str, kind: str) -> Object:
    """What the spec allows, or the status says was spent."""
    raw: Any = table((gang or {}).get(part))
    raw = table(raw.get("recovery")) if part == "spec" else raw
    return table(table(raw.get("budgets")).get(kind))
