"""Facts become one incident: who failed first, who only followed, what was not done and why.

In a gang that runs in lockstep one failure becomes a thousand, and victims report before culprits. So what is seen from
the moment an attempt ends until the next one is released belongs together. It is remembered by rank (`seen`), and told
in short: the record must stay small.

Knows nothing of how evidence is judged (diagnose/) and nothing of what is done about it (plan.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from fleetctl.gang.spec import FACTS_MAX, Fact, Incident
from fleetctl.gang.state import Rung, Verdict, ranges
from fleetctl.stamps import rfc3339

Seen = Mapping[int, Verdict]
"""By rank, the verdict that tells most."""

WHAT_MAX, RANKS_MAX, REFUSED_MAX = 220, 80, 160
ALIKE = 3
"""So many ranks that do the same have one reason, and it is no machine."""
KILLED = ("(SIGKILL)", "(SIGTERM)")


def remembered(seen: Seen, verdicts: Iterable[Verdict], *, gathering: bool) -> Seen:
    """What is seen by now. While the gang gathers all containers restart because we say so: what that looks like is no
    news, a late report of a machine is."""
    news: dict[int, Verdict] = {}
    for verdict in verdicts:
        if gathering and _may_be_our_doing(verdict):
            continue
        before = seen.get(verdict.rank)
        if before is None or (verdict.scope == "Node" != before.scope):
            news[verdict.rank] = verdict
    return {**seen, **news} if news else seen


def told(culprit: Verdict, seen: Seen, refused: Sequence[str] = (), *, before: Incident | None = None) -> Incident:
    """The incident, in at most 4 KiB. `before`: as it was told last, perhaps by another controller: what we have not
    seen ourselves is kept."""
    culprits = {v.rank for v in seen.values() if _same_cause(v, culprit)} | {culprit.rank}
    facts = _facts(seen.values(), culprits)
    known = {(fact.rule, fact.what) for fact in facts}
    facts += [fact for fact in (before.facts if before else ()) if (fact.rule, fact.what) not in known]
    cascade = set(seen) - culprits
    return Incident(
        culprits=_short(ranges(culprits), RANKS_MAX),
        cascade=_short(ranges(cascade), RANKS_MAX),
        facts=facts[:FACTS_MAX],
        refused=[_short(sentence, REFUSED_MAX) for sentence in refused][:8],
        omitted=max(0, len(facts) - FACTS_MAX, before.omitted if before else 0),
    )


def refused(culprit: Verdict, rung: Rung, *, ranks: int, recreated: int) -> tuple[str, ...]:
    """What was not done, and why not. `recreated`: how many ranks get new pods."""
    kept = ranks - recreated
    others = f"{kept} {'rank needs' if kept == 1 else 'ranks need'} no new pod: nothing speaks against their machines"
    if rung == "InPlace":
        where = f"node {culprit.strikes}" if culprit.strikes else "the machine"
        once = "; if it fails again soon, it is" if culprit.strikes else ""
        return (f"RecreatePod: {where} is not to blame for this alone{once}", f"RecreateGang: {others}")
    if rung == "RecreatePod":
        why = {"Node": "the machine is bad", "Container": "the pod has ended", "Unknown": "the pod does not come back"}
        because = f"RestartInPlace of rank {culprit.rank}: {why[culprit.scope]}"
        return (because, f"RecreateGang: {others}") if kept else (because,)
    return ("RestartInPlace: a rule of the gang wants new pods for all ranks",)


def same_root(verdicts: Iterable[Verdict]) -> str:
    """What at least three ranks did alike, in words; "" if there is no such thing. Not SIGABRT, by which ends whoever
    waits for a peer in vain."""
    alike: defaultdict[str, set[int]] = defaultdict(set)
    for verdict in verdicts:
        if verdict.scope == "Container" and not _may_be_our_doing(verdict) and "(SIGABRT)" not in verdict.because:
            alike[verdict.what].add(verdict.rank)
    what, ranks = max(alike.items(), key=lambda item: len(item[1]), default=("", set()))
    return f"{len(ranks)} ranks {what}" if len(ranks) >= ALIKE else ""


def machine_to_blame(culprit: Verdict, seen: Seen) -> str:
    """The node that this counts against, though it proves nothing; "" if several ranks did the same."""
    alike = sum(verdict.what == culprit.what for verdict in seen.values())
    return culprit.strikes if alike < ALIKE else ""


def _facts(verdicts: Iterable[Verdict], culprits: set[int]) -> list[Fact]:
    """One for each thing that was seen, with the ranks it is about; the culprits' first, then the most frequent."""
    by: defaultdict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by[verdict.rule, verdict.what].append(verdict)
    groups = sorted(by.items(), key=lambda g: (not any(v.rank in culprits for v in g[1]), -len(g[1]), g[0]))
    return [
        Fact(
            rule=rule,
            what=_short(what, WHAT_MAX),
            ranks=_short(ranges(v.rank for v in of), RANKS_MAX),
            at=_stamp(min((v.since for v in of if v.since), default=0.0)),
        )
        for (rule, what), of in groups
    ]


def _same_cause(verdict: Verdict, culprit: Verdict) -> bool:
    if culprit.scope == "Node":
        return verdict.scope == "Node"
    return verdict.rank == culprit.rank


def _may_be_our_doing(verdict: Verdict) -> bool:
    return verdict.rule == "exit-not-observed" or verdict.because.endswith(KILLED)


def _stamp(since: float) -> str:
    return rfc3339(datetime.fromtimestamp(since, UTC)) if since else ""


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
