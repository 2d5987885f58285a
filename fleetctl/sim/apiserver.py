"""The simulated API server: what Kubernetes' own does with the objects that fleetctl uses, without schemas or roles.

Actors inside the cluster (kubelets, scheduler) call get, all, create, update and delete: synchronously, without
latency or faults. Clients come through the front door (transport.py), which ends in `answer`. Both see the same rules:
versions, preconditions, status apart from spec, deletion with grace, finalizers.

Knows nothing of time passing, of connections, or of faults.
"""

import uuid
from collections.abc import Callable, Mapping

import msgspec

from fleetctl.clock import Clock
from fleetctl.sim import lifecycle
from fleetctl.sim.answers import Answer, ApiFailure, conflict, invalid, not_found
from fleetctl.sim.journal import Journal, Key, Listed, Object, Verb, Wrote
from fleetctl.sim.kinds import KINDS, full_name
from fleetctl.sim.requests import (
    Preconditions,
    Request,
    delete_options,
    json_object,
    misshapen,
    number,
    parse,
    selector,
    selects,
    whole_object,
)
from fleetctl.sim.store import HISTORY, Change, Expired, Store, Stored
from fleetctl.sim.watch import Watch
from fleetctl.stamps import rfc3339

LONGEST_WATCH = 1800.0
"""Seconds, if the client does not say."""
_UIDS = uuid.UUID("6f0f3a52-4b8a-5f6e-9a51-0d2f6f3f8f11")


