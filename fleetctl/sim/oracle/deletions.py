"""S4, S6, S13, S17: which pods a controller deletes, and whether it may; and what it puts in their place by itself.

S17: a rank's pod is created on a node that the controller chose only where it has put a spare of that gang out, whose
object is gone and whose room it has given to no other rank.

Not judged by S4: pods that are bound to no node; that terminate already, or carry DisruptionTarget; that the record
gives up as created for an earlier attempt (suspend); of a gang that is being deleted; on a node that was ever unwell;
of a rank that a fault of the family people named; whose device was reported to need more than a restart, or called
unhealthy; while the record's cause is a lemon, a pod that starts on all nodes but one, or a rule of the user's
(causes.py asks for the evidence). If the limits were edited since the last raise, the loosest count. While a spare is
ready, or was a moment ago, a new pod has the shorter deadline of a race, to which its wait for a node counts for a
moment only. None of these is about spares: they do nothing.
"""

import re

from fleetctl.sim.journal import Faulted
from fleetctl.sim.oracle import records
from fleetctl.sim.oracle.facts import Facts, Gang, PodWrite
from fleetctl.sim.oracle.findings import Findings

BEYOND_A_RESTART = frozenset(
    {46, 48, 54, 62, 64, 74, 78, 79, 95, 109, 110, 119, 120, 136, 140, 143, *range(144, 152), 154, 155, 156, 158, 167}
)
"""XIDs for which NVIDIA's catalogue asks for more than another start of the application."""
RACE_S, MOMENT_S = 60, 10.0
XID = re.compile(r"\bxid-(\d+)\b")


class Deletions:
    def __init__(self, facts: Facts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._meddled_with: set[int] = set()
        """Ranks whose pods people laid hands on."""
        self._bad_device: set[str] = set()
        """Uids of pods, and names of the machines that they are on."""

    def faulted(self, event: Faulted) -> None:
        if event.family == "people":
            self._meddled_with.update(event.ranks)
        reported = XID.search(event.text) if event.fault == "hardware_report" else None
        if event.fault == "device_unhealthy" or (reported and int(reported[1]) in BEYOND_A_RESTART):
            here = (gang.latest.get(rank) for gang in self._facts.gangs.values() for rank in event.ranks)
            self._bad_device.update(name for pod in here if pod for name in (pod.uid, pod.node) if name)

    def written(self, write: PodWrite) -> None:
        if write.is_spare:
            return
        if write.event.verb == "create" and write.gang is not None:
            self._has_room(write.gang, write)
        if write.event.verb != "delete" or write.gang is None:  # nobody's pod: S12
            return
        gang = write.gang
        self._was_named(gang, write)
        if not records.is_terminal(write.body):
            self._is_overdue(gang, write)
            self._is_below_ceiling(gang, write)

    def _has_room(self, gang: Gang, write: PodWrite) -> None:
        """S17."""
        node = records.node_of(write.event.after)
        if not node:
            return
        self._findings.looked("S17")
        if gang.room[node] <= 0:
            self._findings.broken(
                "S17",
                write.event.at,
                f"{gang}: {write.event.actor} created pod {write.name} on {node}, where no spare was put out for it",
            )

    def _is_earlier(self, gang: Gang, write: PodWrite) -> bool:
        return records.number(records.label(write.body, "attempt")) < gang.record.created_before

    def _was_named(self, gang: Gang, write: PodWrite) -> None:
        """S6: by uid, or by creation attempt, or a terminating orphan."""
        self._findings.looked("S6")
        orphan = (gang.deleting or gang.gone_at is not None) and records.is_deleting(write.body)
        if orphan or gang.record.names(write.uid) or self._is_earlier(gang, write):
            return
        self._findings.broken(
            "S6",
            write.event.at,
            f"{gang}: {write.event.actor} deleted pod {write.name} (uid {write.uid}), which the record does not name "
            f"(target {gang.record.target}, released {gang.record.released})",
        )

    def _is_overdue(self, gang: Gang, write: PodWrite) -> None:
        """S4."""
        pod = self._facts.pods.get(write.uid)
        if pod is None or not pod.node or pod.node in self._facts.unwell or pod.rank in self._meddled_with:
            return
        rule = records.text(gang.record.cause.get("rule"))
        if (
            {write.uid, pod.node} & self._bad_device
            or rule in ("lemon", "stuck-on-node")
            or rule.startswith("user-rule-")
        ):
            return
        disrupted = records.is_true(records.conditions(write.body).get("DisruptionTarget"))
        if disrupted or records.is_deleting(write.body) or gang.deleting or gang.gone_at is not None:
            return
        if self._is_earlier(gang, write):
            return
        self._findings.looked("S4")
        is_new = records.number(records.label(write.body, "attempt")) > gang.record.released
        limit_s = gang.loosest.recreate_s if is_new else gang.loosest.in_place_s
        waited_s = write.event.at - max(gang.raised_at, pod.created_at)
        if is_new and gang.had_a_spare(write.event.at - MOMENT_S) and waited_s < limit_s:
            limit_s, waited_s = RACE_S, min(waited_s, write.event.at - pod.bound_at + MOMENT_S)
        if waited_s < limit_s:
            self._findings.broken(
                "S4",
                write.event.at,
                f"{gang}: {write.event.actor} deleted pod {write.name} on {pod.node}, where nothing is wrong, after "
                f"{waited_s:.1f} s of the {limit_s} s it has",
            )

    def _is_below_ceiling(self, gang: Gang, write: PodWrite) -> None:
        """S13. The share is of the most nodes the gang was on since the last raise, those judged bad included."""
        accused = any(row.get("uid") == write.uid and row.get("bad") is True for row in gang.record.replacing)
        if not accused:
            return
        self._findings.looked("S13")
        bad = {records.text(row.get("node")) for row in gang.record.replacing if row.get("bad") is True}
        nodes = max(gang.most_nodes, len(bad.union(gang.nodes)))
        allowed = max(1, nodes * gang.loosest.ceiling_percent // 100)
        if len(bad) > allowed:
            self._findings.broken(
                "S13",
                write.event.at,
                f"{gang}: {write.event.actor} deleted pod {write.name} for its node while {len(bad)} of {nodes} nodes "
                f"are judged bad; {allowed} may be",
            )
