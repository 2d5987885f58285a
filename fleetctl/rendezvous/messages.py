"""What agents and controllers say to each other: one JSON object a line.

Shared by both ends, so it must stay cheap: standard library only (no dataclasses: 9 ms of an agent's start), no IO, no
rules about when a message is due (agent/machine.py and server.py have those). Both ends may be of different versions:
types and fields the receiver does not know are ignored, malformed ones it does know are errors.

An agent never says which pod it is: that is in its token's claims, so it can speak only for its own.

Beware: named tuples of different types compare equal (`Ping(1, "t") == Release(1, "t")`), and empty ones are false. Ask
`isinstance` or `is None`.

Add a message: write its class, list it in FROM_AGENT or FROM_CONTROLLER; new fields need defaults.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Protocol

LINE_LIMIT = 16 * 1024
RESTART_EXIT_CODE = 88
"""An agent that exits with it wants every container of its pod restarted. Pods carry a rule for exactly this code."""

HARDWARE_KEPT = 16
"""Reports of hardware that are kept, the latest ones: what happened long ago explains nothing."""

_HIGHEST = 2**53
_SHORT = 128


class ProtocolError(Exception):
    """The peer said something that is not in the protocol: close the stream."""


class Promised(NamedTuple):
    """What a life has persisted; see `fleetctl.gang.state.Promise`."""

    attempt: int
    ticket: str


class Hello(NamedTuple):
    """First words on a stream, and again when the agent wants to be asked again.

    `started_at` is the start of the life in Unix seconds of the node's clock; `attempt` is the one this life was
    released into, 0 while it waits; `floor` what the pod has promised in any life: it accepts nothing below.
    """

    token: str
    life_id: str
    started_at: float
    attempt: int
    promise: Promised | None
    floor: int = 0


class Beat(NamedTuple):
    """Still here. `step` is the trainer's, if it tells; `work_s` how much of each step it works by itself, seconds, if
    it tells; `paused`: it makes no steps for now, on purpose."""

    step: int | None = None
    work_s: float | None = None
    paused: bool = False


class Hardware(NamedTuple):
    """Something on the node said this of its hardware, `at` Unix seconds of the node's clock; see
    `fleetctl.gang.state.Report`."""

    code: str
    device: str
    text: str
    at: float


class Pong(NamedTuple):
    """The ping's promise is persisted."""

    attempt: int
    ticket: str


class Released(NamedTuple):
    """The gate is open for this attempt."""

    attempt: int


class Proved(NamedTuple):
    """The coordinator's Service leads to this life."""

    life_id: str


class Bye(NamedTuple):
    """SIGTERM: this agent goes, and the stream will close."""


class Welcome(NamedTuple):
    beat_s: float


class BeatAck(NamedTuple):
    """Said only by a leader."""


class Ping(NamedTuple):
    """Promise this attempt under this ticket. There is no separate assignment."""

    attempt: int
    ticket: str


class Release(NamedTuple):
    """The ticket is committed: whoever promised it, start the trainer."""

    attempt: int
    ticket: str


class Reset(NamedTuple):
    """Restart in place to take part in this attempt."""

    attempt: int


class Prove(NamedTuple):
    """Dial the coordinator's agent through its Service until it answers with this life id."""

    life_id: str


class NotLeader(NamedTuple):
    """`address` is the leader's, or empty if it is not known."""

    address: str


class TryAgain(NamedTuple):
    reason: str


class Refused(NamedTuple):
    reason: str


FromAgent = Hello | Beat | Hardware | Pong | Released | Proved | Bye
FromController = Welcome | BeatAck | Ping | Release | Reset | Prove | NotLeader | TryAgain | Refused
Message = FromAgent | FromController

