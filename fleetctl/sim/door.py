"""The server's side of the way in: requests that have arrived, the troubles they meet, and the watches that are open.

What is under way belongs to the world: a request that was sent arrives, even if its sender has been frozen or killed
meanwhile. Knows nothing of how requests travel (transport.py, apihttp.py) or of what they mean.
"""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fleetctl.sim.answers import Answer
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.requests import Request
from fleetctl.sim.stream import Stream
from fleetctl.sim.troubles import Between, Further, Lost, Outage, Outcome, Trouble
from fleetctl.sim.watch import Watch

HOST = "api"
"""Where it listens, and what its host is called."""
Hook = Callable[[Request], Awaitable[None] | None]
MANY = 1000


class Door:
    """`latency_s` is the range of a whole exchange, and of the way of a watch's line.

    `before_write`  is told of a write before the server sees it, and `after_write` when it has been committed and its
                    answer not yet sent. If the client is killed meanwhile, the server never sees it, or never answers
    """

    def __init__(self, server: ApiServer, rng: random.Random, latency_s: tuple[float, float]) -> None:
        self.server = server
        self.before_write: list[Hook] = []
        self.after_write: list[Hook] = []
        self._between = Between(server, rng, latency_s)
        self._streams: dict[Stream, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def drop(self, client: str) -> None:
        """That client, and all whose name begins with it, is dead: its watches end on the server's side."""
        for stream in self._open(Trouble(actor=client)):
            stream.close()

    def latency(self) -> float:
        """Of the next exchange, seconds."""
        return self._between.latency()

    # Troubles

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """In force now, in the order in which requests meet them."""
        return tuple(self._between.troubles)

    def begin(self, trouble: Trouble) -> None:
        self._between.troubles.append(trouble)
        for stream in self._open(trouble):
            stream.begins(trouble)

    def end(self, trouble: Trouble) -> None:
        """Raises ValueError if it is not in force."""
        self._between.troubles.remove(trouble)
        for stream in self._open(trouble):
            stream.ends(trouble)

    def break_watches(self, *, actor: str = "", plural: str = "") -> None:
        """The connections of these watches break now."""
        for stream in self._open(Trouble(actor=actor, plural=plural)):
            stream.break_off()

    def _open(self, concerning: Trouble) -> list[Stream]:
        self._streams = {stream: None for stream in self._streams if not stream.closed}
        return [stream for stream in self._streams if concerning.concerns(stream.request)]

    # On the server's side

    async def serve(self, request: Request, alive: Callable[[], bool]) -> Outcome:
        """What comes of a request that has arrived, hooks and troubles included. `alive`: whether there is still a
        program that sent it."""
        between = self._between

        async def at_server() -> Outcome:
            return await self._at_server(request, alive)

        further: Further = at_server
        for trouble in reversed([each for each in between.troubles if between.befalls(each, request)]):
            further = _meeting(trouble, request, further, between)
        outcome = await further()
        if isinstance(outcome, Answer) and between.in_force(Outage, request):
            return Lost("closed")  # it began meanwhile
        return outcome

    async def _at_server(self, request: Request, alive: Callable[[], bool]) -> Outcome:
        if not request.writes:
            return self.server.answer(request)
        if self.before_write and not await told(self.before_write, request, alive):
            return Lost("closed")
        answer = self.server.answer(request)
        committed = isinstance(answer, Answer) and answer.status < 300 and not request.query.get("dryRun")
        if committed and self.after_write and not await told(self.after_write, request, alive):
            return Lost("closed")
        return answer

    def stream(
        self, watch: Watch, request: Request, *, reached: Callable[[], bool], alive: Callable[[], bool]
    ) -> Stream:
        """The watch, on its way from now on."""
        stream = Stream(watch, request, self._between, reached=reached, alive=alive)
        self._streams[stream] = None
        if len(self._streams) > MANY:
            self._open(Trouble())  # forgets those that are closed
        return stream

    def in_world(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this on behalf of nobody's process."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "the simulated API server failed", "exception": error}
            task.get_loop().call_exception_handler(context)


async def told(hooks: list[Hook], request: Request, alive: Callable[[], bool]) -> bool:
    """Whether the client outlived what the hooks did."""
    before = alive()
    for hook in list(hooks):
        if (waits := hook(request)) is not None:
            await waits
    return alive() or not before


def _meeting(trouble: Trouble, request: Request, further: Further, between: Between) -> Further:
    return lambda: trouble.meet(request, further, between)
