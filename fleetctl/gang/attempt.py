"""The next single, safe step of a gang's attempt.

Looks at the whole state and answers with one step; whatever comes after it, a crash included, the state it leaves is
one this table knows. It does not know budgets (plan.py asks budget.py before it raises the target), nor how a step is
carried out.

The order of one recovery, each prefix of which is safe:
    raise the target, naming the pods that may be deleted → reset who runs an earlier attempt; meanwhile delete who is
    named, create who is missing → everyone at the barrier → ping with a fresh ticket, each agent promises → commit the
    release with that ticket → release whoever holds it
Whether a life was released is a question of the ticket, never of which message arrived.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fleetctl.gang.pods import RESERVED_PREFIX
from fleetctl.gang.spec import REPLACING_MAX, AttemptRecord, Recovery, Replacing
from fleetctl.gang.state import Member, Promise, Verdict, Zombie, ranges

Incarnations = frozenset[tuple[str, str]]
"""The lives that stand at the barrier: (pod uid, life id)."""


@dataclass(frozen=True, slots=True)
class Round:
    """One ping round: the promise that is asked for, and the lives it is asked of."""

    promise: Promise
    lives: Incarnations


@dataclass(frozen=True)
class Situation:
    """All that a step depends on. `writer` is who we are; `finished` that the gang has Completed or Failed; `suspend`
    that somebody asks for it; `coordinator` the rank that the others must reach; `breaker` the sentence of a breaker
    that is open; `in_doubt` that a node was called bad a moment ago. `members` are in the order of their ranks."""

    record: AttemptRecord
    members: Sequence[Member]
    verdicts: Sequence[Verdict]
    writer: str
    round: Round | None = None
    finished: bool = False
    policy: Recovery = field(default_factory=Recovery)
    suspend: bool = False
    coordinator: int = 0
    zombies: Sequence[Zombie] = ()
    breaker: str = ""
    in_doubt: bool = False

    @cached_property
    def committed(self) -> Promise:
        """What the lives that may run hold."""
        return Promise(attempt=self.record.released, ticket=self.record.ticket)

    @cached_property
    def lives_at_barrier(self) -> Incarnations:
        return frozenset((m.life.uid, m.life.life_id) for m in self.members if m.life and m.at_barrier)

    @cached_property
    def victims(self) -> tuple[tuple[Member, Verdict], ...]:
        """Who must get a new pod, and has one of ours that we would have to delete first."""
        by_rank = {v.rank: v for v in self.verdicts if v.rung != "InPlace"}
        pairs = ((m, v) for rank, v in sorted(by_rank.items()) if not self.is_earlier(m := self.members[rank]))
        return tuple((m, v) for m, v in pairs if m.pod and m.pod.ours and (v.dead or not m.pod.deleting))

    @cached_property
    def fatal(self) -> Verdict | None:
        """The verdict that ends the gang; suspending it may have made its old pods exit as they like."""
        return next((v for v in self.verdicts if v.fatal and not self.is_earlier(self.members[v.rank])), None)

    @cached_property
    def recreates_all(self) -> Verdict | None:
        """The verdict that all ranks must get new pods. A pod that was made for this very target cannot ask for that
        again: it is made anew alone."""
        made_now = self.record.target if self.record.target > self.record.released else 0
        wanted = ((v, self.members[v.rank]) for v in self.verdicts if v.rung == "RecreateGang")
        olds = (v for v, m in wanted if not self.is_earlier(m) and not (m.pod and m.pod.attempt == made_now))
        return next(olds, None)

    @cached_property
    def named(self) -> tuple[tuple[Member, Verdict], ...]:
        """The victims that the record names."""
        names = {(r.rank, r.uid) for r in self.record.replacing}
        return tuple((m, v) for m, v in self.victims if m.pod and (m.rank, m.pod.uid) in names)

    @cached_property
    def under_way(self) -> tuple[Replacing, ...]:
        """Of what the record names, the pods that have no successor yet."""
        here = ((r, self.members[r.rank].pod) for r in self.record.replacing)
        return tuple(r for r, pod in here if pod is None or pod.uid == r.uid)

    @cached_property
    def unnamed(self) -> tuple[tuple[Member, Verdict], ...]:
        """The victims to be named next: a record names only so many at a time."""
        names = {(r.rank, r.uid) for r in self.record.replacing}
        rest = tuple((m, v) for m, v in self.victims if m.pod and (m.rank, m.pod.uid) not in names)
        return rest[: REPLACING_MAX - len(self.under_way)]

    @cached_property
    def bad_nodes(self) -> frozenset[str]:
        """The nodes judged bad in this recovery. A pod that has ended for good accuses nobody any more."""
        now = {v.node for m, v in self.victims if accuses(m, v)}
        return frozenset(now | {r.node for r in self.record.replacing if r.bad})

    @cached_property
    def nodes(self) -> frozenset[str]:
        """The nodes the gang is on, or was when this recovery began."""
        return frozenset({m.pod.node for m in self.members if m.pod and m.pod.node}) | self.bad_nodes

    def is_earlier(self, member: Member) -> bool:
        """Whether the pod was made for an attempt that is over for good (suspended)."""
        return member.pod is not None and member.pod.attempt < self.record.replace_created_before

    def reaches_coordinator(self, member: Member) -> bool:
        """Whether the pod has proved the path to the coordinator's pod, which may have moved."""
        pod = self.members[self.coordinator].pod
        return member.rank == self.coordinator or bool(member.life and pod and member.life.reaches == pod.uid)


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do. `because` says why, in words; `running` that all ranks run."""

    because: str
    running: bool = False


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Write our name into the record before anything else: an earlier leader's writes fail from then on."""