FROM_AGENT: tuple[type[FromAgent], ...] = (Hello, Beat, Hardware, Pong, Released, Proved, Bye)
FROM_CONTROLLER: tuple[type[FromController], ...] = (
    Welcome, BeatAck, Ping, Release, Reset, Prove, NotLeader, TryAgain, Refused,
)  # fmt: skip
_NAMES = {
    Hello: "hello", Beat: "beat", Hardware: "hardware", Pong: "pong", Released: "released", Proved: "proved",
    Bye: "bye", Welcome: "welcome", BeatAck: "beat-ack", Ping: "ping", Release: "release", Reset: "reset",
    Prove: "prove", NotLeader: "not-leader", TryAgain: "try-again", Refused: "refused",
}  # fmt: skip
_TYPES = {name: kind for kind, name in _NAMES.items()}


def encode(message: Message) -> bytes:
    fields = message._asdict()
    if isinstance(message, Hello) and message.promise is not None:
        fields["promise"] = message.promise._asdict()
    return _to_json({"type": _NAMES[type(message)], **fields}).encode() + b"\n"


def decode(line: bytes) -> Message | None:
    """The message of one line, None if its type is of a newer protocol."""
    if len(line) > LINE_LIMIT:
        raise ProtocolError(f"a line of more than {LINE_LIMIT} bytes")
    # A thousand agents say the same beats and pongs; what is longer (a token) is different each time, and secret.
    return _decode_known(line) if len(line) <= _SHORT else _decode(line)


def _decode(line: bytes) -> Message | None:
    try:
        value = _from_json(line.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a line that is not JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ProtocolError('a line that is not an object with a "type"')
    kind = _TYPES.get(value["type"])
    if kind is None:
        return None
    message: Message = _read(kind, value, value["type"])
    return message


_decode_known = functools.lru_cache(maxsize=64)(_decode)


def _read(kind: Any, value: dict[str, object], name: str) -> Any:
    """A named tuple of this kind from an object that may have more fields than we know."""
    fields = {}
    for field, wanted in kind.__annotations__.items():
        if field in value:
            fields[field] = _CHECKS[wanted](value[field], f"{name}.{field}")
        elif field not in kind._field_defaults:
            raise ProtocolError(f"{name} without {field}")
    return kind(**fields)


def _whole(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value < _HIGHEST:  # true is an int too, but not an attempt
        raise ProtocolError(f"{where} is not a whole number")
    return value


def _whole_or_none(value: object, where: str) -> int | None:
    return None if value is None else _whole(value, where)


def _number(value: object, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value < _HIGHEST:  # type: ignore[operator]  # refuses 1e999 too
        raise ProtocolError(f"{where} is not a number")
    return float(value)  # type: ignore[arg-type]


def _number_or_none(value: object, where: str) -> float | None:
    return None if value is None else _number(value, where)


def _yes_or_no(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError(f"{where} is neither true nor false")
    return value


def _text(value: object, where: str) -> str:
    # It ends up in logs, Events and status: no control characters, no half surrogates that cannot be written again.
    if not isinstance(value, str) or not value.isprintable():
        raise ProtocolError(f"{where} is not printable text")
    return value


def _promised(value: object, where: str) -> Promised | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ProtocolError(f"{where} is not an object")
    promised: Promised = _read(Promised, value, where)
    return promised


_CHECKS: dict[Any, Callable[[object, str], object]] = {
    int: _whole,
    int | None: _whole_or_none,
    float: _number,
    float | None: _number_or_none,
    bool: _yes_or_no,
    str: _text,
    Promised | None: _promised,
}


def _no_such_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


# made once: json.loads and json.dumps would make them for every line
_from_json = json.JSONDecoder(parse_constant=_no_such_number).decode
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class LineReader(Protocol):
    """The part of `asyncio.StreamReader` that a message needs."""

    async def readline(self) -> bytes: ...


async def receive(reader: LineReader) -> Message | None:
    """The next line's message, None if its type is of a newer protocol; EOFError at the end of the stream.

    May be cancelled between lines and half-way through one: nothing is lost.
    """
    try:
        line = await reader.readline()
    except ValueError as error:  # asyncio's word for a line beyond the reader's own limit
        raise ProtocolError("a line without an end") from error
    if not line.endswith(b"\n"):
        raise EOFError
    return decode(line)
