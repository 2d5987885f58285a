"""S1, S2, S3, S5, S10: who runs which attempt, by what the kubelets ran and what the record said at that moment.

Not judged: S1, S2, S5 and the tickets of S10 for attempts during which the gang was in mode Observe (ranks are let in
alone there); the record, if somebody else than a controller writes it; a Release that is heard by a life which never
promised (agents refuse it).
"""

from fleetctl.rendezvous.messages import Release
from fleetctl.sim.journal import AgentHeard, TrainerStarted
from fleetctl.sim.oracle.facts import Facts, Gang, GangWrite, Trainer
from fleetctl.sim.oracle.findings import Findings


class Attempts:
    def __init__(self, facts: Facts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._starts: dict[tuple[str, int, int], dict[int, str]] = {}
        """By (gang's uid, era, attempt) and rank, uid of the pod whose trainer started last."""

    def recorded(self, write: GangWrite) -> None:
        self._only_grows(write)
        if write.releases and not write.gang.was_observing(write.gang.raised_at):
            self._nobody_earlier_runs(write)

    def _only_grows(self, write: GangWrite) -> None:
        """S10, the record."""
        gang, before, after = write.gang, write.before, write.after
        self._findings.looked("S10")
        wrong = ""
        if after.target < before.target:
            wrong = f"the target fell from {before.target} to {after.target}"
        elif after.released < before.released:
            wrong = f"the release fell from {before.released} to {after.released}"
        elif after.released > after.target:
            wrong = f"attempt {after.released} is released although the target is {after.target}"
        elif write.releases and after.released != after.target:
            wrong = f"attempt {after.released} was released while the target was {after.target}"
        elif write.releases and not after.ticket:
            wrong = f"attempt {after.released} was released without a ticket"
        elif not write.releases and after.ticket != before.ticket:
            wrong = f"the ticket of attempt {before.released} was changed after its release"
        if wrong:
            self._findings.broken("S10", write.event.at, f"{gang}: {wrong}, by {write.event.actor}")

    def _nobody_earlier_runs(self, write: GangWrite) -> None:
        """S1, at the moment of release."""
        self._findings.looked("S1")
        gang, released = write.gang, write.after.released
        for trainer in gang.trainers.values():
            earlier = trainer.era != gang.era or trainer.attempt < released
            if earlier and not self._facts.is_fenced(trainer):
                self._findings.broken(
                    "S1",
                    write.event.at,
                    f"{gang}: attempt {released} was released while rank {trainer.rank} ran attempt {trainer.attempt} "
                    f"on {trainer.node} (pod uid {trainer.uid})",
                )

    def heard(self, event: AgentHeard) -> None:
        """S10, what agents are told."""
        if not isinstance(event.message, Release):
            return
        pod = self._facts.pods.get(event.uid)
        if pod is None:
            return
        gang, message = pod.gang, event.message
        if gang.was_observing(gang.raised_at):
            return
        self._findings.looked("S10")
        if (message.attempt, message.ticket) not in gang.commits:
            self._findings.broken(
                "S10",
                event.at,
                f"{gang}: the agent of rank {pod.rank} was told to start attempt {message.attempt} with ticket "
                f"{message.ticket!r}, which was never committed",
            )

    def started(self, event: TrainerStarted) -> None:
        found = self._facts.trainer(event)
        if found is None:
            return
        gang, trainer = found
        commit = gang.commits.get((event.attempt, event.ticket))
        self._is_released(gang, event)
        if gang.was_observing(commit.at if commit else gang.raised_at):
            return
        self._findings.looked("S10")
        if commit is None and event.attempt <= gang.highest_released:  # else S3 has said it
            self._findings.broken(
                "S10",
                event.at,
                f"{gang}: rank {trainer.rank} starts attempt {event.attempt} with ticket {event.ticket!r}, which is "
                "not the one that was committed for it",
            )
        self._is_not_earlier(gang, trainer, event)
        self._is_alone(gang, trainer, event)
        self._is_first(gang, trainer, event)

    def _is_released(self, gang: Gang, event: TrainerStarted) -> None:
        """S3."""
        self._findings.looked("S3")
        if event.attempt > gang.highest_released or event.attempt <= 0:
            self._findings.broken(
                "S3",
                event.at,
                f"{gang}: rank {event.rank} starts attempt {event.attempt}, but only {gang.highest_released} is "
                "released",
            )

    def _is_not_earlier(self, gang: Gang, trainer: Trainer, event: TrainerStarted) -> None:
        """S1, after the release."""
        self._findings.looked("S1")
        if gang.is_earlier(trainer) and not self._facts.is_fenced(trainer):
            self._findings.broken(
                "S1",
                event.at,
                f"{gang}: rank {trainer.rank} starts attempt {trainer.attempt} on {trainer.node} although "
                f"{gang.record.released} is released",
            )

    def _is_alone(self, gang: Gang, trainer: Trainer, event: TrainerStarted) -> None:
        """S5, overlapping ones of one rank."""
        self._findings.looked("S5")
        if trainer.rank not in gang.at_work.get((trainer.era, trainer.attempt), ()):
            return
        for other in gang.trainers.values():
            same = other.rank == trainer.rank and other.attempt == trainer.attempt and other.era == trainer.era
            if same and other.uid != trainer.uid and not self._facts.is_fenced(other):
                self._findings.broken(
                    "S5",
                    event.at,
                    f"{gang}: rank {trainer.rank} starts attempt {trainer.attempt} on {trainer.node} while it runs it "
                    f"on {other.node} (pod uid {other.uid})",
                )

    def _is_first(self, gang: Gang, trainer: Trainer, event: TrainerStarted) -> None:
        """S2; and S5, if it is another pod that had started it before."""
        self._findings.looked("S2")
        starts = self._starts.setdefault((gang.uid, trainer.era, trainer.attempt), {})
        before = starts.get(trainer.rank)
        starts[trainer.rank] = trainer.uid
        if before is None:
            return
        self._findings.broken(
            "S2", event.at, f"{gang}: rank {trainer.rank} starts its trainer once more in attempt {trainer.attempt}"
        )
        if before != trainer.uid:
            self._findings.broken(
                "S5",
                event.at,
                f"{gang}: rank {trainer.rank} starts attempt {trainer.attempt} in pod uid {trainer.uid}, which pod uid "
                f"{before} had started",
            )
