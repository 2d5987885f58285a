"""Many runs at once, in processes of their own, none of which is lost: not even one that takes its process with it.
And what they add up to.

Knows nothing of what a run is: that is the function it is given, which must be importable by name.
"""

import itertools
import logging
import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, field

from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome, not_run

Run = tuple[Scenario, int]
"""A scenario and a seed."""
Simulate = Callable[[Scenario, int], Outcome]
Numbered = tuple[int, Run]


KEPT_STORIES, SLOWEST = 20, 5


class Tally(Struct):
    """Any number of runs. `sizes` counts them by ranks, `faults` by kind, `invariants` how often each was checked;
    `slowest` are (wall seconds, seed); `failed` are runs as programs are told of them, a few with their story."""

    runs: int = 0
    elapsed_s: float = 0.0
    simulated_s: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    invariants: dict[str, int] = field(default_factory=dict)
    situations: dict[str, int] = field(default_factory=dict)
    slowest: list[tuple[float, int]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, scenario: Scenario, outcome: Outcome, told: dict[str, Any]) -> None:
        """One more run."""
        low = 1 << (scenario.world.gang.ranks.bit_length() - 1)
        self.merge(
            Tally(
                runs=1,
                simulated_s=outcome.virtual_s,
                sizes={f"{low}-{2 * low - 1}": 1},
                faults=outcome.faults,
                invariants=outcome.evaluated,
                situations=outcome.situations,
                slowest=[(round(outcome.wall_s, 3), outcome.seed)],
                failed=[told] if outcome.verdict == "fail" else [],
            )
        )

    def merge(self, other: "Tally") -> None:
        """All runs of another."""
        self.runs += other.runs
        self.elapsed_s += other.elapsed_s
        self.simulated_s += other.simulated_s
        for counts in ("sizes", "faults", "invariants", "situations"):
            setattr(self, counts, dict(Counter(getattr(self, counts)) + Counter(getattr(other, counts))))
        self.slowest = sorted([*self.slowest, *other.slowest], reverse=True)[:SLOWEST]
        self.failed = sorted([*self.failed, *other.failed], key=lambda run: int(run["seed"]))
        for run in self.failed[KEPT_STORIES:]:
            run.pop("story", None)


def run_all(runs: Iterable[Run], simulate: Simulate, jobs: int) -> Generator[tuple[int, Outcome], None, None]:
    """Each run's number and outcome, as they end, `jobs` at a time. The next run is asked for when there is room.

    A run whose process dies is tried once more, alone; if it dies again it could not be made, and says so. On an
    exception (Ctrl-C), or when nobody asks for more, all processes end at once.
    """
    waiting = enumerate(runs)
    while suspects := (yield from _until_one_dies(waiting, simulate, jobs)):
        for number, run in suspects:
            if (yield from _until_one_dies(iter([(number, run)]), simulate, 1)):
                yield number, not_run(run[0].name, run[1], "the process of this run died")


def silence() -> None:
    """What simulated controllers log goes nowhere, unless somebody asks for it: what they do is in the story."""
    logging.getLogger("fleetctl").addHandler(logging.NullHandler())


def _until_one_dies(
    waiting: Iterator[Numbered], simulate: Simulate, jobs: int
) -> Generator[tuple[int, Outcome], None, list[Numbered]]:
    """Runs what waits until all is done, or a process died; returns the runs that one of them may be to blame for."""
    running: dict[Future[Outcome], Numbered] = {}
    with _pool(jobs) as pool:
        while True:
            for numbered in itertools.islice(waiting, jobs - len(running)):
                try:
                    running[_submit(pool, simulate, numbered[1])] = numbered
                except BrokenProcessPool:
                    return [*running.values(), numbered]
            if not running:
                return []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    continue
                number, (scenario, seed) = running.pop(future)
                if error is None:
                    yield number, future.result()
                else:
                    yield number, not_run(scenario.name, seed, f"{type(error).__name__}: {error}")
            if any(future.done() and isinstance(future.exception(), BrokenProcessPool) for future in running):
                return list(running.values())


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=silence) as pool:
        try:
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():  # else the pool would wait for what they are at
                process.terminate()
            raise


def _submit(pool: ProcessPoolExecutor, simulate: Simulate, run: Run) -> Future[Outcome]:
    # A process is started in here, and keeps what signals were blocked then: Ctrl-C, which a terminal sends to all
    # of us, is for the first one to answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(simulate, *run)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
