"""Programs inside one event loop: each can be frozen and killed as if it were a process of its own.

A **process** is everything that runs in one context: it can be frozen (nothing of it runs; what came due meanwhile runs
once it goes on) and killed (nothing of it runs any more, not even a `finally`). The network (network.py) closes its
connections; what it would have cleaned up by itself stays as it was.

Knows nothing of time: loop.py's jumps, that of an API server's world (fleetctl/apiserver) passes.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")
_MANY_TASKS = 2_000
"""Of so many, those that are over are forgotten."""


class Process:
    """A program that runs on `host`, and can be frozen or killed as one."""

    __slots__ = ("address", "forgets_at", "frozen", "held", "host", "killed", "name", "tasks")

    def __init__(self, name: str, host: str, address: str = "") -> None:
        self.name = name
        self.host = host
        self.address = address or host
        self.frozen = False
        self.killed = False
        self.held: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        """Kept so that nothing of a killed process is finalised before the run is over."""
        self.forgets_at = _MANY_TASKS

    def __repr__(self) -> str:
        return f"<Process {self.name}>"


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Processes(asyncio.AbstractEventLoop):
    """The part of an event loop that knows whose its callbacks are. `_ready`: those that are due."""

    _ready: deque[Any]
    network: Any
    """Serves the connections of processes (network.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = None
        self.failures: list[dict[str, Any]] = []
        """What the exception handler was called with: a run that has any is broken."""
        self._halted: dict[Process, None] = {}
        self._processes: dict[Process, None] = {}

    def wind_down(self) -> None:
        """Cancel everything that has not ended, killed and frozen processes too, and let it end."""
        raise NotImplementedError

    def spawn(self, process: Process | None, work: Coroutine[Any, Any, R], name: str | None = None) -> asyncio.Task[R]:
        """Run this as part of a process (None: as part of the world, which is never frozen)."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, process)
        task = self.create_task(work, name=name, context=context)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            name = task.get_coro().__qualname__  # type: ignore[union-attr]
            self.call_exception_handler({"message": f"{name} failed", "exception": error})

    def freeze(self, process: Process) -> None:
        process.frozen = True
        self._halted[process] = None

    def thaw(self, process: Process) -> None:
        process.frozen = False
        if not process.killed:
            self._halted.pop(process, None)
            self._ready.extend(process.held)
            process.held = []

    def kill(self, process: Process) -> None:
        process.killed = True
        self._halted[process] = None

    def _may_run(self, handle: object, context: contextvars.Context) -> bool:
        """Whether this callback may run now; if not, it is kept."""
        process = context.get(CURRENT)
        if process is None or not (process.frozen or process.killed):
            return True
        process.held.append(handle)
        return False

    def _belongs(self, task: asyncio.Task[Any], process: Process | None) -> None:
        """A new task of that process."""
        if process is not None:
            self._processes[process] = None
            process.tasks.append(task)
            if len(process.tasks) > process.forgets_at:
                process.tasks = [t for t in process.tasks if not t.done() or t._log_traceback]
                process.forgets_at = max(_MANY_TASKS, 2 * len(process.tasks))  # thousands live: not at each new one

    def lost_errors(self) -> list[BaseException]:
        """What tasks of processes raised and nobody has asked for: asyncio would complain of it when it forgets the
        task, but these are kept."""
        done = [task for process in self._processes for task in process.tasks if task.done() and task._log_traceback]
        return [error for task in done if (error := task.exception())]
