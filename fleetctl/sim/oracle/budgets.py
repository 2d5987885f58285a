"""S8: every restart is paid for, nothing spent is forgotten inside its window, no budget is exceeded.

A raise of the target for a Container costs one of the application budget, for a Node or an Unknown cause one of the
node budget; Start and Resume cost nothing. Naming further pods at the same target may cost one more. What the window is
follows from the bucket that grew: it is the hour of the controller's own clock, whatever befell that clock.
"""

from datetime import datetime, timedelta

from fleetctl.sim.journal import Object
from fleetctl.sim.oracle import records
from fleetctl.sim.oracle.facts import GangWrite
from fleetctl.sim.oracle.findings import Findings
from fleetctl.sim.oracle.records import Budget

LIMITS = {"application": 10, "node": 100}
WITHOUT_PROGRESS = 3
PROGRESS_S = 600.0
PAID_BY = {"Container": "application", "Node": "node", "Unknown": "node"}
FREE = ("Start", "Resume")


class Budgets:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def recorded(self, write: GangWrite) -> None:
        before, after = write.event.before, write.event.after
        if not write.raises and _spent(before) == _spent(after):
            return
        self._findings.looked("S8")
        grew = {kind: self._growth(write, kind, limit) for kind, limit in LIMITS.items()}
        if write.raises:
            self._is_paid(write, grew)
        elif sum(grew.values()) > (1 if self._names_more(write) else 0):
            self._broken(write, f"{sum(grew.values())} restarts were charged although none began")
        if grew["application"]:
            self._makes_progress(write)

    def _growth(self, write: GangWrite, kind: str, limit: int) -> int:
        """By how much this spend grew; what it must not do is told."""
        before, after = (Budget.of(body, kind, limit) for body in (write.event.before, write.event.after))
        grown = {hour for hour, count in after.hours.items() if count > before.hours.get(hour, 0)}
        oldest = _earlier(max(grown), after.within_hours) if grown else ""
        for hour, count in before.hours.items():
            forgotten = hour not in after.hours and hour < oldest
            if after.hours.get(hour, 0) < count and not forgotten:
                self._broken(write, f"{count} {kind} restarts of {hour} became {after.hours.get(hour, 0)}")
        spent = sum(count for hour, count in after.hours.items() if hour >= oldest)
        if grown and spent > after.limit:
            self._broken(write, f"{spent} {kind} restarts within {after.within_hours} hours; {after.limit} are allowed")
        return sum(after.hours[hour] - before.hours.get(hour, 0) for hour in grown)

    def _is_paid(self, write: GangWrite, grew: dict[str, int]) -> None:
        scope = write.after.cause.get("scope")
        if scope not in PAID_BY and scope not in FREE:
            return
        due = {kind: int(PAID_BY.get(str(scope)) == kind) for kind in LIMITS}
        if grew != due:
            charged = ", ".join(f"{count} {kind}" for kind, count in grew.items() if count) or "nothing"
            self._broken(write, f"attempt {write.after.target}, for a cause of scope {scope}, was charged {charged}")

    def _names_more(self, write: GangWrite) -> bool:
        return any(not write.before.names(records.text(row.get("uid"))) for row in write.after.replacing)

    def _makes_progress(self, write: GangWrite) -> None:
        """Restarts in a row without progress are counted, and start anew only after an attempt that got further than
        all before it, or, where steps are not told, ran long enough by the record's own stamps."""
        before, after = write.event.before, write.event.after
        was = records.whole(records.budget(before, "status", "application").get("sinceProgress"))
        now = records.whole(records.budget(after, "status", "application").get("sinceProgress"))
        limit = records.whole(records.budget(after, "spec", "application").get("withoutProgress"), WITHOUT_PROGRESS)
        ran_s = _between(write.before.released_at, write.after.started_at) if write.raises else 0.0
        had, has = (
            records.whole(records.table((body or {}).get("status")).get("furthestStep")) for body in (before, after)
        )
        progressed = write.raises and (has > had if has else ran_s >= PROGRESS_S)
        if now > limit:
            self._broken(write, f"{now} restarts in a row without progress; {limit} are allowed")
        elif now != was + 1 and not (now == 1 and progressed):
            self._broken(
                write, f"restarts in a row went from {was} to {now} after an attempt that ran for {ran_s:.0f} s"
            )

    def _broken(self, write: GangWrite, what: str) -> None:
        self._findings.broken("S8", write.event.at, f"{write.gang}: {what}")


def _spent(gang: Object | None) -> Object:
    return records.table(records.table((gang or {}).get("status")).get("budgets"))


def _earlier(hour: str, hours: int) -> str:
    """The bucket so many hours before; the first of all if that is no hour."""
    try:
        return (datetime.fromisoformat(f"{hour}:00") - timedelta(hours=hours)).strftime("%Y-%m-%dT%H")
    except (ValueError, OverflowError):
        return ""


def _between(start: str, end: str) -> float:
    """Seconds; 0 if either is no time."""
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
