"""What should happen to a gang now: plan(snapshot, memory) -> Plan.

A plan is a value that explains itself: actions in their order (a failing one ends the plan), when to look again, and
the sentences that the log, the Events and the status show. Memory is a cache: losing it may delay a decision, never
make an unsafe one.

`attempt.py` says which step comes next; here it meets what is not the attempt's business: admission of the template,
budgets, conditions, history, pace.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec

from fleetctl.gang import attempt, budget
from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.spec import (
    AttemptRecord,
    Cause,
    Condition,
    GangStatus,
    Ranks,
    Recovered,
    Seconds,
    Spend,
)
from fleetctl.gang.state import Member, Promise, Verdict, ranges
from fleetctl.stamps import rfc3339, rfc3339_micro

CREATES_AT_ONCE = 50
"""Pods created per step; the next ones a second later. The scheduler binds no faster (50 a second by default)."""
RESEND_S = 1.0
"""Messages that were not answered are sent again after so many seconds."""
RECHECK_S = 10.0
"""A refused template is checked again after so many seconds: a quota may have been raised, a node upgraded."""
HISTORY = 20


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the check of the template found: `problems` refuse the gang, `warnings` do not."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world as far as one gang goes. `acceptance` is None while the template has not been checked."""

    gang: Gang
    generation: int
    status: GangStatus
    members: Sequence[Member]
    now: datetime
    writer: str
    fresh_ticket: str
    acceptance: Acceptance | None = None
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What the planner remembers between two plans."""

    round: attempt.Round | None = None
    gathered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What becomes an Event on the Gang once the write it belongs to has succeeded."""

    reason: str
    message: str
    action: str
    kind: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Compare-and-swap the gang's status."""

    status: GangStatus
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class CreateCompanions:
    """Services and the CA ConfigMap; those that exist are left alone."""


@dataclass(frozen=True, slots=True)
class CreatePods:
    """Pods of these slots, labelled with the attempt they are created for."""

    slots: tuple[Slot, ...]
    attempt: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Tell these lives (by pod uid) to restart in place for the attempt."""

    uids: tuple[str, ...]
    attempt: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask these lives to promise."""

    uids: tuple[str, ...]
    promise: Promise


@dataclass(frozen=True, slots=True)
class Release:
    """Tell these lives to start their trainers."""

    uids: tuple[str, ...]
    promise: Promise


