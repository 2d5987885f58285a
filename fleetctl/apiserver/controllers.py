"""Controllers as programs of this machine: started, killed, stopped and continued by their pids.

Each reaches the API server through the door, and is reached by agents through a relay: a listener in the simulated
network that carries each agent's bytes over a TLS connection of its own, so that darkness, frozen machines and lost
power befall real connections. Knows nothing of what a controller does.
"""

import asyncio
import contextlib
import contextvars
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from fleetctl.apiserver.server import die_with_parent, token_of
from fleetctl.rendezvous.messages import LINE_LIMIT
from fleetctl.sim.controllers import NAMESPACE, PORT, ControllerProcess, VirtualClock
from fleetctl.sim.processes import Process

if TYPE_CHECKING:
    from fleetctl.apiserver.world import ApiServerWorld

SERVER_NAME = f"fleetctl-controller.{NAMESPACE}"
LOOKS_EVERY_S = 0.5
STOPS_WITHIN_S = 10.0
CHUNK = 2**16
DIALS_AT_ONCE = 32
"""A thousand TLS handshakes at once would keep this one process from everything else, controllers' Leases too."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ControllerProgram(ControllerProcess):
    """One replica; each start is a process of its own, with an identity of its own. Its log is in `folder`."""

    def __init__(self, world: "ApiServerWorld", name: str, folder: Path) -> None:
        self.name = name
        self.clock = VirtualClock(world)
        self.process = Process(name, "control-plane", name)
        self.identity = ""
        self.port = self._health_port = 0
        self._program: subprocess.Popen[bytes] | None = None
        self._world: ApiServerWorld = world
        self._folder = folder
        self._starts = 0
        self._ready = False
        self._carried: set[asyncio.StreamWriter] = set()
        self._dials = asyncio.Semaphore(DIALS_AT_ONCE)

    @property
    def actor(self) -> str:
        """What the journal calls it."""
        return f"controller/{self.identity}"

    @property
    def token(self) -> str:
        return token_of(self.name)

    @property
    def token_file(self) -> Path:
        """Where the program finds its token; it may be replaced by another that the door takes (RealDoor.programs)."""
        return self._folder / f"{self.name}.token"

    @property
    def pid(self) -> int:
        """Raises LookupError while it does not run."""
        if self._program is None:
            raise LookupError(f"{self.name} does not run")
        return self._program.pid

    @property
    def log(self) -> Path:
        return self._folder / f"{self.name}.log"

    @property
    def ready(self) -> bool:
        return self._ready and not self.process.killed and not self.process.frozen

    def start(self) -> None:
        if self._starts and not self.process.killed:
            return
        self._starts += 1
        self.identity = f"{self.name}_{self._starts}"
        self.process = Process(self.identity, "control-plane", self.identity)
        self._dials = asyncio.Semaphore(DIALS_AT_ONCE)
        self._ready = False
        self.port, health_port = self._world.free_port(), self._world.free_port()
        self._health_port = health_port
        kubeconfig = self._folder / f"{self.name}.kubeconfig"
        self.token_file.write_text(self.token)
        kubeconfig.write_text(_kubeconfig(self._world.door.port, self.token_file))
        command = [
            *(sys.executable, "-m", "fleetctl", "controller"),
            *("--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--identity", self.identity),
            *("--direct", f"{self.process.address}:{PORT}"),
            *("--agent-image", "fleetctl:sim", "--rendezvous", f"{SERVER_NAME}:{PORT}"),
            *("--listen-port", str(self.port), "--health-port", str(health_port)),
        ]
        with self.log.open("ab") as log:
            self._program = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent
            )
        self._tell("starts")
        loop = self._world.loop
        loop.spawn(None, self._probe(self.process, health_port))
        loop.spawn(self.process, self._relay())

    async def _probe(self, process: Process, health_port: int) -> None:
        """Is it ready? As long as this start of it lasts."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session:
            while not process.killed:
                ready = False
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with session.get(f"http://127.0.0.1:{health_port}/readyz") as response:
                        ready = response.status == 200
                if process is self.process:
                    self._ready = ready
                await asyncio.sleep(LOOKS_EVERY_S)

    async def agents(self) -> int:
        """How many agents it has a stream of; 0 while it does not answer."""
        return int(await self.metric("fleetctl_agents_connected"))

    async def metric(self, name: str) -> float:
        """One of its own metrics, without labels; 0 while it does not answer."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session,
                session.get(f"http://127.0.0.1:{self._health_port}/metrics") as response,
            ):
                found = re.search(rf"^{name} (\S+)$", await response.text(), re.MULTILINE)
                return float(found[1]) if found else 0.0
        return 0.0

    # What befalls it

    def crash(self) -> None:
        if not self.process.killed:
            self._signal(signal.SIGKILL)
            self._end()
            self._tell("crashes")

    async def stop(self) -> None:
        if not self.process.killed:
            self._signal(signal.SIGTERM)
            async with asyncio.timeout(STOPS_WITHIN_S):
                while self._program is not None and self._program.poll() is None:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            self._end()
            self._tell("stops")

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        super().freeze()

    def thaw(self) -> None:
        if not self.process.killed:
            self._signal(signal.SIGCONT)
        super().thaw()

    def _signal(self, number: int) -> None:
        if self._program is not None and self._program.poll() is None:
            os.kill(self._program.pid, number)

    def _end(self) -> None:
        if self._program is not None:
            self._program.wait()
        self._world.loop.kill(self.process)
        self._world.network.died(self.process)
        self._world.door.drop(self.actor)
        for writer in self._carried:
            writer.transport.abort()
        self._carried.clear()

    # The relay

    async def _relay(self) -> None:
        asyncio.sslproto.SSLProtocol.max_size = 16384  # as real agents do
        await asyncio.start_server(self._carry, self.process.address, PORT, limit=LINE_LIMIT)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An agent's connection: its bytes go over one of ours, which nobody's process makes."""
        loop, dials = asyncio.get_running_loop(), self._dials
        try:
            hello = await reader.read(CHUNK)
            async with dials:
                if reader.at_eof():  # it has given up: a handshake for nobody would keep the others waiting
                    raise EOFError
                far_reader, far_writer = await loop.create_task(self._dial(), context=contextvars.Context())
        except (EOFError, OSError, ssl.SSLError, LookupError):
            writer.close()
            return
        self._carried.add(far_writer)
        far_writer.write(hello)
        there = loop.create_task(_pump(reader, far_writer))
        back = loop.create_task(_pump(far_reader, writer))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        self._carried.discard(far_writer)
        far_writer.transport.abort()
        writer.close()

    async def _dial(self) -> Streams:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, limit=LINE_LIMIT, ssl=self._world.agents_tls(), server_hostname=SERVER_NAME
        )


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until there is no more, or nobody to hear it."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)


def _kubeconfig(port: int, token: Path) -> str:
    return f"""\
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: here, context: {{cluster: here, user: here, namespace: {NAMESPACE}}}}}]
users: [{{name: here, user: {{tokenFile: "{token}"}}}}]
"""


@contextlib.asynccontextmanager
async def ended(programs: "list[ControllerProgram]") -> AsyncIterator[None]:
    """None of them runs after the block."""
    try:
        yield
    finally:
        for program in programs:
            program.thaw()
            program.crash()
