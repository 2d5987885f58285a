"""A fleet as the API server keeps it: Nodes with their Leases, and the pods of one gang, bound and Running.

The bodies are fleetctl's own (gang/pods.py): a pod is 11 kB in etcd and 15 kB as JSON, managedFields included. Knows
nothing of who runs the pods afterwards.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleetctl.gang import pods
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import GangSpec, Group
from tests.conformance.realserver import RealServer
from tests.scale.client import STRATEGIC, Client, Object
from tests.scale.kubelets import RUNNING, status

USERS = {
    "setup": "system:masters",
    "kubelet": "system:nodes",
    "scheduler": "system:kube-scheduler",
    "controller": "system:serviceaccounts",
    "agent": "system:serviceaccounts",
    "observer": "system:serviceaccounts",
}
"""Who asks the server, by the group that decides how its requests queue."""
PER_NODE = 8
AT_ONCE = 64
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

_TEMPLATE: Object = {
    "metadata": {
        "annotations": {"example.com/run": "https://runs.example.com/projects/llm/runs/" + "0123456789abcdef" * 4}
    },
    "spec": {
        "serviceAccountName": "default",  # no admission fills it in here
        "containers": [
            {
                "name": "trainer",
                "image": "registry.example.com/team/llm-trainer@sha256:" + "0123456789abcdef" * 4,
                "command": ["torchrun", "--nproc-per-node=8", "train.py", "--config=/etc/llm/config.yaml"],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
                "env": [{"name": f"NCCL_SETTING_{n}", "value": f"value-of-setting-{n}"} for n in range(4)],
            }
        ],
    },
}


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """`uids` are those of the pods as they were made, by name."""

    gang: Gang
    nodes: list[str]
    uids: dict[str, str]

    @property
    def path(self) -> str:
        """Of its pods."""
        return pods_path(self.gang.namespace)

    def pod(self, rank: int, attempt: int) -> Object:
        """As a controller would make it: bound to no node."""
        return pods.pod(
            self.gang,
            self.gang.slots[rank],
            attempt,
            agent_image="registry.example.com/fleetctl:0.1.0",
            rendezvous="fleetctl-rendezvous.fleetctl-system.svc:8443",
            server_name="fleetctl-rendezvous.fleetctl-system.svc",
        )


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def a_gang(namespace: str, ranks: int, uid: str = "00000000-0000-4000-8000-000000000000") -> Gang:
    spec = GangSpec(groups=[Group(name="worker", size=ranks, template=_TEMPLATE)])
    return Gang(namespace=namespace, name="llm", uid=uid, spec=spec)


async def build(server: RealServer, gang: Gang) -> Fleet:
    """All of it, eight pods to a node, in attempt 1. The Nodes are ready; their names begin with the namespace."""
    namespace, ranks = gang.namespace, len(gang.slots)
    nodes = [f"{namespace}-{number}" for number in range(-(-ranks // PER_NODE))]
    fleet = Fleet(gang=gang, nodes=nodes, uids={})
    async with Client(server, "setup", AT_ONCE) as client:
        if namespace != "default":
            await client.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        await all_of(create_node(client, name) for name in nodes)
        await all_of(_pod(client, fleet, rank) for rank in range(ranks))
    return fleet


async def all_of(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """At once; the client's connections bound how much that is."""
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)


async def create_node(client: Client, name: str, labels: Mapping[str, str] = {}) -> None:
    """It is ready, and has room for eight pods."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    room = {"cpu": "64", "memory": "512Gi", "pods": str(PER_NODE), "ephemeral-storage": "512Gi"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    body = {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}, "spec": {}}
    told = {
        "capacity": room,
        "allocatable": room,
        "conditions": [{**ready, "lastHeartbeatTime": stamp}],
        "declaredFeatures": ["RestartAllContainersOnContainerExits"],  # else no pod of fleetctl's is scheduled there
    }
    path = f"/api/v1/nodes/{name}"
    lease = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": stamp.replace("Z", ".000000Z")}
    await client.send("POST", "/api/v1/nodes", body)
    # the server itself taints a new node not-ready, and leaves it to a controller to take that away
    await client.send("PATCH", path, {"spec": {"taints": None}}, content_type="application/merge-patch+json")
    await client.send("PATCH", f"{path}/status", {"status": told}, content_type=STRATEGIC)
    await client.send("POST", LEASES, {"metadata": {"name": name}, "spec": lease})


async def _pod(client: Client, fleet: Fleet, rank: int) -> None:
    body = fleet.pod(rank, 1)
    body["spec"]["nodeName"] = fleet.nodes[rank // PER_NODE]
    made = await client.ask("POST", fleet.path, body, query={"fieldManager": "fleetctl"})
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    fleet.uids[name] = uid
    path = f"{fleet.path}/{name}/status"
    query = {"fieldManager": "kubelet"}
    await client.send("PATCH", path, status(uid, RUNNING, restarts=0), content_type=STRATEGIC, query=query)
