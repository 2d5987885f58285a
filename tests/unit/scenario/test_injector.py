"""Every fault does to a simulated world what its sentence says, and is undone at its end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sim.smallworld import GANG, NS, SmallWorld, gang_body, of, spare_body

from fleetctl.controller.views import pod_view
from fleetctl.gang.state import Steps
from fleetctl.kube.errors import ApiError
from fleetctl.kube.objects import PODS, Pod
from fleetctl.scenario import fault_texts, injector, model
from fleetctl.scenario import faults as f
from fleetctl.scenario.faults import FAULTS
from fleetctl.scenario.injector import Injector
from fleetctl.scenario.model import End, Expect, GangSize, Scenario, Select, Step
from fleetctl.sim import troubles
from fleetctl.sim.journal import Faulted, ProcessChanged
from fleetctl.sim.world import Trainer

SCENARIO = Scenario(
    name="small",
    why="a test",
    world=model.World(gang=GangSize(name="g", ranks=4), ranks_per_node=2, nodes=4),
    expect=Expect(end=End(kind="running")),
    path=Path("small.yaml"),
)


class Stage:
    """A small world in which all ranks run, and what can be done to it."""

    def __init__(self, **parts: Any) -> None:
        self.world = SmallWorld(**parts)
        self.injector = Injector(self.world, SCENARIO, GANG, gang_body())
        self.began = 0.0
        self._task: asyncio.Task[None] | None = None

    async def begins(self, fault: f.Fault, *, lasts: float | None = None, spread: float = 0.0, **whom: Any) -> None:
        """The fault has been done when this returns."""
        await asyncio.sleep(0.001)  # so that what happens from now on has a time of its own
        self.began = self.world.now()
        step = Step(at=0.0, fault=fault, select=Select(**whom), lasts=lasts, spread=spread)
        self._task = self.world.loop.spawn(None, self.injector.carry_out(step))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def is_over(self) -> None:
        assert self._task is not None
        await self._task

    @property
    def told(self) -> list[Faulted]:
        return self.world.faults()

    def processes(self, what: str) -> list[str]:
        return [e.process for e in self.world.since(self.began) if isinstance(e, ProcessChanged) and e.what == what]

    def has_trouble(self, kind: type[troubles.Trouble]) -> troubles.Trouble | None:
        return next((trouble for trouble in self.world.door.troubles if isinstance(trouble, kind)), None)


Case = Callable[[Stage], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(test: Case) -> Case:
    CASES[test.__name__] = test
    return test


def test_every_fault_has_an_implementation_a_text_and_a_test() -> None:
    kinds = set(FAULTS.values())
    assert set(fault_texts._TEXT) == kinds
    assert set(injector._DO) | set(injector._TROUBLES) == kinds
    assert not set(injector._DO) & set(injector._TROUBLES)
    assert list(CASES) == list(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_does_what_it_says(name: str) -> None:
    stage = Stage()
    stage.world.play(lambda: CASES[name](stage))
    phases = [fault.phase for fault in stage.told]
    assert phases == (["begins", "ends"] if FAULTS[name].lasts else ["begins"])
    for fault in stage.told:
        assert (fault.fault, fault.family) == (name, FAULTS[name].family)
        assert fault.text
        assert bool(fault.ranks) == (FAULTS[name].target == "ranks")
        assert bool(fault.nodes) == (FAULTS[name].target == "nodes")


def test_a_fault_is_named_the_same_when_it_begins_and_when_it_is_over() -> None:
    hangs, dark = f.TrainerHangs(), f.NodeDark()
    nodes = ("node-0", "node-1", "node-2", "node-3")
    assert fault_texts.begins(hangs, (3, 4), (), 90.0) == "rank 3-4: the trainer hangs, for 90s"
    assert fault_texts.ends(hangs, (3, 4), ()) == "trainer_hangs is over for rank 3-4"
    assert fault_texts.begins(dark, (), nodes, None) == "4 nodes (node-0, node-1 …): goes dark; what runs there runs on"
    assert fault_texts.ends(dark, (), nodes[:2]) == "node_dark is over for node-0, node-1"
    assert fault_texts.ends(f.ApiOutage(), (), ()) == "api_outage is over"


# pod


@case
async def container_exit(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.ContainerExit(signal="SIGSEGV"), ranks=(1, 3))
    assert [(e.rank, e.exit_code, e.why) for e in world.ended(stage.began)] == [(1, 139, "itself"), (3, 139, "itself")]
    assert stage.told[0].text == "rank 1,3: the trainer dies (SIGSEGV, exit 139)"


def test_an_agent_can_be_the_container_that_exits() -> None:
    stage = Stage()

    async def story() -> None:
        await stage.begins(f.ContainerExit(container="agent", exit_code=7), ranks=(3,))
        assert stage.world.pod(3).agent.exit_code == 7
        assert stage.world.running() == {0, 1, 2, 3}

    stage.world.play(story)


@case
async def out_of_memory(stage: Stage) -> None:
    await stage.begins(f.OutOfMemory(), ranks=(3,))
    trainer = stage.world.pod(3).trainer
    assert (trainer.state, trainer.exit_code, trainer.reason) == ("terminated", 137, "OOMKilled")


@case
async def crash_loop(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.CrashLoop(exit_code=5, after=2.0), ranks=(3,), lasts=30.0)
    await stage.is_over()
    started, ended = world.started(stage.began, 3), [e for e in world.ended(stage.began, 3) if e.why == "itself"]
    assert {e.exit_code for e in ended} == {5}
    assert ended[0].at - stage.began == pytest.approx(2.0)
    assert len(ended) >= 3
    for start, end in zip(started, ended[1:], strict=False):
        assert end.at - start.at == pytest.approx(2.0)
    await world.until(lambda: world.running() == {0, 1, 2, 3})
    await asyncio.sleep(20.0)
    assert world.running() == {0, 1, 2, 3}


def test_a_crash_loop_does_not_shorten_the_life_after_a_restart() -> None:
    """What would have ended the trainer of one life leaves that of the next its time."""
    stage = Stage()
    world = stage.world

    async def story() -> None:
        await stage.begins(f.CrashLoop(after=10.0), ranks=(3,), lasts=60.0)
        await asyncio.sleep(4.0)
        world.kubelet(0).trainer_ended(world.pod(0), 1)  # all restart
        await world.until(lambda: [e for e in world.ended(stage.began, 3) if e.why == "itself"])
        start = world.started(stage.began, 3)[0]
        end = next(e for e in world.ended(stage.began, 3) if e.why == "itself")
        assert end.at - start.at == pytest.approx(10.0)

    world.play(story)


@case
async def trainer_hangs(stage: Stage) -> None:
    world = stage.world
    assert world.training[GANG].complete
    await stage.begins(f.TrainerHangs(), ranks=(3,), lasts=20.0)
    step = world.training[GANG].step
    await asyncio.sleep(19.0)
    assert not world.training[GANG].complete
    assert world.training[GANG].step == step
    assert world.running() == {0, 1, 2, 3}
    await stage.is_over()
    assert world.training[GANG].complete


def test_when_a_trainer_hangs_the_controller_hears_who_is_behind() -> None:
    stage = Stage(trainer=Trainer(reports_steps=True))
    world = stage.world

    async def story() -> None:
        await asyncio.sleep(60.0)
        assert len({told.step for told in _steps(world).values()}) <= 2  # beats are not in step
        await stage.begins(f.TrainerHangs(), ranks=(1, 3), lasts=30.0)
        await asyncio.sleep(29.0)
        told = _steps(world)
        assert told[0].step == told[2].step == told[1].step + 1 == told[3].step + 1
        assert all(steps.at < world.loop.time() - 20.0 for steps in told.values())
        assert all(steps.mean_s == pytest.approx(2.0, rel=0.2) for steps in told.values())
        await stage.is_over()
        await asyncio.sleep(20.0)
        assert min(steps.step for steps in _steps(world).values()) > told[0].step
        world.kubelet(0).trainer_ended(world.pod(0), 1)
        await world.until(lambda: _steps(world) == {})  # all wait
        await world.until(lambda: len(_steps(world)) == 4)

    world.play(story)


def test_without_reports_nobody_knows_of_steps() -> None:
    stage = Stage()

    async def story() -> None:
        await asyncio.sleep(20.0)
        assert _steps(stage.world) == {}

    stage.world.play(story)


def _steps(world: SmallWorld) -> dict[int, Steps]:
    """What the controller knows of each rank."""
    controller = world.controllers[0].controller
    assert controller is not None
    told = {rank: controller._rendezvous.steps(world.pod(rank).uid) for rank in range(4)}
    return {rank: steps for rank, steps in told.items() if steps is not None}


@case
async def trainer_slow(stage: Stage) -> None:
    training = stage.world.training[GANG]
    await stage.begins(f.TrainerSlow(factor=2.0), ranks=(3,), lasts=36.0)
    assert [training.work_s(rank) for rank in range(4)] == [1.6, 1.6, 1.6, 3.2]
    before = training.step
    await asyncio.sleep(35.9)
    assert training.step - before in (9, 10)  # of 3.6 s
    await stage.is_over()
    assert training.work_s(3) == 1.6
    before = training.step
    await asyncio.sleep(36.0)
    assert training.step - before == 18


def test_the_controller_hears_who_works_longer() -> None:
    stage = Stage(trainer=Trainer(reports_steps=True))

    async def story() -> None:
        await stage.begins(f.TrainerSlow(factor=2.0), ranks=(3,), lasts=60.0)
        await asyncio.sleep(20.0)
        assert [steps.work_s for steps in _steps(stage.world).values()] == [1.6, 1.6, 1.6, 3.2]
        await stage.is_over()

    stage.world.play(story)


@case
async def hardware_report(stage: Stage) -> None:
    world = stage.world
    uid = world.pod(3).uid
    reported_at = world.unix_time()
    await stage.begins(f.HardwareReport(code="xid-13", device="GPU-3", text="a page fault"), ranks=(3,))
    assert stage.told[0].text == "rank 3: xid-13 on GPU-3 is reported (a page fault)"
    await asyncio.sleep(1.1)
    (report,) = _life(world, uid).hardware
    assert (report.code, report.device, report.text) == ("xid-13", "GPU-3", "a page fault")
    assert report.at == pytest.approx(reported_at, abs=0.1)
    assert _life(world, world.pod(2).uid).hardware == ()
    world.controllers[0].crash()
    world.controllers[0].start()
    await world.until(lambda: world.controllers[0].controller and _life(world, uid), 60.0)
    await world.until(lambda: _life(world, uid).hardware == (report,), 1.0)  # a new leader is told


def test_a_report_is_told_by_an_agent_that_was_away() -> None:
    stage = Stage()
    world = stage.world

    async def story() -> None:
        world.kubelet(3).agent_ended(world.pod(3), world.pod(3).agent_process, 1)
        await stage.begins(f.HardwareReport(code="xid-13"), ranks=(3,))
        await asyncio.sleep(10.0)
        assert [report.code for report in _life(world, world.pod(3).uid).hardware] == ["xid-13"]

    world.play(story)


@case
async def device_unhealthy(stage: Stage) -> None:
    world = stage.world
    shown = lambda: world.there(3)["status"]["containerStatuses"][0].get("allocatedResourcesStatus")  # noqa: E731
    await stage.begins(f.DeviceUnhealthy(device="GPU-5"), ranks=(3,), lasts=0.8)
    await asyncio.sleep(0.7)
    unhealthy = {"resourceID": "GPU-5", "health": "Unhealthy"}
    assert shown() == [{"name": "nvidia.com/gpu", "resources": [unhealthy]}]
    assert pod_view(msgspec.convert(world.there(3), Pod), "").containers[0].unhealthy == ("nvidia.com/gpu GPU-5",)
    await stage.is_over()
    await asyncio.sleep(1.0)
    assert not shown()


@case
async def image_pull_fails(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.ImagePullFails(), ranks=(3,), lasts=20.0)
    world.api.delete("somebody", "pods", NS, world.name(3), grace_s=0)
    await asyncio.sleep(15.0)
    assert of(world.there(3)["status"], "fleetctl-life") == "waiting ImagePullBackOff"
    await stage.is_over()
    await world.until(lambda: 3 in world.running(), 15.0)


@case
async def image_pull_slow(stage: Stage) -> None:
    world = stage.world
    world.images["node-2"] = {"trainer:sim", "agent:sim"}
    await stage.begins(f.ImagePullSlow(takes=40.0), nodes=(2, 3), lasts=10.0)
    for node in ("node-2", "node-3"):
        world.api.create("somebody", "pods", spare_body(f"on-{node}", node))
    await stage.is_over()
    await asyncio.sleep(20.0)
    runs = {name: world.api.get("pods", NS, f"on-{name}")["status"]["phase"] for name in ("node-2", "node-3")}  # type: ignore[index]
    assert runs == {"node-2": "Running", "node-3": "Pending"}
    await asyncio.sleep(15.0)
    assert world.api.get("pods", NS, "on-node-3")["status"]["phase"] == "Running"  # type: ignore[index]
    assert world.images["node-3"] == {"trainer:sim", "agent:sim"}


@case
async def pods_start_slowly(stage: Stage) -> None:
    world = stage.world
    world.images["node-2"] = {"trainer:sim", "agent:sim"}
    await stage.begins(f.PodsStartSlowly(takes=40.0), nodes=(2,), lasts=1.0)
    world.api.create("somebody", "pods", spare_body("slow", "node-2"))
    await asyncio.sleep(0.5)
    world.api.create("somebody", "pods", spare_body("deleted", "node-2"))
    await asyncio.sleep(39.0)
    assert world.api.get("pods", NS, "slow")["status"]["phase"] == "Pending"  # type: ignore[index]
    world.api.delete("somebody", "pods", NS, "deleted")
    await asyncio.sleep(2.5)
    assert world.api.get("pods", NS, "slow")["status"]["phase"] == "Running"  # type: ignore[index]
    assert world.api.get("pods", NS, "deleted") is None  # it does not wait for what it will not need


@case
async def node_rejects_pods(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.NodeRejectsPods(reason="UnexpectedAdmissionError"), nodes=(2,), lasts=20.0)
    world.api.create("somebody", "pods", spare_body(node="node-2"))
    await asyncio.sleep(2.0)
    told = world.api.get("pods", NS, "spare")["status"]  # type: ignore[index]
    assert (told["phase"], told["reason"]) == ("Failed", "UnexpectedAdmissionError")
    assert "containerStatuses" not in told
    await stage.is_over()
    await asyncio.sleep(2.0)
    assert world.api.get("pods", NS, "spare")["status"] == told  # type: ignore[index]
    world.api.create("somebody", "pods", spare_body("another", "node-2"))
    await asyncio.sleep(2.0)
    assert world.api.get("pods", NS, "another")["status"]["phase"] == "Running"  # type: ignore[index]


@case
async def spares_crash(stage: Stage) -> None:
    world = stage.world
    for number in (2, 3):
        world.api.create("somebody", "pods", spare_body(f"spare-{number}", f"node-{number}"))
    await asyncio.sleep(3.0)
    await stage.begins(f.SparesCrash(), nodes=(2,), lasts=30.0)
    await asyncio.sleep(5.0)
    spares = [lambda n=n: world.api.get("pods", NS, f"spare-{n}")["status"] for n in (2, 3)]  # type: ignore[index, misc]
    assert {of(spares[0](), name) for name in ("trainer", "fleetctl-hold")} == {"waiting CrashLoopBackOff"}
    assert {of(spares[1](), name) for name in ("trainer", "fleetctl-hold")} == {"running"}
    await asyncio.sleep(10.0)
    assert {c["restartCount"] for c in spares[0]()["containerStatuses"]} == {2}
    await stage.is_over()
    await asyncio.sleep(20.0)
    assert {of(spares[0](), name) for name in ("trainer", "fleetctl-hold")} == {"running"}
    assert spares[0]()["phase"] == "Running"


@case
async def container_never_returns(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.ContainerNeverReturns(), ranks=(3,), lasts=20.0)
    world.kubelet(3).trainer_ended(world.pod(3), 1)
    await asyncio.sleep(19.0)
    assert world.restarting(stage.began, 3)
    assert world.pod(3).agent.state == "terminated"
    await stage.is_over()
    await world.until(lambda: 3 in world.running(), 15.0)


@case
async def pod_evicted(stage: Stage) -> None:
    world = stage.world
    uid = world.pod(3).uid
    await stage.begins(f.PodEvicted(reason="PreemptionByScheduler"), ranks=(3,))
    told = [c for c in world.there(3)["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert [(c["status"], c["reason"]) for c in told] == [("True", "PreemptionByScheduler")]
    assert world.there(3)["metadata"]["deletionTimestamp"]
    await world.until(lambda: (world.body(3) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid)


# agent


@case
async def agent_exits(stage: Stage) -> None:
    world = stage.world
    process = world.pod(3).agent_process
    await stage.begins(f.AgentExits(exit_code=9), ranks=(3,))
    assert process.killed
    assert world.pod(3).agent.exit_code == 9
    await asyncio.sleep(10.0)
    assert world.pod(3).agent.state == "running"
    assert world.ended(stage.began) == []


@case
async def agent_hangs(stage: Stage) -> None:
    process = stage.world.pod(3).agent_process
    await stage.begins(f.AgentHangs(), ranks=(3,), lasts=5.0)
    assert process.frozen
    await stage.is_over()
    assert not process.frozen
    assert stage.world.pod(3).agent_process is process


@case
async def agent_unreachable(stage: Stage) -> None:
    world = stage.world
    heard = lambda: world.controllers[0].controller._rendezvous.life(world.pod(3).uid)  # type: ignore[union-attr]  # noqa: E731
    assert heard() is not None
    assert not heard().silent  # type: ignore[union-attr]
    await stage.begins(f.AgentUnreachable(), ranks=(3,), lasts=40.0)
    await asyncio.sleep(39.0)
    assert heard() is None or heard().silent  # type: ignore[union-attr]
    assert world.running() == {0, 1, 2, 3}
    await stage.is_over()
    await asyncio.sleep(20.0)
    assert heard() is not None
    assert not heard().silent  # type: ignore[union-attr]


@case
async def agent_never_starts(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.AgentNeverStarts(), ranks=(3,), lasts=15.0)
    world.kubelet(3).agent_ended(world.pod(3), world.pod(3).agent_process, 1)
    await asyncio.sleep(10.0)
    assert world.network.listener(world.pod(3).ip, 28100) is None
    await stage.is_over()
    world.kubelet(3).agent_ended(world.pod(3), world.pod(3).agent_process, 1)
    await asyncio.sleep(5.0)
    assert world.network.listener(world.pod(3).ip, 28100) is not None


@case
async def agent_told_nothing(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.AgentToldNothing(), ranks=(3,), lasts=20.0)
    world.kubelet(0).trainer_ended(world.pod(0), 1)
    await asyncio.sleep(19.0)
    assert world.running() == {0, 1, 2}
    assert {e.attempt for e in world.started(stage.began)} == {2}
    await stage.is_over()
    await world.until(lambda: world.running() == {0, 1, 2, 3}, 20.0)


# node


@case
async def node_killed(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.NodeKilled(), nodes=(1,))
    assert {(e.rank, e.why) for e in world.ended(stage.began)} == {(2, "node"), (3, "node")}
    assert world.kubelets["node-1"].process.killed
    assert set(stage.told[0].fences) == {pod.uid for pod in world.kubelets["node-1"].pods.values()}
    await asyncio.sleep(0.1)
    assert any(
        life.silent for pod in world.kubelets["node-1"].pods.values() if (life := _life(world, pod.uid)) is not None
    )


def _life(world: SmallWorld, uid: str) -> Any:
    controller = world.controllers[0].controller
    assert controller is not None
    return controller._rendezvous.life(uid)


@case
async def node_power_loss(stage: Stage) -> None:
    world = stage.world
    uid = world.pod(3).uid
    await stage.begins(f.NodePowerLoss(), node_of=3)
    assert stage.told[0].nodes == ("node-1",)
    assert {e.rank for e in world.ended(stage.began)} == {2, 3}
    await asyncio.sleep(2.0)
    assert not _life(world, uid).silent  # nobody has closed its stream


@case
async def node_rebooted(stage: Stage) -> None:
    world = stage.world
    before = world.kubelets["node-1"]
    await stage.begins(f.NodeRebooted(down=5.0), nodes=(1,))
    assert before.process.killed
    await asyncio.sleep(4.9)
    assert world.kubelets["node-1"] is before
    await asyncio.sleep(0.2)
    assert world.kubelets["node-1"] is not before
    await world.until(lambda: world.running() == {0, 1, 2, 3})


@case
async def node_dark(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.NodeDark(), nodes=(1,), lasts=10.0)
    assert not world.network.reaches("node-1", "api")
    assert world.running() == {0, 1, 2, 3}
    assert not world.training[GANG].complete
    await stage.is_over()
    assert world.network.reaches("node-1", "api")
    assert world.training[GANG].complete


@case
async def node_frozen(stage: Stage) -> None:
    world = stage.world
    processes = world.kubelets["node-1"].processes()
    assert len(processes) == 3
    await stage.begins(f.NodeFrozen(), nodes=(1,), lasts=10.0)
    assert all(process.frozen for process in processes)
    assert not world.training[GANG].complete
    await stage.is_over()
    assert not any(process.frozen for process in processes)
    assert world.training[GANG].complete


@case
async def node_flapping(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.NodeFlapping(every=10.0, down=3.0), nodes=(1,), lasts=22.0)
    light = []
    for _ in range(21):
        await asyncio.sleep(0.5)
        light.append(world.network.reaches("node-1", "api"))
        await asyncio.sleep(0.5)
    assert light == [*[False] * 3, *[True] * 7, *[False] * 3, *[True] * 7, False]
    await stage.is_over()
    assert world.network.reaches("node-1", "api")
    await asyncio.sleep(15.0)
    assert world.network.reaches("node-1", "api")


@case
async def kubelet_stopped(stage: Stage) -> None:
    world = stage.world
    kubelet = world.kubelets["node-1"]
    await stage.begins(f.KubeletStopped(), nodes=(1,), lasts=10.0)
    assert [process.frozen for process in kubelet.processes()] == [True, False, False]
    await stage.is_over()
    assert not kubelet.process.frozen


@case
async def kubelet_slow(stage: Stage) -> None:
    world = stage.world
    kubelet = world.kubelets["node-1"]
    await asyncio.sleep(2.0)  # what was under way is told
    await stage.begins(f.KubeletSlow(lag=30.0), nodes=(1,), lasts=10.0)
    world.kubelet(3).trainer_ended(world.pod(3), 1)
    await asyncio.sleep(9.0)
    assert world.statuses(3, stage.began) == []
    assert world.statuses(0, stage.began) != []
    await stage.is_over()
    assert kubelet.lag_s == 0.0


@case
async def kubelet_forgets(stage: Stage) -> None:
    world = stage.world
    await asyncio.sleep(2.0)
    true = world.there(3)["status"]
    await stage.begins(f.KubeletForgets(), nodes=(1,))
    await asyncio.sleep(1.0)
    assert [of(status, "trainer") for status in world.statuses(3, stage.began)] != ["running"]
    assert len(world.statuses(3, stage.began)) == 2
    assert world.there(3)["status"] == true


@case
async def node_tainted(stage: Stage) -> None:
    world = stage.world
    taints = lambda: world.api.get("nodes", "", "node-1")["spec"].get("taints")  # type: ignore[index]  # noqa: E731
    await stage.begins(f.NodeTainted(key="example.com/x"), nodes=(1,), lasts=3.0)
    assert taints() == [{"key": "example.com/x", "effect": "NoSchedule"}]
    await stage.is_over()
    assert taints() == []


@case
async def node_condition(stage: Stage) -> None:
    world = stage.world
    told = lambda: {c["type"]: c["status"] for c in world.api.get("nodes", "", "node-1")["status"]["conditions"]}  # type: ignore[index]  # noqa: E731
    await stage.begins(f.NodeCondition(type="SomebodyWasHere"), nodes=(1,), lasts=3.0)
    assert told() == {"Ready": "True", "SomebodyWasHere": "True"}
    await stage.is_over()
    assert told() == {"Ready": "True", "SomebodyWasHere": "False"}


@case
async def node_deleted(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.NodeDeleted(), nodes=(3,))
    assert world.api.get("nodes", "", "node-3") is None
    await asyncio.sleep(60.0)
    assert world.api.get("nodes", "", "node-3") is None


@case
async def node_replaced(stage: Stage) -> None:
    world, before = stage.world, stage.world.pod(2)
    uid = world.api.get("nodes", "", "node-1")["metadata"]["uid"]  # type: ignore[index]
    world.taint("node-1", "example.com/bad", "NoSchedule")
    await stage.begins(f.NodeReplaced(), nodes=(1,))
    there = world.api.get("nodes", "", "node-1")
    assert there is not None
    assert there["metadata"]["uid"] != uid
    assert there["spec"] == {}
    assert world.images["node-1"] == set()
    assert not before.trains
    await world.until(lambda: world.running() == {0, 1, 2, 3}, 60.0)
    assert world.pod(2).volume is not before.volume
    await world.until(lambda: world.lease_of("node-1"), 10.0)


@case
async def no_capacity(stage: Stage) -> None:
    world = stage.world
    cordoned = lambda: [bool(node["spec"].get("unschedulable")) for node in world.api.all("nodes")]  # noqa: E731
    await stage.begins(f.NoCapacity(), lasts=10.0)
    assert cordoned() == [True] * 4
    assert world.running() == {0, 1, 2, 3}
    world.api.delete("somebody", "pods", NS, world.name(3), grace_s=0)
    await asyncio.sleep(9.0)
    assert "nodeName" not in world.there(3)["spec"]
    await stage.is_over()
    assert cordoned() == [False] * 4
    await world.until(lambda: 3 in world.running(), 20.0)


# process


@case
async def controller_crash(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.ControllerCrash(restart_after=4.0))
    assert stage.processes("crashes") == ["controller-0_1"]
    await asyncio.sleep(3.9)
    assert stage.processes("starts") == []
    await asyncio.sleep(0.2)
    assert stage.processes("starts") == ["controller-0_2"]
    await world.until(lambda: world.controllers[0].ready, 10.0)


@pytest.mark.parametrize(("edge", "happened"), [("before", False), ("after", True)])
def test_a_controller_can_crash_around_its_next_write(edge: Any, happened: bool) -> None:
    stage = Stage()
    world = stage.world

    async def story() -> None:
        await asyncio.sleep(5.0)
        await stage.begins(f.ControllerCrash(edge=edge, write="status", restart_after=3.0))
        await asyncio.sleep(5.0)
        assert stage.processes("crashes") == []
        world.kubelet(3).trainer_ended(world.pod(3), 1)
        await world.until(lambda: stage.processes("crashes"), 5.0)
        await asyncio.sleep(1.0)
        gang = world.api.get("gangs", *GANG)
        assert gang is not None
        assert (gang["status"]["attempt"]["target"] == 2) is happened
        await world.until(lambda: len(world.started(stage.began)) == 4)
        assert stage.processes("crashes") == ["controller-0_1"]  # once
        assert stage.processes("starts") == ["controller-0_2"]

    world.play(story)


@case
async def controller_frozen(stage: Stage) -> None:
    world = stage.world
    process = world.leader.process
    await stage.begins(f.ControllerFrozen(), lasts=10.0)
    assert process.frozen
    assert stage.processes("freezes") == ["controller-0_1"]
    await stage.is_over()
    assert not process.frozen
    assert stage.processes("goes on") == ["controller-0_1"]


@case
async def controller_gone(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.ControllerGone(), lasts=20.0)
    await asyncio.sleep(10.0)
    assert stage.processes("stops") == ["controller-0_1"]
    assert world.rendezvous_addresses() == []
    assert world.running() == {0, 1, 2, 3}
    await stage.is_over()
    assert stage.processes("starts") == ["controller-0_2"]
    await asyncio.sleep(20.0)
    assert world.ended(stage.began) == []


def test_a_controller_that_was_started_again_is_not_started_twice() -> None:
    stage = Stage()

    async def story() -> None:
        await stage.begins(f.ControllerCrash(restart_after=5.0))
        await stage.begins(f.ControllerGone(), lasts=10.0)
        await stage.is_over()
        await asyncio.sleep(5.0)
        assert stage.processes("starts") == ["controller-0_2"]

    stage.world.play(story)


@case
async def lease_unreachable(stage: Stage) -> None:
    world = stage.world
    leads = lambda: world.controllers[0].controller._leads()  # type: ignore[union-attr]  # noqa: E731
    assert leads()
    await stage.begins(f.LeaseUnreachable(), lasts=40.0)
    await asyncio.sleep(39.0)
    assert not leads()
    await stage.is_over()
    await world.until(leads, 60.0)


@case
async def clock_jump(stage: Stage) -> None:
    clock = stage.world.controllers[0].clock
    before = clock.now()
    await stage.begins(f.ClockJump(by=-3600.0))
    assert (clock.now() - before).total_seconds() == pytest.approx(-3600.0, abs=0.1)
    assert stage.world.clock.ahead_s == 0.0


# api: what each trouble does to requests is tests/unit/sim/test_api_transport.py's


def at_the_door(fault: f.Fault, trouble: troubles.Trouble) -> None:
    async def test(stage: Stage) -> None:
        await stage.begins(fault, lasts=5.0)
        found = stage.has_trouble(type(trouble))
        if isinstance(trouble, troubles.StaleLists):
            trouble_now: troubles.Trouble = troubles.StaleLists(actor="controller", as_of=stage.world.api.version)
            assert found == trouble_now
        else:
            assert found == trouble
        await stage.is_over()
        assert stage.world.door.troubles == ()

    CASES[type(fault).name] = test


at_the_door(
    f.ApiThrottled(share=0.5, retry_after=3.0), troubles.Throttled(actor="controller", share=0.5, retry_after=3.0)
)
at_the_door(f.ApiErrors(status=500, share=0.2), troubles.Errors(actor="controller", share=0.2, status=500))
at_the_door(f.AnswersLost(share=0.3, applied=False), troubles.AnswerLost(actor="controller", share=0.3, applied=False))
at_the_door(f.ConnectionsReset(share=0.3), troubles.Reset(actor="controller", share=0.3))
at_the_door(f.TokenRejected(share=0.3), troubles.TokenRejected(actor="controller", share=0.3))
at_the_door(
    f.WritesRefused(message="no"),
    troubles.Refused(actor="controller", plural="pods", verb="create", status=403, message="no"),
)
at_the_door(f.Conflicts(share=0.3), troubles.Conflict(actor="controller", plural="gangs", share=0.3))
at_the_door(f.ApiSlow(), troubles.Slow(actor="controller", latency_s=(1.0, 5.0)))


@case
async def api_outage(stage: Stage) -> None:
    world = stage.world
    client = world.door.client("controller/other", world.stream("test"))
    await stage.begins(f.ApiOutage(), lasts=90.0)
    with pytest.raises(ApiError):
        async with asyncio.timeout(30.0):
            await client.list(PODS, NS)
    await asyncio.sleep(1.0)
    inside = [e for e in world.since(stage.began) if getattr(e, "actor", "").startswith(("kubelet/", "node-lifecycle"))]
    assert inside == []
    await stage.is_over()
    await asyncio.sleep(30.0)
    assert {e.name for e in world.wrote("leases", at=stage.began)} >= set(world.node_names)
    assert [world.ready(node) for node in world.node_names] == ["True"] * 4
    assert (await client.list(PODS, NS)).items
    assert world.ended(stage.began) == []


# stale

at_the_door(f.WatchStalled(), troubles.Stalled(actor="controller", plural="pods"))
at_the_door(f.WatchesClosed(every=2.0), troubles.Closed(actor="controller", every_s=2.0))


@case
async def history_lost(stage: Stage) -> None:
    world = stage.world
    listed = len([e for e in world.events if type(e).__name__ == "Listed"])
    await stage.begins(f.HistoryLost())
    assert world.api._store.oldest == world.api.version
    await asyncio.sleep(20.0)
    assert len([e for e in world.events if type(e).__name__ == "Listed"]) > listed  # somebody had to read it all again
    assert world.ended(stage.began) == []


at_the_door(f.StaleLists(), troubles.StaleLists(as_of=0))
at_the_door(f.EventsDuplicated(), troubles.Duplicated(actor="controller"))
at_the_door(f.WatchDelayed(by=3.0), troubles.Delayed(actor="controller", plural="pods", by_s=3.0))
at_the_door(f.EventsCoalesced(window=3.0), troubles.Coalesced(actor="controller", plural="pods", window_s=3.0))


# people


@case
async def gang_edited(stage: Stage) -> None:
    world = stage.world
    gang = lambda: world.api.get("gangs", *GANG)  # noqa: E731
    await stage.begins(f.GangEdited(spec={"recovery": {"paused": True}, "suspend": None}))
    assert gang()["spec"]["recovery"]["paused"] is True  # type: ignore[index]
    assert "budgets" in gang()["spec"]["recovery"]  # type: ignore[index]
    assert "suspend" not in gang()["spec"]  # type: ignore[index]


@case
async def gang_deleted(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.GangDeleted())
    await world.until(lambda: world.api.get("gangs", *GANG) is None)
    await world.until(lambda: not world.api.all("pods"), 60.0)
    assert world.running() == set()


@case
async def gang_created_again(stage: Stage) -> None:
    world = stage.world
    before = world.api.get("gangs", *GANG)
    world.api.delete("somebody", "gangs", *GANG)
    await asyncio.sleep(60.0)
    await stage.begins(f.GangCreatedAgain())
    again = world.api.get("gangs", *GANG)
    assert before is not None
    assert again is not None
    assert again["metadata"]["uid"] != before["metadata"]["uid"]
    assert again["spec"] == before["spec"]
    await world.until(lambda: world.running() == {0, 1, 2, 3})


@case
async def status_wiped(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.StatusWiped())
    (wiped,) = [e for e in world.wrote("gangs", at=stage.began) if e.actor == "somebody"]
    assert wiped.after is not None
    assert wiped.after["status"] == {}


@case
async def pod_deleted(stage: Stage) -> None:
    world = stage.world
    uid = world.pod(3).uid
    await stage.begins(f.PodDeleted(grace=20.0), ranks=(3,))
    assert world.there(3)["metadata"]["deletionGracePeriodSeconds"] == 20
    assert stage.told[0].fences == ()
    await world.until(lambda: (world.body(3) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid)


@pytest.mark.parametrize(("fault", "gone"), [(f.PodDeleted(force=True), True), (f.PodDeleted(grace=0.5), False)])
def test_only_a_deletion_by_force_is_by_force(fault: f.PodDeleted, gone: bool) -> None:
    stage = Stage()
    world = stage.world

    async def story() -> None:
        uid = world.pod(3).uid
        await stage.begins(fault, ranks=(3,))
        assert (world.body(3) is None) is gone
        assert stage.told[0].fences == ((uid,) if gone else ())

    world.play(story)


@case
async def pod_edited(stage: Stage) -> None:
    world = stage.world
    before = world.there(3)["metadata"]
    await stage.begins(f.PodEdited(), ranks=(3,))
    meta = world.there(3)["metadata"]
    assert meta["labels"] == {**before["labels"], "somebody.example/was-here": "true"}
    assert meta["annotations"]["somebody.example/was-here"] == "true"


@case
async def stuck_terminating(stage: Stage) -> None:
    world = stage.world
    uid = world.pod(3).uid
    await stage.begins(f.StuckTerminating(), ranks=(3,), lasts=10.0)
    world.api.delete("somebody", "pods", NS, world.name(3), grace_s=1)
    await asyncio.sleep(9.0)
    assert world.there(3)["metadata"]["uid"] == uid
    await stage.is_over()
    assert world.body(3) is None


@case
async def foreign_pod(stage: Stage) -> None:
    world = stage.world
    await stage.begins(f.ForeignPod(), ranks=(3,))
    await asyncio.sleep(5.0)
    assert world.running() == {0, 1, 2, 3}
    world.api.delete("somebody", "pods", NS, world.name(3), grace_s=0)
    await asyncio.sleep(0.5)
    assert "labels" not in world.there(3)["metadata"]
    assert world.there(3)["spec"]["containers"] == [{"name": "own"}]


# Whom it hits, and when


def test_a_fault_that_is_spread_hits_one_after_the_other_and_each_for_its_time() -> None:
    stage = Stage()

    async def story() -> None:
        await stage.begins(f.AgentHangs(), ranks=(0, 1, 2, 3), spread=40.0, lasts=15.0)
        await stage.is_over()
        hits = [(e.phase, e.ranks, round(e.at - stage.began)) for e in stage.told]
        assert hits == [
            ("begins", (0,), 0),
            ("begins", (1,), 10),
            ("ends", (0,), 15),
            ("begins", (2,), 20),
            ("ends", (1,), 25),
            ("begins", (3,), 30),
            ("ends", (2,), 35),
            ("ends", (3,), 45),
        ]

    stage.world.play(story)


def test_chance_draws_the_same_targets_for_the_same_seed_and_others_for_others() -> None:
    def drawn(seed: int) -> tuple[int, ...]:
        stage = Stage(seed=seed)

        async def story() -> None:
            await stage.begins(f.PodEdited(), any=2)

        stage.world.play(story)
        return stage.told[0].ranks

    draws = [drawn(seed) for seed in (1, 1, 2, 3, 4, 5)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1
    assert all(len(ranks) == 2 and ranks == tuple(sorted(set(ranks))) for ranks in draws)


def test_the_node_of_a_rank_that_is_nowhere_cannot_be_hit() -> None:
    stage = Stage()

    async def story() -> None:
        stage.world.kubelets["node-1"].pods.clear()
        step = Step(at=0.0, fault=f.NodeKilled(), select=Select(node_of=3))
        with pytest.raises(LookupError, match="rank 3 is on no node when node_killed should begin"):
            await stage.injector.carry_out(step)

    stage.world.play(story)


def test_a_merge_patch_removes_what_is_null() -> None:
    assert injector.merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None, "e": 4}, "d": None, "f": {"g": 1}}) == {
        "a": {"c": 2, "e": 4},
        "f": {"g": 1},
    }
