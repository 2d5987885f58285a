"""S7, S9, S11, S12: who writes what, when, and how fast.

A process is known by its identity: the journal's actor is `controller/<identity>`, the record's writer
`<identity>/<term>`.

S7 judges each gang's creates and deletes apart: at most 100 in any 0.9 s. A controller plans 50 within any second and
carries out one plan after the other, so two batches may arrive together where the API server is slow, three may not.
Not judged by S9: a gang that has never had a target, and pods of one that is being deleted (orphans are cleared by
whoever leads, without a record).
"""

from collections import defaultdict, deque

from fleetctl.sim.journal import Listed, ProcessChanged, Wrote
from fleetctl.sim.oracle import records
from fleetctl.sim.oracle.facts import CONTROLLER, Gang, GangWrite, PodWrite
from fleetctl.sim.oracle.findings import Findings

AT_MOST, WITHIN_S = 100, 0.9
MUST_BE_LISTED = frozenset({"gangs", "pods", "nodes"})


class Authority:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._listed: defaultdict[str, set[str]] = defaultdict(set)
        self._pace: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        """By (gang's uid, verb), when the latest ones were."""

    # S11

    def process_changed(self, event: ProcessChanged) -> None:
        if event.what == "starts":  # what a crashed one had asked for may still be done
            self._listed.pop(_identity(event.process), None)

    def listed(self, event: Listed) -> None:
        if event.actor.startswith(CONTROLLER):
            self._listed[_identity(event.actor)].add(event.plural)

    def _is_synced(self, event: Wrote) -> None:
        self._findings.looked("S11")
        missing = MUST_BE_LISTED - self._listed[_identity(event.actor)]
        if missing:
            self._findings.broken(
                "S11",
                event.at,
                f"{event.actor} wrote {event.plural} {event.name} before it had listed {', '.join(sorted(missing))}",
            )

    # Gangs

    def gang_written(self, event: Wrote, write: GangWrite | None) -> None:
        """`write` is None if a controller made or removed the Gang."""
        self._is_synced(event)
        self._writes_status_only(event)
        if write is not None:
            self._leads(write)

    def _writes_status_only(self, event: Wrote) -> None:
        """S12, gangs."""
        self._findings.looked("S12")
        before, after = event.before, event.after
        wrong = ""
        if before is None or after is None:
            wrong = "made or removed the object"
        elif event.subresource != "status":
            wrong = "wrote more than the status"
        elif records.uid(before) != records.uid(after):
            wrong = "wrote the status of another uid"
        elif before.get("spec") != after.get("spec"):
            wrong = "changed the spec"
        if wrong:
            self._findings.broken("S12", event.at, f"gang {event.name}: {event.actor} {wrong}")

    def _leads(self, write: GangWrite) -> None:
        """S9, gangs."""
        before, after, event = write.before, write.after, write.event
        self._findings.looked("S9")
        if after.term < before.term:
            self._findings.broken(
                "S9", event.at, f"{write.gang}: the writer went back from {before.writer} to {after.writer or 'none'}"
            )
        elif before.target > 0 and after.identity != _identity(event.actor):
            self._findings.broken(
                "S9", event.at, f"{write.gang}: {event.actor} wrote the status, whose writer is {after.writer}"
            )

    # Pods

    def pod_written(self, write: PodWrite) -> None:
        self._is_synced(write.event)
        self._is_ours(write)
        if write.gang is not None:
            self._is_writer(write.gang, write)
            self._keeps_pace(write.gang, write)

    def _is_ours(self, write: PodWrite) -> None:
        """S12, pods."""
        event, gang = write.event, write.gang
        self._findings.looked("S12")
        wrong = ""
        if gang is None:
            wrong = "which no Gang owns"
        elif gang.key != (event.namespace, records.label(write.body, "gang")) and event.verb == "create":
            wrong = f"with the labels of another gang than its owner {gang}"
        if wrong:
            self._findings.broken("S12", event.at, f"{event.actor}: {event.verb} of pod {event.name}, {wrong}")

    def _is_writer(self, gang: Gang, write: PodWrite) -> None:
        """S9, pods."""
        if gang.record.target == 0 or gang.deleting or gang.gone_at is not None:
            return
        self._findings.looked("S9")
        actor = write.event.actor
        if gang.record.identity != _identity(actor):
            self._findings.broken(
                "S9",
                write.event.at,
                f"{gang}: {actor} did {write.event.verb} pod {write.name} while the record's writer was "
                f"{gang.record.writer}",
            )

    def _keeps_pace(self, gang: Gang, write: PodWrite) -> None:
        """S7."""
        verb, now = write.event.verb, write.event.at
        self._findings.looked("S7")
        latest = self._pace[gang.uid, verb]
        latest.append(now)
        while latest[0] <= now - WITHIN_S:
            latest.popleft()
        if len(latest) > AT_MOST:
            self._findings.broken(
                "S7", now, f"{gang}: {len(latest)} pods were changed by {verb} within {WITHIN_S} s; {AT_MOST} may be"
            )


def _identity(name: str) -> str:
    return name.removeprefix(CONTROLLER)
