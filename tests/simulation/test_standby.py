"""Agents that look for the leader find nobody else: a thousand TLS handshakes would keep a standby from leading."""

import asyncio

from fleetctl.sim.controllers import PORT
from fleetctl.sim.world import World


def test_only_the_leader_listens() -> None:
    world = World(1, nodes=1, ranks_per_node=1, controllers=2)

    def listening() -> list[str]:
        return [c.name for c in world.controllers if world.network.listener(c.process.address, PORT)]

    async def story() -> None:
        await world.begin()
        await asyncio.sleep(5)
        first = world.leader
        assert listening() == [first.name]
        first.crash()
        await asyncio.sleep(5)
        assert listening() == []
        await asyncio.sleep(25)
        assert world.leader is not first
        assert listening() == [world.leader.name]

    try:
        world.loop.run_until_complete(story())
    finally:
        world.end()
