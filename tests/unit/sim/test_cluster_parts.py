"""Scheduler, garbage collection, node lifecycle and training: as much of Kubernetes as matters to gangs."""

import asyncio
import random
from typing import Any

import pytest

from fleetctl.controller.views import node_view
from fleetctl.gang import strikes
from fleetctl.gang.strikes import STRIKES
from fleetctl.kube.objects import NODES
from fleetctl.sim.journal import Object
from fleetctl.sim.loop import VirtualLoop
from fleetctl.sim.training import Training
from fleetctl.sim.world import Trainer

from .smallworld import GANG, NS, SmallWorld, gang_body


def create_pod(world: SmallWorld, name: str, rank: int | None = None, owner: str = "", **spec: Any) -> Object:
    meta: Object = {"name": name, "namespace": NS}
    if rank is not None:
        meta["labels"] = {"fleetctl.dev/rank": str(rank)}
    if owner:
        meta["ownerReferences"] = [{"uid": owner}]
    return world.api.create("somebody", "pods", {"metadata": meta, "spec": {"containers": [{"name": "c"}], **spec}})


def node_of(world: SmallWorld, name: str) -> str:
    pod = world.api.get("pods", NS, name)
    return str(pod["spec"].get("nodeName", "")) if pod else "gone"


def empty(**parts: Any) -> SmallWorld:
    return SmallWorld(controllers=0, **parts)


# Scheduler


def test_neighbours_in_rank_are_neighbours_on_a_node() -> None:
    world = SmallWorld()

    async def story() -> None:
        assert [world.place(rank) for rank in range(4)] == ["node-0", "node-0", "node-1", "node-1"]

    world.play(story)


def test_pods_created_in_any_order_are_bound_in_the_order_of_their_ranks() -> None:
    world = empty()

    async def story() -> None:
        for rank in (10, 2, 3, 1):
            create_pod(world, f"p-{rank}", rank)
        await asyncio.sleep(1.0)
        assert [node_of(world, f"p-{rank}") for rank in (1, 2, 3, 10)] == ["node-0", "node-0", "node-1", "node-1"]

    world.play(story, gang=False)


def test_a_pod_without_room_is_unschedulable_until_there_is_some() -> None:
    world = empty(nodes=1)

    async def story() -> None:
        for number in range(3):
            create_pod(world, f"p-{number}", number)
        await asyncio.sleep(10.0)
        waiting = world.api.get("pods", NS, "p-2")
        assert waiting is not None
        told = [(c["type"], c["status"], c["reason"]) for c in waiting["status"]["conditions"]]
        assert told == [("PodScheduled", "False", "Unschedulable")]
        assert len(world.wrote(name="p-2")) == 2  # created, and told once
        world.api.delete("somebody", "pods", NS, "p-0", grace_s=0)
        await asyncio.sleep(2.0)
        assert node_of(world, "p-2") == "node-0"

    world.play(story, gang=False)


def test_a_pod_that_ended_takes_no_room() -> None:
    world = empty(nodes=1)

    async def story() -> None:
        for number in range(2):
            create_pod(world, f"p-{number}", number)
        await asyncio.sleep(5.0)
        ended = next(pod for pod in world.kubelets["node-0"].pods.values() if pod.key[1] == "p-0")
        world.kubelets["node-0"].trainer_ended(ended, 0, name="c")
        await asyncio.sleep(5.0)
        create_pod(world, "p-2", 2)
        await asyncio.sleep(2.0)
        assert node_of(world, "p-2") == "node-0"

    world.play(story, gang=False)


