"""What one client asked to be told of: changes of one resource, from a version on, that its selector concerns.

Knows nothing of time: when bookmarks are due and when it is over, whoever carries the lines must see to (stream.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from fleetctl.sim.answers import ApiFailure
from fleetctl.sim.journal import Key
from fleetctl.sim.kinds import KINDS
from fleetctl.sim.requests import Selector, selects
from fleetctl.sim.store import Change, Expired, Store, Stored

NOBODY: Key = ("", "")


class Line(NamedTuple):
    """One event of a watch, as it goes over the wire. `key` is NOBODY for a BOOKMARK or an ERROR."""

    type: str
    key: Key
    data: bytes


Sink = Callable[[Line], None]


class Watch:
    """Tells its sink, from `open` to `close`. `since` is None for one that wants what is there told first."""

    def __init__(
        self,
        store: Store,
        watchers: dict["Watch", None],
        plural: str,
        *,
        namespace: str,
        wanted: Selector,
        since: int | None,
        seconds: float,
        bookmarks: bool,
    ) -> None:
        self.plural = plural
        self.seconds = seconds
        """How long it may last."""
        self.bookmarks = bookmarks
        self.failed = False
        """It could not be continued: an ERROR was its only line."""
        self._store = store
        self._watchers = watchers
        self._namespace = namespace
        self._wanted = wanted
        self._since = since
        self._sink: Sink | None = None

    def open(self, sink: Sink) -> None:
        """Tell what has happened until now, then each change as it is committed."""
        self._sink = sink
        self._watchers[self] = None
        if self._since is None:
            for stored in self._store.at(self.plural, self._store.version):
                if self._concerns(stored):
                    sink(_line("ADDED", stored))
            return
        try:
            missed = self._store.since(self.plural, self._since)
        except Expired as expired:
            self.failed = True
            self.close()
            status = ApiFailure(410, "Expired", str(expired)).status()
            sink(Line("ERROR", NOBODY, b'{"type":"ERROR","object":' + status + b"}\n"))
            return
        for change in missed:
            self.see(change)

    def close(self) -> None:
        self._sink = None
        self._watchers.pop(self, None)

    def see(self, change: Change) -> None:
        """Called for every change of the resource."""
        if self._sink is None or (self._since is not None and change.version <= self._since):
            return  # a version that is yet to come is waited for in silence
        before = change.before is not None and self._concerns(change.before)
        if change.after is not None and (self._concerns(change.after) if change.relabelled else before):
            self._sink(_line("MODIFIED" if before else "ADDED", change.after))
        elif before:
            self._sink(_line("DELETED", change.last))

    def bookmark(self) -> Line | None:
        """How far the server has come; None if it has not come to where the watch begins."""
        if self._since is not None and self._store.version < self._since:
            return None
        resource = KINDS[self.plural].resource
        body = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(self._store.version), "creationTimestamp": None},
        }
        return Line("BOOKMARK", NOBODY, b'{"type":"BOOKMARK","object":' + msgspec.json.encode(body) + b"}\n")

    def _concerns(self, stored: Stored) -> bool:
        body = stored.body
        if self._namespace and body["metadata"].get("namespace") != self._namespace:
            return False
        return selects(self._wanted, body)


def _line(kind: str, stored: Stored) -> Line:
    meta = stored.body["metadata"]
    data = b"".join((b'{"type":"', kind.encode(), b'","object":', stored.json, b"}\n"))
    return Line(kind, (meta.get("namespace", ""), meta["name"]), data)
