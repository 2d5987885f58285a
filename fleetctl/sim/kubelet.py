"""A node's kubelet: runs the pods bound to it and tells the API server, late, what has become of them.

In-place restarts go as measured on Kubernetes 1.36 (research: live-cluster.md §2): the container's end is noticed,
AllContainersRestarting turns True, everything is killed within two seconds, all containers say RestartingAllContainers,
then the init containers run again and the agent holds the trainer until its gate opens. There is no back-off.

Everything here runs in the kubelet's own process, so a frozen or killed kubelet does nothing, while what it had started
goes on (containers.py). Knows nothing of gangs but the labels in the truth it tells.
"""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal

from fleetctl.gang.pods import PROBE_PORT
from fleetctl.rendezvous.messages import Hardware
from fleetctl.sim.affinity import attracts
from fleetctl.sim.agents import run_agent
from fleetctl.sim.containers import OVER, Container, LocalPod, Volume
from fleetctl.sim.journal import Object, Restarting, TrainerEnded, TrainerStarted
from fleetctl.sim.processes import CURRENT, Process

if TYPE_CHECKING:
    from fleetctl.sim.world import World

LEASES = "kube-node-lease"
RENEW_S = 10.0
KILL_S = 2.0
"""What a container may take to end when its pod restarts in place."""
NOTICES_S = (0.1, 0.9)
"""How long it takes a kubelet to see that a container has ended."""
PROBE_EVERY_S, PROBE_WITHIN_S = 1.0, 30.0
LOOKS_AT_HARDWARE_S = (0.0, 1.0)
"""How long an agent takes to see a new report: it looks once a second."""
BACK_OFF_S, LONGEST_BACK_OFF_S = 10.0, 300.0
CRASHES_AFTER_S = 1.0

Why = Literal["itself", "restart", "pod", "node"]


