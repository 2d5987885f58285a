"""What others do when one container of a gang fails, measured against a real API server.

`python -m tests.scale.rivals --ranks 256` prints a table:

    jobset    JobSet's restart in place (jobset.py says what of it is spoken)
    recreate  every pod is deleted and created anew, all at once, and the real kube-scheduler binds it
    paced     the same, twenty pods a second, as one would do it by hand against the herd

Each is measured twice, on a server of its own: without what kubelets write, the protocol alone, and with it
(kubelets.py, the same kind of work for all). All pods are more than 8 kB and on nodes of eight; the actors are one
Python process.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.conformance.realserver import Missing, RealServer, running
from tests.scale import jobset as jobset_protocol
from tests.scale.client import PROTOBUF, Client
from tests.scale.fleet import USERS, Fleet, a_gang, build
from tests.scale.kubelets import Kubelets, kubelets_client
from tests.scale.meter import ROUNDS_PER_S, Audit, Request, cpu_s, observing, rss_mib
from tests.scale.scheduler import scheduling

QUIET_S = 5.0
SETTLES_S = 1.0
AT_REST = 0.1
"""CPU seconds that the API server takes in a second of rest."""
RESTS_WITHIN_S = 20
PACE_PER_S = 20.0
GIVE_UP_S = 900.0
WRITES = ("create", "update", "patch", "delete")
Spawn = Callable[[Coroutine[Any, Any, Any]], object]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One recovery from one container fault.

    `seconds` are from the fault until the last rank is released (jobset), bound (recreate without kubelets) or told to
    be running by its kubelet; CPU and requests are counted a second longer, so that what was written is delivered too.

    `api_cpu_s` and `etcd_cpu_s` are without the observer's part and without idling: as much as one of its rounds took
    in the quiet seconds before, times its rounds. `observer_cpu_s` is what was taken off the API server's. `p50_ms` and
    `p99_ms` are the observer's during the recovery, `quiet_…` before it. `requests` are without the observer's.
    `client_cpu_s` is of this process: all agents, controllers and kubelets.
    """

    rival: str
    ranks: int
    kubelets: bool
    seconds: float
    api_cpu_s: float
    etcd_cpu_s: float
    observer_cpu_s: float
    scheduler_cpu_s: float
    client_cpu_s: float
    api_rss_mib: float
    p50_ms: float
    p99_ms: float
    quiet_p50_ms: float
    quiet_p99_ms: float
    requests: Counter[Request]

    def writes(self, *users: str) -> int:
        """That were granted, of these users or of all."""
        return sum(n for r, n in self._granted(users) if r.verb in WRITES)

    def reads(self, *users: str) -> int:
        return sum(n for r, n in self._granted(users) if r.verb not in WRITES)

    @property
    def refused(self) -> int:
        """Requests of all kinds, mostly 429: come again later."""
        return sum(n for r, n in self.requests.items() if r.code)

    def _granted(self, users: Sequence[str]) -> list[tuple[Request, int]]:
        return [(r, n) for r, n in self.requests.items() if not r.code and (not users or r.user in users)]


@dataclass(frozen=True)
class Site:
    """A real server that knows our users, and the folder of its logs. Without an observer CPU is measured more exactly,
    above all where others use the machine too: nothing but idling has to be taken off."""

    server: RealServer
    audit: Audit
    folder: Path
    observed: bool = True


@contextmanager
def site(folder: Path, *, audited: bool = True, observed: bool = True) -> Iterator[Site]:
    """Raises Missing."""
    log = folder / "audit.log"
    with running(folder, users=USERS, audit=log if audited else None) as server:
        jobset_protocol.install(server)
        yield Site(server, Audit(log), folder, observed)


