"""The controllers' way to the real API server: an HTTP server that passes requests on, and meets them with troubles.

The troubles, hooks and streams are the simulator's own (sim/troubles.py, sim/stream.py), so that a scenario does the
same to real programs and real bytes. What a controller has written is told to the replica before it gets its answer.
"""

import asyncio
import contextlib
import contextvars
import random
import socket
from collections.abc import Callable, Mapping
from typing import Protocol

import aiohttp
import msgspec
from aiohttp import web

from fleetctl.apiserver.replica import Replica
from fleetctl.apiserver.upstream import Unreachable
from fleetctl.sim.answers import JSON, Answer, ApiFailure
from fleetctl.sim.apihttp import HttpDoor
from fleetctl.sim.door import Door, told
from fleetctl.sim.journal import Journal, Listed
from fleetctl.sim.journal import Verb as Written
from fleetctl.sim.processes import Process
from fleetctl.sim.requests import Request, Verb
from fleetctl.sim.stream import Stream
from fleetctl.sim.troubles import Lost, Outage, Outcome, Trouble
from fleetctl.sim.watch import NOBODY, Line, Sink, Watch

METHODS: dict[Verb, str] = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}
WRITTEN: dict[Verb, Written] = {"create": "create", "update": "update", "patch": "patch", "delete": "delete"}
ALL_OF_IT = 1e6
"""Seconds that a watch may last here: the real server ends it."""


class Program(Protocol):
    """A controller, as the door knows it. `name` is what it calls itself to the API server, `actor` what the journal
    calls it."""

    name: str
    process: Process

    @property
    def actor(self) -> str: ...


class RealDoor(Door):
    """`programs`: by the token that they show."""

    def __init__(self, replica: Replica, journal: Journal, now: Callable[[], float], rng: random.Random) -> None:
        super().__init__(replica, rng, (0.0, 0.0))
        self.programs: Mapping[str, Program] = {}
        self.port = 0
        self._replica = replica
        self._journal = journal
        self._now = now
        self._http: HttpDoor | None = None
        self._listener: asyncio.Server | None = None
        self._shut: socket.socket | None = None
        """Keeps the port while nobody listens."""

    async def listen(self) -> None:
        """On a free port of this machine, whenever there is no outage for everybody."""
        self._http = contextvars.Context().run(HttpDoor, self, self._client)
        await self._serve_on(_bound(0))

    async def _serve_on(self, listener: socket.socket) -> None:
        assert self._http is not None  # noqa: S101  (listen() has made it)
        self._listener = await asyncio.get_running_loop().create_server(self._http.server, sock=listener)
        self.port = listener.getsockname()[1]

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._shut is not None:
            self._shut.close()

    def begin(self, trouble: Trouble) -> None:
        super().begin(trouble)
        self._troubled()

    def end(self, trouble: Trouble) -> None:
        super().end(trouble)
        self._troubled()

    def _troubled(self) -> None:
        """During an outage for everybody the kernel refuses connections."""
        down = Outage() in self.troubles
        if down and self._listener is not None and self._http is not None:
            self._listener.close()
            self._listener = None
            self._http.hang_up()
            self._shut = _bound(self.port)
        elif not down and self._shut is not None:
            shut, self._shut = self._shut, None
            self.in_world(self._serve_on(shut))

    def _client(self, http: web.BaseRequest) -> tuple[str, Process | None]:
        program = self._program(http.headers.get("Authorization", ""))
        component = http.headers.get("User-Agent", "").rpartition(" ")[2]
        return program.actor if component == "controller" else f"{program.actor}/{component}", program.process

    def _program(self, authorization: str) -> Program:
        try:
            return self.programs[authorization.removeprefix("Bearer ")]
        except KeyError:
            answer = ApiFailure(401, "Unauthorized", "Unauthorized").answer()
            raise web.HTTPUnauthorized(text=answer.body.decode(), content_type=JSON) from None

    # Passing on

    async def _at_server(self, request: Request, alive: Callable[[], bool]) -> Outcome:
        if request.writes and self.before_write and not await told(self.before_write, request, alive):
            return Lost("closed")
        outcome = await self._passed_on(request)
        committed = isinstance(outcome, Answer) and outcome.status < 300 and request.writes and not _only_tried(request)
        if committed and self.after_write and not await told(self.after_write, request, alive):
            return Lost("closed")
        return outcome

    async def _passed_on(self, request: Request) -> Outcome:
        upstream, name = self._replica.upstream, self._name(request)
        assert upstream is not None  # noqa: S101  (the world begins with it)
        if request.verb == "watch":
            return await RemoteWatch.begin(self, request, name)
        place = (request.plural, (request.namespace, request.name))
        try:
            answer = await upstream.ask(
                name, METHODS[request.verb], request.path, request.query, request.content_type, request.body
            )
        except Unreachable:
            if request.writes and (name := request.name or _name_of_new(request)):
                self._replica.uncertain(request.actor, (request.plural, (request.namespace, name)))
            return Lost("closed")
        if answer.status >= 300 or not request.plural or _only_tried(request):
            return answer
        if request.writes:
            self._replica.committed(request.actor, WRITTEN[request.verb], place, request.subresource, answer.body)
        elif request.verb == "list" and not msgspec.json.decode(answer.body, type=_List).metadata.next_page:
            self._journal.tell(Listed(at=self._now(), actor=request.actor, plural=request.plural))
        return answer

    def _name(self, request: Request) -> str:
        return next(p.name for p in self.programs.values() if p.actor == request.actor)

    def stream(
        self, watch: Watch, request: Request, *, reached: Callable[[], bool], alive: Callable[[], bool]
    ) -> Stream:
        stream = super().stream(watch, request, reached=reached, alive=alive)
        if isinstance(watch, RemoteWatch):
            watch.carried_by(stream)
        return stream

    def watch(self, request: Request, name: str) -> "contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]":
        """The real server's answer to a watch."""
        assert self._replica.upstream is not None  # noqa: S101
        return self._replica.upstream.watch(name, request.path, request.query)


