"""Pods that go and pods that come: at which pace, on which nodes, and where spares make room.

Deletes and creates only what attempt.py named; knows nothing of why, nor of what the record says of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import TypeVar

from fleetctl.gang import spares
from fleetctl.gang.actions import Action, CreateCompanions, CreatePods, CreateSpares, DeletePods, Deletion, Plan
from fleetctl.gang.diagnose.node_state import is_suspect
from fleetctl.gang.snapshot import Memory, Pace, Snapshot
from fleetctl.gang.state import Member, Spare, Verdict, ranges

PODS_A_SECOND = 50
"""Pods created, and as many deleted, within any second. The scheduler binds no faster."""
GRACE_S = 10
"""How long the trainer of a pod that we replace may take to stop, where its node lives."""
SETTLED_S = 30.0
"""Spares are made anew once the gang has run for so long: a machine that died has its taint by then."""
TRIED_AGAIN_S = 60.0
"""A spare that was turned away by its node, or put out, is tried again so much later."""
REFILL_S = 5.0
"""Spares that are missing are made so often at most: a quota may refuse them."""
BETWEEN_LOOKS_S = 1.0
"""At least, while spares are due."""

T = TypeVar("T")


def made(s: Snapshot, memory: Memory, lost: Sequence[Member]) -> tuple[list[Action], list[str], Memory]:
    """Pods for those that have none: spares make room for as many as there are, the scheduler finds it for the rest."""
    taken, actions, reasons = _taken(s, memory, lost), list[Action](), list[str]()
    if taken.because != memory.taken.because:
        reasons.append(taken.because)
    there = {spare.uid: spare for spare in s.spares}
    waits = {rank: there[spare.uid] for rank, spare in taken.by.items() if spare.uid in there}
    doomed, deleted = at_pace(tuple(waits.values()), memory.deleted, s.monotonic)
    if doomed:
        actions.append(_spares_deleted(doomed))
    due = [m for m in lost if m.rank not in waits]
    now, created = at_pace(due, memory.created, s.monotonic)
    if now:
        actions += creations(s, now, taken)
        reasons.append(f"creates the pods of rank {ranges(m.rank for m in now)}, {len(lost) - len(now)} more later")
    return actions, reasons, replace(memory, created=created, deleted=deleted, taken=taken)


def _taken(s: Snapshot, memory: Memory, lost: Sequence[Member]) -> spares.Taken:
    """None if all ranks get new pods: then there is nobody to be near."""
    if s.status.attempt.replace_created_before:
        return spares.NONE_TAKEN
    ranks, avoid = [m.rank for m in lost], _avoided(s)
    return spares.take(ranks, s.gang, s.members, s.spares, left=memory.left, avoid=avoid, before=memory.taken)


def _avoided(s: Snapshot) -> set[str]:
    """The nodes that are being left and those that nobody can speak for now."""
    suspect = {m.node.name for m in s.members if m.node and is_suspect(m.node)}
    return suspect | {r.node for r in s.status.attempt.replacing if r.node}


def creations(s: Snapshot, members: Sequence[Member], taken: spares.Taken = spares.NONE_TAKEN) -> list[Action]:
    """Their pods: on the nodes where spares made room, or wherever the scheduler puts them but for those to avoid."""
    if not members:
        return []
    slots = tuple(s.gang.slots[m.rank] for m in members)
    spared = {m.rank: taken.by[m.rank].on for m in members if m.rank in taken.by}
    onto = {rank: node.name for rank, node in spared.items() if node is not None}
    return [CreateCompanions(), CreatePods(slots, s.status.attempt.target, tuple(sorted(_avoided(s))), onto)]


def at_pace(items: Sequence[T], recent: Pace, now: float) -> tuple[Sequence[T], Pace]:
    """As many of them as the pace allows now, and what counts against it then."""
    recent = tuple((at, count) for at, count in recent if now < at + 1.0)
    chosen = items[: max(0, PODS_A_SECOND - sum(count for _, count in recent))]
    return chosen, (*recent, (now, len(chosen))) if chosen else recent


def deletions(victims: Sequence[tuple[Member, Verdict | None]]) -> DeletePods:
    """Of these pods, each with the grace that its verdict allows; its own where there is none."""

    def grace_s(verdict: Verdict | None) -> int | None:
        return None if verdict is None else 0 if verdict.dead else GRACE_S

    return DeletePods(
        tuple(Deletion(m.pod.name, m.pod.uid, m.pod.version, grace_s(verdict)) for m, verdict in victims if m.pod)
    )


def is_a_trap(s: Snapshot, member: Member, verdict: Verdict | None) -> bool:
    """Whether the room that the pod leaves on its dead machine would be given to one of ours that waits for room:
    nobody has told the scheduler yet that the machine is dead."""
    if verdict is None or not verdict.dead or member.node is None:
        return False
    if not member.node.exists or member.node.ready != "True" or member.node.taints:
        return False
    waits = any(m.pod is not None and m.pod.unschedulable and not m.pod.node for m in s.members)
    return waits or any(spare.on is None and not spare.deleting for spare in s.spares)


def with_spares(s: Snapshot, memory: Memory, decided: Plan, *, runs: bool) -> Plan:
    """The spares that the gang asks for while it runs, else none."""
    again = not runs or s.monotonic >= memory.refilled + TRIED_AGAIN_S
    useless = [spare for spare in spares.useless(s.gang, s.spares, wanted=runs) if again or not spare.over]
    doomed, deleted = at_pace(useless, memory.deleted, s.monotonic)
    actions: list[Action] = [_spares_deleted(doomed)] if doomed else []
    reasons, memory = list(decided.reasons), replace(memory, deleted=deleted)
    missing = spares.missing(s.gang, s.spares) if runs else ()
    settled = memory.released[1] + SETTLED_S if s.status.attempt.released > 1 else -inf
    due = max(memory.refilled + REFILL_S, settled)
    if missing and s.monotonic >= due:
        now, created = at_pace(missing, memory.created, s.monotonic)
        memory = replace(memory, created=created, refilled=s.monotonic)
        actions.append(CreateSpares(tuple(now)))
        reasons.append(f"creates {len(now)} of {len(missing)} spares")
    failed = runs and any(spare.over for spare in s.spares)
    if not (actions or missing or failed):
        return decided
    soon = due if missing else memory.refilled + TRIED_AGAIN_S
    return replace(
        decided,
        actions=(*decided.actions, *actions),
        wake_in=min(decided.wake_in or inf, REFILL_S if actions else max(BETWEEN_LOOKS_S, soon - s.monotonic)),
        reasons=tuple(reasons),
        memory=memory,
    )


def _spares_deleted(doomed: Sequence[Spare]) -> DeletePods:
    """At once: a spare does nothing that it would have to end."""
    return DeletePods(tuple(Deletion(spare.name, spare.uid, spare.version, 0) for spare in doomed))
