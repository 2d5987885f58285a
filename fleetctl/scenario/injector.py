"""Does to a simulated world what a scenario's timeline says: one function per kind of fault.

A function does the fault now and returns how it is undone, or None if it is over already. Knows nothing of when.

Add a fault: write its type in faults.py, its sentence in fault_texts.py, its function here, list it in _DO.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from fleetctl.rendezvous.messages import Hardware
from fleetctl.scenario import fault_texts
from fleetctl.scenario import faults as f
from fleetctl.scenario.model import Scenario, Select, Step
from fleetctl.sim import troubles
from fleetctl.sim.containers import LocalPod
from fleetctl.sim.journal import Faulted, Key, Object
from fleetctl.sim.kubelet import Kubelet
from fleetctl.sim.lifecycle import merged
from fleetctl.sim.requests import Request
from fleetctl.sim.world import World

Undo = Callable[[], None] | None
CONTROLLER = "controller"


class Injector:
    """`gang` is whose ranks the faults speak of; `body` the Gang as it was created."""

    def __init__(self, world: World, scenario: Scenario, gang: Key, body: Object) -> None:
        self.world = world
        self.scenario = scenario
        self.gang = gang
        self.body = body
        self.last_at = 0.0
        """When the last fault began or ended."""
        self.under_way = 0
        """How many steps wait for their moment, or for their end."""
        self._rng = world.stream("faults")

    async def carry_out(self, step: Step) -> None:
        """Hit what the step selects, one after the other, and undo it when its time is over."""
        hit = self._selected(step)
        pause = step.spread / len(hit)
        await asyncio.gather(*(self._hit(step, target, number * pause) for number, target in enumerate(hit)))

    async def _hit(self, step: Step, target: tuple[int, ...], later_s: float) -> None:
        await asyncio.sleep(later_s)
        undo = self._begin(step, target)
        if step.lasts is not None:
            await asyncio.sleep(step.lasts)
            self._end(step, target, undo)

    def _selected(self, step: Step) -> list[tuple[int, ...]]:
        """Each a group of ranks or nodes that is hit at once: all of them, unless they are spread over time."""
        select, kind = step.select, type(step.fault)
        if kind.target == "none":
            return [()]
        chosen = self._numbers(kind.name, select, kind.target)
        return [(number,) for number in chosen] if step.spread else [tuple(chosen)]

    def _numbers(self, fault: str, select: Select, target: f.Target) -> list[int]:
        if select.any:
            return sorted(self._rng.sample(range(self._count(target)), select.any))
        if target == "ranks":
            return list(select.ranks)
        if select.node_of is not None:
            found = self.world.local_pod(self.gang, select.node_of)
            if found is None:
                raise LookupError(f"rank {select.node_of} is on no node when {fault} should begin")
            return [self.world.node_names.index(found[0].name)]
        return list(select.nodes)

    def _count(self, target: f.Target) -> int:
        return self.scenario.world.gang.ranks if target == "ranks" else len(self.world.node_names)

    def _begin(self, step: Step, numbers: tuple[int, ...]) -> Undo:
        kind = type(step.fault)
        ranks = numbers if kind.target == "ranks" else ()
        nodes = tuple(self.world.node_names[n] for n in numbers) if kind.target == "nodes" else ()
        self._tell(step, "begins", fault_texts.begins(step.fault, ranks, nodes, step.lasts), ranks, nodes)
        if kind in _TROUBLES:
            return self._at_the_door(_TROUBLES[kind](self.world, step.fault))
        return _DO[kind](self, step.fault, numbers)

    def _end(self, step: Step, numbers: tuple[int, ...], undo: Undo) -> None:
        kind = type(step.fault)
        ranks = numbers if kind.target == "ranks" else ()
        nodes = tuple(self.world.node_names[n] for n in numbers) if kind.target == "nodes" else ()
        self._tell(step, "ends", fault_texts.ends(step.fault, ranks, nodes), ranks, nodes)
        if undo is not None:
            undo()

    def _tell(self, step: Step, phase: Any, text: str, ranks: tuple[int, ...], nodes: tuple[str, ...]) -> None:
        self.last_at = self.world.now()
        fenced: list[str] = []
        if phase == "begins":
            kubelets = [self.world.kubelets[name] for name in nodes if _fences(step.fault)]
            fenced = [uid for kubelet in kubelets for uid in kubelet.pods]
            if isinstance(step.fault, f.PodDeleted) and step.fault.force:
                fenced = [pod.uid for _, pod in self._pods(ranks)]
        self.world.journal.tell(
            Faulted(
                at=self.last_at,
                fault=type(step.fault).name,
                family=type(step.fault).family,
                phase=phase,
                text=text,
                ranks=ranks,
                nodes=nodes,
                fences=tuple(fenced),
            )
        )

    # Whom it hits

    def _pods(self, ranks: tuple[int, ...]) -> Iterator[tuple[Kubelet, LocalPod]]:
        """The pods of these ranks, where they run."""
        for rank in ranks:
            found = self.world.local_pod(self.gang, rank)
            if found is not None:
                yield found

    def _names(self, ranks: tuple[int, ...]) -> Iterator[str]:
        """The names of these ranks' pods, whether they exist or not."""
        names = [
            f"{self.gang[1]}-{group['name']}-{index}"
            for group in self.body["spec"]["groups"]
            for index in range(group["size"])
        ]
        return (names[rank] for rank in ranks)

    def _nodes(self, numbers: tuple[int, ...]) -> list[str]:
        return [self.world.node_names[number] for number in numbers]

    # Pods

    def container_exit(self, fault: f.ContainerExit, ranks: tuple[int, ...]) -> Undo:
        for kubelet, pod in self._pods(ranks):
            if fault.container == "agent":
                kubelet.agent_ended(pod, pod.agent_process, fault.code)
            else:
                kubelet.trainer_ended(pod, fault.code)
        return None

    def out_of_memory(self, fault: f.OutOfMemory, ranks: tuple[int, ...]) -> Undo:
        for kubelet, pod in self._pods(ranks):
            if fault.container == "agent":
                kubelet.agent_ended(pod, pod.agent_process, 137, "OOMKilled")
            else:
                kubelet.trainer_ended(pod, 137, "OOMKilled")
        return None

    def crash_loop(self, fault: f.CrashLoop, ranks: tuple[int, ...]) -> Undo:
        undo = self._trouble("crash_loop", ranks, (fault.exit_code, fault.after))
        for kubelet, pod in self._pods(ranks):
            if pod.trains:
                self.world.crash_later(kubelet, pod, fault.exit_code, fault.after)
        return undo

    def trainer_hangs(self, fault: f.TrainerHangs, ranks: tuple[int, ...]) -> Undo:
        pods = [pod for _, pod in self._pods(ranks)]
        for pod in pods:
            self.world.hang_trainer(pod)
        return lambda: _each(pods, self.world.wake_trainer)

    def trainer_slow(self, fault: f.TrainerSlow, ranks: tuple[int, ...]) -> Undo:
        training = self.world.training[self.gang]
        for rank in ranks:
            training.slows(rank, fault.factor)
        return lambda: _each(ranks, lambda rank: training.slows(rank, 1.0))

    def hardware_report(self, fault: f.HardwareReport, ranks: tuple[int, ...]) -> Undo:
        report = Hardware(fault.code, fault.device, fault.text, self.world.unix_time())
        for kubelet, pod in self._pods(ranks):
            kubelet.device_reported(pod, report)
        return None

    def device_unhealthy(self, fault: f.DeviceUnhealthy, ranks: tuple[int, ...]) -> Undo:
        hit = list(self._pods(ranks))

        def say(*, healthy: bool) -> None:
            for kubelet, pod in hit:
                kubelet.device_health(pod, fault.device, healthy=healthy)

        say(healthy=False)
        return lambda: say(healthy=True)

    def _trouble(self, name: str, where: Sequence[int | str], how: object = True) -> Undo:
        """On these ranks, or nodes."""
        for each in where:
            self.world.troubles.begin(name, each, how)
        return lambda: _each(where, lambda each: self.world.troubles.end(name, each))

    def spares_crash(self, fault: f.SparesCrash, numbers: tuple[int, ...]) -> Undo:
        undo = self._trouble(fault.name, self._nodes(numbers))
        for kubelet in (self.world.kubelets[name] for name in self._nodes(numbers)):
            for pod in kubelet.pods.values():
                for container in pod.regular if pod.is_spare else ():
                    kubelet.trainer_ended(pod, 1, name=container.name)
        return undo

    def pod_evicted(self, fault: f.PodEvicted, ranks: tuple[int, ...]) -> Undo:
        def disrupted(pod: Object) -> Object:
            status = pod.get("status") or {}
            told = {"type": "DisruptionTarget", "status": "True", "reason": fault.reason}
            return {**pod, "status": {**status, "conditions": [*(status.get("conditions") or ()), told]}}

        for name in self._names(ranks):
            self.world.api.update("somebody", "pods", self.gang[0], name, disrupted, subresource="status")
            if self.world.api.get("pods", self.gang[0], name) is not None:
                self.world.api.delete("somebody", "pods", self.gang[0], name)
        return None

    # Agents

    def agent_exits(self, fault: f.AgentExits, ranks: tuple[int, ...]) -> Undo:
        for kubelet, pod in self._pods(ranks):
            kubelet.agent_ended(pod, pod.agent_process, fault.exit_code)
        return None

    def agent_hangs(self, fault: f.AgentHangs, ranks: tuple[int, ...]) -> Undo:
        processes = [pod.agent_process for _, pod in self._pods(ranks) if pod.agent_process]
        for process in processes:
            self.world.loop.freeze(process)
        return lambda: _each(processes, self.world.loop.thaw)

    def agent_unreachable(self, fault: f.AgentUnreachable, ranks: tuple[int, ...]) -> Undo:
        processes = [pod.agent_process for _, pod in self._pods(ranks) if pod.agent_process]
        for process in processes:
            self.world.network.isolate(process)
        return lambda: _each(processes, self.world.network.rejoin)

    def agent_told_nothing(self, fault: f.AgentToldNothing, ranks: tuple[int, ...]) -> Undo:
        return self._trouble("agent_told_nothing", ranks)

    # Nodes

    def node_killed(self, fault: f.NodeKilled, numbers: tuple[int, ...]) -> Undo:
        _each(self._nodes(numbers), self.world.kill_node)
        return None

    def node_power_loss(self, fault: f.NodePowerLoss, numbers: tuple[int, ...]) -> Undo:
        for name in self._nodes(numbers):
            self.world.kill_node(name, silently=True)
        return None

    def node_rebooted(self, fault: f.NodeRebooted, numbers: tuple[int, ...]) -> Undo:
        for name in self._nodes(numbers):
            self.world.kill_node(name)
            self.world.loop.call_later(fault.down, self.world.boot_node, name)
        return None

    def node_dark(self, fault: f.NodeDark, numbers: tuple[int, ...]) -> Undo:
        names = self._nodes(numbers)
        _each(names, self.world.cut_node)
        return lambda: _each(names, self.world.heal_node)

    def node_frozen(self, fault: f.NodeFrozen, numbers: tuple[int, ...]) -> Undo:
        names = self._nodes(numbers)
        _each(names, self.world.freeze_node)
        return lambda: _each(names, self.world.thaw_node)

    def node_flapping(self, fault: f.NodeFlapping, numbers: tuple[int, ...]) -> Undo:
        names = self._nodes(numbers)

        async def flap() -> None:
            while True:
                _each(names, self.world.cut_node)
                await asyncio.sleep(fault.down)
                _each(names, self.world.heal_node)
                await asyncio.sleep(fault.every - fault.down)

        flapping = self.world.loop.spawn(None, flap())

        def undo() -> None:
            flapping.cancel()
            _each(names, self.world.heal_node)

        return undo

    def kubelet_stopped(self, fault: f.KubeletStopped, numbers: tuple[int, ...]) -> Undo:
        processes = [self.world.kubelets[name].process for name in self._nodes(numbers)]
        _each(processes, self.world.loop.freeze)
        return lambda: _each(processes, self.world.loop.thaw)

    def kubelet_slow(self, fault: f.KubeletSlow, numbers: tuple[int, ...]) -> Undo:
        kubelets = [self.world.kubelets[name] for name in self._nodes(numbers)]

        def lag(seconds: float) -> None:
            for kubelet in kubelets:
                kubelet.lag_s = seconds

        lag(fault.lag)
        return lambda: lag(0.0)

    def kubelet_forgets(self, fault: f.KubeletForgets, numbers: tuple[int, ...]) -> Undo:
        for name in self._nodes(numbers):
            self.world.kubelets[name].post_old_statuses()
        return None

    def node_tainted(self, fault: f.NodeTainted, numbers: tuple[int, ...]) -> Undo:
        names = self._nodes(numbers)
        for name in names:
            self.world.taint(name, fault.key, fault.effect)
        return lambda: _each(names, lambda name: self.world.untaint(name, fault.key))

    def node_condition(self, fault: f.NodeCondition, numbers: tuple[int, ...]) -> Undo:
        names = self._nodes(numbers)
        for name in names:
            self.world.set_condition(name, fault.type, "True")
        return lambda: _each(names, lambda name: self.world.set_condition(name, fault.type, "False"))

    def node_deleted(self, fault: f.NodeDeleted, numbers: tuple[int, ...]) -> Undo:
        for name in self._nodes(numbers):
            self.world.api.delete("somebody", "nodes", "", name)
        return None

    def node_replaced(self, fault: f.NodeReplaced, numbers: tuple[int, ...]) -> Undo:
        _each(self._nodes(numbers), self.world.replace_node)
        return None

    def no_capacity(self, fault: f.NoCapacity, _: tuple[int, ...]) -> Undo:
        for name in self.world.node_names:
            self.world.cordon(name, True)
        return lambda: _each(self.world.node_names, lambda name: self.world.cordon(name, False))

    # Controllers

    def controller_crash(self, fault: f.ControllerCrash, _: tuple[int, ...]) -> Undo:
        if fault.edge == "at_once":
            self._crash(fault.restart_after)
            return None
        self.crash_around_write(fault.edge, lambda request: _is_write(request, fault.write), fault.restart_after)
        return None

    def crash_around_write(
        self, edge: Literal["before", "after"], is_it: Callable[[Request], bool], restart_after: float
    ) -> None:
        """Whoever sends the first write that `is_it` ends before it is done, or before its answer, and starts again."""
        hooks = self.world.door.before_write if edge == "before" else self.world.door.after_write

        async def crash_once(request: Request) -> None:
            if hook in hooks and is_it(request):
                hooks.remove(hook)
                self.last_at = self.world.now()
                self._crash(restart_after, request.client)
                await self.world.loop.create_future()  # whoever asked is gone

        hook = crash_once
        hooks.append(hook)

    def _crash(self, restart_after: float, actor: str = "") -> None:
        named = (c for c in self.world.controllers if actor.startswith(f"{CONTROLLER}/{c.identity}"))
        controller = next(named, self.world.leader) if actor else self.world.leader
        controller.crash()

        async def start_again() -> None:
            await asyncio.sleep(restart_after)
            self.last_at = self.world.now()
            controller.start()

        self.world.loop.spawn(None, start_again())  # whoever asked may belong to what has just died

    def controller_frozen(self, fault: f.ControllerFrozen, _: tuple[int, ...]) -> Undo:
        leader = self.world.leader
        leader.freeze()
        return leader.thaw

    def controller_gone(self, fault: f.ControllerGone, _: tuple[int, ...]) -> Undo:
        for controller in self.world.controllers:
            self.world.loop.spawn(None, controller.stop())
        return lambda: _each(self.world.controllers, lambda controller: controller.start())

    def clock_jump(self, fault: f.ClockJump, _: tuple[int, ...]) -> Undo:
        for controller in self.world.controllers:
            controller.clock.ahead_s += fault.by
        return None

    def lease_unreachable(self, fault: f.LeaseUnreachable, _: tuple[int, ...]) -> Undo:
        return self._at_the_door(troubles.Outage(actor=f"{CONTROLLER}/{self.world.leader.identity}/elector"))

    # The API server

    def _at_the_door(self, trouble: troubles.Trouble) -> Undo:
        self.world.door.begin(trouble)
        return lambda: self.world.door.end(trouble)

    def api_outage(self, fault: f.ApiOutage, _: tuple[int, ...]) -> Undo:
        back = self._at_the_door(troubles.Outage())
        self.world.api_down(True)

        def undo() -> None:
            if back is not None:
                back()
            self.world.api_down(False)

        return undo

    def history_lost(self, fault: f.HistoryLost, _: tuple[int, ...]) -> Undo:
        self.world.api.forget_history()
        self.world.door.break_watches(actor=CONTROLLER)
        return None

    # People

    def gang_edited(self, fault: f.GangEdited, _: tuple[int, ...]) -> Undo:
        self.world.api.update(
            "somebody", "gangs", *self.gang, lambda gang: {**gang, "spec": merged(gang["spec"], fault.spec)}
        )
        return None

    def gang_deleted(self, fault: f.GangDeleted, _: tuple[int, ...]) -> Undo:
        self.world.api.delete("somebody", "gangs", *self.gang)
        return None

    def gang_created_again(self, fault: f.GangCreatedAgain, _: tuple[int, ...]) -> Undo:
        self.world.create_gang(self.body)
        return None

    def status_wiped(self, fault: f.StatusWiped, _: tuple[int, ...]) -> Undo:
        self.world.api.update(
            "somebody", "gangs", *self.gang, lambda gang: {**gang, "status": {}}, subresource="status"
        )
        return None

    def pod_deleted(self, fault: f.PodDeleted, ranks: tuple[int, ...]) -> Undo:
        for name in self._names(ranks):
            if self.world.api.get("pods", self.gang[0], name) is not None:
                grace_s = 0 if fault.force else max(1, int(fault.grace))  # 0 would be by force
                self.world.api.delete("somebody", "pods", self.gang[0], name, grace_s=grace_s)
        return None

    def pod_edited(self, fault: f.PodEdited, ranks: tuple[int, ...]) -> Undo:
        def edited(pod: Object) -> Object:
            meta = pod["metadata"]
            marks = {"somebody.example/was-here": "true"}
            labels, notes = {**(meta.get("labels") or {}), **marks}, {**(meta.get("annotations") or {}), **marks}
            return {**pod, "metadata": {**meta, "labels": labels, "annotations": notes}}

        for name in self._names(ranks):
            self.world.api.update("somebody", "pods", self.gang[0], name, edited)
        return None

    def stuck_terminating(self, fault: f.StuckTerminating, ranks: tuple[int, ...]) -> Undo:
        def with_finalizers(found: list[str]) -> Callable[[Object], Object]:
            return lambda pod: {**pod, "metadata": {**pod["metadata"], "finalizers": found}}

        names = list(self._names(ranks))
        for name in names:
            self.world.api.update("somebody", "pods", self.gang[0], name, with_finalizers(["somebody.example/keep"]))
        return lambda: _each(
            names, lambda name: self.world.api.update("somebody", "pods", self.gang[0], name, with_finalizers([]))
        )

    def foreign_pod(self, fault: f.ForeignPod, ranks: tuple[int, ...]) -> Undo:
        names = list(self._names(ranks))

        async def take() -> None:
            for name in names:
                while self.world.api.get("pods", self.gang[0], name) is not None:  # noqa: ASYNC110 - it is no event
                    await asyncio.sleep(0.01)
                meta = {"name": name, "namespace": self.gang[0]}
                self.world.api.create("somebody", "pods", {"metadata": meta, "spec": {"containers": [{"name": "own"}]}})

        self.world.loop.spawn(None, take())
        return None


