"""Times, shares and sets of numbers as people write them in scenario files: `250ms`, `5ms..80ms`, `10%`, `3,17-24`.

Knows nothing of YAML or of where a text stands. Every parser raises ValueError with one sentence for the user, the fix
included.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

Seconds = float
Share = float
"""0 to 1."""
Spans = tuple[tuple[int, int], ...]
"""First and last number of each range."""


class Range(Struct, frozen=True):
    """From `low` to `high`, both included. Seconds."""

    low: Seconds
    high: Seconds


# A parameter of these types is written as text; `reads` tells the loader, the schema and the tables how.
Duration = Annotated[Seconds, Meta(extra={"reads": "duration"})]
PositiveDuration = Annotated[Seconds, Meta(extra={"reads": "positive duration"})]
SignedDuration = Annotated[Seconds, Meta(extra={"reads": "signed duration"})]
DurationRange = Annotated[Range, Meta(extra={"reads": "range"})]
Percent = Annotated[Share, Meta(extra={"reads": "percent"})]
Indices = Annotated[Spans, Meta(extra={"reads": "indices"})]
IndicesOrNone = Annotated[Spans, Meta(extra={"reads": "indices or none"})]

UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
DURATION = r"[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h)"
PERCENT = r"(100|[0-9]{1,2}(\.[0-9]{1,9})?)%"
INDICES = r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*"

_NUMBER_AND_REST = re.compile(r"\s*(?P<number>[-+]?[0-9]*\.?[0-9]+)\s*(?P<unit>.*?)\s*")
_MISSPELT = {
    unit: right
    for right, units in {
        "ms": "msec msecs millis millisecond milliseconds",
        "s": "sec secs second seconds",
        "m": "min mins minute minutes",
        "h": "hr hrs hour hours",
    }.items()
    for unit in units.split()
}


def duration(text: str) -> Seconds:
    """`1.5s` as seconds."""
    if re.fullmatch(DURATION, text):
        number, unit = re.split(r"(?=[msh])", text, maxsplit=1)
        return float(Decimal(number) * UNITS[unit])
    raise ValueError(_why_no_duration(text))


def positive_duration(text: str) -> Seconds:
    """As `duration`, but not 0."""
    if (seconds := duration(text)) > 0:
        return seconds
    raise ValueError(f'"{text}" is no time at all; write more than 0s')


def signed_duration(text: str) -> Seconds:
    """As `duration`, but it may begin with a minus."""
    return -duration(text[1:]) if text.startswith("-") else duration(text)


def duration_range(text: str) -> Range:
    """`5ms..80ms`; a single duration is a range of itself."""
    low, dots, high = text.partition("..")
    found = Range(duration(low.strip()), duration((high if dots else low).strip()))
    if found.low > found.high:
        raise ValueError(f'"{text}" is upside down; write {high.strip()}..{low.strip()}')
    return found


def percent(text: str) -> Share:
    """`10%` as 0.1; more than 0%."""
    if not re.fullmatch(PERCENT, text):
        raise ValueError(f'"{text}" is no share; write a number from 0 to 100 and a percent sign, such as 10%')
    if (share := float(Decimal(text[:-1]) / 100)) > 0:
        return share
    raise ValueError(f'"{text}" would never happen; write more than 0%')


def spans(text: str) -> Spans:
    """`3,17-24` as its first and last numbers: (3, 3), (17, 24)."""
    compact = text.replace(" ", "")
    if not re.fullmatch(INDICES, compact):
        raise ValueError(f'"{text}" is no list of numbers; write numbers and ranges with commas, such as "3,17-24"')
    out = []
    for part in compact.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high:
            raise ValueError(f'the range "{part}" is upside down; write {high}-{low}')
        out.append((low, high))
    return tuple(out)


def seconds_text(seconds: Seconds) -> str:
    """The shortest way to write this duration in a scenario file."""
    exact = Decimal(repr(abs(seconds)))
    for unit in ("h", "m", "s"):
        count = exact / UNITS[unit]
        if count >= 1 and (count == count.to_integral_value() or unit == "s"):
            return f"{'-' * (seconds < 0)}{count.normalize():f}{unit}"
    return f"{'-' * (seconds < 0)}{(exact * 1000).normalize():f}ms" if exact else "0s"


def range_text(both: Range) -> str:
    """The shortest way to write this range in a scenario file."""
    return f"{seconds_text(both.low)}..{seconds_text(both.high)}"


def percent_text(share: Share) -> str:
    """The shortest way to write this share in a scenario file."""
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"


def indices_text(numbers: Iterable[int]) -> str:
    """The shortest way to write these numbers in a scenario file."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in runs)


def _why_no_duration(text: str) -> str:
    shown = f'"{text}"'
    found = _NUMBER_AND_REST.fullmatch(text)
    if found is None:
        return f"{shown} is no duration; write a number and a unit, such as 250ms, 1.5s, 2m or 1h"
    number, unit = found["number"], found["unit"]
    if number.startswith("-"):
        return f"{shown} is negative; write a duration of 0s or more"
    if not unit:
        return f"{shown} has no unit; write {number}s if you mean seconds (units are ms, s, m, h)"
    right = _MISSPELT.get(unit.lower(), unit.lower())
    if right in UNITS and re.fullmatch(DURATION, number + right):
        return f"{shown} is not how durations are written; write {number}{right}"
    return f"{shown} is no duration; write a number and one of the units ms, s, m, h, such as 1.5s"
