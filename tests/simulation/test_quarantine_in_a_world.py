"""Quarantine from end to end: a machine gets bad, is kept from new pods, and is let out when its gang is deleted."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from fleetctl.gang.quarantine import QUARANTINE
from fleetctl.scenario.simulate import FirstRun
from fleetctl.sim.world import World

from .bench_quarantine import a_gang, measure

RANKS = 16


def in_a_world(story: Coroutine[Any, Any, None], world: World) -> None:
    try:
        world.loop.run_until_complete(story)
    finally:
        world.end()


def marks(world: World, name: str) -> tuple[bool, bool, bool]:
    """Whether the Node has the label, the annotation, the taint."""
    node = world.api.get("nodes", "", name)
    assert node
    meta, taints = node["metadata"], node["spec"].get("taints") or ()
    return (
        QUARANTINE in meta.get("labels", {}),
        QUARANTINE in meta.get("annotations", {}),
        any(taint["key"] == QUARANTINE for taint in taints),
    )


def test_a_bad_machine_is_quarantined_while_the_gang_is_there() -> None:
    world = World(3, nodes=4, ranks_per_node=8)
    first_run = FirstRun(RANKS)
    world.journal.listeners.append(first_run)

    async def story() -> None:
        await world.begin()
        world.create_gang(a_gang(RANKS, {}))
        await first_run.seen.wait()
        bad = next(k.name for k, _ in world.local_pods(("default", "llm")))
        world.set_condition(bad, "GpuUnhealthy", "True")
        await asyncio.sleep(5)
        assert marks(world, bad) == (True, True, True)
        await asyncio.sleep(200)
        assert [name for name in world.node_names if any(marks(world, name))] == [bad]
        assert {k.name for k, pod in world.local_pods(("default", "llm")) if pod.trains}.isdisjoint({bad})
        world.set_condition(bad, "GpuUnhealthy", "False")
        world.api.delete("somebody", "gangs", "default", "llm")
        await asyncio.sleep(2)
        assert marks(world, bad) == (False, False, False)

    in_a_world(story(), world)


def test_observe_marks_nothing() -> None:
    world = World(3, nodes=4, ranks_per_node=8)
    first_run = FirstRun(RANKS)
    world.journal.listeners.append(first_run)

    async def story() -> None:
        await world.begin()
        world.create_gang(a_gang(RANKS, {"mode": "Observe"}))
        await first_run.seen.wait()
        for name in world.node_names:
            world.set_condition(name, "GpuUnhealthy", "True")
        await asyncio.sleep(60)
        assert not any(any(marks(world, name)) for name in world.node_names)

    in_a_world(story(), world)


def test_all_that_get_bad_at_once_are_quarantined_within_a_moment_by_one_write_each() -> None:
    took = measure(64, 5, afterwards_s=60.0)
    assert took.from_judged_s < 0.5
    assert took.most_writes == 1
