"""What comes of an attempt: a recovery is over when ranks make steps, not when containers run.

From what trainers report of themselves; a gang whose trainers do not is judged by time alone (budget.py). Who hangs or
straggles is found in diagnose/; here is only how the attempt that runs does, to be told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median

from fleetctl.gang.diagnose.progress import stragglers
from fleetctl.gang.spec import GangStatus
from fleetctl.gang.state import Seconds, Steps, ranges

WARM = 1.2
"""A step that takes no longer than so many times the usual one is as fast as before."""
STRAGGLES_S = 60.0
"""Who is slow for so long is told of."""
NEW_SHARE = 0.1
"""An attempt that got further than ever by less than so much of what it did has only been ended a moment later."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How the attempt that runs does. `began`, `reached`: the first step that we heard of, and the furthest;
    `first_step_s`, `warm_up_s`: seconds from its release, 0 while it is not so far; `usual_s`: how long a step took in
    earlier attempts, once they were warm; `now_s`: and in this one. `slow`: who straggles, and `slow_since` when just
    they do, of our own clock."""

    began: int = 0
    reached: int = 0
    first_step_s: Seconds = 0.0
    warm_up_s: Seconds = 0.0
    usual_s: Seconds = 0.0
    now_s: Seconds = 0.0
    slow: tuple[int, ...] = ()
    slow_since: Seconds = 0.0


NOT_RUN = Ran()


def looked_at(
    ran: Ran, status: GangStatus, size: int, steps: Mapping[int, Steps], now: datetime, monotonic: Seconds
) -> Ran:
    """After one more look at the steps of an attempt that runs."""
    record = status.attempt
    if not steps or record.target > record.released or not record.released_at:
        return ran
    since_s = max(0.001, (now - datetime.fromisoformat(record.released_at)).total_seconds())
    reached = max(ran.reached, max(each.step for each in steps.values()))
    ran = replace(ran, began=ran.began or reached, reached=reached)
    if (slow := stragglers(steps)) != ran.slow:
        ran = replace(ran, slow=slow, slow_since=monotonic)
    means = [each.mean_s for each in steps.values() if each.mean_s]
    if len(means) < size:  # somebody has not made a step yet
        return ran
    mean_s = median(means)
    is_warm = mean_s <= WARM * ran.usual_s  # never, while nobody knows what is usual: a new leader does not
    warm = ran.warm_up_s or (since_s if is_warm else 0.0)
    now_s = mean_s if warm or not ran.usual_s else 0.0
    return replace(ran, first_step_s=ran.first_step_s or since_s, warm_up_s=warm, now_s=now_s)


def got_further(ran: Ran, furthest: int) -> bool:
    """Whether the attempt did more than make good again what was lost; `furthest`: the step that was reached before."""
    return ran.reached - furthest > NEW_SHARE * (ran.reached - ran.began)


def straggling(ran: Ran, told: bool, monotonic: Seconds) -> str | None:
    """What is to be told of stragglers: a sentence, "" that there are none any more, None for nothing new. `told`:
    whether some have been told of."""
    if monotonic < ran.slow_since + STRAGGLES_S or bool(ran.slow) == told:
        return None
    if not ran.slow:
        return ""
    return (
        f"rank {ranges(ran.slow)} works longer on each step than the others, and all wait for it: nothing is done "
        "about that, as it is seldom the machine"
    )


def ended(ran: Ran) -> Ran:
    """Before the next attempt."""
    return Ran(usual_s=ran.now_s or ran.usual_s)
