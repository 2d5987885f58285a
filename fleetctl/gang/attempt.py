"""The next single, safe step of a gang's attempt.

Looks at the whole state and answers with one step; whatever comes after it, a crash included, the state it leaves is
one this table knows. It does not know budgets (plan.py asks budget.py before it raises the target), nor how a step is
carried out.

The order of one recovery, each prefix of which is safe:
    raise the target → reset who runs an earlier attempt, create who is missing → everyone at the barrier → ping with a
    fresh ticket, each agent promises → commit the release with that ticket → release whoever holds it
Whether a life was released is a question of the ticket, never of which message arrived.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetctl.gang.pods import RESERVED_PREFIX
from fleetctl.gang.spec import AttemptRecord
from fleetctl.gang.state import Member, Pod, Promise, Verdict, ranges

Incarnations = frozenset[tuple[str, str]]
"""The lives that stand at the barrier: (pod uid, life id)."""


@dataclass(frozen=True, slots=True)
class Round:
    """One ping round: the promise that is asked for, and the lives it is asked of."""

    promise: Promise
    lives: Incarnations


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a step depends on. `writer` is who we are; `finished` that the gang has Completed or Failed."""

    record: AttemptRecord
    members: Sequence[Member]
    verdicts: Sequence[Verdict]
    writer: str
    round: Round | None = None
    finished: bool = False

    @property
    def committed(self) -> Promise:
        """What the lives that may run hold."""
        return Promise(attempt=self.record.released, ticket=self.record.ticket)

    @property
    def lives_at_barrier(self) -> Incarnations:
        return frozenset((m.life.uid, m.life.life_id) for m in self.members if m.life and m.at_barrier)


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do. `because` says why, in words."""

    because: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Write our name into the record before anything else: an earlier leader's writes fail from then on."""


@dataclass(frozen=True, slots=True)
class RaiseTarget:
    """Begin attempt `target + 1`. Without a verdict it is the gang's first."""

    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Gather:
    """Bring every member's current life to the barrier."""

    create: tuple[Member, ...]
    reset: tuple[Member, ...]
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


Step = (
    Rest | TakeOver | RaiseTarget | Gather | PingRound | CommitRelease | Release | Complete | Fail | Hold
)  # fmt: skip


# ---- tests ----


def finished(s: Situation) -> bool:
    return s.finished


def written_by_a_later_leader(s: Situation) -> bool:
    return _transitions(s.record.writer) > _transitions(s.writer)


def written_by_another(s: Situation) -> bool:
    return s.record.target > 0 and s.record.writer != s.writer


def never_started(s: Situation) -> bool:
    return s.record.target == 0


def somebody_holds_our_name(s: Situation) -> bool:
    return any(m.pod is not None and not m.pod.ours and not m.pod.deleting for m in s.members)


def gathering(s: Situation) -> bool:
    return s.record.target > s.record.released


def running(s: Situation) -> bool:
    return s.record.target == s.record.released


def something_fatal(s: Situation) -> bool:
    return any(v.fatal for v in s.verdicts)


def everyone_succeeded(s: Situation) -> bool:
    return all(m.succeeded for m in s.members)


def a_pod_cannot_come_back(s: Situation) -> bool:
    return any(_terminal(m) for m in s.members)


def a_pod_failed(s: Situation) -> bool:
    return any(m.pod is not None and m.pod.phase == "Failed" for m in s.members)


def something_failed(s: Situation) -> bool:
    return bool(s.verdicts)


def somebody_entitled_waits(s: Situation) -> bool:
    return bool(_entitled(s))


def everyone_at_barrier(s: Situation) -> bool:
    return all(m.at_barrier for m in s.members)


def everyone_promised(s: Situation) -> bool:
    asked = s.round
    return asked is not None and _current(s, asked) and all(m.holds(asked.promise) for m in s.members)


# ---- steps ----


def rest_finished(s: Situation) -> Step:
    return Rest("the gang has ended")


def rest_deposed(s: Situation) -> Step:
    return Rest(f"{s.record.writer} leads now")


def rest_running(s: Situation) -> Step:
    return Rest(f"{len(s.members)} ranks run attempt {s.record.released}")


def take_over(s: Situation) -> Step:
    return TakeOver()


def start(s: Situation) -> Step:
    return RaiseTarget(None)


def fail(s: Situation) -> Step:
    return Fail(next(v for v in s.verdicts if v.fatal))


def complete(s: Situation) -> Step:
    return Complete()


def raise_target(s: Situation) -> Step:
    return RaiseTarget(s.verdicts[0])


def hold_for_foreign_pod(s: Situation) -> Step:
    taken = [m for m in s.members if m.pod is not None and not m.pod.ours]
    return Hold(
        f"rank {ranges(m.rank for m in taken)}: pod {taken[0].pod_name} belongs to somebody else; "
        "delete it or give the gang another name"
    )


def hold_for_terminal_pod(s: Situation) -> Step:
    stuck = [m for m in s.members if _terminal(m)]
    first = stuck[0].pod
    assert first is not None  # noqa: S101  (_terminal looked)
    why = _why_terminal(first)
    return Hold(
        f"rank {ranges(m.rank for m in stuck)}: pod {first.name} has {first.phase}{f' ({why})' if why else ''} "
        "and cannot restart in place; delete it to have it created anew"
    )


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
    behind = tuple(
        m
        for m in s.members
        if m.life and m.life.connected and not m.life.leaving and 0 < m.life.attempt < s.record.target
    )
    return Gather(
        create=tuple(m for m in s.members if m.pod is None),
        reset=behind,
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
    ((never_started,), start),
    ((something_fatal,), fail),
    ((running, everyone_succeeded), complete),
    ((running, a_pod_failed), hold_for_terminal_pod),
    ((running, something_failed), raise_target),
    ((running, somebody_entitled_waits), release),
    ((running,), rest_running),
    ((gathering, a_pod_cannot_come_back), hold_for_terminal_pod),
    ((gathering, everyone_at_barrier, everyone_promised), commit),
    ((gathering, everyone_at_barrier), ping),
    ((gathering,), gather),
)


def step(situation: Situation) -> Step:
    """The next step. A state that no line covers is held, with the record in the message: it never raises."""
    for tests, answer in STEPS:
        if all(test(situation) for test in tests):
            return answer(situation)
    return Hold(f"the record makes no sense: target {situation.record.target} < released {situation.record.released}")


def _terminal(member: Member) -> bool:
    return member.pod is not None and member.pod.terminal


def _why_terminal(pod: Pod) -> str:
    failed = pod.preparing
    if failed is None or failed.ended is None:
        return pod.reason or pod.message
    why = f"init container {failed.name} exited {failed.ended.exit_code}, {failed.ended.reason}"
    if failed.ended.reason == "StartError" and failed.name.startswith(RESERVED_PREFIX):
        why += ": does its image have no /bin/sh? Set lifeImage of the group to one that has"
    return why


def _entitled(s: Situation) -> tuple[Member, ...]:
    return tuple(m for m in s.members if m.life and m.life.waits and m.life.connected and m.holds(s.committed))


def _current(s: Situation, asked: Round) -> bool:
    return asked.promise.attempt == s.record.target and asked.lives == s.lives_at_barrier


def _transitions(writer: str) -> int:
    """`controller-7c9f/12` → 12: how often the Lease had changed hands when that leader took it."""
    number = writer.rpartition("/")[2]
    return int(number) if number.isdigit() else -1
