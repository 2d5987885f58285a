"""From evidence to verdicts: one file per family of rules, asked in order; the first answer about a member wins.

Add a family: write its file, list its RULES here where they must be asked.
"""

from collections.abc import Sequence

from fleetctl.gang.diagnose import container_exit, pod_state
from fleetctl.gang.diagnose.case import Case, Rule
from fleetctl.gang.state import Member, Promise, Verdict

RULES: tuple[Rule, ...] = (*container_exit.RULES, *pod_state.RULES)


def diagnose(members: Sequence[Member], released: Promise, fatal_codes: frozenset[int]) -> tuple[Verdict, ...]:
    """What failed in the released attempt, the likeliest culprit first: victims report before culprits, so the earliest
    evidence with a time of its own comes before what was merely noticed."""
    verdicts = [v for m in members if (v := _first_answer(Case(m, released, fatal_codes)))]
    return tuple(sorted(verdicts, key=lambda v: (not v.fatal, v.since == 0, v.since, v.rank)))


def _first_answer(case: Case) -> Verdict | None:
    return next((verdict for rule in RULES if (verdict := rule(case))), None)
