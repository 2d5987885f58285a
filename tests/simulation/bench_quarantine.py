"""How long it takes until the last of many machines that go bad at once is quarantined: `make bench-quarantine`.

python tests/simulation/bench_quarantine.py [RANKS BAD]…: simulated seconds, with a controller whose requests to the
API server take 5 to 20 ms each. All BAD nodes get the condition GpuUnhealthy at the same moment; ceiling, breaker and
bounds are opened wide.

    from_fault_s   from the conditions until the last Node has its taint
    from_judged_s  and from the first plan that heeds one of them: they count only after 1.5 s without a break
    one_by_one_s   before that, in the same world: as many nodes read and patched one after the other, as is done where
                   each machine is remediated for itself
    most_writes    patches of one node, of all

Simulated time does not pass while a program computes: `wall_s` is what the whole run took here, for everybody.
"""

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fleetctl.controller import loop
from fleetctl.gang.actions import Plan, QuarantineNodes
from fleetctl.gang.plan import plan
from fleetctl.gang.quarantine import QUARANTINE
from fleetctl.gang.snapshot import Memory, Snapshot
from fleetctl.kube.objects import NODES
from fleetctl.scenario.simulate import FirstRun
from fleetctl.sim.journal import Event, Object, Wrote
from fleetctl.sim.world import Latency, World

A_NODE = 8
BARS_S = {100: 2.0, 750: 15.0}
RIVAL = "NVSentinel reports 304 s for 750 nodes"
WIDE = {
    "unhealthyCeiling": "100%",
    "breaker": {"nodes": "100%"},
    "quarantine": {"nodes": "100%", "perDomain": "100%"},
}
SETTLES_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Took:
    from_fault_s: float
    from_judged_s: float
    one_by_one_s: float
    most_writes: int


class Watcher:
    """When Nodes get their taint, and how often each is patched."""

    def __init__(self, bad: int) -> None:
        self.missing = bad
        self.last_at = 0.0
        self.writes: Counter[str] = Counter()
        self.all = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Wrote) or event.plural != "nodes" or not event.actor.startswith("controller/"):
            return
        self.writes[event.name] += 1
        if _is_tainted(event.after) and not _is_tainted(event.before):
            self.missing -= 1
            self.last_at = event.at
        if self.missing == 0:
            self.all.set()


def _is_tainted(node: Object | None) -> bool:
    return any(taint["key"] == QUARANTINE for taint in (node or {}).get("spec", {}).get("taints") or ())


def a_gang(ranks: int, recovery: Object) -> Object:
    trainer = {"name": "trainer", "image": "trainer:sim", "command": ["train"]}
    group = {"name": "worker", "size": ranks, "template": {"spec": {"containers": [trainer]}}}
    return {"metadata": {"name": "llm", "namespace": "default"}, "spec": {"groups": [group], "recovery": recovery}}


def measure(ranks: int, bad: int, *, seed: int = 7, afterwards_s: float = 0.0) -> Took:
    """One run, and for how long the world goes on when it is over."""
    world = World(seed, nodes=-(-ranks // A_NODE), ranks_per_node=A_NODE, latency=Latency(api=(0.005, 0.020)))
    watcher, first_run = Watcher(bad), FirstRun(ranks)
    world.journal.listeners += [watcher, first_run]
    judged_at: list[float] = []

    def noted(snapshot: Snapshot, memory: Memory) -> Plan:
        decided = plan(snapshot, memory)
        if any(isinstance(action, QuarantineNodes) for action in decided.actions):
            judged_at.append(world.now())
        return decided

    async def one_by_one(names: Sequence[str]) -> float:
        client, began = world.door.client("somebody", random.Random(seed)), world.now()  # type: ignore[attr-defined]
        for name in names:
            node = await client.get(NODES, None, name)
            version = {"resourceVersion": node.metadata.resource_version}
            await client.patch(NODES, None, name, {"metadata": {**version, "annotations": {"seen": "1"}}})
        return world.now() - began

    async def story() -> Took:
        await world.begin()
        world.create_gang(a_gang(ranks, WIDE))
        await first_run.seen.wait()
        await asyncio.sleep(SETTLES_S)
        names = world.node_names[:bad]
        alone_s, began = await one_by_one(names), world.now()
        for name in names:
            world.set_condition(name, "GpuUnhealthy", "True")
        await watcher.all.wait()
        await asyncio.sleep(afterwards_s)
        return Took(
            from_fault_s=watcher.last_at - began,
            from_judged_s=watcher.last_at - judged_at[0],
            one_by_one_s=alone_s,
            most_writes=max(watcher.writes.values()),
        )

    loop.plan = noted
    try:
        return world.loop.run_until_complete(story())
    finally:
        loop.plan = plan
        world.end()


def main(*sizes: tuple[int, int]) -> None:
    """Print a line for each."""
    logging.getLogger("fleetctl").addHandler(logging.NullHandler())
    for ranks, bad in sizes:
        began = time.perf_counter()
        took = measure(ranks, bad)
        bar = BARS_S.get(bad)
        print(
            f"ranks={ranks} nodes={-(-ranks // A_NODE)} bad={bad} from_fault_s={took.from_fault_s:.2f} "
            f"from_judged_s={took.from_judged_s:.2f} bar_s={bar or '-'} one_by_one_s={took.one_by_one_s:.2f} "
            f"most_writes={took.most_writes} wall_s={time.perf_counter() - began:.0f}",
            flush=True,
        )
        if bar and took.from_fault_s > bar:
            sys.exit(f"{bad} nodes took longer than {bar:.0f} s")
    print(RIVAL)


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]] or [1024, 100, 8000, 750]
    main(*zip(words[::2], words[1::2], strict=True))
