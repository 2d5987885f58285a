"""What should happen to a gang now: plan(snapshot, memory) -> Plan.

A plan is a value that explains itself: actions in their order (a failing one ends the plan), when to look again, and
the sentences that the log, the Events and the status show. Memory is a cache: losing it may delay a decision, never
make an unsafe one.

`attempt.py` says which step comes next; here it meets what is not the attempt's business: admission of the template,
budgets, conditions, history, pace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeVar

import msgspec

from fleetctl.gang import attempt, budget
from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.diagnose.node_state import is_suspect
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.obstacle import SOON_S, Waiting, obstacles
from fleetctl.gang.pods import PROBE_PORT, coordinator_service
from fleetctl.gang.spec import (
    REPLACING_MAX,
    AttemptRecord,
    Cause,
    Condition,
    GangStatus,
    Ranks,
    Recovered,
    Replacing,
    Seconds,
)
from fleetctl.gang.state import Member, Promise, Verdict, Zombie, ranges
from fleetctl.stamps import rfc3339, rfc3339_micro

PODS_A_SECOND = 50
"""Pods created, and as many deleted, within any second. The scheduler binds no faster."""
GRACE_S = 10
"""How long the trainer of a pod that we replace may take to stop, where its node lives."""
RESEND_S = 1.0
"""Messages that were not answered are sent again after so many seconds."""
LOOK_S = 5.0
"""While a gang gathers, deadlines are looked at so often."""
ALONE_AGAIN_S, ALONE_LATEST_S = 10.0, 300.0
"""While we only observe, a rank that keeps restarting is let in after so many seconds, then after twice as many."""
ALONE_FORGIVEN_S = 600.0
RECHECK_S = 10.0
"""A refused template is checked again after so many seconds: a quota may have been raised, a node upgraded."""
HISTORY = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the check of the template found: `problems` refuse the gang, `warnings` do not."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world as far as one gang goes.

    `acceptance` is None while the template has not been checked. `monotonic` is our own clock, seconds, for how long
    things take. `refused` is what the API server has been saying for a while to what we wanted.
    """

    gang: Gang
    generation: int
    status: GangStatus
    members: Sequence[Member]
    now: datetime
    writer: str
    fresh_ticket: str
    acceptance: Acceptance | None = None
    deleting: bool = False
    monotonic: float = 0.0
    zombies: Sequence[Zombie] = ()
    refused: str = ""


Aspect = tuple[str, bool, bool]
"""In which respect a member is waited for: uid of its pod, whether it stands at the barrier, whether it can be told."""


Pace = tuple[tuple[float, int], ...]
"""When pods were created (or deleted) in the last second, and how many."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the planner remembers between two plans.

    `waiting`: by rank, what is waited for, and since when. `alone`: by pod uid, how often it
    was let in alone, and when last. `created`, `deleted`: what counts against the pace.
    """

    round: attempt.Round | None = None
    gathered_at: datetime | None = None
    waiting: Mapping[int, tuple[Aspect, float]] = field(default_factory=dict)
    alone: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    created: Pace = ()
    deleted: Pace = ()

    def waited_s(self, rank: int, now: float) -> float:
        return now - self.waiting[rank][1] if rank in self.waiting else 0.0


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
    """Pods of these slots, labelled with the attempt they are created for, on other nodes than those to `avoid`."""

    slots: tuple[Slot, ...]
    attempt: int
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deletion:
    """One pod, exactly as it was seen. `grace_s` 0: its node is dead, nobody will confirm; None: the pod's own."""

    name: str
    uid: str
    version: str
    grace_s: int | None


@dataclass(frozen=True, slots=True)
class DeletePods:
    """Delete these pods, unless they have changed since."""

    pods: tuple[Deletion, ...]


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


@dataclass(frozen=True, slots=True)
class Prove:
    """Ask these lives to reach the coordinator's pod through its Service, where that life must answer."""

    uids: tuple[str, ...]
    coordinator_uid: str
    life_id: str


