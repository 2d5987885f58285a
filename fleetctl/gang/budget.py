"""How often a gang may restart: values in, values out.

Restarts are counted in buckets of an hour, so that the record stays small and forgets nothing inside its window, and in
a row without progress, so that a crash loop ends soon and an occasional fault is forgiven. What machines or people did
to the gang is counted apart from what it did to itself.
"""

from datetime import datetime, timedelta

from fleetctl.gang.spec import ApplicationSpend, Budgets, NodeSpend, Spend
from fleetctl.gang.state import Verdict

PROGRESS_S = 600
"""An attempt that ran for so long made progress, seconds, if its trainers do not report their steps."""


def spend(spent: Spend, budgets: Budgets, verdict: Verdict, *, now: datetime, progressed: bool) -> Spend | str:
    """The spend after one more restart for that reason, or the sentence that says which limit forbids it.

    `progressed`: whether the attempt that just failed got further than all before; false if the gang was still
    gathering.
    """
    if verdict.scope == "Container":
        hours = _one_more(spent.application.hours, budgets.application.restarts, budgets.application.within_hours, now)
        in_a_row, limit = (0 if progressed else spent.application.since_progress), budgets.application
        if in_a_row >= limit.without_progress:
            return f"restarted {_times(in_a_row)} in a row without progress (budget: {limit.without_progress})"
        if isinstance(hours, str):
            return hours
        return Spend(application=ApplicationSpend(hours=hours, since_progress=in_a_row + 1), node=spent.node)
    hours = _one_more(spent.node.hours, budgets.node.restarts, budgets.node.within_hours, now)
    return hours if isinstance(hours, str) else Spend(application=spent.application, node=NodeSpend(hours=hours))


def _one_more(spent: dict[str, int], restarts: int, within_hours: int, now: datetime) -> dict[str, int] | str:
    oldest = _hour(now - timedelta(hours=within_hours))
    hours = {hour: count for hour, count in spent.items() if hour >= oldest}
    within = sum(hours.values())
    if within >= restarts:
        return f"restarted {_times(within)} within {within_hours} hours (budget: {restarts})"
    this_hour = _hour(now)
    return hours | {this_hour: hours.get(this_hour, 0) + 1}


def _hour(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
