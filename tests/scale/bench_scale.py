"""fleetctl on a real API server with many ranks, beside what others do: `make bench-scale RANKS=1024`.

Two real controllers, simulated kubelets (real time), an agent with a TLS connection of its own for each rank. Then one
rank's trainer dies, again and again; then a node dies; then the leader is killed. All programs share this machine, and
all agents and kubelets are one Python process: what is told of agents includes its work.

    detect_s    fault until the status that raises the target is written
    signal_ms   that write until the controller has sent the last agent word that it must restart
    told_ms     and until the last agent has heard it: all agents share one Python process
    release_s   fault until the status that releases is written, without the kubelets' part: from the last agent that
                was told until the last one started again
    leader_s    CPU of the leader from fault to release, agents_s that of the process with all agents and kubelets: it
                can take no less time than the busier of them, and a real fleet has no such process
    api cpu s   of kube-apiserver; without kubelets: their statuses are not sent while it is measured

Most recoveries are without the kubelets' statuses: 1,024 restarts are 9,000 of them, which a real fleet's API server
takes from 130 machines, and this machine's from the two cores that everything else runs on. Until the target is raised
one machine's kubelet is heard: what it says of the trainer is what the fault is known by. A few are with all of them.
"""

import argparse
import asyncio
import gc
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import fleetctl.sim.kubelet as simulated_kubelet
from fleetctl.apiserver.server import NoServer
from fleetctl.apiserver.world import ApiServerWorld
from fleetctl.rendezvous.messages import Reset
from fleetctl.scenario.facts import record_of
from fleetctl.sim.journal import AgentHeard, Event, Faulted, Key, TrainerStarted, Wrote
from fleetctl.sim.oracle import Oracle
from tests.scale import rivals
from tests.scale.meter import Audit, cpu_s, rss_mib

GANG: Key = ("default", "llm")
A_NODE = 8
OUR_NAMES = re.compile("controller-[0-9]")
IDLE_S = 30.0
SETTLES_S = 3.0
WITHIN_S = 900.0
WITH_KUBELETS = 3
"""So many recoveries are measured with the kubelets' statuses as well."""
FILLER = "x" * 2500
"""Templates are larger than ours: with it a pod has more than 8 kB, managed fields included."""


@dataclass
class Watcher:
    """What the journal tells of the recovery that is under way. Times are the world's; `cpu_s` reads the leader's."""

    ranks: int
    cpu_s: Callable[[], float]
    when_raised: Callable[[], None] = lambda: None
    raised_at: float = 0.0
    released_at: float = 0.0
    told_at: float = 0.0
    started_at: float = 0.0
    """When the last agent's program began."""
    leader_s: float = 0.0
    agents_s: float = 0.0
    told: int = 0
    running: set[int] = field(default_factory=set)
    all_run: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        self.raised_at = self.released_at = self.told_at = self.started_at = 0.0
        self.told, self.running, self.all_run = 0, set(), asyncio.Event()
        self.leader_s, self.agents_s = -self.cpu_s(), -time.process_time()

    def __call__(self, event: Event) -> None:
        match event:
            case Wrote(plural="gangs", before=before, after=after) if after is not None:
                was, now = record_of(before), record_of(after)
                if now.get("target", 0) > was.get("target", 0):
                    self.raised_at = event.at
                    self.when_raised()
                if now.get("released", 0) > was.get("released", 0):
                    self.released_at = event.at
                    self.leader_s += self.cpu_s()
                    self.agents_s += time.process_time()
            case AgentHeard(message=Reset()):
                self.told, self.told_at = self.told + 1, event.at
            case TrainerStarted(rank=rank):
                self.running.add(rank)
                if len(self.running) == self.ranks:
                    self.all_run.set()


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """One that was measured. `writes` are the controllers' own, their Leases apart."""

    detect_s: float
    signal_ms: float
    told_ms: float
    release_s: float
    leader_s: float
    agents_s: float
    all_run_s: float
    api_cpu_s: float
    etcd_cpu_s: float
    controller_cpu_s: float
    writes: int
    bindings: int
    agents_api_calls: int
    requests: Counter[Any]


