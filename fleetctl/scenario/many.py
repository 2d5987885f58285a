"""Many runs at once, in processes of their own, none of which is lost: not even one that takes its process with it.

Knows nothing of what a run is: that is the function it is given, which must be importable by name.
"""

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome, not_run

Run = tuple[Scenario, int]
"""A scenario and a seed."""
Simulate = Callable[[Scenario, int], Outcome]
Numbered = tuple[int, Run]


def run_all(runs: Iterable[Run], simulate: Simulate, jobs: int) -> Generator[tuple[int, Outcome], None, None]:
    """Each run's number and outcome, as they end, `jobs` at a time.

    A run whose process dies is tried once more, alone; if it dies again it could not be made, and says so. On an
    exception (Ctrl-C), or when nobody asks for more, all processes end at once.
    """
    waiting: deque[Numbered] = deque(enumerate(runs))
    while waiting:
        suspects = yield from _until_one_dies(waiting, simulate, jobs)
        for number, run in suspects:
            alone: deque[Numbered] = deque([(number, run)])
            if (yield from _until_one_dies(alone, simulate, 1)):
                yield number, not_run(run[0].name, run[1], "the process of this run died")


def silence() -> None:
    """What simulated controllers log goes nowhere, unless somebody asks for it: what they do is in the story."""
    logging.getLogger("fleetctl").addHandler(logging.NullHandler())


def _until_one_dies(
    waiting: deque[Numbered], simulate: Simulate, jobs: int
) -> Generator[tuple[int, Outcome], None, list[Numbered]]:
    """Runs what waits until all is done, or a process died; returns the runs that one of them may be to blame for."""
    running: dict[Future[Outcome], Numbered] = {}
    with _pool(jobs) as pool:
        while waiting or running:
            while waiting and len(running) < jobs:
                try:
                    future = _submit(pool, simulate, waiting[0][1])
                except BrokenProcessPool:
                    return list(running.values())
                running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    continue
                number, (scenario, seed) = running.pop(future)
                if error is None:
                    yield number, future.result()
                else:
                    yield number, not_run(scenario.name, seed, f"{type(error).__name__}: {error}")
            if any(future.done() for future in running):
                return list(running.values())
    return []


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
