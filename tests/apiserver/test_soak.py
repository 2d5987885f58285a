"""A gang that meets a fault every 30 s, for as long as is asked for: nothing in the controllers grows, and nothing is
violated. `make soak RANKS=1024 MINUTES=20`.

Controllers crash in the first quarter only: what lives from then on to the end must not grow. Whoever leads then has
carried out a recovery when its memory is measured for the first time.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median

import pytest

from fleetctl.apiserver.world import ApiServerWorld
from fleetctl.controller.executor import CALLS_AT_ONCE
from fleetctl.controller.witness import READS_AT_ONCE
from fleetctl.scenario import faults as f
from fleetctl.scenario.model import End, Expect, GangSize, Scenario, Select, Step, World
from fleetctl.scenario.simulate import world_of
from tests.apiserver.trial import STARTS_IN_S, Trial, all_run, look_inside

RANKS = int(os.environ.get("RANKS", "64"))
EVERY_S = 30.0
FAULTS = round(60 * float(os.environ.get("MINUTES", "2")) / EVERY_S)
EARLY_ONES = max(2, FAULTS // 4)
A_NODE = 8
SPARE_NODES = 2
FIRST_S = 1.0
"""After all ranks run for the first time."""
CALM_S = 8.0
"""So long before a fault the recovery from the last one is over."""
MEASURED_S = FIRST_S + EVERY_S * EARLY_ONES - CALM_S, FIRST_S + EVERY_S * FAULTS
"""From before the first of the later faults until the next one would come."""
RECOVERS_WITHIN_S = 240.0
MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")

LONG = MEASURED_S[1] - MEASURED_S[0] >= 600.0
"""Memory says something if it was measured for so long: in two minutes it is a step or two of the allocator's."""
GROWS_MIB = 4.0
SLOPE_MIB_A_MINUTE = 0.5
MANY = 256
"""Of more ranks kubelets tell too much for a machine that serves everybody else too: 9,000 statuses a restart at 1,024.
Once all run they are not sent on; what controllers know then, agents told them."""
A_FEW = 4
CALLS_MOST = CALLS_AT_ONCE + READS_AT_ONCE
"""Connections to the API server: they stay open for a quarter of a minute after they were used, so they are counted
apart, and must not be more than are used at a time."""

Kind = tuple[f.Fault, float | None]
"""And how long it lasts."""
ANY_TIME: tuple[Kind, ...] = (
    (f.ContainerExit(exit_code=3), None),  # is over soon
    (f.PodDeleted(grace=2.0), None),
    (f.NodeRebooted(down=5.0), None),
    (f.NodeDark(), 45.0),
)
EARLY: tuple[Kind, ...] = ((f.ControllerCrash(restart_after=3.0), None), *ANY_TIME)


