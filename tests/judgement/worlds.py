"""A gang, one true incident and noise in the evidence, drawn from a seed; and the truth, which no controller is told.

What is drawn follows what large fleets have published: the classes of incidents are those of Llama 3's 54 days, the
noise is that of the goodput benchmark. It was fixed before the rules of diagnosis were tuned: whoever changes a number
here changes what the rules are measured by. Codes, taints and conditions are written out, not taken from fleetctl's own
tables, which are what is judged.

Knows nothing of how fleetctl decides, nor of how its decisions are counted (judge.py).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fleetctl.scenario import faults as f
from fleetctl.scenario.durations import Seconds
from fleetctl.scenario.model import End, Expect, GangSize, Scenario, Select, Step, Trainer, When, World

Kind = Literal["gpu", "no evidence", "node lost", "device", "condition", "maintenance", "network", "software", "hang"]
Profile = Literal["default", "stress"]

CLASSES: dict[str, float] = {"node": 69.0, "maintenance": 7.6, "network": 8.4, "software": 13.4, "hang": 8.6}
"""In percent, of Llama 3. Hangs are 1.7 there: raised to 8 % of all, so that there are enough to count."""
NO_EVIDENCE = 0.1
"""The share of node faults that show nothing but a trainer that aborts."""
NODE_FAULTS: dict[Kind, float] = {"gpu": 50.0, "node lost": 20.0, "device": 15.0, "condition": 15.0}
"""How the other node faults show: our own shares, with a driver's reports first."""

REPORTS_A_NODE_DAY = 0.84 / 63
"""False reports of the kind that condemns a node: 0.84 a day on 63 nodes."""
MORE_FALSE: dict[Profile, float] = {"default": 1.0, "stress": 50.0}
DAY_S = 86_400.0
UNHEALTHY_FOR_A_MOMENT = 0.1
"""The share of runs in which a kubelet calls a healthy node's device unhealthy for a second."""

PEERS_ABORT = 0.5
"""The share of failures of the network in which ranks that are not cut off abort: the others wait."""

STEP_S = 2.0
EVIDENCE_LAG_S = (0.0, 60.0)
"""How long after the exit a driver's line, a watcher's condition or a kubelet's word comes."""
WAVE_S = (0.2, 2.5)
"""How long after the culprit its peers abort; later than that, their next lives may run already."""
RACK = 4
"""Nodes."""

NODE_XIDS = ("xid-79", "xid-79", "xid-48", "xid-64", "xid-95", "xid-119", "xid-120", "xid-74", "xid-154")
PROGRAM_XIDS = ("xid-13", "xid-31")
RESTART_XIDS = ("xid-45", "xid-43")
"""What drivers report when a program is killed."""
CONDITIONS = ("KernelDeadlock", "ReadonlyFilesystem", "GpuUnhealthy", "GpuMemWatch", "SysLogsXIDError")
LEAVING = ("karpenter.sh/disrupted", "cloud.google.com/impending-node-termination", "ToBeDeletedByClusterAutoscaler")
CORDON = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True, slots=True)
class Truth:
    """What really happened, `after` so many seconds after the first release, to that rank; -1 if the network of the
    nodes in `dark` failed. `machine`: the rank's node is to blame. `accused`: ranks about whose nodes a false report is
    made, unless one of them is on the node to blame.
    """

    kind: Kind
    after: Seconds
    rank: int
    machine: bool
    dark: frozenset[str]
    accused: frozenset[int]


