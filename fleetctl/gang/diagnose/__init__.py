"""From evidence to verdicts: one file per family of rules, asked in order; the first answer about a member wins.

Add a family: write its file, list its RULES here where they must be asked.
"""

from collections.abc import Mapping, Sequence

from fleetctl.gang.diagnose import container_exit, node_state, pod_state, record
from fleetctl.gang.diagnose.case import Case, Circumstances, Rule
from fleetctl.gang.state import Member, Seconds, Verdict

RULES: tuple[Rule, ...] = (
    container_exit.fatal_exit,
    *node_state.RULES,
    *pod_state.RULES,
    *record.RULES,
    *container_exit.RULES,
    pod_state.ended_for_good,
)


def diagnose(
    members: Sequence[Member], gang: Circumstances, missing_s: Mapping[int, Seconds] | None = None
) -> tuple[Verdict, ...]:
    """What is wrong with the members, the likeliest culprit first.

    Nodes come before containers, whose failures may follow from them; victims report before culprits, so the earliest
    evidence with a time of its own comes before what was merely noticed. `missing_s` is by rank.
    """
    waited = missing_s or {}
    proof_s = node_state.proof_needed_s(len({m.node.name for m in members if m.node and m.node.silent}))
    cases = (Case(m, gang, waited.get(m.rank, 0.0), proof_s) for m in members if not _is_well(m, gang, waited))
    verdicts = [v for case in cases if (v := _first_answer(case))]
    return tuple(sorted(verdicts, key=lambda v: (not v.fatal, v.scope != "Node", v.since == 0, v.since, v.rank)))


def _is_well(member: Member, gang: Circumstances, waited: Mapping[int, Seconds]) -> bool:
    """Whether no rule would have an answer: so it is with nearly all members, nearly always."""
    pod, life = member.pod, member.life
    if gang.gathering and pod is None:
        return True
    if not member.unremarkable or record.is_ahead(member, gang) or record.is_left_behind(member, gang):
        return False
    if gang.gathering:
        return waited.get(member.rank, 0.0) < min(gang.in_place_deadline_s, gang.recreate_deadline_s)
    if member.lost_track_of:
        return waited.get(member.rank, 0.0) < gang.in_place_deadline_s
    return (pod is None or pod.restarting_since is None) and (life is None or not life.waits)


def _first_answer(case: Case) -> Verdict | None:
    return next((verdict for rule in RULES if (verdict := rule(case))), None)
