"""The real API server's objects as the simulator's parts use them: at once, without waiting for an answer.

What a kubelet or a scheduler changes is changed here first, as the simulated API server would (the conformance tests
hold its rules to the real one's), told to the journal, and sent on. What controllers write comes back through the
door (door.py), and is told before its answer is passed on. So the journal's order is one in which it can have happened,
and nobody reacts to what it does not hold yet. New objects are shown when the real server has made them.

An answer that never came is asked for. Knows nothing of what the objects mean.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from fleetctl.apiserver.upstream import Upstream
from fleetctl.clock import Clock
from fleetctl.sim.answers import JSON
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Journal, Key, Object, Verb
from fleetctl.sim.kinds import KINDS
from fleetctl.sim.lifecycle import merged

MERGE_PATCH = "application/merge-patch+json"
Place = tuple[str, Key]
"""Plural, and namespace and name."""


@dataclass(frozen=True, slots=True)
class _Write:
    """A request that is on its way. `patch` is what it does to the object, as a merge patch."""

    actor: str
    method: str
    path: str
    body: Object
    content_type: str = JSON
    patch: Object | None = None


class Replica(ApiServer):
    """`upstream` must be set before anything is written."""

    def __init__(self, journal: Journal, clock: Clock, now: Callable[[], float]) -> None:
        super().__init__(journal, clock, now)
        self.upstream: Upstream | None = None
        self.refused: list[str] = []
        """What the real server did not take, in its words."""
        self.muted: set[str] = set()
        """Actors (kubelet/NODE) whose changes of statuses are not sent on: what they cost is not to be measured."""
        self._on_their_way: dict[Place, deque[_Write]] = {}
        self._versions: dict[Place, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def behind(self) -> int:
        """Of so many objects the real server does not know the newest yet."""
        return len(self._on_their_way)

    async def settled(self) -> None:
        """Returns once nothing is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # For the simulator's parts

    def create(self, actor: str, plural: str, body: Object) -> Object:
        resource, meta = KINDS[plural].resource, body["metadata"]
        namespace = meta.get("namespace", "")
        whole = {**body, "apiVersion": resource.api_version, "kind": resource.kind}
        path = resource.collection(namespace or None)
        self._send((plural, (namespace, meta["name"])), _Write(actor, "POST", path, whole))
        return body

    def update(
        self,
        actor: str,
        plural: str,
        namespace: str,
        name: str,
        change: Callable[[Object], Object],
        *,
        subresource: str = "",
    ) -> Object | None:
        before = self.get(plural, namespace, name)
        after = super().update(actor, plural, namespace, name, change, subresource=subresource)
        if before is None or after is None or after is before:
            return after
        path = KINDS[plural].resource.item(namespace or None, name)
        place, uid = (plural, (namespace, name)), before["metadata"]["uid"]
        if subresource:
            patch = {"status": difference(before.get("status") or {}, after.get("status") or {})}
            body = {"metadata": {"uid": uid}, **patch}
            if actor not in self.muted:
                self._send(place, _Write(actor, "PATCH", f"{path}/{subresource}", body, MERGE_PATCH, patch))
        elif plural == "pods" and not before["spec"].get("nodeName") and after["spec"].get("nodeName"):
            node = after["spec"]["nodeName"]
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name, "namespace": namespace, "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }
            self._send(place, _Write(actor, "POST", f"{path}/binding", binding, JSON, {"spec": {"nodeName": node}}))
        else:
            patch = difference(*({k: v for k, v in _bare(o).items() if k != "status"} for o in (before, after)))
            self._send(place, _Write(actor, "PATCH", path, patch, MERGE_PATCH, patch))
        return after

    def delete(
        self,
        actor: str,
        plural: str,
        namespace: str,
        name: str,
        *,
        grace_s: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Object | None:
        before = self.get(plural, namespace, name)
        after = super().delete(
            actor, plural, namespace, name, grace_s=grace_s, uid=uid, resource_version=resource_version
        )
        if before is not None:
            body: Object = {"preconditions": {"uid": before["metadata"]["uid"]}}
            if grace_s is not None:
                body["gracePeriodSeconds"] = grace_s
            path = KINDS[plural].resource.item(namespace or None, name)
            self._send((plural, (namespace, name)), _Write(actor, "DELETE", path, body))
        return after

    # For the door

    def committed(self, actor: str, verb: Verb, place: Place, subresource: str, answer: bytes) -> None:
        """The real server has taken this write, and answered that."""
        plural, key = place
        body, there = _read(answer), self.get(plural, *key)
        if body.get("kind") == "Status":  # of a kind without grace, only an object that is gone is not shown
            if there is not None and verb == "delete":
                self._remove(actor, plural, key)
            return
        if not key[1]:
            key = (key[0], body["metadata"]["name"])
        if _is_gone(body):
            if there is not None and there["metadata"]["uid"] == body["metadata"]["uid"]:
                self._put(actor, "delete", plural, key, body)
                self._remove(actor, plural, key)
            return
        newer = self._is_newer((plural, key), body)
        if there is not None and there["metadata"]["uid"] != body["metadata"]["uid"]:
            self._remove("somebody", plural, key)
        after = self._as_it_will_be((plural, key), body) if newer else there or body
        self._put(actor, verb, plural, key, after, subresource)

    def uncertain(self, actor: str, place: Place) -> None:
        """A write may have happened or not: look."""
        self._in_world(self._look(actor, place))

    # On their way

    def _send(self, place: Place, write: _Write) -> None:
        queue = self._on_their_way.setdefault(place, deque())
        queue.append(write)
        if len(queue) == 1:
            self._in_world(self._deliver(place))

    def _in_world(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            task.get_loop().call_exception_handler({"message": "a write was not sent", "exception": error})

    async def _deliver(self, place: Place) -> None:
        """One after the other, until all have been answered."""
        queue = self._on_their_way[place]
        assert self.upstream is not None  # noqa: S101  (said above)
        while queue:
            write = queue[0]
            answer = await self.upstream.patiently(
                write.actor.partition("/")[0],
                write.method,
                write.path,
                write.content_type,
                msgspec.json.encode(write.body),
            )
            queue.popleft()
            if answer.status >= 300:
                if answer.status not in (404, 409):  # else somebody was faster
                    self.refused.append(f"{write.method} {write.path}: {answer.body[:500].decode()}")
                await self._look(write.actor, place)
            elif write.method == "POST" and write.patch is None:
                self.committed(write.actor, "create", place, "", answer.body)
            elif write.method == "PATCH":
                self._learn(place, _read(answer.body))
        del self._on_their_way[place]

    def _learn(self, place: Place, body: Object) -> None:
        """The object as the real server has it; nothing that the journal does not hold."""
        there = self.get(place[0], *place[1])
        same = there is not None and there["metadata"]["uid"] == body["metadata"]["uid"]
        if same and not _is_gone(body) and self._is_newer(place, body):
            self._store.put(*place, self._as_it_will_be(place, body))

    async def _look(self, actor: str, place: Place) -> None:
        """What is there, told as that actor's doing if it is news."""
        plural, key = place
        assert self.upstream is not None  # noqa: S101
        path = KINDS[plural].resource.item(key[0] or None, key[1])
        answer = await self.upstream.patiently("somebody", "GET", path)
        there = self.get(plural, *key)
        if answer.status == 404:
            if there is not None:
                self._remove(actor, plural, key)
            return
        body = _read(answer.body)
        same = there is not None and there["metadata"]["uid"] == body["metadata"]["uid"]
        if not same or self._is_newer(place, body, look=True):
            self.committed(actor, "update" if same else "create", place, "", answer.body)

    def _is_newer(self, place: Place, body: Object, *, look: bool = False) -> bool:
        """And from now on that is the newest, unless this was only a look."""
        version = int(body["metadata"]["resourceVersion"])
        newer = version > self._versions.get(place, 0)
        if newer and not look:
            self._versions[place] = version
        return newer

    def _as_it_will_be(self, place: Place, body: Object) -> Object:
        """With what is on its way."""
        for write in self._on_their_way.get(place, ()):
            body = merged(body, write.patch) if write.patch else body
        return body


def difference(before: Object, after: Object) -> Object:
    """The merge patch that makes the one of the other. Lists are replaced whole."""
    patch: Object = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        patch[key] = difference(was, now) if isinstance(was, dict) and isinstance(now, dict) else now
    return patch


def _read(answer: bytes) -> Object:
    """An answer, without who manages which field: nobody here asks for that."""
    body: Object = msgspec.json.decode(answer)
    body.get("metadata", {}).pop("managedFields", None)
    return body


def _bare(body: Object) -> Object:
    """Without what only a server writes."""
    kept = {k: v for k, v in body["metadata"].items() if k not in ("resourceVersion", "generation", "managedFields")}
    return {**body, "metadata": kept}


def _is_gone(body: Object) -> bool:
    """Whether a deletion's answer shows an object for the last time."""
    meta = body["metadata"]
    over = meta.get("deletionTimestamp") and not meta.get("deletionGracePeriodSeconds")
    return bool(over and not meta.get("finalizers"))
