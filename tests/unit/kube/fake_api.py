"""An API server on loopback that says what a test tells it to say, faults included, and remembers what it was asked.

api.says("GET /api/v1/nodes/a", busy(retry_after=7), ok(node("a")))     # one after the other; the last for ever
api.says("WATCH /api/v1/nodes", stream(added(node("a", version="5")), then=HANG))
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
from aiohttp import web

Json = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
END, CUT, HANG = "end", "cut", "hang"


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it; `at` is loop time."""

    line: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    at: float


class FakeApi:
    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self._answers: dict[str, list[Answer]] = {}
        self._runner: web.AppRunner | None = None

    def says(self, line: str, *answers: Answer) -> None:
        self._answers[line] = list(answers)

    def asked(self, line: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.line == line]

    def last(self, line: str) -> Seen:
        return self.asked(line)[-1]

    def pauses(self, line: str) -> list[float]:
        times = [seen.at for seen in self.asked(line)]
        return [later - earlier for earlier, later in pairwise(times)]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        method = "WATCH" if request.query.get("watch") else request.method
        line = f"{method} {request.path}"
        body = await request.read()
        now = asyncio.get_running_loop().time()
        content = msgspec.json.decode(body) if body else None
        self.seen.append(Seen(line, dict(request.query), dict(request.headers), content, now))
        queue = self._answers.get(line, [refusal(404, "NotFound", f"nothing at {line}")])
        return await (queue.pop(0) if len(queue) > 1 else queue[0])(request)


def ok(body: Json, status: int = 200) -> Answer:
    return text(msgspec.json.encode(body), "application/json", status)


def text(body: bytes, content_type: str, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, status=status, headers=headers)

    return answer


def status(code: int, reason: str, message: str = "because", **details: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


def refusal(code: int, reason: str, message: str = "because", **details: Any) -> Answer:
    return ok(status(code, reason, message, **details), status=code)


def busy(retry_after: int, code: int = 429) -> Answer:
    return text(b"Too many requests, please try again later.", "text/plain", code, **{"Retry-After": str(retry_after)})


def load_balancer_page(code: int = 503) -> Answer:
    return text(b"<html>\n<body>token=hunter2</body>\n</html>\n", "text/html", code)


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def stream(*lines: Json | bytes, then: str = END, after: float = 0.0) -> Answer:
    """The lines, then (`after` seconds) a clean end, a cut connection or silence."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in lines:
            await response.write((line if isinstance(line, bytes) else msgspec.json.encode(line)) + b"\n")
        await asyncio.sleep(after)
        if then == HANG:
            await silence(request)
        if then == CUT:
            return await hang_up(request)
        await response.write_eof()
        return response

    return answer


def node(name: str, version: str = "1", uid: str = "") -> Json:
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": version}}


def listing(*items: Json, version: str = "10", more: str = "") -> Answer:
    return ok({"kind": "List", "metadata": {"resourceVersion": version, "continue": more}, "items": list(items)})


def added(item: Json) -> Json:
    return {"type": "ADDED", "object": item}


def modified(item: Json) -> Json:
    return {"type": "MODIFIED", "object": item}


def deleted(item: Json) -> Json:
    return {"type": "DELETED", "object": item}


def bookmark(version: str) -> Json:
    return {"type": "BOOKMARK", "object": {"kind": "Node", "metadata": {"resourceVersion": version}}}


def error_event(code: int, reason: str) -> Json:
    return {"type": "ERROR", "object": status(code, reason)}


class LeaseOnServer:
    """One Lease with a real compare-and-swap, behind `api`. `frozen`: requests are taken and never answered."""

    path = "/apis/coordination.k8s.io/v1/namespaces/fleet/leases"

    def __init__(self, api: FakeApi) -> None:
        self.frozen = False
        self.stored: Json | None = None
        self._version = 0
        api.says(f"GET {self.path}/controller", self._get)
        api.says(f"POST {self.path}", self._create)
        api.says(f"PUT {self.path}/controller", self._replace)

    @property
    def spec(self) -> Json:
        assert self.stored is not None
        spec: Json = self.stored["spec"]
        return spec

    @property
    def holder(self) -> str:
        return str(self.spec.get("holderIdentity", ""))

    def write(self, **spec: Any) -> None:
        """Somebody else writes, without asking."""
        self._store({"metadata": {"name": "controller", "namespace": "fleet"}, "spec": spec})

    def _store(self, lease: Json) -> None:
        self._version += 1
        self.stored = lease | {"metadata": lease["metadata"] | {"resourceVersion": str(self._version)}}

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if self.frozen:
            await silence(request)
        return await (ok(self.stored) if self.stored else refusal(404, "NotFound"))(request)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        if self.frozen:
            await silence(request)
        if self.stored:
            return await refusal(409, "AlreadyExists")(request)
        self._store(await request.json())
        return await self._get(request)

    async def _replace(self, request: web.Request) -> web.StreamResponse:
        if self.frozen:
            await silence(request)
        lease = await request.json()
        if not self.stored or lease["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            return await refusal(409, "Conflict")(request)
        self._store(lease)
        return await self._get(request)
