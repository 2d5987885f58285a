"""What can go wrong between a client and the API server: one small class per way, in the order of the scenario format.

A trouble is in force from FrontDoor.begin to FrontDoor.end. It concerns the requests and watches of clients whose name
begins with `actor` (whole segments: controller/a is not controller/ab) and of the resource `plural`; empty means all.
`share` is how much of what it concerns it befalls, 0 to 1.

Add a trouble: write a class, and `meet` if it befalls requests; what it does to the lines of a watch, stream.py says.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from fleetctl.sim.answers import Answer, ApiFailure
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Object
from fleetctl.sim.requests import Request, number
from fleetctl.sim.watch import Watch

SOON = 5.0
"""Seconds within which a connection that will break does so."""


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. `refused`: there is no connection; `silence`: nothing ever comes; `closed`: the connection is closed
    instead of an answer; `torn`: half-way through this one."""

    how: Literal["refused", "silence", "closed", "torn"]
    answer: Answer | None = None


Outcome = Answer | Watch | Lost
Further = Callable[[], Awaitable[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    actor: str = ""
    plural: str = ""
    share: float = 1.0

    def concerns(self, request: Request) -> bool:
        if self.plural not in {"", request.plural}:
            return False
        prefix = self.actor.rstrip("/")
        return not prefix or request.client == prefix or request.client.startswith(f"{prefix}/")

    async def meet(self, request: Request, further: Further, between: "Between") -> Outcome:
        """What comes of a request that is befallen; `further` is what would have."""
        return await further()


T = TypeVar("T", bound=Trouble)


@dataclass
class Between:
    """All that lies between the clients and `server` now. `latency_s` is the range of a whole exchange, and of a line
    of a watch."""

    server: ApiServer
    rng: random.Random
    latency_s: tuple[float, float]
    troubles: list[Trouble] = field(default_factory=list)

    def latency(self) -> float:
        shortest, longest = self.latency_s
        return shortest + (longest - shortest) * self.rng.random()

    def befalls(self, trouble: Trouble, request: Request) -> bool:
        return trouble.concerns(request) and (trouble.share >= 1 or self.rng.random() < trouble.share)

    def in_force(self, kind: type[T], request: Request) -> list[T]:
        """All of that kind that concern the request, whatever their share."""
        return [trouble for trouble in self.troubles if isinstance(trouble, kind) and trouble.concerns(request)]


# Of requests


@dataclass(frozen=True, kw_only=True)
class Throttled(Trouble):
    """429, come back after so many seconds."""

    retry_after: float = 1.0

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        message = "the server has received too many requests and has asked us to try again later"
        return ApiFailure(429, "TooManyRequests", message, retry_after=self.retry_after).answer()


@dataclass(frozen=True, kw_only=True)
class Errors(Trouble):
    """The server fails, and nothing has happened."""

    status: int = 503

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        reason = {500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}.get(self.status, "Unknown")
        return ApiFailure(self.status, reason, "the server is currently unable to handle the request").answer()


@dataclass(frozen=True, kw_only=True)
class AnswerLost(Trouble):
    """A request happens, or (not `applied`) does not, and its answer never comes: the connection is closed instead
    after a while, or remains silent. Not of watches, which have troubles of their own."""

    applied: bool = True

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        if request.verb == "watch":
            return await further()
        if self.applied:
            await further()
        if between.rng.random() < 0.5:
            return Lost("silence")
        await asyncio.sleep(SOON * between.rng.random())
        return Lost("closed")


@dataclass(frozen=True, kw_only=True)
class Reset(Trouble):
    """The connection is closed half-way through the answer, or through the next line of a watch."""

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        outcome = await further()
        return Lost("torn", outcome) if isinstance(outcome, Answer) else outcome


@dataclass(frozen=True, kw_only=True)
class TokenRejected(Trouble):
    """401."""

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        return ApiFailure(401, "Unauthorized", "Unauthorized").answer()


@dataclass(frozen=True, kw_only=True)
class Refused(Trouble):
    """The server will not take a write: a quota (403), or a webhook (422). An empty `verb` means every write."""

    status: int = 403
    message: str = "exceeded quota"
    verb: str = ""

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        if not request.writes or self.verb not in {"", request.verb}:
            return await further()
        reason = {403: "Forbidden", 422: "Invalid"}.get(self.status, "BadRequest")
        message = f"{request.plural} is forbidden: {self.message}" if self.status == 403 else self.message
        return ApiFailure(self.status, reason, message).answer()


@dataclass(frozen=True, kw_only=True)
class Conflict(Trouble):
    """Just before an object is replaced, somebody else touches it."""

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        if request.verb == "update":
            stamp = str(between.server.version)
            between.server.update(
                "somebody", request.plural, request.namespace, request.name, lambda body: _touched(body, stamp)
            )
        return await further()


def _touched(body: Object, stamp: str) -> Object:
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), "example.com/touched": stamp}}}


@dataclass(frozen=True, kw_only=True)
class Slow(Trouble):
    """An answer takes longer by so many seconds, half of them before the server acts."""

    latency_s: tuple[float, float] = (1.0, 5.0)

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        half = between.rng.uniform(*self.latency_s) / 2
        await asyncio.sleep(half)
        outcome = await further()
        await asyncio.sleep(half)
        return outcome


@dataclass(frozen=True, kw_only=True)
class Outage(Trouble):
    """Nobody listens there any more: connections are refused, and those that were open break."""

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        return Lost("refused")


@dataclass(frozen=True, kw_only=True)
class StaleLists(Trouble):
    """Lists tell the state as of a version, which is ApiServer.version when this begins: a cache that lags behind."""

    as_of: int

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        if request.verb != "list":
            return await further()
        return between.server.answer(request, as_of=self.as_of)


# Of watches


@dataclass(frozen=True, kw_only=True)
class Stalled(Trouble):
    """Nothing arrives, bookmarks included; once this is over, everything does."""


@dataclass(frozen=True, kw_only=True)
class Behind(Stalled):
    """A server whose cache stands still at a version has taken over: lists tell the state then, watches nothing that
    came later, and one that wants to go on from later is answered 410. Door.break_watches makes the clients come to it.
    """

    as_of: int

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        if request.verb == "list":
            return between.server.answer(request, as_of=self.as_of)
        since = number(request.query, "resourceVersion")
        if request.verb == "watch" and since > self.as_of:
            return ApiFailure(410, "Expired", f"version {since} is not known here").answer()
        return await further()


@dataclass(frozen=True, kw_only=True)
class Closed(Trouble):
    """The server ends each watch after so many seconds, cleanly."""

    every_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Delayed(Trouble):
    """What happens is told so many seconds later."""

    by_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Duplicated(Trouble):
    """Each line arrives twice."""


@dataclass(frozen=True, kw_only=True)
class Coalesced(Trouble):
    """Within so many seconds, only the newest state of each object is told."""

    window_s: float = 2.0
