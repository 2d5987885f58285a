"""Answers the kubelet's probes: /healthz says that the loop turns, /readyz that everything was read once.

Never asks whether the API server can be reached: restarting the controller would not bring it back.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web


class Health:
    """What the probes are told. `ready` is replaced by whoever knows."""

    def __init__(self) -> None:
        self.ready: Callable[[], bool] = lambda: False

    @asynccontextmanager
    async def answering(self, port: int) -> AsyncIterator[None]:
        """Listen on `port` while inside; 0: do not."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        if port:
            await web.TCPSite(runner, None, port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        good = self.ready()
        return web.Response(text="ok\n" if good else "not synced yet\n", status=200 if good else 503)
