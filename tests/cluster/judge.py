"""Judges a run by what the trainers themselves wrote down: who ran which attempt, when and where (design: invariants).

Shares nothing with fleetctl and knows no API object. What a test did on purpose it has to say: the pods it fenced
(froze, killed, deleted by force), the ranks whose pods it made move.

Add an invariant: write a generator of sentences, call it in `judge`, show in tests/unit/test_judge.py that it bites.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

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
    when an attempt was released, as far as the test saw it; an attempt that is missing is not judged by S3.
    """
    runs = sorted(
        (Run(**vars(s), until=max(s.at, alive.get((s.uid, s.attempt), s.at))) for s in starts),
        key=lambda run: (run.at, run.rank),
    )
    unfenced = [run for run in runs if run.uid not in fenced]
    return [
        *_earlier_attempts_are_over(unfenced, runs),
        *_one_start_per_attempt(runs),
        *_no_start_before_its_release(runs, released or {}),
        *_no_pod_changes(runs, moved),
        *_one_trainer_per_rank(unfenced, runs),
    ]


def _earlier_attempts_are_over(unfenced: list[Run], runs: list[Run]) -> Iterator[str]:
    first: dict[int, Run] = {}
    for run in runs:
        first.setdefault(run.attempt, run)
    for run in unfenced:
        later = [f for attempt, f in first.items() if attempt > run.attempt]
        if not later:
            continue
        began = min(later, key=lambda f: f.at)
        if run.at > began.at + TOLERANCE_S:
            yield f"S1: {run} started {run.at - began.at:.2f} s after {began} had started"
        elif run.until > began.at + TOLERANCE_S:
            yield f"S1: {run} was alive until {run.until - began.at:.2f} s after {began} had started"


def _one_start_per_attempt(runs: list[Run]) -> Iterator[str]:
    for (rank, attempt), times in Counter((run.rank, run.attempt) for run in runs).items():
        if times > 1:
            yield f"S2: rank {rank} started its trainer {times} times in attempt {attempt}"


def _no_start_before_its_release(runs: list[Run], released: Mapping[int, float]) -> Iterator[str]:
    for run in runs:
        early = released.get(run.attempt, run.at) - run.at
        if early > 0:
            yield f"S3: {run} started {early:.3f} s before that attempt was released"


def _no_pod_changes(runs: list[Run], moved: Collection[int]) -> Iterator[str]:
    last: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.attempt, run.at)):
        before = last.get(run.rank)
        if before and before.attempt < run.attempt and before.uid != run.uid and run.rank not in moved:
            yield f"S4: {run} runs in another pod than in attempt {before.attempt} ({before.uid} on {before.node})"
        last[run.rank] = run


def _one_trainer_per_rank(unfenced: list[Run], runs: list[Run]) -> Iterator[str]:
    pods: dict[tuple[int, int], set[str]] = {}
    for run in runs:
        pods.setdefault((run.rank, run.attempt), set()).add(run.uid)
    for (rank, attempt), uids in pods.items():
        if len(uids) > 1:
            yield f"S5: rank {rank} ran attempt {attempt} in {len(uids)} pods: {', '.join(sorted(uids))}"
    lasting: dict[int, Run] = {}  # by rank, the run that was alive longest so far
    for run in unfenced:
        other = lasting.get(run.rank)
        if other and other.uid != run.uid and other.until > run.at + TOLERANCE_S:
            yield f"S5: {run} started {other.until - run.at:.2f} s before {other} had ended"
        if other is None or run.until > other.until:
            lasting[run.rank] = run
