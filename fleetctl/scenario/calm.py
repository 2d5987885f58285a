"""When a gang runs undisturbed again after a fault: the trigger `calm`.

A journal listener with a look at the clock: calm is what does not happen.
"""

from fleetctl.scenario.facts import Crew, record_of
from fleetctl.sim.journal import Calmed, Event, Faulted, Object, Wrote

CALM_S = 4.0
"""So long all trainers of the released attempt must have run, and no fault have begun or ended."""


class Calm:
    """Feed it every event, and `look` now and then."""

    def __init__(self) -> None:
        self._crew = Crew()
        self._gang: Object | None = None
        self._runs_since: float | None = None
        self._faults = 0
        """How many have begun."""
        self._told = -1
        self._faulted_at = 0.0

    def __call__(self, event: Event) -> None:
        self._crew(event)
        if isinstance(event, Faulted):
            self._faults += event.phase == "begins"
            self._faulted_at = event.at
        elif isinstance(event, Wrote) and event.plural == "gangs":
            self._gang = event.after
        if not self._runs():
            self._runs_since = None
        elif self._runs_since is None:
            self._runs_since = event.at

    def look(self, now: float) -> Calmed | None:
        """The event to be told, once after each fault, and once before the first."""
        since = self._runs_since
        if self._told == self._faults or since is None or now < max(since, self._faulted_at) + CALM_S:
            return None
        self._told = self._faults
        return Calmed(at=now, faults=self._faults)

    def _runs(self) -> bool:
        record, runs = record_of(self._gang), self._crew.complete
        return runs > 0 and runs == record.get("released", 0) == record.get("target", 0)
