"""What Kubernetes cleans up: objects whose owner is gone, pods of nodes that are gone or out of service."""

import asyncio
from typing import TYPE_CHECKING

from fleetctl.sim.journal import Object, Wrote

if TYPE_CHECKING:
    from fleetctl.sim.world import World

OWNED = ("pods", "services", "configmaps")
COLLECTS_S = 0.02
POD_GC_S = 20.0
NODE_GONE_S = 40.0
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


class GarbageCollector:
    """Deletes what deleted Gangs owned, in the background."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._gone: asyncio.Queue[str] = asyncio.Queue()
        self._all_gone: set[str] = set()

    def changed(self, event: Wrote) -> None:
        """Something was written."""
        if event.plural == "gangs" and event.after is None and event.before is not None:
            uid = event.before["metadata"]["uid"]
            self._all_gone.add(uid)
            self._gone.put_nowait(uid)
        elif event.plural in OWNED and event.before is None and event.after is not None and self._all_gone:
            owners = [o["uid"] for o in event.after["metadata"].get("ownerReferences") or ()]
            for uid in owners:
                if uid in self._all_gone:  # whoever created it did not know yet
                    self._gone.put_nowait(uid)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            uid = await self._gone.get()
            for plural in OWNED:
                for item in [i for i in self._world.api.all(plural) if _owned_by(i, uid)]:
                    meta = item["metadata"]
                    await asyncio.sleep(COLLECTS_S)
                    await self._world.api_way("control-plane")
                    there = self._world.api.get(plural, meta["namespace"], meta["name"])
                    if there is not None and there["metadata"]["uid"] == meta["uid"]:
                        self._world.api.delete(
                            "garbage-collector", plural, meta["namespace"], meta["name"], uid=meta["uid"]
                        )


def _owned_by(item: Object, uid: str) -> bool:
    return any(o["uid"] == uid for o in item["metadata"].get("ownerReferences") or ())


async def collect_pods(world: "World") -> None:
    """Pods bound to Nodes that do not exist any more, and terminating ones on nodes out of service, go by force."""
    missing_since: dict[str, float] = {}
    while True:
        await asyncio.sleep(POD_GC_S)
        await world.api_way("control-plane")
        nodes = {n["metadata"]["name"]: n for n in world.api.all("nodes")}
        missing_since = {name: missing_since.get(name, world.now()) for name in world.node_names if name not in nodes}
        for pod in world.api.all("pods"):
            name = pod["spec"].get("nodeName")
            gone = name in missing_since and world.now() - missing_since[name] >= NODE_GONE_S
            taints = (nodes[name]["spec"].get("taints") or ()) if name in nodes else ()
            given_up = any(t["key"] == OUT_OF_SERVICE for t in taints) and pod["metadata"].get("deletionTimestamp")
            if gone or given_up:
                _remove(world, pod)


def _remove(world: "World", pod: Object) -> None:
    meta = pod["metadata"]

    def failed(there: Object) -> Object:
        status = there.get("status") or {}
        told = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
        return {**there, "status": {**status, "phase": "Failed", "conditions": [*status.get("conditions", ()), told]}}

    key = (meta["namespace"], meta["name"])
    if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        world.api.update("pod-gc", "pods", *key, failed, subresource="status")
    world.api.delete("pod-gc", "pods", *key, grace_s=0, uid=meta["uid"])
