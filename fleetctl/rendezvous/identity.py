"""Who is at the other end of a stream, and whether it may stay. Knows nothing of how that is proved (tokens.py)."""

from dataclasses import dataclass
from enum import Enum, auto

from fleetctl.errors import GiveUp


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """A pod, from its token's claims only."""

    namespace: str
    pod: str
    uid: str


class Admission(Enum):
    MEMBER = auto()  # a pod of a gang, and not superseded
    SUPERSEDED = auto()  # was one, but was deleted or replaced: it may stay to be reset, and nothing else
    NOT_YET = auto()  # our view may be behind: the agent tries again
    STRANGER = auto()  # never was a member


class BadToken(GiveUp):
    """This token proves nothing. The message says what to change and never holds the token."""
