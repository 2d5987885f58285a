"""A Lease that somebody deletes counts its terms from 0 again; records of gangs remember how far they had come."""

import asyncio
from pathlib import Path

from fleetctl.scenario.load import load
from fleetctl.scenario.simulate import gang_body, world_of
from fleetctl.sim.controllers import NAMESPACE
from fleetctl.sim.world import World

CONTAINER_EXIT = Path(__file__).parents[2] / "scenarios" / "container-exit.yaml"


def test_who_leads_by_a_new_lease_goes_on_with_the_gang() -> None:
    scenario = load(CONTAINER_EXIT)
    world = World(1, **world_of(scenario) | {"controllers": 2})

    async def story() -> None:
        await world.begin()
        body = gang_body(scenario)
        key = (body["metadata"]["namespace"], body["metadata"]["name"])

        def attempt() -> tuple[int, str]:
            gang = world.api.get("gangs", *key)
            record = ((gang or {}).get("status") or {}).get("attempt") or {}
            return record.get("released", 0), record.get("writer", "")

        await asyncio.sleep(5)
        world.leader.crash()
        await asyncio.sleep(25)
        world.create_gang(body)
        await asyncio.sleep(30)
        assert attempt()[0] == 1
        assert attempt()[1].endswith("/1")
        for controller in world.controllers:
            controller.crash()
        world.api.delete("somebody", "leases", NAMESPACE, "fleetctl-controller")
        world.controllers[0].start()
        await asyncio.sleep(30)
        found = world.local_pod(key, 3)
        assert found is not None
        found[0].trainer_ended(found[1], 1)
        await asyncio.sleep(30)
        assert attempt() == (2, f"{world.controllers[0].identity}/2")

    try:
        world.loop.run_until_complete(story())
    finally:
        world.end()
