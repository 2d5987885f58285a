"""The real agent on streams in memory: what agent/main.py does with files, TLS and signals, done with a simulated pod.

`Agent`, `Machine`, `Gate` and `Coordinator` are production's own; nothing of the protocol is here.
"""

import asyncio
import random
from collections.abc import Callable

from fleetctl.agent.coordinator import Coordinator, Stream
from fleetctl.agent.gate import Gate
from fleetctl.agent.machine import Action, Machine
from fleetctl.agent.session import Agent
from fleetctl.gang.pods import PROBE_PORT
from fleetctl.rendezvous.messages import LINE_LIMIT, Beat, Message, Ping, Prove, Release, Reset
from fleetctl.sim.containers import LocalPod
from fleetctl.sim.journal import AgentHeard, Journal
from fleetctl.sim.network import Network


class _Listening(Machine):
    """A Machine that lets the journal know what it is told."""

    tell: Callable[[Message], None]
    deaf: Callable[[], bool]

    def on_message(self, message: Message, now: float) -> list[Action]:
        if isinstance(message, Release) and self.deaf():
            raise ConnectionResetError("the stream broke as the release arrived")
        if isinstance(message, Ping | Release | Reset | Prove):
            self.tell(message)
        return super().on_message(message, now)


async def run_agent(
    pod: LocalPod,
    node: str,
    *,
    network: Network,
    journal: Journal,
    now: Callable[[], float],
    rng: random.Random,
    read_token: Callable[[], str],
    read_progress: Callable[[], Beat],
    controllers: Callable[[], list[tuple[str, int]]],
    coordinator_ip: Callable[[], str],
    deaf: Callable[[], bool],
) -> int:
    """One run of the agent's program, from its files to its exit code. Call it in the process of that agent."""
    loop = asyncio.get_running_loop()
    machine = _Listening(*pod.volume.load())
    machine.tell = lambda message: journal.tell(AgentHeard(at=now(), uid=pod.uid, node=node, message=message))
    machine.deaf = deaf
    gate = Gate("/".join(pod.key), machine.life_id)
    if machine.attempt:
        gate.open()

    async def open_stream(address: str) -> Stream:
        if address:
            host, _, port = address.rpartition(":")
            return await network.open_stream(host, int(port), LINE_LIMIT)
        ready = controllers()
        if not ready:
            raise ConnectionRefusedError("the Service has no endpoints")
        return await network.open_stream(*rng.choice(ready), LINE_LIMIT)

    async def dial_coordinator() -> Stream:
        if not (ip := coordinator_ip()):
            raise ConnectionRefusedError("the coordinator's Service has no endpoints")
        return await network.open_stream(ip, PROBE_PORT, LINE_LIMIT)

    environment = pod.environment
    agent = Agent(
        machine,
        keeper=pod.volume,
        open_gate=gate.open,
        open_stream=open_stream,
        read_token=read_token,
        boottime=loop.time,
        chance=rng.random,
        say=lambda line: None,
        coordinator=Coordinator(
            f"{pod.key[0]}/{environment['FLEETCTL_COORDINATOR_POD']}",
            dial_coordinator,
        ),
        read_progress=read_progress,
        read_hardware=lambda: pod.volume.hardware,
    )
    pod.stop_agent, pod.tell_hardware = agent.stop, agent.tell_hardware
    server = await asyncio.start_server(gate.serve, pod.ip, PROBE_PORT)
    try:
        return await agent.run()
    finally:
        server.close()
