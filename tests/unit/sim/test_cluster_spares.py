"""Spares in the simulated cluster: how they run, where they go, who may put them out, and what a kubelet lets in."""

import asyncio
from typing import Any

import pytest

from fleetctl.sim.journal import Object
from fleetctl.sim.world import Latency, Trainer

from .smallworld import NS, SmallWorld, of, spare_body

RANK = {"fleetctl.dev/gang": "g", "fleetctl.dev/role": "rank"}
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
APART: Object = {
    "podAntiAffinity": {
        PREFERRED: [
            {
                "weight": 100,
                "podAffinityTerm": {"labelSelector": {"matchLabels": RANK}, "topologyKey": "kubernetes.io/hostname"},
            }
        ]
    }
}
NOT_QUARANTINED: Object = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "fleetctl.dev/quarantine", "operator": "DoesNotExist"}]}
            ]
        }
    }
}


def empty(**parts: Any) -> SmallWorld:
    return SmallWorld(controllers=0, **parts)


def spare(world: SmallWorld, name: str = "spare", node: str = "", **spec: Any) -> None:
    low = {"priorityClassName": "fleetctl-spare", "affinity": APART, **spec}
    world.api.create("somebody", "pods", spare_body(name, node, **low))


def rank(world: SmallWorld, number: int, node: str = "", **spec: Any) -> None:
    """A pod like a rank's, without an agent; on that node, or wherever the scheduler puts it."""
    meta = {"name": f"rank-{number}", "namespace": NS, "labels": {**RANK, "fleetctl.dev/rank": str(number)}}
    body: Object = {"containers": [{"name": "trainer", "image": "trainer:sim"}], **spec}
    if node:
        body["nodeName"] = node
    world.api.create("somebody", "pods", {"metadata": meta, "spec": body})


def there(world: SmallWorld, name: str) -> Object:
    return world.api.get("pods", NS, name) or {"metadata": {}, "spec": {}, "status": {}}


def node_of(world: SmallWorld, name: str) -> str:
    return str(there(world, name)["spec"].get("nodeName", ""))


def phase(world: SmallWorld, name: str) -> str:
    return str(there(world, name)["status"].get("phase", "gone"))


# Kubelets


def test_a_spare_runs_both_its_containers_and_nobody_trains_there() -> None:
    world = empty()

    async def story() -> None:
        spare(world)
        await asyncio.sleep(5.0)
        status = there(world, "spare")["status"]
        assert status["phase"] == "Running"
        assert [of(status, name) for name in ("trainer", "fleetctl-hold")] == ["running", "running"]
        assert "initContainerStatuses" not in status
        assert world.started() == []
        (pod,) = (pod for kubelet in world.kubelets.values() for pod in kubelet.pods.values())
        assert not pod.trains

    world.play(story, gang=False)


@pytest.mark.parametrize(("grace_s", "at_least"), [(0, 0.0), (None, 0.05)])
def test_a_deleted_spare_ends_at_once_or_with_its_own_grace(grace_s: int | None, at_least: float) -> None:
    world = empty()

    async def story() -> None:
        spare(world)
        await asyncio.sleep(5.0)
        world.api.delete("somebody", "pods", NS, "spare", grace_s=grace_s)
        deleted = world.now()
        await world.until(lambda: world.api.get("pods", NS, "spare") is None, 3.0)
        assert at_least <= world.now() - deleted < 2.0
        await asyncio.sleep(1.0)
        assert not any(kubelet.pods for kubelet in world.kubelets.values())

    world.play(story, gang=False)


@pytest.mark.parametrize("seed", range(1, 9))
def test_who_is_made_right_after_a_spare_was_deleted_finds_its_room_and_its_image(seed: int) -> None:
    world = empty(seed=seed, ranks_per_node=1, latency=Latency(image_pull=(20.0, 30.0), kubelet=(0.05, 3.0)))

    async def story() -> None:
        spare(world, node="node-2")
        await asyncio.sleep(40.0)
        assert phase(world, "spare") == "Running"
        world.api.delete("somebody", "pods", NS, "spare", grace_s=0)
        rank(world, 0, "node-2")
        await asyncio.sleep(12.0)
        assert phase(world, "rank-0") == "Running"
        assert [e for e in world.wrote(name="rank-0") if e.actor == "scheduler"] == []

    world.play(story, gang=False)


