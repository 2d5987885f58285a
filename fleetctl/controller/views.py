"""API objects → the frozen views that decisions read. The only place that knows both."""

from collections.abc import Callable, Mapping

from fleetctl.controller.resources import GangObject
from fleetctl.gang import state
from fleetctl.gang.identity import Gang
from fleetctl.gang.pods import RESERVED_PREFIX
from fleetctl.kube import objects
from fleetctl.stamps import unix_seconds


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
        ours=any(owner.uid == gang_uid for owner in meta.owner_references),
        node=pod.spec.node_name,
        phase=status.phase or "Pending",
        reason=status.reason,
        message=status.message,
        deleting=meta.deletion_timestamp is not None,
        restarting_since=_restarting_since(status),
        containers=tuple(
            _container(s)
            for s in (*status.container_statuses, *status.init_container_statuses)
            if s.name not in _init_names(pod) or (s.name in sidecars and not s.name.startswith(RESERVED_PREFIX))
        ),
        preparing=_container(preparing[0]) if preparing else None,
    )


def members(
    gang: Gang, pods: Mapping[str, objects.Pod], life: Callable[[str], state.Life | None]
) -> tuple[state.Member, ...]:
    """Every rank, with its pod (by name) and the life of that very pod (by uid)."""
    out = []
    for slot in gang.slots:
        pod = pods.get(slot.pod_name)
        view = pod_view(pod, gang.uid) if pod else None
        said = life(view.uid) if view else None
        out.append(state.Member(rank=slot.rank, pod_name=slot.pod_name, trainer=slot.trainer, pod=view, life=said))
    return tuple(out)


def _init_names(pod: objects.Pod) -> set[str]:
    return {c.name for c in pod.spec.init_containers}


def _unfinished(init: objects.ContainerStatus) -> bool:
    return init.state.terminated is None or init.state.terminated.exit_code != 0


def _restarting_since(status: objects.PodStatus) -> state.Seconds | None:
    for condition in status.conditions:
        if condition.type == "AllContainersRestarting" and condition.status == "True":
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
    )
