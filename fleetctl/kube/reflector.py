"""A local copy of a resource that keeps up with the server: list, then watch, for ever.

    one watch  ⊂  a list if we have no version to go on from  ⊂  for ever, with one back-off for every kind of end

A clean end is an end like any other: a server that closes at once must not be asked a thousand times a second. Only a
stream that lived its time through is continued at once. What is lost between two streams is found by going on from the
last version seen, or, if the server has forgotten it (410), by a new list whose differences are reported like events.

Knows nothing of what the objects mean. `on_change` is called from here, synchronously, and must be quick.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic

from fleetctl.kube.client import SILENCE, KubeClient, WatchEvent
from fleetctl.kube.errors import ApiError, Gone
from fleetctl.kube.objects import Resource, T
from fleetctl.kube.retry import JITTER, Seconds, full_jitter

log = logging.getLogger(__name__)

FIRST_PAUSE: Seconds = 0.8
LONGEST_PAUSE: Seconds = 30.0
LONG_LIFE: Seconds = 60.0
"""A stream that lived for so long was a good one: the next failure is the first again."""
BACK_IN_TIME: Seconds = 60.0
"""A server that tells older versions for so long does not lag behind: it was restored from a backup."""
AT_ONCE = 1000
"""Objects of a list that are reported without a pause."""
SHORTEST_WATCH, LONGEST_WATCH = 300, 600
"""Seconds a stream is asked to last; random, so that clients do not all come back together."""

Key = tuple[str, str]
"""Namespace and name."""


class Reflector(Generic[T]):
    """The objects of `resource` in `namespace` (None: all) that `label_selector` selects.

    `items`          the copy, by (namespace, name)
    `synced`         set once the first list is in
    `relists`        lists after the first one
    `last_event_at`  loop time of the last list, event or bookmark; None before the first
    `on_change`      is told (None, new) for added, (old, new) for modified, (old, None) for deleted. `items` is already
                     up to date. An object replaced by another of its name is a deletion and an addition
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource[T],
        on_change: Callable[[T | None, T | None], None],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        silence: Seconds = SILENCE,
        rng: random.Random = JITTER,
    ) -> None:
        self.items: dict[Key, T] = {}
        self.synced = asyncio.Event()
        self.relists = 0
        self.last_event_at: Seconds | None = None
        self._client = client
        self._resource = resource
        self._on_change = on_change
        self._namespace = namespace
        self._label_selector = label_selector
        self._silence = silence
        self._rng = rng
        self._version = ""
        """Where the next watch goes on; empty: nowhere, list first."""
        self._newest = ""
        self._older_since: Seconds | None = None
        self._listed = asyncio.Event()
        self._interruption: asyncio.Timeout | None = None

    @property
    def version(self) -> int:
        """The latest that was seen, of any object; 0 before the first list."""
        return int(self._newest or 0)

    async def refresh(self) -> None:
        """Returns when everything has been listed anew: as it is now, not as a stream that lags behind tells it."""
        self._listed.clear()
        if self._interruption is not None:
            self._interruption.reschedule(self._now())
        await self._listed.wait()

    async def run(self) -> None:
        """Follow the resource until cancelled. Errors of the server are waited out, whatever they are."""
        while True:
            self._interruption = interruption = asyncio.timeout(None)
            try:
                async with interruption:
                    await self._keep_up()
            except TimeoutError:
                if not interruption.expired():
                    raise
                self._version = ""  # refresh() wants a list

    async def _keep_up(self) -> None:
        failures = 0
        while True:
            lived, clean = await self._follow()
            if lived >= LONG_LIFE:
                failures = 0
                if clean:
                    continue
            await asyncio.sleep(full_jitter(failures, FIRST_PAUSE, LONGEST_PAUSE, self._rng))
            failures += 1

    async def _follow(self) -> tuple[Seconds, bool]:
        """List if need be, then one watch to its end: how many seconds it lived, and whether it ended cleanly."""
        started = self._now()
        try:
            if not self._version:
                await self._list()
            started = self._now()
            await self._watch()
        except Gone as error:
            log.info("%s: listing again: %s", self._resource.plural, error)
            self._version = ""
        except ApiError as error:
            log.warning("%s: %s", self._resource.plural, error)
            if (self.last_event_at or 0.0) < started <= self._now() - self._silence:
                self._version = ""  # not even a bookmark came: a server that was restored waits for our version
        else:
            return self._now() - started, True
        return self._now() - started, False

    async def _list(self) -> None:
        listing = await self._client.list(self._resource, self._namespace, label_selector=self._label_selector)
        self._require_newer(listing.resource_version)
        self.last_event_at = self._now()
        found = {_key(item) for item in listing.items}
        for number, key in enumerate(sorted(self.items.keys() - found), start=1):
            self._remove(key)
            await _breathe(number)
        for number, item in enumerate(listing.items, start=1):
            self._put(item)
            await _breathe(number)
        # not before: until all is in, nobody must believe that we have got there
        self._version = self._newest = listing.resource_version
        self.relists += self.synced.is_set()
        self.synced.set()
        self._listed.set()

    def _require_newer(self, version: str) -> None:
        """What we have seen does not become unseen: a list from a server that lags behind is asked for again."""
        if not version or int(version) >= self.version:
            self._older_since = None
            return
        self._older_since = self._now() if self._older_since is None else self._older_since
        if self._now() < self._older_since + BACK_IN_TIME:
            told = f"it tells version {version}, and we have seen {self._newest}"
            raise ApiError(f"list {self._resource.plural}", told)
        log.warning("%s: the server has gone back in time; version %s is believed", self._resource.plural, version)
        self._older_since = None

    async def _watch(self) -> None:
        events = self._client.watch(
            self._resource,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            timeout_seconds=round(SHORTEST_WATCH + self._rng.random() * (LONGEST_WATCH - SHORTEST_WATCH)),
            silence=self._silence,
        )
        async with aclosing(events):
            async for event in events:
                self._take(event)

    def _take(self, event: WatchEvent[T]) -> None:
        self.last_event_at = self._now()
        self._version = self._newest = event.resource_version
        if event.object is None:
            return
        if event.type == "DELETED":
            self._remove(_key(event.object))
        else:
            self._put(event.object)

    def _put(self, new: T) -> None:
        key = _key(new)
        old = self.items.get(key)
        if old is not None and old.metadata.uid != new.metadata.uid:
            self._remove(key)
            old = None
        self.items[key] = new
        if old is None or old.metadata.resource_version != new.metadata.resource_version:
            self._on_change(old, new)

    def _remove(self, key: Key) -> None:
        if (old := self.items.pop(key, None)) is not None:
            self._on_change(old, None)

    @staticmethod
    def _now() -> Seconds:
        return asyncio.get_running_loop().time()


async def _breathe(number: int) -> None:
    """Let others have their turn after so many: ten thousand pods take long."""
    if number % AT_ONCE == 0:
        await asyncio.sleep(0)


def _key(item: T) -> Key:
    return item.metadata.namespace, item.metadata.name
