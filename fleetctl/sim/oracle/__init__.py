"""The oracle: judges a simulated run by its journal, and by nothing else.

The invariants are those of the design (S1 to S14, S16, S17 and L1 to L4; S15 is a property test). Ground truth is what
the kubelets ran and the API server committed. It shares no code with what it judges: no fleetctl.gang, no controller;
JSON is read anew (records.py). A false alarm is worse than a narrow check: each judge's module says what it does not
judge.

Each event costs a few lookups; only the commit of a release looks at all ranks.

Add an invariant: a method of the judge it belongs to, called from the tables below; `findings.looked` when it is
checked, `findings.broken` when it does not hold; a history that satisfies it and one that does not in the tests.
"""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from fleetctl.sim.journal import (
    AgentHeard,
    Event,
    Faulted,
    Listed,
    ProcessChanged,
    Restarting,
    TrainerEnded,
    TrainerStarted,
    Wrote,
)
from fleetctl.sim.oracle.attempts import Attempts
from fleetctl.sim.oracle.authority import Authority
from fleetctl.sim.oracle.budgets import Budgets
from fleetctl.sim.oracle.causes import Causes
from fleetctl.sim.oracle.deletions import Deletions
from fleetctl.sim.oracle.facts import CONTROLLER, Facts, GangWrite, PodWrite
from fleetctl.sim.oracle.findings import Findings, Violation
from fleetctl.sim.oracle.liveness import End, Liveness

__all__ = ["Oracle", "Violation"]


class Oracle:
    """A journal listener. `not_judged` are invariants by name."""

    def __init__(self, *, not_judged: Collection[str] = ()) -> None:
        self._findings = findings = Findings(not_judged)
        self._facts = facts = Facts()
        attempts, deletions = Attempts(facts, findings), Deletions(facts, findings)
        authority, budgets = Authority(findings), Budgets(findings)
        causes, self._liveness = Causes(facts, findings), Liveness(facts, findings)
        self._authority = authority
        self._of: dict[type[Event], tuple[Callable[[Any], None], ...]] = {
            TrainerStarted: (attempts.started,),
            TrainerEnded: (causes.trainer_ended,),
            Restarting: (causes.restarting,),
            AgentHeard: (attempts.heard, causes.heard),
            Faulted: (deletions.faulted, causes.faulted),
            Listed: (authority.listed,),
            ProcessChanged: (authority.process_changed,),
        }
        self._of_gangs: tuple[Callable[[GangWrite], None], ...] = (
            attempts.recorded, budgets.recorded, causes.recorded, self._liveness.recorded,
        )  # fmt: skip
        self._of_pods: tuple[Callable[[PodWrite], None], ...] = (
            authority.pod_written, deletions.written, self._liveness.pod_written,
        )  # fmt: skip

    @property
    def violations(self) -> list[Violation]:
        """The first few of each invariant, in their order; `counts` has how many there were."""
        return self._findings.violations

    @property
    def counts(self) -> Counter[str]:
        """How often each invariant did not hold."""
        return self._findings.counts

    @property
    def evaluated(self) -> Counter[str]:
        """How often each invariant was really checked."""
        return self._findings.evaluated

    def __call__(self, event: Event) -> None:
        if isinstance(event, Wrote):
            if event.actor.startswith(CONTROLLER):
                self._judge_write(event)
        else:
            for judge in self._of.get(type(event), ()):
                judge(event)
        self._facts.learn(event)

    def _judge_write(self, event: Wrote) -> None:
        """A controller's."""
        if event.plural == "leases":
            return
        self._liveness.wrote(event)
        if event.plural == "gangs":
            write = self._facts.gang_write(event)
            self._authority.gang_written(event, write)
            if write is not None:
                for judge in self._of_gangs:
                    judge(write)
        elif event.plural == "pods":
            written = self._facts.pod_write(event)
            for look in self._of_pods:
                look(written)

    def finish(self, at: float, *, end: End, bound_s: float, quiet_s: float) -> None:
        """The run is over, and `end` is how its gangs should have ended (running: every rank of every gang runs one and
        the same attempt).

        `bound_s`: within so many seconds of the last fault's beginning or end. `quiet_s`: no controller writes anything
        but Leases in the last so many seconds; 0: not judged.
        """
        self._liveness.finish(at, end, bound_s, quiet_s)
