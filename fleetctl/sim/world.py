"""A whole simulated cluster: nodes and kubelets, scheduler, garbage collection, API server, network, controllers.

Wiring, and what can befall machines and programs (`kill_node`, `freeze`, `cut` …). What befalls the API is the front
door's (transport.py). When something befalls is the scenario's.

Everything runs on one VirtualLoop, and every part draws from a stream of its own, so that the same seed gives the same
run, and one more draw in one part moves nothing in another.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleetctl.rendezvous.messages import Beat
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.containers import LocalPod
from fleetctl.sim.controllers import EPOCH, NAMESPACE, PORT, ControllerProcess, VirtualClock
from fleetctl.sim.door import Door
from fleetctl.sim.garbage import GarbageCollector, collect_pods
from fleetctl.sim.journal import Journal, Key, Object, ProcessChanged, Wrote
from fleetctl.sim.kubelet import LEASES, Kubelet
from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.network import Network
from fleetctl.sim.processes import Processes
from fleetctl.sim.scheduler import UNREACHABLE, Scheduler, watch_leases
from fleetctl.sim.tokens import Tokens
from fleetctl.sim.training import Training
from fleetctl.sim.transport import FrontDoor
from fleetctl.stamps import rfc3339, rfc3339_micro

Range = tuple[float, float]
FEATURE = "RestartAllContainersOnContainerExits"
GANGS = "gangs"
RACK = "topology.kubernetes.io/rack"
NO_PROGRESS = Beat()


@dataclass(frozen=True, kw_only=True)
class Latency:
    """From where delays are drawn, seconds."""

    network: Range = (0.0002, 0.002)
    api: Range = (0.001, 0.005)
    kubelet: Range = (0.05, 0.3)
    container_start: Range = (0.1, 0.6)
    agent_start: Range = (0.1, 0.3)
    image_pull: Range = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What trainers do: a step takes `step_s`; all exit 0 after `runs_for_s` of training (None: never); one takes
    `stops_in` seconds to end on SIGTERM; after `checkpoint_s` of training they keep what is done (None: each step)."""

    step_s: float = 2.0
    reports_steps: bool = False
    runs_for_s: float | None = None
    stops_in: Range = (0.05, 0.2)
    checkpoint_s: float | None = None


class Troubles:
    """What goes wrong for some ranks, or on some nodes, while it lasts, by the fault's name."""

    def __init__(self) -> None:
        self._where: dict[str, dict[int | str, Any]] = {}

    def begin(self, name: str, where: int | str, how: object = True) -> None:
        self._where.setdefault(name, {})[where] = how

    def end(self, name: str, where: int | str) -> None:
        self._where.get(name, {}).pop(where, None)

    def applies(self, name: str, where: int | str) -> Any:
        """How, None if not."""
        return self._where[name].get(where) if name in self._where else None