@pytest.mark.parametrize(
    ("effect", "tolerations", "fits"),
    [
        ("NoSchedule", [], False),
        ("NoExecute", [], False),
        ("PreferNoSchedule", [], True),
        ("NoSchedule", [{"key": "k", "effect": "NoSchedule"}], True),
        ("NoSchedule", [{"key": "k"}], True),
        ("NoSchedule", [{"key": "k", "effect": "NoExecute"}], False),
        ("NoSchedule", [{"key": "other"}], False),
    ],
)
def test_taints_keep_pods_away_that_do_not_tolerate_them(effect: str, tolerations: list[Object], fits: bool) -> None:
    world = empty(nodes=1)

    async def story() -> None:
        world.taint("node-0", "k", effect)
        create_pod(world, "p", tolerations=tolerations)
        await asyncio.sleep(2.0)
        assert node_of(world, "p") == ("node-0" if fits else "")

    world.play(story, gang=False)


def test_cordoned_excluded_and_missing_nodes_get_nothing() -> None:
    world = empty()

    async def story() -> None:
        world.cordon("node-0", True)
        world.api.delete("somebody", "nodes", "", "node-1")
        fields = [{"key": "metadata.name", "operator": "NotIn", "values": ["node-2"]}]
        required = {"nodeSelectorTerms": [{"matchFields": fields}]}
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        create_pod(world, "p", affinity=affinity)
        await asyncio.sleep(2.0)
        assert node_of(world, "p") == "node-3"

    world.play(story, gang=False)


# Node lifecycle


def test_a_node_that_stops_renewing_becomes_unknown_and_comes_back() -> None:
    world = empty()

    async def story() -> None:
        await asyncio.sleep(20.0)
        world.cut_node("node-1")
        cut = world.now()
        await world.until(lambda: world.ready("node-1") == "Unknown", 70.0)
        assert 29.0 < world.now() - cut < 56.0
        taints = lambda: world.api.get("nodes", "", "node-1")["spec"].get("taints")  # type: ignore[index]  # noqa: E731
        assert [t["key"] for t in taints()] == ["node.kubernetes.io/unreachable"]
        world.heal_node("node-1")
        await world.until(lambda: world.ready("node-1") == "True", 20.0)
        assert taints() == []
        assert {e.name for e in world.wrote("nodes") if e.actor == "node-lifecycle"} == {"node-1"}

    world.play(story, gang=False)


def test_a_node_that_was_dark_for_half_a_minute_was_never_unknown() -> None:
    world = empty()

    async def story() -> None:
        await asyncio.sleep(20.0)
        world.cut_node("node-1")
        await asyncio.sleep(28.0)
        world.heal_node("node-1")
        await asyncio.sleep(60.0)
        assert [e for e in world.wrote("nodes") if e.actor == "node-lifecycle"] == []

    world.play(story, gang=False)


def test_while_the_api_server_is_away_nothing_in_the_cluster_writes() -> None:
    world = empty()

    async def story() -> None:
        await asyncio.sleep(20.0)
        began = world.now()
        world.api_down(True)
        await asyncio.sleep(120.0)
        assert [e for e in world.since(began) if getattr(e, "actor", "somebody") != "somebody"] == []
        world.api_down(False)
        await asyncio.sleep(30.0)
        assert [world.ready(node) for node in world.node_names] == ["True"] * 4

    world.play(story, gang=False)


# Garbage


def test_what_a_deleted_gang_owned_is_collected_and_nothing_else() -> None:
    world = empty()

    async def story() -> None:
        gang = world.create_gang(gang_body())
        uid = gang["metadata"]["uid"]
        create_pod(world, "owned", owner=uid)
        create_pod(world, "foreign", owner="somebody-else")
        meta = {"name": "service", "namespace": NS, "ownerReferences": [{"uid": uid}]}
        world.api.create("somebody", "services", {"metadata": meta})
        world.api.delete("somebody", "gangs", *GANG)
        await asyncio.sleep(10.0)
        assert [p["metadata"]["name"] for p in world.api.all("pods")] == ["foreign"]
        assert world.api.all("services") == []

    world.play(story, gang=False)


