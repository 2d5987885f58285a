"""From evidence to verdicts: one file per family of rules, asked in order; the first answer about a member wins.

Add a family: write its file, list its RULES here where they must be asked. What a rule can answer to must make its
members worth asking about (`_is_well`): thousands are looked at many times a second.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from fleetctl.gang.breaker import is_call
from fleetctl.gang.diagnose import (
    container_exit,
    hardware,
    node_state,
    pod_state,
    progress,
    record,
    strikes,
    user_rules,
)
from fleetctl.gang.diagnose.case import Case, Circumstances, Rule, Whole
from fleetctl.gang.state import Life, Member, Pod, Seconds, Verdict

RULES: tuple[Rule, ...] = (
    user_rules.fails_gang,
    node_state.node_dead,
    user_rules.restarts,
    *hardware.RULES,
    *node_state.RULES,
    *pod_state.RULES,
    *record.RULES,
    *container_exit.RULES,
    pod_state.ended_for_good,
    *progress.RULES,
)


def diagnose(
    members: Sequence[Member], gang: Circumstances, missing_s: Mapping[int, Seconds] | None = None
) -> tuple[Verdict, ...]:
    """What is wrong with the members, the likeliest culprit first. `missing_s` is by rank."""
    whole = Whole(members, gang, missing_s or {})
    telling, accused = Telling.of(whole), progress.accused(whole)
    cases = [Case(m, whole) for m in members if m.rank in accused or not _is_well(m, whole, telling)]
    answers = [(case, verdict) for case in cases if (verdict := _first_answer(case))]
    alike = strikes.alike(answers)
    return likeliest_first(_weighed(case, verdict, alike) for case, verdict in answers)


def likeliest_first(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """In the order in which they may be to blame.

    Nodes come before containers, whose failures may follow from them; victims report before culprits, so the earliest
    evidence with a time of its own comes before what was merely noticed, and within a second (statuses know no less)
    what seldom follows from another's failure before what usually does, and the odd one before what many did alike.
    """
    found = list(verdicts)
    alike = Counter(verdict.what for verdict in found)

    def order(verdict: Verdict) -> tuple[bool, bool, float, bool, int, int]:
        since = float(int(verdict.since)) if verdict.since else inf
        return not verdict.fatal, verdict.scope != "Node", since, verdict.follows, alike[verdict.what], verdict.rank

    return tuple(sorted(found, key=order))


@dataclass(frozen=True, slots=True)
class Telling:
    """What, of all that may be seen of any node and pod, some rule has an answer to."""

    taints: frozenset[str]
    conditions: frozenset[str]
    codes: frozenset[str]
    reasons: frozenset[str]

    @staticmethod
    def of(whole: Whole) -> "Telling":
        named = user_rules.named(whole)
        return Telling(
            taints=node_state.GOING_TAINTS,
            conditions=node_state.BAD_CONDITIONS | named.conditions,
            codes=hardware.NODE_CODES | {hardware.SUMMARY_CODE} | named.codes,
            reasons=named.reasons,
        )

    def is_reported(self, life: Life) -> bool:
        return any(report.code in self.codes for report in life.hardware)

    def is_shown(self, pod: Pod) -> bool:
        return not self.reasons.isdisjoint(user_rules.waiting_reasons(pod))


def _is_well(member: Member, whole: Whole, telling: Telling) -> bool:
    """Whether no rule would have an answer: so it is with nearly all members, nearly always."""
    pod, node, life, gang = member.pod, member.node, member.life, whole.gang
    gathering = gang.gathering
    if pod is None:
        return gathering
    if not member.unremarkable or not record.agrees(member, gang):
        return False
    if node is not None and not (
        telling.taints.isdisjoint(node.taints) and telling.conditions.isdisjoint(node.conditions)
    ):
        return False
    if (life is not None and life.hardware and telling.is_reported(life)) or (
        telling.reasons and telling.is_shown(pod)
    ):
        return False
    if gathering:
        return whole.waited.get(member.rank, 0.0) < min(gang.in_place_deadline_s, gang.recreate_deadline_s)
    if life is None:
        return pod.restarting_since is None and not _is_missed(member, whole)
    return pod.restarting_since is None and not life.waits


def _is_missed(member: Member, whole: Whole) -> bool:
    return member.lost_track_of and whole.waited.get(member.rank, 0.0) >= whole.gang.in_place_deadline_s


def _first_answer(case: Case) -> Verdict | None:
    gang = case.gang
    for rule in RULES:
        verdict = rule(case)
        if verdict is not None and not (is_call(verdict) and (gang.distrusted or verdict.node in gang.unheeded)):
            return verdict
    return None


def _weighed(case: Case, verdict: Verdict, alike: frozenset[int]) -> Verdict:
    """What earlier failures of the machine make of it; nothing where many ranks failed alike."""
    if not verdict.strikes:
        return verdict
    return replace(verdict, strikes="") if verdict.rank in alike else strikes.lemon(case, verdict) or verdict
