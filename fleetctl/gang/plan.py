"""What should happen to a gang now: plan(snapshot, memory) -> Plan.

A plan is a value that explains itself: actions in their order (a failing one ends the plan), when to look again, and
the sentences that the log, the Events and the status show. Memory is a cache: losing it may delay a decision, never
make an unsafe one.

`attempt.py` says which step comes next; here it meets what is not the attempt's business: admission of the template,
budgets, conditions, history, pace.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from fleetctl.gang import attempt, breaker, budget, incident, outcome, quarantine, spares
from fleetctl.gang.actions import (
    Action,
    Notice,
    Ping,
    Plan,
    Prove,
    QuarantineNodes,
    Release,
    Reset,
    StrikeNode,
    WriteStatus,
)
from fleetctl.gang.conditions import Change, seconds_since, with_conditions
from fleetctl.gang.diagnose import likeliest_first
from fleetctl.gang.diagnose.node_state import DOMAIN_SILENT
from fleetctl.gang.judgement import judge
from fleetctl.gang.obstacle import SOON_S, Waiting, obstacles
from fleetctl.gang.pods import PROBE_PORT, coordinator_service
from fleetctl.gang.recreate import at_pace, creations, deletions, is_a_trap, made, with_spares
from fleetctl.gang.snapshot import Memory, Snapshot
from fleetctl.gang.spec import (
    REPLACING_MAX,
    AttemptRecord,
    Cause,
    GangStatus,
    Incident,
    Latch,
    Outcome,
    Ranks,
    Recovered,
    Replacing,
    Seconds,
)
from fleetctl.gang.state import Member, Node, Promise, Rung, Strike, Verdict, ranges
from fleetctl.stamps import rfc3339, rfc3339_micro

RESEND_S = 1.0
"""Messages that were not answered are sent again after so many seconds."""
LOOK_S = 5.0
"""While a gang gathers, deadlines are looked at so often."""
HELD_AGAIN_S = 10.0
"""What holds a gang up is told anew after so many seconds at the earliest: as it comes and goes for one node, and one
rank, after the other, each change would be a write and an Event."""
ALONE_AGAIN_S, ALONE_LATEST_S = 10.0, 300.0
"""While we only observe, a rank that keeps restarting is let in after so many seconds, then after twice as many."""
ALONE_FORGIVEN_S = 600.0
RECHECK_S = 10.0
"""A refused template is checked again after so many seconds: a quota may have been raised, a node upgraded."""
HISTORY = 20


def plan(snapshot: Snapshot, memory: Memory) -> Plan:
    """The next step of this gang. Planning twice from one snapshot gives the same plan."""
    if snapshot.deleting:
        return Plan(reasons=("the gang is being deleted",))
    record = snapshot.status.attempt
    starting = record.target == 0 and not snapshot.gang.spec.suspend
    if starting and (refusal := _admission(snapshot)):
        return refusal
    judged = judge(snapshot, memory)
    memory, spec = judged.memory, snapshot.gang.spec
    if judged.opens:
        return replace(_breaker_opens(snapshot, judged.opens), memory=memory)
    situation = attempt.Situation(
        record=record,
        members=snapshot.members,
        verdicts=judged.verdicts,
        writer=snapshot.writer,
        round=memory.round,
        finished=snapshot.status.finished,
        policy=spec.recovery,
        suspend=spec.suspend,
        coordinator=snapshot.gang.coordinator.rank,
        zombies=snapshot.zombies,
        breaker=judged.breaker,
        in_doubt=judged.in_doubt,
    )
    step = attempt.step(situation)
    decided = _PLANNERS[type(step)](snapshot, memory, step, situation)
    if record.writer == snapshot.writer:
        decided = _with_zombies_reset(snapshot, decided)
        decided = _with_spares(snapshot, decided.memory or memory, decided, step)
    if judged.in_doubt:
        decided = replace(decided, wake_in=min(decided.wake_in or breaker.HEED_S, breaker.HEED_S))
    if not isinstance(step, attempt.Hold) and not judged.breaker:
        decided = _with_quarantine(snapshot, judged.verdicts, decided, decided.memory or memory)
    return decided if decided.memory else replace(decided, memory=memory)


def _breaker_opens(s: Snapshot, because: str) -> Plan:
    latch = Latch(since=rfc3339(s.now), message=because, resets=s.gang.spec.recovery.breaker.resets)
    status = msgspec.structs.replace(s.status, breaker=latch)
    status = with_conditions(status, s, ("Held", "True", "BreakerOpen", because))
    return Plan((WriteStatus(status, Notice("BreakerOpen", because, "Hold", "Warning")),), reasons=(because,))


def _with_zombies_reset(s: Snapshot, decided: Plan) -> Plan:
    """A trainer whose pod was deleted must not go on in an attempt that is over. Its next life is parked."""
    target = s.status.attempt.target
    running = tuple(z.life.uid for z in s.zombies if z.runs and z.life.attempt < target)
    if not running:
        return decided
    wake_in = min(decided.wake_in or RESEND_S, RESEND_S)
    return replace(decided, actions=(*decided.actions, Reset(running, target)), wake_in=wake_in)


def _with_quarantine(s: Snapshot, verdicts: Sequence[Verdict], decided: Plan, memory: Memory) -> Plan:
    """Machines that are judged bad get no new pods: all of them at once, however many pods may be replaced at a time.
    Who wrote the record before is heard first."""
    policy = s.gang.spec.recovery
    writes = s.status.attempt.writer == s.writer and not s.status.finished
    if not writes or policy.mode != "Enforce" or policy.paused or policy.quarantine.off:
        return decided
    accused = quarantine.accused(verdicts)
    shown = {m.node.name for m in s.members if m.node and m.node.quarantined} if accused else set()
    due = [
        each
        for each in accused
        if each.node not in memory.asked
        or (each.node not in shown and s.monotonic >= memory.asked[each.node] + quarantine.AGAIN_S)
    ]
    now = dict.fromkeys((each.node for each in due), s.monotonic)
    asked = {each.node: memory.asked.get(each.node, s.monotonic) for each in accused} | now
    if asked == memory.asked:
        return decided
    first = sum(isinstance(action, WriteStatus) for action in decided.actions[:1])
    actions = decided.actions[:first] + ((QuarantineNodes(tuple(due)),) if due else ()) + decided.actions[first:]
    return replace(decided, actions=actions, memory=replace(memory, asked=asked))


def _with_spares(s: Snapshot, memory: Memory, decided: Plan, step: attempt.Step) -> Plan:
    """While the gang gathers they are there to be taken; once it has ended, or is suspended, there are none."""
    runs = isinstance(step, attempt.Rest) and step.running
    over = s.status.finished or isinstance(step, attempt.Clear)
    if not (runs or over) or s.gang.spec.recovery.mode == "Observe":
        return decided
    return with_spares(s, memory, decided, runs=runs)


def _admission(s: Snapshot) -> Plan | None:
    if s.acceptance is None:
        return Plan(reasons=("the template is being checked",))
    if not s.acceptance.problems:
        return None
    message = "; ".join(s.acceptance.problems)
    refused = s.status.condition("Accepted")
    if refused and refused.status == "False" and refused.message == message:
        return Plan(wake_in=RECHECK_S, reasons=(f"refused: {message}",))
    status = with_conditions(
        msgspec.structs.replace(s.status, ranks=Ranks(total=s.gang.spec.size)),
        s,
        ("Accepted", "False", "NotAccepted", message),
        ("Running", "False", "NotAccepted", message),
    )
    notice = Notice("NotAccepted", message, "Accept", "Warning")
    return Plan((WriteStatus(status, notice),), wake_in=RECHECK_S, reasons=(f"refused: {message}",))


def _rest(s: Snapshot, memory: Memory, step: attempt.Rest, _: attempt.Situation) -> Plan:
    reasons, status = (step.because,), s.status
    if step.running and memory.ran.first_step_s and status.history and not status.history[0].outcome.first_step:
        status = _with_outcome(status, Outcome(first_step=round(memory.ran.first_step_s, 3)))
    changes: list[Change] = []
    if step.running and s.status.holds("Held"):
        changes.append(("Running", "True", "AllRanksReleased", step.because))
    slow = outcome.straggling(memory.ran, s.status.holds("Straggling"), s.monotonic) if step.running else None
    if slow is not None:
        changes.append(("Straggling", "True" if slow else "False", "SlowRanks" if slow else "NoSlowRanks", slow))
    if status is not s.status or changes:
        notice = Notice("Straggling", slow, "Report", "Warning") if slow else None
        return Plan(
            (WriteStatus(with_conditions(status, s, *changes), notice),), reasons=(*reasons, slow) if slow else reasons
        )
    watches = memory.waiting or (step.running and (s.steps or s.status.furthest_step))
    return Plan(wake_in=LOOK_S if watches else None, reasons=reasons)


def _take_over(s: Snapshot, memory: Memory, step: attempt.TakeOver, _: attempt.Situation) -> Plan:
    record = msgspec.structs.replace(s.status.attempt, writer=s.writer)
    status = msgspec.structs.replace(s.status, attempt=record)
    return Plan((WriteStatus(status),), reasons=(f"{s.writer} takes over from {s.status.attempt.writer}",))


def _raise_target(s: Snapshot, memory: Memory, step: attempt.RaiseTarget, situation: attempt.Situation) -> Plan:
    if step.verdict is None:
        return _resume(s) if s.status.attempt.target else _start(s)
    verdict, ran = step.verdict, memory.ran
    cause = _cause(verdict, situation)
    before = _with_end_of_attempt(s, ran)
    spent = budget.spend(
        before.budgets, s.gang.spec.recovery.budgets, verdict, now=s.now, progressed=_progressed(s, ran)
    )
    if isinstance(spent, str):
        alike = incident.same_root(situation.verdicts)
        message = "; ".join(filter(None, (cause.message, alike, spent)))
        return _ended(s, cause, _last_incident(s, memory, verdict, spent), "BudgetExhausted", message)
    raised = msgspec.structs.replace(
        _raised(s, cause),
        replacing=_names(step.victims),
        incident=_incident(s, memory, verdict, len(s.members) if step.all_anew else len(step.victims)),
    )
    if step.all_anew:
        raised = msgspec.structs.replace(raised, replace_created_before=raised.target)
    status = msgspec.structs.replace(before, attempt=raised, ranks=Ranks(total=len(s.members)), budgets=spent)
    decided = _recovering(s, status, "RecreateGang" if step.all_anew else _how(bool(step.victims)))
    return replace(decided, memory=replace(memory, ran=outcome.ended(ran), left=_left(memory, situation)))


def _recreate_all(s: Snapshot, memory: Memory, step: attempt.RecreateAll, situation: attempt.Situation) -> Plan:
    record, cause = s.status.attempt, _cause(step.verdict, situation)
    named = msgspec.structs.replace(
        record,
        cause=cause,
        replace_created_before=record.target,
        incident=_incident(s, memory, step.verdict, len(s.members)),
    )
    return _recovering(s, msgspec.structs.replace(s.status, attempt=named), "RecreateGang", cause.message)


def _with_end_of_attempt(s: Snapshot, ran: outcome.Ran) -> GangStatus:
    """The status, with what came of the attempt that has just ended."""
    record, status = s.status.attempt, s.status
    if record.target > record.released or not status.history:
        return status
    told = msgspec.structs.replace(
        status.history[0].outcome,
        warm_up=round(ran.warm_up_s, 3),
        ran=round(seconds_since(record.released_at, s.now), 3),
    )
    return msgspec.structs.replace(_with_outcome(status, told), furthest_step=max(status.furthest_step, ran.reached))


def _with_outcome(status: GangStatus, told: Outcome) -> GangStatus:
    latest, *earlier = status.history
    return msgspec.structs.replace(status, history=[msgspec.structs.replace(latest, outcome=told), *earlier])


def _progressed(s: Snapshot, ran: outcome.Ran) -> bool:
    """Whether the attempt that has just ended got further than all before it."""
    if s.status.attempt.target > s.status.attempt.released:
        return False
    if ran.reached or s.status.furthest_step:
        return outcome.got_further(ran, s.status.furthest_step)
    return seconds_since(s.status.attempt.released_at, s.now) >= budget.PROGRESS_S


def _incident(s: Snapshot, memory: Memory, culprit: Verdict, recreated: int) -> Incident:
    rung: Rung = "RecreatePod" if recreated and culprit.rung == "InPlace" else culprit.rung
    recreated = recreated or int(rung == "RecreatePod")  # also one that somebody else deletes already
    refused = incident.refused(culprit, rung, ranks=len(s.members), recreated=recreated)
    return incident.told(culprit, memory.seen, refused, before=s.status.attempt.incident)


def _name_victims(s: Snapshot, memory: Memory, step: attempt.NameVictims, situation: attempt.Situation) -> Plan:
    record, culprit = s.status.attempt, likeliest_first(v for _, v in step.victims)[0]
    cause = _cause(culprit, situation)
    paid_for = culprit.rule == "succeeded-too-early" or len(record.replacing) == REPLACING_MAX
    before, budgets = s.status.budgets, s.gang.spec.recovery.budgets
    spent = before if paid_for else budget.spend(before, budgets, culprit, now=s.now, progressed=False)
    if isinstance(spent, str):
        found = _last_incident(s, memory, culprit, spent)
        return _ended(s, cause, found, "BudgetExhausted", f"{cause.message}; {spent}")
    deeper = record.cause is None or (culprit.scope == "Node" != record.cause.scope)
    named = msgspec.structs.replace(
        record,
        cause=cause if deeper else record.cause,
        replacing=[*situation.under_way, *_names(step.victims)],
        incident=_incident(s, memory, culprit, len(situation.under_way) + len(step.victims)),
    )
    status = msgspec.structs.replace(s.status, attempt=named, budgets=spent)
    decided = _recovering(s, status, _how(True), cause.message)
    return replace(decided, memory=replace(memory, left=_left(memory, situation)))


def _left(memory: Memory, situation: attempt.Situation) -> dict[int, Node]:
    """The nodes that ranks are about to leave, and those that they have left in this recovery."""
    leaving = {v.rank: situation.members[v.rank].node for v in situation.verdicts if v.rung != "InPlace"}
    return {**memory.left, **{rank: node for rank, node in leaving.items() if node is not None}}


def _how(recreate: bool) -> str:
    return "RecreatePod" if recreate else "RestartInPlace"


def _recovering(s: Snapshot, status: GangStatus, how: str, news: str = "") -> Plan:
    """The write that begins a recovery, or widens it."""
    cause = status.attempt.cause
    message = f"attempt {status.attempt.target}: {cause.message if cause else ''}"
    told = f"attempt {status.attempt.target}: {news}" if news else message
    status = with_conditions(
        status, s, ("Running", "False", "Recovering", message), ("Recovering", "True", how, message)
    )
    return Plan((WriteStatus(status, Notice("Recovering", told, how, "Warning")),), reasons=(told,))


def _start(s: Snapshot) -> Plan:
    assert s.acceptance is not None  # noqa: S101  (plan looked)
    cause = Cause(scope="Start", rule="start", message="the gang starts")
    warned = "; ".join(s.acceptance.warnings)
    accepted = "AcceptedWithWarnings" if warned else "Accepted"
    status = with_conditions(
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
    status = with_conditions(
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
    now, deleted = at_pace(step.delete, memory.deleted, s.monotonic)
    return Plan(
        (deletions(now),) if now else (),
        wake_in=RESEND_S,
        reasons=("suspended: its pods are deleted",),
        memory=replace(memory, deleted=deleted),
    )


def _resume(s: Snapshot) -> Plan:
    target = s.status.attempt.target + 1
    cause = Cause(scope="Resume", rule="resumed", message="the gang is resumed")
    message = f"attempt {target}: {cause.message}"
    status = with_conditions(
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
        held, memory = _held(s, memory, "; ".join(stuck), "Waiting")
        actions += held
    elif s.status.holds("Held"):
        actions.append(_not_held(s))
    if step.reset:
        actions.append(Reset(_uids(step.reset), target))
        reasons.append(f"restarts in place: rank {ranges(m.rank for m in step.reset)}")
    if delete := [(m, verdict) for m, verdict in step.delete if not is_a_trap(s, m, verdict)]:
        doomed, deleted = at_pace(delete, memory.deleted, s.monotonic)
        memory = replace(memory, deleted=deleted)
        if doomed:
            actions.append(deletions(doomed))
            reasons.append(f"deletes the pods of rank {ranges(m.rank for m, _ in doomed)}")
    if step.prove:
        actions.append(_proof(s, step.prove))
        reasons.append(f"still to reach the coordinator: rank {ranges(m.rank for m in step.prove)}")
    if step.create or memory.taken.by:  # last: what the API server refuses must not keep the rest from happening
        pods, told, memory = made(s, memory, step.create)
        actions += pods
        reasons += told
    return Plan(tuple(actions), wake_in=RESEND_S if actions else LOOK_S, reasons=tuple(reasons), memory=memory)


def _quiet_s(s: Snapshot, memory: Memory, member: Member) -> float:
    since = memory.quiet.get(member.node.name) if member.node else None
    return 0.0 if since is None else s.monotonic - since


def _obstacles(s: Snapshot, memory: Memory, situation: attempt.Situation) -> tuple[str, ...]:
    service = f"Service {coordinator_service(s.gang)}, port {PROBE_PORT}"
    # whoever was proven dead, and may be replaced, waits for nobody's word
    replaced = {m.rank for m, verdict in situation.named if verdict.dead}
    late = (m for m in s.members if memory.waited_s(m.rank, s.monotonic) >= SOON_S and m.rank not in replaced)
    spared = {spare.group for spare in spares.usable(s.spares)}
    out_of_spares = {group.name for group in s.gang.spec.groups if group.spares and group.name not in spared}
    waiting = (
        Waiting(m, memory.waited_s(m.rank, s.monotonic), service, m.group in out_of_spares, _quiet_s(s, memory, m))
        for m in late
        if not (m.at_barrier and situation.reaches_coordinator(m))
    )
    coordinator_waits = not s.members[situation.coordinator].at_barrier
    found = obstacles((w for w in waiting if not (w.member.at_barrier and coordinator_waits)), s.zombies)
    return (*found, *filter(None, (s.refused, situation.breaker)))


def _proof(s: Snapshot, members: Sequence[Member]) -> Prove:
    life = s.members[s.gang.coordinator.rank].life
    assert life is not None  # noqa: S101  (the coordinator stands at the barrier)
    return Prove(_uids(members), life.uid, life.life_id)


def _report(s: Snapshot, memory: Memory, step: attempt.Report, situation: attempt.Situation) -> Plan:
    record, now, alone, pinged = s.status.attempt, s.monotonic, dict(memory.alone), []
    cause = _cause(step.verdict, situation)
    message = f"Observe: would begin attempt {record.target + 1}: {cause.message}; mode Enforce would let it"
    told, memory = _held(s, memory, message, "Observe")
    actions: list[Action] = list(told)
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
        now_created, created = at_pace(step.create, memory.created, now)
        memory = replace(memory, created=created)
        actions += creations(s, now_created)
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
    cause, found, strikes = _settled(s, memory)
    total = seconds_since(record.started_at, s.now)
    barrier = min(total, seconds_since(record.started_at, memory.gathered_at or s.now))
    begins = cause.scope in ("Start", "Resume")
    fresh = [m.rank for m in s.members if m.pod and m.pod.attempt == record.target and not begins]
    recovered = Recovered(
        attempt=step.promise.attempt,
        cause=cause,
        rung=_rung(record, cause, fresh),
        at=rfc3339(s.now),
        seconds=Seconds(barrier=round(barrier, 3), total=round(total, 3)),
        recreated=ranges(fresh),
        placed=memory.taken.because,
        incident=found,
    )
    message = f"{size} ranks run attempt {step.promise.attempt}"
    status = with_conditions(
        msgspec.structs.replace(
            s.status,
            attempt=msgspec.structs.replace(
                record,
                released=step.promise.attempt,
                ticket=step.promise.ticket,
                replacing=[],
                replace_created_before=0,
                released_at=rfc3339_micro(s.now),
                incident=None,
            ),
            ranks=Ranks(total=size, released=size),
            history=[recovered, *s.status.history][:HISTORY],
        ),
        s,
        ("Running", "True", "AllRanksReleased", message),
        ("Recovering", "False", "Released", message),
    )
    notice = Notice("Released", f"{message}, {total:.1f} s after: {cause.message}", "Release")
    actions: tuple[Action, ...] = (WriteStatus(status, notice), Release(_uids(s.members), step.promise), *strikes)
    return Plan(
        actions, wake_in=RESEND_S, reasons=(message,), memory=replace(memory, seen={}, left={}, taken=spares.NONE_TAKEN)
    )


def _settled(s: Snapshot, memory: Memory) -> tuple[Cause, Incident | None, tuple[StrikeNode, ...]]:
    """The cause, the incident and what it counts against, now that all is seen that there will be: the culprit may have
    reported late."""
    record = s.status.attempt
    cause = record.cause or Cause(scope="Unknown", rule="unknown", message="unknown")
    rank = cause.rank
    if record.incident is None or rank is None or rank not in memory.seen:
        return cause, record.incident, ()
    culprit = likeliest_first(memory.seen.values())[0]
    if culprit.rank != rank and (culprit.scope == cause.scope or culprit.rule == DOMAIN_SILENT):
        cause = msgspec.structs.replace(
            cause,
            scope=culprit.scope,
            rank=culprit.rank,
            rule=culprit.rule,
            message=culprit.because,
            node=_node_of(s.members, culprit),
        )
    else:
        culprit = memory.seen[rank]
    found = incident.told(culprit, memory.seen, record.incident.refused, before=record.incident)
    node = incident.machine_to_blame(culprit, memory.seen)
    who = f"{s.gang.namespace}/{s.gang.name}/{culprit.rank}"
    strike = Strike(at=int(s.now.timestamp()), rule=culprit.rule, who=who)
    return cause, found, (StrikeNode(node, strike),) if node else ()


def _rung(
    record: AttemptRecord, cause: Cause, fresh: Sequence[int]
) -> Literal["Start", "Resume", "InPlace", "RecreatePod", "RecreateGang"]:
    if cause.scope == "Start" or cause.scope == "Resume":
        return cause.scope
    return "RecreateGang" if record.replace_created_before else "RecreatePod" if fresh else "InPlace"


def _release(s: Snapshot, memory: Memory, step: attempt.Release, _: attempt.Situation) -> Plan:
    record = s.status.attempt
    promise = Promise(attempt=record.released, ticket=record.ticket)
    reason = f"rank {ranges(m.rank for m in step.members)} is released into attempt {promise.attempt}"
    return Plan((Release(_uids(step.members), promise),), wake_in=RESEND_S, reasons=(reason,))


def _complete(s: Snapshot, memory: Memory, step: attempt.Complete, _: attempt.Situation) -> Plan:
    message = f"all {len(s.members)} ranks of attempt {s.status.attempt.released} exited 0"
    status = with_conditions(
        s.status, s, ("Running", "False", "Completed", message), ("Completed", "True", "AllRanksExited0", message)
    )
    return Plan((WriteStatus(status, Notice("Completed", message, "Complete")),), reasons=(message,))


def _fail(s: Snapshot, memory: Memory, step: attempt.Fail, situation: attempt.Situation) -> Plan:
    found = _last_incident(s, memory, step.verdict, "a rule of the gang ends it")
    return _ended(s, _cause(step.verdict, situation), found, "FatalExit", step.verdict.because)


def _last_incident(s: Snapshot, memory: Memory, culprit: Verdict, why_no_more: str) -> Incident:
    refused = (f"RestartInPlace: {why_no_more}",)
    return incident.told(culprit, memory.seen, refused, before=s.status.attempt.incident)


def _ended(s: Snapshot, cause: Cause, found: Incident, reason: str, message: str) -> Plan:
    record = msgspec.structs.replace(s.status.attempt, cause=cause, incident=found)
    status = with_conditions(
        msgspec.structs.replace(s.status, attempt=record),
        s,
        ("Running", "False", "Failed", message),
        ("Failed", "True", reason, message),
        ("Recovering", "False", "Failed", message),
    )
    return Plan((WriteStatus(status, Notice("Failed", message, "Fail", "Warning")),), reasons=(message,))


def _hold(s: Snapshot, memory: Memory, step: attempt.Hold, situation: attempt.Situation) -> Plan:
    trains = attempt.running(situation) and not situation.verdicts
    told, memory = _held(s, memory, step.because, step.reason, trains=trains)
    # nobody is late who was told nothing meanwhile
    waiting = {} if attempt.paused(situation) else {r: w for r, w in memory.waiting.items() if not w[0][2]}
    held = s.status.condition("Held")
    wake_in = LOOK_S if not told and held and held.message != step.because else None  # that is told later
    return Plan(
        tuple(told), wake_in=wake_in, reasons=(f"held: {step.because}",), memory=replace(memory, waiting=waiting)
    )


def _held(
    s: Snapshot, memory: Memory, because: str, reason: str, *, trains: bool = False
) -> tuple[list[WriteStatus], Memory]:
    """The write that says so, unless it has been said, or much the same a moment ago. `trains`: all ranks run all the
    same."""
    held, released = s.status.condition("Held"), s.status.attempt.released
    said = held is not None and held.status == "True" and held.message == because
    alike = held is not None and held.status == "True" and held.reason == reason
    soon = alike and s.monotonic < memory.held + HELD_AGAIN_S
    if (said or soon) and s.status.holds("Running") == trains:
        return [], memory
    runs: Change = ("Running", "False", "Held", because)
    if trains:
        runs = ("Running", "True", "AllRanksReleased", f"{len(s.members)} ranks run attempt {released}")
    status = with_conditions(s.status, s, ("Held", "True", reason, because), runs)
    notice = None if said else Notice("Held", because, "Hold", "Warning")
    return [WriteStatus(status, notice)], replace(memory, held=s.monotonic)


def _not_held(s: Snapshot) -> WriteStatus:
    """The write that ends a hold while the gang gathers."""
    record = s.status.attempt
    message = f"attempt {record.target}" + (f": {record.cause.message}" if record.cause else "")
    return WriteStatus(
        with_conditions(s.status, s, ("Running", "False", "Recovering" if record.released else "Starting", message))
    )


_PLANNERS: dict[type[attempt.Step], Callable[..., Plan]] = {
    attempt.Rest: _rest,
    attempt.TakeOver: _take_over,
    attempt.RaiseTarget: _raise_target,
    attempt.RecreateAll: _recreate_all,
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


def _cause(verdict: Verdict, situation: attempt.Situation) -> Cause:
    """The verdict as the record keeps it; of a node with the ranks that are on it."""
    message, node = verdict.because, _node_of(situation.members, verdict)
    if verdict.scope == "Node" and verdict.node:
        there = {v.rank for v in situation.verdicts if v.node == verdict.node}
        message += f" (rank {ranges({verdict.rank, *there})})"
    return Cause(scope=verdict.scope, rule=verdict.rule, rank=verdict.rank, message=message, node=node)


def _node_of(members: Sequence[Member], verdict: Verdict) -> str:
    pod = members[verdict.rank].pod
    return verdict.node or (pod.node if pod and verdict.rule != DOMAIN_SILENT else "")


def _names(victims: Sequence[tuple[Member, Verdict]]) -> list[Replacing]:
    return [
        Replacing(rank=m.rank, uid=m.pod.uid, node=verdict.node, bad=attempt.accuses(m, verdict))
        for m, verdict in victims
        if m.pod
    ]


def _uids(members: Sequence[Member]) -> tuple[str, ...]:
    return tuple(m.life.uid for m in members if m.life)
