"""JobSet's in-place restart as its source describes it (v0.12: cmd/in-place-restart-agent, in_place_restart.go), as far
as attempts go: who reads what, and when. Not its code, and nothing of it was run.

An agent reads the JobSet's status when it starts, claims the attempt after the one it reads, and lets its worker start
once the status says that attempt. What it reads first may be stale, as from the watch cache of an API server that lags.
"""

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple


class Status(NamedTuple):
    """`current`: the attempt whose barrier is open, -1 before the first; pods with an attempt up to `previous` must
    restart."""

    current: int = -1
    previous: int = -1


class JobSet:
    """A gang of so many pods. A share of the agents' first reads is one write behind.

    `started` has (rank, attempt) of every worker that started; `alone` says which of them joined an attempt that they
    had been in before, while the others ran on.
    """

    def __init__(self, seed: int, ranks: int, stale: float) -> None:
        self._rng = random.Random(seed)
        self._stale = stale
        self._history = [Status()]
        self._claims: list[int | None] = [None] * ranks
        self._lives = [0] * ranks
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._watching: list[Callable[[], None]] = []
        self._now = 0.0
        self._number = 0
        self.started: list[tuple[int, int]] = []
        self.alone: list[tuple[int, int]] = []
        for rank in range(ranks):
            self._soon(lambda rank=rank: self._begins(rank), 0.1, 3.0)  # type: ignore[misc]

    def crash(self, at: float, rank: int) -> None:
        """The worker of that rank crashes; all containers of its pod are restarted."""
        self._at(at, lambda: self._restarts(rank))

    def run(self) -> None:
        """Until nothing more happens."""
        while self._events:
            self._now, _, happens = heapq.heappop(self._events)
            happens()

    def _at(self, at: float, happens: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, happens))

    def _soon(self, happens: Callable[[], None], low: float, high: float) -> None:
        self._at(self._now + self._rng.uniform(low, high), happens)

    # Agents

    def _restarts(self, rank: int) -> None:
        self._lives[rank] += 1
        self._soon(lambda: self._begins(rank), 0.5, 2.0)

    def _begins(self, rank: int) -> None:
        """A life of an agent: one read, one claim, and a watch from that version on."""
        lags = len(self._history) > 1 and self._rng.random() < self._stale
        read = len(self._history) - (2 if lags else 1)
        current = self._history[read].current
        attempt, life = current + 1, self._lives[rank]
        self._soon(lambda: self._claimed(rank, life, attempt), 0.005, 0.05)
        self._sees(rank, life, attempt, read, lifted=False)

    def _claimed(self, rank: int, life: int, attempt: int) -> None:
        if self._lives[rank] == life:
            self._claims[rank] = attempt
            self._soon(self._reconcile, 0.005, 0.05)

    def _sees(self, rank: int, life: int, attempt: int, version: int, *, lifted: bool) -> None:
        if self._lives[rank] != life:
            return
        status = self._history[version]
        if attempt <= status.previous:
            self._restarts(rank)
            return
        if attempt == status.current and not lifted:
            lifted = True
            if (rank, attempt) in self.started:
                self.alone.append((rank, attempt))
            self.started.append((rank, attempt))
        self._watches(rank, life, attempt, version + 1, lifted=lifted)

    def _watches(self, rank: int, life: int, attempt: int, version: int, *, lifted: bool) -> None:
        if version < len(self._history):
            self._soon(lambda: self._sees(rank, life, attempt, version, lifted=lifted), 0.005, 0.1)
        else:
            self._watching.append(lambda: self._watches(rank, life, attempt, version, lifted=lifted))

    # The controller

    def _reconcile(self) -> None:
        known, status = [claim for claim in self._claims if claim is not None], self._history[-1]
        if len(known) == len(self._claims) and len(set(known)) == 1:
            wanted = status._replace(current=known[0])
        elif known and max(known) > 0:
            wanted = status._replace(previous=max(status.previous, max(known) - 1))
        else:
            wanted = status
        if wanted != status:
            self._history.append(wanted)
            watching, self._watching = self._watching, []
            for goes_on in watching:
                goes_on()
