"""Every fault does to a kind cluster what is written beside it, and is undone at its end or at the run's."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from docker import IMAGE, Docker

from fleetctl.kind import injector as under_test
from fleetctl.kind.cluster import Cluster
from fleetctl.kind.injector import NO_IMAGE, Injector, _kill, _no_image
from fleetctl.kind.records import Records
from fleetctl.kind.shell import CommandFailed
from fleetctl.scenario import faults as f
from fleetctl.scenario import model
from fleetctl.scenario.faults import FAULTS
from fleetctl.scenario.model import End, Expect, GangSize, Scenario, Select, Step
from fleetctl.sim.journal import Faulted, TrainerStarted
from fleetctl.sim.loop import BEGIN, VirtualLoop

SCENARIO = Scenario(
    name="small",
    why="a test",
    world=model.World(gang=GangSize(name="g", ranks=4), ranks_per_node=2, nodes=4),
    expect=Expect(end=End(kind="running")),
    path=Path("small.yaml"),
)
BODY = {"kind": "Gang", "metadata": {"name": "g"}}
PLANE, ONE, TWO = "demo-control-plane", "demo-worker", "demo-worker2"


class Orders(Records):
    """Keeps what the trainers are told among what Docker is told."""

    def __init__(self, docker: Docker) -> None:
        super().__init__(Path("nowhere"), ("default", "g"), 0.0)
        self._docker = docker

    def command(self, uid: str, text: str) -> None:
        self._docker.changes.append(f"trainer of {uid}: {text}")


class Stage:
    """A kind cluster with ranks 0 and 2 on its first worker, 1 and 3 on the second; time jumps."""

    def __init__(self, docker: Docker, seed: int = 1) -> None:
        self.docker = docker
        self.loop = VirtualLoop()
        nodes = [node.name for node in docker.runs("demo", 2)]
        docker.has_pod("fleetctl-system", "controller", PLANE)
        for rank in range(4):
            docker.has_pod("default", f"g-{rank}", nodes[1 + rank % 2], rank=rank)
        self.told: list[Faulted] = []
        self.injector = Injector(
            Cluster("demo", nodes[0], tuple(nodes[1:]), docker.folder, docker.folder / "audit.log"),
            SCENARIO,
            seed,
            ("default", "g"),
            BODY,
            Orders(docker),
            pods=lambda: docker.pods["default"],
            tell=self.told.append,  # type: ignore[arg-type]
            now=self.now,
        )

    def now(self) -> float:
        return self.loop.time() - BEGIN

    def play(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(story)

    async def hit(
        self, fault: f.Fault, *, lasts: float | None = None, spread: float = 0.0, **whom: Any
    ) -> Sequence[str]:
        """What was done."""
        before = len(self.docker.changes)
        await self.injector.carry_out(Step(at=0.0, fault=fault, select=Select(**whom), lasts=lasts, spread=spread))
        await asyncio.sleep(0.001)  # what it set going has begun
        return self.docker.changes[before:]

    async def clean_up(self) -> Sequence[str]:
        """What was undone."""
        before = len(self.docker.changes)
        await self.injector.clean_up()
        return self.docker.changes[before:]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    docker = Docker(tmp_path)
    docker.stands_in(monkeypatch)
    return docker


@pytest.fixture
def stage(docker: Docker) -> Stage:
    return Stage(docker)


def on(node: str, *lines: str) -> str:
    """A script runs in that node."""
    return f"{node}: sh -s < " + "\n".join(lines)


def trainer(rank: int, signal: str) -> str:
    return on((ONE, TWO)[rank % 2], _kill(f"POD_UID=uid-g-{rank}", "python3 -c", signal))


def agent(rank: int, signal: str) -> str:
    return on((ONE, TWO)[rank % 2], _kill(f"FLEETCTL_POD=g-{rank}", "fleetctl agent", signal))


def controller(signal: str) -> str:
    return on(PLANE, _kill("", "fleetctl controller", signal))


def cut(node: str, do: str) -> str:
    ways = "INPUT -i eth0", "OUTPUT -o eth0", "FORWARD -i eth0", "FORWARD -o eth0"
    return on(node, *(f"iptables -{do} {way} -j DROP" for way in ways))


def agent_cut(node: str, do: str, ip: str) -> str:
    return on(node, *(f"iptables -{do} FORWARD {way} {ip} -j DROP" for way in ("-s", "-d")))


RANK, NODE, BOTH = {"ranks": (1,)}, {"nodes": (1,)}, {"nodes": (0, 1)}
EVICTIONS = "/api/v1/namespaces/default/pods/g-1/eviction"
EVICTION = '{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "g-1", "namespace": "default"}}'
GANG = "kubectl -n default patch gang g"
POD = "kubectl -n default patch pod g-1 --type=merge -p"
MARK = "somebody.example/was-here=true"
SCALE = "kubectl -n fleetctl-system scale deployment/fleetctl-controller"

POLICY = json.dumps({"apiVersion": "v1", "kind": "List", "items": _no_image(("default", "g"), [1])})

CASES: list[tuple[f.Fault, dict[str, Any], list[str], list[str]]] = [
    (f.ContainerExit(exit_code=3), {"ranks": (1, 2)}, ["trainer of uid-g-1: exit 3", "trainer of uid-g-2: exit 3"], []),
    (f.ContainerExit(signal="SIGSEGV"), RANK, ["trainer of uid-g-1: crash"], []),
    (f.ContainerExit(signal="SIGTERM"), RANK, ["trainer of uid-g-1: exit 143"], []),
    (f.ContainerExit(signal="SIGKILL"), RANK, [trainer(1, "KILL")], []),
    (f.OutOfMemory(), RANK, ["trainer of uid-g-1: eat"], []),
    (f.CrashLoop(exit_code=5, after=0.0), RANK, ["trainer of uid-g-1: exit 5"], []),
    (
        f.TrainerHangs(),
        {"ranks": (1, 2)},
        [trainer(1, "STOP"), trainer(2, "STOP")],
        [trainer(1, "CONT"), trainer(2, "CONT")],
    ),
    (
        f.HardwareReport(code="xid-31", device="GPU-3", text="it's a page fault"),
        RANK,
        [
            on(
                TWO,
                """echo "$(date +%s.%N)" 'xid-31 GPU-3 it'"'"'s a page fault' """
                ">>/var/lib/kubelet/pods/uid-g-1/volumes/kubernetes.io~empty-dir/fleetctl-progress/hardware",
            )
        ],
        [],
    ),
    (
        f.ImagePullFails(),
        RANK,
        [f"kubectl apply -f - < {POLICY}"],
        [f"kubectl delete -f - --ignore-not-found < {POLICY}"],
    ),
    (f.PodEvicted(), RANK, [f"kubectl create --raw {EVICTIONS} -f - < {EVICTION}"], []),
    (f.AgentExits(), RANK, [agent(1, "KILL")], []),
    (f.AgentHangs(), RANK, [agent(1, "STOP")], [agent(1, "CONT")]),
    (f.AgentUnreachable(), RANK, [agent_cut(TWO, "I", "10.244.0.2")], [agent_cut(TWO, "D", "10.244.0.2")]),
    (f.NodeKilled(), BOTH, [f"docker kill {ONE} {TWO}"], [f"docker start {ONE} {TWO}"]),
    (f.NodePowerLoss(), NODE, [cut(TWO, "I"), f"docker kill {TWO}"], [f"docker start {TWO}"]),
    (f.NodeRebooted(down=5.0), NODE, [f"docker kill {TWO}"], [f"docker start {TWO}"]),
    (f.NodeDark(), BOTH, [cut(ONE, "I"), cut(TWO, "I")], [cut(ONE, "D"), cut(TWO, "D")]),
    (f.NodeFrozen(), NODE, [f"docker pause {TWO}"], [f"docker unpause {TWO}"]),
    (f.NodeFlapping(), NODE, [cut(TWO, "I")], [cut(TWO, "D"), cut(TWO, "D")]),  # its own, and what may be left
    (f.KubeletStopped(), NODE, [on(TWO, "systemctl stop kubelet")], [on(TWO, "systemctl start kubelet")]),
    (
        f.NodeTainted(key="bad", effect="NoExecute"),
        BOTH,
        [f"kubectl -n default taint nodes {ONE} {TWO} bad:NoExecute"],
        [f"kubectl -n default taint nodes {ONE} {TWO} bad:NoExecute-"],
    ),
    (
        f.NodeDeleted(),
        NODE,
        [f"kubectl -n default delete nodes {TWO} --wait=false"],
        [on(TWO, "systemctl restart kubelet")],
    ),
    (f.NoCapacity(), {}, [f"kubectl -n default cordon {ONE} {TWO}"], [f"kubectl -n default uncordon {ONE} {TWO}"]),
    (
        f.ControllerCrash(),
        {},
        [
            controller("KILL"),
            "kubectl -n fleetctl-system delete pods -l app.kubernetes.io/component=controller --grace-period=0 --force",
        ],
        [],
    ),
    (f.ControllerFrozen(), {}, [controller("STOP")], [controller("CONT")]),
    (f.ControllerGone(), {}, [f"{SCALE} --replicas=0"], [f"{SCALE} --replicas=1"]),
    (
        f.ApiOutage(),
        {},
        [on(PLANE, "kill -STOP $(pidof kube-apiserver)")],
        [on(PLANE, "kill -CONT $(pidof kube-apiserver)")],
    ),
    (
        f.GangEdited(spec={"suspend": True}),
        {},
        [GANG + ' --type=merge -p {"spec": {"suspend": true}}'],
        [],
    ),
    (f.GangDeleted(), {}, ["kubectl -n default delete gang g --wait=false"], []),
    (
        f.GangCreatedAgain(),
        {},
        ["kubectl apply -f - < " + json.dumps({"apiVersion": "v1", "kind": "List", "items": [BODY]})],
        [],
    ),
    (
        f.StatusWiped(),
        {},
        [GANG + ' --subresource=status --type=json -p [{"op": "remove", "path": "/status"}]'],
        [],
    ),
    (
        f.PodDeleted(grace=0.5),
        {"ranks": (1, 2)},
        ["kubectl -n default delete pods g-1 g-2 --wait=false --grace-period=1"],
        [],
    ),
    (f.PodDeleted(force=True), RANK, ["kubectl -n default delete pods g-1 --wait=false --grace-period=0 --force"], []),
    (
        f.PodEdited(),
        RANK,
        [f"kubectl -n default {verb} pods g-1 {MARK} --overwrite" for verb in ("label", "annotate")],
        [],
    ),
    (
        f.StuckTerminating(),
        RANK,
        [POD + ' {"metadata": {"finalizers": ["somebody.example/keep"]}}'],
        [POD + ' {"metadata": {"finalizers": null}}'],
    ),
    (f.ForeignPod(), RANK, [], ["kubectl -n default delete pods g-1 --ignore-not-found --wait=false"]),
]


def test_every_fault_of_kind_has_an_implementation_and_a_test() -> None:
    kinds = {kind for kind in FAULTS.values() if "kind" in kind.backends}
    assert set(under_test._DO) == kinds
    assert {type(fault) for fault, *_ in CASES} == kinds


@pytest.mark.parametrize(("fault", "whom", "done", "undone"), CASES, ids=[type(case[0]).name for case in CASES])
def test_a_fault_does_what_it_says_and_is_undone_when_the_run_ends(
    fault: f.Fault, whom: dict[str, Any], done: list[str], undone: list[str], stage: Stage
) -> None:
    assert stage.play(stage.hit(fault, **whom)) == done
    assert stage.play(stage.clean_up()) == undone
    assert stage.play(stage.clean_up()) == []  # once is enough


def test_while_a_trainer_hangs_those_that_tell_their_steps_wait_for_it(stage: Stage) -> None:
    tells = msgspec.structs.replace(SCENARIO.world, trainer=model.Trainer(reports_steps=True))
    stage.injector.scenario = msgspec.structs.replace(SCENARIO, world=tells)
    stopped, others = [trainer(1, "STOP"), trainer(2, "STOP")], ("uid-g-0", "uid-g-3")
    assert stage.play(stage.hit(f.TrainerHangs(), ranks=(1, 2))) == [
        *stopped, *(f"trainer of {uid}: wait" for uid in others),
    ]  # fmt: skip
    assert stage.play(stage.clean_up())[2:] == [f"trainer of {uid}: go" for uid in others]


def test_what_is_told_of_a_fault(stage: Stage) -> None:
    stage.play(stage.hit(f.NodeDark(), nodes=(1,), lasts=30.0))
    stage.play(stage.hit(f.TrainerHangs(), ranks=(1, 3)))
    dark = {"fault": "node_dark", "family": "node", "nodes": (TWO,)}
    assert stage.told[:2] == [
        Faulted(at=0.0, phase="begins", text=f"{TWO}: goes dark; what runs there runs on, for 30s", **dark),
        Faulted(at=30.0, phase="ends", text=f"node_dark is over for {TWO}", **dark),
    ]
    assert [(told.text, told.ranks, told.nodes) for told in stage.told[2:]] == [
        ("rank 1,3: the trainer hangs", (1, 3), ())
    ]
    assert stage.injector.last_at == stage.told[2].at


def test_a_fault_whose_time_is_over_is_undone_once(stage: Stage) -> None:
    async def story() -> None:
        hit = asyncio.ensure_future(stage.hit(f.NodeFrozen(), nodes=(1,), lasts=30.0))
        await asyncio.sleep(29.9)
        assert stage.docker.changes == [f"docker pause {TWO}"]
        assert await hit == [f"docker pause {TWO}", f"docker unpause {TWO}"]
        assert await stage.clean_up() == []

    stage.play(story())


def test_those_who_are_hit_one_after_the_other(stage: Stage) -> None:
    stage.play(stage.hit(f.OutOfMemory(), ranks=(0, 1, 3), spread=6.0))
    assert [(told.at, told.ranks) for told in stage.told] == [(0.0, (0,)), (2.0, (1,)), (4.0, (3,))]


# The run ends early


def test_the_last_fault_is_undone_first(stage: Stage) -> None:
    async def story() -> None:
        hits = [
            asyncio.ensure_future(stage.hit(fault, lasts=600.0, **whom))
            for fault, whom in ((f.NodeFrozen(), NODE), (f.ApiOutage(), {}), (f.TrainerHangs(), {"ranks": (0,)}))
        ]
        await asyncio.sleep(5.0)
        for hit in hits:
            hit.cancel()
        assert await stage.clean_up() == [
            trainer(0, "CONT"),
            on(PLANE, "kill -CONT $(pidof kube-apiserver)"),
            f"docker unpause {TWO}",
        ]

    stage.play(story())


@pytest.mark.parametrize("error", [CommandFailed("docker start: exit 1: no"), KeyError("nodeName"), OSError("no")])
def test_what_cannot_be_undone_does_not_keep_the_rest_from_it(error: Exception, stage: Stage) -> None:
    async def story() -> None:
        await stage.hit(f.NodeFrozen(), nodes=(0,))
        await stage.hit(f.NodeKilled(), nodes=(1,))
        stage.docker.fails["docker start"] = error
        assert await stage.clean_up() == [f"docker start {TWO}", f"docker unpause {ONE}"]
        assert stage.injector.failures == [f"a fault is not undone: {type(error).__name__}: {error}"]

    stage.play(story())


def test_what_could_not_be_undone_in_time_is_tried_again_in_the_end(stage: Stage) -> None:
    stage.docker.fails["docker unpause"] = CommandFailed("docker unpause: exit 1: not now")
    with pytest.raises(CommandFailed):
        stage.play(stage.hit(f.NodeFrozen(), nodes=(1,), lasts=5.0))
    stage.docker.fails.clear()
    assert stage.play(stage.clean_up()) == [f"docker unpause {TWO}"]


def test_a_fault_that_is_cancelled_while_it_begins_is_undone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        paused = stage.loop.create_future()

        async def takes_time(cluster: Cluster, *arguments: str, check: bool = True) -> str:
            if arguments[0] == "pause":
                await paused
            return await stage.docker.run("docker", *arguments)

        monkeypatch.setattr(Cluster, "docker", takes_time)
        hit = asyncio.ensure_future(stage.hit(f.NodeFrozen(), nodes=(1,)))
        await asyncio.sleep(1.0)
        hit.cancel()
        stage.loop.call_later(1.0, paused.set_result, None)
        assert await stage.clean_up() == [f"docker pause {TWO}", f"docker unpause {TWO}"]

    stage.play(story())


# Faults that go on by themselves


def test_pods_that_were_made_without_their_image_get_it_in_the_end(stage: Stage) -> None:
    async def story() -> None:
        await stage.hit(f.ImagePullFails(), ranks=(1,))
        made = next(pod for pod in stage.docker.pods["default"] if pod["metadata"]["name"] == "g-1")
        made["spec"]["containers"][0]["image"] = NO_IMAGE
        assert (await stage.clean_up())[1:] == [f"kubectl -n default set image pod/g-1 agent={IMAGE} trainer=trainer:1"]

    stage.play(story())


def test_a_node_that_reboots_comes_back_by_itself(stage: Stage) -> None:
    async def story() -> None:
        await stage.hit(f.NodeRebooted(down=5.0), nodes=(1,))
        await asyncio.sleep(4.9)
        assert stage.docker.changes == [f"docker kill {TWO}"]
        await asyncio.sleep(0.2)
        assert stage.docker.changes == [f"docker kill {TWO}", f"docker start {TWO}"]
        assert await stage.clean_up() == []

    stage.play(story())


def test_a_flapping_node_is_dark_again_and_again(stage: Stage) -> None:
    async def story() -> None:
        await stage.hit(f.NodeFlapping(every=10.0, down=3.0), nodes=(1,), lasts=15.0)
        down, up = cut(TWO, "I"), cut(TWO, "D")
        assert stage.docker.changes == [down, up, down, up, up]
        await asyncio.sleep(60.0)
        assert len(stage.docker.changes) == 5

    stage.play(story())


def test_every_trainer_of_a_crash_loop_exits_while_it_lasts(stage: Stage) -> None:
    def starts(rank: int, uid: str) -> None:
        stage.injector.trainer_started(
            TrainerStarted(at=0.0, gang=("default", "g"), rank=rank, attempt=2, uid=uid, pod="g", node=ONE, ticket="")
        )

    async def story() -> None:
        loop = asyncio.ensure_future(stage.hit(f.CrashLoop(exit_code=5, after=2.0), ranks=(1,), lasts=20.0))
        await asyncio.sleep(1.9)
        assert stage.docker.changes == []
        await asyncio.sleep(1.0)
        starts(1, "another")
        starts(2, "of no interest")
        await asyncio.sleep(1.9)
        assert stage.docker.changes == ["trainer of uid-g-1: exit 5"]
        await asyncio.sleep(1.0)
        assert stage.docker.changes[1:] == ["trainer of another: exit 5"]
        await loop
        starts(1, "after it")
        await asyncio.sleep(10.0)
        assert len(stage.docker.changes) == 2

    stage.play(story())


def test_a_foreign_pod_takes_the_name_as_soon_as_it_is_free(stage: Stage) -> None:
    async def story() -> None:
        await stage.hit(f.ForeignPod(), ranks=(1,))
        await asyncio.sleep(5.0)
        assert stage.docker.changes == []
        del stage.docker.pods["default"][1]
        await asyncio.sleep(1.0)
        (applied,) = stage.docker.changes
        (pod,) = json.loads(applied.removeprefix("kubectl apply -f - < "))["items"]
        assert pod["metadata"] == {"name": "g-1", "namespace": "default"}
        assert pod["spec"]["containers"][0]["image"] == "trainer:1"

    stage.play(story())


# Who may run on, and who may move


@pytest.mark.parametrize(
    ("fault", "whom", "fenced", "moved"),
    [
        (f.NodeDark(), NODE, {1, 3}, {1, 3}),
        (f.NodeKilled(), NODE, {1, 3}, {1, 3}),
        (f.NodeFrozen(), NODE, {1, 3}, {1, 3}),
        (f.NodeTainted(key="bad"), NODE, set(), {1, 3}),
        (f.NodeRebooted(down=0.001), NODE, set(), {1, 3}),
        (f.KubeletStopped(), NODE, set(), set()),
        (f.PodDeleted(), RANK, set(), {1}),
        (f.PodDeleted(force=True), RANK, {1}, {1}),
        (f.PodEvicted(), RANK, set(), {1}),
        (f.ContainerExit(), RANK, set(), set()),
        (f.TrainerHangs(), RANK, set(), set()),
        (f.HardwareReport(), RANK, set(), {1}),
        (f.GangEdited(spec={}), {}, set(), {0, 1, 2, 3}),
        (f.GangDeleted(), {}, set(), {0, 1, 2, 3}),
        (f.GangCreatedAgain(), {}, set(), {0, 1, 2, 3}),
        (f.ApiOutage(), {}, set(), set()),
    ],
)
def test_who_is_fenced_and_who_may_move(
    fault: f.Fault, whom: dict[str, Any], fenced: set[int], moved: set[int], stage: Stage
) -> None:
    stage.play(stage.hit(fault, **whom))
    assert stage.injector.fenced == {f"uid-g-{rank}" for rank in fenced}
    assert stage.injector.moved == moved
    stage.play(stage.clean_up())


def test_nodes_whose_processes_have_ended_are_told(stage: Stage) -> None:
    stage.play(stage.hit(f.NodeDark(), nodes=(0,)))
    assert stage.injector.lost_nodes == []
    stage.play(stage.hit(f.NodePowerLoss(), nodes=(1,)))
    assert stage.injector.lost_nodes == [TWO]


# Whom it hits


def test_the_node_of_a_rank_is_where_its_pod_is_now(stage: Stage) -> None:
    assert stage.play(stage.hit(f.NodeFrozen(), node_of=1)) == [f"docker pause {TWO}"]
    stage.docker.pods["default"][1]["spec"]["nodeName"] = ONE
    assert stage.play(stage.hit(f.NodeFrozen(), node_of=1)) == [f"docker pause {ONE}"]


@pytest.mark.parametrize("where", ["no pod", "no node"])
def test_the_node_of_a_rank_that_is_nowhere_cannot_be_hit(where: str, stage: Stage) -> None:
    match where:
        case "no pod":
            del stage.docker.pods["default"][3]
        case "no node":
            del stage.docker.pods["default"][3]["spec"]["nodeName"]
    with pytest.raises(LookupError) as failed:
        stage.play(stage.hit(f.NodeFrozen(), node_of=3))
    assert str(failed.value) == "rank 3 is on no node when node_frozen should begin"
    assert (stage.docker.changes, stage.told) == ([], [])


def test_what_is_drawn_depends_on_the_seed_only(docker: Docker) -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        stage = Stage(docker, seed)
        for _ in range(8):
            stage.play(stage.hit(f.OutOfMemory(), any=2))
        stage.play(stage.hit(f.NodeTainted(key="bad"), any=1))
        stage.play(stage.clean_up())
        assert all(len(set(told.ranks)) == 2 for told in stage.told[:8])
        assert stage.told[8].nodes in ((ONE,), (TWO,))
        return [(*told.ranks, *told.nodes) for told in stage.told]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


# Signals, with real programs


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_signal_hits_the_program_in_that_pod_and_no_other() -> None:
    name, code = uuid.uuid4().hex, "import signal; print(flush=True); signal.pause()"

    def program(pod: str, *words: str) -> "subprocess.Popen[bytes]":
        started = subprocess.Popen(
            [sys.executable, "-c", code, *words], env={"FLEETCTL_POD": f"{name}-{pod}"}, stdout=subprocess.PIPE
        )
        assert started.stdout is not None
        started.stdout.readline()  # it runs
        return started

    programs = [program("1", "fleetctl", "agent"), program("1", "train"), program("11", "fleetctl", "agent")]
    try:
        subprocess.run(["sh", "-s"], input=_kill(f"FLEETCTL_POD={name}-1", "fleetctl agent", "KILL"), text=True)
        assert programs[0].wait(timeout=20) == -9
        assert [each.poll() for each in programs[1:]] == [None, None]
    finally:
        for each in programs:
            each.kill()
            each.communicate()
