"""Verdicts about machines: dead, about to go, or called bad by those who watch them.

**Dead** needs proof, because its pods are then deleted without anybody's confirmation: every agent on it is silent, and
its kubelet's Lease stood still for long enough while other nodes' Leases moved (or the Node object is gone, or an
operator vouches for it). **Leaving** is what still works and will not for long: its pods are told to go, and waited
for. So are those of a machine with a **condition** that it cannot train with. Anything less is suspect, which is no
verdict: Ready=Unknown is what a cut network looks like too, and a stopped kubelet under trainers that train.

A failure domain that is silent explains why ranks elsewhere end, which cannot reach it: then it is named, and no
machine is accused, neither theirs nor its own.

Knows nothing of how a Lease is observed (controller/witness.py). What this fleet's own watchers call their taints and
conditions, the user tells in a rule (user_rules.py).
"""

from collections.abc import Iterable, Sequence

from fleetctl.gang import domains
from fleetctl.gang.diagnose.case import Case, Rule, Whole
from fleetctl.gang.state import Member, Node, Seconds, Verdict, ranges

DEAD_AFTER_S = 20.0
"""A kubelet renews its Lease every 10 s."""
SEVERAL_HOLD_S = 20.0
"""So much longer if several nodes fell silent together: that smells of a network, which may heal."""
CORRELATED_HOLD_S = 120.0
"""So long if they are of one failure domain: a switch reboots in 90 s."""

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
DOMAIN_SILENT = "domain-silent"
LEAVING_TAINTS = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/spot-itn",
        "cloud.google.com/impending-node-termination",
        "cloud.google.com/maintenance-window-started",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",  # before its version 1
        "medik8s.io/remediation",
        "node.cloudprovider.kubernetes.io/shutdown",
        "nvidia.com/gpu-error",  # NVSentinel, as its documentation names them; its rule sets may differ
        "nvidia.com/gpu-nvlink-error",
        "nvidia.com/gpu-xid-error",
        "nvidia.com/syslog-xid-error",
        "remediator.aks.microsoft.com/unschedulable",
        "remediator.kubernetes.azure.com/unschedulable",
        "sagemaker.amazonaws.com/node-health-status",
    }
)
GOING_TAINTS = LEAVING_TAINTS | {OUT_OF_SERVICE}

BAD_CONDITIONS = frozenset(
    {
        # node-problem-detector
        "CperHardwareErrorFatal",
        "KernelDeadlock",
        "ReadonlyFilesystem",
        "XfsShutdown",
        # the same in AKS
        "FilesystemCorruptionProblem",
        "GPUMissing",
        # OKE
        "GpuUnhealthy",
        # NVSentinel, which sets them for what is fatal only
        "GpuDriverWatch",
        "GpuInforomWatch",
        "GpuMcuWatch",
        "GpuMemWatch",
        "GpuNvlinkWatch",
        "GpuPcieWatch",
        "GpuPmuWatch",
        "GpuSmWatch",
        "NVSwitchDown",
        "NVSwitchFatalError",
        "SysLogsGPUFallenOff",
        "SysLogsSXIDError",
        "SysLogsXIDError",
    }
)
"""Types of conditions that are bad when True, and mean that the machine cannot train. Not: heat and power (clocks are
throttled, steps get slower), XIDs of any kind (the program's too), what ails only the kubelet or the watcher."""


def proof_needed_s(silent_nodes: int) -> Seconds:
    """For how long a silent node's Lease must have stood still, with so many nodes silent now."""
    return DEAD_AFTER_S + (SEVERAL_HOLD_S if silent_nodes > 1 else 0.0)


def silent_nodes(whole: Whole) -> frozenset[str]:
    """Names of the gang's nodes of which nothing is heard."""
    return frozenset({m.node.name for m in whole.members if m.node and m.node.silent})


def silent_domain(members: Iterable[Member]) -> str:
    """The failure domain that is silent, if it is one."""
    nodes = {m.node.name: m.node for m in members if m.node}.values()
    silent = {n.name for n in nodes if n.silent and n.exists and OUT_OF_SERVICE not in n.taints}
    return domains.common(nodes, silent) if len(silent) > 1 else ""


