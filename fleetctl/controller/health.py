"""Answers the kubelet's probes: /healthz says that the loop turns, /readyz that everything was read once; and whoever
collects /metrics.

Never asks whether the API server can be reached: restarting the controller would not bring it back.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """What is told. `ready` and `metrics` (Prometheus' text) are replaced by whoever knows."""

    def __init__(self) -> None:
        self.ready: Callable[[], bool] = lambda: False
        self.metrics: Callable[[], bytes] = lambda: b""

    @asynccontextmanager
    async def answering(self, port: int) -> AsyncIterator[None]:
        """Listen on `port` while inside; 0: do not."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
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

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics(), headers={"Content-Type": METRICS_TYPE})

    async def _readyz(self, _: web.Request) -> web.Response:
        good = self.ready()
        return web.Response(text="ok\n" if good else "not synced yet\n", status=200 if good else 503)
