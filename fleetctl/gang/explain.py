"""What is known of an incident, set out in lines: what happened, by which rule, on what evidence, what was done about
it, what came of that, and what was not done.

Every sentence about a cause was made where it was judged (diagnose/) or decided (incident.py, plan.py) and is shown as
it stands. Knows nothing of where a status comes from, nor of what members do now: that is cli/explain.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fleetctl.gang.spec import AttemptRecord, Cause, Fact, GangStatus, Incident, Recovered
from fleetctl.gang.state import ranges

LABEL, STAMP = 10, 20
"""Widths of the labels, as `fleetctl status` has them, and of the times."""
UNTIMED = "time not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One incident. `attempt`: the one that it led to, 0 if to none; `recovered`: how it was closed, None while it is
    open or if it ended the gang (`ended`); `so_far`: what is done while it is open."""

    attempt: int
    cause: Cause
    incident: Incident | None = None
    recovered: Recovered | None = None
    ended: bool = False
    so_far: str = ""

    @property
    def culprits(self) -> str:
        """Who failed, as ranges."""
        if self.incident is not None:
            return self.incident.culprits
        return "" if self.cause.rank is None else str(self.cause.rank)

    def speaks_of(self, rank: int) -> bool:
        """Whether anything is told of that rank."""
        told = [self.culprits]
        if self.incident is not None:
            told += [self.incident.cascade, *(fact.ranks for fact in self.incident.facts)]
        return any(is_in(rank, ranks) for ranks in told)

    def names(self, node: str) -> bool:
        """Whether anything is told of that node."""
        facts = self.incident.facts if self.incident is not None else ()
        return node == self.cause.node or any(node in map(_bare, fact.what.split()) for fact in facts)


def stories(status: GangStatus) -> list[Story]:
    """All incidents that are stored: the open one first, then the latest. A start is none."""
    record, out = status.attempt, []
    ended, open_ = status.holds("Failed"), record.target > record.released
    if record.cause is not None and record.cause.scope not in ("Start", "Resume") and (open_ or ended):
        so_far = "the gang was ended" if ended else f"{under_way(record)} (not released yet)"
        number = record.target if open_ else 0
        out = [Story(attempt=number, cause=record.cause, incident=record.incident, ended=ended, so_far=so_far)]
    closed = (each for each in status.history if each.cause.scope not in ("Start", "Resume"))
    out += [Story(attempt=r.attempt, cause=r.cause, incident=r.incident, recovered=r) for r in closed]
    return out


def is_in(rank: int, told: str) -> bool:
    """Whether that rank is in ranges as people write them; what was cut off at their end nobody knows."""
    pieces = told.split(",")
    if told.endswith("…"):
        pieces.pop()
    bounds = (piece.partition("-") for piece in pieces if piece)
    return any(int(low) <= rank <= int(high or low) for low, _, high in bounds)


def done(recovered: Recovered) -> str:
    """How the ranks came into the attempt: `restarted in place`."""
    match recovered.rung:
        case "Start":
            return "started"
        case "Resume":
            return "resumed"
        case "InPlace":
            return "restarted in place"
        case "RecreatePod":
            return f"rank {recovered.recreated} recreated, the others restarted in place"
        case "RecreateGang":
            return "all ranks recreated"


def under_way(record: AttemptRecord) -> str:
    """What is done for an attempt that is yet to be released."""
    if record.replace_created_before:
        return "all ranks get new pods"
    if record.replacing:
        return f"new pods for rank {ranges(each.rank for each in record.replacing)}, the others restart in place"
    return "all ranks restart in place"


def failed(recovered: Recovered, status: GangStatus) -> bool:
    """Whether the attempt ended before all ranks had made a step, though the gang's trainers tell of theirs."""
    came = recovered.outcome
    return bool(status.furthest_step and came.ran and not came.first_step)


def outcome(recovered: Recovered, status: GangStatus) -> str:
    """What came of the attempt, as far as it is known; "" if nothing is."""
    came = recovered.outcome
    if failed(recovered, status):
        return f"the recovery failed: it ran for {came.ran:.1f} s, in which not all ranks made a step"
    parts = [
        f"first step after {came.first_step:.1f} s" if came.first_step else "",
        f"as fast as before after {came.warm_up:.1f} s" if came.warm_up else "",
        f"ran for {came.ran:.1f} s" if came.ran else "",
    ]
    return ", ".join(filter(None, parts))


def told(story: Story, status: GangStatus) -> Iterator[str]:
    """The lines of one incident."""
    cause, incident, recovered = story.cause, story.incident, story.recovered
    where = f", node {cause.node}" if cause.node else ""
    yield from labelled("Incident", _headline(story))
    yield from labelled("Cause", cause.message)
    yield from labelled("Rule", f"{cause.rule} (scope: {cause.scope})")
    if story.culprits:
        yield from labelled("Culprits", f"rank {story.culprits}{where}")
    if incident is not None and incident.cascade:
        yield from labelled("Cascade", f"rank {incident.cascade} failed because of that")
    yield from labelled("Evidence", *_evidence(incident))
    if recovered is None:
        yield from labelled("Done", story.so_far)
    else:
        took = recovered.seconds
        how = f"{done(recovered)}; at the barrier after {took.barrier:.1f} s, released after {took.total:.1f} s"
        yield from labelled("Done", how)
        if recovered.placed:
            yield from labelled("Placed", recovered.placed)
        if came := outcome(recovered, status):
            yield from labelled("Outcome", came)
    if incident is not None and incident.refused:
        yield from labelled("Not done", *incident.refused)


def standing(status: GangStatus) -> Iterator[str]:
    """What keeps the gang from going on now. Their sentences say what would end it."""
    latch = status.breaker
    if latch is not None:
        yield from labelled("Breaker", f"open since {latch.since}", latch.message)
    for kind in ("Held", "Failed"):
        condition = status.condition(kind)
        if condition is None or condition.status != "True":
            continue
        if latch is None or condition.message != latch.message:
            yield from labelled(kind, condition.message)


def labelled(label: str, *lines: str) -> Iterator[str]:
    """`Label:    first line`, and the others below it."""
    for number, line in enumerate(lines):
        yield f"{label + ':' if number == 0 else '':{LABEL}}{line}"


def _headline(story: Story) -> str:
    if story.ended:
        return "the gang's last: it ended the gang"
    if story.recovered is None:
        return f"{story.attempt}, open: the gang gathers for attempt {story.attempt}"
    return f"{story.attempt}, closed: attempt {story.attempt} was released at {story.recovered.at}"


def _evidence(incident: Incident | None) -> Iterator[str]:
    if incident is None or not incident.facts:
        yield "none was stored"
        return
    yield from map(_fact, incident.facts)
    if incident.omitted:
        yield f"{incident.omitted} more that there was no room for"


def _fact(fact: Fact) -> str:
    return f"{fact.at or UNTIMED:{STAMP}}  rank {fact.ranks}: {fact.what} [{fact.rule}]"


def _bare(word: str) -> str:
    return word.strip(",.:;()")
