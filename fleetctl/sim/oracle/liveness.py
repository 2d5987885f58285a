"""L1 to L4, once the run is over: did it end as it should, in time, and did it come to rest?

L4 counts, for each gang, the controllers' writes to its status and their creates and deletes of its pods:
    at most 4 for each pod that was replaced + 20 for each fault, or raise of the target if there were more of them,
    + what a start costs (its pods and spares + 10)
and is not judged if a fault of the families api or stale made writes fail or views old: they must be repeated.
"""

from collections import Counter
from typing import Literal

from fleetctl.sim.journal import Wrote
from fleetctl.sim.oracle import records
from fleetctl.sim.oracle.facts import Facts, Gang, GangWrite, PodWrite
from fleetctl.sim.oracle.findings import Findings

End = Literal["running", "completed", "failed", "held", "suspended", "gone"]
PER_POD, PER_FAULT, PER_START = 4, 20, 10


class Liveness:
    def __init__(self, facts: Facts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._last_write: Wrote | None = None
        self._writes: Counter[str] = Counter()
        self._replaced: Counter[str] = Counter()
        self._raises: Counter[str] = Counter()

    def wrote(self, event: Wrote) -> None:
        """A controller wrote anything but a Lease."""
        self._last_write = event

    def recorded(self, write: GangWrite) -> None:
        uid = write.gang.uid
        self._writes[uid] += 1
        self._raises[uid] += write.raises

    def pod_written(self, write: PodWrite) -> None:
        if write.gang is None:
            return
        self._writes[write.gang.uid] += 1
        rank = records.number(records.label(write.body, "rank"), -1)
        if write.event.verb == "create" and rank in write.gang.latest:
            self._replaced[write.gang.uid] += 1

    def finish(self, at: float, end: str, bound_s: float, quiet_s: float) -> None:
        """Judge the end at that moment. Seconds."""
        gangs = [gang for gang in self._facts.gangs.values() if gang.gone_at is None]
        self._ended_in_time(gangs, at, end, bound_s)
        self._is_at_rest(at, quiet_s)
        for gang in gangs:
            self._is_explained(gang, at)
        for gang in self._facts.gangs.values():
            self._was_thrifty(gang, at)

    def _ended_in_time(self, gangs: list[Gang], at: float, end: str, bound_s: float) -> None:
        """L1."""
        self._findings.looked("L1")
        latest = self._facts.last_fault_at + bound_s
        if end == "gone":
            since = [gang.gone_at for gang in self._facts.gangs.values()]
        else:
            since = [_since(gang, end) for gang in gangs]
        if not since:
            self._findings.broken("L1", at, f"there is no gang that could be {end}")
        for gang, when in zip(self._facts.gangs.values() if end == "gone" else gangs, since, strict=True):
            if when is None:
                self._findings.broken("L1", at, f"{gang} is not {end} at the end: {_how_it_is(gang)}")
            elif when > latest:
                self._findings.broken(
                    "L1",
                    at,
                    f"{gang} is {end} only since {when:.1f} s, {when - self._facts.last_fault_at:.1f} s after the last "
                    f"fault began or ended; {bound_s:.0f} s are allowed",
                )

    def _is_at_rest(self, at: float, quiet_s: float) -> None:
        """L2."""
        if quiet_s <= 0:
            return
        self._findings.looked("L2")
        last = self._last_write
        if last is not None and last.at > at - quiet_s:
            self._findings.broken(
                "L2",
                at,
                f"{last.actor} still wrote {last.plural} {last.name} {at - last.at:.1f} s before the end; the last "
                f"{quiet_s:.0f} s should be quiet",
            )

    def _is_explained(self, gang: Gang, at: float) -> None:
        """L3."""
        if gang.complete_since is not None:
            return
        self._findings.looked("L3")
        told = [gang.conditions[kind] for kind in _ENDS.values() if kind in gang.true_since]
        if not any(condition.get("reason") and condition.get("message") for condition in told):
            self._findings.broken(
                "L3", at, f"{gang} neither runs nor says why not: no condition with a reason and a message is True"
            )

    def _was_thrifty(self, gang: Gang, at: float) -> None:
        """L4."""
        if self._facts.families.intersection(("api", "stale")):
            return
        self._findings.looked("L4")
        uid, size = gang.uid, gang.limits.size
        incidents = max(self._facts.faults, self._raises[uid])
        start = size + gang.limits.spares + PER_START
        allowed = PER_POD * self._replaced[uid] + PER_FAULT * incidents + start
        if self._writes[uid] > allowed:
            self._findings.broken(
                "L4",
                at,
                f"{gang}: {self._writes[uid]} writes for {self._replaced[uid]} replaced pods, {self._facts.faults} "
                f"faults and {self._raises[uid]} attempts of {size} ranks; {allowed} are allowed",
            )


_ENDS = {"failed": "Failed", "completed": "Completed", "suspended": "Suspended", "held": "Held"}


def _since(gang: Gang, end: str) -> float | None:
    """Since when the gang is as it should be at the end; None if it is not."""
    return gang.complete_since if end == "running" else gang.true_since.get(_ENDS.get(end, ""))


def _how_it_is(gang: Gang) -> str:
    record = gang.record
    running = len(gang.at_work.get((gang.era, record.released), ()))
    true = ", ".join(sorted(gang.true_since)) or "none"
    return (
        f"{running} of {gang.limits.size} ranks run attempt {record.released}, the target is {record.target}; "
        f"conditions that are True: {true}"
    )
