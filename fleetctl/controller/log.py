"""One JSON object a line on stderr: time, level, logger, message, and whatever a record carries as extra fields."""

import json
import logging

from fleetctl.clock import Clock
from fleetctl.stamps import rfc3339_micro

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Renders a record as one line; `time` is when it is rendered, by the clock that everything else uses."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": rfc3339_micro(self._clock.now()),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("fleetctl."),
            "msg": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _ORDINARY}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(clock: Clock, *, verbose: bool) -> None:
    """Send everything to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(clock))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
