"""Does to a kind cluster what a scenario's timeline says: one function per kind of fault.

A function does the fault now and returns how it is undone, or None if it is over already. Whatever is still done in
the end is undone by `clean_up`, the last first: nodes run again, processes go on. Knows nothing of when.

Add a fault: write its type in faults.py, its function here, list it in _DO.
"""

import asyncio
import json
import random
import shlex
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from fleetctl.gang.pods import LABEL_GANG, LABEL_RANK
from fleetctl.kind.cluster import Cluster
from fleetctl.kind.install import DEPLOYMENT, NAMESPACE
from fleetctl.kind.records import Records
from fleetctl.scenario import fault_texts
from fleetctl.scenario import faults as f
from fleetctl.scenario.model import Scenario, Select, Step
from fleetctl.sim.journal import Event, Faulted, Key, Object, TrainerStarted

Undo = Callable[[], Awaitable[object]] | None
Tell = Callable[[Event], None]

CUT = "INPUT -i eth0", "OUTPUT -o eth0", "FORWARD -i eth0", "FORWARD -o eth0"
CALM_S = 0.2
PROGRESS_VOLUME = "/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/fleetctl-progress"
"""Where a node keeps it."""
NO_IMAGE = "nowhere.invalid/none:none"
POLICY_S = 3.0
"""How long the API server may take to know a new admission policy."""