@dataclass(frozen=True, slots=True)
class RaiseTarget:
    """Begin attempt `target + 1`, naming the pods that may be deleted; `all_anew`: all of them. Without a verdict it is
    the gang's first, or the first after it was suspended."""

    verdict: Verdict | None
    victims: tuple[tuple[Member, Verdict], ...] = ()
    all_anew: bool = False


@dataclass(frozen=True, slots=True)
class RecreateAll:
    """Record, at the same target, that all pods made for earlier attempts may be deleted."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class NameVictims:
    """Name further pods that may be deleted, at the same target."""

    victims: tuple[tuple[Member, Verdict], ...]


@dataclass(frozen=True, slots=True)
class Gather:
    """Bring every member's current life to the barrier. `prove`: who stands there and must still reach the coordinator.

    `delete` are named by the record, with the verdict that still holds; None for those of a suspended gang.
    """

    create: tuple[Member, ...]
    delete: tuple[tuple[Member, Verdict | None], ...]
    reset: tuple[Member, ...]
    prove: tuple[Member, ...]
    missing: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class PingRound:
    """Ask these lives to promise; `fresh` if a new ticket must be drawn."""

    members: tuple[Member, ...]
    fresh: bool


@dataclass(frozen=True, slots=True)
class CommitRelease:
    """Everyone holds this promise: write it into the record."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class Release:
    """Tell the lives that hold the committed ticket, and still wait, to go."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Suspend:
    """Record that all pods made so far may be deleted."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Delete the pods of a suspended gang."""

    delete: tuple[tuple[Member, Verdict | None], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Only say what would be done. `alone`: who restarted by itself and is let in alone; `create`: who has no pod."""

    verdict: Verdict
    alone: tuple[Member, ...]
    create: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Complete:
    """Every rank of the attempt exited 0."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The gang must end."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Hold:
    """Something is wrong that we deliberately do not act on; the sentence says what would end it."""

    because: str
    reason: str = "NeedsSomebody"


Step = (
    Rest | TakeOver | RaiseTarget | RecreateAll | NameVictims | Gather | PingRound | CommitRelease | Release
    | Suspend | Clear | Report | Complete | Fail | Hold
)  # fmt: skip


# ---- tests ----


def finished(s: Situation) -> bool:
    return s.finished


def written_by_a_later_leader(s: Situation) -> bool:
    return term_of(s.record.writer) > term_of(s.writer)


def written_by_another(s: Situation) -> bool:
    return s.record.target > 0 and s.record.writer != s.writer


def never_started(s: Situation) -> bool:
    return s.record.target == 0


def somebody_holds_our_name(s: Situation) -> bool:
    return any(m.pod is not None and not m.pod.ours and not m.pod.deleting for m in s.members)


def suspend_asked(s: Situation) -> bool:
    return s.suspend


def suspended(s: Situation) -> bool:
    return s.record.replace_created_before > s.record.target


def running_freely(s: Situation) -> bool:
    return not suspended(s)


def gathering(s: Situation) -> bool:
    return s.record.target > s.record.released


def running(s: Situation) -> bool:
    return s.record.target == s.record.released


def paused(s: Situation) -> bool:
    """Paused says nothing about a gang that has never run."""
    return s.policy.paused and s.record.released > 0


def observing(s: Situation) -> bool:
    return s.policy.mode == "Observe"


def something_fatal(s: Situation) -> bool:
    return s.fatal is not None


def everyone_succeeded(s: Situation) -> bool:
    return all(m.succeeded for m in s.members)


def an_image_has_no_shell(s: Situation) -> bool:
    """A gang that was released once has shells in all its images; then it was the node."""
    return s.record.released == 0 and any(_failed_to_start_ours(m) for m in s.members if m.shows == "More")


def something_failed(s: Situation) -> bool:
    return bool(s.verdicts)


def a_rule_wants_all_anew(s: Situation) -> bool:
    return s.recreates_all is not None


def breaker_open(s: Situation) -> bool:
    return bool(s.breaker)


def the_record_was_lost(s: Situation) -> bool:
    return any(v.rule == "record-lost" for v in s.verdicts)


def too_much_is_bad(s: Situation) -> bool:
    harm = any(accuses(m, v) for m, v in s.victims)
    return harm and len(s.bad_nodes) > s.policy.bad_nodes_allowed(len(s.nodes))


def somebody_unnamed(s: Situation) -> bool:
    return bool(s.unnamed)


def somebody_entitled_waits(s: Situation) -> bool:
    return bool(_entitled(s))


def everyone_present(s: Situation) -> bool:
    """All stand at the barrier, to stay, and nobody else's trainer runs in a rank's name."""
    if s.victims or s.in_doubt or any(z.runs for z in s.zombies):
        return False
    return all(m.at_barrier and not s.is_earlier(m) and s.reaches_coordinator(m) for m in s.members)


def everyone_promised(s: Situation) -> bool:
    asked = s.round
    return asked is not None and _current(s, asked) and all(m.holds(asked.promise) for m in s.members)


# ---- steps ----


def rest_finished(s: Situation) -> Step:
    return Rest("the gang has ended")


def rest_deposed(s: Situation) -> Step:
    return Rest(f"{s.record.writer} leads now")


def rest_running(s: Situation) -> Step:
    return Rest(f"{len(s.members)} ranks run attempt {s.record.released}", running=True)


def take_over(s: Situation) -> Step:
    return TakeOver()


def start(s: Situation) -> Step:
    return RaiseTarget(None)


def fail(s: Situation) -> Step:
    assert s.fatal is not None  # noqa: S101  (something_fatal looked)
    return Fail(s.fatal)


def complete(s: Situation) -> Step:
    return Complete()


def suspend(s: Situation) -> Step:
    return Suspend()


def clear(s: Situation) -> Step:
    return Clear(_earlier(s))


def raise_target(s: Situation) -> Step:
    return RaiseTarget(s.verdicts[0], s.unnamed)


def raise_target_all_anew(s: Situation) -> Step:
    return RaiseTarget(s.recreates_all, s.unnamed, all_anew=True)


def recreate_all(s: Situation) -> Step:
    assert s.recreates_all is not None  # noqa: S101  (a_rule_wants_all_anew looked)
    return RecreateAll(s.recreates_all)


def name_victims(s: Situation) -> Step:
    return NameVictims(s.unnamed)


def report(s: Situation) -> Step:
    return Report(
        s.verdicts[0],
        alone=tuple(m for m in s.members if m.at_barrier and not m.holds(s.committed)),
        create=tuple(m for m in s.members if m.pod is None),
    )


def hold_for_foreign_pod(s: Situation) -> Step:
    taken = [m for m in s.members if m.pod is not None and not m.pod.ours]
    return Hold(
        f"rank {ranges(m.rank for m in taken)}: pod {taken[0].pod_name} belongs to somebody else; "
        "delete it or give the gang another name"
    )


def hold_for_image_without_shell(s: Situation) -> Step:
    stuck = [m for m in s.members if _failed_to_start_ours(m)]
    init = stuck[0].pod.preparing if stuck[0].pod else None
    code = init.ended.exit_code if init and init.ended else 0
    return Hold(
        f"rank {ranges(m.rank for m in stuck)}: init container {init.name if init else ''} exited {code}, StartError: "
        "does its image have no /bin/sh? Set lifeImage of the group to one that has, in a new gang"
    )


def hold_while_paused(s: Situation) -> Step:
    return Hold("spec.recovery.paused is true: nothing is done until it is false", "Paused")


def hold_above_ceiling(s: Situation) -> Step:
    nodes, bad = s.nodes, sorted(s.bad_nodes)
    worst = next(v for m, v in s.victims if accuses(m, v))
    return Hold(
        f"{len(bad)} of {len(nodes)} nodes are judged bad ({', '.join(bad[:8])}{', …' if len(bad) > 8 else ''}), more "
        f"than the {s.policy.bad_nodes_allowed(len(nodes))} that spec.recovery.unhealthyCeiling allows: nothing is "
        f"deleted until they come back or it is raised; {worst.because}",
        "UnhealthyCeiling",
    )


def hold_for_breaker(s: Situation) -> Step:
    return Hold(s.breaker, "BreakerOpen")


def release(s: Situation) -> Step:
    return Release(_entitled(s))


def commit(s: Situation) -> Step:
    assert s.round is not None  # noqa: S101  (everyone_promised looked)
    return CommitRelease(s.round.promise)


def ping(s: Situation) -> Step:
    asked = s.round
    if asked is None or not _current(s, asked):
        return PingRound(tuple(s.members), fresh=True)
    return PingRound(tuple(m for m in s.members if not m.holds(asked.promise)), fresh=False)


def gather(s: Situation) -> Step:
    coordinator = s.members[s.coordinator]
    return Gather(
        create=tuple(m for m in s.members if m.pod is None),
        delete=(*s.named, *_earlier(s)),
        reset=tuple(m for m in s.members if _is_behind(s, m)),
        prove=tuple(m for m in s.members if coordinator.at_barrier and m.at_barrier and not s.reaches_coordinator(m)),
        missing=tuple(m for m in s.members if not m.at_barrier),
    )


Test = Callable[[Situation], bool]
STEPS: tuple[
    tuple[tuple[Test, ...], Callable[[Situation], Step]], ...
] = (  # first line that holds decides; read it aloud
    ((finished,), rest_finished),
    ((written_by_a_later_leader,), rest_deposed),
    ((written_by_another,), take_over),
    ((somebody_holds_our_name,), hold_for_foreign_pod),
    ((suspend_asked, running_freely), suspend),
    ((suspend_asked,), clear),
    ((never_started,), start),
    ((suspended,), start),
    ((something_fatal,), fail),
    ((running, everyone_succeeded), complete),
    ((an_image_has_no_shell,), hold_for_image_without_shell),
    ((running, paused, somebody_entitled_waits), release),
    ((paused,), hold_while_paused),
    ((running, observing, somebody_entitled_waits), release),
    ((running, observing, something_failed), report),
    ((running, too_much_is_bad), hold_above_ceiling),
    ((running, a_rule_wants_all_anew), raise_target_all_anew),
    ((running, something_failed), raise_target),
    ((running, somebody_entitled_waits), release),
    ((running, breaker_open), hold_for_breaker),
    ((running,), rest_running),
    ((gathering, too_much_is_bad), hold_above_ceiling),
    ((gathering, the_record_was_lost), raise_target),
    ((gathering, a_rule_wants_all_anew), recreate_all),
    ((gathering, somebody_unnamed), name_victims),
    ((gathering, everyone_present, everyone_promised), commit),
    ((gathering, everyone_present), ping),
    ((gathering,), gather),
)


def step(situation: Situation) -> Step:
    """The next step. A state that no line covers is held, with the record in the message: it never raises."""
    for tests, answer in STEPS:
        if all(test(situation) for test in tests):
            return answer(situation)
    return Hold(f"the record makes no sense: target {situation.record.target} < released {situation.record.released}")


def accuses(member: Member, verdict: Verdict) -> bool:
    """Whether the verdict speaks against a node. A pod that has ended for good says only where not to go next."""
    return bool(verdict.node) and member.pod is not None and not member.pod.terminal


def _is_behind(s: Situation, member: Member) -> bool:
    life = member.life
    speaks = life is not None and life.connected and not life.leaving
    return speaks and life is not None and 0 < life.attempt < s.record.target and not s.is_earlier(member)


def _earlier(s: Situation) -> tuple[tuple[Member, Verdict | None], ...]:
    """The pods of a suspended gang that nobody deletes yet."""
    dead = {v.rank: v for v in s.verdicts if v.dead}
    return tuple(
        (m, dead.get(m.rank))
        for m in s.members
        if m.pod and m.pod.ours and s.is_earlier(m) and (not m.pod.deleting or m.rank in dead)
    )


def _failed_to_start_ours(member: Member) -> bool:
    init = member.pod.preparing if member.pod and member.pod.terminal else None
    return bool(init and init.ended and init.ended.reason == "StartError" and init.name.startswith(RESERVED_PREFIX))


def _entitled(s: Situation) -> tuple[Member, ...]:
    return tuple(m for m in s.members if m.life and m.life.waits and m.life.connected and m.holds(s.committed))


def _current(s: Situation, asked: Round) -> bool:
    return asked.promise.attempt == s.record.target and asked.lives == s.lives_at_barrier


def term_of(writer: str) -> int:
    """`controller-7c9f/12` → 12: how often the Lease had changed hands when that leader took it."""
    number = writer.rpartition("/")[2]
    return int(number) if number.isdigit() else -1
