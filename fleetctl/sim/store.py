"""The objects of a simulated cluster, all under one counter of versions, and what changed most recently.

Each object is encoded at most once per version, however many clients read it: a gang of a thousand pods lives by that.
Objects are never changed in place.

Knows nothing of verbs, of HTTP, or of what the objects mean.
"""

from collections import deque
from collections.abc import Iterable

import msgspec

from fleetctl.sim.journal import Key, Object

HISTORY = 5_000
"""Changes that are remembered, unless a store is told otherwise."""


class Expired(Exception):
    """What happened since that version has been forgotten."""


class Stored:
    """An object at one version."""

    __slots__ = ("_json", "_spec", "body", "version")

    def __init__(self, body: Object, version: int, before: "Stored | None" = None) -> None:
        """`body` is given its version, in a copy. `before` is the version it replaces."""
        self.body: Object = {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
        self.version = version
        self._json: bytes | None = None
        self._spec: msgspec.Raw | None = None
        if before is not None and before.body.get("spec") is body.get("spec"):
            self._spec = before._spec  # most of a pod, and most of its changes are of its status

    @property
    def json(self) -> bytes:
        if self._json is None:
            body = self.body
            if "spec" in body:
                if self._spec is None:
                    self._spec = msgspec.Raw(msgspec.json.encode(body["spec"]))
                body = {**body, "spec": self._spec}
            self._json = msgspec.json.encode(body)
        return self._json

    def shed(self) -> None:
        """It is no longer the newest: the few that still ask for it may encode it again."""
        self._json = None


class Change:
    """A version: what became of one object. `before` is None for a new one, `after` for one that is gone."""

    __slots__ = ("_last", "after", "before", "key", "plural", "version")

    def __init__(self, version: int, plural: str, key: Key, before: Stored | None, after: Stored | None) -> None:
        self.version = version
        self.plural = plural
        self.key = key
        self.before = before
        self.after = after
        self._last: Stored | None = None

    @property
    def relabelled(self) -> bool:
        """Whether a selector may see `before` and `after` differently."""
        if self.before is None or self.after is None:
            return True
        return bool(self.before.body["metadata"].get("labels") != self.after.body["metadata"].get("labels"))

    @property
    def last(self) -> Stored:
        """How the object was before, under this change's version: what a watch is told of one that has gone."""
        if self._last is None:
            if self.before is None:
                raise ValueError(f"{self.plural} {self.key}: there was none before version {self.version}")
            self._last = Stored(self.before.body, self.version, self.before)
        return self._last


class Store:
    """`history` is how many changes it remembers."""

    def __init__(self, plurals: Iterable[str], history: int = HISTORY) -> None:
        self.version = 1
        self._objects: dict[str, dict[Key, Stored]] = {plural: {} for plural in plurals}
        self._changes: deque[Change] = deque(maxlen=history)
        self._forgotten = 0
        """The newest version that is no longer in `_changes`."""

    def get(self, plural: str, key: Key) -> Stored | None:
        return self._objects[plural].get(key)

    def all(self, plural: str) -> list[Stored]:
        """In the order in which they were created."""
        return list(self._objects[plural].values())

    def put(self, plural: str, key: Key, body: Object) -> Change:
        """Create it, or replace it, under the next version."""
        objects = self._objects[plural]
        self.version += 1
        before = objects.get(key)
        after = Stored(body, self.version, before)
        if before is not None:
            before.shed()
        change = Change(self.version, plural, key, before, after)
        objects[key] = after
        self._remember(change)
        return change

    def remove(self, plural: str, key: Key) -> Change:
        """Raises KeyError if there is none."""
        before = self._objects[plural].pop(key)
        self.version += 1
        change = Change(self.version, plural, key, before, None)
        self._remember(change)
        return change

    def at(self, plural: str, version: int) -> list[Stored]:
        """All objects as of a version, by namespace and name. Raises Expired."""
        objects = dict(self._objects[plural])
        for change in reversed(self.since(plural, version)):
            if change.before is None:
                del objects[change.key]
            else:
                objects[change.key] = change.before
        return [objects[key] for key in sorted(objects)]

    def since(self, plural: str, version: int) -> list[Change]:
        """What happened after a version, oldest first. Raises Expired."""
        if version < self._forgotten:
            raise Expired(f"too old resource version: {version} ({self._forgotten})")
        found = []
        for change in reversed(self._changes):
            if change.version <= version:
                break
            if change.plural == plural:
                found.append(change)
        found.reverse()
        return found

    @property
    def oldest(self) -> int:
        """The oldest version from which it can still be said what happened."""
        return self._forgotten

    def forget(self) -> None:
        """Everything up to now."""
        self._changes.clear()
        self._forgotten = self.version

    def _remember(self, change: Change) -> None:
        if len(self._changes) == self._changes.maxlen:
            self._forgotten = self._changes[0].version
        self._changes.append(change)
