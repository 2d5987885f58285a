"""Verdicts from the pod itself: it is gone or on its way out, it has ended for good, or it does not come back.

Who took it away is told where Kubernetes says so; where it does not, the scope is Unknown. Why a container does not
start is a question of the place: the image's or the machine's fault? If ranks on many machines show the same, it is the
workload: no new pod helps, and obstacle.py tells. If one machine does, and the group's ranks come up on others, it is
that machine; unless the pod was moved already, for then it is hardly the next one too.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fleetctl.gang.diagnose.case import Case, Rule, Whole
from fleetctl.gang.diagnose.node_state import is_suspect
from fleetctl.gang.diagnose.strikes import is_lemon
from fleetctl.gang.state import Member, Node, Pod, Seconds, Verdict

DISRUPTIONS = {
    "EvictionByEvictionAPI": "was evicted (a drain?)",
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "DeletionByTaintManager": "was evicted by a NoExecute taint of its node",
    "DeletionByPodGC": "was removed because its node is gone",
    "TerminationByKubelet": "was terminated by its node",
}
"""Reasons of the condition DisruptionTarget, in words."""

REJECTED = (
    "Evicted",
    "InvalidNodeInfo",
    "NodeAffinity",
    "NodeName",
    "NodePorts",
    "NodeShutdown",
    "OutOf",
    "PodFeatureUnsupported",
    "Preempting",
    "TaintToleration",
    "Terminated",
    "TopologyAffinityError",
    "UnexpectedAdmissionError",
    "VolumeAttachmentLimitExceeded",
)
"""How reasons begin with which a node ends or refuses a pod: the next one had better go elsewhere."""

FAILS_TO_START = frozenset(
    {
        "ContainerCannotRun",
        "ContainerStatusUnknown",
        "CreateContainerError",
        "ImagePullBackOff",
        "RunContainerError",
        "StartError",
    }
)
"""Reasons why a container does not run that may be the image's fault or the machine's."""
ALIASES = {"ErrImagePull": "ImagePullBackOff"}  # the kubelet alternates between the two
CREATING = "ContainerCreating"
"""Volumes, network, a large image: takes as long as it takes."""
RACE_S = 60.0
"""A spare has the images and comes up in seconds: a new pod that takes so long is given up for one."""
SCHEDULED_S = 10.0
"""So long the scheduler has to find room for pods, once machines are well again."""
MANY = 3
"""The same on so many nodes is nobody's machine."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """Where a reason is shown: ranks, their nodes."""

    ranks: set[int] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)

    @property
    def everywhere(self) -> bool:
        return len(self.ranks) >= MANY and len(self.nodes) >= MANY


def rejected_by_node(case: Case) -> Verdict | None:
    """The node itself ended the pod, or would not have it."""
    pod = case.member.pod
    if pod is None or pod.phase != "Failed" or not pod.reason.startswith(REJECTED):
        return None
    because = f"node {pod.node} ended the pod: {pod.reason}" + (f" ({pod.message})" if pod.message else "")
    return _recreate(case, "Node", "rejected-by-node", because[:300], node=pod.node)


def pod_gone(case: Case) -> Verdict | None:
    """The pod of a rank that was released is not there any more."""
    if case.member.pod is not None or case.gang.gathering:  # then it is made anyway
        return None
    return _recreate(case, "Unknown", "pod-gone", f"the pod of {case.who}, {case.member.pod_name}, is gone")


def is_leaving(case: Case) -> bool:
    """Whether somebody deletes the pod, and its trainer has ended: until then it may use its grace, to save a
    checkpoint."""
    member, pod = case.member, case.member.pod
    if pod is None or not pod.deleting:
        return False
    agent_gone = member.life is not None and (member.life.leaving or not member.life.connected)
    trainer_ended = any(c.name == member.trainer and not c.running for c in pod.containers)
    return agent_gone or trainer_ended or pod.terminal


def pod_leaving(case: Case) -> Verdict | None:
    """Somebody took the pod away."""
    pod = case.member.pod
    if pod is None or not is_leaving(case):
        return None
    scope: Literal["Node", "Unknown"] = "Node" if pod.disruption else "Unknown"
    what = DISRUPTIONS.get(pod.disruption, "is being deleted")
    return _recreate(case, scope, "pod-leaving", f"the pod of {case.who}, {pod.name}, {what}")


def succeeded_too_early(case: Case) -> Verdict | None:
    """The rank exited 0 in an attempt that the others did not finish; it is needed again."""
    if not (case.gang.gathering and case.member.succeeded):
        return None
    because = f"{case.who} exited 0 in an attempt that was not finished"
    return _recreate(case, "Unknown", "succeeded-too-early", because)


def why_stuck(pod: Pod) -> str:
    """Why a container of the pod does not start, "" if that is not known, or no reason to worry."""
    containers = (*([pod.preparing] if pod.preparing else ()), *pod.containers)
    shown = [reason for c in containers for reason in (c.waiting_reason, c.ended.reason if c.ended else "") if reason]
    fails = (r for reason in shown if (r := ALIASES.get(reason, reason)) in FAILS_TO_START)
    return next(fails, CREATING if CREATING in shown else "")