def soak() -> Scenario:
    rng = random.Random("soak")
    kinds = [*_drawn(rng, EARLY, EARLY_ONES - 1), ANY_TIME[0], *_drawn(rng, ANY_TIME, FAULTS - EARLY_ONES)]
    used, plenty = -(-RANKS // A_NODE), {"restarts": 1000}
    return Scenario(
        name="soak",
        why="A fault every 30 s.",
        world=World(
            gang=GangSize(ranks=RANKS), ranks_per_node=A_NODE, nodes=used + FAULTS // 4 + SPARE_NODES, controllers=2
        ),
        policy_given={"budgets": {"application": {**plenty, "withoutProgress": 1000}, "node": plenty}},
        timeline=tuple(_step(rng, number, fault, lasts, used) for number, (fault, lasts) in enumerate(kinds)),
        expect=Expect(end=End(kind="running", within=RECOVERS_WITHIN_S), quiet_s=EVERY_S),
        path=Path("soak"),
    )


def _drawn(rng: random.Random, kinds: tuple[Kind, ...], number: int) -> list[Kind]:
    """Each once before any comes again; the last is the first of them."""
    cycles = [kind for _ in range(number) for kind in rng.sample(kinds, len(kinds))]
    return [*cycles[: number - 1], kinds[0]]


def _step(rng: random.Random, number: int, fault: f.Fault, lasts: float | None, nodes: int) -> Step:
    select = Select()
    if type(fault).target == "ranks":
        select = Select(ranks=(rng.randrange(RANKS),))
    elif type(fault).target == "nodes":
        select = Select(nodes=(rng.randrange(nodes),))
    return Step(at=STARTS_IN_S + FIRST_S + EVERY_S * number, fault=fault, select=select, lasts=lasts)


@dataclass(frozen=True)
class Sample:
    """`at` counts from when the gang ran; `sockets` are not to the API server, `calls` are."""

    at: float
    rss_mib: float
    sockets: int
    calls: int
    tasks: int


@dataclass
class Samples:
    """Of one process, one a second."""

    pid: int
    told: Path
    api_port: int
    taken: list[Sample] = field(default_factory=list)

    def take(self, at: float) -> None:
        proc = Path(f"/proc/{self.pid}")
        rss = int((proc / "statm").read_text().split()[1]) * PAGE / MIB
        sockets = {inode for each in (proc / "fd").iterdir() if (inode := _socket(each))}
        calls = sockets & _connected_to(self.api_port)
        tasks = int((self.told / f"{self.pid}.tasks").read_text().split()[-1])
        self.taken.append(Sample(at, rss, len(sockets - calls), len(calls), tasks))

    def _between(self, since: float, until: float) -> list[Sample]:
        return [each for each in self.taken if since <= each.at < until]

    def grown(self) -> "Growth":
        """From before the first of the later faults until the end; both times all is calm."""
        begin, end = (self._between(at, at + CALM_S) for at in (MEASURED_S[0], MEASURED_S[1] - CALM_S))
        slope = linear_regression([each.at / 60 for each in self.taken], [each.rss_mib for each in self.taken]).slope
        rss, tasks, sockets = (
            [median(getattr(s, name) for s in part) for part in (begin, end)]
            for name in ("rss_mib", "tasks", "sockets")
        )
        span = (MEASURED_S[1] - MEASURED_S[0]) / 4
        parts = [self._between(MEASURED_S[0] + n * span, MEASURED_S[0] + (n + 1) * span) for n in range(4)]
        return Growth(
            rss[1],
            rss[1] - rss[0],
            slope,
            sockets[1],
            sockets[1] - sockets[0],
            tasks[1],
            tasks[1] - tasks[0],
            max(each.calls for each in self.taken),
            [median(each.rss_mib for each in part) for part in parts],
        )


@dataclass(frozen=True)
class Growth:
    rss_mib: float
    by_mib: float
    mib_a_minute: float
    sockets: float
    by_sockets: float
    tasks: float
    by_tasks: float
    most_calls: int
    by_quarters: list[float]
    """Memory, the median of each quarter of the time: whether it goes on growing."""


def _socket(descriptor: Path) -> str:
    """Its inode, "" if it is none."""
    try:
        kind, _, inode = str(descriptor.readlink()).partition(":")
    except FileNotFoundError:  # closed meanwhile
        return ""
    return inode.strip("[]") if kind == "socket" else ""


def _connected_to(port: int) -> set[str]:
    """Inodes of the sockets of this machine that are connected to that port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[9] for line in lines if int(line[2].rpartition(":")[2], 16) == port}


@pytest.mark.timeout(3 * MEASURED_S[1] + 600, func_only=True)
def test_nothing_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, servers = tmp_path / "told", tmp_path / "servers"
    look_inside(monkeypatch, told)
    servers.mkdir()
    scenario = soak()
    run = Trial(scenario, ApiServerWorld(1, servers, **world_of(scenario)))
    measured: list[Samples] = []

    async def measure(world: ApiServerWorld) -> None:
        began = world.now()
        if RANKS > MANY:
            world.api.muted.update(f"kubelet/{node}" for node in world.kubelets)
        await asyncio.sleep(MEASURED_S[0])
        measured.extend(Samples(controller.pid, told, world.door.port) for controller in world.controllers)
        while (at := world.now() - began) < MEASURED_S[1]:
            for each in measured:
                each.take(at)
            await asyncio.sleep(1.0)
        assert [each.pid for each in measured] == [controller.pid for controller in world.controllers]

    run.when, run.do = all_run(RANKS), measure
    outcome = run.run()
    grown = [each.grown() for each in measured]
    leader = max(grown, key=lambda each: each.sockets)
    print(
        f"soak: ranks={RANKS} minutes={FAULTS * EVERY_S / 60:g} faults={FAULTS} "
        f"attempts={outcome.figures['attempts']} violations={len(outcome.violations)} rss_mib={leader.rss_mib:.1f} "
        f"rss_growth_mib={leader.by_mib:+.2f} rss_mib_per_minute={leader.mib_a_minute:+.3f} "
        f"rss_mib_by_quarters={'/'.join(f'{each:.1f}' for each in leader.by_quarters)} "
        f"tasks={leader.tasks:g} tasks_growth={leader.by_tasks:+g} "
        f"sockets={leader.sockets:g} sockets_growth={leader.by_sockets:+g} api_connections={leader.most_calls}"
    )
    assert outcome.figures["attempts"] >= FAULTS / 2
    for each in grown:
        if LONG:
            assert each.by_mib <= GROWS_MIB
            assert each.mib_a_minute <= SLOPE_MIB_A_MINUTE
        assert each.by_sockets <= A_FEW
        assert each.by_tasks <= A_FEW
        assert 0 < each.most_calls <= CALLS_MOST
