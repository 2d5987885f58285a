"""What kubelets write of the pods they run, without the time that containers take.

A restart in place is five statuses, as live-cluster.md §2 saw them: three until the agent runs again, two once it
lets the trainer start. A pod that goes is one status and the DELETE without grace; a new one is four statuses. Before
each PATCH goes a GET of the pod, as the real status manager does. One client and one watch stand for all kubelets.

Knows nothing of gangs, or of why a pod restarts.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from fleetctl.gang.pods import AGENT, LIFE
from tests.conformance.realserver import RealServer
from tests.scale.client import PROTOBUF, STRATEGIC, Client, Object

AT_ONCE = 64


class Told(NamedTuple):
    """One status, as far as it differs from others."""

    phase: str
    agent: str
    trainer: str
    restarting: str = ""
    """Of the condition AllContainersRestarting; empty: not told."""
    anew: bool = True
    """Whether restartCount counts this restart already."""


RUNNING = Told("Running", "ready", "ready")
STOPS_IN_PLACE = (
    Told("Running", "terminated Error 88", "running", restarting="True", anew=False),
    Told("Running", "waiting RestartingAllContainers", "waiting RestartingAllContainers", restarting="False"),
    Told("Pending", "running", "waiting PodInitializing", restarting="False"),
)
STARTS_IN_PLACE = (
    Told("Running", "ready", "waiting PodInitializing", restarting="False"),
    Told("Running", "ready", "ready", restarting="False"),
)
ENDS = (Told("Failed", "terminated Error 137", "terminated Error 143"),)
STARTS_ANEW = (
    Told("Pending", "waiting PodInitializing", "waiting PodInitializing"),
    Told("Pending", "running", "waiting PodInitializing"),
    Told("Running", "ready", "waiting PodInitializing"),
    RUNNING,
)


class _Meta(msgspec.Struct, rename="camel", frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str = ""


class _Spec(msgspec.Struct, rename="camel", frozen=True):
    node_name: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: _Pod


class _List(msgspec.Struct, frozen=True):
    metadata: _Meta
    items: list[_Pod]


class Kubelets:
    """Those of all pods at `path`. What `spawn` starts fails with whoever gave it."""

    def __init__(self, client: Client, path: str, spawn: Callable[..., object]) -> None:
        self._client = client
        self._path = path
        self._spawn = spawn
        self._restarts: dict[str, int] = {}
        """By uid."""
        self._uids: dict[str, str] = {}
        self._ending: set[str] = set()

    async def follow(self) -> None:
        """Starts what is bound and ends what is deleted, from now on, as the watch tells it; until cancelled."""
        await self.look()
        self._spawn(self._follow())

    async def look(self) -> None:
        """Takes over the pods that are there."""
        listed = msgspec.json.decode(await self._client.send("GET", self._path), type=_List)
        self._since = listed.metadata.resource_version
        for pod in listed.items:
            self._uids[pod.metadata.name] = pod.metadata.uid
            self._restarts[pod.metadata.uid] = 0

    async def stop_in_place(self, name: str) -> None:
        """All containers of the pod end; its agent runs again."""
        self._restarts[self._uids[name]] += 1
        await self._tell(name, STOPS_IN_PLACE)

    async def start_in_place(self, name: str) -> None:
        """The agent has let the trainer start."""
        await self._tell(name, STARTS_IN_PLACE)

    async def restart_in_place(self, name: str) -> None:
        """Both, without a barrier in between."""
        await self.stop_in_place(name)
        await self.start_in_place(name)

    async def _follow(self) -> None:
        decode = msgspec.json.Decoder(_Event).decode
        async for line in self._client.watch(self._path, self._since):
            event = decode(line)
            meta = event.object.metadata
            if event.type == "DELETED":
                continue
            if meta.deletion_timestamp:
                if meta.uid not in self._ending and meta.uid in self._restarts:
                    self._ending.add(meta.uid)
                    self._spawn(self._end(meta.name, meta.uid))
            elif event.object.spec.node_name and meta.uid not in self._restarts:
                self._restarts[meta.uid] = 0
                self._uids[meta.name] = meta.uid
                self._spawn(self._tell(meta.name, STARTS_ANEW))

    async def _end(self, name: str, uid: str) -> None:
        await self._tell(name, ENDS)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self._client.send("DELETE", f"{self._path}/{name}", options, accept=PROTOBUF)

    async def _tell(self, name: str, story: tuple[Told, ...]) -> None:
        uid = self._uids[name]
        for told in story:
            body = status(uid, told, self._restarts[uid])
            await self._client.send("GET", f"{self._path}/{name}", accept=PROTOBUF)
            path = f"{self._path}/{name}/status"
            await self._client.send("PATCH", path, body, content_type=STRATEGIC, accept=PROTOBUF)


def kubelets_client(server: RealServer) -> Client:
    return Client(server, "kubelet", AT_ONCE)


def status(uid: str, told: Told, restarts: int) -> Object:
    """The PATCH that a kubelet sends: the conditions that move, and all container statuses."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = "True" if told.trainer == "ready" else "False"
    conditions = [
        {"type": "PodReadyToStartContainers", "status": "True"},
        {"type": "Initialized", "status": "True" if told.agent == "ready" else "False"},
        {"type": "Ready", "status": ready},
        {"type": "ContainersReady", "status": ready},
    ]
    if told.restarting:
        conditions.append({"type": "AllContainersRestarting", "status": told.restarting})
    count = restarts if told.anew else restarts - 1
    return {
        "metadata": {"uid": uid},
        "status": {
            "$setElementOrder/conditions": [{"type": c["type"]} for c in conditions] + [{"type": "PodScheduled"}],
            "conditions": [{**c, "lastProbeTime": None, "lastTransitionTime": stamp} for c in conditions],
            "phase": told.phase,
            "startTime": stamp,
            "hostIP": "10.0.0.7",
            "hostIPs": [{"ip": "10.0.0.7"}],
            "podIP": "10.1.2.3",
            "podIPs": [{"ip": "10.1.2.3"}],
            "initContainerStatuses": [
                _container(LIFE, "terminated Completed 0", count, stamp),
                _container(AGENT, told.agent, count, stamp),
            ],
            "containerStatuses": [_container("trainer", told.trainer, count, stamp)],
        },
    }