def world(seed: int, profile: Profile = "default") -> tuple[Scenario, Truth]:
    """The scenario of a seed, and the truth about it."""
    rng = random.Random(f"{seed}:judgement")  # it must repeat
    ranks, per_node = rng.randint(16, 48), rng.choice((1, 2))
    drawn = _Incident(rng, ranks, per_node)
    drawn.draw()
    accused = drawn.add_noise(MORE_FALSE[profile])
    scenario = Scenario(
        name=f"judgement {drawn.kind}",
        why=f"One incident ({drawn.kind}) and noise in the evidence, drawn from seed {seed}.",
        seed=seed,
        world=World(
            gang=GangSize(ranks=ranks),
            ranks_per_node=per_node,
            nodes=drawn.hosts + RACK,
            nodes_per_rack=RACK,
            trainer=Trainer(step=STEP_S, reports_steps=True),
        ),
        timeline=tuple(drawn.steps),
        expect=Expect(end=End(kind="running", within=400.0), quiet_s=10.0),
        path=Path("judgement"),
    )
    network = drawn.kind == "network"
    truth = Truth(
        kind=drawn.kind,
        after=drawn.after,
        rank=-1 if network else drawn.rank,
        machine=not network and drawn.kind not in ("software", "hang"),
        dark=frozenset(f"node-{number}" for number in drawn.dark),
        accused=frozenset(accused),
    )
    return scenario, truth


