"""What Kubernetes makes of an object that is created, changed or deleted, as functions from object to object.

Never changes what it is given. Knows nothing of versions, or of who asks.
"""

import re
from datetime import datetime, timedelta
from typing import Any

from fleetctl.sim.journal import Object
from fleetctl.sim.kinds import Kind
from fleetctl.stamps import rfc3339

DEFAULT_GRACE_S = 30
"""What a pod's spec says if it says nothing."""
OURS = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
"""Metadata that only the server writes."""
NOTHING: tuple[object, ...] = (None, "", [], {})
"""Metadata that is as good as not there, and is not kept."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LONGEST_NAME = 253


def new(kind: Kind, body: Object, suffix: str) -> Object:
    """A new object. `suffix` ends a name that is to be generated."""
    meta = {k: v for k, v in body.get("metadata", {}).items() if k not in OURS[2:] and v not in NOTHING}
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + suffix
    if not kind.resource.namespaced:
        meta.pop("namespace", None)
    if kind.counted:
        meta["generation"] = 1
    resource = kind.resource
    made = {**body, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    if kind.graceful:
        made["status"] = {"phase": "Pending"}
    elif kind.status and kind.counted:
        made.pop("status", None)  # a Node's is kept: kubelets register with theirs
    return made


def misnamed(kind: Kind, meta: Object) -> tuple[str, str] | None:
    """The field at fault, and what is wrong with it."""
    name = meta.get("name")
    if not name:
        return "metadata.name", "Required value: name or generateName is required"
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return "metadata.name", f"Invalid value: {name!r}: a lowercase RFC 1123 subdomain is needed"
    if kind.resource.namespaced and not meta.get("namespace"):
        return "metadata.namespace", "Required value"
    return None


def with_status(old: Object, wanted: Object) -> Object:
    """Only the status is taken; `old` itself if that is the same."""
    if wanted.get("status") == old.get("status"):
        return old
    if "status" not in wanted:
        return {k: v for k, v in old.items() if k != "status"}
    return {**old, "status": wanted["status"]}


def updated(kind: Kind, old: Object, wanted: Object) -> Object:
    """Everything is taken but what is the server's, and the status if that has a path of its own. `old` itself if that
    makes no difference."""
    if wanted is old:
        return old
    before = old["metadata"]
    meta = {k: v for k, v in wanted["metadata"].items() if k not in OURS and v not in NOTHING}
    meta |= {k: before[k] for k in OURS if k in before}
    made = {**wanted, "apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": meta}
    if kind.status:
        made.pop("status", None)
        if "status" in old:
            made["status"] = old["status"]
    if made == old:
        return old
    if kind.counted and made.get("spec") != old.get("spec"):
        meta["generation"] += 1
    return made


def adds_finalizers(old: Object, new: Object) -> bool:
    """To an object that is being deleted."""
    had = old["metadata"].get("finalizers") or ()
    has = new["metadata"].get("finalizers") or ()
    return bool(new["metadata"].get("deletionTimestamp")) and not set(has) <= set(had)


def finished(body: Object) -> bool:
    """It was kept only by what is no longer there."""
    meta = body["metadata"]
    return bool(
        meta.get("deletionTimestamp") and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")
    )


def grace_s(kind: Kind, body: Object, asked: int | None) -> int | None:
    """How long the deletion waits from now on, seconds; None if it is under way and nothing would change."""
    meta = body["metadata"]
    if meta.get("deletionTimestamp"):
        # a second deletion may only shorten the first
        return asked if asked is not None and asked < meta["deletionGracePeriodSeconds"] else None
    if not kind.graceful:
        return 0
    spec = body.get("spec", {})
    if not spec.get("nodeName") or body.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return 0  # nothing runs that could be waited for
    grace: int = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S) if asked is None else asked
    return grace


def marked(body: Object, grace: int, now: datetime) -> Object:
    """The same, being deleted."""
    meta = dict(body["metadata"])
    began = now
    if stamp := meta.get("deletionTimestamp"):
        began = datetime.fromisoformat(stamp) - timedelta(seconds=meta["deletionGracePeriodSeconds"])
    elif "generation" in meta:
        meta["generation"] += 1
    meta["deletionTimestamp"] = rfc3339(began + timedelta(seconds=grace))
    meta["deletionGracePeriodSeconds"] = grace
    return {**body, "metadata": meta}


def merged(target: Any, patch: Any) -> Any:
    """A merge patch, as RFC 7386 has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