def test_a_spare_that_was_deleted_at_once_takes_no_room_while_its_containers_are_killed() -> None:
    world = empty(ranks_per_node=1, latency=Latency(kubelet=(0.0, 0.0)))

    async def story() -> None:
        spare(world, node="node-2")
        await asyncio.sleep(5.0)
        world.api.delete("somebody", "pods", NS, "spare", grace_s=0)
        rank(world, 0, "node-2")
        await asyncio.sleep(5.0)
        assert phase(world, "rank-0") == "Running"

    world.play(story, gang=False)


def test_a_kubelet_without_room_turns_a_pod_away_however_it_came_there() -> None:
    world = empty(ranks_per_node=1)

    async def story() -> None:
        spare(world, node="node-2")
        await asyncio.sleep(5.0)
        rank(world, 0, "node-2")
        await asyncio.sleep(2.0)
        status = there(world, "rank-0")["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
        assert status["message"] == (
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1000, capacity: 1000"
        )
        assert phase(world, "spare") == "Running"
        world.api.delete("somebody", "pods", NS, "spare", grace_s=0)
        await asyncio.sleep(5.0)
        assert phase(world, "rank-0") == "Failed"  # for good
        world.api.delete("somebody", "pods", NS, "rank-0")
        assert phase(world, "rank-0") == "gone"  # there is nothing to wait for

    world.play(story, gang=False)


def test_a_pod_that_terminates_takes_room_until_it_is_gone() -> None:
    world = empty(ranks_per_node=1, trainer=Trainer(stops_in=(10.0, 10.0)))

    async def story() -> None:
        rank(world, 0, "node-2")
        await asyncio.sleep(5.0)
        world.api.delete("somebody", "pods", NS, "rank-0", grace_s=30)
        rank(world, 1, "node-2")
        await asyncio.sleep(9.0)
        assert (phase(world, "rank-0"), phase(world, "rank-1")) == ("Running", "Failed")
        await asyncio.sleep(3.0)
        rank(world, 2, "node-2")
        await asyncio.sleep(3.0)
        assert (phase(world, "rank-0"), phase(world, "rank-2")) == ("gone", "Running")

    world.play(story, gang=False)


def test_a_kubelet_that_restarts_turns_away_whom_its_node_no_longer_attracts() -> None:
    """As the real one does (kubernetes/kubernetes#124586): nobody is safe from a label until the node reboots."""
    world = empty()

    async def story() -> None:
        rank(world, 0, affinity=NOT_QUARANTINED)
        await asyncio.sleep(5.0)
        node = node_of(world, "rank-0")
        labels = {"fleetctl.dev/quarantine": "true"}
        world.api.update(
            "somebody", "nodes", "", node, lambda n: {**n, "metadata": {**n["metadata"], "labels": labels}}
        )
        await asyncio.sleep(20.0)
        assert phase(world, "rank-0") == "Running"
        world.kill_node(node)
        world.boot_node(node)
        await asyncio.sleep(5.0)
        assert there(world, "rank-0")["status"]["reason"] == "NodeAffinity"

    world.play(story, gang=False)


def test_a_pull_ends_with_the_pod_that_it_is_for_and_leaves_no_image() -> None:
    world = empty(latency=Latency(image_pull=(600.0, 600.0)))

    async def story() -> None:
        rank(world, 0, "node-2")
        await asyncio.sleep(60.0)
        world.api.delete("somebody", "pods", NS, "rank-0", grace_s=30)
        await asyncio.sleep(5.0)
        assert phase(world, "rank-0") == "gone"
        assert world.images["node-2"] == set()

    world.play(story, gang=False)


# Scheduler


def test_spares_have_nodes_of_their_own_while_there_are_free_ones_and_share_them() -> None:
    world = empty(nodes=4, ranks_per_node=8)

    async def story() -> None:
        for number in range(12):
            rank(world, number)
        await asyncio.sleep(2.0)
        for number in range(8):
            spare(world, f"spare-{number}")
        await asyncio.sleep(2.0)
        assert {node_of(world, f"spare-{number}") for number in range(8)} == {"node-2"}
        assert {node_of(world, f"rank-{number}") for number in range(8, 12)} == {"node-1"}

    world.play(story, gang=False)


def test_a_pod_goes_to_where_those_are_that_it_likes_to_be_near() -> None:
    world = empty(nodes=6, ranks_per_node=2, nodes_per_rack=2)
    selector = {"matchLabels": {"fleetctl.dev/rank": "1"}}
    near = {"labelSelector": selector, "topologyKey": "topology.kubernetes.io/rack"}
    wish: Object = {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": near}]}}

    async def story() -> None:
        rank(world, 0, "node-0")
        rank(world, 1, "node-4")
        for number in (2, 3, 4, 5):
            rank(world, number, affinity=wish)
        rank(world, 6)
        await asyncio.sleep(2.0)
        # beside it, beside it in its rack, and elsewhere as ever once that is full
        where = [node_of(world, f"rank-{number}") for number in (2, 3, 4, 5, 6)]
        assert where == ["node-4", "node-5", "node-5", "node-0", "node-1"]

    world.play(story, gang=False)


def test_spares_are_packed_between_ranks_where_nothing_else_is_free() -> None:
    world = empty(nodes=2, ranks_per_node=2)

    async def story() -> None:
        for number in range(3):
            rank(world, number)
        await asyncio.sleep(2.0)
        spare(world)
        await asyncio.sleep(2.0)
        assert node_of(world, "spare") == "node-1"

    world.play(story, gang=False)


def test_who_finds_no_room_takes_that_of_a_spare_and_only_of_one() -> None:
    world = empty(nodes=2, ranks_per_node=1)

    async def story() -> None:
        for number in (0, 1):
            spare(world, f"spare-{number}")
        await asyncio.sleep(2.0)
        rank(world, 5)
        await asyncio.sleep(10.0)
        assert phase(world, "rank-5") == "Running"
        gone, left = sorted(("spare-0", "spare-1"), key=lambda name: node_of(world, name))
        assert node_of(world, left) != node_of(world, "rank-5")
        (marked,) = [e for e in world.wrote(name=gone) if e.actor == "scheduler" and e.subresource == "status"]
        assert marked.after is not None
        told = marked.after["status"]["conditions"][-1]
        assert (told["type"], told["reason"]) == ("DisruptionTarget", "PreemptionByScheduler")

    world.play(story, gang=False)


def test_no_second_spare_is_put_out_while_the_first_takes_its_time() -> None:
    world = empty(nodes=2, ranks_per_node=1)

    async def story() -> None:
        for number in (0, 1):
            spare(world, f"spare-{number}")
        await asyncio.sleep(2.0)
        for kubelet in world.kubelets.values():
            world.loop.freeze(kubelet.process)
        rank(world, 5)
        await asyncio.sleep(10.0)
        ending = [there(world, f"spare-{number}")["metadata"].get("deletionTimestamp") for number in (0, 1)]
        assert len(list(filter(None, ending))) == 1

    world.play(story, gang=False)


def test_nobody_is_put_out_where_the_pod_may_not_go_nor_by_a_spare() -> None:
    world = empty(nodes=1, ranks_per_node=1)

    async def story() -> None:
        spare(world, "first")
        await asyncio.sleep(2.0)
        spare(world, "second")
        fields = [{"key": "metadata.name", "operator": "NotIn", "values": ["node-0"]}]
        required = {"nodeSelectorTerms": [{"matchFields": fields}]}
        away = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        rank(world, 0, affinity=away)
        await asyncio.sleep(10.0)
        assert [phase(world, name) for name in ("first", "second", "rank-0")] == ["Running", "Pending", "Pending"]

    world.play(story, gang=False)


def test_ranks_that_wait_for_room_come_before_spares_that_do() -> None:
    world = empty(nodes=2, ranks_per_node=1)

    async def story() -> None:
        rank(world, 0)
        rank(world, 1)
        await asyncio.sleep(2.0)
        spare(world)
        await asyncio.sleep(2.0)
        rank(world, 2)
        await asyncio.sleep(2.0)
        world.api.delete("somebody", "pods", NS, "rank-1", grace_s=0)
        await asyncio.sleep(5.0)
        assert (node_of(world, "rank-2"), node_of(world, "spare")) == ("node-1", "")
        assert not any((e.after or {"spec": {}})["spec"].get("nodeName") for e in world.wrote(name="spare"))

    world.play(story, gang=False)
