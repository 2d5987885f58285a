"""Strikes as they are kept on a Node: one annotation, which outlives reboots, pods and gangs.

    UNIX_SECONDS/RULE/NAMESPACE/GANG/RANK, one after the other with commas between, the latest last

Anybody may edit it: what is no such strike is passed over. What strikes mean, diagnose/strikes.py knows.
"""

from collections.abc import Sequence

from fleetctl.gang import spec
from fleetctl.gang.state import Strike

STRIKES = f"{spec.GROUP}/strikes"
KEPT = 8


def parse(text: str) -> tuple[Strike, ...]:
    """What the annotation says, the latest ones."""
    found = [strike for word in text.split(",") if (strike := _strike(word.strip()))]
    return tuple(found[-KEPT:])


def format(strikes: Sequence[Strike]) -> str:  # noqa: A001  (read as strikes.format)
    """The annotation that says so, of the latest ones."""
    return ",".join(f"{strike.at:.0f}/{strike.rule}/{strike.who}" for strike in strikes[-KEPT:])


def _strike(word: str) -> Strike | None:
    at, *rest = word.split("/")
    if len(rest) != 4 or not all(rest) or not _is_number(at) or not _is_number(rest[-1]):
        return None
    return Strike(at=float(at), rule=rest[0], who="/".join(rest[1:]))


def _is_number(word: str) -> bool:
    return word.isdecimal() and word.isascii() and len(word) <= 15
