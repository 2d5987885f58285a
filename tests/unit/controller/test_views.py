"""Pods as the API server shows them, and what decisions see of them."""

import asyncio
from typing import Any

import msgspec
import pytest

from fleetctl.controller import views
from fleetctl.controller.views import node_view, pod_view
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import GangSpec, Group
from fleetctl.gang.state import Container, Ended, Life, Spare, Strike
from fleetctl.gang.state import Node as NodeView
from fleetctl.kube.objects import Node, Pod

RESTARTING = {
    "metadata": {
        "name": "llm-worker-3",
        "namespace": "default",
        "uid": "u3",
        "ownerReferences": [{"uid": "g", "kind": "Gang", "name": "llm", "apiVersion": "fleetctl.dev/v1alpha1"}],
    },
    "spec": {
        "nodeName": "n1",
        "containers": [{"name": "trainer", "image": "t"}],
        "initContainers": [
            {"name": "prepare", "image": "t"},
            {"name": "logs", "image": "l", "restartPolicy": "Always"},
            {"name": "fleetctl-life", "image": "t"},
            {"name": "fleetctl-agent", "image": "f", "restartPolicy": "Always"},
        ],
    },
    "status": {
        "phase": "Running",
        "conditions": [
            {
                "type": "AllContainersRestarting",
                "status": "True",
                "reason": "RestartAllContainersStarted",
                "lastTransitionTime": "1970-01-01T00:01:40Z",
            }
        ],
        "containerStatuses": [
            {
                "name": "trainer",
                "restartCount": 1,
                "state": {"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": "1970-01-01T00:01:39Z"}},
            }
        ],
        "initContainerStatuses": [
            {"name": "prepare", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "logs", "state": {"running": {}}},
            {"name": "fleetctl-life", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "fleetctl-agent", "state": {"running": {}}},
        ],
    },
}


def seen(gang_uid: str = "g", **status: object) -> Pod:
    return msgspec.convert({**RESTARTING, "status": {**RESTARTING["status"], **status}}, Pod)


def seen_with(**meta: object) -> Pod:
    return msgspec.convert({**RESTARTING, "metadata": {**RESTARTING["metadata"], **meta}}, Pod)


def conditions(*found: dict[str, str]) -> Pod:
    return seen(conditions=list(found))


def test_a_pod_that_restarts_in_place() -> None:
    view = pod_view(seen(), "g")
    assert (view.ours, view.node, view.restarting_since) == (True, "n1", 100)
    assert [c.name for c in view.containers] == ["trainer", "logs"]  # not the agent, not what only prepares
    assert view.containers[0].ended == Ended(exit_code=3, reason="Error", finished_at=99)
    assert view.preparing is None


def test_a_pod_of_an_earlier_gang_of_that_name_is_not_ours() -> None:
    assert not pod_view(seen(), "another").ours


