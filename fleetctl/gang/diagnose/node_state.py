"""Verdicts about machines: dead, or about to go.

**Dead** needs proof, because its pods are then deleted without anybody's confirmation: every agent on it is silent, and
its kubelet's Lease stood still for long enough while other nodes' Leases moved (or the Node object is gone, or an
operator vouches for it). **Leaving** is what still works and will not for long: its pods are told to go, and waited
for. Anything less is suspect, which is no verdict: Ready=Unknown is what a cut network looks like too, and a stopped
kubelet under trainers that train.

Knows nothing of how a Lease is observed (controller/witness.py).
"""

from fleetctl.gang.diagnose.case import Case, Rule
from fleetctl.gang.state import Node, Seconds, Verdict

DEAD_AFTER_S = 20.0
"""A kubelet renews its Lease every 10 s."""
SEVERAL_HOLD_S = 20.0
"""So much longer if several nodes fell silent together: that smells of a network, which may heal."""

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
LEAVING_TAINTS = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/spot-itn",
        "cloud.google.com/impending-node-termination",
        "karpenter.sh/disrupted",
        "node.cloudprovider.kubernetes.io/shutdown",
    }
)


def proof_needed_s(silent_nodes: int) -> Seconds:
    """For how long a silent node's Lease must have stood still, with so many nodes silent now."""
    return DEAD_AFTER_S + (SEVERAL_HOLD_S if silent_nodes > 1 else 0.0)


def is_suspect(node: Node) -> bool:
    """Whether a new pod had better go elsewhere."""
    return node.silent or not node.exists or node.ready != "True" or bool(_leaving(node))


def why_dead(node: Node, proof_s: Seconds) -> tuple[str, str] | None:
    """The rule and the sentence that prove the node dead, None if nothing does."""
    if not node.silent:
        return None
    if not node.exists:
        return "node-deleted", f"the Node object of {node.name} is gone, and nothing is heard from its agents"
    if OUT_OF_SERVICE in node.taints:
        return "node-out-of-service", f"node {node.name} is tainted {OUT_OF_SERVICE}, and its agents are silent"
    if node.still_s >= proof_s:
        seen = f"its agents are silent and its Lease did not move for {proof_s:.0f} s, while others' did"
        return "node-dead", f"node {node.name} is dead: {seen}"
    return None


def node_dead(case: Case) -> Verdict | None:
    """The machine under the pod is gone."""
    pod, node = case.member.pod, case.member.node
    if pod is None or node is None or (pod.terminal and not pod.deleting):
        return None
    found = why_dead(node, case.proof_s)
    return _verdict(case, node, *found, dead=True) if found else None


def node_leaving(case: Case) -> Verdict | None:
    """The machine works and is about to be taken away."""
    pod, node = case.member.pod, case.member.node
    if pod is None or node is None or pod.terminal or node.silent:
        return None
    if not node.exists:
        return _verdict(case, node, "node-leaving", f"the Node object of {node.name} is gone, though its agents speak")
    taint = _leaving(node)
    return _verdict(case, node, "node-leaving", f"node {node.name} is going away (taint {taint})") if taint else None


RULES: tuple[Rule, ...] = (node_dead, node_leaving)


def _leaving(node: Node) -> str:
    return next((taint for taint in sorted(node.taints) if taint in LEAVING_TAINTS or taint == OUT_OF_SERVICE), "")


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
