"""Verdicts from what trainers say of their steps: nobody makes one any more, or nobody makes the first.

In a gang that runs in lockstep all stand still when one does, so this is asked of the whole gang. Who hangs lags
behind: the others have entered the next collective and wait there. Only where every rank reports; a declared pause, a
machine of which nothing is heard and a rank that is done explain a standstill well enough.

Sentences name the limit, not how long it has been by now: a sentence that changes is a write.
"""

from collections.abc import Mapping
from statistics import median

from fleetctl.gang.diagnose.case import Case, Rule, Whole
from fleetctl.gang.diagnose.node_state import silent_nodes
from fleetctl.gang.state import Steps, Verdict, ranges

MEAN_STEPS = 3
"""Nobody makes a step for as long as so many usually take."""
STRAGGLES = 1.25
"""Who works so much longer on a step than most."""


def hang(case: Case) -> Verdict | None:
    """No rank makes a step any more."""
    return case.whole.once(hangs).get(case.member.rank)


def no_first_step(case: Case) -> Verdict | None:
    """No rank has made a step since the release, though they did in earlier attempts."""
    return case.whole.once(never_began).get(case.member.rank)


RULES: tuple[Rule, ...] = (hang, no_first_step)


def accused(whole: Whole) -> frozenset[int]:
    """The ranks that these rules have an answer about."""
    return frozenset({*whole.once(hangs), *whole.once(never_began)})


def stragglers(steps: Mapping[int, Steps]) -> tuple[int, ...]:
    """Ranks that by their own account work much longer on a step than most: a report, and never a reason to act. A slow
    rank slows all, but it is seldom its machine."""
    works = {rank: told.work_s for rank, told in steps.items() if told.work_s > 0}
    if len(works) < 3:
        return ()
    usual = median(works.values())
    return tuple(sorted(rank for rank, work_s in works.items() if work_s >= STRAGGLES * usual))


def hangs(whole: Whole) -> Mapping[int, Verdict]:
    """By rank, who hangs; the lowest of those that lag behind if nobody stands out."""
    gang, steps = whole.gang, whole.gang.steps
    floor = gang.progress.hang_seconds
    if gang.gathering or not steps or len(steps) < len(whole.members):
        return {}
    if any(gang.monotonic - told.at < floor for told in steps.values()):
        return {}
    limit = max(floor, MEAN_STEPS * median(told.mean_s for told in steps.values()))
    if any(told.paused or gang.monotonic - told.at < limit for told in steps.values()):
        return {}
    if whole.once(silent_nodes) or gang.heard_s < limit:  # who was cut off goes on when it is back, or fails
        return {}
    last, furthest = min(told.step for told in steps.values()), max(told.step for told in steps.values())
    behind = sorted(rank for rank, told in steps.items() if told.step == last)
    if 2 * len(behind) >= len(steps):
        because = f"no rank made a step after {furthest} for {limit:.0f} s, and none of them stands out"
        if last < furthest:
            because = f"rank {ranges(behind)} made no step after {last} for {limit:.0f} s: too many to tell who hangs"
        return {behind[0]: _verdict(behind[0], "hang", because)}
    nodes = {m.pod.node for m in whole.members if m.pod and m.rank in behind}
    strikes = nodes.pop() if len(nodes) == 1 else ""
    others = f"while the others reached {furthest}"
    return {
        rank: _verdict(rank, "hang", f"rank {rank} made no step after {last} for {limit:.0f} s, {others}", strikes)
        for rank in behind
    }


def never_began(whole: Whole) -> Mapping[int, Verdict]:
    """The lowest rank, if none has made a step for too long."""
    gang, limit = whole.gang, whole.gang.progress.first_step_seconds
    if gang.gathering or gang.steps or not gang.steps_before or gang.released_s <= limit or not whole.members:
        return {}
    run = (m.life is not None and m.life.connected and m.life.attempt == gang.released.attempt for m in whole.members)
    if not all(run) or whole.once(silent_nodes):
        return {}
    because = f"no rank made a step within {limit:.0f} s of the release of attempt {gang.released.attempt}"
    lowest = min(member.rank for member in whole.members)
    return {lowest: _verdict(lowest, "no-first-step", because)}


def _verdict(rank: int, rule: str, because: str, strikes: str = "") -> Verdict:
    return Verdict(scope="Unknown", rule=rule, rank=rank, because=because, strikes=strikes)
