"""The only way in for time, so that the simulator can bring its own.

Monotonic time is the event loop's (`loop.time()`), which a simulated loop replaces by itself. Wall-clock time appears
in records, Leases and conditions, for people to read; no decision compares it with another machine's clock.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where wall-clock time comes from."""

    def now(self) -> datetime:
        """The time of day, UTC, timezone-aware."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC)
