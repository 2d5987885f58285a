"""Verdicts by the user's own rules: the first that fits decides, before whatever the other families would say.

But two things no rule can change. A machine that is proven dead is dead; and a pod that has ended, or is on its way
out, cannot restart in place. While the gang gathers all ranks restart anyway, and a rule that wants just that has
nothing to add: deadlines go on being judged.

A rule that names nothing is about failures of containers: not about those that a machine, or somebody who took the pod
away, brought about.
"""

from dataclasses import dataclass

from fleetctl.gang.diagnose import container_exit, hardware, node_state, pod_state
from fleetctl.gang.diagnose.case import Case, Whole
from fleetctl.gang.spec import Match, RuleAction
from fleetctl.gang.state import Pod, Rung, Seconds, Verdict

NEUTRAL = frozenset({"", "Completed", "ContainerCreating", "PodInitializing", "RestartingAllContainers"})
"""Reasons that every pod shows when it starts, restarts or is done."""
RUNGS: dict[RuleAction, Rung] = {
    "RestartInPlace": "InPlace",
    "RecreatePod": "RecreatePod",
    "RecreateGang": "RecreateGang",
    "FailGang": "InPlace",
}


@dataclass(frozen=True, slots=True)
class Named:
    """What the gang's rules name, and nobody need look for otherwise."""

    reasons: frozenset[str]
    conditions: frozenset[str]
    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule fits, in words; when that was; whether it is the machine's."""

    what: str
    since: Seconds = 0.0
    of_node: bool = False


def named(whole: Whole) -> Named:
    matches = [rule.match for rule in whole.gang.rules]
    return Named(
        reasons=frozenset(reason for match in matches for reason in match.reasons) - NEUTRAL,
        conditions=frozenset(kind for match in matches for kind in match.node_conditions),
        codes=frozenset(code for match in matches for code in match.hardware),
    )


def waiting_reasons(pod: Pod) -> frozenset[str]:
    """Why containers of the pod do not run."""
    containers = (*pod.containers, *([pod.preparing] if pod.preparing else ()))
    return frozenset(container.waiting_reason for container in containers) - NEUTRAL


def fails_gang(case: Case) -> Verdict | None:
    """A rule ends the gang because of this."""
    return _decided(case, fatal=True)


def restarts(case: Case) -> Verdict | None:
    """A rule says how to restart because of this."""
    return _decided(case, fatal=False)


def _decided(case: Case, *, fatal: bool) -> Verdict | None:
    pod = case.member.pod
    if pod is None:
        return None
    for number, rule in case.rules:
        if found := _fits(case, pod, rule.match):
            fits = (rule.action == "FailGang") == fatal
            return _verdict(case, pod, number, rule.match, rule.action, found) if fits else None
    return None


def _verdict(case: Case, pod: Pod, number: int, match: Match, action: RuleAction, found: Found) -> Verdict | None:
    ends = pod.terminal or pod.deleting
    if action == "RestartInPlace" and case.gang.gathering and not ends:
        return None
    by_code = action == "FailGang" and bool(match.exit_codes)
    told = "which a rule of the gang calls fatal" if by_code else f"rule {number} of the gang says {action}"
    return Verdict(
        scope="Node" if found.of_node else "Container",
        rule="fatal-exit" if by_code else f"user-rule-{number}",
        rank=case.member.rank,
        because=f"{found.what}{', ' if by_code else '; '}{told}",
        since=found.since,
        fatal=action == "FailGang",
        rung="RecreatePod" if ends and RUNGS[action] == "InPlace" else RUNGS[action],
        node=pod.node if found.of_node or action == "RecreatePod" else "",
    )


def _fits(case: Case, pod: Pod, match: Match) -> Found | None:
    """What the rule fits: all that it gives must hold."""
    tests = (
        (match.exit_codes or match.signals, _ended_so),
        (match.reasons, _has_reason),
        (match.node_conditions, _has_condition),
        (match.hardware, _reported),
    )
    asked = [test for given, test in tests if given] or [_failed_by_itself]
    found = [test(case, pod, match) for test in asked]
    return found[0] if all(found) else None


def _ended_so(case: Case, pod: Pod, match: Match) -> Found | None:
    """How the trainer ended."""
    failed = case.failed_container
    if failed is None or failed[0].name != case.member.trainer:
        return None
    if match.exit_codes and failed[1].exit_code not in match.exit_codes:
        return None
    if match.signals and container_exit.signal_of(case) not in match.signals:
        return None
    return _failure(case)


def _has_reason(case: Case, pod: Pod, match: Match) -> Found | None:
    """What Kubernetes calls the end of a container, the reason why one does not start, or the end of the pod."""
    failed = case.failed_container
    if failed is not None and failed[1].reason in match.reasons:
        return _failure(case)
    shown = waiting_reasons(pod)
    if pod.phase == "Failed":
        shown |= {pod.reason, pod.disruption}
        shown |= {pod.preparing.ended.reason} if pod.preparing and pod.preparing.ended else set()
    elif pod_state.is_leaving(case):
        shown |= {pod.disruption}
    reason = min((shown - NEUTRAL).intersection(match.reasons), default="")
    return Found(f"{case.who} shows {reason}") if reason else None


def _has_condition(case: Case, pod: Pod, match: Match) -> Found | None:
    node = case.member.node
    kind = min(node.conditions.intersection(match.node_conditions), default="") if node and not pod.terminal else ""
    return Found(f"node {pod.node} has the condition {kind}", of_node=True) if kind else None


def _reported(case: Case, pod: Pod, match: Match) -> Found | None:
    told = (r for r in hardware.reports(case.member.life) if r.code in match.hardware)
    report = next((r for r in told if not hardware.is_tolerated(case, r.code)), None)
    if report is None or pod.phase == "Succeeded":
        return None
    what = f"node {pod.node}: {hardware.described(report)}, reported by {case.who}'s pod"
    return Found(what, since=report.at, of_node=True)


def _failed_by_itself(case: Case, pod: Pod, match: Match) -> Found | None:
    """A container ended, and neither the machine nor somebody who took the pod away explains it."""
    if case.failed_container is None:
        return None
    better = (
        node_state.node_dead,
        *hardware.RULES,
        *node_state.RULES,
        pod_state.rejected_by_node,
        pod_state.pod_leaving,
    )
    return None if any(rule(case) for rule in better) else _failure(case)


def _failure(case: Case) -> Found:
    assert case.failed_container is not None  # noqa: S101  (the caller has looked)
    what = f"{container_exit.subject(case)} {container_exit.what(case)}"
    return Found(what, since=case.failed_container[1].finished_at)
