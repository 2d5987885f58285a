"""What the controller knows of the cluster: gangs, their pods, and its own writes that have not come back yet.

Decisions must not be made on a world older than our own last write (a stale record would ping a second ticket). So what
a write answered counts until the watch shows it, or until it has had time enough and the watch is believed again.

Knows nothing of agents (rendezvous) and decides nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from fleetctl.controller.resources import GANGS, GangObject
from fleetctl.gang.pods import LABEL_GANG
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import PODS, Pod, T
from fleetctl.kube.reflector import Key, Reflector

OWN_WRITE_COUNTS_S = 5.0
"""How long the answer to our own write outranks the watch."""


@dataclass(frozen=True, slots=True)
class _Written(Generic[T]):
    item: T
    until: float


class Cache:
    """Local copies that keep up; `dirty` is called with the (namespace, name) of a gang of which something changed,
    `pod_gone` with the uid of a pod that was deleted."""

    def __init__(
        self,
        client: KubeClient,
        dirty: Callable[[Key], None],
        *,
        pod_gone: Callable[[str], None],
        namespace: str | None = None,
    ) -> None:
        self._dirty = dirty
        self._pod_gone = pod_gone
        self._gangs = Reflector(client, GANGS, self._gang_changed, namespace=namespace)
        self._pods = Reflector(client, PODS, self._pod_changed, namespace=namespace, label_selector=LABEL_GANG)
        self._pods_of: defaultdict[Key, dict[str, Pod]] = defaultdict(dict)
        self._gang_of_uid: dict[str, Key] = {}
        self._own_gangs: dict[Key, _Written[GangObject]] = {}
        self._own_pods: dict[Key, _Written[Pod]] = {}

    async def run(self) -> None:
        """Keep up until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._gangs.run())
            group.create_task(self._pods.run())

    async def synced(self) -> None:
        """Returns when everything has been read once."""
        await self._gangs.synced.wait()
        await self._pods.synced.wait()

    @property
    def is_synced(self) -> bool:
        return self._gangs.synced.is_set() and self._pods.synced.is_set()

    def gangs(self) -> list[Key]:
        return list(self._gangs.items)

    def gang(self, key: Key) -> GangObject | None:
        """The gang, our own latest write included; None once it is deleted."""
        seen, own = self._gangs.items.get(key), self._own_gangs.get(key)
        if own and seen and own.item.metadata.uid == seen.metadata.uid and _now() < own.until:
            return own.item
        self._own_gangs.pop(key, None)
        return seen

    def pods(self, key: Key) -> dict[str, Pod]:
        """The pods that carry the gang's label, and those we made that the watch has not shown, by name."""
        seen = self._pods_of.get(key, {})
        own = {
            name: written.item
            for (namespace, name), written in self._own_pods.items()
            if namespace == key[0] and written.item.metadata.labels.get(LABEL_GANG) == key[1] and _now() < written.until
        }
        return {**own, **seen}

    def pod(self, namespace: str, name: str) -> Pod | None:
        """One pod of any gang."""
        own = self._own_pods.get((namespace, name))
        return self._pods.items.get((namespace, name)) or (own.item if own and _now() < own.until else None)

    def gang_of(self, pod_uid: str) -> Key | None:
        """The gang whose label the pod with that uid carries."""
        return self._gang_of_uid.get(pod_uid)

    def wrote_gang(self, gang: GangObject) -> None:
        """Our write was answered with this; also for a live read after a conflict."""
        key = (gang.metadata.namespace, gang.metadata.name)
        self._own_gangs[key] = _Written(gang, _now() + OWN_WRITE_COUNTS_S)
        self._dirty(key)

    def wrote_pod(self, pod: Pod) -> None:
        """We created this pod."""
        key = (pod.metadata.namespace, pod.metadata.name)
        if key not in self._pods.items:
            self._own_pods[key] = _Written(pod, _now() + OWN_WRITE_COUNTS_S)
            self._gang_of_uid[pod.metadata.uid] = (key[0], pod.metadata.labels.get(LABEL_GANG, ""))

    def _gang_changed(self, old: GangObject | None, new: GangObject | None) -> None:
        known = new or old
        assert known is not None  # noqa: S101  (a change has an object)
        key = (known.metadata.namespace, known.metadata.name)
        own = self._own_gangs.get(key)
        if own and new and new.metadata.resource_version == own.item.metadata.resource_version:
            del self._own_gangs[key]
        self._dirty(key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            key = (pod.metadata.namespace, pod.metadata.labels.get(LABEL_GANG, ""))
            self._own_pods.pop((pod.metadata.namespace, pod.metadata.name), None)
            if pod is new:
                self._pods_of[key][pod.metadata.name] = pod
                self._gang_of_uid[pod.metadata.uid] = key
            elif new is None or new.metadata.labels.get(LABEL_GANG) != key[1]:
                self._pods_of[key].pop(pod.metadata.name, None)
                self._gang_of_uid.pop(pod.metadata.uid, None)
                self._pod_gone(pod.metadata.uid)
            self._dirty(key)


def _now() -> float:
    return asyncio.get_running_loop().time()
