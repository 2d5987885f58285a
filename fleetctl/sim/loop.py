"""An event loop whose time jumps: it stands still while anything can run, and goes to the next timer when nothing can.

The same calls in the same order give the same run, in any process: what is ready runs first come, first served, timers
of the same moment fire in the order they were set, and tasks and futures hash by their number, so that sets of them
iterate alike everywhere. Threads, signals and real sockets are not emulated but refused.

Knows nothing of clusters.
"""

import asyncio
import contextvars
import heapq
import itertools
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from fleetctl.sim.processes import CURRENT, Processes

R = TypeVar("R")

BEGIN = 1000.0
"""Virtual time at which every loop starts; not 0, which some code takes for never."""
_FEW = 10_000
_STANDS_STILL = 100_000
_LAST_WORDS_S, _ROUNDS = 60.0, 5


class Deadlock(RuntimeError):
    """Everything waits and no timer is set, or something goes on and on and time does not."""


class _Handle:
    """A callback that is due; as much of asyncio's as anybody asks for."""

    __slots__ = ("_loop", "args", "callback", "context", "over")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        loop: "VirtualLoop | None",
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.over = False
        """It was cancelled, or has been run."""
        self._loop = loop  # of a timer only: it counts those that are cancelled

    def cancel(self) -> None:
        if not self.over:
            self.over = True
            if self._loop is not None:
                self._loop.a_timer_was_cancelled()

    def cancelled(self) -> bool:
        return self.over


class _Task(asyncio.Task[Any]):
    _number: int

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    _number: int

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(Processes):
    """Runs until the future it was given is done. `network` serves create_connection and create_server (network.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        """Callbacks run so far."""
        self._now = BEGIN
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._cancelled = 0
        self._numbers = itertools.count(1)
        self._running = False
        self._closed = False
        self._stands_since, self._rounds = 0.0, 0

    # Time and callbacks

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> _Handle:
        handle = _Handle(callback, args, contextvars.copy_context() if context is None else context, None)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> _Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> _Handle:
        handle = _Handle(callback, args, contextvars.copy_context() if context is None else context, self)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def a_timer_was_cancelled(self) -> None:
        """Forget those that were once they are many."""
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if not timer[2].over]
            heapq.heapify(self._timers)
            self._cancelled = 0

    # Running

    def run_until_complete(self, future: Awaitable[R]) -> R:  # type: ignore[override]
        task = asyncio.ensure_future(future, loop=self)
        hooks = sys.get_asyncgen_hooks()
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(finalizer=self._generator_lost)
        self._running = True
        try:
            while not task.done():
                self._run_once()
        finally:
            self._running = False
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(previous)
        return task.result()

    def wind_down(self) -> None:
        for process in self._halted:
            self._ready.extend(process.held)
        self._halted = {}
        for _ in range(_ROUNDS):
            tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.run_until_complete(self._last_words(tasks))
        self.close()

    async def _last_words(self, tasks: list[asyncio.Task[Any]]) -> None:
        await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        others = asyncio.all_tasks(self) - {asyncio.current_task(self)}
        if others:  # generators that they let go of, which close
            await asyncio.wait(others, timeout=_LAST_WORDS_S)

    def _run_once(self) -> None:
        if self._now > self._stands_since:
            self._stands_since, self._rounds = self._now, 0
        self._rounds += 1
        if self._rounds > _STANDS_STILL:
            raise Deadlock(f"time stands still: {_STANDS_STILL} rounds of callbacks at {self._now - BEGIN:.6f} s")
        ready, halted = self._ready, self._halted
        if not ready or (self._timers and self._timers[0][0] <= self._now):
            self._advance()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.over or (halted and not self._may_run(handle, handle.context)):
                continue
            self.steps += 1
            handle.over = True
            try:
                handle.context.run(handle.callback, *handle.args)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # as every loop does: it goes on, and somebody is told
                self.call_exception_handler({"message": "a callback failed", "exception": error})

    def _advance(self) -> None:
        """What is due becomes ready; if nothing is, time goes on to the next moment at which something is."""
        ready, timers = self._ready, self._timers
        while True:
            while timers and timers[0][0] <= self._now:
                handle = heapq.heappop(timers)[2]
                if handle.over:
                    self._cancelled -= 1
                else:
                    ready.append(handle)
            if ready:
                return
            if not timers:
                raise Deadlock("everything waits, and no timer is set")
            self._now = timers[0][0]

    # Tasks and futures

    def create_future(self) -> asyncio.Future[Any]:
        future = _Future(loop=self)
        future._number = next(self._numbers)
        return future

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = _Task.__new__(_Task)
        task._number = next(self._numbers)  # before __init__, which puts it into a set
        _Task.__init__(task, coro, loop=self, name=name or "task", context=context)
        self._belongs(task, CURRENT.get() if context is None else context.get(CURRENT))
        return task

    def _generator_lost(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._closed:
            self.call_soon(self.create_task, generator.aclose())

    # The network

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, str(host), int(port))

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, str(path), 0)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        process = CURRENT.get()
        return self.network.listen(protocol_factory, process.address if process else str(host), int(port))

    # What a loop must also be able to say

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        pass

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    default_exception_handler = call_exception_handler

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no threads in a simulated world: virtual time would not wait for them")

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no threads in a simulated world")

    def add_signal_handler(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no signals in a simulated world")
