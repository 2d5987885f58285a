"""Reads an API server's audit log: who wrote what, as the journal's events.

The log has one line per request, written when it was answered. Lines of one object may therefore come in another order
than its versions, and what becomes of an object that is deleted must be read from what a kube-apiserver (1.36) answers.
Knows nothing of gangs or trainers (statuses.py), and not where the lines come from.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fleetctl.scenario.facts import CONTROLLER, is_terminating
from fleetctl.sim.journal import Object, Verb, Wrote
from fleetctl.stamps import unix_seconds

Place = tuple[str, str, str]
"""Plural, namespace and name: where one object is at a time."""

WITH_BODIES = frozenset(("pods", "gangs", "nodes", "events"))
VERBS: dict[str, Verb] = {
    "create": "create",
    "update": "update",
    "patch": "patch",
    "delete": "delete",
    "deletecollection": "delete",
}
OUR_CONTROLLER = "system:serviceaccount:fleetctl-system:fleetctl-controller"
POD_NAME = "authentication.kubernetes.io/pod-name"
OF_KUBERNETES = "system:serviceaccount:kube-system:"
NAMES = {
    "node-controller": "node-lifecycle",
    "pod-garbage-collector": "pod-gc",
    "generic-garbage-collector": "garbage-collector",
}
DEFAULT_GRACE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A write that succeeded."""

    stamp: str
    actor: str
    verb: Verb
    of_many: bool
    place: Place
    subresource: str
    asked: Object
    answer: Object

    @property
    def uid(self) -> str:
        """Of the object that is meant; "" if the line does not say."""
        if "metadata" in self.answer and "uid" in self.answer["metadata"]:
            return str(self.answer["metadata"]["uid"])
        details, asked = self.answer.get("details") or {}, self.asked.get("metadata") or {}
        return str(details.get("uid") or asked.get("uid") or "")


class AuditLog:
    """Turns lines of an API server's audit log into the journal's Wrote events, in the order of the objects' versions.

    A line that comes after a newer one is dropped. A line that comes before the creation of its object waits for it, so
    objects that were there before must be made known first. Times never go back.
    """

    def __init__(self, began: float) -> None:
        """`began`: the Unix time that is second 0 of the journal."""
        self._began = began
        self._at = -math.inf
        self._known: dict[Place, Object] = {}
        self._gone: set[str] = set()
        """Uids."""
        self._early: dict[Place, list[_Line]] = {}

    def know(self, plural: str, body: Object) -> Wrote:
        """An object that was there before."""
        meta = body["metadata"]
        place = (plural, meta.get("namespace", ""), meta["name"])
        self._known[place] = body
        return _wrote(0.0, "somebody", "create", place, None, body)

    def events(self, line: bytes) -> list[Wrote]:
        """What this line tells, and what had waited for it."""
        read = _read(line)
        if read is None:
            return []
        self._at = max(self._at, unix_seconds(read.stamp) - self._began)
        return list(self._told(read))

    def pods(self, namespace: str, label: str, value: str) -> list[Object]:
        """Those with that label, as they were last written."""
        return [
            body
            for (plural, where, _), body in self._known.items()
            if (plural, where) == ("pods", namespace) and (body["metadata"].get("labels") or {}).get(label) == value
        ]

    def _told(self, line: _Line) -> Iterator[Wrote]:
        if line.place[0] not in WITH_BODIES:
            if line.actor.startswith(CONTROLLER):
                yield self._without_body(line)
        elif line.of_many:
            for item in line.answer.get("items") or ():
                meta = item["metadata"]
                place = (line.place[0], meta.get("namespace", ""), meta["name"])
                yield from self._of_object(replace(line, place=place, answer=item))
        else:
            yield from self._of_object(line)

    def _without_body(self, line: _Line) -> Wrote:
        """Of an object that is only counted."""
        _, namespace, name = line.place
        body = {"metadata": {"name": name, "namespace": namespace, "resourceVersion": ""}}
        gone = line.verb == "delete"
        before, after = (body, None) if gone else (None, body)
        return _wrote(self._at, line.actor, line.verb, line.place, before, after, line.subresource)

    def _of_object(self, line: _Line) -> Iterator[Wrote]:
        known = self._known.get(line.place)
        uid = line.uid or (known["metadata"]["uid"] if known else "")
        if uid in self._gone:
            return
        if known is not None and known["metadata"]["uid"] == uid:
            yield from self._changed(line, known)
        elif line.verb == "create" and not line.subresource:
            yield from self._created(line, known)
        else:
            self._early.setdefault(line.place, []).append(line)

    def _created(self, line: _Line, former: Object | None) -> Iterator[Wrote]:
        """`former`: another object of that name, whose end was not told."""
        if former is not None:
            if _version(line.answer) < _version(former):
                return
            yield self._commit("somebody", "delete", line.place, None)
        yield self._commit(line.actor, "create", line.place, line.answer)
        for early in self._early.pop(line.place, ()):
            yield from self._of_object(early)

    def _changed(self, line: _Line, known: Object) -> Iterator[Wrote]:
        if line.subresource == "binding":
            node = line.asked["target"]["name"]
            after: Object | None = known
            if not known["spec"].get("nodeName"):
                after = {**known, "spec": {**known["spec"], "nodeName": node}}
            verb: Verb = "update"
        elif line.subresource == "eviction":
            # the API server deletes the pod itself, without a line
            after, verb = _after_deletion(line, known, line.asked.get("deleteOptions") or {}), "delete"
        elif line.of_many:
            # what is answered are the objects as they were before
            after, verb = _after_deletion(line, known, line.asked), "delete"
        else:
            after = _answered(line, known)
            verb = line.verb if after is not None else "delete"
        if after is not known:
            subresource = "" if line.subresource == "eviction" else line.subresource
            yield self._commit(line.actor, verb, line.place, after, subresource)

    def _commit(self, actor: str, verb: Verb, place: Place, after: Object | None, subresource: str = "") -> Wrote:
        before = self._known.pop(place, None)
        if after is not None:
            self._known[place] = after
        elif before is not None:
            self._gone.add(before["metadata"]["uid"])
        return _wrote(self._at, actor, verb, place, before, after, subresource)