def stuck(whole: Whole) -> Mapping[str, Stuck]:
    """Where containers do not start, by the reason."""
    found: defaultdict[str, Stuck] = defaultdict(Stuck)
    for member in whole.members:
        pod = member.pod
        if pod is None or not pod.node or pod.deleting or pod.terminal or not (reason := why_stuck(pod)):
            continue
        if reason == CREATING and whole.waited.get(member.rank, 0.0) < _limit(whole, pod):
            continue
        found[reason].ranks.add(member.rank)
        found[reason].nodes.add(pod.node)
    return found


def overdue(case: Case) -> Verdict | None:
    """The pod did not come to the barrier in time."""
    pod = case.member.pod
    if not case.gang.gathering or pod is None or pod.terminal or pod.deleting or not pod.node:
        return None
    limit, soon = _limit(case.whole, pod), case.gang.in_place_deadline_s
    if case.missing_s < min(limit, soon):
        return None
    reason = why_stuck(pod)
    where = case.whole.once(stuck).get(reason, Stuck())
    if where.everywhere and reason != CREATING:
        return None
    here_only = where.nodes == {pod.node} and not pod.avoids and _others_come_up(case.whole, case.member)
    if here_only and reason != CREATING:
        limit = min(limit, soon)
    if case.missing_s < limit:
        return None
    fresh = _is_fresh(case.whole, pod)
    what = "the new pod of {} did not come up" if fresh else "{} did not come back in place"
    because = f"{what.format(case.who)} on node {pod.node} within {limit:.0f} s" + (f" ({reason})" if reason else "")
    if here_only:
        because += ", while others of its group came up elsewhere"
        return replace(_recreate(case, "Node", "stuck-on-node", because, node=pod.node), strikes=pod.node)
    return _recreate(case, "Unknown", "recreate-deadline" if fresh else "in-place-deadline", because, node=pod.node)


def slower_than_a_spare(case: Case) -> Verdict | None:
    """A new pod takes its time, perhaps because its node pulls the image, and a spare is ready."""
    member, pod = case.member, case.member.pod
    if not case.gang.gathering or pod is None or pod.terminal or pod.deleting or not _is_fresh(case.whole, pod):
        return None
    if member.at_barrier or member.group not in case.gang.spared or case.missing_s < RACE_S:
        return None
    where = f" on node {pod.node}" if pod.node else ""
    because = f"the new pod of {case.who} did not come up{where} within {RACE_S:.0f} s, and a spare is ready"
    return _recreate(case, "Unknown", "slower-than-a-spare", because)


def lost_track_of(case: Case) -> Verdict | None:
    """Released, and neither trainer nor agent can be seen to run: nobody would ever tell."""
    if case.gang.gathering or not case.member.lost_track_of or case.missing_s < case.gang.in_place_deadline_s:
        return None
    because = f"the trainer of {case.who} does not run, and nothing is heard from its agent"
    return _recreate(case, "Unknown", "lost-track", f"{because} for {case.gang.in_place_deadline_s:.0f} s")


def is_well(node: Node, now: Seconds) -> bool:
    """Whether there is no reason, any more, to keep pods off a node."""
    return not (is_suspect(node) or is_lemon(node, now))


def kept_away(case: Case) -> Verdict | None:
    """The pod finds no room, and must not go to a node that has become well again: it would be Held for ever."""
    member, pod = case.member, case.member.pod
    if not case.gang.gathering or pod is None or pod.deleting or not pod.unschedulable:
        return None
    well = [node.name for node in member.avoided if case.gang.well_s.get(node.name, 0.0) >= SCHEDULED_S]
    if not well or case.missing_s < case.gang.in_place_deadline_s:
        return None
    names = ", ".join(well[:8]) + (", …" if len(well) > 8 else "")
    because = f"no node has room for the pod of {case.who}, which may not go to {names}, well again by now"
    return _recreate(case, "Unknown", "kept-away", because)


def ended_for_good(case: Case) -> Verdict | None:
    """A Failed pod, and nobody says why."""
    pod = case.member.pod
    if pod is None or pod.phase != "Failed":
        return None
    init = pod.preparing
    why = f"init container {init.name} exited {init.ended.exit_code}" if init and init.ended else pod.reason
    return _recreate(case, "Container", "pod-failed", f"the pod of {case.who} has failed{f': {why}' if why else ''}")


RULES: tuple[Rule, ...] = (
    rejected_by_node,
    pod_gone,
    pod_leaving,
    succeeded_too_early,
    slower_than_a_spare,
    overdue,
    lost_track_of,
    kept_away,
)


def _is_fresh(whole: Whole, pod: Pod) -> bool:
    """Whether the pod is a new one, made for the attempt that the gang gathers for."""
    return pod.attempt > whole.gang.released.attempt


def _limit(whole: Whole, pod: Pod) -> Seconds:
    """How long the pod may take to come up."""
    return whole.gang.recreate_deadline_s if _is_fresh(whole, pod) else whole.gang.in_place_deadline_s


def _others_come_up(whole: Whole, member: Member) -> bool:
    """Whether the same containers start on another node."""
    here = member.pod.node if member.pod else ""
    return any(m.at_barrier and m.group == member.group and m.pod and m.pod.node != here for m in whole.members)


def _recreate(
    case: Case, scope: Literal["Container", "Node", "Unknown"], rule: str, because: str, node: str = ""
) -> Verdict:
    return Verdict(scope=scope, rule=rule, rank=case.member.rank, because=because, rung="RecreatePod", node=node)