class ApiServer:
    """`now` gives the journal's time; `history` is how many changes are remembered for watches to go on from.

    `raw`        what is at other paths, such as /version
    `on_change`  is told every change, after the journal and synchronously: it may schedule something, but not write
    """

    def __init__(self, journal: Journal, clock: Clock, now: Callable[[], float], *, history: int = HISTORY) -> None:
        self.raw: dict[str, bytes] = {}
        self.on_change: list[Callable[[Wrote], None]] = []
        self._journal = journal
        self._clock = clock
        self._now = now
        self._store = Store(KINDS, history)
        self._watchers: dict[str, dict[Watch, None]] = {plural: {} for plural in KINDS}
        self._created = 0

    @property
    def version(self) -> int:
        """The resourceVersion of the last change."""
        return self._store.version

    def forget_history(self) -> None:
        """Nobody can go on from any version before now: 410. Watches that are open are not disturbed."""
        self._store.forget()

    # For actors inside the cluster

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        stored = self._store.get(plural, (namespace, name))
        return stored.body if stored else None

    def all(self, plural: str) -> list[Object]:
        """In the order in which they were created."""
        return [stored.body for stored in self._store.all(plural)]

    def create(self, actor: str, plural: str, body: Object) -> Object:
        """Raises ApiFailure: AlreadyExists (409), Invalid (422)."""
        key, new = self._prepare(plural, body)
        return self._put(actor, "create", plural, key, new).body

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
        """One read, change and write. `change` returns a new object, which may share what it has not changed.

        None if there is none. Nothing happens if nothing is different. Raises ApiFailure (422).
        """
        stored = self._store.get(plural, (namespace, name))
        if stored is None:
            return None
        return self._change(actor, "update", plural, stored, change(stored.body), subresource).body

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
        """The object as it is then, or was last; None if there is none. Raises ApiFailure if there is another (409)."""
        key = (namespace, name)
        stored = self._store.get(plural, key)
        if stored is None:
            return None
        meta = stored.body["metadata"]
        for field, wanted in (("uid", uid), ("resourceVersion", resource_version)):
            if wanted is not None and wanted != meta[field]:
                raise conflict(plural, name, f"the {field} in the precondition ({wanted}) is not that of the object")
        grace = lifecycle.grace_s(KINDS[plural], stored.body, grace_s)
        if grace is None:
            return stored.body  # it is being deleted already, and this asks for nothing more
        goes = grace == 0 and not meta.get("finalizers")
        if KINDS[plural].graceful or not goes:
            # a pod's end is always written down before it goes: watches are told of both
            stored = self._put(actor, "delete", plural, key, lifecycle.marked(stored.body, grace, self._clock.now()))
        return self._remove(actor, plural, key).body if goes else stored.body

    # For clients

    def handle(
        self, actor: str, method: str, path: str, query: Mapping[str, str], content_type: str, body: bytes | None
    ) -> Answer | Watch:
        """What a request of HTTP is answered. `path` is quoted, as on the wire."""
        try:
            return self.answer(parse(actor, method, path, query, content_type, body))
        except ApiFailure as failure:
            return failure.answer()

    def answer(self, request: Request, *, as_of: int | None = None) -> Answer | Watch:
        """The same, read already. `as_of` is the version whose state a list tells, the newest if None; one that is
        forgotten becomes the oldest that is not."""
        try:
            if not request.plural:
                return self._raw(request)
            match request.verb:
                case "list":
                    return self._list(request, as_of)
                case "watch":
                    return self._watch(request)
                case "get":
                    return Answer(200, self._wanted(request).json)
                case "create":
                    return self._post(request)
                case "update":
                    return self._replace(request)
                case "patch":
                    return self._patch(request)
                case "delete":
                    return self._delete(request)
        except ApiFailure as failure:
            return failure.answer()

    def _raw(self, request: Request) -> Answer:
        if (found := self.raw.get(request.path)) is None:
            raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
        return Answer(200, found)

    def _list(self, request: Request, as_of: int | None) -> Answer:
        plural, query = request.plural, request.query
        version, start = self.version, 0
        if as_of is not None:
            version = max(as_of, self._store.oldest)
        if token := query.get("continue"):
            version, start = _continued(token)
        wanted = selector(query.get("labelSelector", ""))
        try:
            everything = self._store.at(plural, version)
        except Expired:
            message = "The provided continue parameter is too old to display a consistent list result."
            raise ApiFailure(410, "Expired", message) from None
        items = [s for s in everything if _in(request.namespace, s.body) and selects(wanted, s.body)]
        limit = number(query, "limit") or len(items)
        meta: Object = {"resourceVersion": str(version)}
        if len(items) > start + limit:
            meta["continue"] = f"{version}:{start + limit}"
            if not wanted:
                meta["remainingItemCount"] = len(items) - start - limit
        else:
            self._journal.tell(Listed(at=self._now(), actor=request.actor, plural=plural))
        resource = KINDS[plural].resource
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta}
        page = b",".join([s.json for s in items[start : start + limit]])
        return Answer(200, msgspec.json.encode(head)[:-1] + b',"items":[' + page + b"]}")

    def _watch(self, request: Request) -> Watch:
        query = request.query
        return Watch(
            self._store,
            self._watchers[request.plural],
            request.plural,
            namespace=request.namespace,
            wanted=selector(query.get("labelSelector", "")),
            since=number(query, "resourceVersion") or None,
            seconds=number(query, "timeoutSeconds") or LONGEST_WATCH,
            bookmarks=query.get("allowWatchBookmarks") == "true",
        )

    def _post(self, request: Request) -> Answer:
        kind, body = KINDS[request.plural], whole_object(request)
        if body["metadata"].setdefault("namespace", request.namespace) != request.namespace:
            raise ApiFailure(400, "BadRequest", "the namespace of the object does not match that of the request")
        if (body.get("apiVersion"), body.get("kind")) != (kind.resource.api_version, kind.resource.kind):
            raise ApiFailure(400, "BadRequest", f"this is not a {kind.resource.kind} of {kind.resource.api_version}")
        if body["metadata"].get("resourceVersion"):
            raise ApiFailure(500, "", "resourceVersion should not be set on objects to be created")
        key, new = self._prepare(request.plural, body)
        if request.query.get("dryRun"):
            return Answer(201, msgspec.json.encode(new))
        return Answer(201, self._put(request.actor, "create", request.plural, key, new).json)

    def _replace(self, request: Request) -> Answer:
        stored, body = self._wanted(request), whole_object(request)
        if body["metadata"].get("name") != request.name:
            raise ApiFailure(400, "BadRequest", "the name of the object does not match that of the request")
        if not body["metadata"].get("resourceVersion"):
            raise invalid(request.plural, request.name, "metadata.resourceVersion", "must be specified for an update")
        return self._changed(request, stored, body)

    def _patch(self, request: Request) -> Answer:
        if request.content_type != "application/merge-patch+json":
            message = f"the body of the request was in an unknown format: {request.content_type}"
            raise ApiFailure(415, "UnsupportedMediaType", message)
        stored = self._wanted(request)
        patched = lifecycle.merged(stored.body, json_object(request))
        if problem := misshapen(patched):
            raise invalid(request.plural, request.name, problem, "it is not what it must be")
        return self._changed(request, stored, patched)

    def _changed(self, request: Request, stored: Stored, body: Object) -> Answer:
        _no_dry_run(request)
        meta, wanted = stored.body["metadata"], body["metadata"]
        for field in ("resourceVersion", "uid"):
            if wanted.get(field) and wanted[field] != meta[field]:
                if (request.verb, field) == ("patch", "uid"):
                    raise invalid(request.plural, request.name, "metadata.uid", "field is immutable")
                message = "the object has been modified; please apply your changes to the latest version and try again"
                raise conflict(request.plural, request.name, message)
        verb: Verb = "patch" if request.verb == "patch" else "update"
        return Answer(200, self._change(request.actor, verb, request.plural, stored, body, request.subresource).json)

    def _delete(self, request: Request) -> Answer:
        _no_dry_run(request)
        options = delete_options(request)
        conditions = options.preconditions or Preconditions()
        gone = self.delete(
            request.actor,
            request.plural,
            request.namespace,
            request.name,
            grace_s=options.grace_period_seconds,
            uid=conditions.uid,
            resource_version=conditions.resource_version,
        )
        if gone is None:
            raise not_found(request.plural, request.name)
        return Answer(200, msgspec.json.encode(gone))

    def _wanted(self, request: Request) -> Stored:
        stored = self._store.get(request.plural, (request.namespace, request.name))
        if stored is None:
            raise not_found(request.plural, request.name)
        return stored

    # What becomes of objects

    def _prepare(self, plural: str, body: Object) -> tuple[Key, Object]:
        """The object that would be created, but for its version."""
        kind = KINDS[plural]
        number = self._created = self._created + 1
        new = lifecycle.new(kind, body, f"{number:05x}")
        meta = new["metadata"]
        if problem := lifecycle.misnamed(kind, meta):
            raise invalid(plural, meta.get("name", ""), *problem)
        key = (meta.get("namespace", ""), meta["name"])
        if self._store.get(plural, key):
            raise ApiFailure(409, "AlreadyExists", f'{full_name(plural)} "{key[1]}" already exists')
        meta["uid"] = str(uuid.uuid5(_UIDS, str(number)))
        meta["creationTimestamp"] = rfc3339(self._clock.now())
        return key, new

    def _change(self, actor: str, verb: Verb, plural: str, old: Stored, wanted: Object, subresource: str) -> Stored:
        kind = KINDS[plural]
        if subresource == "status" and not kind.status:
            raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
        if subresource == "status":
            new = lifecycle.with_status(old.body, wanted)
        else:
            new = lifecycle.updated(kind, old.body, wanted)
        if new is old.body:
            return old
        meta = new["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if lifecycle.adds_finalizers(old.body, new):
            message = "no new finalizers can be added if the object is being deleted"
            raise invalid(plural, key[1], "metadata.finalizers", message, "FieldValueForbidden")
        if lifecycle.finished(new):
            return self._remove(actor, plural, key)
        return self._put(actor, verb, plural, key, new, subresource)

    def _put(self, actor: str, verb: Verb, plural: str, key: Key, body: Object, subresource: str = "") -> Stored:
        change = self._store.put(plural, key, body)
        self._tell(actor, verb, change, subresource)
        assert change.after is not None  # noqa: S101
        return change.after

    def _remove(self, actor: str, plural: str, key: Key) -> Stored:
        change = self._store.remove(plural, key)
        self._tell(actor, "delete", change, "")
        return change.last

    def _tell(self, actor: str, verb: Verb, change: Change, subresource: str) -> None:
        for watch in tuple(self._watchers[change.plural]):
            watch.see(change)
        namespace, name = change.key
        wrote = Wrote(
            at=self._now(),
            actor=actor,
            verb=verb,
            plural=change.plural,
            namespace=namespace,
            name=name,
            subresource=subresource,
            before=change.before.body if change.before else None,
            after=change.after.body if change.after else None,
        )
        self._journal.tell(wrote)
        for listener in self.on_change:
            listener(wrote)


def _in(namespace: str, body: Object) -> bool:
    return not namespace or body["metadata"].get("namespace") == namespace


def _continued(token: str) -> tuple[int, int]:
    version, _, start = token.partition(":")
    if not version.isdecimal() or not start.isdecimal():
        raise ApiFailure(400, "BadRequest", "continue key is not valid")
    return int(version), int(start)


def _no_dry_run(request: Request) -> None:
    if request.query.get("dryRun"):
        raise ApiFailure(400, "BadRequest", "a dry run of anything but a creation is not simulated")