def _read(line: bytes) -> _Line | None:
    """None: no write of an object, or one that failed, or was only tried."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    of, code = told.get("objectRef") or {}, (told.get("responseStatus") or {}).get("code", 0)
    if told.get("stage") != "ResponseComplete" or told["verb"] not in VERBS or not 200 <= code < 300:
        return None
    plural, subresource = of.get("resource", ""), of.get("subresource", "")
    if plural in ("", "leases") or plural.endswith("reviews") or (plural, subresource) == ("serviceaccounts", "token"):
        return None
    asked, answer = told.get("requestObject"), told.get("responseObject") or {}
    asked = asked if isinstance(asked, dict) else {}  # a JSON patch is a list
    if "dryRun=" in told["requestURI"] or (asked.get("deleteOptions") or asked).get("dryRun"):
        return None
    named = answer.get("metadata") or {}
    return _Line(
        stamp=told["stageTimestamp"],
        actor=_actor(told["user"]),
        verb="create" if code == 201 else VERBS[told["verb"]],  # a PUT and an apply may create
        of_many=told["verb"] == "deletecollection",
        place=(plural, of.get("namespace", ""), of.get("name") or named.get("name", "")),
        subresource=subresource,
        asked=asked,
        answer=answer,
    )


def _actor(user: dict[str, Any]) -> str:
    name: str = user["username"]
    if name == OUR_CONTROLLER:
        pods: list[str] = (user.get("extra") or {}).get(POD_NAME) or ["?"]
        return CONTROLLER + pods[0]
    if name.startswith("system:node:"):
        return "kubelet/" + name.removeprefix("system:node:")
    if name == "system:kube-scheduler":
        return "scheduler"
    if name.startswith(OF_KUBERNETES):
        account = name.removeprefix(OF_KUBERNETES)
        return NAMES.get(account, account)
    return "somebody"


def _wrote(
    at: float, actor: str, verb: Verb, place: Place, before: Object | None, after: Object | None, subresource: str = ""
) -> Wrote:
    plural, namespace, name = place
    return Wrote(
        at=at,
        actor=actor,
        verb=verb,
        plural=plural,
        namespace=namespace,
        name=name,
        subresource=subresource,
        before=before,
        after=after,
    )


def _version(body: Object) -> int:
    return int(body["metadata"]["resourceVersion"])


def _answered(line: _Line, known: Object) -> Object | None:
    """What the answer makes of the object; `known` itself: nothing new, None: it is gone."""
    body = line.answer
    if body.get("kind") == "Status":
        # of a kind without grace, only an object that is gone is not shown
        return None if line.verb == "delete" else known
    if "metadata" not in body:
        return known  # a request through it, as to its proxy
    if body.get("kind") == "PartialObjectMetadata":
        body = {**known, "metadata": body["metadata"]}  # the garbage collector asks for no more
    meta = body["metadata"]
    if is_terminating(body) and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
        return None  # the version of this answer may be the known one: nothing was stored any more
    if _version(body) <= _version(known) or (is_terminating(known) and not is_terminating(body)):
        return known
    return body


def _after_deletion(line: _Line, known: Object, options: Object) -> Object | None:
    """What a deletion that shows no result makes of the object; `known` itself: nothing new, None: it is gone."""
    meta, grace = known["metadata"], options.get("gracePeriodSeconds")
    if line.place[0] != "pods":
        if is_terminating(known):
            return known
        grace = 0
    elif is_terminating(known):
        if grace is None or grace >= meta["deletionGracePeriodSeconds"]:
            return known  # a second deletion may only shorten the first
    elif not known["spec"].get("nodeName") or (known.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        grace = 0  # nothing runs that could be waited for
    elif grace is None:
        grace = known["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    stays = meta.get("finalizers") or options.get("propagationPolicy") in ("Foreground", "Orphan")
    if not (grace or stays):
        return None
    marks = {"deletionTimestamp": line.stamp, "deletionGracePeriodSeconds": grace}
    return {**known, "metadata": {**meta, **marks}}
