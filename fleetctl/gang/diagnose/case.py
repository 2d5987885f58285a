"""What a rule is asked about: one member, and what its gang is at.

Here too is the one test for stale evidence. Containers restart in place, so what the API server shows of a pod may be
about an earlier life of it: a late `AllContainersRestarting`, an exit code seen twice. Both stamps come from the same
machine's clock, whole seconds in the status; what is not certainly of this life is discarded. That costs nothing: the
life that follows a fault is itself proof that there was one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, TypeVar

from fleetctl.gang.spec import Progress, UserRule
from fleetctl.gang.state import Container, Ended, Member, Promise, Seconds, Steps, Verdict

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the gang is at, and the user's limits.

    `released` is what the lives that may run hold, `target` the attempt that the gang must reach. `rules` are the
    user's. `steps` by rank, of those that tell and run what was released; `released_s`: for how long that has been
    released, as far as this controller knows, 0 while nothing is; `steps_before`: whether ranks have told of steps in
    an earlier attempt. `now` is Unix time, `monotonic` what `Steps.at` is of. `distrusted`: the breaker is open, so
    nobody's word about a node that is alive is taken; nor is it, yet, about those that are `unheeded`.
    `silent_domain`: a failure domain of which nothing is heard, or was a moment ago. `heard_s`: for how long all nodes
    have been heard. `spared`: the groups of which a spare is ready. `well_s`: for how long nodes that waiting pods
    must avoid have been well again.
    """

    released: Promise
    target: int
    in_place_deadline_s: Seconds = 120.0
    recreate_deadline_s: Seconds = 900.0
    rules: Sequence[UserRule] = ()
    progress: Progress = Progress()  # noqa: RUF009  (frozen)
    steps: Mapping[int, Steps] = field(default_factory=dict)
    steps_before: bool = False
    released_s: Seconds = 0.0
    now: Seconds = 0.0
    monotonic: Seconds = 0.0
    distrusted: bool = False
    unheeded: frozenset[str] = frozenset()
    silent_domain: str = ""
    heard_s: Seconds = inf
    spared: frozenset[str] = frozenset()
    well_s: Mapping[str, Seconds] = field(default_factory=dict)

    @property
    def gathering(self) -> bool:
        return self.target > self.released.attempt


class Whole:
    """The gang that is looked at, and what all its members together show: worked out when a rule first asks, once.

    `waited` is by rank: for how long this controller has waited for its pod at the barrier, or for a sign of it.
    """

    def __init__(self, members: Sequence[Member], gang: Circumstances, waited: Mapping[int, Seconds]) -> None:
        self.members = members
        self.gang = gang
        self.waited = waited
        self._known: dict[Callable[[Whole], Any], Any] = {}

    def once(self, work: Callable[["Whole"], T]) -> T:
        """What this function makes of the gang."""
        if work not in self._known:
            self._known[work] = work(self)
        found: T = self._known[work]
        return found


class Case:
    """One member, to be judged."""

    __slots__ = ("_failed", "member", "whole")  # thousands may fail at once

    def __init__(self, member: Member, whole: Whole) -> None:
        self.member = member
        self.whole = whole
        self._failed: tuple[Container, Ended] | Literal["unknown"] | None = "unknown"

    @property
    def failed_container(self) -> tuple[Container, Ended] | None:
        """The container that brought the member down, and how it ended."""
        if self._failed == "unknown":
            self._failed = self._failed_container()
        return self._failed

    @property
    def gang(self) -> Circumstances:
        return self.whole.gang

    @property
    def missing_s(self) -> Seconds:
        """For how long this controller has waited for the member."""
        return self.whole.waited.get(self.member.rank, 0.0)

    @property
    def rules(self) -> Iterator[tuple[int, UserRule]]:
        """The user's rules for the member's group, with their numbers, from 1."""
        numbered = enumerate(self.gang.rules, 1)
        return ((n, r) for n, r in numbered if not r.match.groups or self.member.group in r.match.groups)

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

    def _failed_container(self) -> tuple[Container, Ended] | None:
        """The trainer, or another one while the pod restarts or has failed. (A helper that ends by itself is its
        author's business.)"""
        pod, trainer = self.member.pod, self.member.trainer
        if pod is None or self.member.shows == "Nothing":
            return None
        containers: Sequence[Container] = pod.containers
        if len(containers) > 1:
            containers = sorted(containers, key=lambda c: c.name != trainer)
        for container in containers:
            ended = container.ended
            if ended is None or ended.exit_code == 0:
                continue
            if pod.phase == "Failed":  # there will be no other life: this is about the last
                return container, ended
            of_this_life = self.is_of_this_life(ended.finished_at)
            if of_this_life and (container.name == trainer or self.restarting):
                return container, ended
        return None


Rule = Callable[[Case], Verdict | None]
