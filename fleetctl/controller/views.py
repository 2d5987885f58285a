"""API objects → the frozen views that decisions read. The only place that knows both."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from fleetctl.controller.resources import GangObject
from fleetctl.gang import state, strikes
from fleetctl.gang.diagnose import foresee
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.pods import AVOIDS, LABEL_ATTEMPT, LABEL_GROUP, LABEL_ROLE, RESERVED_PREFIX
from fleetctl.gang.quarantine import QUARANTINE
from fleetctl.kube import objects
from fleetctl.stamps import unix_seconds

DOMAINS = (
    "topology.kubernetes.io/zone",
    "topology.k8s.aws/network-node-layer-1",
    "topology.k8s.aws/network-node-layer-2",
    "topology.k8s.aws/network-node-layer-3",
    "cloud.google.com/gce-topology-block",
    "cloud.google.com/gce-topology-subblock",
    "topology.kubernetes.io/rack",
)
"""Labels of nodes that name what they fail together with, the widest first."""
NEW_AT_ONCE = 512
"""Members that are looked at anew without a pause."""
KUBELETS_OWN = frozenset(("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"))
"""Conditions of nodes that are read from elsewhere, or say nothing of the machine."""


def gang_view(gang: GangObject) -> Gang:
    """The gang by name, uid and spec."""
    meta = gang.metadata
    return Gang(namespace=meta.namespace, name=meta.name, uid=meta.uid, spec=gang.spec)


def pod_view(pod: objects.Pod, gang_uid: str) -> state.Pod:
    """A pod as one gang sees it."""
    meta, status = pod.metadata, pod.status
    sidecars = {c.name for c in pod.spec.init_containers if c.restart_policy == "Always"}
    preparing = [s for s in status.init_container_statuses if s.name not in sidecars and _unfinished(s)]
    return state.Pod(
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        attempt=_number(meta.labels.get(LABEL_ATTEMPT, "")),
        ours=any(owner.uid == gang_uid for owner in meta.owner_references),
        node=pod.spec.node_name,
        phase=status.phase or "Pending",
        reason=status.reason,
        message=status.message,
        disruption=next((c.reason for c in status.conditions if c.type == "DisruptionTarget" and _true(c)), ""),
        avoids=tuple(filter(None, meta.annotations.get(AVOIDS, "").split(","))),
        unschedulable=any(c.type == "PodScheduled" and c.reason == "Unschedulable" for c in status.conditions),
        deleting=meta.deletion_timestamp is not None,
        finalizers=meta.finalizers,
        restarting_since=_restarting_since(status),
        containers=tuple(
            _container(s)
            for s in (*status.container_statuses, *status.init_container_statuses)
            if s.name not in _init_names(pod) or (s.name in sidecars and not s.name.startswith(RESERVED_PREFIX))
        ),
        preparing=_container(preparing[0]) if preparing else None,
    )


def spares(
    gang: Gang, pods: Mapping[str, objects.Pod], node: Callable[[str], state.Node | None]
) -> tuple[state.Spare, ...]:
    """The gang's spares among those pods, by name."""
    ours = (pod for pod in pods.values() if pod.metadata.labels.get(LABEL_ROLE) == "spare")
    found = (_spare(pod, node) for pod in ours if any(o.uid == gang.uid for o in pod.metadata.owner_references))
    return tuple(sorted(found, key=lambda spare: spare.name))


def _spare(pod: objects.Pod, node: Callable[[str], state.Node | None]) -> state.Spare:
    meta, containers = pod.metadata, pod.status.container_statuses
    return state.Spare(
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        group=meta.labels.get(LABEL_GROUP, ""),
        ready=bool(containers) and all(c.state.running is not None for c in containers),
        over=pod.status.phase in ("Succeeded", "Failed"),
        deleting=meta.deletion_timestamp is not None,
        on=node(pod.spec.node_name) if pod.spec.node_name else None,
    )


def node_view(
    name: str,
    node: objects.Node | None,
    *,
    gone: bool = False,
    silent: bool = False,
    still_s: float = 0.0,
    labels_of_domains: Sequence[str] = DOMAINS,
) -> state.Node:
    """A node as decisions see it. None: no such object is known; `gone`: because it was deleted. `labels_of_domains`:
    those that name what it is in, the widest first."""
    if node is None:
        return state.Node(name=name, exists=not gone, ready="Unknown", silent=silent, still_s=still_s)
    labels = node.metadata.labels
    return state.Node(
        name=name,
        ready=ready(node),
        taints=frozenset(taint.key for taint in node.spec.taints),
        silent=silent,
        still_s=still_s,
        conditions=frozenset(c.type for c in node.status.conditions if _true(c) and c.type not in KUBELETS_OWN),
        domains=domains_of(labels, labels_of_domains),
        strikes=strikes.parse(node.metadata.annotations.get(strikes.STRIKES, "")),
        quarantined=QUARANTINE in labels,
    )


def domains_of(labels: Mapping[str, str], keys: Sequence[str] = DOMAINS) -> tuple[str, ...]:
    """The failure domains that a node with these labels is in, the widest first."""
    return tuple(f"{key}={labels[key]}" for key in keys if key in labels)


