"""When so many nodes are called bad that the caller is more likely wrong than the nodes.

Hardware fails by the node; a health check that is broken fails by the hundred. Nodes that are proven dead do not count:
nobody merely says so. A call is heeded only after a moment, so that a hundred of them are seen together, and one that
is taken back at once does nothing. Pure bookkeeping: judgement.py keeps what is counted, plan.py opens
the breaker.
"""

from collections.abc import Collection, Iterable, Mapping
from math import inf

from fleetctl.gang.spec import Breaker
from fleetctl.gang.state import Seconds, Verdict

NOT_CALLS = frozenset({"lemon", "pod-leaving", "rejected-by-node", "same-machine", "stuck-on-node"})
"""Node verdicts that rest on what has happened to pods already, or on another verdict."""
HEED_S = 1.5
"""A node must have been called bad for so long."""

Called = Mapping[str, tuple[Seconds, Seconds]]
"""The nodes that were called bad: when first, and since when without a break (inf: not now); of our own clock."""


def is_call(verdict: Verdict) -> bool:
    """Whether it rests on somebody's word about a node that is alive."""
    return verdict.scope == "Node" and bool(verdict.node) and not verdict.dead and verdict.rule not in NOT_CALLS


def counted(called: Called, verdicts: Iterable[Verdict], breaker: Breaker, now: Seconds) -> Called:
    """What counts by now: the calls of the window."""
    now_called = {v.node for v in verdicts if is_call(v)}
    if not called and not now_called:
        return called
    recent = {node: times for node, times in called.items() if now < times[0] + 60.0 * breaker.within_minutes}
    quiet = {node: (first, inf) for node, (first, _) in recent.items() if node not in now_called}
    fresh = {node: (recent.get(node, (now, now))[0], min(now, recent.get(node, (now, now))[1])) for node in now_called}
    return quiet | fresh


def unheeded(called: Called, now: Seconds) -> frozenset[str]:
    """The nodes that were called bad only a moment ago."""
    return frozenset(node for node, (_, since) in called.items() if now < since + HEED_S < inf)


def why_open(called: Collection[str], allowed: int, breaker: Breaker, why: str, reset: str) -> str:
    """The sentence of an open breaker. `why` is one of the calls, `reset` the command that closes it."""
    return (
        f"the breaker is open: {len(called)} nodes were called bad within {breaker.within_minutes} min, more than the "
        f"{allowed} that spec.recovery.breaker allows, as: {why}. The caller is more likely wrong than so many nodes: "
        f"nothing is done because of such calls. When that is sorted out: {reset}"
    )


def reset_command(namespace: str, name: str, resets: int) -> str:
    """What closes a breaker that was reset so many times before."""
    patch = f'{{"spec":{{"recovery":{{"breaker":{{"resets":{resets + 1}}}}}}}}}'
    return f"kubectl patch gang {name} -n {namespace} --type merge -p '{patch}'"
