"""The simulated API server behind the real HTTP library, over the network of a VirtualLoop.

Slower than the fast way by far; here to show that the client reads real bytes, chunks and closed connections as we say
it does. Troubles are the same, except that an outage for some clients only must close their connections, for it cannot
know whom to refuse one. Darkness and dead programs are the network's affair here.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import cast

import aiohttp
from aiohttp import web

from fleetctl.kube.connect import LONGEST_LINE
from fleetctl.sim.answers import JSON, Answer, ApiFailure
from fleetctl.sim.door import HOST, Door
from fleetctl.sim.network import Listener
from fleetctl.sim.processes import Process, Processes
from fleetctl.sim.requests import Request, parse
from fleetctl.sim.stream import Broken, Stream
from fleetctl.sim.troubles import Lost, Outage, Outcome
from fleetctl.sim.watch import Watch

CLIENT = "X-Client"


def http_session(client: str) -> aiohttp.ClientSession:
    """As kube/connect.py makes it, but for TLS. Connections never expire: the library asks the real clock for that."""
    session = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=HOST, keepalive_timeout=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={CLIENT: client, "Accept": "application/json, */*;q=0.1"},
        read_bufsize=LONGEST_LINE,
    )
    session._retry_connection = False
    return session


Who = Callable[[web.BaseRequest], tuple[str, Process | None]]


class HttpDoor:
    """A door's requests as HTTP. `who` says which client asks, and which program that is part of. `server` makes the
    protocol of a connection."""

    def __init__(self, door: Door, who: Who) -> None:
        self._door = door
        self._who = who
        self.server = web.Server(self._handle, handler_cancellation=True, access_log=None)

    def hang_up(self) -> None:
        """On all clients."""
        for connection in self.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        client, process = self._who(http)

        def alive() -> bool:
            return process is None or not process.killed

        body = await http.read() if http.can_read_body else None
        try:
            request = parse(client, http.method, http.rel_url.raw_path, http.query, http.content_type, body)
        except ApiFailure as failure:
            return _response(failure.answer())
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._door.in_world(self._serve(request, alive, done))  # goes on if the client hangs up
        outcome = await done
        if isinstance(outcome, Answer):
            return _response(outcome)
        if isinstance(outcome, Watch):
            stream = self._door.stream(outcome, request, reached=lambda: True, alive=alive)
            return await _follow(http, stream)
        return await _lose(http, outcome)

    async def _serve(self, request: Request, alive: Callable[[], bool], done: "asyncio.Future[Outcome]") -> None:
        half = self._door.latency() / 2
        await asyncio.sleep(half)
        outcome = await self._door.serve(request, alive)
        await asyncio.sleep(half)
        if not done.done():
            done.set_result(outcome)


class HttpListener:
    """Listens while there is no outage for everybody."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._processes: dict[str, Process | None] = {}
        self._network = cast(Processes, asyncio.get_running_loop()).network
        self._world = contextvars.Context()
        self._http = self._world.run(HttpDoor, door, self._client)
        self._listener: Listener | None = None
        self.troubled()

    def came(self, client: str, process: Process | None) -> None:
        """Which program a client is part of."""
        self._processes[client] = process

    def troubled(self) -> None:
        """A trouble began or ended."""
        down = Outage() in self._door.troubles
        if down and self._listener is not None:
            self._listener.close()
            self._listener = None
            self._http.hang_up()
        if not down and self._listener is None:
            self._listener = self._world.run(self._network.listen, self._http.server, HOST, 0)

    def _client(self, http: web.BaseRequest) -> tuple[str, Process | None]:
        client = http.headers[CLIENT]
        return client, self._processes[client]


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers={**answer.headers, "Content-Type": JSON})


async def _follow(http: web.BaseRequest, stream: Stream) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": JSON})
    try:
        response.enable_chunked_encoding()
        await response.prepare(http)
        while lines := await stream.read():
            await response.write(b"".join(lines))
    except Broken:
        await response.write(b'{"type":"MODIFIED","obj')
        _hang_up(http)
    finally:
        stream.close()
    return response


async def _lose(http: web.BaseRequest, lost: Lost) -> web.StreamResponse:
    if lost.how == "silence":
        await asyncio.get_running_loop().create_future()
    response = web.StreamResponse(headers={"Content-Type": JSON})
    if lost.answer is not None:
        response.content_length = len(lost.answer.body)
        await response.prepare(http)
        await response.write(lost.answer.body[: len(lost.answer.body) // 2])
    _hang_up(http)
    return response


def _hang_up(http: web.BaseRequest) -> None:
    if http.transport is not None:
        http.transport.abort()
