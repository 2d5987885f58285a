"""Lockstep: the ranks of a gang make steps only while all of them run the same attempt and reach each other.

What the trainers of a gang have done together, for progress reports and for the end of the job. A new attempt begins at
the last checkpoint's step. All wait for the slowest rank, in each step. When one hangs, the others have begun the step
that it keeps them from, and count it.
"""

import asyncio
import contextvars
from collections.abc import Callable

WORK = 0.8
"""The share of a step that a rank works by itself."""


class Training:
    """One gang of `size` ranks. `step_s`: seconds a step takes; `runs_for_s`: training after which all ranks exit 0
    (`finish` is called), None: for ever; `checkpoint_s`: training from one checkpoint to the next, None: nothing is
    ever lost."""

    def __init__(
        self,
        size: int,
        step_s: float,
        runs_for_s: float | None,
        finish: Callable[[], None],
        checkpoint_s: float | None = None,
    ) -> None:
        self._size = size
        self._step_s = step_s
        self._runs_for_s = runs_for_s
        self._finish = finish
        self._checkpoint_s = checkpoint_s
        self._running: dict[str, tuple[int, str]] = {}
        """By pod uid, the attempt it runs and its node."""
        self._ranks: dict[int, int] = {}
        """By attempt, how many ranks run it."""
        self._absent: set[str] = set()
        self._slow: dict[int, float] = {}
        """By rank, how many times longer its own work takes."""
        self._done_s = 0.0
        """Of training at full pace."""
        self._since: float | None = None
        self._end: asyncio.TimerHandle | None = None
        self._first: tuple[int, int] = (0, 0)
        """The attempt that was complete last, and how many steps had been made when it became so."""
        self._begun: tuple[int, int] = (0, 0)
        """The attempt in which somebody hung, and the step that the others had begun."""
        self._hanging: set[str] = set()
        self._hung_at = 0.0

    @property
    def complete(self) -> bool:
        """Whether all ranks run one attempt, and reach each other."""
        return self._since is not None

    @property
    def step(self) -> int:
        """How many steps the gang has made."""
        return int(self._trained_s() / self._step_s)

    def step_of(self, uid: str) -> int | None:
        """How many steps the trainer of that pod has counted; None if it has made none since it started."""
        attempt = self._running.get(uid, (0, ""))[0]
        counted = self.step
        if attempt == self._begun[0] and uid not in self._hanging:
            counted = max(counted, self._begun[1])
        of, before = self._first
        return counted if attempt == of and counted > before else None

    def work_s(self, rank: int) -> float:
        """How much of each step that rank works by itself; in the rest it hears of the others."""
        return WORK * self._step_s * self._slow.get(rank, 1.0)

    def slows(self, rank: int, factor: float) -> None:
        """The rank's own work takes so many times as long from now on; 1: no longer."""
        self._rebase()
        self._slow[rank] = factor
        self._go_on()

    def hangs(self, uid: str) -> None:
        """That pod's trainer stands still."""
        if self.complete and uid in self._running:
            self._begun, self._hanging, self._hung_at = (self._running[uid][0], self.step + 1), {uid}, _now()
        elif self._hung_at == _now():
            self._hanging.add(uid)
        self.absent(uid)

    def started(self, uid: str, attempt: int, node: str) -> None:
        self._running[uid] = attempt, node
        self._ranks[attempt] = self._ranks.get(attempt, 0) + 1
        self._look()

    def ended(self, uid: str) -> None:
        if uid in self._running:
            self._ranks[self._running.pop(uid)[0]] -= 1
            self._look()

    def absent(self, node_or_uid: str) -> None:
        """Who is there, or this pod, stands still or cannot be reached."""
        self._absent.add(node_or_uid)
        self._look()

    def present(self, node_or_uid: str) -> None:
        self._absent.discard(node_or_uid)
        self._look()

    def _trained_s(self) -> float:
        return self._done_s + ((_now() - self._since) * self._pace() if self._since is not None else 0.0)

    def _kept_s(self) -> float:
        """As much of the training, in whole steps, as the last checkpoint holds."""
        if self._checkpoint_s is None:
            return self._done_s
        return self._done_s // self._checkpoint_s * self._checkpoint_s // self._step_s * self._step_s

    def _pace(self) -> float:
        """1 unless somebody is slow."""
        return 1.0 / (1.0 + WORK * (max(self._slow.values(), default=1.0) - 1.0))

    def _is_full(self) -> bool:
        attempt = next((a for a, ranks in self._ranks.items() if ranks == self._size), None)
        if attempt is None or not self._absent:
            return attempt is not None
        return not any(
            of == attempt and (uid in self._absent or node in self._absent) for uid, (of, node) in self._running.items()
        )

    def _look(self) -> None:
        full = self._is_full()
        if full and self._since is None:
            attempt = next(a for a, ranks in self._ranks.items() if ranks == self._size)
            if attempt != self._first[0]:
                self._done_s = self._kept_s()
                self._first = attempt, self.step
            self._since = _now()
            self._go_on()
        elif not full and self._since is not None:
            self._rebase()
            self._since = None

    def _rebase(self) -> None:
        """What is counted from now on goes at another pace, or not at all."""
        if self._since is not None:
            self._done_s, self._since = self._trained_s(), _now()
        if self._end:
            self._end.cancel()

    def _go_on(self) -> None:
        if self._since is not None and self._runs_for_s is not None:
            left = max(0.0, self._runs_for_s - self._done_s) / self._pace()
            # nobody's: whoever told us of the last start may be frozen by then
            nobody = contextvars.Context()
            self._end = asyncio.get_running_loop().call_later(left, self._finish, context=nobody)


def _now() -> float:
    return asyncio.get_running_loop().time()
