"""A simulated API server with a front door, and the words to speak of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import PODS, Pod
from fleetctl.kube.reflector import Reflector
from fleetctl.sim.answers import Answer
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Event, Journal, Object, Wrote
from fleetctl.sim.kinds import KINDS
from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.network import Network
from fleetctl.sim.transport import FrontDoor
from fleetctl.sim.watch import Watch

R = TypeVar("R")
NS = "default"
JSON = "application/json"
MERGE = "application/merge-patch+json"


class VirtualClock:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self._loop.time() - BEGIN)


class ApiWorld:
    def __init__(
        self,
        seed: int = 1,
        *,
        way: str = "fast",
        history: int = 20_000,
        latency_s: tuple[float, float] = (0.001, 0.005),
    ) -> None:
        self.loop = VirtualLoop()
        self.network = self.loop.network = Network(self.loop, random.Random(seed))
        self.journal = Journal()
        self.events: list[Event] = []
        self.journal.listeners.append(self.events.append)
        self.clock = VirtualClock(self.loop)
        self.api = ApiServer(self.journal, self.clock, self.now, history=history)
        self.door = FrontDoor(
            self.api, random.Random(seed + 1), latency_s, lambda host: self.network.reaches(host, "api")
        )
        self._seed = seed
        self.way = way
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def now(self) -> float:
        return self.loop.time() - BEGIN

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """In virtual time; what was left running is cancelled at the end."""

        try:
            return self.loop.run_until_complete(work)
        finally:
            self.loop.wind_down()
            for close in self._closers:
                self.loop.run_until_complete(close())
            assert self.loop.failures == []

    async def client(self, actor: str = "controller/a") -> KubeClient:
        rng = random.Random(self._seed + 2)
        if self.way == "fast":
            return self.door.client(actor, rng)
        client, close = await self.door.http_client(actor, rng)
        self._closers.append(close)
        return client

    # What the cluster does

    def create(self, plural: str = "pods", name: str = "p", **parts: Any) -> Object:
        """`labels` and `finalizers` belong to the metadata, the rest to the object."""
        meta: Object = {"name": name, **{k: parts.pop(k) for k in ("labels", "finalizers") if k in parts}}
        if KINDS[plural].resource.namespaced:
            meta["namespace"] = NS
        return self.api.create("somebody", plural, {"metadata": meta, **parts})

    def bound(self, name: str = "p", **parts: Any) -> Object:
        """A pod that runs somewhere."""
        spec = {"nodeName": "node-1", **parts.pop("spec", {})}
        return self.create("pods", name, spec=spec, **parts)

    def phase(self, phase: str, name: str = "p") -> None:
        self.api.update(
            "kubelet/node-1", "pods", NS, name, lambda b: {**b, "status": {"phase": phase}}, subresource="status"
        )

    def label(self, name: str = "p", plural: str = "pods", **labels: str) -> None:
        self.api.update("somebody", plural, NS, name, lambda b: {**b, "metadata": {**b["metadata"], "labels": labels}})

    def pod(self, name: str = "p") -> Object | None:
        return self.api.get("pods", NS, name)

    @property
    def wrote(self) -> list[Wrote]:
        return [event for event in self.events if isinstance(event, Wrote)]

    def open_watches(self) -> int:
        return sum(len(watchers) for watchers in self.api._watchers.values())

    # What is asked over HTTP

    def ask(self, method: str, path: str, body: Any = None, content_type: str = JSON, **query: str) -> tuple[int, Any]:
        data = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        answer = self.api.handle("controller/a", method, path, query, content_type, data)
        assert isinstance(answer, Answer)
        return answer.status, msgspec.json.decode(answer.body)

    def watch(self, path: str = "/api/v1/pods", **query: str) -> list[str]:
        """The story that a watch tells, still being written: `ADDED p@7`."""
        watch = self.api.handle("controller/a", "GET", path, {"watch": "true", **query}, "", None)
        assert isinstance(watch, Watch)
        story: list[str] = []

        def tell(line: Any) -> None:
            told = msgspec.json.decode(line.data)
            meta = told["object"].get("metadata", {})
            story.append(f"{told['type']} {meta.get('name', told['object'].get('code'))}@{meta.get('resourceVersion')}")

        watch.open(tell)
        return story


class Follower:
    """The production reflector on pods, and what it told: `+p` new, `~p Running` changed, `-p` gone."""

    def __init__(self, world: ApiWorld, client: KubeClient, *, selector: str = "", silence: float = 130.0) -> None:
        self._world = world
        self.story: list[str] = []
        self.times: list[float] = []
        self.reflector = Reflector(
            client, PODS, self._changed, label_selector=selector, silence=silence, rng=random.Random(5)
        )
        self.task = asyncio.create_task(self.reflector.run())

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        self.times.append(self._world.now())
        if new is None:
            assert old is not None
            self.story.append(f"-{old.metadata.name}")
        else:
            self.story.append(f"+{new.metadata.name}" if old is None else f"~{new.metadata.name} {new.status.phase}")

    def agrees(self) -> bool:
        """Whether it knows exactly what the server has."""
        known = {name: pod.metadata.resource_version for (_, name), pod in self.reflector.items.items()}
        there = {b["metadata"]["name"]: b["metadata"]["resourceVersion"] for b in self._world.api.all("pods")}
        return known == there
