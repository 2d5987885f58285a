"""What a plan is made from: the world as far as one gang goes, and what the planner remembers of earlier looks.

Values only. Memory is a cache: losing it may delay a decision, never make an unsafe one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf

from fleetctl.gang import attempt, breaker, incident, outcome, spares
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import GangStatus
from fleetctl.gang.state import Member, Node, Spare, Steps, Zombie


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the check of the template found: `problems` refuse the gang, `warnings` do not."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world as far as one gang goes.

    `acceptance` is None while the template has not been checked. `monotonic` is our own clock, seconds, for how long
    things take. `refused` is what the API server has been saying for a while to what we wanted. `steps` by rank, of
    those that report them and run what was released.
    """

    gang: Gang
    generation: int
    status: GangStatus
    members: Sequence[Member]
    spares: Sequence[Spare] = ()
    now: datetime
    writer: str
    fresh_ticket: str
    acceptance: Acceptance | None = None
    deleting: bool = False
    monotonic: float = 0.0
    zombies: Sequence[Zombie] = ()
    refused: str = ""
    steps: Mapping[int, Steps] = field(default_factory=dict)


Aspect = tuple[str, bool, bool, bool]
"""In which respect a member is waited for: uid of its pod, whether it stands at the barrier, whether it can be told,
whether it has a node."""


Pace = tuple[tuple[float, int], ...]
"""When pods were created (or deleted) in the last second, and how many."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the planner remembers between two plans.

    `waiting`: by rank, what is waited for, and since when. `alone`: by pod uid, how often it was let in alone, and when
    last. `created`, `deleted`: what counts against the pace. `seen`: what has been seen since the attempt that ran last
    ended. `called`: what counts against the breaker. `asked`: when each accused node was last asked to be
    quarantined. `ran`: how the attempt that runs does. `silent`: the
    failure domain of which nothing was heard last, and when. `unheard`: when nothing was heard of some node last;
    `quiet`: of which nodes nothing is heard now, and since when. `well`: of those that waiting pods must avoid, which
    are well again, and since when.
    `released`: the attempt that was released last, and since when we know. `left`: the nodes that ranks were on when
    their pods were given up in this recovery. `taken`: the spares whose room they take. `refilled`: when spares were
    made last. `held`: when it was told last what holds the gang up.
    """

    round: attempt.Round | None = None
    gathered_at: datetime | None = None
    waiting: Mapping[int, tuple[Aspect, float]] = field(default_factory=dict)
    alone: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    created: Pace = ()
    deleted: Pace = ()
    seen: incident.Seen = field(default_factory=dict)
    called: breaker.Called = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    ran: outcome.Ran = outcome.NOT_RUN
    silent: tuple[str, float] = ("", 0.0)
    unheard: float = -inf
    quiet: Mapping[str, float] = field(default_factory=dict)
    well: Mapping[str, float] = field(default_factory=dict)
    released: tuple[int, float] = (0, 0.0)
    left: Mapping[int, Node] = field(default_factory=dict)
    taken: spares.Taken = spares.NONE_TAKEN
    refilled: float = -inf
    held: float = -inf

    def waited_s(self, rank: int, now: float) -> float:
        return now - self.waiting[rank][1] if rank in self.waiting else 0.0
