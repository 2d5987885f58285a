"""Verdicts about members and a record that do not fit together. It cannot happen, until somebody empties a status, or
restores one from a backup.

Agents remember what they have promised and accept nothing below, so a gang whose record was lost must go on above all
that anybody speaks of. Until then nobody would be reset, and nobody would answer a ping.
"""

from fleetctl.gang.diagnose.case import Case, Circumstances, Rule
from fleetctl.gang.state import Member, Verdict


def agrees(member: Member, gang: Circumstances) -> bool:
    """Whether neither of the following can be said of the member; quick, because it is asked of all."""
    life, target, released = member.life, gang.target, gang.released.attempt
    if life is not None and 0 < life.attempt != released:
        return not (is_ahead(member, gang) or is_left_behind(member, gang))
    return member.latest_attempt <= target


def is_ahead(member: Member, gang: Circumstances) -> bool:
    """Whether the member has been where the record has not: past the target, or released into it before the others."""
    released_early = gang.gathering and _attempt_of(member) == gang.target
    return released_early or member.latest_attempt > gang.target


def is_left_behind(member: Member, gang: Circumstances) -> bool:
    """Whether it runs, and not what was released last."""
    return not gang.gathering and 0 < _attempt_of(member) < gang.released.attempt


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
    if not is_left_behind(case.member, case.gang):
        return None
    ran, released = _attempt_of(case.member), case.gang.released.attempt
    because = f"{case.who} runs attempt {ran}, though attempt {released} was released"
    return Verdict(scope="Unknown", rule="left-behind", rank=case.member.rank, because=because)


RULES: tuple[Rule, ...] = (record_lost, left_behind)


def _attempt_of(member: Member) -> int:
    """What the member's own pod runs, as its agent says now."""
    pod, life = member.pod, member.life
    return life.attempt if pod and pod.ours and life and life.connected else 0