@dataclass
class _Incident:
    """The incident of one seed, and what is seen of it."""

    rng: random.Random
    ranks: int
    per_node: int
    steps: list[Step] = field(default_factory=list)
    kind: Kind = "gpu"
    after: Seconds = 0.0
    rank: int = 0
    dark: tuple[int, ...] = ()
    """Numbers of the nodes whose network fails."""

    @property
    def hosts(self) -> int:
        return -(-self.ranks // self.per_node)

    def draw(self) -> None:
        rng = self.rng
        self.after, self.rank = rng.uniform(15.0, 30.0), rng.randrange(self.ranks)
        drawn = rng.choices([*CLASSES], [*CLASSES.values()])[0]
        if drawn == "node":
            shown = rng.choices([*NODE_FAULTS], [*NODE_FAULTS.values()])[0]
            self.kind = "no evidence" if rng.random() < NO_EVIDENCE else shown
        else:
            self.kind = drawn  # type: ignore[assignment]  # the classes of one kind are named as it is
        _DRAW.get(self.kind, _Incident._machine_fails)(self)

    # What happens

    def _machine_fails(self) -> None:
        rng, later = self.rng, self.rng.uniform(*EVIDENCE_LAG_S)
        if self.kind in ("gpu", "no evidence") or rng.random() < 0.5:
            self._ends(f.ContainerExit(signal="SIGABRT"))
        else:
            later = 0.0  # it is the only sign
        if self.kind == "gpu":
            self._reported(rng.choice(NODE_XIDS), later)
        elif self.kind == "device":
            self._step(f.DeviceUnhealthy(device=self._device()), self._culprit, later)
        elif self.kind == "condition":
            self._step(f.NodeCondition(type=rng.choice(CONDITIONS)), self._machine, later)

    def _machine_is_lost(self) -> None:
        fault = self.rng.choice((f.NodeKilled(), f.NodeDark(), f.NodePowerLoss()))
        self._step(fault, self._machine)
        if isinstance(fault, f.NodeKilled):  # of the others peers hear nothing, and wait
            self._wave()

    def _machine_is_maintained(self) -> None:
        rng = self.rng
        if self.per_node > 1 or rng.random() < 0.5:
            self._step(f.NodeTainted(key=rng.choice(LEAVING)), self._machine)
        else:
            self._step(f.NodeTainted(key=CORDON), self._machine)
            self._step(f.PodEvicted(), self._culprit, rng.uniform(0.1, 2.0))

    def _network_fails(self) -> None:
        rng = self.rng
        rack = rng.randrange(self.hosts // RACK)
        self.dark = tuple(range(rack * RACK, (rack + 1) * RACK))
        lasts = rng.uniform(20.0, 100.0)
        self._step(f.NodeDark(), Select(nodes=self.dark), spread=rng.uniform(0.1, 3.0), lasts=lasts)
        if rng.random() < PEERS_ABORT:
            self._wave()

    def _program_fails(self) -> None:
        rng = self.rng
        ends = (
            f.ContainerExit(exit_code=1),
            f.ContainerExit(exit_code=3),
            f.ContainerExit(signal="SIGSEGV"),
            f.OutOfMemory(),
        )
        self._ends(rng.choice(ends))
        if rng.random() < 0.5:
            self._reported(rng.choice(PROGRAM_XIDS), rng.uniform(*EVIDENCE_LAG_S))

    def _hangs(self) -> None:
        self._step(f.TrainerHangs(), self._culprit)
        self._restarts()

    # What is seen of it

    def _ends(self, fault: f.Fault) -> None:
        """The culprit's trainer ends, and then others'; the word of it may come late."""
        if self.rng.random() < 0.3:
            self._step(f.KubeletSlow(lag=self.rng.uniform(0.5, 3.0)), self._machine, -1.0, lasts=15.0)
        self._step(fault, self._culprit)
        self._wave()
        self._restarts()

    def _wave(self) -> None:
        """Peers abort: their collectives fail, or an exception says that somebody is gone."""
        rng = self.rng
        others, code = [rank for rank in range(self.ranks) if rank != self.rank], rng.choice((134, 134, 1))
        for rank in rng.sample(others, int(rng.uniform(0.0, 0.6) * len(others))):
            self._step(f.ContainerExit(exit_code=code), Select(ranks=(rank,)), rng.uniform(*WAVE_S))

    def _restarts(self) -> None:
        """Everybody's driver reports that its program was killed."""
        rng = self.rng
        self.steps.append(
            Step(
                when=When(kind="target", value=2),
                after=rng.uniform(0.3, 2.0),
                fault=f.HardwareReport(code=rng.choice(RESTART_XIDS), device=self._device()),
                select=Select(ranks=tuple(range(self.ranks))),
                spread=rng.uniform(1.0, 5.0),
            )
        )

    def _reported(self, code: str, later: Seconds) -> None:
        text = "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)" if code == "xid-154" else ""
        self._step(f.HardwareReport(code=code, device=self._device(), text=text), self._culprit, later)

    def _device(self) -> str:
        return f"GPU-{self.rng.randrange(8)}"

    # What is false

    def add_noise(self, more_false: float) -> list[int]:
        """Evidence against healthy nodes. The ranks on those that are called bad, and it is not taken back."""
        rng, until = self.rng, self.after + EVIDENCE_LAG_S[1]
        others = [rank for rank in range(self.ranks) if rank != self.rank]
        if rng.random() < UNHEALTHY_FOR_A_MOMENT:
            moment, of = rng.uniform(0.0, until), Select(ranks=(rng.choice(others),))
            self._step(f.DeviceUnhealthy(device=self._device()), of, moment - self.after, lasts=1.0)
        accused: list[int] = []
        a_second = REPORTS_A_NODE_DAY * more_false * (self.hosts - 1) / DAY_S
        at = rng.expovariate(a_second)
        while at < until:
            accused.append(rng.choice(others))
            report = f.HardwareReport(code=rng.choice(NODE_XIDS[:-1]), device=self._device())
            self._step(report, Select(ranks=(accused[-1],)), at - self.after)
            at += rng.expovariate(a_second)
        return accused

    @property
    def _culprit(self) -> Select:
        return Select(ranks=(self.rank,))

    @property
    def _machine(self) -> Select:
        return Select(node_of=self.rank)

    def _step(
        self, fault: f.Fault, of: Select, later: Seconds = 0.0, *, spread: Seconds = 0.0, lasts: Seconds | None = None
    ) -> None:
        """So many seconds after the incident begins."""
        when, after = When(kind="released", value=1), self.after + later
        self.steps.append(Step(when=when, after=after, fault=fault, select=of, spread=spread, lasts=lasts))


_DRAW: dict[Kind, Callable[[_Incident], None]] = {
    "node lost": _Incident._machine_is_lost,
    "maintenance": _Incident._machine_is_maintained,
    "network": _Incident._network_fails,
    "software": _Incident._program_fails,
    "hang": _Incident._hangs,
}
"""All others are machines that fail and are there."""