class Stage:
    """A fleet at rest, where one recovery is measured. `kubelets` is None without them."""

    def __init__(self, site: Site, fleet: Fleet, kubelets: Kubelets | None, spawn: Spawn) -> None:
        self.site = site
        self.fleet = fleet
        self.kubelets = kubelets
        self.spawn = spawn

    async def measure(
        self,
        rival: str,
        recovery: Callable[[], Awaitable[float]],
        *,
        quiet_s: float = QUIET_S,
        programs: Mapping[str, int] = {},
    ) -> Measured:
        """`recovery` returns when it was over, by time.monotonic(), once it has nothing more to write. `programs` are
        the pids of others that work for it: scheduler."""
        pids = {**self.site.server.pids, "client": os.getpid(), **programs}

        def used() -> dict[str, float]:
            return {name: cpu_s(pid) for name, pid in pids.items()}

        await self._at_rest()
        rate = ROUNDS_PER_S if self.site.observed else 0
        with observing(self.site.server, self.fleet.gang.namespace, self.site.folder, rate) as observer:
            await asyncio.sleep(SETTLES_S)
            quiet, before = time.monotonic(), used()
            await asyncio.sleep(quiet_s)
            began, at_fault, mark = time.monotonic(), used(), self.site.audit.mark()
            async with asyncio.timeout(GIVE_UP_S):
                over = await recovery()
            await asyncio.sleep(SETTLES_S)
            ended, after, requests = time.monotonic(), used(), self.site.audit.since(mark)
            await asyncio.to_thread(observer.stop)
        idle = observer.waited(quiet, began)
        during = observer.waited(began, ended)
        waited = observer.waited(began, over)
        times = during.rounds / idle.rounds if idle.rounds else (ended - began) / (began - quiet)
        others = {name: (at_fault[name] - before[name]) * times for name in pids}
        spent = {name: after[name] - at_fault[name] for name in pids}
        return Measured(
            rival=rival,
            ranks=len(self.fleet.uids),
            kubelets=self.kubelets is not None,
            seconds=over - began,
            api_cpu_s=spent["kube-apiserver"] - others["kube-apiserver"],
            etcd_cpu_s=spent["etcd"] - others["etcd"],
            observer_cpu_s=others["kube-apiserver"],
            scheduler_cpu_s=spent.get("scheduler", 0.0),
            client_cpu_s=spent["client"],
            api_rss_mib=rss_mib(pids["kube-apiserver"]),
            p50_ms=waited.p50_ms,
            p99_ms=waited.p99_ms,
            quiet_p50_ms=idle.p50_ms,
            quiet_p99_ms=idle.p99_ms,
            requests=Counter({r: n for r, n in requests.items() if r.user != "observer"}),
        )

    async def _at_rest(self) -> None:
        """The server has digested what was set up, or does not come to rest."""
        pid = self.site.server.pids["kube-apiserver"]
        for _ in range(RESTS_WITHIN_S):
            before = cpu_s(pid)
            await asyncio.sleep(1)
            if cpu_s(pid) - before < AT_REST:
                return


@asynccontextmanager
async def stage(site: Site, name: str, ranks: int, *, kubelets: bool) -> AsyncIterator[Stage]:
    """A new fleet, in a namespace of that name. What is spawned ends with the block, and its failure ends the block."""
    fleet = await build(site.server, a_gang(name, ranks))
    async with _background() as spawn, kubelets_client(site.server) as client:
        tellers = None
        if kubelets:
            tellers = Kubelets(client, fleet.path, spawn)
            await tellers.follow()
        yield Stage(site, fleet, tellers, spawn)


