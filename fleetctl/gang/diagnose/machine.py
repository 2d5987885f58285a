"""A machine that is bad itself is left by all its ranks at once: it gets no new pods any more, whoever repairs it takes
those that stayed, and the gang restarts anyway.

Only where the machine is at fault whatever its ranks do. That it is dead, or has a condition or a taint, each of its
ranks shows for itself (node_state.py).
"""

from collections.abc import Sequence

from fleetctl.gang.diagnose.case import Whole
from fleetctl.gang.state import Verdict

SAME_MACHINE = "same-machine"
OF_ALL = frozenset({"device-unhealthy", "hardware-report", "lemon"})
"""Verdicts about one rank from which it follows for the others there."""


def left_by_all(verdicts: Sequence[Verdict], whole: Whole) -> list[Verdict]:
    """The verdicts, and one for each other rank of the machines that they call bad; what a user's rule says of a rank
    stays."""
    bad = {v.node: v for v in reversed(verdicts) if v.rule in OF_ALL}
    if not bad:
        return list(verdicts)
    known = {v.rank: v for v in verdicts}
    for member in whole.members:
        pod, own = member.pod, known.get(member.rank)
        if pod is None or pod.node not in bad or pod.deleting or pod.terminal:
            continue
        if own is None or (own.rung == "InPlace" and not own.fatal and not own.rule.startswith("user-rule-")):
            known[member.rank] = _leaves(member.rank, bad[pod.node])
    return list(known.values())


def _leaves(rank: int, why: Verdict) -> Verdict:
    return Verdict(
        scope="Node",
        rule=SAME_MACHINE,
        rank=rank,
        because=f"rank {rank} is on the same machine as rank {why.rank}: {why.because}",
        rung="RecreatePod",
        node=why.node,
        follows=True,
    )
