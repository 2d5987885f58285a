"""HTTP to the API server for actors that are many: as little as a request needs, so that it is the server that works.

Answers are bytes: whoever wants to know more decodes what it needs. A busy server is asked again, as client-go and
controllers do. Knows nothing of what is asked.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from tests.conformance.realserver import RealServer, token_of

JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
"""What Go programs ask for; here of answers that nobody reads."""
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
Object = dict[str, Any]


class _Meta(msgspec.Struct, rename="camel", frozen=True):
    resource_version: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: _Object


class Refused(Exception):
    """The server said no, and what."""


class Client:
    """One user of the server, over at most so many TLS connections, until the block ends."""

    def __init__(self, server: RealServer, user: str, connections: int = 32) -> None:
        self._url = server.url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=server.tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": f"Bearer {token_of(user)}", "User-Agent": f"{user}/scale"},
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**20,
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        query: Mapping[str, str] = {},
    ) -> bytes:
        """One request and its answer, tried again while the server is busy (429, 5xx). Raises Refused.

        What was there already, or gone, when it is tried again was our own doing.
        """
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": accept} if data is None else {"Accept": accept, "Content-Type": content_type}
        url = URL(self._url + path, encoded=True)
        done = {200, 201}
        while True:
            async with self._session.request(method, url, params=query, data=data, headers=headers) as response:
                answer = await response.read()
                if response.status in done:
                    return answer
                if not _busy(response.status):
                    raise Refused(f"{method} {path}: {response.status} {answer[:500]!r}")
                wait = float(response.headers.get("Retry-After", "1"))
            done |= {"POST": {409}, "DELETE": {404}}.get(method, set())
            await asyncio.sleep(wait)

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Object:
        """The same, with the answer as JSON."""
        answer: Object = msgspec.json.decode(await self.send(method, path, body, **options))
        return answer

    async def watch(self, path: str, since: str, query: Mapping[str, str] = {}) -> AsyncGenerator[bytes, None]:
        """What happens after the version `since`, a line each. A watch that ends is begun again where it was: the
        server hangs up on those that read slowly."""
        url = URL(self._url + path, encoded=True)
        version = msgspec.json.Decoder(_Line).decode
        while True:
            asked = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "3000", **query}
            async with self._session.get(url, params=asked, headers={"Accept": JSON}) as response:
                if response.status == 200:
                    async for line in response.content:
                        told = version(line)
                        if told.type == "ERROR":
                            raise Refused(f"watch {path}: {line!r}")
                        since = told.object.metadata.resource_version
                        yield line
                    continue
                if not _busy(response.status):
                    raise Refused(f"watch {path}: {response.status} {await response.text()}")
                wait = float(response.headers.get("Retry-After", "1"))
            await asyncio.sleep(wait)


def _busy(status: int) -> bool:
    return status == 429 or status >= 500
