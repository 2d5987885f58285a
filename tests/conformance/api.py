"""One API server as a test sees it, simulated or real, and the words to speak of it.

Tests are plain functions: each call runs the loop of the server's client until it is answered, in virtual time for the
simulated one. What the production client can express goes through it (`client`, `run`); `ask` and its short forms are
for status codes, bodies, and what that client never sends. Both use the same session.

Knows nothing of what the servers should answer.
"""

import asyncio
import base64
import json
import random
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from fleetctl.kube.auth import Endpoint
from fleetctl.kube.client import SILENCE, KubeClient
from fleetctl.kube.connect import connect
from fleetctl.kube.objects import Resource
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Journal
from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.transport import FrontDoor

from .realserver import TOKEN, RealServer

JSON = "application/json"
MERGE = "application/merge-patch+json"
PATIENCE_S = 20.0
"""A watch that tells nothing for longer has failed the test."""
Object = dict[str, Any]
R = TypeVar("R")


@dataclass(frozen=True)
class Answer:
    status: int
    body: Object

    @property
    def refusal(self) -> tuple[int, str]:
        """Code and reason of a Status."""
        assert self.body["kind"] == "Status", self
        assert self.body["status"] == "Failure", self
        assert self.body["code"] == self.status, self
        assert self.body["message"], self
        return self.status, self.body.get("reason", "")

    @property
    def meta(self) -> Object:
        return self.ok["metadata"]

    @property
    def ok(self) -> Object:
        """The body of what succeeded."""
        assert self.status in (200, 201), self
        return self.body

    @property
    def names(self) -> list[str]:
        """Of a list."""
        return [item["metadata"]["name"] for item in self.ok["items"]]


