"""The event loop's turns, kept short: whoever waits for a timer, a probe or a renewal of the Lease waits for one turn.

Ten thousand agents that answer at once would make one turn of a second, for asyncio attends to all sockets that are
ready before it looks at the clock again. Here it is told of some; those left over are the first next time. The garbage
collector's pauses are part of turns too: it goes through all that lives, and an agent's stream is seventy objects.

Knows nothing of what is done in a turn.
"""

import asyncio
import gc
import select
import selectors
from bisect import bisect_left
from collections.abc import Callable

SOCKETS_A_TURN = 64
YOUNG, MIDDLING = 10_000, 5
"""Objects made since the last small collection, and small ones since the last middling one, that bring about the next:
by default it is 700 objects, of which a plan for ten thousand ranks makes a hundred times as many."""
LOOK_EVERY_S = 1.0
GONE, MOST_LIVE = 500, 2_000
"""So many streams must have ended before a whole collection is worth its pause; with more than so many open it would be
too long: 30 to 70 ms with 1,024 of them, 200 with 6,000, of a bare server."""


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop with short turns, where the system has epoll; an ordinary one elsewhere."""
    if not hasattr(select, "epoll"):
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(_FewAtATime())


async def spare_what_lives(streams: Callable[[], int], ended: Callable[[], int]) -> None:
    """Until cancelled, keep the garbage collector from looking again and again at what is there to stay: whatever there
    is when there are a quarter more `streams` than the last time.

    What goes is freed all the same, but for cycles: a closed transport of asyncio's holds itself by one of its methods.
    So once as many streams have `ended` as are open, all is collected that is not spared; where that would take too
    long, it waits for the collector's own time."""
    gc.set_threshold(YOUNG, MIDDLING, gc.get_threshold()[2])
    gc.freeze()
    spared = collected = 0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now, gone = streams(), ended() - collected
        if now > 1.25 * spared:
            gc.freeze()
            spared = now
        elif gone >= max(now, GONE) and now <= MOST_LIVE:
            gc.collect()
            collected += gone


class Durations:
    """How long something took, each time: `counts` are of those no longer than each of `BOUNDS_S`, and of the rest."""

    BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

    def __init__(self) -> None:
        self.longest_s = self.sum_s = 0.0
        self.counts = [0] * (len(self.BOUNDS_S) + 1)

    def note(self, seconds: float) -> None:
        self.longest_s = max(self.longest_s, seconds)
        self.sum_s += seconds
        self.counts[bisect_left(self.BOUNDS_S, seconds)] += 1


class Lateness(Durations):
    """By how much a timer of ours fires late: for so long was the loop busy with others, or the process not let run. A
    turn that had begun before the timer was due looks shorter than it was, by at most `TIMER_S`."""

    TIMER_S = 0.02

    async def measure(self) -> None:
        """Until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() + self.TIMER_S
            await asyncio.sleep(self.TIMER_S)
            self.note(max(0.0, now() - due))


class _Few:
    """An epoll that tells of some sockets; of the others next time, before those it has told of."""

    def __init__(self) -> None:
        self._epoll = epoll = select.epoll()
        self.register, self.unregister, self.modify = epoll.register, epoll.unregister, epoll.modify
        self.fileno, self.close = epoll.fileno, epoll.close

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        return self._epoll.poll(timeout, min(most, SOCKETS_A_TURN))


class _FewAtATime(selectors.EpollSelector):
    _selector_cls = _Few
