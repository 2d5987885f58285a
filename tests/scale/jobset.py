"""JobSet's restart in place, spoken to a real API server as jobset.md §2 describes it: its controller and N agents.

An agent is one TLS connection: discovery, LIST of its JobSet by name, one apply of its pod's annotation, and the WATCH,
which it begins last so that all goes over one connection, as HTTP/2 would do it. The watch begins at the LIST's
version, so nothing is missed. The controller lists and watches pods and the JobSet, and writes its status.

Left out, all in JobSet's favour: the Job controller and its Job statuses, webhooks, RBAC, JWTs (static tokens are
cheaper), and the second WATCH request of an agent that reconnects. Its own time to think is not counted.
"""

import asyncio
import time
import urllib.error
from collections import Counter
from collections.abc import Callable

import msgspec

from tests.conformance.realserver import STARTS_WITHIN_S, RealServer
from tests.scale.client import APPLY, PROTOBUF, Client, Object
from tests.scale.fleet import Fleet, all_of
from tests.scale.kubelets import Kubelets

GROUP = "jobset.x-k8s.io"
ROOT = f"/apis/{GROUP}/v1alpha2"
ATTEMPT = "jobset.sigs.k8s.io/in-place-restart-attempt"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
"""controller-runtime asks for /api and /apis like this, once per process."""
READY_FLIPS = 2
"""PUTs of the status because its one Job is no longer ready, and ready again."""

_FREE: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_CRD: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": f"jobsets.{GROUP}",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/jobset"},
    },
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "jobsets", "singular": "jobset", "kind": "JobSet"},
        "versions": [
            {
                "name": "v1alpha2",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _FREE, "status": _FREE}}},
            }
        ],
    },
}


class _Status(msgspec.Struct, rename="camel", frozen=True):
    current_in_place_restart_attempt: int | None = None
    previous_in_place_restart_attempt: int | None = None


class _Meta(msgspec.Struct, rename="camel", frozen=True):
    name: str = ""
    resource_version: str = ""
    annotations: dict[str, str] = {}


class _JobSet(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


class _JobSets(msgspec.Struct, frozen=True):
    metadata: _Meta
    items: list[_JobSet]


class _Told(msgspec.Struct, frozen=True):
    object: _JobSet


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta


class _PodTold(msgspec.Struct, frozen=True):
    type: str
    object: _Pod


class _Pods(msgspec.Struct, frozen=True):
    metadata: _Meta
    items: list[_Pod]


def install(server: RealServer) -> None:
    """The server knows JobSets. (It works on its OpenAPI documents for seconds afterwards.)"""
    server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _CRD)
    end = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            server.ask("GET", f"{ROOT}/jobsets")
            return
        except urllib.error.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


async def create(client: Client, fleet: Fleet) -> Object:
    """A JobSet with the pod template of the fleet's ranks."""
    size = len(fleet.gang.slots)
    job = {"parallelism": size, "completions": size, "backoffLimit": 2**31 - 1}
    template = {"spec": {**job, "template": {"spec": fleet.pod(0, 1)["spec"]}}}
    spec = {"replicatedJobs": [{"name": "worker", "replicas": 1, "template": template}]}
    body = {"apiVersion": f"{GROUP}/v1alpha2", "kind": "JobSet", "metadata": {"name": "llm"}, "spec": spec}
    return await client.ask("POST", f"{ROOT}/namespaces/{fleet.gang.namespace}/jobsets", body)


