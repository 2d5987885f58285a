"""The simulator's cluster around a real API server: real time, real controllers, real connections of agents.

Only what differs from sim/world.py.
"""

import asyncio
import contextlib
import contextvars
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fleetctl.apiserver.controllers import ControllerProgram, ended
from fleetctl.apiserver.door import RealDoor
from fleetctl.apiserver.loop import RealtimeLoop
from fleetctl.apiserver.replica import Replica
from fleetctl.apiserver.server import Server, server
from fleetctl.apiserver.upstream import upstream
from fleetctl.controller.resources import GANGS
from fleetctl.gang import spare_pods
from fleetctl.gang.crd import definition
from fleetctl.gang.pods import AUDIENCE
from fleetctl.sim.containers import LocalPod
from fleetctl.sim.controllers import NAMESPACE, ControllerProcess
from fleetctl.sim.door import Door
from fleetctl.sim.processes import Processes
from fleetctl.sim.world import World

ACTORS = ("kubelet", "scheduler", "node-lifecycle", "pod-gc", "garbage-collector")
TOKEN_LASTS_S = 7200


class ApiServerWorld(World):
    """As World, whose arguments it takes. `folder` keeps logs and what the programs need."""

    door: RealDoor
    api: Replica
    controllers: list[ControllerProgram]  # type: ignore[assignment]  # nobody puts another kind into it

    def __init__(self, seed: int, folder: Path, **how: Any) -> None:
        self.folder = folder
        self.server: Server | None = None
        self._stack = contextlib.AsyncExitStack()
        self._service_tokens: dict[str, str] = {}
        self._tls: tuple[str, ssl.SSLContext] | None = None
        super().__init__(seed, **how)

    def _new_loop(self) -> Processes:
        return RealtimeLoop()

    def _new_api(self) -> Replica:
        return Replica(self.journal, self.clock, self.now)

    def _new_controllers(self, names: Sequence[str]) -> tuple[Door, list[ControllerProcess]]:
        door = RealDoor(self.api, self.journal, self.now, self.stream("api"))
        programs = [ControllerProgram(self, name, self.folder) for name in names]
        door.programs = {program.token: program for program in programs}
        return door, list(programs)

    async def begin(self) -> None:
        """The API server first: second 0 is when it is ready."""
        enter = self._stack.enter_async_context
        self.server = await enter(server(self.folder, [*ACTORS, *(c.name for c in self.controllers)]))
        self.api.upstream = await enter(upstream(self.server))
        await self._install()
        await self.door.listen()
        self._stack.callback(self.door.close)
        await enter(ended(self.controllers))
        self.origin, self.epoch = self.loop.time(), datetime.now(UTC)
        await super().begin()
        await self.api.settled()

    async def _install(self) -> None:
        """What kubectl apply and Kubernetes' own controllers would have made."""
        await self._make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition())
        await self._make("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
        gives_way = {"metadata": {"name": spare_pods.PRIORITY}, "value": -1, "preemptionPolicy": "Never"}
        await self._make("/apis/scheduling.k8s.io/v1/priorityclasses", gives_way)
        account = {"kind": "ServiceAccount", "metadata": {"name": "default"}}
        await self._make("/api/v1/namespaces/default/serviceaccounts", account)
        await self._until_there(GANGS.collection())
        await self._until_there("/api/v1/namespaces/kube-node-lease")

    async def _make(self, path: str, body: Any) -> None:
        assert self.api.upstream is not None  # noqa: S101
        while True:
            answer = await self.api.upstream.patiently("somebody", "POST", path, body=msgspec.json.encode(body))
            if answer.status in (201, 409):
                return
            await asyncio.sleep(0.2)  # its namespace is being made

    async def _until_there(self, path: str) -> None:
        assert self.api.upstream is not None  # noqa: S101
        while (await self.api.upstream.patiently("somebody", "GET", path)).status != 200:  # noqa: ASYNC110 - it does not tell
            await asyncio.sleep(0.1)

    # What the kubelets mount

    async def mount(self, pod: LocalPod) -> None:
        """A token of the API server's for its agent. No kubelet's process asks for it: connections are the world's."""
        await asyncio.get_running_loop().create_task(self._fetch_token(pod), context=contextvars.Context())

    async def _fetch_token(self, pod: LocalPod) -> None:
        assert self.api.upstream is not None  # noqa: S101
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.key[1], "uid": pod.uid}
        asked = {"spec": {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_LASTS_S, "boundObjectRef": bound}}
        account = pod.body["spec"].get("serviceAccountName", "default")
        path = f"/api/v1/namespaces/{pod.key[0]}/serviceaccounts/{account}/token"
        answer = await self.api.upstream.patiently("kubelet", "POST", path, body=msgspec.json.encode(asked))
        if answer.status < 300:  # else the pod is gone already
            self._service_tokens[pod.uid] = msgspec.json.decode(answer.body)["status"]["token"]

    def token(self, pod: LocalPod) -> str:
        return self._service_tokens.get(pod.uid, "")

    def agents_tls(self) -> ssl.SSLContext:
        """As agents trust the rendezvous: by the ConfigMap of a gang. Raises LookupError while there is none."""
        bundles = [c["data"]["ca.crt"] for c in self.api.all("configmaps") if "ca.crt" in (c.get("data") or {})]
        if not bundles:
            raise LookupError("no gang has the authority's certificate yet")
        if self._tls is None or self._tls[0] != bundles[-1]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=bundles[-1])
            self._tls = bundles[-1], context
        return self._tls[1]

    def free_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
            return port

    def end(self) -> None:
        self.journal.listeners.clear()
        self.api.on_change.clear()
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.wind_down()
        self.network.end()
