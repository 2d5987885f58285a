"""An event loop in which time passes, and programs inside it can still be frozen and killed (sim/processes.py).

What processes open goes over the simulated network; what belongs to none of them over the real one. Knows nothing of
clusters.
"""

import asyncio
import contextvars
import heapq
import time
from collections.abc import Callable
from typing import Any

from fleetctl.sim.loop import BEGIN
from fleetctl.sim.processes import CURRENT, Processes

LAST_WORDS_S = 10.0


class _Handle(asyncio.Handle):
    """A callback that waits while its process may not run."""

    def _run(self) -> None:
        loop: RealtimeLoop = self._loop  # type: ignore[attr-defined]
        if loop.may_run(self, self._context):  # type: ignore[attr-defined]
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    def _run(self) -> None:
        loop: RealtimeLoop = self._loop  # type: ignore[attr-defined]
        if loop.may_run(self, self._context):  # type: ignore[attr-defined]
            super()._run()


class RealtimeLoop(Processes, asyncio.SelectorEventLoop):
    """`time` begins where virtual time does. `network` serves the connections of processes."""

    def __init__(self) -> None:
        self._zero = time.monotonic() - BEGIN
        super().__init__()
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return time.monotonic() - self._zero

    def may_run(self, handle: object, context: contextvars.Context) -> bool:
        """Whether this callback may run now; if not, it is kept."""
        return not self._halted or self._may_run(handle, context)

    # asyncio makes its handles in these two places

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Any) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context)
        self._belongs(task, CURRENT.get() if context is None else context.get(CURRENT))
        return task

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any) -> Any:
        if CURRENT.get() is None:
            return await super().create_connection(protocol_factory, host, port, **how)
        return await self.network.connect(protocol_factory, str(host), int(port))

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any) -> Any:
        process = CURRENT.get()
        if process is None:
            return await super().create_server(protocol_factory, host, port, **how)
        return self.network.listen(protocol_factory, process.address, int(port))

    def wind_down(self) -> None:
        for process in self._halted:
            self._ready.extend(process.held)
        self._halted = {}
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.wait(tasks, timeout=LAST_WORDS_S))
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()
