"""Verdicts from the pod itself: it is gone or on its way out, it has ended for good, or it does not come back.

Who took it away is told where Kubernetes says so; where it does not, the scope is Unknown.
"""

from typing import Literal

from fleetctl.gang.diagnose.case import Case, Rule
from fleetctl.gang.diagnose.node_state import is_suspect
from fleetctl.gang.state import Verdict

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


def pod_leaving(case: Case) -> Verdict | None:
    """Somebody deletes the pod, and its trainer has ended: until then it may use its grace, to save a checkpoint."""
    member, pod = case.member, case.member.pod
    if pod is None or not pod.deleting:
        return None
    agent_gone = member.life is not None and (member.life.leaving or not member.life.connected)
    trainer_ended = any(c.name == member.trainer and not c.running for c in pod.containers)
    if not (agent_gone or trainer_ended or pod.terminal):
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


def overdue(case: Case) -> Verdict | None:
    """The pod did not come to the barrier in time."""
    pod = case.member.pod
    if not case.gang.gathering or pod is None or pod.terminal or pod.deleting or not pod.node:
        return None
    fresh = pod.attempt > case.gang.released.attempt
    limit = case.gang.recreate_deadline_s if fresh else case.gang.in_place_deadline_s
    if case.missing_s < limit:
        return None
    what = "the new pod of {} did not come up" if fresh else "{} did not come back in place"
    because = f"{what.format(case.who)} on node {pod.node} within {limit:.0f} s"
    return _recreate(case, "Unknown", "recreate-deadline" if fresh else "in-place-deadline", because, node=pod.node)


def lost_track_of(case: Case) -> Verdict | None:
    """Released, and neither trainer nor agent can be seen to run: nobody would ever tell."""
    if case.gang.gathering or not case.member.lost_track_of or case.missing_s < case.gang.in_place_deadline_s:
        return None
    because = f"the trainer of {case.who} does not run, and nothing is heard from its agent"
    return _recreate(case, "Unknown", "lost-track", f"{because} for {case.gang.in_place_deadline_s:.0f} s")


def kept_away(case: Case) -> Verdict | None:
    """The pod finds no room, and must not go to a node that has become well again: it would be Held for ever."""
    member, pod = case.member, case.member.pod
    if not case.gang.gathering or pod is None or pod.deleting or not pod.unschedulable:
        return None
    well = [node.name for node in member.avoided if not is_suspect(node)]
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
    overdue,
    lost_track_of,
    kept_away,
)


def _recreate(
    case: Case, scope: Literal["Container", "Node", "Unknown"], rule: str, because: str, node: str = ""
) -> Verdict:
    return Verdict(scope=scope, rule=rule, rank=case.member.rank, because=because, rung="RecreatePod", node=node)
