"""Objects to try things on: as little as a real server accepts."""

from typing import Any

from .api import Object


def a_pod(name: str = "p", *, node: str = "", grace_s: int | None = None, **meta: Any) -> Object:
    spec: Object = {"containers": [{"name": "trainer", "image": "trainer:1"}]}
    if node:
        spec["nodeName"] = node
    if grace_s is not None:
        spec["terminationGracePeriodSeconds"] = grace_s
    return {"metadata": {"name": name, **meta}, "spec": spec}


def a_gang(name: str = "llm", **meta: Any) -> Object:
    template = {"spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]}}
    return {
        "metadata": {"name": name, **meta},
        "spec": {"groups": [{"name": "worker", "size": 2, "template": template}], "suspend": False},
    }


def a_config_map(name: str = "c", **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


def a_lease(name: str = "lease", **meta: Any) -> Object:
    spec = {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-11-21T10:00:00.000000Z",
        "renewTime": "2026-11-21T10:00:00.123456Z",
    }
    return {"metadata": {"name": name, **meta}, "spec": spec}


def changed(body: Object, **parts: Any) -> Object:
    """`meta` is merged into the metadata, the other parts are replaced."""
    meta = {**body["metadata"], **parts.pop("meta", {})}
    return {**body, "metadata": meta, **parts}