def cut_off(members: Iterable[Member], domain: str, failures: Sequence[Verdict]) -> Verdict | None:
    """The silence of that domain, from which these failures of other ranks may follow; so it is no later than they. Who
    restarts slowly is silent too, and said goodbye."""
    there = [m for m in members if m.node and m.node.silent and domain in m.node.domains]
    silent = [m.rank for m in there if not (m.life and m.life.leaving)]
    failed = {verdict.rank for verdict in failures}
    if not (others := [rank for rank in silent if rank not in failed]):
        return None
    return Verdict(
        scope="Unknown",
        rule=DOMAIN_SILENT,
        rank=others[0],
        because=f"{domain} fell silent (rank {ranges(silent)}): its network, or its power",
        since=min((verdict.since for verdict in failures if verdict.since), default=0.0),
    )


def proof(whole: Whole) -> tuple[Seconds, str]:
    """The same for this gang, and the failure domain that is silent, if it is one; or was a moment ago, when the first
    of its nodes are back."""
    domain = whole.gang.silent_domain
    if domain and any(m.node.silent and domain in m.node.domains for m in whole.members if m.node):
        return CORRELATED_HOLD_S, domain
    return proof_needed_s(len(whole.once(silent_nodes))), ""


def is_suspect(node: Node) -> bool:
    """Whether a new pod had better go elsewhere."""
    bad = _leaving(node) or _bad_condition(node)
    return node.silent or not node.exists or node.ready != "True" or node.quarantined or bool(bad)


def why_dead(node: Node, proof_s: Seconds, domain: str = "") -> tuple[str, str] | None:
    """The rule and the sentence that prove the node dead, None if nothing does. `domain`: others of it are silent too,
    for the sentence."""
    if not node.silent:
        return None
    if not node.exists:
        return "node-deleted", f"the Node object of {node.name} is gone, and nothing is heard from its agents"
    if OUT_OF_SERVICE in node.taints:
        return "node-out-of-service", f"node {node.name} is tainted {OUT_OF_SERVICE}, and its agents are silent"
    if node.still_s >= proof_s:
        seen = f"its agents are silent and its Lease did not move for {proof_s:.0f} s, while others' did"
        with_others = f"; others of {domain} are silent too" if domain else ""
        return "node-dead", f"node {node.name} is dead: {seen}{with_others}"
    return None


def node_dead(case: Case) -> Verdict | None:
    """The machine under the pod is gone."""
    pod, node = case.member.pod, case.member.node
    if pod is None or node is None or (pod.terminal and not pod.deleting):
        return None
    found = why_dead(node, *case.whole.once(proof))
    return _verdict(case, node, *found, dead=True) if found else None


def node_condition(case: Case) -> Verdict | None:
    """Who watches the machine says that it cannot train."""
    pod, node = case.member.pod, case.member.node
    if pod is None or node is None or pod.terminal or not (kind := _bad_condition(node)):
        return None
    return _verdict(case, node, "node-condition", f"node {node.name} is bad (condition {kind})")


def node_leaving(case: Case) -> Verdict | None:
    """The machine works and is about to be taken away."""
    pod, node = case.member.pod, case.member.node
    if pod is None or node is None or pod.terminal or node.silent:
        return None
    if not node.exists:
        return _verdict(case, node, "node-leaving", f"the Node object of {node.name} is gone, though its agents speak")
    taint = _leaving(node)
    return _verdict(case, node, "node-leaving", f"node {node.name} is going away (taint {taint})") if taint else None


RULES: tuple[Rule, ...] = (node_condition, node_leaving)
"""After `node_dead`, which is asked before whatever a user's rule may say."""


def _leaving(node: Node) -> str:
    return min(node.taints & GOING_TAINTS, default="")


def _bad_condition(node: Node) -> str:
    return min(node.conditions & BAD_CONDITIONS, default="")


def _verdict(case: Case, node: Node, rule: str, because: str, *, dead: bool = False) -> Verdict:
    return Verdict(
        scope="Node",
        rule=rule,
        rank=case.member.rank,
        because=because,
        rung="RecreatePod",
        node=node.name,
        dead=dead,
    )
