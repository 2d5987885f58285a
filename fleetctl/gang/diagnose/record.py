"""The verdict about the record itself: somebody emptied the gang's status, or restored it from a backup.

Agents remember what they have promised and accept nothing below, so the gang must go on above all that anybody speaks
of. Until then nobody would be reset, and nobody would answer a ping.
"""

from fleetctl.gang.diagnose.case import Case, Circumstances, Rule
from fleetctl.gang.state import Member, Verdict


def is_ahead(member: Member, gang: Circumstances) -> bool:
    """Whether the member has been where the record has not: past the target, or released into it before the others."""
    if member.latest_attempt > gang.target:
        return True
    return gang.gathering and member.life is not None and member.life.attempt == gang.target


def record_lost(case: Case) -> Verdict | None:
    """The member has been in an attempt that the record does not know."""
    if not is_ahead(case.member, case.gang):
        return None
    because = (
        f"{case.who} knows attempt {case.member.latest_attempt}, and the record only {case.gang.target}: "
        "the gang's status was emptied, or restored from a backup"
    )
    return Verdict(scope="Unknown", rule="record-lost", rank=case.member.rank, because=because)


RULES: tuple[Rule, ...] = (record_lost,)