@asynccontextmanager
async def _background() -> AsyncIterator[Spawn]:
    async with asyncio.TaskGroup() as group:
        tasks: set[asyncio.Task[Any]] = set()

        def spawn(work: Coroutine[Any, Any, Any]) -> None:
            task = group.create_task(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            yield spawn
        finally:
            for task in tasks:
                task.cancel()


async def jobset(site: Site, name: str, ranks: int, *, kubelets: bool, quiet_s: float = QUIET_S) -> Measured:
    """N applies of an annotation, N LIST and WATCH, two status PUTs and two more because ready ranks are counted."""
    async with stage(site, name, ranks, kubelets=kubelets) as it, Client(site.server, "controller") as client:
        controller = jobset_protocol.Controller(client, it.fleet, await jobset_protocol.create(client, it.fleet))
        agents = jobset_protocol.Agents(site.server, it.fleet, it.kubelets)
        await controller.run(it.spawn)
        it.spawn(agents.run())
        await agents.all_run(0)

        async def recovery() -> float:
            victim = it.fleet.gang.slots[ranks // 2].pod_name
            agents.fault(victim)
            await controller.flip(ready=0)
            await agents.all_run(1)
            over = time.monotonic()
            await controller.flip(ready=1)
            return over

        return await it.measure("jobset", recovery, quiet_s=quiet_s)


async def recreate(
    site: Site,
    name: str,
    ranks: int,
    *,
    kubelets: bool,
    per_second: float | None = None,
    quiet_s: float = QUIET_S,
) -> Measured:
    """N DELETE, N POST as each old pod is gone, N Bindings; `per_second` pods at most, or as many as the server takes.

    Without kubelets pods go with grace 0, since nobody would end them. Left out in its favour: everything that a Job
    controller would write beside (statuses, finalizers, back-off).
    """
    async with stage(site, name, ranks, kubelets=kubelets) as it, Client(site.server, "controller") as client:
        pods = _Replaced(client, it.fleet, grace=kubelets)
        await pods.look()
        it.spawn(pods.follow())
        with scheduling(site.server, site.folder) as scheduler:

            async def recovery() -> float:
                async with asyncio.TaskGroup() as group:
                    for rank in range(ranks):
                        group.create_task(pods.replace(rank, until_ready=kubelets))
                        if per_second:
                            await asyncio.sleep(1 / per_second)
                return time.monotonic()

            rival = "paced" if per_second else "recreate"
            return await it.measure(rival, recovery, quiet_s=quiet_s, programs={"scheduler": scheduler})


async def paced(site: Site, name: str, ranks: int, *, kubelets: bool, quiet_s: float = QUIET_S) -> Measured:
    """`recreate`, twenty pods a second."""
    return await recreate(site, name, ranks, kubelets=kubelets, per_second=PACE_PER_S, quiet_s=quiet_s)


RIVALS = {"jobset": jobset, "recreate": recreate, "paced": paced}


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str


class _Status(msgspec.Struct, frozen=True):
    conditions: list[_Condition] = []


class _Spec(msgspec.Struct, rename="camel", frozen=True):
    node_name: str = ""


class _Meta(msgspec.Struct, rename="camel", frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: _Pod


class _Replaced:
    """Deletes pods and creates them anew, with one LIST and WATCH of all."""

    def __init__(self, client: Client, fleet: Fleet, *, grace: bool) -> None:
        self._client = client
        self._fleet = fleet
        self._grace = grace
        self._since = ""
        loop = asyncio.get_running_loop()
        self._gone = {name: loop.create_future() for name in fleet.uids}
        self._bound = {name: loop.create_future() for name in fleet.uids}
        self._ready = {name: loop.create_future() for name in fleet.uids}

    async def look(self) -> None:
        listed = await self._client.ask("GET", self._fleet.path)
        self._since = listed["metadata"]["resourceVersion"]

    async def follow(self) -> None:
        decode = msgspec.json.Decoder(_Event).decode
        async for line in self._client.watch(self._fleet.path, self._since):
            event = decode(line)
            pod, name = event.object, event.object.metadata.name
            if pod.metadata.uid == self._fleet.uids[name]:
                if event.type == "DELETED":
                    _done(self._gone[name])
            elif pod.spec.node_name:
                _done(self._bound[name])
                if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions):
                    _done(self._ready[name])

    async def replace(self, rank: int, *, until_ready: bool) -> None:
        name = self._fleet.gang.slots[rank].pod_name
        options = {} if self._grace else {"gracePeriodSeconds": 0}
        await self._client.send("DELETE", f"{self._fleet.path}/{name}", options, accept=PROTOBUF)
        await self._gone[name]
        await self._client.send("POST", self._fleet.path, self._fleet.pod(rank, 2), accept=PROTOBUF)
        await (self._ready if until_ready else self._bound)[name]


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


HEADINGS = (
    "rival     ranks kubelets  seconds  api cpu s  etcd  sched  client   rss MiB   p50 ms   p99 ms  (quiet)"
    "    writes   reads refused"
)


def row(of: Measured) -> str:
    return (
        f"{of.rival:9} {of.ranks:5} {'with' if of.kubelets else 'without':8} {of.seconds:8.1f} {of.api_cpu_s:10.2f}"
        f" {of.etcd_cpu_s:5.2f} {of.scheduler_cpu_s:6.2f} {of.client_cpu_s:7.2f} {of.api_rss_mib:9.0f}"
        f" {of.p50_ms:8.1f} {of.p99_ms:8.1f} {of.quiet_p50_ms:4.1f}/{of.quiet_p99_ms:<4.1f}"
        f" {of.writes():8} {of.reads():7} {of.refused:7}"
    )


def table(measured: Sequence[Measured]) -> list[str]:
    """A line each, then what was asked of the server, by user and verb."""
    lines = [HEADINGS, *map(row, measured)]
    for each in measured:
        lines += ["", f"{each.rival}, {each.ranks} ranks, {'with' if each.kubelets else 'without'} kubelets:"]
        lines += [
            f"  {n:7,}  {r.user:11} {r.verb:7} {r.what}{f' ({r.code})' if r.code else ''}"
            for r, n in sorted(each.requests.items())
        ]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.rivals", description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=256)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--kubelets", choices=("both", "with", "without"), default="both")
    parser.add_argument(
        "--no-audit", action="store_true", help="what the audit log itself costs: no requests are counted"
    )
    parser.add_argument("--no-observer", action="store_true", help="CPU only, more exactly")
    options = parser.parse_args()
    how = {"audited": not options.no_audit, "observed": not options.no_observer}
    modes = {"both": (False, True), "with": (True,), "without": (False,)}[options.kubelets]
    measured = []
    print(HEADINGS, flush=True)
    for kubelets in modes:
        for rival in options.rivals:
            with tempfile.TemporaryDirectory() as folder, site(Path(folder), **how) as here:
                measured.append(asyncio.run(RIVALS[rival](here, "gang", options.ranks, kubelets=kubelets)))
            print(row(measured[-1]), flush=True)
    print(*table(measured)[1 + len(measured) :], sep="\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"no real API server: {missing}")
