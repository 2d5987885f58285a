"""From evidence to verdicts: one file per family of rules, asked in order; the first answer about a member wins.

Add a family: write its file, list its RULES here where they must be asked. What a rule can answer to must make its
members worth asking about (`_is_well`, `_is_quiet`): thousands are looked at many times a second.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from fleetctl.gang.breaker import is_call
from fleetctl.gang.diagnose import (
    container_exit,
    hardware,
    machine,
    node_state,
    pod_state,
    progress,
    record,
    strikes,
    user_rules,
)
from fleetctl.gang.diagnose.case import Case, Circumstances, Rule, Whole
from fleetctl.gang.state import Life, Member, Pod, Promise, Seconds, Verdict

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
NO_GANG = Whole((), Circumstances(released=Promise(attempt=0, ticket=""), target=0), {})


def diagnose(
    members: Sequence[Member], gang: Circumstances, missing_s: Mapping[int, Seconds] | None = None
) -> tuple[Verdict, ...]:
    """What is wrong with the members, the likeliest culprit first. `missing_s` is by rank."""
    whole = Whole(members, gang, missing_s or {})
    telling, accused = Telling.of(whole), progress.accused(whole)
    answers = []
    for member in members:
        listed = member.rank in accused
        if not listed and _is_well(member, whole, telling):
            continue
        quiet = not listed and member.pod is not None and _is_quiet(member, member.pod, whole, telling)
        case = Case(member, whole)
        if verdict := _answer_of_containers(case, telling.ends) if quiet else _first_answer(case):
            answers.append((case, verdict))
    alike = strikes.alike(answers)
    return likeliest_first(machine.left_by_all([_weighed(case, verdict, alike) for case, verdict in answers], whole))


def likeliest_first(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """In the order in which they may be to blame.

    Nodes come before containers, whose failures may follow from them; victims report before culprits, so the earliest
    evidence with a time of its own comes before what was merely noticed, and within a second (statuses know no less)
    what seldom follows from another's failure before what usually does, and the odd one before what many did alike.
    """
    found = list(verdicts)
    whats = [verdict.what for verdict in found]
    alike = Counter(whats)
    order = sorted(
        (not v.fatal, v.scope != "Node", float(int(v.since)) if v.since else inf, v.follows, alike[what], v.rank, at)
        for at, (v, what) in enumerate(zip(found, whats, strict=True))
    )
    return tuple([found[at] for *_, at in order])


@dataclass(frozen=True, slots=True)
class Telling:
    """What, of all that may be seen of any node and pod, some rule has an answer to; and which rules do where nothing
    but the `ends` of containers is seen."""

    ends: Sequence[Rule]
    taints: frozenset[str]
    conditions: frozenset[str]
    codes: frozenset[str]
    reasons: frozenset[str]

    @staticmethod
    def of(whole: Whole) -> "Telling":
        named = user_rules.named(whole)
        return Telling(
            ends=RULES if whole.gang.rules else _rules_about_ends(),
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
    pod, life = member.pod, member.life
    if pod is None:
        return whole.gang.gathering
    if member.shows != "Nothing" or not _is_quiet(member, pod, whole, telling):
        return False
    return whole.gang.gathering or (pod.restarting_since is None and not (life is not None and life.waits))


def _is_quiet(member: Member, pod: Pod, whole: Whole, telling: Telling) -> bool:
    """Whether no rule would have an answer, but for what containers show: thousands may fail at once."""
    node, life, gang = member.node, member.life, whole.gang
    if member.shows == "More" or not record.agrees(member, gang):
        return False
    if node is not None and not (
        telling.taints.isdisjoint(node.taints) and telling.conditions.isdisjoint(node.conditions)
    ):
        return False
    if node is not None and node.silent and node.still_s >= whole.once(node_state.proof)[0]:
        return False
    if (life is not None and life.hardware and telling.is_reported(life)) or (
        telling.reasons and telling.is_shown(pod)
    ):
        return False
    if gang.gathering:
        soonest = min(gang.in_place_deadline_s, gang.recreate_deadline_s)
        return whole.waited.get(member.rank, 0.0) < (min(soonest, pod_state.RACE_S) if gang.spared else soonest)
    return life is not None or not _is_missed(member, whole)


def _is_missed(member: Member, whole: Whole) -> bool:
    return member.lost_track_of and whole.waited.get(member.rank, 0.0) >= whole.gang.in_place_deadline_s


def foresee(member: Member) -> None:
    """Work out what follows from the member alone: whoever makes thousands may pause between them, a plan may not."""
    _ = member.at_barrier, member.lost_track_of, member.latest_attempt
    if member.shows == "End":
        _answer_of_containers(Case(member, NO_GANG), _rules_about_ends())


def _rules_about_ends() -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES if rule in container_exit.RULES)


def _answer_of_containers(case: Case, rules: Sequence[Rule]) -> Verdict | None:
    """How a container ended that nothing else explains is judged once, for nothing but the member is asked."""
    member, gang = case.member, case.gang
    reported = member.life is not None and member.life.hardware
    if member.shows != "End" or reported or gang.rules or gang.silent_domain:
        return _first_answer(case, rules)
    known: Verdict | None = member.kept.get(rules)
    if known is None and (known := _first_answer(case, rules)) and case.failed_container:
        member.kept[rules] = known
    return known


def _first_answer(case: Case, rules: Sequence[Rule] | None = None) -> Verdict | None:
    gang = case.gang
    for rule in RULES if rules is None else rules:
        verdict = rule(case)
        if verdict is not None and not (is_call(verdict) and (gang.distrusted or verdict.node in gang.unheeded)):
            return verdict
    return None


def _weighed(case: Case, verdict: Verdict, alike: frozenset[int]) -> Verdict:
    """What earlier failures of the machine make of it; nothing where many ranks failed alike."""
    if not verdict.strikes:
        return verdict
    return verdict.against_no_machine() if verdict.rank in alike else strikes.lemon(case, verdict) or verdict
