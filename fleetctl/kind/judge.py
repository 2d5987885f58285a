"""Judges a run by what the trainers themselves wrote down: who ran which attempt, when and where (design: invariants).

Shares nothing with what it judges and knows no API object. Who tries a gang has to say what was done on purpose: the
pods that were fenced (frozen, killed, deleted by force), the ranks whose pods had to move. All times are Unix times.

Add an invariant: write a generator of violations, call it in `_violations`, show in tests/unit/kind/test_judge.py that
it bites.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fleetctl.sim.oracle import Violation

TOLERANCE_S = 0.1  # a trainer marks every 50 ms that it is alive


@dataclass(frozen=True)
class Start:
    """A trainer has started: one line of its log."""

    rank: int
    attempt: int
    at: float
    uid: str
    node: str

    def __str__(self) -> str:
        return f"rank {self.rank} (pod {self.uid} on {self.node}) in attempt {self.attempt}"


@dataclass(frozen=True)
class Run(Start):
    """A start, and the last moment at which that trainer was seen alive."""

    until: float


def judge(
    starts: Iterable[Start],
    alive: Mapping[tuple[str, int], float],
    *,
    fenced: Collection[str] = (),
    moved: Collection[int] = (),
    released: Mapping[int, float] | None = None,
) -> list[str]:
    """Every violation as a sentence.

    `alive`: by pod uid and attempt, when that trainer was last seen alive. `fenced`: uids. `moved`: ranks. `released`:
    when an attempt was released, as far as somebody saw it; an attempt that is missing is not judged by S3.
    """
    found = _violations(starts, alive, fenced=fenced, moved=moved, released=released or {})
    return [f"{violation.invariant}: {violation.text}" for violation in found]


def judged(
    starts: Iterable[Start],
    alive: Mapping[tuple[str, int], float],
    *,
    fenced: Collection[str],
    moved: Collection[int],
    released: Mapping[int, float],
    began: float,
) -> list[Violation]:
    """The same, for the outcome of a run whose second 0 is the Unix time `began`: in order of time."""
    found = _violations(starts, alive, fenced=fenced, moved=moved, released=released)
    return sorted((replace(v, at=v.at - began) for v in found), key=lambda v: v.at)


def _violations(
    starts: Iterable[Start],
    alive: Mapping[tuple[str, int], float],
    *,
    fenced: Collection[str],
    moved: Collection[int],
    released: Mapping[int, float],
) -> list[Violation]:
    """Each `at` the moment from which the invariant did not hold."""
    runs = sorted(
        (Run(**vars(s), until=max(s.at, alive.get((s.uid, s.attempt), s.at))) for s in starts),
        key=lambda run: (run.at, run.rank),
    )
    unfenced = [run for run in runs if run.uid not in fenced]
    return [
        *_earlier_attempts_are_over(unfenced, runs),
        *_one_start_per_attempt(runs),
        *_no_start_before_its_release(runs, released),
        *_no_pod_changes(runs, moved),
        *_one_trainer_per_rank(unfenced, runs),
    ]


def _earlier_attempts_are_over(unfenced: list[Run], runs: list[Run]) -> Iterator[Violation]:
    first: dict[int, Run] = {}
    for run in runs:
        first.setdefault(run.attempt, run)
    for run in unfenced:
        later = [f for attempt, f in first.items() if attempt > run.attempt]
        if not later:
            continue
        began = min(later, key=lambda f: f.at)
        if run.at > began.at + TOLERANCE_S:
            late = run.at - began.at
            yield Violation("S1", run.at, f"{run} started {late:.2f} s after {began} had started")
        elif run.until > began.at + TOLERANCE_S:
            late = run.until - began.at
            yield Violation("S1", began.at, f"{run} was alive until {late:.2f} s after {began} had started")


def _one_start_per_attempt(runs: list[Run]) -> Iterator[Violation]:
    started: dict[tuple[int, int], list[float]] = {}
    for run in runs:
        started.setdefault((run.rank, run.attempt), []).append(run.at)
    for (rank, attempt), times in started.items():
        if len(times) > 1:
            yield Violation("S2", times[1], f"rank {rank} started its trainer {len(times)} times in attempt {attempt}")


def _no_start_before_its_release(runs: list[Run], released: Mapping[int, float]) -> Iterator[Violation]:
    for run in runs:
        early = released.get(run.attempt, run.at) - run.at
        if early > 0:
            yield Violation("S3", run.at, f"{run} started {early:.3f} s before that attempt was released")


def _no_pod_changes(runs: list[Run], moved: Collection[int]) -> Iterator[Violation]:
    last: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.attempt, run.at)):
        before = last.get(run.rank)
        if before and before.attempt < run.attempt and before.uid != run.uid and run.rank not in moved:
            was = f"{before.uid} on {before.node}"
            yield Violation("S4", run.at, f"{run} runs in another pod than in attempt {before.attempt} ({was})")
        last[run.rank] = run


def _one_trainer_per_rank(unfenced: list[Run], runs: list[Run]) -> Iterator[Violation]:
    pods: dict[tuple[int, int], dict[str, float]] = {}  # uid → its first start, in order of time
    for run in runs:
        pods.setdefault((run.rank, run.attempt), {}).setdefault(run.uid, run.at)
    for (rank, attempt), first in pods.items():
        if len(first) > 1:
            told = f"rank {rank} ran attempt {attempt} in {len(first)} pods: {', '.join(sorted(first))}"
            yield Violation("S5", list(first.values())[1], told)
    lasting: dict[int, Run] = {}  # by rank, the run that was alive longest so far
    for run in unfenced:
        other = lasting.get(run.rank)
        if other and other.uid != run.uid and other.until > run.at + TOLERANCE_S:
            early = other.until - run.at
            yield Violation("S5", run.at, f"{run} started {early:.2f} s before {other} had ended")
        if other is None or run.until > other.until:
            lasting[run.rank] = run
