"""S14, S16: nobody is stopped, and no attempt begun, without a cause that exists.

What ground truth must show for the rank that a raise names, since the raise before it:
    container-exit, fatal-signal, out-of-memory: its trainer ended by itself with another code than 0, or all its
        containers were restarted and nobody had asked for it; or its pod was Failed
    exit-not-observed: all its containers were restarted, unasked or after the last release
    pod-failed, rejected-by-node: its pod was Failed
    pod-gone: it has no pod; pod-leaving: it has none, or one that terminates
    node-…, domain-silent: its node was ever unwell (facts.py)
    hardware-report, device-unhealthy: a fault did just that to the pod it has, or had last
    hang, no-first-step: a trainer hangs or hung, or a node was ever unwell that the gang is on
    lemon: its trainer ended or somebody hung, and that node has seen two failures
    user-rule-…: any of what the rule may be about: its containers, its pod, its devices
    start: there was no target; resumed: the gang was suspended
People's hands on the pod since then, or a node that was ever unwell, excuse all of these. A Reset or a Ping must be for
an attempt that has been the target.
A rule that is not listed here is a violation until somebody lists it. Not judged: which exit code the cause's message
tells; why pods are named later, at the same target.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from math import inf

from fleetctl.rendezvous.messages import Ping, Reset
from fleetctl.sim.journal import AgentHeard, Faulted, Restarting, TrainerEnded
from fleetctl.sim.oracle import records
from fleetctl.sim.oracle.facts import Facts, GangWrite
from fleetctl.sim.oracle.findings import Findings

ASKED_TO = 88
"""The code with which an agent exits that was told to reset."""
HARMLESS = frozenset({"api", "stale", "process"})
LASTING = frozenset({"device_unhealthy", "trainer_hangs"})
LEMON = 2
"""So many failures make one."""

Seen = defaultdict[tuple[str, int], float]
"""By (gang's uid, rank), when it was last seen."""


def _never() -> float:
    return -inf


class Causes:
    def __init__(self, facts: Facts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._failed: Seen = defaultdict(_never)
        self._restarted: Seen = defaultdict(_never)
        self._restarted_unasked: Seen = defaultdict(_never)
        self._at_fault: defaultdict[int, float] = defaultdict(_never)
        """By rank, when a fault named it last."""
        self._meddled: defaultdict[int, float] = defaultdict(_never)
        """By rank, when people laid hands on its pod last."""
        self._hit_at: defaultdict[tuple[str, int], float] = defaultdict(_never)
        """By (fault, rank), when that fault named it last; inf while it lasts."""
        self._ended_on: Counter[str] = Counter()
        self._restarted_on: Counter[str] = Counter()
        self._hit_on: Counter[str] = Counter()
        """By node, how often a trainer ended there by itself, all containers of a pod restarted unasked, a trainer hung
        or a device was called unhealthy."""
        self._released_at: dict[str, float] = {}
        self._wiped = False

    def trainer_ended(self, event: TrainerEnded) -> None:
        pod = self._facts.pods.get(event.uid)
        if pod is None:
            return
        if event.why == "itself" and event.exit_code != 0:
            self._failed[pod.gang.uid, pod.rank] = event.at
            self._ended_on[event.node] += 1
        elif event.why in ("restart", "pod"):
            self._findings.looked("S14")
            if HARMLESS.issuperset(self._facts.families):
                self._findings.broken(
                    "S14",
                    event.at,
                    f"{pod.gang}: the trainer of rank {pod.rank} was stopped ({event.why}) although no trainer, pod or "
                    "node was ever at fault",
                )

    def restarting(self, event: Restarting) -> None:
        pod = self._facts.pods.get(event.uid)
        if pod is None:
            return
        who = pod.gang.uid, pod.rank
        self._restarted[who] = event.at
        # an agent may also exit with that code because a fault makes it
        if event.exit_code != ASKED_TO or self._at_fault[pod.rank] >= pod.gang.raised_at:
            self._restarted_unasked[who] = event.at
            self._restarted_on[event.node] += 1

    def faulted(self, event: Faulted) -> None:
        named = dict.fromkeys(event.ranks, event.at)
        self._at_fault.update(named)
        if event.family == "people":
            self._meddled.update(named)
        self._wiped |= event.fault == "status_wiped"
        for rank in event.ranks:
            lasts = event.fault in LASTING and event.phase == "begins"
            self._hit_at[event.fault, rank] = inf if lasts else event.at
            if lasts:
                gangs = self._facts.gangs.values()
                self._hit_on.update({gang.latest[rank].node for gang in gangs if rank in gang.latest})

    # S16

    def recorded(self, write: GangWrite) -> None:
        if write.releases:
            self._released_at[write.gang.uid] = write.event.at
        rule = records.text(write.after.cause.get("rule"))
        rule = "user-rule" if rule.startswith("user-rule-") else rule
        if not write.raises:
            return
        self._findings.looked("S16")
        if rule not in _EVIDENCE:
            self._findings.broken(
                "S16", write.event.at, f"{write.gang}: nobody has told the oracle what evidence there is for {rule!r}"
            )
        elif not self._is_excused(write) and not _EVIDENCE[rule](self, write):
            told = records.text(write.after.cause.get("message")) or "no message"
            self._findings.broken(
                "S16",
                write.event.at,
                f"{write.gang}: attempt {write.after.target} began for a cause that does not exist ({rule}: {told})",
            )

    def heard(self, event: AgentHeard) -> None:
        message, pod = event.message, self._facts.pods.get(event.uid)
        if pod is None or not isinstance(message, Reset | Ping):
            return
        self._findings.looked("S16")
        if message.attempt > pod.gang.highest_target:
            self._findings.broken(
                "S16",
                event.at,
                f"{pod.gang}: the agent of rank {pod.rank} heard a {type(message).__name__} for attempt "
                f"{message.attempt}, but the target is {pod.gang.record.target}",
            )

    def _is_excused(self, write: GangWrite) -> bool:
        rank = write.after.rank
        if rank is None:
            return False
        pod = write.gang.latest.get(rank)
        return self._meddled[rank] >= write.gang.raised_at or (pod is not None and pod.node in self._facts.unwell)

    def _was_seen(self, what: Seen, write: GangWrite, since: float) -> bool:
        rank = write.after.rank
        return rank is not None and what[write.gang.uid, rank] >= since

    def _container_ended(self, write: GangWrite) -> bool:
        since = write.gang.raised_at
        ended = self._was_seen(self._failed, write, since) or self._was_seen(self._restarted_unasked, write, since)
        return ended or self._pod_failed(write)

    def _all_restarted(self, write: GangWrite) -> bool:
        since_release = self._released_at.get(write.gang.uid, write.gang.raised_at)
        asked = self._was_seen(self._restarted, write, since_release)
        return asked or self._was_seen(self._restarted_unasked, write, write.gang.raised_at)

    def _pod_failed(self, write: GangWrite) -> bool:
        pod = write.gang.latest.get(-1 if write.after.rank is None else write.after.rank)
        return pod is not None and pod.failed

    def _pod_is_gone(self, write: GangWrite) -> bool:
        return write.after.rank is not None and write.after.rank not in write.gang.pods

    def _pod_leaves(self, write: GangWrite) -> bool:
        pod = write.gang.pods.get(-1 if write.after.rank is None else write.after.rank)
        return self._pod_is_gone(write) or (pod is not None and pod.deleting)

    def _only_if_excused(self, write: GangWrite) -> bool:
        return False  # by people who meddled with the rank, or a node that is unwell

    def _was_hit(self, fault: str, write: GangWrite) -> bool:
        """Whether that was done to the pod which the rank has, or had last."""
        rank = write.after.rank
        pod = None if rank is None else write.gang.latest.get(rank)
        return rank is not None and pod is not None and self._hit_at[fault, rank] >= pod.created_at

    def _reported(self, write: GangWrite) -> bool:
        return self._was_hit("hardware_report", write)

    def _is_unhealthy(self, write: GangWrite) -> bool:
        return self._was_hit("device_unhealthy", write)

    def _stands_still(self, write: GangWrite) -> bool:
        hung = any(self._hit_at["trainer_hangs", rank] >= write.gang.raised_at for rank in write.gang.latest)
        return hung or not self._facts.unwell.isdisjoint(pod.node for pod in write.gang.latest.values())

    def _failed_often(self, write: GangWrite) -> bool:
        pod = write.gang.latest.get(-1 if write.after.rank is None else write.after.rank)
        if pod is None or not (self._container_ended(write) or self._stands_still(write)):
            return False
        return max(self._ended_on[pod.node], self._restarted_on[pod.node]) + self._hit_on[pod.node] >= LEMON

    def _fits_a_rule(self, write: GangWrite) -> bool:
        of_pod = self._container_ended(write) or self._pod_leaves(write)
        return of_pod or self._reported(write) or self._is_unhealthy(write)

    def _starts(self, write: GangWrite) -> bool:
        return write.before.target == 0

    def _record_was_lost(self, write: GangWrite) -> bool:
        return self._wiped

    def _resumes(self, write: GangWrite) -> bool:
        return write.before.created_before > write.before.target


_EVIDENCE: Mapping[str, Callable[[Causes, GangWrite], bool]] = {
    "container-exit": Causes._container_ended,
    "fatal-signal": Causes._container_ended,
    "out-of-memory": Causes._container_ended,
    "exit-not-observed": Causes._all_restarted,
    "pod-failed": Causes._pod_failed,
    "rejected-by-node": Causes._pod_failed,
    "pod-gone": Causes._pod_is_gone,
    "pod-leaving": Causes._pod_leaves,
    "node-dead": Causes._only_if_excused,
    "node-deleted": Causes._only_if_excused,
    "node-leaving": Causes._only_if_excused,
    "node-out-of-service": Causes._only_if_excused,
    "node-condition": Causes._only_if_excused,
    "hardware-report": Causes._reported,
    "device-unhealthy": Causes._is_unhealthy,
    "hang": Causes._stands_still,
    "no-first-step": Causes._stands_still,
    "lemon": Causes._failed_often,
    "user-rule": Causes._fits_a_rule,
    "start": Causes._starts,
    "resumed": Causes._resumes,
    "record-lost": Causes._record_was_lost,
    "lost-track": Causes._all_restarted,
    "left-behind": Causes._only_if_excused,
    "slower-than-a-spare": Causes._only_if_excused,
    "domain-silent": Causes._only_if_excused,
}
