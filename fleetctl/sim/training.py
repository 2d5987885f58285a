"""Lockstep: the ranks of a gang make steps only while all of them run the same attempt and reach each other.

What the trainers of a gang have done together, for progress reports and for the end of the job. Nothing is lost in a
restart: a checkpoint every step.
"""

import asyncio
import contextvars
from collections.abc import Callable


class Training:
    """One gang of `size` ranks. `step_s`: seconds a step takes; `runs_for_s`: training after which all ranks exit 0
    (`finish` is called), None: for ever."""

    def __init__(self, size: int, step_s: float, runs_for_s: float | None, finish: Callable[[], None]) -> None:
        self._size = size
        self._step_s = step_s
        self._runs_for_s = runs_for_s
        self._finish = finish
        self._running: dict[str, tuple[int, str]] = {}
        """By pod uid, the attempt it runs and its node."""
        self._ranks: dict[int, int] = {}
        """By attempt, how many ranks run it."""
        self._absent: set[str] = set()
        self._done_s = 0.0
        self._since: float | None = None
        self._end: asyncio.TimerHandle | None = None

    @property
    def complete(self) -> bool:
        """Whether all ranks run one attempt, and reach each other."""
        return self._since is not None

    @property
    def step(self) -> int:
        """How many steps the gang has made."""
        return int(self._trained_s() / self._step_s)

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
        return self._done_s + (_now() - self._since if self._since is not None else 0.0)

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
            self._since = _now()
            if self._runs_for_s is not None:
                left = max(0.0, self._runs_for_s - self._done_s)
                # nobody's: whoever told us of the last start may be frozen by then
                nobody = contextvars.Context()
                self._end = asyncio.get_running_loop().call_later(left, self._finish, context=nobody)
        elif not full and self._since is not None:
            self._done_s, self._since = self._trained_s(), None
            if self._end:
                self._end.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
