"""A leader whose Lease lapses keeps its agents for as long as nobody else can lead, and no longer."""

import asyncio

import pytest

from fleetctl.scenario.load import load
from fleetctl.scenario.simulate import gang_body, world_of
from fleetctl.sim.troubles import Outage
from fleetctl.sim.world import World
from tests.simulation.test_lease_deleted import CONTAINER_EXIT


@pytest.mark.parametrize(("away_s", "fewest"), [(10.5, 8), (20.0, 0)])
def test_agents_stay_while_nobody_else_can_lead(away_s: float, fewest: int, caplog: pytest.LogCaptureFixture) -> None:
    scenario = load(CONTAINER_EXIT)
    world = World(1, **world_of(scenario) | {"controllers": 2})

    async def story() -> None:
        await world.begin()
        await asyncio.sleep(5)
        leader = world.leader
        world.create_gang(gang_body(scenario))
        await asyncio.sleep(30)
        assert leader.controller is not None
        outage, agents = Outage(), [leader.controller.agents()]
        world.door.begin(outage)
        for _ in range(round(away_s * 4)):
            await asyncio.sleep(0.25)
            agents.append(leader.controller.agents())
        world.door.end(outage)
        for _ in range(20):
            await asyncio.sleep(0.25)
            agents.append(leader.controller.agents())
        assert f"{leader.identity} no longer leads" in caplog.text
        assert (agents[0], min(agents)) == (8, fewest)
        await asyncio.sleep(30)
        assert sum(c.controller.agents() for c in world.controllers if c.controller) == 8

    try:
        world.loop.run_until_complete(story())
    finally:
        world.end()