def test_what_is_created_for_a_gang_that_is_gone_is_collected_too() -> None:
    world = empty()

    async def story() -> None:
        gang = world.create_gang(gang_body())
        world.api.delete("somebody", "gangs", *GANG)
        await asyncio.sleep(5.0)
        create_pod(world, "late", owner=gang["metadata"]["uid"])
        await asyncio.sleep(10.0)
        assert world.api.all("pods") == []

    world.play(story, gang=False)


def test_pods_of_a_node_that_is_gone_go_after_forty_seconds() -> None:
    world = empty()

    async def story() -> None:
        create_pod(world, "p")
        await asyncio.sleep(10.0)
        world.kill_node("node-0")
        world.api.delete("somebody", "nodes", "", "node-0")
        deleted = world.now()
        await world.until(lambda: node_of(world, "p") == "gone", 120.0)
        assert 40.0 <= world.now() - deleted <= 81.0
        last = [e for e in world.wrote(name="p") if e.actor == "pod-gc"]
        assert last[0].after is not None
        assert last[0].after["status"]["phase"] == "Failed"

    world.play(story, gang=False)


def test_terminating_pods_of_a_node_out_of_service_go_and_others_stay() -> None:
    world = empty()

    async def story() -> None:
        for name in ("going", "staying"):
            create_pod(world, name)
        await asyncio.sleep(10.0)
        world.kill_node("node-0", silently=True)
        world.api.delete("somebody", "pods", NS, "going", grace_s=30)
        world.taint("node-0", "node.kubernetes.io/out-of-service", "NoExecute")
        await asyncio.sleep(25.0)
        assert (node_of(world, "going"), node_of(world, "staying")) == ("gone", "node-0")

    world.play(story, gang=False)


# Training


def trains(
    runs_for_s: float | None = None, checkpoint_s: float | None = None
) -> tuple[VirtualLoop, Training, list[float]]:
    loop = VirtualLoop()
    finished: list[float] = []
    return loop, Training(2, 2.0, runs_for_s, lambda: finished.append(loop.time()), checkpoint_s), finished


def test_steps_are_made_only_while_all_ranks_run_one_attempt() -> None:
    loop, training, _ = trains()

    async def story() -> None:
        training.started("a", 1, "node-0")
        await asyncio.sleep(10.0)
        assert (training.complete, training.step) == (False, 0)
        training.started("b", 2, "node-1")
        await asyncio.sleep(10.0)
        assert (training.complete, training.step) == (False, 0)
        training.ended("a")
        training.started("a", 2, "node-0")
        await asyncio.sleep(9.0)
        assert (training.complete, training.step) == (True, 4)
        training.ended("b")
        await asyncio.sleep(9.0)
        assert (training.complete, training.step) == (False, 4)
        training.started("b", 2, "node-1")
        await asyncio.sleep(1.0)
        assert training.step == 5  # nothing is lost

    loop.run_until_complete(story())
    loop.wind_down()


def test_a_new_attempt_begins_at_the_last_checkpoint() -> None:
    loop, training, finished = trains(runs_for_s=60.0, checkpoint_s=15.0)

    async def attempt(number: int) -> None:
        for uid in ("a", "b"):
            training.ended(uid)
            training.started(uid, number, "node-0")

    async def story() -> None:
        await attempt(1)
        await asyncio.sleep(14.0)
        await attempt(2)
        assert (training.step, training.step_of("a")) == (0, None)
        await asyncio.sleep(29.0)
        assert training.step_of("a") == 14
        training.absent("a")  # a standstill loses nothing
        training.present("a")
        assert training.step_of("a") == 14
        await attempt(3)
        assert (training.step, training.step_of("a")) == (7, None)  # 15 s hold seven whole steps
        await asyncio.sleep(2.0)
        assert training.step_of("a") == 8
        left_s = 60.0 - 14.0 - 2.0
        await asyncio.sleep(left_s - 0.1)
        assert finished == []
        await asyncio.sleep(0.2)
        assert len(finished) == 1

    loop.run_until_complete(story())
    loop.wind_down()


