"""Verdicts from the pod itself: it is gone.

Why it went (a node, an eviction, a person) is for the families of node rules; without them it is Unknown, which is
never a reason to delete anything.
"""

from fleetctl.gang.diagnose.case import Case, Rule
from fleetctl.gang.state import Verdict


def pod_gone(case: Case) -> Verdict | None:
    """Somebody deleted the pod of a rank that was released."""
    if case.member.pod is not None:
        return None
    because = f"the pod of rank {case.member.rank}, {case.member.pod_name}, is gone"
    return Verdict(scope="Unknown", rule="pod-gone", rank=case.member.rank, because=because)


RULES: tuple[Rule, ...] = (pod_gone,)
