"""Agents that come to a standby are sent to the leader; those that cannot get there stay, and are welcomed on the same
stream once the standby leads."""

import asyncio

from fleetctl.rendezvous.messages import Hello, NotLeader, Refused, decode, encode
from fleetctl.sim.controllers import PORT, ControllerProcess
from fleetctl.sim.world import World


def test_a_standby_names_the_leader_and_keeps_who_stays_until_it_leads() -> None:
    world = World(1, nodes=1, ranks_per_node=1, controllers=2)

    def listening() -> list[str]:
        return [c.name for c in world.controllers if world.network.listener(c.process.address, PORT)]

    async def last_word(of: ControllerProcess) -> object:
        reader, writer = await world.network.open_stream(of.process.address, PORT, 4096)
        writer.write(encode(Hello("token", "life", 1.0, 0, None)))
        line = await reader.readline()
        writer.close()
        return decode(line)

    async def story() -> None:
        await world.begin()
        await asyncio.sleep(10)
        first = world.leader
        second = next(c for c in world.controllers if c is not first)
        assert listening() == [c.name for c in world.controllers]
        assert await last_word(second) == NotLeader(f"{first.process.address}:{PORT}")
        first.crash()
        await asyncio.sleep(6.5)
        assert await last_word(second) == NotLeader("")
        reader, writer = await world.network.open_stream(second.process.address, PORT, 4096)
        writer.write(encode(Hello("token", "life", 1.0, 0, None)))
        while (line := await reader.readline()) and isinstance(word := decode(line), NotLeader):
            assert word == NotLeader(""), "whoever is sent to it by its address dials anew"
        writer.close()
        assert world.leader is second
        assert isinstance(decode(line), Refused)  # it leads, and judges the token

    try:
        world.loop.run_until_complete(story())
    finally:
        world.end()