def test_who_stands_still_holds_up_all() -> None:
    loop, training, _ = trains()

    async def story() -> None:
        training.started("a", 1, "node-0")
        training.started("b", 1, "node-1")
        for absent in ("b", "node-1"):
            training.absent(absent)
            assert not training.complete
            training.present(absent)
            assert training.complete
        training.absent("node-7")
        assert training.complete

    loop.run_until_complete(story())
    loop.wind_down()


def test_a_trainer_counts_its_first_step_once_it_has_made_one_since_it_started() -> None:
    loop, training, _ = trains()

    async def story() -> None:
        training.started("a", 1, "node-0")
        training.started("b", 1, "node-1")
        await asyncio.sleep(1.9)
        assert training.step_of("a") is None
        await asyncio.sleep(2.2)
        assert (training.step_of("a"), training.step_of("b")) == (2, 2)
        training.ended("b")
        assert (training.step_of("a"), training.step_of("b")) == (2, None)
        training.ended("a")
        training.started("a", 2, "node-0")
        assert training.step_of("a") is None
        training.started("b", 2, "node-1")
        assert training.step_of("b") is None
        await asyncio.sleep(2.0)
        assert (training.step_of("a"), training.step_of("b")) == (3, 3)

    loop.run_until_complete(story())
    loop.wind_down()


def test_when_one_hangs_the_others_have_begun_the_step_that_it_keeps_them_from() -> None:
    loop, training, _ = trains()

    async def story() -> None:
        training.started("a", 1, "node-0")
        training.started("b", 1, "node-1")
        await asyncio.sleep(9.0)
        training.hangs("b")
        assert (training.step_of("a"), training.step_of("b")) == (5, 4)
        await asyncio.sleep(60.0)
        training.hangs("a")  # it stands still already, in the step that it has begun
        assert (training.step_of("a"), training.step_of("b")) == (5, 4)
        training.present("a")
        training.present("b")
        assert (training.step_of("a"), training.step_of("b")) == (5, 4)
        await asyncio.sleep(1.0)
        assert (training.step_of("a"), training.step_of("b")) == (5, 5)
        training.hangs("a")
        training.hangs("b")  # both at once: nobody has begun another step
        assert (training.step_of("a"), training.step_of("b")) == (5, 5)
        training.present("b")
        training.ended("a")
        training.started("a", 2, "node-0")
        training.present("a")
        training.ended("b")
        training.started("b", 2, "node-1")
        assert (training.step_of("a"), training.step_of("b")) == (None, None)
        await asyncio.sleep(2.0)
        assert (training.step_of("a"), training.step_of("b")) == (6, 6)
        training.hangs("a")
        for uid in ("a", "b"):
            training.present(uid)
            training.ended(uid)
            training.started(uid, 3, "node-0")
        assert (training.step_of("a"), training.step_of("b")) == (None, None)  # what was begun is not done

    loop.run_until_complete(story())
    loop.wind_down()


def test_a_machine_that_stands_still_gives_nobody_a_step() -> None:
    loop, training, _ = trains()

    async def story() -> None:
        training.started("a", 1, "node-0")
        training.started("b", 1, "node-1")
        await asyncio.sleep(9.0)
        training.absent("node-1")
        assert (training.step_of("a"), training.step_of("b")) == (4, 4)

    loop.run_until_complete(story())
    loop.wind_down()