class Injector:
    """`gang` is whose ranks the faults speak of, `body` the Gang as it was created; `pods` gives the gang's pods,
    without asking a cluster that may be too busy to answer in time; `tell` takes events for the journal, `now` gives
    its time."""

    def __init__(
        self,
        cluster: Cluster,
        scenario: Scenario,
        seed: int,
        gang: Key,
        body: Object,
        records: Records,
        *,
        pods: Callable[[], Iterable[Object]],
        tell: Tell,
        now: Callable[[], float],
    ) -> None:
        self.cluster = cluster
        self.scenario = scenario
        self.gang = gang
        self.body = body
        self.records = records
        self.last_at = 0.0
        """When the last fault began or ended."""
        self.under_way = 0
        """How many steps wait for their moment, or for their end."""
        self.fenced: set[str] = set()
        """Uids of pods that run on out of the API server's sight, or were taken away by force."""
        self.moved: set[int] = set()
        """Ranks that may get a new pod."""
        self.lost_nodes: list[str] = []
        """Nodes whose processes have all ended, until somebody takes them from here."""
        self.crashing: dict[int, f.CrashLoop] = {}
        self.failures: list[str] = []
        """What could not be done."""
        self._of_gang, self._tell, self._now = pods, tell, now
        self._rng = random.Random(f"{seed}:faults")  # noqa: S311  (it must repeat)
        self._undo: list[Callable[[], Awaitable[object]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._beginning: set[asyncio.Task[Undo]] = set()

    async def carry_out(self, step: Step) -> None:
        """Hit what the step selects, one after the other, and undo it when its time is over."""
        hit = self._selected(step)
        pause = step.spread / len(hit)
        await asyncio.gather(*(self._hit(step, target, number * pause) for number, target in enumerate(hit)))

    async def clean_up(self) -> None:
        """Undo what is still done, as far as it can be."""
        for task in self._tasks:
            task.cancel()
        if self._beginning:
            await asyncio.wait(self._beginning)
        while self._undo:
            try:
                await self._undo.pop()()
            except Exception as error:  # whatever it is, the rest must be undone all the same
                self.failures.append(f"a fault is not undone: {type(error).__name__}: {error}")

    def trainer_started(self, event: TrainerStarted) -> None:
        """Of a crash loop: this one too will end."""
        loop = self.crashing.get(event.rank)
        if loop is not None:
            self._later(loop.after, lambda: self.records.command(event.uid, f"exit {loop.exit_code}"))

    async def _hit(self, step: Step, target: tuple[int, ...], later_s: float) -> None:
        await asyncio.sleep(later_s)
        fault = step.fault
        ranks = target if type(fault).target == "ranks" else ()
        nodes = tuple(self._node(n) for n in target) if type(fault).target == "nodes" else ()
        pods = self._pods()
        hit = {rank: pod for rank, pod in pods.items() if rank in ranks or pod["spec"].get("nodeName") in nodes}
        self._expect_moves(fault, hit)
        text = fault_texts.begins(fault, ranks, nodes, step.lasts)
        self._say(fault, "begins", text, ranks, nodes)
        undo = await self._begin(fault, hit if type(fault).target == "ranks" else nodes)
        if step.lasts is None:
            return
        await asyncio.sleep(step.lasts)
        self._say(fault, "ends", fault_texts.ends(fault, ranks, nodes), ranks, nodes)
        if undo is not None:
            await undo()
            self._undo.remove(undo)

    async def _begin(self, fault: f.Fault, whom: Any) -> Undo:
        """Not left half-way when the run is cancelled: what is done must be known, to be undone."""

        async def begin() -> Undo:
            undo = await _DO[type(fault)](self, fault, whom)
            if undo is not None:
                self._undo.append(undo)
            return undo

        beginning = asyncio.ensure_future(begin())
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)
        return await asyncio.shield(beginning)

    def _expect_moves(self, fault: f.Fault, hit: dict[int, Object]) -> None:
        """The judge excuses who is taken away; who comes back in place with a rebooted node, or runs on in the API
        server's sight under a stopped kubelet, is judged like all others."""
        away = isinstance(fault, f.NodeFault) and not isinstance(
            fault, f.NodeTainted | f.NodeRebooted | f.KubeletStopped
        )
        by_force = isinstance(fault, f.PodDeleted) and fault.force
        if away or by_force:
            self.fenced |= {pod["metadata"]["uid"] for pod in hit.values()}
        if isinstance(fault, f.NodeFault | f.PodEvicted | f.HardwareReport | f.PeopleFault) and not isinstance(
            fault, f.KubeletStopped
        ):
            self.moved |= set(hit)
        if isinstance(fault, f.GangDeleted | f.GangCreatedAgain | f.GangEdited):
            self.moved |= set(range(self.scenario.world.gang.ranks))

    def _selected(self, step: Step) -> list[tuple[int, ...]]:
        select, kind = step.select, type(step.fault)
        if kind.target == "none":
            return [()]
        chosen = self._numbers(kind.name, select, kind.target)
        return [(number,) for number in chosen] if step.spread else [tuple(chosen)]

    def _numbers(self, fault: str, select: Select, target: f.Target) -> list[int]:
        if select.any:
            count = self.scenario.world.gang.ranks if target == "ranks" else len(self.cluster.workers)
            return sorted(self._rng.sample(range(count), select.any))
        if target == "ranks":
            return list(select.ranks)
        if select.node_of is None:
            return list(select.nodes)
        pod = self._pods().get(select.node_of)
        if pod is None or not pod["spec"].get("nodeName"):
            raise LookupError(f"rank {select.node_of} is on no node when {fault} should begin")
        return [self.cluster.workers.index(pod["spec"]["nodeName"])]

    def _say(self, fault: f.Fault, phase: Any, text: str, ranks: tuple[int, ...], nodes: tuple[str, ...]) -> None:
        self.last_at = self._now()
        kind = type(fault)
        self._tell(
            Faulted(
                at=self.last_at, fault=kind.name, family=kind.family, phase=phase, text=text, ranks=ranks, nodes=nodes
            )
        )

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        async def after() -> None:
            await asyncio.sleep(seconds)
            do()

        self._keep(after())

    def _keep(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failures.append(f"{type(error).__name__}: {error}")

    # Whom it hits

    def _node(self, number: int) -> str:
        return self.cluster.workers[number]

    def _pods(self) -> dict[int, Object]:
        """The gang's pods by rank."""
        return {int(pod["metadata"]["labels"][LABEL_RANK]): pod for pod in self._of_gang()}

    async def _signal(self, pod: Object, environ: str, program: str, signal: str) -> None:
        """Send a signal to a program in that pod, from its node."""
        await self.cluster.on_node(pod["spec"]["nodeName"], _kill(environ, program, signal))

    async def _to_trainers(self, pods: dict[int, Object], signal: str) -> None:
        await _each(pods.values(), lambda p: self._signal(p, f"POD_UID={p['metadata']['uid']}", "python3 -c", signal))

    async def _to_agents(self, pods: dict[int, Object], signal: str) -> None:
        await _each(
            pods.values(), lambda p: self._signal(p, f"FLEETCTL_POD={p['metadata']['name']}", "fleetctl agent", signal)
        )

    async def _to_controllers(self, signal: str) -> None:
        for pod in (await self.cluster.get("pods", "-n", NAMESPACE))["items"]:
            await self.cluster.on_node(pod["spec"]["nodeName"], _kill("", "fleetctl controller", signal))

    async def _change(self, *arguments: str) -> None:
        await self.cluster.kubectl("-n", self.gang[0], *arguments)

    # Pods

    def _order(self, pods: dict[int, Object], command: str) -> None:
        for pod in pods.values():
            self.records.command(pod["metadata"]["uid"], command)

    async def container_exit(self, fault: f.ContainerExit, pods: dict[int, Object]) -> Undo:
        if fault.signal == "SIGKILL":
            await self._to_trainers(pods, "KILL")
        else:  # the first process of a container is shielded from other signals, but not from a fault of its own
            self._order(pods, "crash" if fault.signal == "SIGSEGV" else f"exit {fault.code}")
        return None

    async def out_of_memory(self, fault: f.OutOfMemory, pods: dict[int, Object]) -> Undo:
        self._order(pods, "eat")
        return None

    async def crash_loop(self, fault: f.CrashLoop, pods: dict[int, Object]) -> Undo:
        self.crashing |= dict.fromkeys(pods, fault)
        self._later(fault.after, lambda: self._order(pods, f"exit {fault.exit_code}"))

        async def undo() -> None:
            for rank in pods:
                self.crashing.pop(rank, None)

        return undo

    async def trainer_hangs(self, fault: f.TrainerHangs, pods: dict[int, Object]) -> Undo:
        """Trainers here only count. If they tell their steps, the others have begun the next, and wait in it."""
        await self._to_trainers(pods, "STOP")
        tells = self.scenario.world.trainer.reports_steps
        others = {rank: pod for rank, pod in self._pods().items() if tells and rank not in pods}
        self._order(others, "wait")

        async def undo() -> None:
            await self._to_trainers(pods, "CONT")
            self._order(others, "go")

        return undo

    async def hardware_report(self, fault: f.HardwareReport, pods: dict[int, Object]) -> Undo:
        line = shlex.quote(f"{fault.code} {fault.device} {fault.text}".rstrip())
        for pod in pods.values():
            file = PROGRESS_VOLUME.format(uid=pod["metadata"]["uid"]) + "/hardware"
            await self.cluster.on_node(pod["spec"]["nodeName"], f'echo "$(date +%s.%N)" {line} >>{file}')
        return None

    async def image_pull_fails(self, fault: f.ImagePullFails, pods: dict[int, Object]) -> Undo:
        """An admission policy gives new pods of these ranks an image that nobody has."""
        policy, binding = _no_image(self.gang, list(pods))
        images = {pod["metadata"]["name"]: _images(pod) for pod in pods.values()}
        await self.cluster.apply(policy, binding)
        await asyncio.sleep(POLICY_S)

        async def undo() -> None:
            await self.cluster.delete(policy, binding)
            for pod in self._pods().values():
                if pod["spec"]["containers"][0]["image"] == NO_IMAGE:
                    name = pod["metadata"]["name"]
                    await self._change("set", "image", f"pod/{name}", *images[name])

        return undo

    async def pod_evicted(self, fault: f.PodEvicted, pods: dict[int, Object]) -> Undo:
        for pod in pods.values():
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            meta = {"name": name, "namespace": namespace}
            body = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta})
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
            await self.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=body)
        return None

    async def agent_exits(self, fault: f.AgentExits, pods: dict[int, Object]) -> Undo:
        await self._to_agents(pods, "KILL")
        return None

    async def agent_hangs(self, fault: f.AgentHangs, pods: dict[int, Object]) -> Undo:
        await self._to_agents(pods, "STOP")
        return lambda: self._to_agents(pods, "CONT")

    async def agent_unreachable(self, fault: f.AgentUnreachable, pods: dict[int, Object]) -> Undo:
        async def rules(do: str) -> None:
            for pod in pods.values():
                ip = pod["status"]["podIP"]
                both = "\n".join(f"iptables -{do} FORWARD {way} {ip} -j DROP" for way in ("-s", "-d"))
                await self.cluster.on_node(pod["spec"]["nodeName"], both)

        await rules("I")
        return lambda: rules("D")

    # Nodes

    async def node_killed(self, fault: f.NodeKilled, nodes: tuple[str, ...]) -> Undo:
        await self._kill(nodes)
        return lambda: self._start(nodes)

    async def node_power_loss(self, fault: f.NodePowerLoss, nodes: tuple[str, ...]) -> Undo:
        await self._cut(nodes, "I")  # so that nobody hears of it
        return await self.node_killed(f.NodeKilled(), nodes)

    async def node_rebooted(self, fault: f.NodeRebooted, nodes: tuple[str, ...]) -> Undo:
        await self._kill(nodes)

        async def boot() -> None:
            await asyncio.sleep(fault.down)
            await self._start(nodes)

        booting = self._keep(boot())

        async def undo() -> None:
            if not booting.done() or booting.cancelled():
                await self._start(nodes)

        return undo

    async def _kill(self, nodes: tuple[str, ...]) -> None:
        await self.cluster.docker("kill", *nodes)
        self.lost_nodes += nodes

    async def _start(self, nodes: tuple[str, ...]) -> None:
        since = time.time()
        await self.cluster.docker("start", *nodes)
        await _each(nodes, lambda node: self.cluster.back(node, since))

    async def node_dark(self, fault: f.NodeDark, nodes: tuple[str, ...]) -> Undo:
        await self._cut(nodes, "I")
        return lambda: self._heal(nodes)

    async def _cut(self, nodes: tuple[str, ...], do: str, *, check: bool = True) -> None:
        rules = "\n".join(f"iptables -{do} {rule} -j DROP" for rule in CUT)
        await _each(nodes, lambda node: self.cluster.on_node(node, rules, check=check))

    async def _heal(self, nodes: tuple[str, ...]) -> None:
        since = time.time()
        await self._cut(nodes, "D")
        await _each(nodes, lambda node: self.cluster.back(node, since))

    async def node_frozen(self, fault: f.NodeFrozen, nodes: tuple[str, ...]) -> Undo:
        await self.cluster.docker("pause", *nodes)

        async def undo() -> None:
            since = time.time()
            await self.cluster.docker("unpause", *nodes)
            await _each(nodes, lambda node: self.cluster.back(node, since))

        return undo

    async def node_flapping(self, fault: f.NodeFlapping, nodes: tuple[str, ...]) -> Undo:
        async def flap() -> None:
            while True:
                await self._cut(nodes, "I")
                try:
                    await asyncio.sleep(fault.down)
                finally:
                    await self._cut(nodes, "D")
                await asyncio.sleep(fault.every - fault.down)

        flapping = self._keep(flap())

        async def undo() -> None:
            flapping.cancel()
            await asyncio.wait((flapping,))
            await self._cut(nodes, "D", check=False)  # it may have been cancelled in the middle of one

        return undo

    async def kubelet_stopped(self, fault: f.KubeletStopped, nodes: tuple[str, ...]) -> Undo:
        await _each(nodes, lambda node: self.cluster.on_node(node, "systemctl stop kubelet"))

        async def undo() -> None:
            since = time.time()
            await _each(nodes, lambda node: self.cluster.on_node(node, "systemctl start kubelet"))
            await _each(nodes, lambda node: self.cluster.back(node, since))

        return undo

    async def node_tainted(self, fault: f.NodeTainted, nodes: tuple[str, ...]) -> Undo:
        taint = f"{fault.key}:{fault.effect}"
        await self._change("taint", "nodes", *nodes, taint)
        return lambda: self._change("taint", "nodes", *nodes, f"{taint}-")

    async def node_deleted(self, fault: f.NodeDeleted, nodes: tuple[str, ...]) -> Undo:
        await self._change("delete", "nodes", *nodes, "--wait=false")

        async def undo() -> None:
            since = time.time()  # a kubelet that starts registers its node
            await _each(nodes, lambda node: self.cluster.on_node(node, "systemctl restart kubelet"))
            await _each(nodes, lambda node: self.cluster.back(node, since))

        return undo

    async def no_capacity(self, fault: f.NoCapacity, _: tuple[str, ...]) -> Undo:
        await self._change("cordon", *self.cluster.workers)
        return lambda: self._change("uncordon", *self.cluster.workers)

    # Controllers and the API server

    async def controller_crash(self, fault: f.ControllerCrash, _: tuple[str, ...]) -> Undo:
        """Its pod goes too: a container waits longer with every crash."""
        await self._to_controllers("KILL")
        label = "app.kubernetes.io/component=controller"
        await self.cluster.kubectl("-n", NAMESPACE, "delete", "pods", "-l", label, "--grace-period=0", "--force")
        return None

    async def controller_frozen(self, fault: f.ControllerFrozen, _: tuple[str, ...]) -> Undo:
        await self._to_controllers("STOP")
        return lambda: self._to_controllers("CONT")

    async def controller_gone(self, fault: f.ControllerGone, _: tuple[str, ...]) -> Undo:
        scale = ("-n", NAMESPACE, "scale", f"deployment/{DEPLOYMENT}")
        await self.cluster.kubectl(*scale, "--replicas=0")
        return lambda: self.cluster.kubectl(*scale, "--replicas=1")

    async def api_outage(self, fault: f.ApiOutage, _: tuple[str, ...]) -> Undo:
        plane = self.cluster.control_plane
        await self.cluster.on_node(plane, "kill -STOP $(pidof kube-apiserver)")
        return lambda: self.cluster.on_node(plane, "kill -CONT $(pidof kube-apiserver)")

    # People

    async def gang_edited(self, fault: f.GangEdited, _: tuple[str, ...]) -> Undo:
        await self._change("patch", "gang", self.gang[1], "--type=merge", "-p", json.dumps({"spec": fault.spec}))
        return None

    async def gang_deleted(self, fault: f.GangDeleted, _: tuple[str, ...]) -> Undo:
        await self._change("delete", "gang", self.gang[1], "--wait=false")
        return None

    async def gang_created_again(self, fault: f.GangCreatedAgain, _: tuple[str, ...]) -> Undo:
        await self.cluster.apply(self.body)
        return None

    async def status_wiped(self, fault: f.StatusWiped, _: tuple[str, ...]) -> Undo:
        await self._change("patch", "gang", self.gang[1], "--subresource=status", "--type=json",
                           "-p", '[{"op": "remove", "path": "/status"}]')  # fmt: skip
        return None

    async def pod_deleted(self, fault: f.PodDeleted, pods: dict[int, Object]) -> Undo:
        grace = "0" if fault.force else str(max(1, int(fault.grace)))
        names = [pod["metadata"]["name"] for pod in pods.values()]
        await self._change(
            "delete", "pods", *names, "--wait=false", f"--grace-period={grace}", *["--force"][: fault.force]
        )
        return None

    async def pod_edited(self, fault: f.PodEdited, pods: dict[int, Object]) -> Undo:
        names = [pod["metadata"]["name"] for pod in pods.values()]
        for verb in ("label", "annotate"):
            await self._change(verb, "pods", *names, "somebody.example/was-here=true", "--overwrite")
        return None

    async def stuck_terminating(self, fault: f.StuckTerminating, pods: dict[int, Object]) -> Undo:
        names = [pod["metadata"]["name"] for pod in pods.values()]

        async def finalizers(found: str) -> None:
            for name in names:
                await self._change(
                    "patch", "pod", name, "--type=merge", "-p", f'{{"metadata": {{"finalizers": {found}}}}}'
                )

        await finalizers('["somebody.example/keep"]')
        return lambda: finalizers("null")

    async def foreign_pod(self, fault: f.ForeignPod, pods: dict[int, Object]) -> Undo:
        names = [pod["metadata"]["name"] for pod in pods.values()]
        image = next(iter(pods.values()))["spec"]["containers"][0]["image"] if pods else ""

        async def take(name: str) -> None:
            meta = {"name": name, "namespace": self.gang[0]}
            own = {"name": "own", "image": image, "command": ["sleep", "3600"]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [own]}}
            while await self.cluster.get("pod", name, "-n", self.gang[0]) is not None:  # noqa: ASYNC110
                await asyncio.sleep(CALM_S)
            await self.cluster.apply(pod)

        for name in names:
            self._keep(take(name))
        return lambda: self._change("delete", "pods", *names, "--ignore-not-found", "--wait=false")