class Controller:
    """JobSet's, as far as restarts in place go: the last step of its every reconciliation."""

    def __init__(self, client: Client, fleet: Fleet, jobset: Object) -> None:
        self._client = client
        self._fleet = fleet
        self._jobset = jobset
        self._path = f"{ROOT}/namespaces/{fleet.gang.namespace}/jobsets"
        self._attempts: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self.ready = 1

    async def run(self, spawn: Callable[..., object]) -> None:
        """Its caches are filled when this returns."""
        pods = msgspec.json.decode(await self._client.send("GET", self._fleet.path), type=_Pods)
        for pod in pods.items:
            self._learn(pod)
        spawn(self._watch_pods(pods.metadata.resource_version))
        spawn(self._watch_jobset())
        spawn(self._reconcile())

    async def flip(self, *, ready: int) -> None:
        """So many of its Jobs are ready: a PUT of its own."""
        async with self._writing:
            self.ready = ready
            await self._put()

    async def _watch_pods(self, since: str) -> None:
        decode = msgspec.json.Decoder(_PodTold).decode
        async for line in self._client.watch(self._fleet.path, since):
            self._learn(decode(line).object)

    async def _watch_jobset(self) -> None:
        listed = msgspec.json.decode(await self._client.send("GET", self._path), type=_JobSets)
        async for _ in self._client.watch(self._path, listed.metadata.resource_version):
            pass

    def _learn(self, pod: _Pod) -> None:
        if ATTEMPT in pod.metadata.annotations:
            self._attempts[pod.metadata.name] = int(pod.metadata.annotations[ATTEMPT])
            self._changed.set()

    async def _reconcile(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            async with self._writing:
                status, attempts = self._status(), set(self._attempts.values())
                newest = max(attempts)
                if len(self._attempts) == len(self._fleet.uids) and len(attempts) == 1:
                    if status.get("currentInPlaceRestartAttempt") != newest:
                        status["currentInPlaceRestartAttempt"] = newest
                        await self._put()
                elif newest > 0 and status.get("previousInPlaceRestartAttempt", -1) < newest - 1:
                    status["previousInPlaceRestartAttempt"] = newest - 1
                    await self._put()

    def _status(self) -> Object:
        status: Object = self._jobset.setdefault("status", {})
        return status

    async def _put(self) -> None:
        counts = {"name": "worker", "ready": self.ready, "succeeded": 0, "failed": 0, "active": 1, "suspended": 0}
        self._jobset["status"] = {**self._status(), "restarts": 0, "replicatedJobsStatus": [counts]}
        self._jobset = await self._client.ask("PUT", f"{self._path}/llm/status", self._jobset)


class Agents:
    """One for each pod of the fleet. With `kubelets`, a restart is told as kubelets do; without, it takes no time."""

    def __init__(self, server: RealServer, fleet: Fleet, kubelets: Kubelets | None) -> None:
        self._server = server
        self._fleet = fleet
        self._kubelets = kubelets
        self._path = f"{ROOT}/namespaces/{fleet.gang.namespace}/jobsets"
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._running: Counter[int] = Counter()
        self._more_run = asyncio.Condition()

    async def run(self) -> None:
        """All of them, until cancelled."""
        await all_of(self._run(name) for name in self._fleet.uids)

    def fault(self, name: str) -> None:
        """The trainer exits, and takes the agent along."""
        self._lives[name].cancel()

    async def all_run(self, attempt: int) -> None:
        """Until the barrier of `attempt` is lifted everywhere (and kubelets have told that trainers run)."""
        async with self._more_run:
            await self._more_run.wait_for(lambda: self._running[attempt] == len(self._fleet.uids))

    async def _run(self, name: str) -> None:
        while True:
            life = self._lives[name] = asyncio.create_task(self._live(name))
            try:
                await asyncio.wait([life])
            finally:
                life.cancel()
            if not life.cancelled():
                life.result()
            if self._kubelets:
                await self._kubelets.stop_in_place(name)

    async def _live(self, name: str) -> None:
        """One process of the agent, until it exits to have its pod restarted."""
        async with Client(self._server, "agent", connections=1) as client, asyncio.TaskGroup() as group:
            for path in ("/api", "/apis"):
                await client.send("GET", path, accept=DISCOVERY)
            mine = {"fieldSelector": "metadata.name=llm"}
            cached = {**mine, "resourceVersion": "0"}  # as an informer asks first
            listed = msgspec.json.decode(await client.send("GET", self._path, query=cached), type=_JobSets)
            status = listed.items[0].status
            current = status.current_in_place_restart_attempt
            attempt = 0 if current is None else current + 1
            await self._claim(client, name, attempt)
            lifted = False
            watch = client.watch(self._path, listed.metadata.resource_version, mine)
            decode = msgspec.json.Decoder(_Told).decode
            while True:
                previous = status.previous_in_place_restart_attempt
                if previous is not None and attempt <= previous:
                    await watch.aclose()
                    return
                if status.current_in_place_restart_attempt == attempt and not lifted:
                    lifted = True
                    group.create_task(self._lift(name, attempt))
                status = decode(await anext(watch)).object.status

    async def _claim(self, client: Client, name: str, attempt: int) -> None:
        meta = {"name": name, "namespace": self._fleet.gang.namespace, "annotations": {ATTEMPT: str(attempt)}}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}
        query = {"fieldManager": "in-place-restart-agent", "force": "true"}
        path = f"{self._fleet.path}/{name}"
        await client.send("PATCH", path, body, content_type=APPLY, accept=PROTOBUF, query=query)

    async def _lift(self, name: str, attempt: int) -> None:
        if self._kubelets:
            await self._kubelets.start_in_place(name)
        async with self._more_run:
            self._running[attempt] += 1
            self._more_run.notify_all()