Action = WriteStatus | CreateCompanions | CreatePods | Reset | Ping | Release


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order; when to look again at the latest, seconds from now; why, in words; what to remember."""

    actions: tuple[Action, ...] = ()
    wake_in: float | None = None
    reasons: tuple[str, ...] = ()
    memory: Memory = field(default_factory=Memory)


def plan(snapshot: Snapshot, memory: Memory) -> Plan:
    """The next step of this gang. Planning twice from one snapshot gives the same plan."""
    if snapshot.deleting:
        return Plan(reasons=("the gang is being deleted",))
    record = snapshot.status.attempt
    if record.target == 0 and (refusal := _admission(snapshot)):
        return refusal
    situation = attempt.Situation(
        record=record,
        members=snapshot.members,
        verdicts=diagnose(
            snapshot.members,
            Promise(attempt=record.released, ticket=record.ticket),
            snapshot.gang.spec.recovery.fatal_codes,
        ),
        writer=snapshot.writer,
        round=memory.round,
        finished=snapshot.status.finished,
    )
    step = attempt.step(situation)
    return _PLANNERS[type(step)](snapshot, memory, step)


def _admission(s: Snapshot) -> Plan | None:
    if s.acceptance is None:
        return Plan(reasons=("the template is being checked",))
    if not s.acceptance.problems:
        return None
    message = "; ".join(s.acceptance.problems)
    refused = s.status.condition("Accepted")
    if refused and refused.status == "False" and refused.message == message:
        return Plan(wake_in=RECHECK_S, reasons=(f"refused: {message}",))
    status = _with(
        msgspec.structs.replace(s.status, ranks=Ranks(total=s.gang.spec.size)),
        s,
        ("Accepted", "False", "NotAccepted", message),
        ("Running", "False", "NotAccepted", message),
    )
    notice = Notice("NotAccepted", message, "Accept", "Warning")
    return Plan((WriteStatus(status, notice),), wake_in=RECHECK_S, reasons=(f"refused: {message}",))


def _rest(s: Snapshot, memory: Memory, step: attempt.Rest) -> Plan:
    return Plan(reasons=(step.because,))


def _take_over(s: Snapshot, memory: Memory, step: attempt.TakeOver) -> Plan:
    record = msgspec.structs.replace(s.status.attempt, writer=s.writer)
    status = msgspec.structs.replace(s.status, attempt=record)
    return Plan((WriteStatus(status),), reasons=(f"{s.writer} takes over from {s.status.attempt.writer}",))


def _raise_target(s: Snapshot, memory: Memory, step: attempt.RaiseTarget) -> Plan:
    if step.verdict is None:
        return _start(s)
    record = s.status.attempt
    spent = budget.spend(
        s.status.budgets.application,
        s.gang.spec.recovery.budgets.application,
        now=s.now,
        ran_s=_since(record.released_at, s.now),
    )
    if isinstance(spent, str):
        return _ended(s, step.verdict, "BudgetExhausted", f"{step.verdict.because}; {spent}")
    cause = _cause(step.verdict)
    message = f"attempt {record.target + 1}: {cause.message}"
    status = _with(
        msgspec.structs.replace(
            s.status,
            attempt=_raised(s, cause),
            ranks=Ranks(total=len(s.members)),
            budgets=Spend(application=spent),
        ),
        s,
        ("Running", "False", "Recovering", message),
        ("Recovering", "True", "RestartInPlace", message),
    )
    notice = Notice("Recovering", message, "RestartInPlace", "Warning")
    return Plan((WriteStatus(status, notice),), reasons=(message,))


def _start(s: Snapshot) -> Plan:
    assert s.acceptance is not None  # noqa: S101  (plan looked)
    cause = Cause(scope="Start", rule="start", message="the gang starts")
    warned = "; ".join(s.acceptance.warnings)
    status = _with(
        msgspec.structs.replace(s.status, attempt=_raised(s, cause), ranks=Ranks(total=len(s.members))),
        s,
        (
            "Accepted",
            "True",
            "AcceptedWithWarnings" if warned else "Accepted",
            warned or "the template can run as a gang",
        ),
        ("Running", "False", "Starting", f"{len(s.members)} ranks gather for attempt 1"),
    )
    notice = Notice("TemplateWarning", warned, "Accept", "Warning") if warned else None
    return Plan((WriteStatus(status, notice),), reasons=(cause.message,))


def _gather(s: Snapshot, memory: Memory, step: attempt.Gather) -> Plan:
    record, target = s.status.attempt, s.status.attempt.target
    actions: list[Action] = []
    reasons = [f"attempt {target} waits for rank {ranges(m.rank for m in step.missing)}"]
    if s.status.holds("Held"):
        state, cause = ("Recovering" if record.released else "Starting"), record.cause
        message = f"attempt {target}: {cause.message}" if cause else f"attempt {target}"
        actions.append(WriteStatus(_with(s.status, s, ("Running", "False", state, message))))
    if step.create:
        now, later = step.create[:CREATES_AT_ONCE], step.create[CREATES_AT_ONCE:]
        actions += [CreateCompanions(), CreatePods(tuple(s.gang.slots[m.rank] for m in now), target)]
        reasons.append(f"creates the pods of rank {ranges(m.rank for m in now)}, {len(later)} more later")
    if step.reset:
        actions.append(Reset(_uids(step.reset), target))
        reasons.append(f"restarts in place: rank {ranges(m.rank for m in step.reset)}")
    return Plan(tuple(actions), wake_in=RESEND_S if actions else None, reasons=tuple(reasons))


def _ping_round(s: Snapshot, memory: Memory, step: attempt.PingRound) -> Plan:
    if step.fresh:
        lives = frozenset((m.life.uid, m.life.life_id) for m in step.members if m.life)
        asked = attempt.Round(Promise(attempt=s.status.attempt.target, ticket=s.fresh_ticket), lives)
        memory = Memory(round=asked, gathered_at=s.now)
    assert memory.round is not None  # noqa: S101  (a round that is not fresh is remembered)
    action = Ping(_uids(step.members), memory.round.promise)
    reason = f"everyone stands at the barrier; rank {ranges(m.rank for m in step.members)} is asked to promise"
    return Plan((action,), wake_in=RESEND_S, reasons=(reason,), memory=memory)


def _commit(s: Snapshot, memory: Memory, step: attempt.CommitRelease) -> Plan:
    record, size = s.status.attempt, len(s.members)
    cause = record.cause or Cause(scope="Unknown", rule="unknown", message="unknown")
    total = _since(record.started_at, s.now)
    barrier = min(total, _since(record.started_at, memory.gathered_at or s.now))
    recovered = Recovered(
        attempt=step.promise.attempt,
        cause=cause,
        rung="Start" if cause.scope == "Start" else "InPlace",
        at=rfc3339(s.now),
        seconds=Seconds(barrier=round(barrier, 3), total=round(total, 3)),
    )
    message = f"{size} ranks run attempt {step.promise.attempt}"
    status = _with(
        msgspec.structs.replace(
            s.status,
            attempt=msgspec.structs.replace(
                record,
                released=step.promise.attempt,
                ticket=step.promise.ticket,
                released_at=rfc3339_micro(s.now),
            ),
            ranks=Ranks(total=size, released=size),
            history=[recovered, *s.status.history][:HISTORY],
        ),
        s,
        ("Running", "True", "AllRanksReleased", message),
        ("Recovering", "False", "Released", message),
    )
    notice = Notice("Released", f"{message}, {total:.1f} s after: {cause.message}", "Release")
    actions = (WriteStatus(status, notice), Release(_uids(s.members), step.promise))
    return Plan(actions, wake_in=RESEND_S, reasons=(message,))


def _release(s: Snapshot, memory: Memory, step: attempt.Release) -> Plan:
    record = s.status.attempt
    promise = Promise(attempt=record.released, ticket=record.ticket)
    reason = f"rank {ranges(m.rank for m in step.members)} is released into attempt {promise.attempt}"
    return Plan((Release(_uids(step.members), promise),), wake_in=RESEND_S, reasons=(reason,))


def _complete(s: Snapshot, memory: Memory, step: attempt.Complete) -> Plan:
    message = f"all {len(s.members)} ranks of attempt {s.status.attempt.released} exited 0"
    status = _with(
        s.status, s, ("Running", "False", "Completed", message), ("Completed", "True", "AllRanksExited0", message)
    )
    return Plan((WriteStatus(status, Notice("Completed", message, "Complete")),), reasons=(message,))


def _fail(s: Snapshot, memory: Memory, step: attempt.Fail) -> Plan:
    return _ended(s, step.verdict, "FatalExit", step.verdict.because)


def _ended(s: Snapshot, verdict: Verdict, reason: str, message: str) -> Plan:
    record = msgspec.structs.replace(s.status.attempt, cause=_cause(verdict))
    status = _with(
        msgspec.structs.replace(s.status, attempt=record),
        s,
        ("Running", "False", "Failed", message),
        ("Failed", "True", reason, message),
        ("Recovering", "False", "Failed", message),
    )
    return Plan((WriteStatus(status, Notice("Failed", message, "Fail", "Warning")),), reasons=(message,))


def _hold(s: Snapshot, memory: Memory, step: attempt.Hold) -> Plan:
    held = s.status.condition("Held")
    reasons = (f"held: {step.because}",)
    if held and held.status == "True" and held.message == step.because:
        return Plan(reasons=reasons)
    status = _with(
        s.status, s, ("Running", "False", "Held", step.because), ("Held", "True", "NeedsSomebody", step.because)
    )
    return Plan((WriteStatus(status, Notice("Held", step.because, "Hold", "Warning")),), reasons=reasons)


_PLANNERS: dict[type[attempt.Step], Callable[..., Plan]] = {
    attempt.Rest: _rest,
    attempt.TakeOver: _take_over,
    attempt.RaiseTarget: _raise_target,
    attempt.Gather: _gather,
    attempt.PingRound: _ping_round,
    attempt.CommitRelease: _commit,
    attempt.Release: _release,
    attempt.Complete: _complete,
    attempt.Fail: _fail,
    attempt.Hold: _hold,
}


def _raised(s: Snapshot, cause: Cause) -> AttemptRecord:
    target = s.status.attempt.target + 1
    return msgspec.structs.replace(
        s.status.attempt, target=target, cause=cause, writer=s.writer, started_at=rfc3339_micro(s.now)
    )


def _cause(verdict: Verdict) -> Cause:
    return Cause(scope=verdict.scope, rule=verdict.rule, rank=verdict.rank, message=verdict.because)


_ConditionStatus = Literal["True", "False"]


def _with(status: GangStatus, s: Snapshot, *changes: tuple[str, _ConditionStatus, str, str]) -> GangStatus:
    """The status with these conditions set. Every step that is not a hold ends a hold."""
    conditions = {c.type: c for c in status.conditions}
    if all(kind != "Held" for kind, *_ in changes) and status.holds("Held"):
        changes = (*changes, ("Held", "False", "Ended", "no longer held"))
    for kind, value, reason, message in changes:
        before = conditions.get(kind)
        if before is None and value == "False" and kind not in ("Accepted", "Running"):
            continue  # absent says the same
        since = before.last_transition_time if before and before.status == value else rfc3339(s.now)
        conditions[kind] = Condition(
            type=kind,
            status=value,
            reason=reason,
            message=message,
            last_transition_time=since,
            observed_generation=s.generation,
        )
    return msgspec.structs.replace(status, observed_generation=s.generation, conditions=list(conditions.values()))


def _since(stamp: str, now: datetime) -> float:
    """Seconds from an RFC 3339 time of ours until now; 0 if there is none."""
    return max(0.0, (now - datetime.fromisoformat(stamp)).total_seconds()) if stamp else 0.0


def _uids(members: Sequence[Member]) -> tuple[str, ...]:
    return tuple(m.life.uid for m in members if m.life)
