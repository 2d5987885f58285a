"""What is asked of the simulated API server: paths, queries, selectors and bodies as Kubernetes has them.

Knows nothing of what is stored.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple
from urllib.parse import unquote

import msgspec

from fleetctl.sim.answers import JSON, ApiFailure
from fleetctl.sim.journal import Object
from fleetctl.sim.kinds import KINDS

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete"]
ITEM: dict[str, Verb] = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
WRITES = frozenset(("create", "update", "patch", "delete"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`plural` is empty for a path that is no resource. `client` is which of the actor's connections it came on:
    controller/a/elector is one of controller/a."""

    actor: str
    client: str
    verb: Verb
    path: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    body: bytes | None = None

    @property
    def writes(self) -> bool:
        return self.verb in WRITES


def parse(
    client: str, method: str, path: str, query: Mapping[str, str], content_type: str, body: bytes | None
) -> Request:
    """`path` as it is on the wire, still quoted. Raises ApiFailure for a method that nothing has."""
    plural, namespace, name, subresource = _address(path)
    verb: Verb | None
    if plural and not name:
        watches = query.get("watch") in {"true", "1"}
        collection: dict[str, Verb] = {"GET": "watch" if watches else "list", "POST": "create"}
        verb = collection.get(method)
    else:
        verb = ITEM.get(method)
    if verb is None or (not plural and verb != "get"):
        raise ApiFailure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return Request(
        actor="/".join(client.split("/")[:2]),
        client=client,
        verb=verb,
        path=path,
        plural=plural,
        namespace=namespace,
        name=name,
        subresource=subresource,
        query=query,
        content_type=content_type.partition(";")[0].strip().lower(),
        body=body,
    )


@functools.lru_cache(maxsize=4096)
def _address(path: str) -> tuple[str, str, str, str]:
    """Plural, namespace, name and subresource; the first is empty if that is no resource."""
    nothing = ("", "", "", "")
    parts = [unquote(part) for part in path.strip("/").split("/")]
    group_version, rest = "/".join(parts[1:2]), parts[2:]
    if parts[0] == "apis":
        group_version, rest = "/".join(parts[1:3]), parts[3:]
    elif parts[0] != "api":
        return nothing
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    kind = KINDS.get(rest[0]) if rest else None
    if kind is None or kind.resource.api_version != group_version or len(rest) > 3:
        return nothing
    plural, name, subresource = (*rest, "", "")[:3]
    if bool(namespace) and not kind.resource.namespaced:
        return nothing
    if name and kind.resource.namespaced and not namespace:
        return nothing
    return plural, namespace, name, subresource


def json_object(request: Request) -> Object:
    """What the body says. Raises ApiFailure (400)."""
    try:
        body = msgspec.json.decode(request.body or b"")
    except msgspec.DecodeError as error:
        raise ApiFailure(400, "BadRequest", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiFailure(400, "BadRequest", "the body is not an object")
    return body


def whole_object(request: Request) -> Object:
    """The same, of what shall be an object of the API, at least in its outline."""
    body = json_object(request)
    if problem := misshapen(body):
        raise ApiFailure(400, "BadRequest", f"{problem} is not what it must be")
    return body


def misshapen(body: Object) -> str:
    """The field at fault, or nothing."""
    meta = body.get("metadata")
    if not isinstance(meta, dict):
        return "metadata"
    for part in ("spec", "status", "data"):
        if not isinstance(body.get(part, {}), dict):
            return part
    for part in ("labels", "annotations"):
        values = {} if meta.get(part) is None else meta[part]
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            return f"metadata.{part}"
    finalizers = [] if meta.get("finalizers") is None else meta["finalizers"]
    if not isinstance(finalizers, list) or not all(isinstance(each, str) for each in finalizers):
        return "metadata.finalizers"
    return ""


class Preconditions(msgspec.Struct, rename="camel"):
    uid: str | None = None
    resource_version: str | None = None


class DeleteOptions(msgspec.Struct, rename="camel"):
    grace_period_seconds: Annotated[int, msgspec.Meta(ge=0)] | None = None
    preconditions: Preconditions | None = None


def delete_options(request: Request) -> DeleteOptions:
    """Raises ApiFailure (400)."""
    try:
        return msgspec.json.decode(request.body or b"{}", type=DeleteOptions)
    except msgspec.DecodeError as error:
        raise ApiFailure(400, "BadRequest", f"these are no DeleteOptions: {error}") from None


def number(query: Mapping[str, str], name: str) -> int:
    """0 if it is not asked for. Raises ApiFailure (400)."""
    value = query.get(name) or "0"
    if not value.isdecimal():
        raise ApiFailure(400, "BadRequest", f"{name}: not a number: {value!r}")
    return int(value)


class Term(NamedTuple):
    """The labels that have this key and one of these values (None: any), or all others."""

    key: str
    values: frozenset[str] | None
    others: bool


Selector = tuple[Term, ...]

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_KEY = re.compile(rf"({_NAME}/)?{_NAME}")
_TERM = re.compile(
    r"\s*(?P<without>!?)\s*(?P<key>[^\s=!(),]+)\s*"
    r"(?:(?P<is>==?|!=)\s*(?P<value>[^\s=!(),]*)|\b(?P<in>in|notin)\s*\((?P<values>[^()]*)\))?\s*"
)


@functools.lru_cache(maxsize=256)
def selector(text: str) -> Selector:
    """`key`, `!key`, `key=value`, `key!=value`, `key in (a,b)` and `key notin (a,b)`, joined by commas. Raises
    ApiFailure for anything else."""
    terms: list[Term] = []
    at = 0
    while text and at <= len(text):
        term = _TERM.match(text, at)
        ends = term.end() if term else at
        if term is None or not _KEY.fullmatch(term["key"]) or text[ends : ends + 1] not in {"", ","}:
            raise ApiFailure(400, "BadRequest", f"unable to parse requirement: {text[at:]!r}")
        values = None
        if term["is"]:
            values = frozenset((term["value"],))
        if term["in"]:
            values = frozenset(value.strip() for value in term["values"].split(","))
        if term["without"] and values is not None:
            raise ApiFailure(400, "BadRequest", f"unable to parse requirement: {text[at:]!r}")
        terms.append(Term(term["key"], values, bool(term["without"]) or term["is"] == "!=" or term["in"] == "notin"))
        at = ends + 1
    return tuple(terms)


def selects(wanted: Selector, body: Object) -> bool:
    if not wanted:
        return True
    labels = body["metadata"].get("labels") or {}
    return all(
        (term.key in labels and (term.values is None or labels[term.key] in term.values)) != term.others
        for term in wanted
    )
