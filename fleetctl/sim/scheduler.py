"""Binds pods to nodes one at a time, and marks nodes that stopped renewing their Leases: what kube-scheduler and the
node lifecycle controller do, as far as it matters to gangs.

Of priorities it knows two: spares, and all others, for whom a spare must go if there is no room elsewhere.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fleetctl.gang.pods import LABEL_RANK
from fleetctl.gang.spare_pods import PRIORITY
from fleetctl.sim.affinity import Labels, attracts, dislike, is_choosy, liked
from fleetctl.sim.containers import OVER
from fleetctl.sim.journal import Object, Wrote

if TYPE_CHECKING:
    from fleetctl.sim.world import World

BINDS_S = (0.005, 0.015)
SORTS_S, SORTS_AT_MOST = 0.05, 5
TRIES_AGAIN_S = 1.0
GRACE_S = 40.0
"""A Lease that was not renewed for so long makes its node NotReady (kube-controller-manager's default is 50 s in 1.36,
less what has passed since the last renewal)."""
LOOKS_EVERY_S = 5.0
UNREACHABLE = "node.kubernetes.io/unreachable"


class Scheduler:
    """Fills nodes one after the other, so that neighbours in rank are neighbours on a node."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = world.stream("scheduler")
        self._waiting: dict[tuple[str, str], str] = {}
        """Unbound pods (namespace, name) and their uids, oldest first."""
        self._on: dict[str, dict[str, Labels]] = {}
        """By node and uid, labels of the pods that take its room."""
        self._spares: dict[str, dict[str, tuple[str, str]]] = {}
        """By node and uid, namespaces and names of the spares there that nobody has put out."""
        self._waits_for: dict[tuple[str, str], str] = {}
        """By unbound pod, uid of the spare that was put out for it."""
        self._work = asyncio.Event()

    def changed(self, event: Wrote) -> None:
        """Something was written."""
        if event.plural == "nodes":
            self._work.set()
        elif event.plural == "pods":
            pod = event.after or event.before
            assert pod is not None  # noqa: S101  (a change has an object)
            self._place(pod, gone=event.after is None)

    def _place(self, pod: Object, *, gone: bool) -> None:
        meta, node = pod["metadata"], pod["spec"].get("nodeName")
        key = (meta["namespace"], meta["name"])
        over = gone or (pod.get("status") or {}).get("phase") in OVER
        if node:
            room, spares = self._on.setdefault(node, {}), self._spares.setdefault(node, {})
            if over:
                room.pop(meta["uid"], None)
                self._work.set()
            else:
                room[meta["uid"]] = meta.get("labels") or {}
            if over or meta.get("deletionTimestamp"):
                spares.pop(meta["uid"], None)
            elif _is_low(pod):
                spares[meta["uid"]] = key
        elif over:
            self._waiting.pop(key, None)
        elif key not in self._waiting:
            self._waiting[key] = meta["uid"]
            self._work.set()

    async def run(self) -> None:
        """Bind what can be bound, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._world.api_way("control-plane")
            for _ in range(SORTS_AT_MOST):  # pods created together arrive together, and neighbours become neighbours
                await asyncio.sleep(SORTS_S)
                if not self._work.is_set():
                    break
                self._work.clear()
            for key in sorted(self._waiting, key=lambda key: self._order(key)):
                if key in self._waiting:
                    await asyncio.sleep(BINDS_S[0] + (BINDS_S[1] - BINDS_S[0]) * self._rng.random())
                    self._bind(key)
            if self._waiting:
                asyncio.get_running_loop().call_later(TRIES_AGAIN_S, self._work.set)

    def _order(self, key: tuple[str, str]) -> tuple[bool, int, tuple[str, str]]:
        """Spares last, the others by rank: stamps have whole seconds, and one may begin between two neighbours."""
        pod = self._world.api.get("pods", *key)
        rank = ((pod or {}).get("metadata", {}).get("labels") or {}).get(LABEL_RANK, "")
        return pod is not None and _is_low(pod), int(rank) if rank.isdecimal() else 0, key

    def _bind(self, key: tuple[str, str]) -> None:
        api = self._world.api
        pod = api.get("pods", *key)
        if pod is None or pod["spec"].get("nodeName"):
            self._waiting.pop(key, None)
            return
        node = self._node_for(pod)
        if not node:
            api.update("scheduler", "pods", *key, _unschedulable, subresource="status")
            self._preempt(key, pod)
            return
        self._waiting.pop(key, None)
        self._waits_for.pop(key, None)
        api.update("scheduler", "pods", *key, lambda there: {**there, "spec": {**there["spec"], "nodeName": node}})

    def _node_for(self, pod: Object) -> str:
        """Of the nodes that have room and may take it the fullest, but before that the one that it would rather be on
        for the sake of other pods; empty if there is none."""
        choosy = is_choosy(pod)
        likes: Mapping[tuple[str, str], int] = liked(pod, self._others()) if choosy else {}
        best: tuple[int, int] | None = None
        found = ""
        for name in self._world.node_names:
            there = self._on.get(name, {})
            if len(there) >= self._world.ranks_per_node:
                continue
            worth = (self._wish(pod, name, likes) if choosy else 0, len(there))
            if (best is None or worth > best) and self._may_take(name, pod):
                best, found = worth, name
        return found

    def _wish(self, pod: Object, name: str, likes: Mapping[tuple[str, str], int]) -> int:
        near = sum(likes.get(each, 0) for each in self._labels(name).items())
        return near - dislike(pod, self._on.get(name, {}).values())

    def _labels(self, name: str) -> Labels:
        node = self._world.api.get("nodes", "", name)
        return (node["metadata"].get("labels") or {}) if node else {}

    def _others(self) -> list[tuple[Labels, Labels]]:
        """Of the pods that take room: the labels of their nodes, and their own."""
        return [(self._labels(name), labels) for name, there in self._on.items() for labels in there.values()]

    def _may_take(self, name: str, pod: Object) -> bool:
        """Whether the pod may be on that node, if there were room."""
        node = self._world.api.get("nodes", "", name)
        if node is None or node["spec"].get("unschedulable") or not attracts(pod, node):
            return False
        tolerated = {t.get("key") for t in pod["spec"].get("tolerations") or () if t.get("effect") != "NoExecute"}
        taints = node["spec"].get("taints") or ()
        return all(t["effect"] == "PreferNoSchedule" or t["key"] in tolerated for t in taints)

    def _preempt(self, key: tuple[str, str], pod: Object) -> None:
        """Put out a spare whose room the pod could have, unless one is on its way out for it."""
        if _is_low(pod) or any(self._waits_for.get(key) in there for there in self._on.values()):
            return
        for name, spares in self._spares.items():
            if spares and self._may_take(name, pod):
                uid, spare = next(iter(spares.items()))
                self._waits_for[key] = uid
                self._world.api.update("scheduler", "pods", *spare, _preempted, subresource="status")
                self._world.api.delete("scheduler", "pods", *spare, uid=uid)
                return


def _is_low(pod: Object) -> bool:
    return bool(pod["spec"].get("priorityClassName") == PRIORITY)


def _preempted(pod: Object) -> Object:
    status = pod.get("status") or {}
    told = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    return {**pod, "status": {**status, "conditions": [*(status.get("conditions") or ()), told]}}


def _unschedulable(pod: Object) -> Object:
    status = pod.get("status") or {}
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has room for it"}
    others = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"]
    return {**pod, "status": {**status, "conditions": [*others, told]}}


async def watch_leases(world: "World") -> None:
    """Mark nodes whose Leases stand still as NotReady, and those that move again as Ready."""
    seen: dict[str, tuple[str, float]] = {}
    while True:
        await asyncio.sleep(LOOKS_EVERY_S)
        await world.api_way("control-plane")
        now = world.now()
        for name in world.node_names:
            renewed = world.lease_of(name)
            if name not in seen or seen[name][0] != renewed:
                seen[name] = renewed, now
            world.mark_node(name, ready=now - seen[name][1] < GRACE_S)
