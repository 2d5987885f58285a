"""From a snapshot to the verdicts that count now.

Diagnosis says what is wrong with each member; here is what the gang as a whole makes of it: whose word is not heeded
(yet), whether the breaker must open, what belongs to one incident, how the attempt does. What is done about it is
plan.py's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fleetctl.gang import breaker, incident, outcome, spares
from fleetctl.gang.diagnose import diagnose, likeliest_first
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.diagnose.machine import OF_ALL
from fleetctl.gang.diagnose.node_state import cut_off, silent_domain
from fleetctl.gang.diagnose.pod_state import is_well
from fleetctl.gang.snapshot import Aspect, Memory, Snapshot
from fleetctl.gang.state import Promise, Verdict

DOMAIN_BACK_S = 60.0
"""When the first nodes of a failure domain are back, the others have so long to follow."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`memory`: with what was learnt. `breaker`: the sentence of a breaker that is open; `opens`: of one that must open
    now. `in_doubt`: a node was called bad a moment ago."""

    verdicts: tuple[Verdict, ...]
    memory: Memory
    breaker: str = ""
    opens: str = ""
    in_doubt: bool = False


def judge(s: Snapshot, memory: Memory) -> Judgement:
    """What is wrong with the gang, and what of that counts."""
    ran = outcome.looked_at(memory.ran, s.status, len(s.members), s.steps, s.now, s.monotonic)
    released, silent = s.status.attempt.released, {m.node.name for m in s.members if m.node and m.node.silent}
    memory = replace(
        memory,
        waiting=_waiting(s, memory),
        ran=ran,
        silent=_silent(s, memory),
        unheard=s.monotonic if silent else memory.unheard,
        quiet={name: memory.quiet.get(name, s.monotonic) for name in sorted(silent)},
        well={name: memory.well.get(name, s.monotonic) for name in _well(s)},
        released=memory.released if memory.released[0] == released else (released, s.monotonic),
    )
    policy, latch = s.gang.spec.recovery, s.status.breaker
    if latch and policy.breaker.resets <= latch.resets:
        verdicts = _diagnosed(s, memory, distrusted=True)
        return Judgement(verdicts, replace(memory, seen=_seen(s, memory, verdicts)), breaker=latch.message)
    verdicts, unheeded = _diagnosed(s, memory), frozenset[str]()
    acts = policy.mode == "Enforce" and not policy.paused and not s.status.finished
    if acts and s.status.attempt.writer == s.writer:
        called = breaker.counted(memory.called, verdicts, policy.breaker, s.monotonic)
        if opens := _why_open(s, called, verdicts):
            return Judgement(verdicts, replace(memory, called={}), opens=opens)
        memory = replace(memory, called=called)
        if unheeded := breaker.unheeded(called, s.monotonic):
            verdicts = _diagnosed(s, memory, unheeded=unheeded)
    return Judgement(verdicts, replace(memory, seen=_seen(s, memory, verdicts)), in_doubt=bool(unheeded))


def _diagnosed(
    s: Snapshot, memory: Memory, *, distrusted: bool = False, unheeded: frozenset[str] = frozenset()
) -> tuple[Verdict, ...]:
    record, recovery = s.status.attempt, s.gang.spec.recovery
    circumstances = Circumstances(
        released=Promise(attempt=record.released, ticket=record.ticket),
        target=record.target,
        in_place_deadline_s=recovery.in_place_deadline_seconds,
        recreate_deadline_s=recovery.recreate_deadline_seconds,
        rules=recovery.rules,
        progress=recovery.progress,
        steps=s.steps,
        steps_before=s.status.furthest_step > 0,
        released_s=s.monotonic - memory.released[1],
        now=s.now.timestamp(),
        monotonic=s.monotonic,
        distrusted=distrusted,
        unheeded=unheeded,
        silent_domain=memory.silent[0],
        heard_s=s.monotonic - memory.unheard,
        spared=_spared(s),
        well_s={name: s.monotonic - since for name, since in memory.well.items()},
    )
    waited = ((rank, s.monotonic - since) for rank, (_, since) in memory.waiting.items())
    missing = {rank: seconds for rank, seconds in waited if not s.members[rank].at_barrier}
    verdicts = diagnose(s.members, circumstances, missing)
    condemned = {v.rank: v for v in _condemned(s) if not (distrusted and breaker.is_call(v))}
    if condemned:
        no_less = {v.rank: v for v in verdicts if v.rung != "InPlace"}
        verdicts = likeliest_first(({v.rank: v for v in verdicts} | condemned | no_less).values())
    return _explained(s, memory, verdicts)


def _spared(s: Snapshot) -> frozenset[str]:
    """The groups of which a spare could be taken; none if all ranks get new pods."""
    if s.status.attempt.replace_created_before:
        return frozenset()
    return frozenset(spare.group for spare in spares.usable(s.spares))


def _explained(s: Snapshot, memory: Memory, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """And what all of them may follow from, if a failure domain is silent and the likeliest of them is a victim."""
    domain = memory.silent[0]
    if not domain or not verdicts or not verdicts[0].follows:
        return verdicts
    found = cut_off(s.members, domain, verdicts)
    return likeliest_first((*verdicts, found)) if found else verdicts


def _condemned(s: Snapshot) -> list[Verdict]:
    """Of the pods that this target was raised to replace for what may be seen no more once the trainer
    restarts, or the first of them is gone: a machine's own fault, an exit that a user's rule is about."""
    record = s.status.attempt
    cause = record.cause
    if (
        cause is None
        or record.target == record.released
        or not (cause.rule in OF_ALL or cause.rule.startswith("user-rule-"))
    ):
        return []
    named = {r.rank: r for r in record.replacing if r.bad}
    pods = ((rank, s.members[rank].pod, r) for rank, r in named.items())
    return [
        Verdict(
            scope="Node" if cause.scope == "Node" else "Container",
            rule=cause.rule,
            rank=rank,
            because=cause.message,
            rung="RecreatePod",
            node=r.node,
        )
        for rank, pod, r in pods
        if pod is not None and pod.uid == r.uid and pod.attempt < record.target and not pod.terminal
    ]


def _waiting(s: Snapshot, memory: Memory) -> Mapping[int, tuple[Aspect, float]]:
    """Since when each member has been waited for; one that stands at the barrier may still lack the path to the
    coordinator, once that stands there."""
    record = s.status.attempt
    if record.target == record.released:
        lost = (m.rank for m in s.members if m.lost_track_of)
        return {rank: memory.waiting.get(rank, (("", False, False, True), s.monotonic)) for rank in lost}
    out, coordinator = {}, s.members[s.gang.coordinator.rank]
    to = coordinator.pod.uid if coordinator.pod else ""
    for member in s.members:
        reaches = not coordinator.at_barrier or (member.life is not None and member.life.reaches == to)
        if member.at_barrier and (member is coordinator or reaches):
            continue
        can_be_told = member.life is not None and member.life.connected
        pod = member.pod
        key = (pod.uid if pod else "", member.at_barrier, can_be_told, bool(pod and pod.node))
        before = memory.waiting.get(member.rank)
        out[member.rank] = before if before and before[0] == key else (key, s.monotonic)
    return out


def _well(s: Snapshot) -> list[str]:
    """The nodes that pods without a node must avoid, and need not any more."""
    if s.status.attempt.target == s.status.attempt.released:
        return []
    avoided = {node.name: node for m in s.members for node in m.avoided}
    return sorted(name for name, node in avoided.items() if is_well(node, s.now.timestamp()))


def _silent(s: Snapshot, memory: Memory) -> tuple[str, float]:
    """The failure domain that is silent, and when it last was: its nodes come back one by one."""
    if domain := silent_domain(s.members):
        return domain, s.monotonic
    return memory.silent if s.monotonic < memory.silent[1] + DOMAIN_BACK_S else ("", 0.0)


def _seen(s: Snapshot, memory: Memory, verdicts: Sequence[Verdict]) -> incident.Seen:
    """What belongs to the incident that the gang is in; while it runs, what is wrong now."""
    if s.status.attempt.target > s.status.attempt.released:
        seen = incident.remembered(memory.seen, verdicts, gathering=True)
        # peers may abort before anybody is missed
        return {v.rank: v for v in _explained(s, memory, likeliest_first(seen.values()))} if memory.silent[0] else seen
    return {v.rank: v for v in verdicts}


def _why_open(s: Snapshot, called: breaker.Called, verdicts: Sequence[Verdict]) -> str:
    """The sentence of the breaker, if it must open."""
    policy, calls = s.gang.spec.recovery.breaker, [v for v in verdicts if breaker.is_call(v)]
    if not calls:
        return ""
    nodes = {m.pod.node for m in s.members if m.pod and m.pod.node} | called.keys()
    allowed = policy.allows(len(nodes))
    if len(called) <= allowed:
        return ""
    reset = breaker.reset_command(s.gang.namespace, s.gang.name, policy.resets)
    return breaker.why_open(called, allowed, policy, calls[0].because, reset)