def test_all_wait_for_the_slowest_and_only_its_own_work_is_longer() -> None:
    loop, training, finished = trains(runs_for_s=20.0)

    async def story() -> None:
        training.started("a", 1, "node-0")
        training.started("b", 1, "node-1")
        assert (training.work_s(0), training.work_s(1)) == (1.6, 1.6)
        await asyncio.sleep(4.0)
        training.slows(1, 2.0)
        assert (training.work_s(0), training.work_s(1)) == (1.6, 3.2)
        before = training.step
        await asyncio.sleep(3.7)  # 3.2 s of work, 0.4 s until all have heard of it
        assert training.step == before + 1
        await asyncio.sleep(3.5)
        assert training.step == before + 2
        training.slows(1, 1.0)
        training.slows(0, 3.0)
        training.slows(0, 1.0)
        await asyncio.sleep(2.0)
        training.slows(1, 2.0)
        left_s = 20.0 - 4.0 - 7.2 / 1.8 - 2.0
        now = loop.time()
        await asyncio.sleep(100.0)
        assert finished == [pytest.approx(now + left_s * 1.8)]

    loop.run_until_complete(story())
    loop.wind_down()


def test_the_end_comes_after_so_much_training_however_often_it_was_interrupted() -> None:
    loop, training, finished = trains(runs_for_s=10.0)

    async def story() -> None:
        training.started("a", 1, "node-0")
        training.started("b", 1, "node-1")
        await asyncio.sleep(6.0)
        training.ended("a")
        await asyncio.sleep(100.0)
        assert finished == []
        training.started("a", 1, "node-0")
        resumed = loop.time()
        await asyncio.sleep(3.9)
        assert finished == []
        await asyncio.sleep(0.2)
        assert finished == [resumed + 4.0]

    loop.run_until_complete(story())
    loop.wind_down()


def test_a_job_ends_although_the_kubelet_that_started_its_last_rank_is_stopped() -> None:
    world = SmallWorld(trainer=Trainer(runs_for_s=30.0))

    async def story() -> None:
        world.loop.freeze(world.kubelet(world.started()[-1].rank).process)
        await world.until(lambda: world.running() == set(), 40.0)
        assert {e.exit_code for e in world.ended()} == {0}

    world.play(story)


# What controllers read of the machines, and write there


def test_a_node_says_in_which_rack_it_is() -> None:
    world = SmallWorld(nodes=5, nodes_per_rack=2)

    async def story() -> None:
        assert [node["metadata"]["labels"] for node in world.api.all("nodes")] == [
            {"topology.kubernetes.io/rack": f"rack-{rack}"} for rack in (0, 0, 1, 1, 2)
        ]

    world.play(story, gang=False)


def test_a_controller_can_write_down_a_strike_and_the_kubelet_and_others_do_not_undo_it() -> None:
    world = SmallWorld()

    async def story() -> None:
        client = world.door.client("controller/a", random.Random(1))
        for value in ("1732233600/hang/default/g/1", "1732233600/hang/default/g/1,1732233700/hang/default/g/2"):
            patched = await client.patch(NODES, None, "node-1", {"metadata": {"annotations": {STRIKES: value}}})
            assert patched.metadata.annotations == {STRIKES: value}
            world.mark_node("node-1", ready=False)
            world.mark_node("node-1", ready=True)
            seen = node_view("node-1", await client.get(NODES, None, "node-1"))
            assert (strikes.format(seen.strikes), seen.ready) == (value, "True")
            assert seen.domains == ("topology.kubernetes.io/rack=rack-0",)

    world.play(story, gang=False)


def test_other_conditions_of_a_node_stay_when_its_kubelet_falls_silent() -> None:
    world = SmallWorld()

    async def story() -> None:
        assert world.set_condition("node-1", "GpuUnhealthy", "True")
        assert not world.set_condition("node-1", "GpuUnhealthy", "True")
        assert not world.set_condition("node-9", "GpuUnhealthy", "True")
        world.mark_node("node-1", ready=False)
        there = world.api.get("nodes", "", "node-1")
        assert there is not None
        assert {c["type"]: c["status"] for c in there["status"]["conditions"]} == {
            "GpuUnhealthy": "True",
            "Ready": "Unknown",
        }
        assert [taint["key"] for taint in there["spec"]["taints"]] == ["node.kubernetes.io/unreachable"]

    world.play(story, gang=False)