def test_the_init_container_a_pod_is_at() -> None:
    waiting = {"name": "prepare", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    view = pod_view(seen(initContainerStatuses=[waiting]), "g")
    assert view.preparing is not None
    assert (view.preparing.name, view.preparing.waiting_reason) == ("prepare", "ImagePullBackOff")


def test_an_init_container_that_failed() -> None:
    failed = {"name": "fleetctl-life", "state": {"terminated": {"exitCode": 128, "reason": "StartError"}}}
    view = pod_view(seen(phase="Failed", initContainerStatuses=[failed]), "g")
    assert view.preparing is not None
    assert view.preparing.ended == Ended(exit_code=128, reason="StartError")


@pytest.mark.parametrize(
    ("labels", "attempt"),
    [
        ({"fleetctl.dev/attempt": "7"}, 7),
        ({"fleetctl.dev/attempt": "0"}, 0),
        ({"fleetctl.dev/attempt": "latest"}, 0),
        ({"fleetctl.dev/attempt": "-1"}, 0),
        ({"fleetctl.dev/attempt": "1.5"}, 0),
        ({"fleetctl.dev/attempt": "²"}, 0),  # a digit, and yet no number
        ({"fleetctl.dev/attempt": ""}, 0),
        ({"attempt": "7"}, 0),
        ({}, 0),
    ],
)
def test_the_attempt_a_pod_was_made_for(labels: dict[str, str], attempt: int) -> None:
    assert pod_view(seen_with(labels=labels), "g").attempt == attempt


def test_a_pod_as_it_may_be_deleted() -> None:
    view = pod_view(seen_with(resourceVersion="0815", finalizers=["a/b", "c/d"]), "g")
    assert (view.name, view.uid, view.version, view.deleting) == ("llm-worker-3", "u3", "0815", False)
    assert view.finalizers == ("a/b", "c/d")
    assert pod_view(seen_with(deletionTimestamp="2026-11-21T06:00:00Z"), "g").deleting
    assert pod_view(seen(), "g").finalizers == ()


@pytest.mark.parametrize(
    ("found", "disruption"),
    [
        ({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}, "EvictionByEvictionAPI"),
        ({"type": "DisruptionTarget", "status": "False", "reason": "EvictionByEvictionAPI"}, ""),
        ({"type": "DisruptionTarget", "status": "Unknown", "reason": "EvictionByEvictionAPI"}, ""),
        ({"type": "Ready", "status": "True", "reason": "EvictionByEvictionAPI"}, ""),
    ],
)
def test_who_disrupts_a_pod(found: dict[str, str], disruption: str) -> None:
    before = {"type": "PodScheduled", "status": "True"}
    assert pod_view(conditions(before, found), "g").disruption == disruption


@pytest.mark.parametrize(
    ("found", "unschedulable"),
    [
        ({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}, True),
        ({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}, False),
        ({"type": "PodScheduled", "status": "True"}, False),
        ({"type": "Ready", "status": "False", "reason": "Unschedulable"}, False),
    ],
)
def test_whether_a_pod_finds_a_node(found: dict[str, str], unschedulable: bool) -> None:
    assert pod_view(conditions(found), "g").unschedulable is unschedulable


def test_a_pod_restarts_only_while_the_condition_is_true() -> None:
    over = {"type": "AllContainersRestarting", "status": "False", "lastTransitionTime": "1970-01-01T00:01:40Z"}
    assert pod_view(conditions(over), "g").restarting_since is None


def test_why_a_pod_has_ended() -> None:
    view = pod_view(seen(phase="Failed", reason="Evicted", message="out of disk"), "g")
    assert (view.phase, view.reason, view.message) == ("Failed", "Evicted", "out of disk")


def test_a_container_that_waits_and_one_that_was_killed() -> None:
    waits = {"name": "trainer", "state": {"waiting": {"reason": "ErrImagePull"}}}
    killed = {"name": "helper", "state": {"terminated": {"exitCode": 255, "signal": 9, "reason": "OOMKilled"}}}
    runs = {"name": "metrics", "state": {"running": {}}}
    view = pod_view(seen(containerStatuses=[waits, killed, runs], initContainerStatuses=[]), "g")
    assert view.containers == (
        Container(name="trainer", waiting_reason="ErrImagePull"),
        Container(name="helper", ended=Ended(exit_code=255, signal=9, reason="OOMKilled")),
        Container(name="metrics", running=True),
    )


def test_devices_that_the_kubelet_calls_unhealthy() -> None:
    devices = [{"resourceID": f"GPU-{n}", "health": h} for n, h in enumerate(["Healthy", "Unhealthy", "Unknown", ""])]
    mixed = [{"name": "nvidia.com/gpu", "resources": devices}, {"name": "rdma/hca"}]
    more = [{"name": "rdma/hca", "resources": [{"resourceID": "mlx5_0", "health": "Unhealthy"}]}]
    trainer = {"name": "trainer", "state": {"running": {}}, "allocatedResourcesStatus": [*mixed, *more]}
    logs = {"name": "logs", "allocatedResourcesStatus": more}
    view = pod_view(seen(containerStatuses=[trainer], initContainerStatuses=[logs]), "g")
    assert [c.unhealthy for c in view.containers] == [("nvidia.com/gpu GPU-1", "rdma/hca mlx5_0"), ("rdma/hca mlx5_0",)]
    assert pod_view(seen(), "g").containers[0].unhealthy == ()


def machine(*found: dict[str, str], taints: tuple[str, ...] = (), **meta: dict[str, str]) -> Node:
    spec = {"taints": [{"key": key, "effect": "NoExecute"} for key in taints]}
    return msgspec.convert(
        {"metadata": {"name": "n1", **meta}, "spec": spec, "status": {"conditions": list(found)}}, Node
    )


@pytest.mark.parametrize("ready", ["True", "False", "Unknown"])
def test_whether_a_node_is_ready_is_its_own_condition(ready: str) -> None:
    pressure = {"type": "MemoryPressure", "status": "False" if ready == "True" else "True"}
    assert node_view("n1", machine(pressure, {"type": "Ready", "status": ready})).ready == ready


def test_a_node_that_was_never_reported_on() -> None:
    assert node_view("n1", machine()) == NodeView(name="n1", ready="Unknown")


def test_the_taints_of_a_node_are_their_keys() -> None:
    seen = machine({"type": "Ready", "status": "True"}, taints=("karpenter.sh/disrupted", "a/b"))
    assert node_view("n1", seen) == NodeView(name="n1", taints=frozenset({"karpenter.sh/disrupted", "a/b"}))


def test_the_conditions_of_a_node_are_those_that_hold_and_are_not_the_kubelets_own() -> None:
    own = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
    told = [*((kind, "True") for kind in (*own, "GpuUnhealthy", "KernelDeadlock")), ("ReadonlyFilesystem", "False")]
    told.append(("FrequentKubeletRestart", "Unknown"))
    found = node_view("n1", machine(*({"type": kind, "status": status} for kind, status in told))).conditions
    assert found == {"GpuUnhealthy", "KernelDeadlock"}


def test_the_failure_domains_of_a_node_are_its_labels_the_widest_first() -> None:
    labels = {
        "topology.kubernetes.io/rack": "r7",
        "topology.kubernetes.io/region": "eu",
        "cloud.google.com/gce-topology-subblock": "s",
        "cloud.google.com/gce-topology-block": "b",
        "topology.k8s.aws/network-node-layer-3": "l3",
        "topology.k8s.aws/network-node-layer-1": "l1",
        "topology.kubernetes.io/zone": "a",
        "kubernetes.io/hostname": "n1",
    }
    assert node_view("n1", machine(labels=labels)).domains == (
        "topology.kubernetes.io/zone=a",
        "topology.k8s.aws/network-node-layer-1=l1",
        "topology.k8s.aws/network-node-layer-3=l3",
        "cloud.google.com/gce-topology-block=b",
        "cloud.google.com/gce-topology-subblock=s",
        "topology.kubernetes.io/rack=r7",
    )
    assert node_view("n1", machine()).domains == ()


def test_the_strikes_of_a_node_are_its_annotation() -> None:
    struck = machine(annotations={"fleetctl.dev/strikes": "1732233600/fatal-signal/team-a/llm/7"})
    assert node_view("n1", struck).strikes == (Strike(at=1732233600.0, rule="fatal-signal", who="team-a/llm/7"),)
    assert node_view("n1", machine(annotations={"other": "1/a/b/c/1"})).strikes == ()


def test_a_node_without_an_object_may_be_new_unless_it_was_seen_to_be_deleted() -> None:
    assert node_view("n1", None) == NodeView(name="n1", exists=True, ready="Unknown")
    assert node_view("n1", None, gone=True) == NodeView(name="n1", exists=False, ready="Unknown")


def test_what_was_observed_of_a_node() -> None:
    seen = node_view("n1", machine({"type": "Ready", "status": "True"}), silent=True, still_s=12.5)
    assert (seen.silent, seen.still_s) == (True, 12.5)


def test_each_member_has_its_pod_that_pods_node_and_its_life() -> None:
    template: dict[str, Any] = {"spec": {"containers": [{"name": "trainer", "image": "t"}]}}
    spec = GangSpec(groups=[Group(name="worker", size=5, template=template)])
    gang = Gang(namespace="default", name="llm", uid="g", spec=spec)
    waiting = msgspec.convert({"metadata": {"name": "llm-worker-4", "uid": "u4"}}, Pod)
    asked: list[str] = []

    def node(name: str) -> NodeView:
        asked.append(name)
        return NodeView(name=name)

    lives = {"u3": Life(uid="u3", life_id="x", started_at=1)}
    found = views.members(gang, {"llm-worker-3": seen(), "llm-worker-4": waiting}, lives.get, node)
    assert [(m.rank, m.pod_name) for m in found] == [(r, f"llm-worker-{r}") for r in range(5)]
    assert [m.pod.uid if m.pod else None for m in found] == [None, None, None, "u3", "u4"]
    assert [m.node.name if m.node else None for m in found] == [None, None, None, "n1", None]
    assert [m.life is not None for m in found] == [False, False, False, True, False]
    assert asked == ["n1"]
    assert {m.group for m in found} == {"worker"}


def test_a_member_of_which_nothing_is_new_is_the_same_object() -> None:
    template: dict[str, Any] = {"spec": {"containers": [{"name": "trainer", "image": "t"}]}}
    gang = Gang(
        namespace="default",
        name="llm",
        uid="g",
        spec=GangSpec(groups=[Group(name="worker", size=4, template=template)]),
    )
    pods, life = {"llm-worker-3": seen()}, Life(uid="u3", life_id="x", started_at=1)
    members = views.Members()
    nodes = [NodeView(name="n1"), NodeView(name="n1"), NodeView(name="n1", conditions=frozenset({"GpuUnhealthy"}))]
    first, same, other = [members.of(gang, pods, lambda _: life, lambda _, node=node: node)[3] for node in nodes]  # type: ignore[misc]
    assert first is same
    assert other is not first


async def test_others_have_a_turn_among_many_members_that_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "NEW_AT_ONCE", 2)
    template = {"spec": {"containers": [{"name": "trainer", "image": "t"}]}}
    spec = GangSpec(groups=[Group(name="worker", size=5, template=template)])
    gang = Gang(namespace="default", name="llm", uid="g", spec=spec)
    pods = {f"llm-worker-{n}": seen_with(name=f"llm-worker-{n}", uid=f"u{n}") for n in range(5)}
    asked: list[str] = []

    def life(uid: str) -> Life:
        asked.append(uid)
        return lives[uid]

    async def look() -> list[int]:
        """How many members were looked at whenever others had a turn."""
        asked.clear()
        turns, looking = [], asyncio.create_task(members.looked_at(gang, pods, life, lambda _: node))
        while not looking.done():
            turns.append(len(asked))
            await asyncio.sleep(0)
        assert looking.result() == members.of(gang, pods, life, lambda _: node)
        return turns

    lives, node, members = (
        {f"u{n}": Life(uid=f"u{n}", life_id="x", started_at=1) for n in range(5)},
        None,
        views.Members(),
    )
    assert await look() == [0, 2, 4]
    assert await look() == [0]  # nothing is new
    lives |= {uid: Life(uid=uid, life_id="y", started_at=1) for uid in ("u1", "u3")}
    assert await look() == [0, 4]