def ready(node: objects.Node | None) -> str:
    """The status of a node's condition Ready."""
    return next((c.status for c in node.status.conditions if c.type == "Ready"), "Unknown") if node else "Unknown"


class Members:
    """The members of one gang, look after look. One of which nothing has changed is the same object as before."""

    def __init__(self) -> None:
        self._gang: Gang | None = None
        self._nodes: dict[str, state.Node | None] = {}
        self._known: dict[int, tuple[objects.Pod, state.Member]] = {}

    def of(
        self,
        gang: Gang,
        pods: Mapping[str, objects.Pod],
        life: Callable[[str], state.Life | None],
        node: Callable[[str], state.Node | None],
    ) -> tuple[state.Member, ...]:
        """Every rank, with its pod (by name), the node that is on, and the life of that very pod (by uid)."""
        self._look_at_nodes(gang, pods, node)
        return tuple([self._member(gang, slot, pods.get(slot.pod_name), life, node) for slot in gang.slots])

    async def looked_at(
        self,
        gang: Gang,
        pods: Mapping[str, objects.Pod],
        life: Callable[[str], state.Life | None],
        node: Callable[[str], state.Node | None],
    ) -> tuple[state.Member, ...]:
        """The same; others have their turn after so many members that are new. What agents say meanwhile is news for
        the next look, or for this one: their words come one by one anyway."""
        self._look_at_nodes(gang, pods, node)
        out, rest = [], NEW_AT_ONCE
        for slot in gang.slots:
            before = self._known.get(slot.rank)
            out.append(member := self._member(gang, slot, pods.get(slot.pod_name), life, node))
            if before is not None and before[1] is member:
                continue
            foresee(member)
            rest -= 1
            if rest == 0:
                rest = NEW_AT_ONCE
                await asyncio.sleep(0)
        return tuple(out)

    def _look_at_nodes(
        self, gang: Gang, pods: Mapping[str, objects.Pod], node: Callable[[str], state.Node | None]
    ) -> None:
        if self._gang is not gang:
            self._gang, self._known = gang, {}
        on = {name: node(name) for name in {pod.spec.node_name: None for pod in pods.values()} if name}
        self._nodes = {name: _same_or(self._nodes.get(name), seen) for name, seen in on.items()}

    def _member(
        self,
        gang: Gang,
        slot: Slot,
        pod: objects.Pod | None,
        life: Callable[[str], state.Life | None],
        look: Callable[[str], state.Node | None],
    ) -> state.Member:
        if pod is None:
            return state.Member(rank=slot.rank, pod_name=slot.pod_name, trainer=slot.trainer, group=slot.group.name)
        node, speaks = self._nodes.get(pod.spec.node_name), life(pod.metadata.uid)
        seen, known = self._known.get(slot.rank) or (None, None)
        same = seen is pod
        if known is not None and same and known.node is node and known.life is speaks and not known.avoided:
            return known
        view = known.pod if known is not None and same and known.pod else pod_view(pod, gang.uid)
        member = state.Member(
            rank=slot.rank,
            pod_name=slot.pod_name,
            trainer=slot.trainer,
            pod=view,
            node=node,
            life=speaks,
            avoided=() if view.node else tuple(found for name in view.avoids if (found := look(name))),
            group=slot.group.name,
        )
        self._known[slot.rank] = pod, member
        return member


def members(
    gang: Gang,
    pods: Mapping[str, objects.Pod],
    life: Callable[[str], state.Life | None],
    node: Callable[[str], state.Node | None],
) -> tuple[state.Member, ...]:
    """The members of a gang that is looked at once."""
    return Members().of(gang, pods, life, node)


def _same_or(known: state.Node | None, seen: state.Node | None) -> state.Node | None:
    return known if known is seen or known == seen else seen


def _init_names(pod: objects.Pod) -> set[str]:
    return {c.name for c in pod.spec.init_containers}


def _unfinished(init: objects.ContainerStatus) -> bool:
    return init.state.terminated is None or init.state.terminated.exit_code != 0


def _number(label: str) -> int:
    return int(label) if label.isdecimal() else 0


def _true(condition: objects.Condition) -> bool:
    return condition.status == "True"


def _restarting_since(status: objects.PodStatus) -> state.Seconds | None:
    for condition in status.conditions:
        if condition.type == "AllContainersRestarting" and _true(condition):
            return unix_seconds(condition.last_transition_time)
    return None


def _container(status: objects.ContainerStatus) -> state.Container:
    now = status.state
    ended = now.terminated
    return state.Container(
        name=status.name,
        running=now.running is not None,
        waiting_reason=now.waiting.reason if now.waiting else "",
        ended=state.Ended(
            exit_code=ended.exit_code,
            reason=ended.reason,
            signal=ended.signal,
            finished_at=unix_seconds(ended.finished_at),
        )
        if ended
        else None,
        unhealthy=tuple(
            f"{kind.name} {device.resource_id}"
            for kind in status.allocated_resources_status
            for device in kind.resources
            if device.health == "Unhealthy"
        ),
    )
