"""Lemons: a machine that proves nothing against itself, and fails again and again.

Verdicts that may be a machine's fault name it (`Verdict.strikes`), and the controller writes that on the Node. Two of
them within two days are decisive, a bad machine fails a hundred times as often as another, unless one rank failed both
times in one way: that may be the program, and only the third time is another machine tried. A fault that follows a rank
from machine to machine is the rank's, and what many ranks do alike is the program's.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fleetctl.gang.diagnose.case import Case, Whole
from fleetctl.gang.state import Node, Seconds, Strike, Verdict

ALIKE_MAX = 2
"""One rank may fail so often in one way before its machine is left."""
WINDOW_S = 48 * 3600.0
ALIKE_RANKS, ALIKE_NODES, ALIKE_S = 3, 2, 10.0
"""So many ranks on so many nodes that end alike within so many seconds have one reason, and it is not a machine."""


def recent(node: Node, now: Seconds) -> tuple[Strike, ...]:
    """The strikes that still count."""
    return tuple(strike for strike in node.strikes if strike.at > now - WINDOW_S)


def is_lemon(node: Node, now: Seconds) -> bool:
    """Whether one more failure would be one too many, as far as the node itself tells."""
    return _decide(recent(node, now))


def lemon(case: Case, verdict: Verdict) -> Verdict | None:
    """The same machine may be to blame again: by now it is.

    Not while the gang gathers: then this very failure is among the strikes already.
    """
    node = case.member.node
    if case.gang.gathering or verdict.rung != "InPlace" or not verdict.strikes or node is None:
        return None
    everywhere = case.whole.once(_struck)
    strikes = [s for s in recent(node, case.gang.now) if everywhere[s.who] == {node.name}]
    this = Strike(at=case.gang.now, rule=verdict.rule, who=str(verdict.rank))
    if not _decide((*strikes, this)):
        return None
    rules = ", ".join([strike.rule for strike in strikes] + [verdict.rule])
    because = f"node {node.name} failed {len(strikes) + 1} times within 48 h ({rules})"
    return Verdict(
        scope="Node",
        rule="lemon",
        rank=verdict.rank,
        because=because,
        since=verdict.since,
        rung="RecreatePod",
        node=node.name,
        strikes=verdict.strikes,
    )


def _decide(strikes: Sequence[Strike]) -> bool:
    """Whether they are enough against a machine."""
    ways = {(strike.who.rpartition("/")[2], strike.rule) for strike in strikes}
    return len(ways) > 1 or len(strikes) > ALIKE_MAX


def alike(answers: Sequence[tuple[Case, Verdict]]) -> frozenset[int]:
    """Ranks that ended as others on other machines did at the same time."""
    ends: defaultdict[str, list[tuple[Case, Verdict]]] = defaultdict(list)
    for answer in answers:
        verdict = answer[1]
        if verdict.scope == "Container" and verdict.since:
            ends[_end(verdict)].append(answer)
    return frozenset(v.rank for group in ends.values() if _is_one(group) for _, v in group)


def _end(verdict: Verdict) -> str:
    """How it ended, whoever it was: `exited 139 (SIGSEGV)`."""
    return verdict.what.partition(";")[0]


def _is_one(group: Sequence[tuple[Case, Verdict]]) -> bool:
    first = min(verdict.since for _, verdict in group)
    close = [case for case, verdict in group if verdict.since <= first + ALIKE_S]
    return len(close) >= ALIKE_RANKS and len({c.member.pod.node for c in close if c.member.pod}) >= ALIKE_NODES


def _struck(whole: Whole) -> Mapping[str, set[str]]:
    """By whose failure it was, the gang's nodes that it counts against."""
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for node in {m.node.name: m.node for m in whole.members if m.node}.values():
        for strike in recent(node, whole.gang.now):
            nodes[strike.who].add(node.name)
    return nodes