def _images(pod: Object) -> list[str]:
    """What `kubectl set image` wants to hear of the containers whose image _no_image takes away."""
    spec = pod["spec"]
    return [f"{c['name']}={c['image']}" for c in (spec["initContainers"][0], spec["containers"][0])]


def _no_image(gang: Key, ranks: Sequence[int]) -> tuple[Object, Object]:
    """The policy and its binding. The first init container has the trainer's image, so that it is there in time."""
    meta = {"name": f"{gang[1]}-no-image"}
    of_gang = f"object.metadata.?labels['{LABEL_GANG}'].orValue('') == '{gang[1]}'"
    of_ranks = f"object.metadata.labels['{LABEL_RANK}'] in {json.dumps([str(rank) for rank in ranks])}"
    replaced = ", ".join(
        f'JSONPatch{{op: "replace", path: "/spec/{containers}/0/image", value: "{NO_IMAGE}"}}'
        for containers in ("initContainers", "containers")
    )
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [pods]},
        "matchConditions": [{"name": "ranks", "expression": f"{of_gang} && {of_ranks}"}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{replaced}]"}}],
    }
    api = "admissionregistration.k8s.io/v1"
    return (
        {"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": meta, "spec": spec},
        {
            "apiVersion": api,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": meta,
            "spec": {"policyName": meta["name"]},
        },
    )