class RemoteWatch(Watch):
    """A watch of the real server's, line by line."""

    def __init__(self, plural: str) -> None:
        self.plural = plural
        self.seconds = ALL_OF_IT
        self.bookmarks = False  # the real server's are passed on
        self.failed = False
        self._early: list[Line] = []
        self._sink: Sink | None = None
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = ""

    @classmethod
    async def begin(cls, door: RealDoor, request: Request, name: str) -> Outcome:
        """The watch, or what the server says instead."""
        watch = cls(request.plural)
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        watch._task = asyncio.get_running_loop().create_task(
            watch._read(door.watch(request, name), answered), context=contextvars.Context()
        )
        return await answered

    async def _read(
        self,
        opening: "contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]",
        answered: "asyncio.Future[Outcome]",
    ) -> None:
        try:
            async with opening as response:
                if response.status != 200:
                    answered.set_result(Answer(response.status, await response.read()))
                    return
                answered.set_result(self)
                async for data in response.content:
                    self._tell(data)
            self._ends("finished")
        except (aiohttp.ClientError, OSError, TimeoutError):
            if not answered.done():
                answered.set_result(Lost("closed"))
            self._ends("broken")

    def _tell(self, data: bytes) -> None:
        event = msgspec.json.decode(data, type=_Event)
        meta = event.object.metadata
        line = Line(event.type, (meta.namespace, meta.name) if meta.name else NOBODY, data)
        if self._sink is None:
            self._early.append(line)
        else:
            self._sink(line)

    def _ends(self, how: str) -> None:
        self._over = how
        if self._stream is not None:
            (self._stream.finish if how == "finished" else self._stream.break_off)()

    def carried_by(self, stream: Stream) -> None:
        """By what its lines reach the client."""
        self._stream = stream
        if self._over:
            self._ends(self._over)

    def open(self, sink: Sink) -> None:
        self._sink = sink
        early, self._early = self._early, []
        for line in early:
            sink(line)

    def close(self) -> None:
        if self._task is not None and not self._over:
            self._task.cancel()


def _bound(port: int) -> socket.socket:
    """A socket that has this port (0: a free one) and does not listen."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


def _name_of_new(request: Request) -> str:
    """What the object is called that this request would create; empty if the server makes up a name."""
    return msgspec.json.decode(request.body or b"{}", type=_Object).metadata.name


def _only_tried(request: Request) -> bool:
    return bool(request.query.get("dryRun"))


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    next_page: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _Meta


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _Event(msgspec.Struct):
    type: str
    object: _Object
