"""The way from clients to the simulated API server and back: latency, and hosts in the dark.

Fast clients stand in for a session of the HTTP library, and nothing is parsed on the way; a few runs use the real one
(apihttp.py). Both end in Door.serve. Knows nothing of what is asked.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from fleetctl.kube.auth import Endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.sim.answers import JSON, Answer, ApiFailure
from fleetctl.sim.apihttp import HttpListener, http_session
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.door import HOST, Door
from fleetctl.sim.processes import CURRENT, Process
from fleetctl.sim.requests import parse
from fleetctl.sim.stream import LOOK_AGAIN_S, Broken, Stream
from fleetctl.sim.troubles import Lost, Trouble
from fleetctl.sim.watch import Watch


class Token:
    """Credentials that are new each time they are renewed."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._number = 1

    async def authorization(self, *, fresh: bool) -> str:
        self._number += fresh
        return f"Bearer {self._client}-{self._number}"


class FrontDoor(Door):
    """`latency_s` is the range of a whole exchange, and of the way of a watch's line; `reaches` says whether packets
    get through from a host now. A client is where the process is that uses it, or on the host "world" if that is none.
    """

    def __init__(
        self,
        server: ApiServer,
        rng: random.Random,
        latency_s: tuple[float, float],
        reaches: Callable[[str], bool],
    ) -> None:
        super().__init__(server, rng, latency_s)
        self._reaches = reaches
        self._listener: HttpListener | None = None

    def client(self, actor: str, rng: random.Random) -> KubeClient:
        """A fast client of this name, such as controller/a or controller/a/elector. The journal knows it by the first
        two segments."""
        session = cast(aiohttp.ClientSession, FastSession(self, actor))
        return KubeClient(session, _endpoint(actor), rng=rng)

    async def http_client(self, actor: str, rng: random.Random) -> tuple[KubeClient, Callable[[], Awaitable[None]]]:
        """The same with the real HTTP library, over the network of the running VirtualLoop; and what closes it."""
        if self._listener is None:
            self._listener = HttpListener(self)
        session = http_session(actor)
        self._listener.came(actor, CURRENT.get())
        return KubeClient(session, _endpoint(actor), rng=rng), session.close

    def begin(self, trouble: Trouble) -> None:
        super().begin(trouble)
        if self._listener is not None:
            self._listener.troubled()

    def end(self, trouble: Trouble) -> None:
        super().end(trouble)
        if self._listener is not None:
            self._listener.troubled()

    def reached(self, process: Process | None) -> bool:
        """Whether anything gets through to this process, or from it, now."""
        return self._reaches(process.host if process else "world")


def _endpoint(client: str) -> Endpoint:
    return Endpoint(server=f"http://{HOST}", credentials=Token(client))


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as a fast client sends it, and who waits for its answer."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    body: bytes | None
    process: Process | None
    answer: "asyncio.Future[Response | Exception]"

    def alive(self) -> bool:
        return self.process is None or not self.process.killed


class FastSession:
    """As much of aiohttp.ClientSession as KubeClient uses."""

    def __init__(self, door: FrontDoor, client: str) -> None:
        self._door = door
        self._client = client

    async def request(
        self,
        method: str,
        url: URL,
        *,
        params: Mapping[str, str],
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        **_: object,
    ) -> "Response":
        """Raises what aiohttp would."""
        answer: asyncio.Future[Response | Exception] = asyncio.get_running_loop().create_future()
        call = _Call(method, url.raw_path, params, headers["Content-Type"], data, CURRENT.get(), answer)
        self._door.in_world(self._travel(call))
        try:
            async with asyncio.timeout(timeout.sock_read):
                outcome = await answer
        except TimeoutError:
            raise aiohttp.SocketTimeoutError("Timeout on reading data from socket") from None
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and isinstance(late := answer.result(), Response):
                late.close()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        outcome.silence = timeout.sock_read
        return outcome

    async def _travel(self, call: _Call) -> None:
        """There and back."""
        door, half = self._door, self._door.latency() / 2
        await asyncio.sleep(half)
        while not door.reached(call.process):
            await asyncio.sleep(LOOK_AGAIN_S)
            if call.answer.done() or not call.alive():
                return  # given up before it got through
        received = await self._received(call)
        if received is None:
            return
        await asyncio.sleep(half)
        while not door.reached(call.process):  # noqa: ASYNC110 - nobody tells when a host is reached again
            await asyncio.sleep(LOOK_AGAIN_S)
        if not call.answer.done():
            call.answer.set_result(received)
        elif isinstance(received, Response):
            received.close()

    async def _received(self, call: _Call) -> "Response | Exception | None":
        """What the HTTP library would make of the outcome; None: nothing ever."""
        try:
            request = parse(self._client, call.method, call.path, call.query, call.content_type, call.body)
        except ApiFailure as failure:
            return _read(failure.answer())
        outcome = await self._door.serve(request, call.alive)
        if not isinstance(outcome, Watch):
            return _read(outcome)
        if not call.alive():
            return None
        reached = lambda: self._door.reached(call.process)  # noqa: E731
        return Response(200, {}, b"", self._door.stream(outcome, request, reached=reached, alive=call.alive))


def _read(outcome: Answer | Lost) -> "Response | Exception | None":
    if isinstance(outcome, Answer):
        return Response(outcome.status, outcome.headers, outcome.body)
    match outcome.how:
        case "refused":
            key = ConnectionKey(HOST, 80, False, False, None, None, None)
            return aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, "Connection refused"))
        case "closed":
            return aiohttp.ServerDisconnectedError()
        case "torn":
            return Response(200, {}, None)
        case "silence":
            return None


class Response:
    """As much of aiohttp's as KubeClient uses. `body` is None if the connection broke half-way through it."""

    content_type = JSON

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes | None, stream: Stream | None = None
    ) -> None:
        self.status = status
        self.headers = {"Content-Type": JSON, **headers}
        self._body = body
        self._stream = stream
        self.silence: float | None = None

    async def read(self) -> bytes:
        if self._body is None:
            raise aiohttp.ClientPayloadError("Response payload is not completed")
        return self._body

    @property
    def content(self) -> "Lines":
        return Lines(self._stream, self.silence)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> "Response":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Lines:
    """The body of a watch, line by line. Raises what aiohttp would."""

    def __init__(self, stream: Stream | None, silence: float | None) -> None:
        self._stream = stream
        self._silence = silence
        self._ready: deque[bytes] = deque()

    def __aiter__(self) -> "Lines":
        return self

    async def __anext__(self) -> bytes:
        if not self._ready and self._stream is not None:
            try:
                async with asyncio.timeout(self._silence):
                    self._ready.extend(await self._stream.read())
            except TimeoutError:
                raise aiohttp.SocketTimeoutError("Timeout on reading data from socket") from None
            except Broken:
                raise aiohttp.ClientPayloadError("Response payload is not completed") from None
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()
