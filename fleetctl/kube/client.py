"""Requests to the API server, and their answers as typed objects.

One method per verb; each raises the errors of errors.py and no others. Knows nothing of caches (reflector.py), of when
to try again (retry.py) or of where credentials come from (auth.py). A resourceVersion is an opaque string here: it is
sent back, never compared.

`timeout` is in seconds and bounds the whole call, its repetitions included (for a list: each page).
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import aiohttp
import msgspec
from yarl import URL

from fleetctl.kube import errors
from fleetctl.kube.auth import Endpoint
from fleetctl.kube.objects import ObjectMeta, Raw, Resource, Struct, T
from fleetctl.kube.retry import JITTER, Seconds, repeat

PAGE = 500
TIMEOUT: Seconds = 30.0
CONNECT: Seconds = 10.0
SILENCE: Seconds = 130.0
"""Twice the interval of bookmarks: a watch that is silent for longer is dead."""
STARTING_OVER = 3
"""How often one list may begin again because its pages expired under it."""
FIELD_MANAGER = "fleetctl"
JSON = "application/json"

D = TypeVar("D")
Body = Mapping[str, object] | msgspec.Struct | Raw
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
PatchKind = Literal["merge", "strategic", "json", "apply"]
PATCH_TYPES: dict[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """All objects as of one moment; a watch goes on from `resource_version`."""

    items: list[T]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One line of a watch. A BOOKMARK has no object: it only says how far the server has come."""

    type: EventType
    resource_version: str
    object: T | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    """Empty values are left out."""
    body: object = None
    content_type: str = JSON
    write: tuple[str, str] | None = None
    """Verb and resource, as the audit log has them."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class _Line(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _ListMeta(Struct, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(Struct, frozen=True):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _OnlyMetadata(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()


class KubeClient:
    """The API server at `endpoint`, through `session` (connect.py makes both fit)."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, *, rng: random.Random = JITTER) -> None:
        self.endpoint = endpoint
        self.writes: Counter[tuple[str, str]] = Counter()
        """Requests that were sent to change something, repetitions too, by verb and resource (`update`, `pods/status`).
        """
        self._session = session
        self._rng = rng

    async def get(self, resource: Resource[T], namespace: str | None, name: str, *, timeout: Seconds = TIMEOUT) -> T:
        """One object. Raises NotFound."""
        return await self._object(resource, _Request(method="GET", path=resource.item(namespace, name)), timeout)

    async def raw_get(self, path: str, *, timeout: Seconds = TIMEOUT) -> bytes:
        """Whatever is at `path`, such as /version or /openid/v1/jwks, as it came."""
        return await self._call(_Request(method="GET", path=path), timeout, only_json=False)

    async def list(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        timeout: Seconds = TIMEOUT,
    ) -> Listing[T]:
        """All objects, in pages, as of one moment; never from a cache that may be behind what we have seen."""
        path = resource.collection(namespace)
        for _ in range(STARTING_OVER):
            try:
                return await self._pages(resource, path, label_selector, timeout)
            except errors.Gone:  # the pages expired before we had read them all
                continue
        return await self._pages(resource, path, label_selector, timeout)

    async def watch(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        timeout_seconds: int = 300,
        silence: Seconds = SILENCE,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """What happens after `resource_version`, until the server ends the stream (about `timeout_seconds`).

        One request, never repeated. Raises Gone if the server has forgotten that version, Unavailable if it sends
        nothing, bookmarks included, for `silence` seconds.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
            "labelSelector": label_selector,
        }
        request = _Request(method="GET", path=resource.collection(namespace), query=query)
        async with self._exchange(request, silence=silence) as response:
            async for line in response.content:
                yield _decode_event(f"{request} (watch)", resource.type, line)

    async def create(
        self,
        resource: Resource[T],
        namespace: str | None,
        body: Body,
        *,
        dry_run: bool = False,
        strict: bool = False,
        timeout: Seconds = TIMEOUT,
    ) -> T:
        """A new object. `strict` refuses unknown fields. Raises AlreadyExists, Refused."""
        if resource.namespaced and not namespace:
            raise ValueError(f"{resource.plural}: needs a namespace")
        options = {"dryRun": "All" if dry_run else "", "fieldValidation": "Strict" if strict else ""}
        request = _Request(
            method="POST",
            path=resource.collection(namespace),
            query={"fieldManager": FIELD_MANAGER, **options},
            body=_wire(resource, body),
            write=("create", resource.plural),
        )
        return await self._object(resource, request, timeout)

    async def replace(self, resource: Resource[T], body: Body, *, timeout: Seconds = TIMEOUT) -> T:
        """Compare-and-swap: `body` becomes the object, if its metadata.resourceVersion is still current.

        Raises Conflict if it is not, ValueError if it has none.
        """
        return await self._swap(resource, body, "", timeout)

    async def replace_status(self, resource: Resource[T], body: Body, *, timeout: Seconds = TIMEOUT) -> T:
        """Compare-and-swap of the status alone; otherwise like `replace`."""
        return await self._swap(resource, body, "status", timeout)

    async def patch(
        self,
        resource: Resource[T],
        namespace: str | None,
        name: str,
        body: Mapping[str, object] | Sequence[object],
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
        timeout: Seconds = TIMEOUT,
    ) -> T:
        """Changes some fields. metadata.resourceVersion or uid in a merge patch make it conditional."""
        request = _Request(
            method="PATCH",
            path=resource.item(namespace, name, subresource),
            query={"fieldManager": FIELD_MANAGER, "force": "true" if kind == "apply" else ""},
            body=body,
            content_type=PATCH_TYPES[kind],
            write=("patch", _what(resource, subresource)),
        )
        return await self._object(resource, request, timeout)

    async def delete(
        self,
        resource: Resource[T],
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        timeout: Seconds = TIMEOUT,
    ) -> bool:
        """False if it was not there. Raises Conflict if there is one, but with another uid or resourceVersion."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if preconditions := {key: value for key, value in wanted.items() if value is not None}:
            options["preconditions"] = preconditions
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        request = _Request(
            method="DELETE",
            path=resource.item(namespace, name),
            body=options,
            write=("delete", resource.plural),
        )
        try:
            await self._call(request, timeout)
        except errors.NotFound:
            return False
        return True

    async def _pages(self, resource: Resource[T], path: str, selector: str, timeout: Seconds) -> Listing[T]:
        items = []
        rest = ""
        while True:
            query = {"limit": str(PAGE), "labelSelector": selector, "continue": rest}
            request = _Request(method="GET", path=path, query=query)
            page = _decode(str(request), _Page, await self._call(request, timeout))
            for at, item in enumerate(page.items or (), start=1):
                items.append(_decode(str(request), resource.type, item))
                if at % PAGE == 0:
                    await asyncio.sleep(0)  # a server may ignore `limit`, and ten thousand pods take 0.1 s
            rest = page.metadata.continue_
            if not rest:
                return Listing(items, page.metadata.resource_version)

    async def _swap(self, resource: Resource[T], body: Body, subresource: str, timeout: Seconds) -> T:
        wire = _wire(resource, body)
        meta = msgspec.convert(wire, _OnlyMetadata).metadata
        if not meta.resource_version:
            raise ValueError(f"{resource.plural} {meta.name!r}: without a resourceVersion this would overwrite blindly")
        path = resource.item(meta.namespace, meta.name, subresource)
        request = _Request(
            method="PUT",
            path=path,
            query={"fieldManager": FIELD_MANAGER},
            body=wire,
            write=("update", _what(resource, subresource)),
        )
        return await self._object(resource, request, timeout)

    async def _object(self, resource: Resource[T], request: _Request, timeout: Seconds) -> T:
        return _decode(str(request), resource.type, await self._call(request, timeout))

    async def _call(self, request: _Request, timeout: Seconds, *, only_json: bool = True) -> bytes:
        """The body of the answer, after as many repetitions as retry.py allows."""

        async def once() -> bytes:
            async with self._exchange(request) as response:
                answer = await response.read()
                if only_json and response.content_type != JSON:
                    raise errors.not_json(str(request), answer)
                return answer

        return await repeat(once, what=str(request), write=request.method != "GET", within=timeout, rng=self._rng)

    @asynccontextmanager
    async def _exchange(
        self, request: _Request, *, silence: Seconds | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; inside the block, its successful answer. Credentials that were refused are renewed once."""
        with errors.only_ours(str(request)):
            credentials = await self.endpoint.headers()
            response = await self._send(request, credentials, silence)
            if response.status == 401 and (renewed := await self.endpoint.refresh(credentials)) != credentials:
                response.close()
                response = await self._send(request, renewed, silence)
            async with response:
                if response.status >= 300:
                    raise errors.from_answer(str(request), response.status, response.headers, await response.read())
                yield response

    async def _send(
        self, request: _Request, credentials: Mapping[str, str], silence: Seconds | None
    ) -> aiohttp.ClientResponse:
        if request.write:
            self.writes[request.write] += 1
        return await self._session.request(
            request.method,
            URL(self.endpoint.server + request.path, encoded=True),
            params={key: value for key, value in request.query.items() if value},
            data=None if request.body is None else msgspec.json.encode(request.body),
            headers={**credentials, "Content-Type": request.content_type},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence),
            allow_redirects=False,
            server_hostname=self.endpoint.server_name,
            proxy=self.endpoint.proxy,
        )


def _what(resource: Resource[T], subresource: str) -> str:
    return f"{resource.plural}/{subresource}" if subresource else resource.plural


def _wire(resource: Resource[T], body: Body) -> dict[str, object]:
    """`body` as a dict that says what it is, which structs and the items of a list do not."""
    content: dict[str, object] = msgspec.to_builtins(body.body if isinstance(body, Raw) else body)
    return {"apiVersion": resource.api_version, "kind": resource.kind, **content}


def _decode_raw(kind: type, value: Any) -> Raw:  # Any: what msgspec hands to a hook
    if kind is not Raw or not isinstance(value, dict):
        raise NotImplementedError(f"cannot decode {kind.__name__}")
    return Raw(value)


def _decode(what: str, kind: type[D], body: bytes | msgspec.Raw) -> D:
    try:
        return msgspec.json.decode(body, type=kind, dec_hook=_decode_raw)
    except msgspec.MsgspecError as error:
        raise errors.Unavailable(what, f"the answer is not a {kind.__name__.lstrip('_')}: {error}") from None


def _decode_event(what: str, kind: type[T], line: bytes) -> WatchEvent[T]:
    try:
        event = msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError:
        raise errors.not_json(what, line) from None
    match event.type:
        case "ADDED" | "MODIFIED" | "DELETED" as change:
            item = _decode(what, kind, event.object)
            return WatchEvent(change, item.metadata.resource_version, item)
        case "BOOKMARK":
            return WatchEvent("BOOKMARK", _decode(what, _OnlyMetadata, event.object).metadata.resource_version, None)
        case "ERROR":
            raise errors.from_event(what, bytes(event.object))
        case _:
            raise errors.Unavailable(what, f"an event of the unknown type {event.type[:40]!r}")
