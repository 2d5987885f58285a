"""How Kubernetes writes moments. Formats only: what time it is, `clock.py` knows."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """`2026-11-21T06:13:47Z`: a `Time` (whole seconds)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """`2026-11-21T06:13:47.123456Z`: a `MicroTime`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unix_seconds(stamp: str | None) -> float:
    """Seconds since 1970 of a `Time` or `MicroTime`; 0 if there is none."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0
