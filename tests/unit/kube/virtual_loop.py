"""An event loop whose clock jumps to the next timer as soon as nothing else is left to do.

Client and fake server live on the same loop, so what one sends has arrived before the clock moves. Programs and threads
are outside and would find their time-outs expired at once: tests that start any use an ordinary loop.
"""

import asyncio
import selectors
from typing import Any

SETTLE = 0.001
"""Real seconds that the kernel gets to deliver what is under way on loopback before the clock jumps."""


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual_now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        self._virtual_now += seconds


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(SETTLE)
        if not ready:
            self._loop.jump(timeout)
        return ready
