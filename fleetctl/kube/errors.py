"""Everything a request to the API server can end in, and what to do next.

    FleetctlError
    └── ApiError
        ├── Conflict       Retry    somebody wrote first: read again, decide again
        ├── Gone           Retry    the server cannot continue from here (a resourceVersion, a page): list again
        ├── Throttled      Retry    too many requests: wait `retry_after`
        ├── Unavailable    Retry    no usable answer; `unsent` tells whether a write may have happened all the same
        ├── AlreadyExists  GiveUp   the name is taken: look whose object it is
        ├── NotFound       GiveUp   no such object, or no such resource
        ├── Refused        GiveUp   the server will not take this object: show message and causes to the user
        ├── Unauthorized   GiveUp   it does not know us, fresh credentials included
        └── Forbidden      GiveUp   it knows us and a role is missing

Only a Kubernetes `Status` is ever quoted. Any other body (a load balancer's page, half an object, a Secret) is named by
type and size, because messages end up in logs.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from fleetctl.errors import FleetctlError, GiveUp, Retry

LONGEST_QUOTE = 2000
"""Characters of a server's message that are kept: a refused Pod is answered with a dump of its whole spec."""


class Cause(NamedTuple):
    """One complaint of the server about one field."""

    field: str
    reason: str
    message: str


class ApiError(FleetctlError):
    """A request failed.

    `message` is the server's own (or ours, if it said nothing usable), `status` the HTTP code (0: no answer), `reason`
    the server's one-word reason, `retry_after` the seconds it asks us to wait, `unsent` true if nothing reached it.
    """

    def __init__(
        self,
        what: str,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
        unsent: bool = False,
    ) -> None:
        super().__init__(f"{what}: {message}")
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after
        self.unsent = unsent


class Conflict(ApiError, Retry):
    """Somebody wrote first, or the preconditions of a delete no longer hold: read again."""


class Gone(ApiError, Retry):
    """The server cannot continue from this resourceVersion or page: list again."""


class Throttled(ApiError, Retry):
    """The server has too much to do and did nothing: wait `retry_after` seconds."""


class Unavailable(ApiError, Retry):
    """No usable answer. Unless `unsent`, a write may or may not have happened: read before you write again."""


class AlreadyExists(ApiError, GiveUp):
    """The name is taken: only its owner's uid tells whether the object is ours."""


class NotFound(ApiError, GiveUp):
    """There is no such object, or the cluster does not know the resource."""


class Refused(ApiError, GiveUp):
    """The server will not take this object: show `message` and `causes` to whoever wrote it."""


class Unauthorized(ApiError, GiveUp):
    """The credentials are not accepted, and refreshing them did not help."""


class Forbidden(ApiError, GiveUp):
    """The credentials are accepted, but their roles do not allow this."""


class _WireCause(msgspec.Struct, gc=False, rename="camel"):
    field: str = ""
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, gc=False, rename="camel"):
    causes: tuple[_WireCause, ...] | None = None
    retry_after_seconds: int = 0


class _Status(msgspec.Struct, gc=False, rename="camel"):
    kind: str
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


_BY_CODE: dict[int, type[ApiError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: Gone, 429: Throttled}
_MISSING_ROLE = re.compile(r'User "[^"]*" cannot ')


def from_answer(what: str, code: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that an unsuccessful HTTP answer stands for. `what` is the request: its method and path."""
    waits = headers.get("Retry-After", "")
    retry_after = float(waits) if waits.isdecimal() else None  # a date would need a clock that agrees with the server's
    status = _parse_status(body)
    if status is not None:
        return _from_status(what, code, status, retry_after)
    kind = _BY_CODE.get(code) or (Refused if 400 <= code < 500 and code != 409 else Unavailable)
    content_type = headers.get("Content-Type", "no type").partition(";")[0][:80]
    message = f"HTTP {code} with {len(body)} bytes of {content_type} instead of a Kubernetes Status"
    return kind(what, message, status=code, retry_after=retry_after)


def from_event(what: str, body: bytes) -> ApiError:
    """The error that an ERROR event of a watch stands for."""
    status = _parse_status(body)
    if status is None:
        return Unavailable(what, "an ERROR event without a Status")
    code = status.code or (410 if status.reason in {"Expired", "Gone"} else 500)
    return _from_status(what, code, status, None)


def not_json(what: str, body: bytes) -> Unavailable:
    """An answer that no API server would give."""
    return Unavailable(what, f"{len(body)} bytes that are not the JSON we asked for")


@contextmanager
def only_ours(what: str) -> Iterator[None]:
    """Exceptions of the HTTP library become `Unavailable`.

    `from None`, because theirs quote what came over the wire, and a traceback is a log too.
    """
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unavailable(what, f"no connection: {error}", unsent=True) from error
    except TimeoutError:
        raise Unavailable(what, "the server went silent") from None
    except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
        raise Unavailable(what, f"the connection broke ({type(error).__name__})") from None
    except RuntimeError as error:
        if str(error) != "Connection closed.":  # what aiohttp says when the other end hangs up between two reads
            raise
        raise Unavailable(what, "the connection was closed") from None


def _parse_status(body: bytes) -> _Status | None:
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        return None
    return status if status.kind == "Status" else None


def _from_status(what: str, code: int, status: _Status, retry_after: float | None) -> ApiError:
    details = status.details or _Details()
    causes = tuple(Cause(cause.field, cause.reason, cause.message[:LONGEST_QUOTE]) for cause in details.causes or ())
    message = status.message[:LONGEST_QUOTE] or f"HTTP {code} {status.reason}".rstrip()
    kind = _kind(what, code, status, causes)
    if retry_after is None and details.retry_after_seconds:
        retry_after = float(details.retry_after_seconds)
    return kind(what, message, status=code, reason=status.reason, causes=causes, retry_after=retry_after)


def _kind(what: str, code: int, status: _Status, causes: tuple[Cause, ...]) -> type[ApiError]:
    if code == 409:
        return AlreadyExists if status.reason == "AlreadyExists" else Conflict
    if code == 403 and not what.startswith("GET ") and not _MISSING_ROLE.search(status.message):
        return Refused  # admission (quota, pod security, a webhook, a namespace that terminates) says 403 as well
    if any(cause.reason == "ResourceVersionTooLarge" for cause in causes):
        return Gone  # etcd was restored from a backup: ours is a version of a history that no longer exists
    return _BY_CODE.get(code) or (Refused if 400 <= code < 500 else Unavailable)