class Fleet:
    """A gang that runs in a world on a real API server, and the pids of what serves it."""

    def __init__(self, world: ApiServerWorld, watcher: Watcher) -> None:
        assert world.server is not None
        self.world = world
        self.watcher = watcher
        self.audit = Audit(world.server.audit_log)
        self.api = world.server.pid("kube-apiserver")
        self.etcd = world.server.pid("etcd")

    @property
    def controllers_cpu_s(self) -> float:
        return sum(cpu_s(controller.pid) for controller in self.world.controllers)

    async def calm(self) -> None:
        """Returns a moment after the last of the kubelets' statuses was taken."""
        while self.world.api.behind > A_NODE:  # noqa: ASYNC110 - another pod's is sent when one was taken
            await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLES_S)

    async def _signals_s(self) -> float:
        return sum([await each.metric("fleetctl_signal_seconds_sum") for each in self.world.controllers])

    async def idle(self, seconds: float) -> tuple[float, float]:
        """The leader's share of a core, and the API server's, while nothing happens."""
        leader = self.world.leader.pid  # type: ignore[attr-defined]
        before = cpu_s(leader), cpu_s(self.api)
        await asyncio.sleep(seconds)
        return (cpu_s(leader) - before[0]) / seconds, (cpu_s(self.api) - before[1]) / seconds

    async def recovery(self, fault: Callable[[], None], *, idle_api: float, idle_leader: float) -> Recovery:
        """From a fault until all ranks run again, and a little longer."""
        watcher, world = self.watcher, self.world
        watcher.begin()
        mark = self.audit.mark()
        signals = await self._signals_s()
        cpu = cpu_s(self.api), cpu_s(self.etcd), self.controllers_cpu_s
        began, began_wall = world.now(), time.monotonic()
        fault()
        async with asyncio.timeout(WITHIN_S):
            await watcher.all_run.wait()
        all_run = world.now()
        await self.calm()
        took = time.monotonic() - began_wall
        now = cpu_s(self.api), cpu_s(self.etcd), self.controllers_cpu_s
        spent = [after - before for before, after in zip(cpu, now, strict=True)]
        requests = Counter({r: n for r, n in self.audit.since(mark).items() if r.what != "leases"})
        ours = Counter({r: n for r, n in requests.items() if OUR_NAMES.fullmatch(r.user)})
        kubelets_s = watcher.started_at - watcher.told_at
        return Recovery(
            detect_s=watcher.raised_at - began,
            signal_ms=(await self._signals_s() - signals) * 1000,
            told_ms=(watcher.told_at - watcher.raised_at) * 1000,
            release_s=watcher.released_at - began - kubelets_s,
            leader_s=watcher.leader_s,
            agents_s=watcher.agents_s,
            all_run_s=all_run - began,
            api_cpu_s=spent[0] - idle_api * took,
            etcd_cpu_s=spent[1],
            controller_cpu_s=spent[2] - idle_leader * took,
            writes=sum(n for r, n in ours.items() if r.verb in rivals.WRITES),
            bindings=sum(n for r, n in requests.items() if r.what == "pods/binding"),
            agents_api_calls=sum(n for r, n in requests.items() if r.user == "agent"),
            requests=requests,
        )


@asynccontextmanager
async def running(world: ApiServerWorld, ranks: int) -> AsyncIterator[Fleet]:
    """A gang of so many ranks that runs."""
    watcher = Watcher(ranks, lambda: cpu_s(world.leader.pid))  # type: ignore[attr-defined]
    world.journal.listeners.append(watcher)
    real = simulated_kubelet.run_agent

    async def noted(*arguments: Any, **named: Any) -> int:
        watcher.started_at = world.now()
        return await real(*arguments, **named)

    simulated_kubelet.run_agent = noted
    try:
        await world.begin()
        world.create_gang(_gang(ranks))
        async with asyncio.timeout(WITHIN_S):
            await watcher.all_run.wait()
        fleet = Fleet(world, watcher)
        await fleet.calm()
        yield fleet
    finally:
        simulated_kubelet.run_agent = real


def _gang(ranks: int) -> dict[str, Any]:
    trainer = {
        "name": "trainer",
        "image": "trainer:1",
        "command": ["train"],
        "env": [{"name": "FILLER", "value": FILLER}],
    }
    return {
        "apiVersion": "fleetctl.dev/v1alpha1",
        "kind": "Gang",
        "metadata": {"namespace": GANG[0], "name": GANG[1]},
        "spec": {
            "groups": [{"name": "worker", "size": ranks, "template": {"spec": {"containers": [trainer]}}}],
            "recovery": {"budgets": {"application": {"restarts": 1000, "withoutProgress": 1000}}},
        },
    }