# Spares


def placeholder(name: str = "llm-worker-spare-0", *, state: dict[str, Any] | None = None, **more: Any) -> Pod:
    labels = {"fleetctl.dev/gang": "llm", "fleetctl.dev/group": "worker", "fleetctl.dev/role": "spare"}
    owner = {"uid": "g", "kind": "Gang", "name": "llm", "apiVersion": "fleetctl.dev/v1alpha1"}
    containers = [{"name": n, "state": state or {"running": {}}} for n in ("trainer", "fleetctl-hold")]
    return msgspec.convert(
        {
            "metadata": {
                "name": name, "uid": name, "resourceVersion": "5", "labels": labels, "ownerReferences": [owner],
            },
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running", "containerStatuses": containers, **more},
        },
        Pod,
    )  # fmt: skip


def spares_among(*pods: Pod) -> tuple[Spare, ...]:
    gang = Gang(namespace="default", name="llm", uid="g", spec=GangSpec(groups=[]))
    return views.spares(gang, {pod.metadata.name: pod for pod in pods}, lambda name: NodeView(name=name))


def test_spares_are_told_by_their_role() -> None:
    rank = msgspec.convert(RESTARTING, Pod)
    assert spares_among(rank, placeholder("b"), placeholder("a")) == (
        Spare(name="a", uid="a", version="5", group="worker", ready=True, on=NodeView(name="n1")),
        Spare(name="b", uid="b", version="5", group="worker", ready=True, on=NodeView(name="n1")),
    )


def test_a_spare_of_an_earlier_gang_is_not_ours() -> None:
    other = placeholder()
    owner = msgspec.structs.replace(other.metadata.owner_references[0], uid="before")
    meta = msgspec.structs.replace(other.metadata, owner_references=(owner,))
    assert not spares_among(msgspec.structs.replace(other, metadata=meta))


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (placeholder(state={"waiting": {"reason": "ErrImagePull"}}), {"ready": False}),
        (placeholder(containerStatuses=[]), {"ready": False}),
        (placeholder(phase="Failed"), {"over": True}),
    ],
)
def test_how_a_spare_is(pod: Pod, told: dict[str, bool]) -> None:
    [spare] = spares_among(pod)
    assert {name: getattr(spare, name) for name in told} == told


def test_the_labels_that_a_gang_names_are_domains_too() -> None:
    node = msgspec.convert({"metadata": {"name": "n", "labels": {"example.com/pod": "7"}}}, Node)
    assert node_view("n", node).domains == ()
    assert node_view("n", node, labels_of_domains=("example.com/pod",)).domains == ("example.com/pod=7",)
