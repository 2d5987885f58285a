"""Controller processes: production's controller, wired to virtual time and to transports in memory.

Knows how such a process starts, crashes, freezes and stops; nothing of what a controller does.
"""

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fleetctl.controller.app import Connections, Controller, Settings, open_controller
from fleetctl.kube.client import KubeClient
from fleetctl.sim.journal import ProcessChanged
from fleetctl.sim.processes import Process
from fleetctl.sim.transport import FrontDoor

if TYPE_CHECKING:
    from fleetctl.sim.world import World

NAMESPACE = "fleetctl-system"
PORT = 8443
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """The time of day of one machine, `ahead_s` of the world's."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return self._world.epoch + timedelta(seconds=self._world.now() + self.ahead_s)


class ControllerProcess:
    """One replica; each start is a process of its own, with an identity of its own."""

    def __init__(self, world: "World", name: str, front: FrontDoor) -> None:
        self.name = name
        self.clock = VirtualClock(world)
        self.controller: Controller | None = None
        self.process = Process(name, "control-plane", name)
        self.identity = ""
        self._world = world
        self._front = front
        self._starts = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the Service sends agents here."""
        alive = self.controller is not None and not self.process.killed and not self.process.frozen
        return alive and self.controller is not None and self.controller.is_ready()

    def start(self) -> None:
        """Does nothing if it runs: somebody else was first."""
        if self._starts and not self.process.killed:
            return
        self._starts += 1
        self.identity = f"{self.name}_{self._starts}"
        self.process = Process(self.identity, "control-plane", self.identity)
        self._tell("starts")
        self._task = self._world.loop.spawn(self.process, self._run())

    async def _run(self) -> None:
        world, actor = self._world, f"controller/{self.identity}"
        rng = world.stream(actor)
        settings = Settings(
            namespace=NAMESPACE,
            agent_image="fleetctl:sim",
            rendezvous=f"fleetctl-controller.{NAMESPACE}:{PORT}",
            listen_port=PORT,
            health_port=0,
            identity=self.identity,
            direct=f"{self.process.address}:{PORT}",
        )
        async with contextlib.AsyncExitStack() as stack:
            connections = Connections(
                *[await self._connect(stack, name, rng) for name in (actor, f"{actor}/elector", f"{actor}/witness")]
            )
            self.controller = await open_controller(connections, self.clock, rng, NAMESPACE, settings)
            await self.controller.run()

    async def _connect(self, stack: contextlib.AsyncExitStack, name: str, rng: random.Random) -> KubeClient:
        if not self._world.over_http:
            return self._front.client(name, rng)
        client, close = await self._front.http_client(name, rng)
        stack.push_async_callback(close)
        return client

    def crash(self) -> None:
        """As by SIGKILL: nothing of it runs any more, and the kernel closes its connections."""
        if not self.process.killed:
            self._end()
            self._tell("crashes")

    def _end(self) -> None:
        self._world.loop.kill(self.process)
        self._world.network.died(self.process)
        self._world.door.drop(f"controller/{self.identity}")
        self.controller = None

    async def stop(self) -> None:
        """As by SIGTERM."""
        if self._task is not None and not self.process.killed:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._end()
            self._tell("stops")

    def freeze(self) -> None:
        self._world.loop.freeze(self.process)
        self._tell("freezes")

    def thaw(self) -> None:
        if not self.process.killed:
            self._world.loop.thaw(self.process)
            self._tell("goes on")

    def _tell(self, what: str) -> None:
        self._world.journal.tell(ProcessChanged(at=self._world.now(), process=self.identity, what=what))  # type: ignore[arg-type]
