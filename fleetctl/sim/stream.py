"""A watch on its way to its client: delayed, in order, with whatever befalls it.

The server's side puts lines in as changes are committed; they arrive later; the client's side reads what has arrived.
One timer serves all lines that are on their way. Runs as part of the world: a client that is frozen misses nothing, one
that was killed is told nothing more.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable

from fleetctl.sim.journal import Key
from fleetctl.sim.requests import Request
from fleetctl.sim.troubles import Between, Closed, Coalesced, Delayed, Duplicated, Outage, Reset, Stalled, Trouble
from fleetctl.sim.watch import Line, Watch

BOOKMARK_S = 60.0
LOOK_AGAIN_S = 0.2
"""How often it is tried to get through to a host that is in the dark."""


class Broken(Exception):
    """The connection broke in the middle of a line."""


class Stream:
    """Opens the watch at once. `reached` says whether anything gets through to the client now, `alive` whether there is
    still a program that could read it."""

    def __init__(
        self,
        watch: Watch,
        request: Request,
        between: Between,
        *,
        reached: Callable[[], bool],
        alive: Callable[[], bool],
    ) -> None:
        self.request = request
        self._watch = watch
        self._between = between
        self._reached = reached
        self._alive = alive
        self._loop = asyncio.get_running_loop()
        self._world = contextvars.Context()
        self._coming: deque[tuple[float, bytes]] = deque()
        """What is on its way, and when it may arrive: not before what is ahead of it. An empty line is the end."""
        self._next: asyncio.TimerHandle | None = None
        self._window: dict[Key, Line] = {}
        """What waits for the end of a window of Coalesced."""
        self._arrived: list[bytes] = []
        self._ended = False
        self._doomed = False
        self._broken = False
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        self._timers: dict[object, asyncio.TimerHandle] = {}
        """What else is to happen to it, by what for."""
        watch.open(self._put)
        if watch.failed:
            self.finish()
            return
        self._timers["end"] = self._later(watch.seconds, self.finish)
        if watch.bookmarks:
            self._timers["bookmark"] = self._later(BOOKMARK_S, self._bookmark)
        for trouble in between.troubles:
            self.begins(trouble)

    # The client's side

    async def read(self) -> list[bytes]:
        """All lines that have arrived, or the next ones; none if the server has ended the watch. Raises Broken."""
        while not self._arrived and not self._ended and not self._broken:
            self._waiting = self._loop.create_future()
            await self._waiting
        if self._broken:
            raise Broken
        lines, self._arrived = self._arrived, []
        return lines

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self._watch.close()
        for timer in (*self._timers.values(), *([self._next] if self._next else ())):
            timer.cancel()
        self._coming.clear()
        self._window.clear()

    @property
    def closed(self) -> bool:
        return self._closed

    # What befalls it

    def begins(self, trouble: Trouble) -> None:
        """A trouble begins, or was there when the watch was opened."""
        if self._closed or not trouble.concerns(self.request):
            return
        match trouble:
            case Outage():
                self.break_off()
            case Reset():
                self._doomed = self._doomed or self._between.befalls(trouble, self.request)
            case Closed(every_s=seconds):
                self._timers[trouble] = self._later(seconds, self._finish_if, trouble)

    def ends(self, trouble: Trouble) -> None:
        """A trouble is over: what it held back goes its way."""
        if self._closed or not trouble.concerns(self.request):
            return
        if isinstance(trouble, Coalesced):
            self._release()
        if isinstance(trouble, Stalled):
            self._deliver()

    def break_off(self) -> None:
        """The connection breaks; what had not been read is lost."""
        self._watch.close()
        self._broken = True
        self._deliver()

    # The server's side

    def _put(self, line: Line) -> None:
        if not self._alive():
            self.close()
            return
        if self._between.troubles and (windows := self._between.in_force(Coalesced, self.request)):
            if line.type in {"ADDED", "MODIFIED", "DELETED"}:
                if not self._window:
                    longest = max(each.window_s for each in windows)
                    self._timers["window"] = self._later(longest, self._release)
                self._window[line.key] = _newest(self._window.pop(line.key, None), line)
                return
            self._release()
        self._send(line.data)

    def _release(self) -> None:
        window, self._window = self._window, {}
        if timer := self._timers.pop("window", None):
            timer.cancel()
        for line in window.values():
            self._send(line.data)

    def _send(self, data: bytes) -> None:
        between, copies, delay = self._between, 1, self._between.latency()
        if between.troubles:
            delay += sum(each.by_s for each in between.in_force(Delayed, self.request))
            copies += sum(between.befalls(each, self.request) for each in between.in_force(Duplicated, self.request))
        arrives = self._loop.time() + delay
        self._coming.extend([(arrives, data)] * copies)
        if self._next is None:
            self._next = self._loop.call_at(arrives, self._deliver, context=self._world)

    def finish(self) -> None:
        """The server ends the watch, after all it has said."""
        self._release()
        self._watch.close()
        self._send(b"")

    def _finish_if(self, trouble: Trouble) -> None:
        if trouble in self._between.troubles:
            self.finish()

    def _bookmark(self) -> None:
        self._timers["bookmark"] = self._later(BOOKMARK_S, self._bookmark)
        if (line := self._watch.bookmark()) is not None:
            self._put(line)

    def _deliver(self) -> None:
        """What is due has arrived, if it gets through."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._closed:
            return
        now, coming = self._loop.time(), self._coming
        if not self._reached():
            self._next = self._later(LOOK_AGAIN_S, self._deliver)
            return
        if not self._broken:
            if self._between.in_force(Stalled, self.request):
                return  # `ends` goes on from here
            while coming and coming[0][0] <= now and not self._ended and not self._broken:
                data = coming.popleft()[1]
                self._broken = self._doomed
                self._ended = not data
                if data:
                    self._arrived.append(data)
            if coming:
                self._next = self._loop.call_at(coming[0][0], self._deliver, context=self._world)
        if self._broken:
            self._watch.close()
        if self._waiting is not None and not self._waiting.done() and (self._arrived or self._ended or self._broken):
            self._waiting.set_result(None)

    def _later(self, seconds: float, what: Callable[..., None], *args: object) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, what, *args, context=self._world)


def _newest(earlier: Line | None, line: Line) -> Line:
    """One line that says the same as both."""
    if earlier is not None and earlier.type == "ADDED" and line.type == "MODIFIED":
        return Line("ADDED", line.key, line.data.replace(b'"MODIFIED"', b'"ADDED"', 1))
    return line