def _is_write(request: Request, kind: str) -> bool:
    if not request.client.startswith(CONTROLLER) or request.plural in ("leases", "events", "secrets"):
        return False
    match kind:
        case "status":
            return bool(request.verb == "update" and request.plural == "gangs")
        case "create" | "delete":
            return bool(request.verb == kind and request.plural == "pods")
    return True


def _each(items: Any, function: Callable[[Any], object]) -> None:
    for item in items:
        function(item)


def _fences(fault: f.Fault) -> bool:
    """Whether what runs on the node may go on although it was deleted."""
    return isinstance(fault, f.NodeFault) and not isinstance(fault, f.NodeTainted | f.NodeCondition | f.NoCapacity)


_TROUBLES: dict[type[f.Fault], Callable[[World, Any], troubles.Trouble]] = {
    f.ApiThrottled: lambda world, fault: troubles.Throttled(
        actor=CONTROLLER, share=fault.share, retry_after=fault.retry_after
    ),
    f.ApiErrors: lambda world, fault: troubles.Errors(actor=CONTROLLER, share=fault.share, status=fault.status),
    f.AnswersLost: lambda world, fault: troubles.AnswerLost(actor=CONTROLLER, share=fault.share, applied=fault.applied),
    f.ConnectionsReset: lambda world, fault: troubles.Reset(actor=CONTROLLER, share=fault.share),
    f.TokenRejected: lambda world, fault: troubles.TokenRejected(actor=CONTROLLER, share=fault.share),
    f.WritesRefused: lambda world, fault: troubles.Refused(
        actor=CONTROLLER, plural=fault.resource, verb=fault.verb, status=fault.status, message=fault.message
    ),
    f.Conflicts: lambda world, fault: troubles.Conflict(actor=CONTROLLER, plural=fault.resource, share=fault.share),
    f.ApiSlow: lambda world, fault: troubles.Slow(actor=CONTROLLER, latency_s=(fault.latency.low, fault.latency.high)),
    f.WatchStalled: lambda world, fault: troubles.Stalled(actor=CONTROLLER, plural=fault.resource),
    f.WatchesClosed: lambda world, fault: troubles.Closed(actor=CONTROLLER, every_s=fault.every),
    f.StaleLists: lambda world, fault: troubles.StaleLists(actor=CONTROLLER, as_of=world.api.version),
    f.EventsDuplicated: lambda world, fault: troubles.Duplicated(actor=CONTROLLER),
    f.WatchDelayed: lambda world, fault: troubles.Delayed(actor=CONTROLLER, plural=fault.resource, by_s=fault.by),
    f.EventsCoalesced: lambda world, fault: troubles.Coalesced(
        actor=CONTROLLER, plural=fault.resource, window_s=fault.window
    ),
}

