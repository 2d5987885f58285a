"""A whole cluster with a gang of four ranks on two of its four nodes, and the words to speak of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fleetctl.sim.containers import LocalPod
from fleetctl.sim.journal import Event, Faulted, Object, Restarting, TrainerEnded, TrainerStarted, Wrote
from fleetctl.sim.kubelet import Kubelet
from fleetctl.sim.world import World

NS = "default"
GANG = (NS, "g")
RANKS = 4


PATIENT = {"restarts": 1000, "withinHours": 24, "withoutProgress": 1000}


def gang_body(ranks: int = RANKS, **spec: Any) -> Object:
    container = {"name": "trainer", "image": "trainer:sim", "command": ["train"]}
    group = {"name": "worker", "size": ranks, "template": {"spec": {"containers": [container]}}}
    return {
        "apiVersion": "fleetctl.dev/v1alpha1",
        "kind": "Gang",
        "metadata": {"name": GANG[1], "namespace": NS},
        "spec": {"groups": [group], "recovery": {"budgets": {"application": PATIENT}}, **spec},
    }


def spare_body(name: str = "spare", node: str = "", **spec: Any) -> Object:
    """As the controller makes it: two containers that wait; on that node, or wherever the scheduler puts it."""
    labels = {"fleetctl.dev/gang": GANG[1], "fleetctl.dev/role": "spare"}
    containers = [{"name": "trainer", "image": "trainer:sim"}, {"name": "fleetctl-hold", "image": "agent:sim"}]
    body = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "containers": containers, **spec}
    if node:
        body["nodeName"] = node
    return {"metadata": {"name": name, "namespace": NS, "labels": labels}, "spec": body}


class SmallWorld(World):
    """Ranks 0 and 1 are on node-0, ranks 2 and 3 on node-1; node-2 and node-3 are empty."""

    def __init__(self, seed: int = 1, **parts: Any) -> None:
        super().__init__(seed, **{"nodes": 4, "ranks_per_node": 2, **parts})
        self.events: list[Event] = []
        self.journal.listeners.append(self.events.append)

    def play(self, story: Callable[[], Awaitable[None]], *, gang: bool = True) -> None:
        """The story, from the moment at which all ranks run; what goes wrong in the world itself fails the test."""

        async def whole() -> None:
            await self.begin()
            if gang:
                self.create_gang(gang_body())
                await self.until(lambda: self.running() == {0, 1, 2, 3}, within_s=60.0)
            await story()

        try:
            self.loop.run_until_complete(whole())
            assert self.loop.failures == []
            assert self.loop.lost_errors() == []
        finally:
            self.end()

    async def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Looks again and again; an AssertionError if it takes too long."""
        end = self.now() + within_s
        while not condition():
            assert self.now() < end, f"it did not come to that within {within_s} s"
            await asyncio.sleep(0.01)

    # What really runs

    def pod(self, rank: int) -> LocalPod:
        found = self.local_pod(GANG, rank)
        assert found is not None
        return found[1]

    def kubelet(self, rank: int) -> Kubelet:
        found = self.local_pod(GANG, rank)
        assert found is not None
        return found[0]

    def running(self) -> set[int]:
        """Ranks whose trainer runs, whatever the API server says."""
        return {pod.rank for _, pod in self.local_pods(GANG) if pod.trains}

    def place(self, rank: int) -> str:
        return self.kubelet(rank).name

    # What the API server knows

    def name(self, rank: int) -> str:
        return f"g-worker-{rank}"

    def body(self, rank: int) -> Object | None:
        return self.api.get("pods", NS, self.name(rank))

    def there(self, rank: int) -> Object:
        body = self.body(rank)
        assert body is not None
        return body

    def ready(self, node: str) -> str:
        there = self.api.get("nodes", "", node)
        assert there is not None
        return next(str(c["status"]) for c in there["status"]["conditions"] if c["type"] == "Ready")

    # What happened

    def since(self, at: float) -> list[Event]:
        return [event for event in self.events if event.at >= at]

    def wrote(self, plural: str = "pods", name: str = "", at: float = 0.0) -> list[Wrote]:
        return [
            e for e in self.since(at) if isinstance(e, Wrote) and e.plural == plural and (not name or e.name == name)
        ]

    def statuses(self, rank: int, at: float = 0.0) -> list[Object]:
        """Of its pod, each that was posted."""
        posted = [e.after for e in self.wrote(name=self.name(rank), at=at) if e.actor.startswith("kubelet/")]
        return [body["status"] for body in posted if body is not None]

    def started(self, at: float = 0.0, *ranks: int) -> list[TrainerStarted]:
        return [e for e in self.since(at) if isinstance(e, TrainerStarted) and (not ranks or e.rank in ranks)]

    def ended(self, at: float = 0.0, *ranks: int) -> list[TrainerEnded]:
        return [e for e in self.since(at) if isinstance(e, TrainerEnded) and (not ranks or e.rank in ranks)]

    def restarting(self, at: float = 0.0, *ranks: int) -> list[Restarting]:
        return [e for e in self.since(at) if isinstance(e, Restarting) and (not ranks or e.rank in ranks)]

    def faults(self) -> list[Faulted]:
        return [event for event in self.events if isinstance(event, Faulted)]


def restarting(status: Object) -> str:
    """AllContainersRestarting, empty if that is not told."""
    found = [c["status"] for c in status["conditions"] if c["type"] == "AllContainersRestarting"]
    return str(found[0]) if found else ""


def of(status: Object, container: str) -> str:
    """One container in a word or two: `running`, `waiting PodInitializing`, `terminated 88`."""
    containers = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
    state: Object = next(c["state"] for c in containers if c["name"] == container)
    kind, told = next(iter(state.items()))
    return f"{kind} {told.get('exitCode', told.get('reason', ''))}".strip()