def _container(name: str, said: str, restarts: int, stamp: str) -> Object:
    digest = "0123456789abcdef" * 4
    out: Object = {
        "name": name,
        "image": f"registry.example.com/team/{name}@sha256:{digest}",
        "imageID": f"registry.example.com/team/{name}@sha256:{digest}",
        "restartCount": restarts,
        "ready": said == "ready",
        "started": said == "ready",
        "state": _state(said, stamp),
        "lastState": {},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "allocatedResources": {"cpu": "1", "memory": "1Gi"},
        "user": {"linux": {"uid": 65532, "gid": 65532, "supplementalGroups": [65532]}},
        "volumeMounts": [
            {
                "name": "fleetctl-shared",
                "mountPath": "/fleetctl/shared",
                "readOnly": True,
                "recursiveReadOnly": "Disabled",
            },
            {"name": "fleetctl-progress", "mountPath": "/fleetctl/progress"},
        ],
    }
    if said in ("ready", "running"):
        out["containerID"] = f"containerd://{digest}"
    if restarts:
        out["lastState"] = {"terminated": _ended("RestartingAllContainers", 137, stamp)}
    return out


def _state(said: str, stamp: str) -> Object:
    match said.split():
        case ["waiting", reason]:
            return {"waiting": {"reason": reason}}
        case ["terminated", reason, code]:
            return {"terminated": _ended(reason, int(code), stamp)}
        case _:
            return {"running": {"startedAt": stamp}}


def _ended(reason: str, code: int, stamp: str) -> Object:
    digest = "0123456789abcdef" * 4
    times = {"startedAt": stamp, "finishedAt": stamp}
    return {"reason": reason, "exitCode": code, "containerID": f"containerd://{digest}", **times}