class Api:
    """`namespace` is the test's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self._loop = loop
        self._watches: list[Watched] = []

    real = False

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self._loop.run_until_complete(work)

    # One request

    def ask(self, method: str, path: str, body: Any = None, content_type: str = JSON, **query: str) -> Answer:
        """`body` is JSON, or bytes as they are."""

        async def exchange() -> Answer:
            async with await self._send(method, path, body, content_type, query) as response:
                return Answer(response.status, msgspec.json.decode(await response.read()))

        return self.run(exchange())

    def post(self, resource: Resource[Any], body: Object, **query: str) -> Answer:
        said = {"apiVersion": resource.api_version, "kind": resource.kind}
        return self.ask("POST", resource.collection(self.namespace), {**said, **body}, **query)

    def get(self, resource: Resource[Any], name: str) -> Answer:
        return self.ask("GET", self.path(resource, name))

    def put(self, resource: Resource[Any], body: Object, subresource: str = "") -> Answer:
        return self.ask("PUT", self.path(resource, body["metadata"]["name"], subresource), body)

    def patch(self, resource: Resource[Any], name: str, body: Object, subresource: str = "") -> Answer:
        return self.ask("PATCH", self.path(resource, name, subresource), body, MERGE)

    def delete(self, resource: Resource[Any], name: str, **options: Any) -> Answer:
        """`options` are those of DeleteOptions."""
        return self.ask("DELETE", self.path(resource, name), options or None)

    def list(self, resource: Resource[Any], **query: str) -> Answer:
        return self.ask("GET", resource.collection(self.namespace), **query)

    def path(self, resource: Resource[Any], name: str, subresource: str = "") -> str:
        return resource.item(self.namespace, name, subresource)

    # Watches

    def watch(self, resource: Resource[Any], **query: str) -> "Watched":
        """Opened before this returns."""

        async def begin() -> aiohttp.ClientResponse:
            path = resource.collection(self.namespace)
            return await self._send("GET", path, None, JSON, {"watch": "true", "timeoutSeconds": "30", **query})

        watched = Watched(self, self.run(begin()))
        self._watches.append(watched)
        return watched

    async def _send(
        self, method: str, path: str, body: Any, content_type: str, query: dict[str, str]
    ) -> aiohttp.ClientResponse:
        endpoint = self.client.endpoint
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.client._session.request(
            method,
            URL(endpoint.server + path, encoded=True),
            params=query,
            data=data,
            headers={**await endpoint.headers(), "Content-Type": content_type},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE),
            allow_redirects=False,
        )

    def close_watches(self) -> None:
        async def close() -> None:
            for watched in self._watches:
                watched.response.close()

        self.run(close())

    def forget(self) -> None:
        """The server forgets what was before now."""
        raise NotImplementedError

    def expired(self, token: str) -> str:
        """The `continue` of a list as it would be had the list been made before all that the server remembers."""
        raise NotImplementedError


class Watched:
    """What a watch tells."""

    def __init__(self, api: Api, response: aiohttp.ClientResponse) -> None:
        self._api = api
        self.response = response
        self._lines = aiter(response.content)

    def events(self, number: int) -> list[tuple[str, Object]]:
        """So many, as soon as they have come."""

        async def read() -> list[tuple[str, Object]]:
            async with asyncio.timeout(PATIENCE_S):
                lines = [msgspec.json.decode(await anext(self._lines)) for _ in range(number)]
            return [(line["type"], line["object"]) for line in lines]

        return self._api.run(read())

    def story(self, number: int) -> list[str]:
        """The same, short: `ADDED p`."""
        return [f"{kind} {body['metadata']['name']}" for kind, body in self.events(number)]

    def rest(self) -> list[tuple[str, Object]]:
        """Until the server ends it."""

        async def read() -> list[tuple[str, Object]]:
            lines = [msgspec.json.decode(line) async for line in self._lines]
            return [(line["type"], line["object"]) for line in lines]

        return self._api.run(read())


class _Clock:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self._loop.time() - BEGIN)


class _Simulated(Api):
    def __init__(self, loop: VirtualLoop, server: ApiServer, client: KubeClient) -> None:
        super().__init__(loop, client, "here")
        self._server = server

    def forget(self) -> None:
        self._server.forget_history()

    def expired(self, token: str) -> str:
        self.forget()
        return token


@contextmanager
def simulated() -> Iterator[Api]:
    loop = VirtualLoop()
    server = ApiServer(Journal(), _Clock(loop), lambda: loop.time() - BEGIN)
    server.raw["/version"] = b'{"major":"1","minor":"36"}'
    door = FrontDoor(server, random.Random(1), (0.001, 0.005), lambda _: True)
    api = _Simulated(loop, server, door.client("test/a", random.Random(2)))
    try:
        yield api
        api.close_watches()
    finally:
        loop.wind_down()
    assert loop.failures == []


class _Real(Api):
    real = True

    def __init__(self, loop: asyncio.AbstractEventLoop, server: RealServer, client: KubeClient, namespace: str) -> None:
        super().__init__(loop, client, namespace)
        self._server = server

    def forget(self) -> None:
        self._server.compact()

    def expired(self, token: str) -> str:
        self.forget()
        said = json.loads(base64.urlsafe_b64decode(token + "=="))
        old = json.dumps({**said, "rv": 2}).encode()
        return base64.urlsafe_b64encode(old).decode().rstrip("=")


class _Token:
    async def authorization(self, *, fresh: bool) -> str:
        return f"Bearer {TOKEN}"


class Connection:
    """The one client of a real server, and the loop it runs in."""

    def __init__(self, server: RealServer, loop: asyncio.AbstractEventLoop, client: KubeClient) -> None:
        self._server = server
        self._loop = loop
        self._client = client

    @contextmanager
    def api(self, namespace: str) -> Iterator[Api]:
        """For a test, in a new namespace."""
        self._server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        api = _Real(self._loop, self._server, self._client, namespace)
        try:
            yield api
        finally:
            api.close_watches()


@contextmanager
def connected(server: RealServer) -> Iterator[Connection]:
    endpoint = Endpoint(server=server.url, tls=server.tls, credentials=_Token())
    with asyncio.Runner() as runner:
        way = connect(endpoint, "conformance")
        yield Connection(server, runner.get_loop(), runner.run(way.__aenter__()))
        runner.run(way.__aexit__(None, None, None))
        runner.run(asyncio.sleep(0.1))  # TLS takes leave