Action = WriteStatus | CreateCompanions | CreatePods | DeletePods | Reset | Prove | Ping | Release


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order; when to look again at the latest, seconds from now; why, in words; what to remember (None:
    what was remembered)."""

    actions: tuple[Action, ...] = ()
    wake_in: float | None = None
    reasons: tuple[str, ...] = ()
    memory: Memory | None = None


def plan(snapshot: Snapshot, memory: Memory) -> Plan:
    """The next step of this gang. Planning twice from one snapshot gives the same plan."""
    if snapshot.deleting:
        return Plan(reasons=("the gang is being deleted",))
    record = snapshot.status.attempt
    starting = record.target == 0 and not snapshot.gang.spec.suspend
    if starting and (refusal := _admission(snapshot)):
        return refusal
    memory = replace(memory, waiting=_waiting(snapshot, memory))
    spec = snapshot.gang.spec
    circumstances = Circumstances(
        released=Promise(attempt=record.released, ticket=record.ticket),
        target=record.target,
        fatal_codes=spec.recovery.fatal_codes,
        in_place_deadline_s=spec.recovery.in_place_deadline_seconds,
        recreate_deadline_s=spec.recovery.recreate_deadline_seconds,
    )
    missing = {m.rank: memory.waited_s(m.rank, snapshot.monotonic) for m in snapshot.members if not m.at_barrier}
    situation = attempt.Situation(
        record=record,
        members=snapshot.members,
        verdicts=diagnose(snapshot.members, circumstances, missing),
        writer=snapshot.writer,
        round=memory.round,
        finished=snapshot.status.finished,
        policy=spec.recovery,
        suspend=spec.suspend,
        coordinator=snapshot.gang.coordinator.rank,
        zombies=snapshot.zombies,
    )
    step = attempt.step(situation)
    decided = _PLANNERS[type(step)](snapshot, memory, step, situation)
    if record.writer == snapshot.writer:
        decided = _with_zombies_reset(snapshot, decided)
    return decided if decided.memory else replace(decided, memory=memory)


def _waiting(s: Snapshot, memory: Memory) -> Mapping[int, tuple[Aspect, float]]:
    """Since when each member has been waited for; one that stands at the barrier may still lack the path to the
    coordinator, once that stands there."""
    record = s.status.attempt
    if record.target == record.released:
        lost = (m.rank for m in s.members if m.lost_track_of)
        return {rank: memory.waiting.get(rank, (("", False, False), s.monotonic)) for rank in lost}
    out, coordinator = {}, s.members[s.gang.coordinator.rank]
    to = coordinator.pod.uid if coordinator.pod else ""
    for member in s.members:
        reaches = not coordinator.at_barrier or (member.life is not None and member.life.reaches == to)
        if member.at_barrier and (member is coordinator or reaches):
            continue
        can_be_told = member.life is not None and member.life.connected
        key = (member.pod.uid if member.pod else "", member.at_barrier, can_be_told)
        before = memory.waiting.get(member.rank)
        out[member.rank] = before if before and before[0] == key else (key, s.monotonic)
    return out


def _with_zombies_reset(s: Snapshot, decided: Plan) -> Plan:
    """A trainer whose pod was deleted must not go on in an attempt that is over. Its next life is parked."""
    target = s.status.attempt.target
    running = tuple(z.life.uid for z in s.zombies if z.runs and z.life.attempt < target)
    if not running:
        return decided
    wake_in = min(decided.wake_in or RESEND_S, RESEND_S)
    return replace(decided, actions=(*decided.actions, Reset(running, target)), wake_in=wake_in)


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


def _rest(s: Snapshot, memory: Memory, step: attempt.Rest, _: attempt.Situation) -> Plan:
    reasons = (step.because,)
    if step.running and s.status.holds("Held"):
        status = _with(s.status, s, ("Running", "True", "AllRanksReleased", step.because))
        return Plan((WriteStatus(status),), reasons=reasons)
    return Plan(wake_in=LOOK_S if memory.waiting else None, reasons=reasons)


def _take_over(s: Snapshot, memory: Memory, step: attempt.TakeOver, _: attempt.Situation) -> Plan:
    record = msgspec.structs.replace(s.status.attempt, writer=s.writer)
    status = msgspec.structs.replace(s.status, attempt=record)
    return Plan((WriteStatus(status),), reasons=(f"{s.writer} takes over from {s.status.attempt.writer}",))


def _raise_target(s: Snapshot, memory: Memory, step: attempt.RaiseTarget, situation: attempt.Situation) -> Plan:
    if step.verdict is None:
        return _resume(s) if s.status.attempt.target else _start(s)
    record, cause = s.status.attempt, _cause(step.verdict, situation.verdicts)
    ran_s = _since(record.released_at, s.now)
    spent = budget.spend(s.status.budgets, s.gang.spec.recovery.budgets, step.verdict, now=s.now, ran_s=ran_s)
    if isinstance(spent, str):
        return _ended(s, cause, "BudgetExhausted", f"{cause.message}; {spent}")
    raised = msgspec.structs.replace(_raised(s, cause), replacing=_names(step.victims))
    status = msgspec.structs.replace(s.status, attempt=raised, ranks=Ranks(total=len(s.members)), budgets=spent)
    return _recovering(s, status, bool(step.victims))


def _name_victims(s: Snapshot, memory: Memory, step: attempt.NameVictims, situation: attempt.Situation) -> Plan:
    record, verdicts = s.status.attempt, [v for _, v in step.victims]
    culprit = min(verdicts, key=lambda v: v.scope != "Node")
    cause = _cause(culprit, verdicts)
    paid_for = culprit.rule == "succeeded-too-early" or len(record.replacing) == REPLACING_MAX
    before, budgets = s.status.budgets, s.gang.spec.recovery.budgets
    spent = before if paid_for else budget.spend(before, budgets, culprit, now=s.now, ran_s=0.0)
    if isinstance(spent, str):
        return _ended(s, cause, "BudgetExhausted", f"{cause.message}; {spent}")
    deeper = record.cause is None or (culprit.scope == "Node" != record.cause.scope)
    named = msgspec.structs.replace(
        record,
        cause=cause if deeper else record.cause,
        replacing=[*situation.under_way, *_names(step.victims)],
    )
    return _recovering(s, msgspec.structs.replace(s.status, attempt=named, budgets=spent), True, cause.message)


def _recovering(s: Snapshot, status: GangStatus, recreate: bool, news: str = "") -> Plan:
    """The write that begins a recovery, or widens it."""
    cause, how = status.attempt.cause, "RecreatePod" if recreate else "RestartInPlace"
    message = f"attempt {status.attempt.target}: {cause.message if cause else ''}"
    told = f"attempt {status.attempt.target}: {news}" if news else message
    status = _with(status, s, ("Running", "False", "Recovering", message), ("Recovering", "True", how, message))
    return Plan((WriteStatus(status, Notice("Recovering", told, how, "Warning")),), reasons=(told,))


def _start(s: Snapshot) -> Plan:
    assert s.acceptance is not None  # noqa: S101  (plan looked)
    cause = Cause(scope="Start", rule="start", message="the gang starts")
    warned = "; ".join(s.acceptance.warnings)
    accepted = "AcceptedWithWarnings" if warned else "Accepted"
    status = _with(
        msgspec.structs.replace(s.status, attempt=_raised(s, cause), ranks=Ranks(total=len(s.members))),
        s,
        ("Accepted", "True", accepted, warned or "the template can run as a gang"),
        ("Suspended", "False", "Resumed", "the gang is not suspended"),
        ("Running", "False", "Starting", f"{len(s.members)} ranks gather for attempt 1"),
    )
    notice = Notice("TemplateWarning", warned, "Accept", "Warning") if warned else None
    return Plan((WriteStatus(status, notice),), reasons=(cause.message,))


def _suspend(s: Snapshot, memory: Memory, step: attempt.Suspend, _: attempt.Situation) -> Plan:
    record = s.status.attempt
    record = msgspec.structs.replace(record, replace_created_before=record.target + 1, replacing=[], writer=s.writer)
    message = "spec.suspend is true: the gang has no pods until it is false"
    status = _with(
        msgspec.structs.replace(s.status, attempt=record, ranks=Ranks(total=len(s.members))),
        s,
        ("Suspended", "True", "Suspended", message),
        ("Running", "False", "Suspended", message),
        ("Recovering", "False", "Suspended", message),
    )
    return Plan((WriteStatus(status, Notice("Suspended", message, "Suspend")),), reasons=(message,))


def _clear(s: Snapshot, memory: Memory, step: attempt.Clear, _: attempt.Situation) -> Plan:
    if not step.delete:
        return Plan(reasons=("suspended",))
    now, deleted = _at_pace(step.delete, memory.deleted, s.monotonic)
    return Plan(
        (_deletions(now),) if now else (),
        wake_in=RESEND_S,
        reasons=("suspended: its pods are deleted",),
        memory=replace(memory, deleted=deleted),
    )


def _resume(s: Snapshot) -> Plan:
    target = s.status.attempt.target + 1
    cause = Cause(scope="Resume", rule="resumed", message="the gang is resumed")
    message = f"attempt {target}: {cause.message}"
    status = _with(
        msgspec.structs.replace(s.status, attempt=_raised(s, cause), ranks=Ranks(total=len(s.members))),
        s,
        ("Suspended", "False", "Resumed", message),
        ("Running", "False", "Starting", message),
    )
    return Plan((WriteStatus(status, Notice("Resumed", message, "Resume")),), reasons=(message,))


def _gather(s: Snapshot, memory: Memory, step: attempt.Gather, situation: attempt.Situation) -> Plan:
    target, stuck = s.status.attempt.target, _obstacles(s, memory, situation)
    actions: list[Action] = []
    missing = f" for rank {ranges(m.rank for m in step.missing)}" if step.missing else ""
    reasons = [f"attempt {target} waits{missing}", *stuck]
    if stuck:
        actions += _held(s, "; ".join(stuck), "Waiting")
    elif s.status.holds("Held"):
        actions.append(_not_held(s))
    if step.reset:
        actions.append(Reset(_uids(step.reset), target))
        reasons.append(f"restarts in place: rank {ranges(m.rank for m in step.reset)}")
    if step.delete:
        doomed, deleted = _at_pace(step.delete, memory.deleted, s.monotonic)
        memory = replace(memory, deleted=deleted)
        if doomed:
            actions.append(_deletions(doomed))
            reasons.append(f"deletes the pods of rank {ranges(m.rank for m, _ in doomed)}")
    if step.prove:
        actions.append(_proof(s, step.prove))
        reasons.append(f"still to reach the coordinator: rank {ranges(m.rank for m in step.prove)}")
    if step.create:  # last: what the API server refuses must not keep the rest from happening
        now, created = _at_pace(step.create, memory.created, s.monotonic)
        memory = replace(memory, created=created)
        actions += _creations(s, now)
        later = len(step.create) - len(now)
        if now:
            reasons.append(f"creates the pods of rank {ranges(m.rank for m in now)}, {later} more later")
    return Plan(tuple(actions), wake_in=RESEND_S if actions else LOOK_S, reasons=tuple(reasons), memory=memory)


def _obstacles(s: Snapshot, memory: Memory, situation: attempt.Situation) -> tuple[str, ...]:
    service = f"Service {coordinator_service(s.gang)}, port {PROBE_PORT}"
    # whoever was proven dead, and may be replaced, waits for nobody's word
    replaced = {m.rank for m, verdict in situation.named if verdict.dead}
    late = (m for m in s.members if memory.waited_s(m.rank, s.monotonic) >= SOON_S and m.rank not in replaced)
    waiting = (
        Waiting(m, memory.waited_s(m.rank, s.monotonic), service)
        for m in late
        if not (m.at_barrier and situation.reaches_coordinator(m))
    )
    coordinator_waits = not s.members[situation.coordinator].at_barrier
    found = obstacles((w for w in waiting if not (w.member.at_barrier and coordinator_waits)), s.zombies)
    return (*found, s.refused) if s.refused else found


def _creations(s: Snapshot, members: Sequence[Member]) -> list[Action]:
    """Their pods, away from the nodes that are being left and those that nobody can speak for now."""
    if not members:
        return []
    suspect = {m.node.name for m in s.members if m.node and is_suspect(m.node)}
    avoid = suspect | {r.node for r in s.status.attempt.replacing if r.node}
    slots = tuple(s.gang.slots[m.rank] for m in members)
    return [CreateCompanions(), CreatePods(slots, s.status.attempt.target, tuple(sorted(avoid)))]


def _at_pace(items: Sequence[T], recent: Pace, now: float) -> tuple[Sequence[T], Pace]:
    """As many of them as the pace allows now, and what counts against it then."""
    recent = tuple((at, count) for at, count in recent if now < at + 1.0)
    chosen = items[: max(0, PODS_A_SECOND - sum(count for _, count in recent))]
    return chosen, (*recent, (now, len(chosen))) if chosen else recent


def _deletions(victims: Sequence[tuple[Member, Verdict | None]]) -> DeletePods:
    def grace_s(verdict: Verdict | None) -> int | None:
        return None if verdict is None else 0 if verdict.dead else GRACE_S

    return DeletePods(
        tuple(Deletion(m.pod.name, m.pod.uid, m.pod.version, grace_s(verdict)) for m, verdict in victims if m.pod)
    )


def _proof(s: Snapshot, members: Sequence[Member]) -> Prove:
    life = s.members[s.gang.coordinator.rank].life
    assert life is not None  # noqa: S101  (the coordinator stands at the barrier)
    return Prove(_uids(members), life.uid, life.life_id)


def _report(s: Snapshot, memory: Memory, step: attempt.Report, situation: attempt.Situation) -> Plan:
    record, now, alone, pinged = s.status.attempt, s.monotonic, dict(memory.alone), []
    cause = _cause(step.verdict, situation.verdicts)
    message = f"Observe: would begin attempt {record.target + 1}: {cause.message}; mode Enforce would let it"
    actions: list[Action] = list(_held(s, message, "Observe"))
    for member in step.alone:
        assert member.pod  # noqa: S101  (it stands at the barrier)
        times, at = alone.get(member.pod.uid, (0, 0.0))
        times = 0 if now > at + ALONE_FORGIVEN_S else times
        if times == 0 or now >= at + min(ALONE_LATEST_S, ALONE_AGAIN_S * 2.0 ** (times - 1)):
            alone[member.pod.uid] = (times + 1, now)
            pinged.append(member)
    if pinged:
        actions.append(Ping(_uids(pinged), situation.committed))
    if step.create:
        now_created, created = _at_pace(step.create, memory.created, now)
        memory = replace(memory, created=created)
        actions += _creations(s, now_created)
    return Plan(tuple(actions), wake_in=RESEND_S, reasons=(message,), memory=replace(memory, alone=alone))


def _ping_round(s: Snapshot, memory: Memory, step: attempt.PingRound, _: attempt.Situation) -> Plan:
    if step.fresh:
        lives = frozenset((m.life.uid, m.life.life_id) for m in step.members if m.life)
        asked = attempt.Round(Promise(attempt=s.status.attempt.target, ticket=s.fresh_ticket), lives)
        memory = replace(memory, round=asked, gathered_at=s.now)
    assert memory.round is not None  # noqa: S101  (a round that is not fresh is remembered)
    action = Ping(_uids(step.members), memory.round.promise)
    reason = f"everyone stands at the barrier; rank {ranges(m.rank for m in step.members)} is asked to promise"
    return Plan((action,), wake_in=RESEND_S, reasons=(reason,), memory=memory)


def _commit(s: Snapshot, memory: Memory, step: attempt.CommitRelease, _: attempt.Situation) -> Plan:
    record, size = s.status.attempt, len(s.members)
    cause = record.cause or Cause(scope="Unknown", rule="unknown", message="unknown")
    total = _since(record.started_at, s.now)
    barrier = min(total, _since(record.started_at, memory.gathered_at or s.now))
    begins = cause.scope in ("Start", "Resume")
    fresh = [m.rank for m in s.members if m.pod and m.pod.attempt == record.target and not begins]
    recovered = Recovered(
        attempt=step.promise.attempt,
        cause=cause,
        rung=_rung(cause, fresh),
        at=rfc3339(s.now),
        seconds=Seconds(barrier=round(barrier, 3), total=round(total, 3)),
        recreated=ranges(fresh),
    )
    message = f"{size} ranks run attempt {step.promise.attempt}"
    status = _with(
        msgspec.structs.replace(
            s.status,
            attempt=msgspec.structs.replace(
                record,
                released=step.promise.attempt,
                ticket=step.promise.ticket,
                replacing=[],
                replace_created_before=0,
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


def _rung(cause: Cause, fresh: Sequence[int]) -> Literal["Start", "Resume", "InPlace", "RecreatePod"]:
    if cause.scope == "Start" or cause.scope == "Resume":
        return cause.scope
    return "RecreatePod" if fresh else "InPlace"


def _release(s: Snapshot, memory: Memory, step: attempt.Release, _: attempt.Situation) -> Plan:
    record = s.status.attempt
    promise = Promise(attempt=record.released, ticket=record.ticket)
    reason = f"rank {ranges(m.rank for m in step.members)} is released into attempt {promise.attempt}"
    return Plan((Release(_uids(step.members), promise),), wake_in=RESEND_S, reasons=(reason,))


def _complete(s: Snapshot, memory: Memory, step: attempt.Complete, _: attempt.Situation) -> Plan:
    message = f"all {len(s.members)} ranks of attempt {s.status.attempt.released} exited 0"
    status = _with(
        s.status, s, ("Running", "False", "Completed", message), ("Completed", "True", "AllRanksExited0", message)
    )
    return Plan((WriteStatus(status, Notice("Completed", message, "Complete")),), reasons=(message,))


def _fail(s: Snapshot, memory: Memory, step: attempt.Fail, _: attempt.Situation) -> Plan:
    return _ended(s, _cause(step.verdict, ()), "FatalExit", step.verdict.because)


def _ended(s: Snapshot, cause: Cause, reason: str, message: str) -> Plan:
    record = msgspec.structs.replace(s.status.attempt, cause=cause)
    status = _with(
        msgspec.structs.replace(s.status, attempt=record),
        s,
        ("Running", "False", "Failed", message),
        ("Failed", "True", reason, message),
        ("Recovering", "False", "Failed", message),
    )
    return Plan((WriteStatus(status, Notice("Failed", message, "Fail", "Warning")),), reasons=(message,))


def _hold(s: Snapshot, memory: Memory, step: attempt.Hold, situation: attempt.Situation) -> Plan:
    trains = attempt.running(situation) and not situation.verdicts
    actions = tuple(_held(s, step.because, step.reason, trains=trains))
    # nobody is late who was told nothing meanwhile
    waiting = {} if attempt.paused(situation) else {r: w for r, w in memory.waiting.items() if not w[0][2]}
    return Plan(actions, reasons=(f"held: {step.because}",), memory=replace(memory, waiting=waiting))


def _held(s: Snapshot, because: str, reason: str, *, trains: bool = False) -> list[WriteStatus]:
    """The write that says so, unless it has been said. `trains`: all ranks run all the same."""
    held, released = s.status.condition("Held"), s.status.attempt.released
    said = held is not None and held.status == "True" and held.message == because
    if said and s.status.holds("Running") == trains:
        return []
    runs: _Change = ("Running", "False", "Held", because)
    if trains:
        runs = ("Running", "True", "AllRanksReleased", f"{len(s.members)} ranks run attempt {released}")
    status = _with(s.status, s, ("Held", "True", reason, because), runs)
    return [WriteStatus(status, None if said else Notice("Held", because, "Hold", "Warning"))]


def _not_held(s: Snapshot) -> WriteStatus:
    """The write that ends a hold while the gang gathers."""
    record = s.status.attempt
    message = f"attempt {record.target}" + (f": {record.cause.message}" if record.cause else "")
    return WriteStatus(
        _with(s.status, s, ("Running", "False", "Recovering" if record.released else "Starting", message))
    )


_PLANNERS: dict[type[attempt.Step], Callable[..., Plan]] = {
    attempt.Rest: _rest,
    attempt.TakeOver: _take_over,
    attempt.RaiseTarget: _raise_target,
    attempt.NameVictims: _name_victims,
    attempt.Suspend: _suspend,
    attempt.Clear: _clear,
    attempt.Report: _report,
    attempt.Gather: _gather,
    attempt.PingRound: _ping_round,
    attempt.CommitRelease: _commit,
    attempt.Release: _release,
    attempt.Complete: _complete,
    attempt.Fail: _fail,
    attempt.Hold: _hold,
}


def _raised(s: Snapshot, cause: Cause) -> AttemptRecord:
    target = 1 + max(s.status.attempt.target, *(m.latest_attempt for m in s.members))
    return msgspec.structs.replace(
        s.status.attempt, target=target, cause=cause, writer=s.writer, started_at=rfc3339_micro(s.now)
    )


def _cause(verdict: Verdict, verdicts: Sequence[Verdict]) -> Cause:
    """The verdict as the record keeps it; of a node with the ranks that are on it."""
    message = verdict.because
    if verdict.scope == "Node" and verdict.node:
        message += f" (rank {ranges({verdict.rank, *(v.rank for v in verdicts if v.node == verdict.node)})})"
    return Cause(scope=verdict.scope, rule=verdict.rule, rank=verdict.rank, message=message)


def _names(victims: Sequence[tuple[Member, Verdict]]) -> list[Replacing]:
    return [
        Replacing(rank=m.rank, uid=m.pod.uid, node=verdict.node, bad=attempt.accuses(m, verdict))
        for m, verdict in victims
        if m.pod
    ]


_Change = tuple[str, Literal["True", "False"], str, str]


def _with(status: GangStatus, s: Snapshot, *changes: _Change) -> GangStatus:
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
