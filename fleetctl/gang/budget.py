"""How often a gang may restart: values in, values out.

Restarts are counted in buckets of an hour, so that the record stays small and forgets nothing inside its window, and in
a row without progress, so that a crash loop ends soon and an occasional fault is forgiven.
"""

from datetime import datetime, timedelta

from fleetctl.gang.spec import ApplicationBudget, ApplicationSpend

PROGRESS_S = 600
"""An attempt that ran for so long made progress, seconds."""


def spend(spent: ApplicationSpend, budget: ApplicationBudget, *, now: datetime, ran_s: float) -> ApplicationSpend | str:
    """The spend after one more restart, or the sentence that says which limit forbids it.

    `ran_s`: how long the attempt that just failed had been running, seconds.
    """
    oldest = _hour(now - timedelta(hours=budget.within_hours))
    hours = {hour: count for hour, count in spent.hours.items() if hour > oldest}
    in_a_row = 0 if ran_s >= PROGRESS_S else spent.since_progress
    within = sum(hours.values())
    if in_a_row >= budget.without_progress:
        return f"restarted {_times(in_a_row)} in a row without progress (budget: {budget.without_progress})"
    if within >= budget.restarts:
        return f"restarted {_times(within)} within {budget.within_hours} hours (budget: {budget.restarts})"
    this_hour = _hour(now)
    return ApplicationSpend(hours=hours | {this_hour: hours.get(this_hour, 0) + 1}, since_progress=in_a_row + 1)


def _hour(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
