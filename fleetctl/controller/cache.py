"""What the controller knows of the cluster: gangs, their pods, the nodes, and its own writes that are not back yet.

Decisions must not be made on a world older than our own last write (a stale record would ping a second ticket; a pod
that we made and do not see would cost a restart of all). So what a write answered counts until the watch has got there,
however long that takes.

Knows nothing of agents (rendezvous) and decides nothing.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from fleetctl.controller.resources import GANGS, GangObject
from fleetctl.gang.pods import LABEL_GANG
from fleetctl.gang.quarantine import QUARANTINE
from fleetctl.gang.spec import GROUP
from fleetctl.gang.strikes import STRIKES
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import NODES, PODS, Node, Pod
from fleetctl.kube.reflector import Key, Reflector
from fleetctl.kube.retry import JITTER


@dataclass(frozen=True, slots=True)
class _WrittenPod:
    """The pod as our write left it; None: deleted. `version` is that of its creation, if the watch had not got there;
    that it was deleted, only an event can tell."""

    uid: str
    item: Pod | None
    version: int | None = None


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
        rng: random.Random = JITTER,
    ) -> None:
        self._dirty = dirty
        self._pod_gone = pod_gone
        self._gangs = Reflector(client, GANGS, self._gang_changed, namespace=namespace, rng=rng)
        self._pods = Reflector(client, PODS, self._pod_changed, namespace=namespace, label_selector=LABEL_GANG, rng=rng)
        self._nodes = Reflector(client, NODES, self._node_changed, rng=rng)
        self._pods_of: defaultdict[Key, dict[str, Pod]] = defaultdict(dict)
        self._pods_on: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._gang_of_uid: dict[str, Key] = {}
        self._own_gangs: dict[Key, GangObject] = {}
        self._own_pods: dict[Key, _WrittenPod] = {}
        self._nodes_gone: set[str] = set()
        self.pod_changes = 0
        """How often `pods` may have become different ones."""

    async def run(self) -> None:
        """Keep up until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._gangs.run())
            group.create_task(self._pods.run())
            group.create_task(self._nodes.run())

    async def synced(self) -> None:
        """Returns when everything has been read once."""
        for reflector in (self._gangs, self._pods, self._nodes):
            await reflector.synced.wait()

    async def refresh(self) -> None:
        """Returns when gangs and pods have been read anew."""
        await asyncio.gather(self._gangs.refresh(), self._pods.refresh())

    @property
    def is_synced(self) -> bool:
        return all(reflector.synced.is_set() for reflector in (self._gangs, self._pods, self._nodes))

    def gangs(self) -> list[Key]:
        return list(self._gangs.items)

    def gang(self, key: Key) -> GangObject | None:
        """The gang, our own latest write included; None once it is deleted."""
        seen, own = self._gangs.items.get(key), self._own_gangs.get(key)
        if own and seen and own.metadata.uid == seen.metadata.uid and _is_newer(own, seen):
            return own
        self._own_gangs.pop(key, None)
        return seen

    def pods(self, key: Key) -> dict[str, Pod]:
        """The pods that carry the gang's label, by name, our own latest writes included."""
        pods = dict(self._pods_of.get(key, {}))
        for (namespace, name), own in self._own_pods.items():
            if namespace != key[0] or self._is_past(own):
                continue
            seen = pods.get(name)
            if own.item is not None and own.item.metadata.labels.get(LABEL_GANG) == key[1]:
                pods[name] = own.item
            elif own.item is None and seen is not None and seen.metadata.uid == own.uid:
                del pods[name]
        return pods

    def pod(self, namespace: str, name: str) -> Pod | None:
        """One pod of any gang, our own latest write included."""
        own, seen = self._own_pods.get((namespace, name)), self._pods.items.get((namespace, name))
        if own is None or self._is_past(own):
            return seen
        return own.item or (seen if seen and seen.metadata.uid != own.uid else None)

    def gang_of(self, pod_uid: str) -> Key | None:
        """The gang whose label the pod with that uid carries."""
        return self._gang_of_uid.get(pod_uid)

    def orphans(self) -> list[Pod]:
        """Pods that were deleted and are still there, of gangs that are not, or are about to go."""
        gangs = {gang.metadata.uid for gang in self._gangs.items.values() if not gang.metadata.deletion_timestamp}
        return [p for p in self._pods.items.values() if p.metadata.deletion_timestamp and _is_orphan(p, gangs)]

    def nodes(self) -> Iterable[str]:
        return (name for _, name in self._nodes.items)

    def node(self, name: str) -> Node | None:
        return self._nodes.items.get(("", name))

    def node_is_gone(self, name: str) -> bool:
        """Whether we saw that Node and saw it deleted. One that we never saw may be new: watches are not in step."""
        return name in self._nodes_gone

    def nodes_in_use(self) -> Iterable[str]:
        """The nodes that pods of gangs are bound to."""
        return (name for name, pods in self._pods_on.items() if pods)

    def pods_on(self, node: str) -> Iterable[Pod]:
        """The pods of gangs that are bound to that node."""
        return self._pods_on[node].values() if node in self._pods_on else ()

    def wrote_gang(self, gang: GangObject) -> None:
        """Our write was answered with this; also for a live read after a conflict."""
        key = (gang.metadata.namespace, gang.metadata.name)
        seen = self._gangs.items.get(key)
        self._own_gangs.pop(key, None)
        if seen is None or seen.metadata.uid != gang.metadata.uid or _is_newer(gang, seen):
            self._own_gangs[key] = gang
        self._dirty(key)

    def wrote_pod(self, pod: Pod) -> None:
        """We created this pod; also for a live read of one that stood in the way of a write."""
        self._forget_old_writes()
        self.pod_changes += 1
        key, uid = (pod.metadata.namespace, pod.metadata.name), pod.metadata.uid
        written = _WrittenPod(uid, pod, int(pod.metadata.resource_version))
        if not self._is_past(written):
            self._own_pods[key] = written
            self._gang_of_uid[uid] = (key[0], pod.metadata.labels.get(LABEL_GANG, ""))

    def deleted_pod(self, namespace: str, name: str, uid: str, *, at_once: bool) -> None:
        """We deleted this pod; unless `at_once`, it terminates now."""
        self._forget_old_writes()
        self.pod_changes += 1
        pod = self.pod(namespace, name)
        if pod is None or pod.metadata.uid != uid:
            return
        terminating = msgspec.structs.replace(pod.metadata, deletion_timestamp="1970-01-01T00:00:00Z")
        left = None if at_once else msgspec.structs.replace(pod, metadata=terminating)
        seen = self._pods.items.get((namespace, name))
        unseen = seen is None or seen.metadata.uid != uid
        created = int(pod.metadata.resource_version) if unseen else None
        self._own_pods[namespace, name] = _WrittenPod(uid, left, created)

    def _is_past(self, own: _WrittenPod) -> bool:
        """Whether the watch has got beyond it."""
        return own.version is not None and self._pods.version >= own.version

    def _forget_old_writes(self) -> None:
        for key, own in list(self._own_pods.items()):
            if self._is_past(own):
                del self._own_pods[key]
                seen = self._pods.items.get(key)
                if seen is None or seen.metadata.uid != own.uid:
                    self._gang_of_uid.pop(own.uid, None)

    def _gang_changed(self, old: GangObject | None, new: GangObject | None) -> None:
        known = new or old
        assert known is not None  # noqa: S101  (a change has an object)
        key = (known.metadata.namespace, known.metadata.name)
        own = self._own_gangs.get(key)
        if own and new and not _is_newer(own, new):
            del self._own_gangs[key]
        self._dirty(key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        self.pod_changes += 1
        self._compare_with_own_write(old, new)
        for pod in (old, new):
            if pod is None:
                continue
            meta, node = pod.metadata, pod.spec.node_name
            key = (meta.namespace, meta.labels.get(LABEL_GANG, ""))
            if pod is new:
                self._pods_of[key][meta.name] = pod
                self._gang_of_uid[meta.uid] = key
                if node:
                    self._pods_on[node][meta.uid] = pod
            elif new is None or new.metadata.labels.get(LABEL_GANG) != key[1]:
                self._pods_of[key].pop(meta.name, None)
                self._pods_on[node].pop(meta.uid, None)
                self._gang_of_uid.pop(meta.uid, None)
                if new is None:
                    self._pod_gone(meta.uid)
            self._dirty(key)

    def _compare_with_own_write(self, old: Pod | None, new: Pod | None) -> None:
        known = new or old
        assert known is not None  # noqa: S101  (a change has an object)
        meta = known.metadata
        own = self._own_pods.get((meta.namespace, meta.name))
        if own is None or own.uid != meta.uid:
            return
        created = own.item is not None and own.item.metadata.deletion_timestamp is None
        if created or new is None or meta.deletion_timestamp:
            del self._own_pods[meta.namespace, meta.name]

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        """Kubelets report every few minutes that nothing is new; only what decisions read makes gangs dirty."""
        if old and new and _told(old) == _told(new):
            return
        known = new or old
        assert known is not None  # noqa: S101  (a change has an object)
        if new:
            self._nodes_gone.discard(known.metadata.name)
        elif self._pods_on.get(known.metadata.name):
            self._nodes_gone.add(known.metadata.name)
        for key in dict.fromkeys(self._gang_of_uid[pod.metadata.uid] for pod in self.pods_on(known.metadata.name)):
            self._dirty(key)


def _is_newer(one: GangObject, other: GangObject) -> bool:
    """By resourceVersion: a number that only grows, and may be compared (Kubernetes 1.35, KEP-5504)."""
    return int(one.metadata.resource_version) > int(other.metadata.resource_version)


def _told(node: Node) -> tuple[object, ...]:
    conditions = [(c.type, c.status) for c in node.status.conditions]
    meta = node.metadata
    return conditions, [t.key for t in node.spec.taints], meta.annotations.get(STRIKES), QUARANTINE in meta.labels


def _is_orphan(pod: Pod, gangs: set[str]) -> bool:
    owners = [
        o.uid for o in pod.metadata.owner_references if o.kind == "Gang" and o.api_version.startswith(f"{GROUP}/")
    ]
    return bool(owners) and not gangs.intersection(owners)