class World:
    """A cluster of `nodes` nodes with room for `ranks_per_node` pods each, so many of them in a rack.

    `over_http`: the controllers reach the API server through the real HTTP library, over connections in memory; a run
    takes longer then, and nothing else should differ.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int,
        ranks_per_node: int,
        nodes_per_rack: int = 8,
        controllers: int = 1,
        latency: Latency | None = None,
        trainer: Trainer | None = None,
        over_http: bool = False,
    ) -> None:
        self.seed = seed
        self._streams: dict[str, random.Random] = {}
        self.ranks_per_node = ranks_per_node
        self.nodes_per_rack = nodes_per_rack
        self.over_http = over_http
        self.latency = latency or Latency()
        self.trainer = trainer or Trainer()
        self.epoch = EPOCH
        """What time of day it was when the world began."""
        self.origin = BEGIN
        """The loop's time then."""
        self.loop = self._new_loop()
        self.journal = Journal()
        self.network = Network(self.loop, self.stream("network"), self.latency.network)
        self.loop.network = self.network
        self.clock = VirtualClock(self)
        self.tokens = Tokens(self.unix_time)
        self.api = self._new_api()
        self.troubles = Troubles()
        self.node_names = [f"node-{number}" for number in range(nodes)]
        self.kubelets = {name: Kubelet(self, name) for name in self.node_names}
        self.images: dict[str, set[str]] = {name: set() for name in self.node_names}
        """By node, those that are on its disk."""
        self.door, self.controllers = self._new_controllers([f"controller-{number}" for number in range(controllers)])
        self.training: dict[Key, Training] = {}
        self._scheduler = Scheduler(self)
        self._collector = GarbageCollector(self)
        self._ips = 0
        self._stamp = (-1, "")
        self._api_down = False
        self._api_up: list[asyncio.Future[None]] = []
        self._leader = ""
        self.api.on_change += [self._changed, self._scheduler.changed, self._collector.changed]

    # What a world in real time has in other ways (fleetctl/apiserver)

    def _new_loop(self) -> Processes:
        return VirtualLoop()  # type: ignore[abstract]

    def _new_api(self) -> ApiServer:
        api = ApiServer(self.journal, self.clock, self.now)
        api.raw.update(self.tokens.published())
        return api

    def _new_controllers(self, names: Sequence[str]) -> tuple[Door, list[ControllerProcess]]:
        """And the door through which they reach the API server."""
        front = FrontDoor(
            self.api, self.stream("api"), self.latency.api, lambda host: self.network.reaches(host, "api")
        )
        return front, [ControllerProcess(self, name, front) for name in names]

    async def mount(self, pod: LocalPod) -> None:
        """Returns once the pod's volumes are as they must be before its containers start."""

    def token(self, pod: LocalPod) -> str:
        """What its projected volume holds for its agent."""
        return self.tokens.token(pod.key, pod.uid)

    # Time and chance

    def now(self) -> float:
        """Seconds since the world began."""
        return self.loop.time() - self.origin

    def unix_time(self) -> float:
        return self.epoch.timestamp() + self.now()

    def stamp(self) -> str:
        second = int(self.now())
        if second != self._stamp[0]:
            self._stamp = second, rfc3339(self.clock.now())
        return self._stamp[1]

    def stream(self, name: str) -> random.Random:
        """Chance for one part; a part that starts again goes on with it, and draws nothing a second time."""
        if name not in self._streams:
            self._streams[name] = random.Random(f"{self.seed}:{name}")  # noqa: S311  (repeatable is the point)
        return self._streams[name]

    # The cluster

    async def begin(self) -> None:
        """Nodes, kubelets, the control plane's loops and the controllers."""
        for name in self.node_names:
            self._create_node(name)
            self.kubelets[name].start()
        for work in (self._scheduler.run(), self._collector.run(), collect_pods(self), watch_leases(self)):
            self.loop.spawn(None, work)
        for controller in self.controllers:
            controller.start()

    def _create_node(self, name: str) -> None:
        rack = self.node_names.index(name) // self.nodes_per_rack
        meta = {"name": name, "labels": {RACK: f"rack-{rack}"}}
        status = {"conditions": [self._condition("Ready", "True")], "declaredFeatures": [FEATURE]}
        self.api.create(f"kubelet/{name}", "nodes", {"metadata": meta, "spec": {}, "status": status})
        lease = {"metadata": {"name": name, "namespace": LEASES}, "spec": {"holderIdentity": name}}
        self.api.create(f"kubelet/{name}", "leases", lease)

    def create_gang(self, body: Object) -> Object:
        gang = self.api.create("somebody", GANGS, body)
        key = (gang["metadata"]["namespace"], gang["metadata"]["name"])
        size = sum(group["size"] for group in gang["spec"]["groups"])
        of = self.trainer
        self.training[key] = Training(
            size, of.step_s, of.runs_for_s, lambda: self._finish(key), checkpoint_s=of.checkpoint_s
        )
        return gang

    def _finish(self, gang: Key) -> None:
        for kubelet, pod in self.local_pods(gang):
            if pod.trains:
                self.loop.call_later(0.1 * kubelet._rng.random(), kubelet.trainer_ended, pod, 0)

    def local_pods(self, gang: Key) -> list[tuple[Kubelet, LocalPod]]:
        """The pods of this gang that kubelets run, whatever the API server says."""
        return [(k, pod) for k in self.kubelets.values() for pod in k.pods.values() if pod.gang == gang]

    def local_pod(self, gang: Key, rank: int) -> tuple[Kubelet, LocalPod] | None:
        """The newest pod of that rank, where it runs."""
        found = [(k, pod) for k, pod in self.local_pods(gang) if pod.rank == rank]
        return max(found, key=lambda each: each[1].body["metadata"]["creationTimestamp"], default=None)

    def new_ip(self) -> str:
        self._ips += 1
        return f"10.{self._ips >> 16 & 255}.{self._ips >> 8 & 255}.{self._ips & 255}"

    def rendezvous_addresses(self) -> list[tuple[str, int]]:
        """Where the Service of the controllers leads now."""
        ready = [c.process.address for c in self.controllers if c.ready]
        return [(address, PORT) for address in ready if self.network.listener(address, PORT)]

    def coordinator_ip(self, pod: LocalPod) -> str:
        """Where the Service of that pod's coordinator leads now; empty if nowhere."""
        there = self.api.get("pods", pod.key[0], pod.environment["FLEETCTL_COORDINATOR_POD"])
        return str((there.get("status") or {}).get("podIP", "")) if there else ""

    def _changed(self, event: Wrote) -> None:
        if event.plural == "pods":
            body = event.after or event.before
            assert body is not None  # noqa: S101  (a change has an object)
            kubelet = self.kubelets.get(body["spec"].get("nodeName", ""))
            if kubelet is not None and event.actor != f"kubelet/{kubelet.name}":
                kubelet.bound(body)
        elif event.plural == "leases" and event.namespace == NAMESPACE and event.after is not None:
            leader = event.after["spec"].get("holderIdentity", "")
            if leader and leader != self._leader:
                self.journal.tell(ProcessChanged(at=self.now(), process=leader, what="leads"))
            self._leader = leader

    @property
    def leader(self) -> ControllerProcess:
        """The controller that holds the Lease, or the first one."""
        return next((c for c in self.controllers if c.identity == self._leader), self.controllers[0])

    # Trainers

    def trainer_started(self, kubelet: Kubelet, pod: LocalPod) -> None:
        if pod.gang in self.training:
            self.training[pod.gang].started(pod.uid, pod.volume.attempt, kubelet.name)
        if crash := self.troubles.applies("crash_loop", pod.rank):
            self.crash_later(kubelet, pod, *crash)

    def crash_later(self, kubelet: Kubelet, pod: LocalPod, exit_code: int, after_s: float) -> None:
        """The trainer that runs there now will exit, if it still runs then."""
        life = pod.volume.life_id

        def crash() -> None:
            if pod.volume.life_id == life:
                kubelet.trainer_ended(pod, exit_code)

        self.loop.call_later(after_s, crash)

    def trainer_ended(self, pod: LocalPod) -> None:
        self.wake_trainer(pod)  # what has ended does not hang
        if pod.gang in self.training:
            self.training[pod.gang].ended(pod.uid)

    def progress_of(self, pod: LocalPod) -> Beat:
        """What the trainer of that pod wrote last of its progress, as its agent tells it."""
        training = self.training.get(pod.gang) if self.trainer.reports_steps and pod.trains else None
        step = training.step_of(pod.uid) if training else None
        return Beat(step, training.work_s(pod.rank)) if training and step is not None else NO_PROGRESS

    # The API server, for those inside the cluster

    def api_is_reached(self, host: str) -> bool:
        """Whether the API server answers, and packets get there from this host."""
        return not self._api_down and self.network.reaches(host, "api")

    async def api_way(self, host: str) -> None:
        """Returns once the API server can be reached from this host."""
        while not self.api_is_reached(host):
            if self._api_down:
                up = self.loop.create_future()
                self._api_up.append(up)
                await up
            else:
                await self.network.way(host, "api")

    def api_down(self, down: bool) -> None:
        """The API server stops, or starts again, as the cluster's own parts see it."""
        self._api_down = down
        if not down:
            waiting, self._api_up = self._api_up, []
            for up in waiting:
                up.set_result(None)

    def renew_lease(self, node: str) -> None:
        now = rfc3339_micro(self.clock.now())
        self.api.update(
            f"kubelet/{node}",
            "leases",
            LEASES,
            node,
            lambda lease: {**lease, "spec": {**lease["spec"], "renewTime": now}},
        )

    def lease_of(self, node: str) -> str:
        lease = self.api.get("leases", LEASES, node)
        return str(lease["spec"].get("renewTime", "")) if lease else ""

    def mark_node(self, name: str, *, ready: bool) -> None:
        """Say of a node whether its kubelet reports."""
        if not self.set_condition(name, "Ready", "True" if ready else "Unknown", actor="node-lifecycle"):
            return
        if ready:
            self.untaint(name, UNREACHABLE, actor="node-lifecycle")
        else:
            self.taint(name, UNREACHABLE, "NoSchedule", actor="node-lifecycle")

    def set_condition(self, name: str, kind: str, status: str, *, actor: str = "somebody") -> bool:
        """Set a condition of the node. Whether it was another before, and there is such a node."""
        node = self.api.get("nodes", "", name)
        if node is None or any(c["type"] == kind and c["status"] == status for c in node["status"]["conditions"]):
            return False
        condition = self._condition(kind, status)

        def change(there: Object) -> Object:
            others = [c for c in there["status"]["conditions"] if c["type"] != kind]
            return {**there, "status": {**there["status"], "conditions": [*others, condition]}}

        self.api.update(actor, "nodes", "", name, change, subresource="status")
        return True

    def taint(self, name: str, key: str, effect: str, *, actor: str = "somebody") -> None:
        def change(node: Object) -> Object:
            taints = [t for t in node["spec"].get("taints") or () if t["key"] != key]
            return {**node, "spec": {**node["spec"], "taints": [*taints, {"key": key, "effect": effect}]}}

        self.api.update(actor, "nodes", "", name, change)

    def untaint(self, name: str, key: str, *, actor: str = "somebody") -> None:
        def change(node: Object) -> Object:
            taints = [t for t in node["spec"].get("taints") or () if t["key"] != key]
            return {**node, "spec": {**node["spec"], "taints": taints}}

        self.api.update(actor, "nodes", "", name, change)

    def cordon(self, name: str, cordoned: bool) -> None:
        self.api.update(
            "somebody", "nodes", "", name, lambda n: {**n, "spec": {**n["spec"], "unschedulable": cordoned}}
        )

    def _condition(self, kind: str, status: str) -> Object:
        return {"type": kind, "status": status, "lastTransitionTime": self.stamp()}

    # What befalls machines

    def kill_node(self, name: str, *, silently: bool = False) -> None:
        """All its processes are gone. `silently`: by loss of power, so nobody closes their connections."""
        kubelet = self.kubelets[name]
        processes = kubelet.processes()
        kubelet.lose_everything()
        if silently:
            self.network.lost_power(name)
        for process in processes:
            self.network.died(process)

    def boot_node(self, name: str) -> None:
        """It comes up again; its pods are still bound to it."""
        before = self.kubelets[name]
        if not before.process.killed:
            return  # two reboots, one inside the other, and the first has brought it up
        after = self.kubelets[name] = Kubelet(self, name)
        after.start()
        after.come_back(before)

    def replace_node(self, name: str) -> None:
        """Another machine takes its name: nothing is on its disk, and nothing was ever said of it."""
        if not self.kubelets[name].process.killed:
            self.kill_node(name)
        self.images[name] = set()
        self.api.delete("somebody", "leases", LEASES, name)
        self.api.delete("somebody", "nodes", "", name)
        self._create_node(name)
        self.kubelets[name] = Kubelet(self, name)
        self.kubelets[name].start()
        self.kubelets[name].look_for_pods()

    def cut_node(self, name: str) -> None:
        self.network.cut(name)
        self._absent(name)

    def heal_node(self, name: str) -> None:
        self.network.heal(name)
        self._present(name)

    def freeze_node(self, name: str) -> None:
        for process in self.kubelets[name].processes():
            self.loop.freeze(process)
        self._absent(name)

    def thaw_node(self, name: str) -> None:
        for process in self.kubelets[name].processes():
            self.loop.thaw(process)
        self._present(name)

    def _absent(self, node_or_uid: str) -> None:
        for training in self.training.values():
            training.absent(node_or_uid)

    def _present(self, node_or_uid: str) -> None:
        for training in self.training.values():
            training.present(node_or_uid)

    def hang_trainer(self, pod: LocalPod) -> None:
        if pod.gang in self.training:
            self.training[pod.gang].hangs(pod.uid)

    def wake_trainer(self, pod: LocalPod) -> None:
        self._present(pod.uid)

    # The end

    def end(self) -> None:
        """Let go of everything, so that another world may run in this process."""
        self.journal.listeners.clear()
        self.api.on_change.clear()
        self.loop.wind_down()
        self.network.end()
