"""The root of fleetctl's errors, and the two questions every caller asks of one: try again, or give up?

    FleetctlError
    ├── Retry      passing: the same request may succeed later
    └── GiveUp     lasting: somebody has to change something first; the message says what

Libraries' exceptions do not cross a package's border: they are raised from one of these.
"""


class FleetctlError(Exception):
    """Something went wrong that fleetctl can name."""


class Retry(FleetctlError):
    """Passing: read the world again and decide again."""


class GiveUp(FleetctlError):
    """Lasting: trying again without a change cannot help."""
