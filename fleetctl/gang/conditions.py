"""The conditions of a gang's status: how they are set, and since when they hold."""

from datetime import datetime
from typing import Literal

import msgspec

from fleetctl.gang.snapshot import Snapshot
from fleetctl.gang.spec import Condition, GangStatus
from fleetctl.stamps import rfc3339

Change = tuple[str, Literal["True", "False"], str, str]


def with_conditions(status: GangStatus, s: Snapshot, *changes: Change) -> GangStatus:
    """The status with these conditions set. Every step that is not a hold ends a hold."""
    conditions = {c.type: c for c in status.conditions}
    if all(kind != "Held" for kind, *_ in changes) and status.holds("Held"):
        changes = (*changes, ("Held", "False", "Ended", "no longer held"))
    for kind, value, reason, message in changes:
        before = conditions.get(kind)
        if before is None and value == "False" and kind not in ("Accepted", "Running"):
            continue  # absent says the same
        since = before.last_transition_time if before and before.status == value else rfc3339(s.now)
        conditions[kind] = Condition(
            type=kind,
            status=value,
            reason=reason,
            message=message,
            last_transition_time=since,
            observed_generation=s.generation,
        )
    return msgspec.structs.replace(status, observed_generation=s.generation, conditions=list(conditions.values()))


def seconds_since(stamp: str, now: datetime) -> float:
    """Seconds from an RFC 3339 time of ours until now; 0 if there is none."""
    return max(0.0, (now - datetime.fromisoformat(stamp)).total_seconds()) if stamp else 0.0
