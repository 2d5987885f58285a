"""The real kube-scheduler keeps blocks of ranks together, as our pods ask it to.

Skipped, with the reason, where there is no real API server.
"""

import asyncio
import os
from collections import defaultdict
from dataclasses import replace

import msgspec
import pytest

from fleetctl.gang import pods
from fleetctl.gang.spec import PlacementSpec
from tests.conformance.realserver import Missing
from tests.scale import rivals
from tests.scale.client import Client
from tests.scale.fleet import PER_NODE, Fleet, a_gang, create_node
from tests.scale.rivals import Site
from tests.scale.scheduler import scheduling

RACK = "example.com/rack"
RACKS, NODES = 3, 2
BLOCK = NODES * PER_NODE
RANKS = RACKS * BLOCK
WAITS = 300
pytestmark = pytest.mark.timeout(120, func_only=True)


async def racks_of_blocks(site: Site, name: str, placement: PlacementSpec) -> dict[int, set[str]]:
    """A gang that fills the cluster, made as the controller makes it; by block, the racks that the scheduler chose."""
    gang = a_gang(name, RANKS)
    gang = replace(gang, spec=msgspec.structs.replace(gang.spec, placement=placement))
    fleet = Fleet(gang=gang, nodes=[], uids={})
    async with Client(site.server, "setup", 1) as client:
        await client.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        for service in pods.services(gang):  # the scheduler spreads pods of one Service, unless it is told otherwise
            await client.send("POST", f"/api/v1/namespaces/{name}/services", service)
        for rank in range(RANKS):
            await client.send("POST", fleet.path, fleet.pod(rank, 1))
            await asyncio.sleep(1 / 50)
        nodes: dict[str, str] = {}
        for _ in range(WAITS):
            found = (await client.ask("GET", fleet.path))["items"]
            nodes = {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in found}
            if all(nodes.values()):
                break
            await asyncio.sleep(0.1)
        for rank in range(RANKS):
            await client.send("DELETE", f"{fleet.path}/{gang.slots[rank].pod_name}", {"gracePeriodSeconds": 0})
    assert all(nodes.values()), nodes
    racks = defaultdict[int, set[str]](set)
    for slot in gang.slots:
        racks[slot.rank // BLOCK].add(nodes[slot.pod_name].rpartition("-")[0])
    return racks


async def build_racks(site: Site) -> None:
    async with Client(site.server, "setup", 1) as client:
        for rack in range(RACKS):
            for node in range(NODES):
                await create_node(client, f"rack-{rack}-{node}", {RACK: f"rack-{rack}"})


def test_the_real_scheduler_keeps_blocks_together_if_it_is_asked_to(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        with rivals.site(tmp_path_factory.mktemp("site"), observed=False) as site:
            asyncio.run(build_racks(site))
            with scheduling(site.server, site.folder):
                asked = asyncio.run(
                    racks_of_blocks(site, "asked", PlacementSpec(topology_keys=[RACK], block_size=BLOCK))
                )
                left = asyncio.run(racks_of_blocks(site, "left", PlacementSpec()))
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a real API server: {missing}")
        pytest.skip(f"no real API server: {missing}")
    assert [len(racks) for racks in asked.values()] == [1] * RACKS
    assert all(len(racks) > 1 for racks in left.values())  # else this shows nothing