@dataclass
class Report:
    """Of one fleet."""

    ranks: int
    start_s: float = 0.0
    pod_bytes: int = 0
    idle: float = 0.0
    rss_mib: float = 0.0
    faults: list[Recovery] = field(default_factory=list)
    alone: list[Recovery] = field(default_factory=list)
    node: Recovery | None = None
    failover_s: float = 0.0
    rejoin_cpu_s: float = 0.0
    blocked_ms: float = 0.0
    violations: int = 0


async def measure(world: ApiServerWorld, ranks: int, times: int) -> Report:
    """All figures of one fleet."""
    report, oracle = Report(ranks), Oracle()
    world.journal.listeners.append(oracle)
    async with running(world, ranks) as fleet:
        report.start_s = world.now()
        report.pod_bytes = await _pod_bytes(world)
        idle_leader, idle_api = await fleet.idle(IDLE_S)
        report.idle = idle_leader
        print(
            f"  {ranks} ranks run after {report.start_s:.0f} s; the leader idles at {idle_leader:.1%} of a core",
            flush=True,
        )
        kubelets = {f"kubelet/{node}" for node in world.kubelets}
        world.api.muted = set(kubelets)
        _, idle_api_alone = await fleet.idle(IDLE_S)  # nodes tell of themselves every ten seconds
        how = {"idle_api": idle_api_alone, "idle_leader": idle_leader}
        fleet.watcher.when_raised = lambda: world.api.muted.update(kubelets)
        for number in range(times):
            rank = (13 + 31 * number) % ranks
            world.api.muted = kubelets - {f"kubelet/{_node_of(world, rank)}"}
            report.alone.append(await fleet.recovery(_trainer_dies(world, rank), **how))
            _say(report.alone[-1])
        fleet.watcher.when_raised = lambda: None
        world.api.muted = set()
        how["idle_api"] = idle_api
        for number in range(min(times, WITH_KUBELETS)):
            report.faults.append(await fleet.recovery(_trainer_dies(world, (417 + 31 * number) % ranks), **how))
            _say(report.faults[-1])
        report.rss_mib = max(rss_mib(controller.pid) for controller in world.controllers)
        report.node = await fleet.recovery(_node_dies(world, _node_of(world, ranks // 2)), **how)
        _say(report.node)
        report.failover_s, report.rejoin_cpu_s = await _failover(fleet)
        report.violations = len(oracle.violations)
        for violation in oracle.violations[:3]:
            print(f"  VIOLATED {violation}")
    return report


def _say(of: Recovery) -> None:
    parts = (
        f"detect {of.detect_s:.2f} s, signal {of.signal_ms:.0f} ms, told {of.told_ms:.0f} ms",
        f"release {of.release_s:.2f} s (leader {of.leader_s:.2f}, agents {of.agents_s:.2f})",
        f"all run {of.all_run_s:.1f} s, api {of.api_cpu_s:.2f} s, controllers {of.controller_cpu_s:.2f} s",
        f"writes {of.writes}, bindings {of.bindings}",
    )
    print(" ", ", ".join(parts), flush=True)


def _trainer_dies(world: ApiServerWorld, rank: int) -> Callable[[], None]:
    def dies() -> None:
        found = world.local_pod(GANG, rank)
        assert found is not None
        told = f"rank {rank}: the trainer dies"
        world.journal.tell(
            Faulted(at=world.now(), fault="container_exit", family="pod", phase="begins", text=told, ranks=(rank,))
        )
        found[0].trainer_ended(found[1], 3)  # that is no machine's fault: nobody is moved for it

    return dies


def _node_dies(world: ApiServerWorld, name: str) -> Callable[[], None]:
    def dies() -> None:
        told = f"{name}: killed"
        world.journal.tell(
            Faulted(at=world.now(), fault="node_killed", family="node", phase="begins", text=told, nodes=(name,))
        )
        world.kill_node(name)

    return dies


def _node_of(world: ApiServerWorld, rank: int) -> str:
    found = world.local_pod(GANG, rank)
    assert found is not None
    return found[0].name


async def _pod_bytes(world: ApiServerWorld) -> int:
    assert world.api.upstream is not None
    answer = await world.api.upstream.patiently(
        "somebody", "GET", f"/api/v1/namespaces/{GANG[0]}/pods/{GANG[1]}-worker-0"
    )
    return len(answer.body)


async def _failover(fleet: Fleet) -> tuple[float, float]:
    """The leader is killed while all ranks run: seconds until the other has heard of them all, and its CPU for that."""
    world, gone = fleet.world, fleet.world.leader
    other = next(c for c in world.controllers if c is not gone)
    began, cpu = world.now(), cpu_s(other.pid)
    gone.crash()
    async with asyncio.timeout(WITHIN_S):
        while await other.agents() < fleet.watcher.ranks:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.25)
    return world.now() - began, cpu_s(other.pid) - cpu


def tell(report: Report, others: Sequence[rivals.Measured]) -> None:
    """The tables, and the line for programs."""
    ours, alone, node = report.faults, report.alone, report.node
    assert node is not None

    def of(name: str, these: Sequence[Recovery]) -> float:
        return float(median(getattr(each, name) for each in these))

    print()
    print(f"fleetctl, {report.ranks} ranks, pods of {report.pod_bytes / 1000:.1f} kB; medians of one container fault")
    print(f"  kubelets' statuses  {'not sent':>9} {'sent':>8}")
    print(f"  recoveries          {len(alone):9} {len(ours):8}")
    for name in (
        "detect_s",
        "signal_ms",
        "told_ms",
        "release_s",
        "leader_s",
        "agents_s",
        "all_run_s",
        "writes",
        "bindings",
        "agents_api_calls",
    ):
        print(f"  {name:18} {of(name, alone):10.2f} {of(name, ours):8.2f}")
    rows = {
        "slowest signal_ms": max(each.signal_ms for each in alone),
        "slowest told_ms": max(each.told_ms for each in alone),
        f"dead node of {A_NODE}: writes": node.writes,
        f"dead node of {A_NODE}: bindings": node.bindings,
        "leader killed: all agents with the other, s": report.failover_s,
        "  its CPU for that, s": report.rejoin_cpu_s,
        "controller MiB": report.rss_mib,
        "leader idle, % of a core": 100 * report.idle,
        "start of the gang, s": report.start_s,
        "violations": report.violations,
    }
    for name, value in rows.items():
        print(f"  {name:44} {value:8.2f}")
    print("\none container fault without what kubelets write")
    print("            api cpu s   etcd  writes   reads  bindings   api cpu ratio")
    mine = of("api_cpu_s", alone)
    print(f"  fleetctl  {mine:9.2f} {of('etcd_cpu_s', alone):6.2f} {of('writes', alone):7.0f}")
    for other in others:
        bound = sum(n for r, n in other.requests.items() if r.what == "pods/binding")
        numbers = f"{other.writes():7} {other.reads():7} {bound:9} {other.api_cpu_s / max(mine, 0.01):15.1f}"
        print(f"  {other.rival:9} {other.api_cpu_s:9.2f} {other.etcd_cpu_s:6.2f} {numbers}")
    against = next((o.api_cpu_s for o in others if o.rival == "jobset"), float("nan"))
    last = {
        "ranks": f"{report.ranks}",
        "signal_ms": f"{of('signal_ms', alone):.0f}",
        "told_ms": f"{of('told_ms', alone):.0f}",
        "release_s": f"{of('release_s', alone):.2f}",
        "controller_writes": f"{of('writes', ours):.0f}",
        "agent_api_calls": f"{of('agents_api_calls', ours):.0f}",
        "bindings": f"{of('bindings', ours):.0f}",
        "rss_mib": f"{report.rss_mib:.0f}",
        "api_cpu_ratio_vs_jobset": f"{mine / against:.2f}",
    }
    print("\n" + " ".join(f"{name}={value}" for name, value in last.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.bench_scale", description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--times", type=int, default=20, help="container faults that are measured")
    parser.add_argument("--rivals", nargs="*", choices=rivals.RIVALS, default=["jobset", "recreate"])
    options = parser.parse_args()
    gc.disable()  # a thousand agents and their cluster in one process: it looked through them a third of the time
    nodes = options.ranks // A_NODE + 2
    with tempfile.TemporaryDirectory() as folder:
        world = ApiServerWorld(1, Path(folder), nodes=nodes, ranks_per_node=A_NODE, controllers=2)
        try:
            report = world.loop.run_until_complete(measure(world, options.ranks, options.times))
        finally:
            world.end()
    others = []
    for rival in options.rivals:
        with tempfile.TemporaryDirectory() as folder, rivals.site(Path(folder), observed=False) as here:
            others.append(asyncio.run(rivals.RIVALS[rival](here, "gang", options.ranks, kubelets=False)))
    tell(report, others)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoServer as missing:
        sys.exit(f"no real API server: {missing}")
