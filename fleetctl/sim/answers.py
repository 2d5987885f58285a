"""What the simulated API server answers, and its ways to say no: Statuses as Kubernetes words them.

Knows nothing of requests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from fleetctl.sim.journal import Object
from fleetctl.sim.kinds import KINDS, full_name

JSON = "application/json"


class Cause(NamedTuple):
    field: str
    reason: str
    message: str


class ApiFailure(Exception):
    """The server will not. Becomes a Kubernetes Status; `retry_after` is in seconds."""

    def __init__(
        self, code: int, reason: str, message: str, causes: Sequence[Cause] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = tuple(causes)
        self.retry_after = retry_after

    def status(self) -> bytes:
        details: Object = {}
        if self.causes:
            details["causes"] = [cause._asdict() for cause in self.causes]
        if self.retry_after is not None:
            details["retryAfterSeconds"] = math.ceil(self.retry_after)
        return msgspec.json.encode(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": self.message,
                "reason": self.reason,
                "details": details,
                "code": self.code,
            }
        )

    def answer(self) -> "Answer":
        waits = {} if self.retry_after is None else {"Retry-After": str(math.ceil(self.retry_after))}
        return Answer(self.code, self.status(), waits)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; `headers` beside the content type, which is always JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def not_found(plural: str, name: str) -> ApiFailure:
    return ApiFailure(404, "NotFound", f'{full_name(plural)} "{name}" not found')


def invalid(plural: str, name: str, field: str, message: str, reason: str = "FieldValueInvalid") -> ApiFailure:
    full = f'{KINDS[plural].resource.kind} "{name}" is invalid: {field}: {message}'
    return ApiFailure(422, "Invalid", full, [Cause(field, reason, message)])


def conflict(plural: str, name: str, message: str) -> ApiFailure:
    return ApiFailure(409, "Conflict", f'Operation cannot be fulfilled on {full_name(plural)} "{name}": {message}')