_DO: dict[type[f.Fault], Callable[[Injector, Any, tuple[int, ...]], Undo]] = {
    f.ContainerExit: Injector.container_exit,
    f.OutOfMemory: Injector.out_of_memory,
    f.CrashLoop: Injector.crash_loop,
    f.TrainerHangs: Injector.trainer_hangs,
    f.TrainerSlow: Injector.trainer_slow,
    f.HardwareReport: Injector.hardware_report,
    f.DeviceUnhealthy: Injector.device_unhealthy,
    f.ImagePullFails: lambda self, fault, ranks: self._trouble(fault.name, ranks),
    f.ImagePullSlow: lambda self, fault, nodes: self._trouble(fault.name, self._nodes(nodes), fault.takes),
    f.PodsStartSlowly: lambda self, fault, nodes: self._trouble(fault.name, self._nodes(nodes), fault.takes),
    f.NodeRejectsPods: lambda self, fault, nodes: self._trouble(fault.name, self._nodes(nodes), fault.reason),
    f.SparesCrash: Injector.spares_crash,
    f.ContainerNeverReturns: lambda self, fault, ranks: self._trouble(fault.name, ranks),
    f.PodEvicted: Injector.pod_evicted,
    f.AgentExits: Injector.agent_exits,
    f.AgentHangs: Injector.agent_hangs,
    f.AgentUnreachable: Injector.agent_unreachable,
    f.AgentNeverStarts: lambda self, fault, ranks: self._trouble(fault.name, ranks),
    f.AgentToldNothing: lambda self, fault, ranks: self._trouble(fault.name, ranks),
    f.NodeKilled: Injector.node_killed,
    f.NodePowerLoss: Injector.node_power_loss,
    f.NodeRebooted: Injector.node_rebooted,
    f.NodeDark: Injector.node_dark,
    f.NodeFrozen: Injector.node_frozen,
    f.NodeFlapping: Injector.node_flapping,
    f.KubeletStopped: Injector.kubelet_stopped,
    f.KubeletSlow: Injector.kubelet_slow,
    f.KubeletForgets: Injector.kubelet_forgets,
    f.NodeTainted: Injector.node_tainted,
    f.NodeCondition: Injector.node_condition,
    f.NodeDeleted: Injector.node_deleted,
    f.NodeReplaced: Injector.node_replaced,
    f.NoCapacity: Injector.no_capacity,
    f.ControllerCrash: Injector.controller_crash,
    f.ControllerFrozen: Injector.controller_frozen,
    f.ControllerGone: Injector.controller_gone,
    f.ClockJump: Injector.clock_jump,
    f.LeaseUnreachable: Injector.lease_unreachable,
    f.ApiOutage: Injector.api_outage,
    f.HistoryLost: Injector.history_lost,
    f.GangEdited: Injector.gang_edited,
    f.GangDeleted: Injector.gang_deleted,
    f.GangCreatedAgain: Injector.gang_created_again,
    f.StatusWiped: Injector.status_wiped,
    f.PodDeleted: Injector.pod_deleted,
    f.PodEdited: Injector.pod_edited,
    f.StuckTerminating: Injector.stuck_terminating,
    f.ForeignPod: Injector.foreign_pod,
}
