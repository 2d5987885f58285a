"""What a rule is asked about: one member, and what its gang is at.

Here too is the one test for stale evidence. Containers restart in place, so what the API server shows of a pod may be
about an earlier life of it: a late `AllContainersRestarting`, an exit code seen twice. Both stamps come from the same
machine's clock, whole seconds in the status; what is not certainly of this life is discarded. That costs nothing: the
life that follows a fault is itself proof that there was one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fleetctl.gang.state import Container, Ended, Member, Promise, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the gang is at, and the user's limits.

    `released` is what the lives that may run hold, `target` the attempt that the gang must reach. Exit codes of the
    trainer in `fatal_codes` end the gang.
    """

    released: Promise
    target: int
    fatal_codes: frozenset[int] = frozenset()
    in_place_deadline_s: Seconds = 120.0
    recreate_deadline_s: Seconds = 900.0

    @property
    def gathering(self) -> bool:
        return self.target > self.released.attempt


@dataclass(frozen=True, slots=True)
class Case:
    """One member, to be judged.

    `missing_s`: for how long this controller has waited for its pod at the barrier. `proof_s`: for how long a silent
    node's Lease must stand still before the node is taken for dead.
    """

    member: Member
    gang: Circumstances
    missing_s: Seconds = 0.0
    proof_s: Seconds = 0.0

    def is_of_this_life(self, stamp: Seconds) -> bool:
        """Whether evidence with that time of the node's clock is certainly about the life the agent speaks of."""
        life = self.member.life
        return life is not None and int(stamp) > int(life.started_at)

    @property
    def who(self) -> str:
        return f"rank {self.member.rank}"

    @property
    def restarting(self) -> bool:
        """Whether the kubelet is restarting all containers of the current life."""
        pod = self.member.pod
        since = pod.restarting_since if pod else None
        return since is not None and self.is_of_this_life(since)

    @property
    def failed_container(self) -> tuple[Container, Ended] | None:
        """The container that brought the member down, and how it ended: the trainer, or another one while the pod
        restarts or has failed. (A helper that ends by itself is its author's business.)"""
        pod = self.member.pod
        if pod is None:
            return None
        trainer_first = sorted(pod.containers, key=lambda c: c.name != self.member.trainer)
        for container in trainer_first:
            ended = container.ended
            if ended is None or ended.exit_code == 0:
                continue
            if pod.phase == "Failed":  # there will be no other life: this is about the last
                return container, ended
            of_this_life = self.is_of_this_life(ended.finished_at)
            if of_this_life and (container.name == self.member.trainer or self.restarting):
                return container, ended
        return None


Rule = Callable[[Case], Verdict | None]