async def _each(items: Any, function: Callable[[Any], Awaitable[object]]) -> None:
    await asyncio.gather(*(function(item) for item in items))


def _kill(environ: str, program: str, signal: str) -> str:
    """The shell script that sends a signal to the program whose command line has these words, and whose environment
    has that line."""
    ours = f"tr '\\0' '\\n' 2>/dev/null <$p/environ | grep -qx '{environ}' && " if environ else ""
    return (
        f"for p in /proc/[0-9]*; do if [ $p != /proc/$$ ] && {ours}"
        f"tr '\\0' ' ' 2>/dev/null <$p/cmdline | grep -q '{program}'; then kill -{signal} ${{p#/proc/}}; fi; done"
    )


_DO: dict[type[f.Fault], Callable[[Injector, Any, Any], Awaitable[Undo]]] = {
    f.ContainerExit: Injector.container_exit,
    f.OutOfMemory: Injector.out_of_memory,
    f.CrashLoop: Injector.crash_loop,
    f.TrainerHangs: Injector.trainer_hangs,
    f.HardwareReport: Injector.hardware_report,
    f.ImagePullFails: Injector.image_pull_fails,
    f.PodEvicted: Injector.pod_evicted,
    f.AgentExits: Injector.agent_exits,
    f.AgentHangs: Injector.agent_hangs,
    f.AgentUnreachable: Injector.agent_unreachable,
    f.NodeKilled: Injector.node_killed,
    f.NodePowerLoss: Injector.node_power_loss,
    f.NodeRebooted: Injector.node_rebooted,
    f.NodeDark: Injector.node_dark,
    f.NodeFrozen: Injector.node_frozen,
    f.NodeFlapping: Injector.node_flapping,
    f.KubeletStopped: Injector.kubelet_stopped,
    f.NodeTainted: Injector.node_tainted,
    f.NodeDeleted: Injector.node_deleted,
    f.NoCapacity: Injector.no_capacity,
    f.ControllerCrash: Injector.controller_crash,
    f.ControllerFrozen: Injector.controller_frozen,
    f.ControllerGone: Injector.controller_gone,
    f.ApiOutage: Injector.api_outage,
    f.GangEdited: Injector.gang_edited,
    f.GangDeleted: Injector.gang_deleted,
    f.GangCreatedAgain: Injector.gang_created_again,
    f.StatusWiped: Injector.status_wiped,
    f.PodDeleted: Injector.pod_deleted,
    f.PodEdited: Injector.pod_edited,
    f.StuckTerminating: Injector.stuck_terminating,
    f.ForeignPod: Injector.foreign_pod,
}