class Kubelet:
    """The kubelet of the node `name`, from its start until it is killed."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.process = Process(f"kubelet/{name}", name)
        self._context = contextvars.copy_context()
        self._context.run(CURRENT.set, self.process)
        self.pods: dict[str, LocalPod] = {}
        self.lag_s = 0.0
        """By how much every status is late."""
        self._world = world
        self._loop = world.loop
        self._rng = world.stream(f"kubelet/{name}")
        self._posting: set[str] = set()
        self._heard: deque[tuple[str, Object]] = deque()
        """What the API server has told, in its order, and nobody here has looked at yet."""
        self._rejected: set[str] = set()
        """Uids of pods."""
        self._exits: dict[str, asyncio.Queue[Container | None]] = {}
        """By pod, which of its containers ended; None: look, it is to go, or its gate has opened."""
        self._posted: dict[str, list[Object]] = {}
        self._volumes: dict[str, Volume] = {}
        """By pod uid, what was on its disk before the reboot."""

    # What the world tells it

    def start(self) -> None:
        self._spawn(self._renew())

    def bound(self, body: Object) -> None:
        """A pod is bound to this node, or changed, or has gone from the API server."""
        self._heard.append((body["metadata"]["uid"], body))
        self._spawn(self._notice())

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop.spawn(self.process, work)

    async def _pause(self, range_s: tuple[float, float]) -> None:
        await asyncio.sleep(self._draw(range_s))

    def _draw(self, range_s: tuple[float, float]) -> float:
        low, high = range_s
        return low + (high - low) * self._rng.random()

    async def _renew(self) -> None:
        """Every ten seconds, the Lease."""
        await self._pause((0.0, RENEW_S))
        while True:
            await self._world.api_way(self.name)
            self._world.renew_lease(self.name)
            await asyncio.sleep(RENEW_S * (1 + 0.04 * self._rng.random()))

    async def _notice(self) -> None:
        """One more word has come here: it is the oldest of those that were not heard, as a watch has them in order."""
        await self._pause(self._world.latency.kubelet)
        await self._world.api_way(self.name)
        self._look(*self._heard.popleft())

    def _look(self, uid: str, body: Object) -> None:
        """What the API server says of the pod now."""
        meta = body["metadata"]
        there = self._world.api.get("pods", meta["namespace"], meta["name"])
        gone = there is None or there["metadata"]["uid"] != uid
        pod = self.pods.get(uid)
        if pod is None:
            if not gone and there is not None and there["spec"].get("nodeName") == self.name:
                self._take_over(there)
            return
        if gone:
            pod.deleting, pod.gone, pod.grace_s = True, True, 0.0
            self._exits[uid].put_nowait(None)
        elif there is not None:
            pod.body = there
            if there["metadata"].get("deletionTimestamp") and not pod.deleting:
                pod.deleting = True
                pod.grace_s = float(there["metadata"].get("deletionGracePeriodSeconds") or 0)
                self._exits[uid].put_nowait(None)

    def _take_over(self, body: Object) -> None:
        if (body.get("status") or {}).get("phase") in OVER:
            if body["metadata"].get("deletionTimestamp"):
                self._confirm_deletion(body)
            return
        if body["metadata"]["uid"] in self._rejected:
            return
        if not body["metadata"].get("deletionTimestamp") and (refusal := self._refusal(body)):
            self._rejected.add(body["metadata"]["uid"])
            self._spawn(self._reject(body, *refusal))
            return
        pod = LocalPod(body, self._world.new_ip())
        pod.volume = self._volumes.pop(pod.uid, pod.volume)
        self.pods[pod.uid] = pod
        self._exits[pod.uid] = asyncio.Queue()
        if body["metadata"].get("deletionTimestamp"):
            pod.deleting = True
            self._exits[pod.uid].put_nowait(None)
        self._spawn(self._run(pod))

    def _refusal(self, body: Object) -> tuple[str, str] | None:
        """Reason and message with which the pod is turned away. Whoever chose the node, the kubelet looks again."""
        if reason := self._world.troubles.applies("node_rejects_pods", self.name):
            return reason, f"Pod was rejected: {reason}"
        there = self._world.api.get("nodes", "", self.name)
        if there is not None and not attracts(body, there):
            what = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
            return "NodeAffinity", f"Pod was rejected: {what}"
        capacity, used = self._world.ranks_per_node, sum(pod.takes_room for pod in self.pods.values())
        if used >= capacity:
            told = f"requested: 1000, used: {used * 1000}, capacity: {capacity * 1000}"
            return "OutOfcpu", f"Pod was rejected: Node didn't have enough resource: cpu, {told}"
        return None

    async def _reject(self, body: Object, reason: str, message: str) -> None:
        await self._pause(self._world.latency.kubelet)
        await self._world.api_way(self.name)
        meta = body["metadata"]

        def change(there: Object) -> Object:
            if there["metadata"]["uid"] != meta["uid"]:
                return there
            told = {"phase": "Failed", "reason": reason, "message": message}
            return {**there, "status": {**(there.get("status") or {}), **told}}

        key = meta["namespace"], meta["name"]
        self._world.api.update(f"kubelet/{self.name}", "pods", *key, change, subresource="status")

    # One pod

    async def _run(self, pod: LocalPod) -> None:
        """From its sandbox to its end."""
        self._post(pod)
        if not pod.deleting:
            await self._world.mount(pod)
            await self._pull(pod)
        while not pod.deleting and pod.phase not in OVER:
            await self._live(pod)
        if not pod.deleting:
            self._post(pod)
            while not pod.deleting:
                await self._exits[pod.uid].get()
        await self._terminate(pod)

    async def _pull(self, pod: LocalPod) -> None:
        """The images that are not here; a pull that fails is tried again."""
        takes, there = self._draw(self._world.latency.image_pull), self._world.images[self.name]
        if pod.images <= there:
            takes = 0.0
        elif slow_s := self._world.troubles.applies("image_pull_slow", self.name):
            takes = slow_s
        takes += self._world.troubles.applies("pods_start_slowly", self.name) or 0.0
        await self._wait(pod, takes)
        while self._world.troubles.applies("image_pull_fails", pod.rank) and not pod.deleting:
            pod.life.reason = "ImagePullBackOff"
            self._post(pod)
            await asyncio.sleep(1.0)
        if not pod.deleting:
            there |= pod.images
        pod.life.reason = "PodInitializing"

    async def _wait(self, pod: LocalPod, seconds: float) -> None:
        """So long, or until the pod is to go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not pod.deleting:
                    await self._exits[pod.uid].get()

    async def _live(self, pod: LocalPod) -> None:
        """One life of the pod's containers: until all restart, or all have ended, or the pod is to go."""
        exits = self._exits[pod.uid]
        self._initialise(pod)
        await self._pause(self._world.latency.container_start)
        if pod.deleting:
            return
        pod.volume.begin_life(f"{self._rng.getrandbits(64):016x}", self._world.unix_time())
        pod.life.run(self._stamp())
        pod.life.end(0, self._stamp())
        gate: asyncio.Task[None] | None = None
        if pod.has_agent:
            await self._pause(self._world.latency.container_start)
            self._start_agent(pod)
            gate = self._probing(pod)
        else:
            self._start_regular(pod)
        try:
            while True:
                if gate is not None and gate.done():
                    gate = None
                    await self._gate_opened(pod, exits)
                ended = await exits.get()
                if pod.deleting:
                    return
                if ended is None or ended.state != "terminated":
                    continue  # the gate has opened, or this container runs again
                await self._pause(NOTICES_S)
                if pod.deleting:
                    return
                if ended.asks_for_restart_of_all():
                    await self._restart_all(pod, ended)
                    return
                if ended is pod.agent:
                    if gate is not None:
                        gate.cancel()
                    await self._restart_agent_alone(pod)
                    gate = self._probing(pod)
                elif pod.is_spare:
                    self._spawn(self._start_again(pod, ended))
                elif all(c.state == "terminated" for c in pod.regular):
                    await self._finish(pod)
                    return
                else:
                    self._post(pod)
        finally:
            if gate is not None:
                gate.cancel()

    def _initialise(self, pod: LocalPod) -> None:
        """The init containers are about to run."""
        for container in (pod.agent, *pod.regular):
            container.reason = "PodInitializing"
        if pod.agent.restarts:
            pod.phase = "Pending"
            self._post(pod)

    async def _gate_opened(self, pod: LocalPod, exits: "asyncio.Queue[Container | None]") -> None:
        """The agent's startup probe has passed: the regular containers start, unless they run already."""
        pod.agent.started = True
        if pod.trainer.state != "waiting":
            return
        pod.phase = "Running"
        self._post(pod)
        await self._pause(self._world.latency.container_start)
        if exits.empty():  # else the agent is gone again, or the pod is to go
            self._start_regular(pod)

    def _start_agent(self, pod: LocalPod) -> None:
        world = self._world
        process = Process(f"agent/{pod.key[1]}/{pod.agent.restarts}", self.name, pod.ip)
        pod.agent_process = process
        pod.agent.run(self._stamp())
        self._post(pod)

        async def program() -> None:
            await self._pause(world.latency.agent_start)
            if world.troubles.applies("agent_never_starts", pod.rank):
                await self._loop.create_future()
            code = await run_agent(
                pod,
                self.name,
                network=world.network,
                journal=world.journal,
                now=world.now,
                rng=self._rng,
                read_token=lambda: world.token(pod),
                read_progress=lambda: world.progress_of(pod),
                controllers=world.rendezvous_addresses,
                coordinator_ip=lambda: world.coordinator_ip(pod),
                deaf=lambda: bool(world.troubles.applies("agent_told_nothing", pod.rank)),
            )
            self.agent_ended(pod, process, code)

        self._loop.spawn(process, program())

    def agent_ended(self, pod: LocalPod, process: Process, code: int, reason: str = "") -> None:
        """The agent's program is over, by itself or by a fault."""
        if pod.agent_process is not process or pod.agent.state != "running":
            return
        self._loop.kill(process)
        self._world.network.died(process)
        pod.agent.end(code, self._stamp(), reason, signal=code - 128 if code > 128 else 0)
        self._exits[pod.uid].put_nowait(pod.agent)

    def trainer_ended(self, pod: LocalPod, code: int, reason: str = "", name: str = "trainer") -> None:
        """A regular container ended, by itself or by a fault."""
        container = pod.container(name)
        if container.state == "running":
            container.end(code, self._stamp(), reason, signal=code - 128 if code > 128 else 0)
            self._tell_end(pod, container, "itself")
            self._exits[pod.uid].put_nowait(container)

    def _probing(self, pod: LocalPod) -> "asyncio.Task[None]":
        """Done once the agent has answered the startup probe."""
        return self._loop.spawn(self.process, self._probe(pod))

    async def _probe(self, pod: LocalPod) -> None:
        question = f"GET /released/{'/'.join(pod.key)} HTTP/1.1\r\nHost: pod\r\n\r\n".encode()
        while True:
            writer = None
            with contextlib.suppress(OSError, EOFError):
                async with asyncio.timeout(PROBE_WITHIN_S):
                    reader, writer = await self._world.network.open_stream(pod.ip, PROBE_PORT, 4096)
                    writer.write(question)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    if answer.startswith(b"HTTP/1.1 200"):
                        writer.close()
                        self._exits[pod.uid].put_nowait(None)  # look
                        return
            if writer is not None:
                writer.close()
            await asyncio.sleep(PROBE_EVERY_S)

    def _start_regular(self, pod: LocalPod) -> None:
        stamp = self._stamp()
        for container in pod.regular:
            container.run(stamp)
        pod.phase = "Running"
        self._post(pod)
        attempt, world = pod.volume.attempt, self._world
        if pod.is_spare:
            for container in pod.regular:
                self._spawn(self._crash_if_it_must(pod, container))
        if pod.rank < 0:
            return  # it is nobody's rank
        world.journal.tell(
            TrainerStarted(
                at=world.now(),
                gang=pod.gang,
                rank=pod.rank,
                attempt=attempt,
                uid=pod.uid,
                pod=pod.key[1],
                node=self.name,
                ticket=pod.volume.ticket,
            )
        )
        world.trainer_started(self, pod)

    async def _start_again(self, pod: LocalPod, container: Container) -> None:
        """A container of a spare, alone, after its back-off."""
        back_off = min(LONGEST_BACK_OFF_S, BACK_OFF_S * 2.0**container.restarts)
        container.backs_off()
        self._post(pod)
        await asyncio.sleep(back_off)
        if not pod.deleting:
            container.run(self._stamp())
            self._post(pod)
            await self._crash_if_it_must(pod, container)

    async def _crash_if_it_must(self, pod: LocalPod, container: Container) -> None:
        if self._world.troubles.applies("spares_crash", self.name):
            await asyncio.sleep(CRASHES_AFTER_S)
            self.trainer_ended(pod, 1, name=container.name)

    async def _restart_agent_alone(self, pod: LocalPod) -> None:
        pod.agent.restarts += 1
        self._post(pod)
        await self._pause(self._world.latency.container_start)
        self._start_agent(pod)

    async def _restart_all(self, pod: LocalPod, by: Container) -> None:
        """In place: the same pod, all containers anew."""
        world = self._world
        world.journal.tell(
            Restarting(
                at=world.now(),
                gang=pod.gang,
                rank=pod.rank,
                uid=pod.uid,
                node=self.name,
                by=by.name,
                exit_code=by.exit_code,
            )
        )
        pod.restarting_since = self._stamp()
        told = self._loop.spawn(self.process, self._tell_status(pod))
        await self._kill_all(pod, "restart", KILL_S)
        await asyncio.wait((told,), timeout=KILL_S)  # this much of it is always seen
        while world.troubles.applies("container_never_returns", pod.rank) and not pod.deleting:  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        stamp = self._stamp()
        for container in (pod.life, pod.agent, *pod.regular):
            container.restarted(stamp)
        pod.restarting_since, pod.restarted_at = None, stamp
        told = self._loop.spawn(self.process, self._tell_status(pod))
        await asyncio.wait((told,), timeout=KILL_S)

    async def _kill_all(self, pod: LocalPod, why: Why, within_s: float) -> None:
        """SIGTERM to every container, SIGKILL to those that are still there after so long."""
        takes = min(within_s, self._draw(self._world.trainer.stops_in))
        self._sigterm_agent(pod)
        await asyncio.sleep(takes if pod.trains else min(within_s, 0.25))
        for container in pod.regular:
            if container.state == "running":
                container.end(143 if takes < within_s else 137, self._stamp())
                self._tell_end(pod, container, why)
        if pod.agent.state == "running":
            await asyncio.sleep(min(within_s, 0.05))
            self._sigkill_agent(pod)

    def _sigterm_agent(self, pod: LocalPod) -> None:
        process: Process | None = pod.agent_process
        if process is not None and pod.agent.state == "running":
            stop = pod.stop_agent
            self._loop.spawn(process, _call(stop))

    def _sigkill_agent(self, pod: LocalPod) -> None:
        process: Process | None = pod.agent_process
        if process is not None:
            self._loop.kill(process)
            self._world.network.died(process)
        if pod.agent.state == "running":
            pod.agent.end(137, self._stamp())

    async def _finish(self, pod: LocalPod) -> None:
        """All regular containers have ended and nothing asks for a restart: the pod is over."""
        self._sigterm_agent(pod)
        await asyncio.sleep(0.25)
        self._sigkill_agent(pod)
        pod.phase = pod.last_phase()

    async def _terminate(self, pod: LocalPod) -> None:
        """The pod is to go: its containers get their grace, then the API server is told that they are gone."""
        if pod.phase not in OVER:
            await self._kill_all(pod, "pod", max(pod.grace_s, 0.0))
            self._sigkill_agent(pod)
            pod.phase = pod.last_phase()
            await self._tell_status(pod)  # always before it goes
        await self._world.api_way(self.name)
        self._confirm_deletion(pod.body)
        self.pods.pop(pod.uid, None)
        self._posted.pop(pod.uid, None)

    def _confirm_deletion(self, body: Object) -> None:
        meta = body["metadata"]
        there = self._world.api.get("pods", meta["namespace"], meta["name"])
        if there is not None and there["metadata"]["uid"] == meta["uid"]:
            self._world.api.delete(
                f"kubelet/{self.name}", "pods", meta["namespace"], meta["name"], grace_s=0, uid=meta["uid"]
            )

    def _tell_end(self, pod: LocalPod, container: Container, why: Why) -> None:
        if container is not pod.trainer or pod.rank < 0:
            return
        world = self._world
        world.journal.tell(
            TrainerEnded(
                at=world.now(),
                gang=pod.gang,
                rank=pod.rank,
                attempt=pod.volume.attempt,
                uid=pod.uid,
                pod=pod.key[1],
                node=self.name,
                exit_code=container.exit_code,
                why=why,
            )
        )
        world.trainer_ended(pod)

    # What befalls the machine

    def device_reported(self, pod: LocalPod, report: Hardware) -> None:
        """Something on the node writes that to the pod's volume; its agent sees it the next time it looks there."""
        pod.volume.report(report)
        if pod.agent_process is not None and pod.agent.state == "running":
            self._loop.spawn(pod.agent_process, self._see_hardware(pod))

    async def _see_hardware(self, pod: LocalPod) -> None:
        await self._pause(LOOKS_AT_HARDWARE_S)
        pod.tell_hardware()

    def device_health(self, pod: LocalPod, device: str, *, healthy: bool) -> None:
        """That device of the trainer's begins or ceases to be unhealthy."""
        others = tuple(each for each in pod.trainer.unhealthy if each != device)
        pod.trainer.unhealthy = others if healthy else (*others, device)
        self._post(pod)

    def lose_everything(self) -> None:
        """All processes of this node are gone."""
        self._loop.kill(self.process)
        for pod in self.pods.values():
            if pod.agent_process is not None:
                self._loop.kill(pod.agent_process)
            for container in pod.regular:
                if container.state == "running":
                    container.end(137, self._stamp())
                    self._tell_end(pod, container, "node")

    def processes(self) -> list[Process]:
        """Everything that runs on this node."""
        return [self.process, *(p.agent_process for p in self.pods.values() if p.agent_process is not None)]

    def come_back(self, before: "Kubelet") -> None:
        """After a reboot: the pods that were here begin another life, with their volumes."""
        self._volumes = {**before._volumes, **{pod.uid: pod.volume for pod in before.pods.values()}}
        self.look_for_pods()

    def look_for_pods(self) -> None:
        """Those that are bound to this node, whoever ran them."""
        for body in self._world.api.all("pods"):
            if body["spec"].get("nodeName") == self.name:
                self._spawn(self._look_after_boot(body))

    async def _look_after_boot(self, body: Object) -> None:
        await self._pause((0.5, 1.5))
        await self._pause(self._world.latency.kubelet)
        await self._world.api_way(self.name)
        self._look(body["metadata"]["uid"], body)

    # Statuses

    def post_old_statuses(self) -> None:
        """Tell the API server again what was true a while ago, and only then what is true now."""
        self._spawn(self._post_old())

    async def _post_old(self) -> None:
        await self._world.api_way(self.name)
        for pod in self.pods.values():
            if old := self._posted.get(pod.uid):
                self._write_status(pod, old[0])
                self._post(pod)

    def _post(self, pod: LocalPod) -> None:
        """Tell the API server how the pod is, soon; what changes meanwhile is told with it."""
        if pod.uid not in self._posting:
            self._posting.add(pod.uid)
            delay = self._draw(self._world.latency.kubelet) + self.lag_s
            self._loop.call_later(delay, self._post_now, pod, context=self._context)

    def _post_now(self, pod: LocalPod) -> None:
        if self._world.api_is_reached(self.name):
            self._posting.discard(pod.uid)
            self._write_current(pod)
        else:
            self._spawn(self._post_once_reached(pod))

    async def _post_once_reached(self, pod: LocalPod) -> None:
        await self._world.api_way(self.name)
        self._posting.discard(pod.uid)
        self._write_current(pod)

    async def _tell_status(self, pod: LocalPod) -> None:
        """As the pod is now, whatever becomes of it meanwhile."""
        status = self._status(pod)
        await asyncio.sleep(self._draw(self._world.latency.kubelet) + self.lag_s)
        await self._world.api_way(self.name)
        self._write_status(pod, status)
        if pod.restarting_since is None:
            self._post(pod)  # it came so late that the truth may have been told before

    def _status(self, pod: LocalPod) -> Object:
        return pod.status(pod.body["metadata"]["creationTimestamp"])

    def _write_current(self, pod: LocalPod) -> None:
        status = self._status(pod)
        self._write_status(pod, status)
        self._posted[pod.uid] = [*self._posted.get(pod.uid, []), status][-4:]

    def _write_status(self, pod: LocalPod, status: Object) -> None:
        def change(there: Object) -> Object:
            if there["metadata"]["uid"] != pod.uid:
                return there
            told = (there.get("status") or {}).get("conditions") or []
            kept = [c for c in told if c["type"] not in ("PodScheduled", "AllContainersRestarting")]
            return {**there, "status": {**status, "conditions": [*status["conditions"], *kept]}}

        self._world.api.update(f"kubelet/{self.name}", "pods", *pod.key, change, subresource="status")

    def _stamp(self) -> str:
        return self._world.stamp()


async def _call(function: Any) -> None:
    function()
