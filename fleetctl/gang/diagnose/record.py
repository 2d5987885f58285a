"""Verdicts about members and a record that do not fit together. It cannot happen, until somebody empties a status, or
restores one from a backup.

Agents remember what they have promised and accept nothing below, so a gang whose record was lost must go on above all
that anybody speaks of. Until then nobody would be reset, and nobody would answer a ping.
"""

from fleetctl.gang.diagnose.case import Case, Circumstances, Rule
from fleetctl.gang.state import Member, Verdict


def is_ahead(member: Member, gang: Circumstances) -> bool:
    """Whether the member has been where the record has not: past the target, or released into it before the others."""
    if member.latest_attempt > gang.target:
        return True
    return gang.gathering and member.life is not None and member.life.attempt == gang.target


def is_left_behind(member: Member, gang: Circumstances) -> bool:
    """Whether it runs, and not what was released last."""
    life = member.life
    return not gang.gathering and life is not None and life.connected and 0 < life.attempt < gang.released.attempt


def record_lost(case: Case) -> Verdict | None:
    """The member has been in an attempt that the record does not know."""
    if not is_ahead(case.member, case.gang):
        return None
    because = (
        f"{case.who} knows attempt {case.member.latest_attempt}, and the record only {case.gang.target}: "
        "the gang's status was emptied, or restored from a backup"
    )
    return Verdict(scope="Unknown", rule="record-lost", rank=case.member.rank, because=because)


def left_behind(case: Case) -> Verdict | None:
    """The member runs an earlier attempt than all others were released into; they would wait for it for ever."""
    life = case.member.life
    if life is None or not is_left_behind(case.member, case.gang):
        return None
    because = f"{case.who} runs attempt {life.attempt}, though attempt {case.gang.released.attempt} was released"
    return Verdict(scope="Unknown", rule="left-behind", rank=case.member.rank, because=because)


RULES: tuple[Rule, ...] = (record_lost, left_behind)
