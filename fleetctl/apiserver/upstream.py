"""Requests to the real API server, each in the name of an actor.

Knows nothing of what is asked.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from fleetctl.apiserver.server import Server, token_of
from fleetctl.sim.answers import JSON, Answer

WITHIN_S = 30.0
AT_ONCE = 64
"""Requests of those who ask patiently: each kubelet of a real cluster has its own limit."""
LONGEST_LINE = 2**22
ACCEPT = "application/json, */*;q=0.1"
PASSED_ON = ("Retry-After",)


class Unreachable(Exception):
    """There was no answer; the request may have happened or not."""


class Upstream:
    """The real API server. `actor` is one of those who have a token."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self._tls = server.tls
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def ask(
        self,
        actor: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        body: bytes | None = None,
    ) -> Answer:
        """Raises Unreachable."""
        try:
            async with self._request(actor, method, path, query or {}, content_type, body) as response:
                headers = {name: response.headers[name] for name in PASSED_ON if name in response.headers}
                return Answer(response.status, await response.read(), headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def watch(self, actor: str, path: str, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer while it is being told. Raises what aiohttp does."""
        request = self._request(actor, "GET", path, query, JSON, None, total_s=None)
        async with request as response:
            yield response

    async def patiently(
        self, actor: str, method: str, path: str, content_type: str = JSON, body: bytes | None = None
    ) -> Answer:
        """The same, asked until there is an answer that does not say "later"."""
        while True:
            with contextlib.suppress(Unreachable):
                async with self._turns:
                    answer = await self.ask(actor, method, path, None, content_type, body)
                if answer.status != 429 and answer.status < 500:
                    return answer
            await asyncio.sleep(0.2)

    def _request(
        self,
        actor: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        content_type: str,
        body: bytes | None,
        total_s: float | None = WITHIN_S,
    ) -> "aiohttp.client._RequestContextManager":
        return self._session.request(
            method,
            URL(self._server.url + path, encoded=True),
            params=query,
            data=body,
            headers={"Authorization": f"Bearer {token_of(actor)}", "Content-Type": content_type, "Accept": ACCEPT},
            ssl=self._tls,
            timeout=aiohttp.ClientTimeout(total=total_s),
        )


@asynccontextmanager
async def upstream(server: Server) -> AsyncIterator[Upstream]:
    """Its connections are open for as long as the block lasts. Watches have connections beside the others."""
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=LONGEST_LINE)
    session._retry_connection = False
    async with session:
        yield Upstream(server, session)
