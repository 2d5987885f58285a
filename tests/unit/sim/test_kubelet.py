"""A simulated kubelet does to pods, and tells of them, what was measured on Kubernetes 1.36."""

import asyncio
from typing import Any

import pytest

from fleetctl.sim.containers import Container
from fleetctl.sim.journal import Object
from fleetctl.sim.world import Latency, Trainer, World

from .smallworld import GANG, NS, SmallWorld, of, restarting

AGENT, TRAINER, LIFE = "fleetctl-agent", "trainer", "fleetctl-life"


def told(status: Object) -> tuple[str, str, str, str]:
    """AllContainersRestarting, phase, agent, trainer."""
    return restarting(status), status["phase"], of(status, AGENT), of(status, TRAINER)


def each_once(items: list[Any]) -> list[Any]:
    return [item for number, item in enumerate(items) if not number or items[number - 1] != item]


async def exits(world: SmallWorld, rank: int, code: int = 139, reason: str = "") -> float:
    """The trainer of this rank dies; when."""
    await asyncio.sleep(5.0)
    world.kubelet(rank).trainer_ended(world.pod(rank), code, reason)
    return world.now()


# In place


def test_a_pod_whose_agent_exits_88_restarts_in_place_in_the_measured_steps() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(5.0)
        pod, began = world.pod(3), world.now()
        before = world.there(3)
        world.kubelet(3).agent_ended(pod, pod.agent_process, 88)
        await world.until(lambda: world.started(began, 3))
        await asyncio.sleep(1.0)
        steps = each_once([told(status) for status in world.statuses(3, began)])
        assert steps == [
            ("True", "Running", "terminated 88", "running"),
            ("False", "Running", "waiting RestartingAllContainers", "waiting RestartingAllContainers"),
            ("False", "Pending", "waiting PodInitializing", "waiting PodInitializing"),
            ("False", "Pending", "running", "waiting PodInitializing"),
            ("False", "Running", "running", "waiting PodInitializing"),
            ("False", "Running", "running", "running"),
        ]
        after = world.there(3)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["spec"]["nodeName"] == before["spec"]["nodeName"]
        assert after["status"]["podIP"] == before["status"]["podIP"]

    world.play(story)


def test_every_container_that_was_restarted_says_137_and_counts_one_more() -> None:
    world = SmallWorld()

    async def story() -> None:
        began = await exits(world, 3, 1)
        await world.until(lambda: world.started(began, 3))
        await asyncio.sleep(1.0)
        status = world.there(3)["status"]
        for container in (*status["initContainerStatuses"], *status["containerStatuses"]):
            assert container["restartCount"] == 1, container["name"]
            assert container["lastState"]["terminated"]["exitCode"] == 137
            assert container["lastState"]["terminated"]["reason"] == "RestartingAllContainers"

    world.play(story)


@pytest.mark.parametrize(("code", "reason"), [(139, ""), (1, ""), (137, "OOMKilled")])
def test_the_exit_code_of_a_trainer_is_seen_before_it_is_overwritten(code: int, reason: str) -> None:
    world = SmallWorld()

    async def story() -> None:
        began = await exits(world, 3, code, reason)
        await world.until(lambda: world.started(began, 3))
        seen = [s for s in world.statuses(3, began) if of(s, TRAINER) == f"terminated {code}"]
        assert [restarting(status) for status in seen] == ["True"]
        assert seen[0]["containerStatuses"][0]["state"]["terminated"]["reason"] == (reason or "Error")
        (restart,) = world.restarting(began, 3)
        assert (restart.by, restart.exit_code) == ("trainer", code)

    world.play(story)


def test_a_cycle_takes_as_long_as_measured() -> None:
    """From the exit to the trainer's start 3 to 5 seconds, most of it the gang's barrier; True within a second."""
    world = SmallWorld()

    async def story() -> None:
        began = await exits(world, 3)
        await world.until(lambda: world.started(began, 3))
        first = next(e for e in world.wrote(name=world.name(3), at=began) if e.actor.startswith("kubelet/"))
        assert 0.1 < first.at - began < 1.3
        assert 1.0 < world.now() - began < 6.0

    world.play(story)


def test_a_restart_in_place_gives_a_new_life_and_keeps_the_promises() -> None:
    world = SmallWorld()

    async def story() -> None:
        pod = world.pod(3)
        life, ticket = pod.volume.life_id, pod.volume.ticket
        began = await exits(world, 3)
        await world.until(lambda: pod.volume.life_id != life)
        memory = pod.volume.load()
        assert memory.promise is None
        assert memory.released_attempt == 0
        assert memory.floor == 1  # what the old life promised binds the new one
        await world.until(lambda: world.started(began, 3))
        assert pod.volume.attempt == 2
        assert pod.volume.ticket != ticket

    world.play(story)


def test_a_trainer_that_does_not_obey_is_killed_after_two_seconds() -> None:
    world = SmallWorld(trainer=Trainer(stops_in=(30.0, 30.0)))

    async def story() -> None:
        pod = world.pod(3)
        began = world.now()
        world.kubelet(3).agent_ended(pod, pod.agent_process, 88)
        await world.until(lambda: world.ended(began, 3))
        (end,) = world.ended(began, 3)
        (restart,) = world.restarting(began, 3)
        assert (end.why, end.exit_code) == ("restart", 137)
        assert end.at - restart.at == pytest.approx(2.0)

    world.play(story)


def test_there_is_no_back_off() -> None:
    world = SmallWorld()

    async def story() -> None:
        took = []
        for attempt in range(2, 8):
            began = await exits(world, 3, 1)
            await world.until(lambda began=began: len(world.started(began)) == 4)
            took.append(world.now() - began)
            assert world.started(began)[0].attempt == attempt
        assert max(took) < 8.0

    world.play(story)


def test_an_agent_that_dies_alone_restarts_alone() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(5.0)
        pod, began = world.pod(3), world.now()
        life, process = pod.volume.life_id, pod.agent_process
        world.kubelet(3).agent_ended(pod, process, 7)
        await asyncio.sleep(20.0)
        assert pod.volume.life_id == life
        assert pod.agent_process is not process
        status = world.there(3)["status"]
        counts = {
            c["name"]: c["restartCount"] for c in (*status["initContainerStatuses"], *status["containerStatuses"])
        }
        assert counts == {LIFE: 0, AGENT: 1, TRAINER: 0}
        assert (world.started(began), world.ended(began), world.restarting(began)) == ([], [], [])
        assert world.running() == {0, 1, 2, 3}

    world.play(story)


async def waits_at_the_barrier(world: SmallWorld) -> float:
    """Rank 3 has restarted in place and waits for rank 0, which does not return; when it began."""
    world.troubles.begin("container_never_returns", 0)
    began = await exits(world, 3)
    await world.until(lambda: world.pod(3).agent.restarts == 1 and world.pod(3).agent.state == "running")
    return began


def test_an_agent_that_dies_while_its_trainer_waits_is_asked_again_by_one_probe_only() -> None:
    world = SmallWorld()

    async def story() -> None:
        began = await waits_at_the_barrier(world)
        await asyncio.sleep(3.0)
        world.kubelet(3).agent_ended(world.pod(3), world.pod(3).agent_process, 7)
        await asyncio.sleep(5.0)
        assert world.pod(3).agent.restarts == 2
        tasks = world.kubelet(3).process.tasks
        waiting = [p for p in world.kubelet(3).pods.values() if not p.trains]
        assert len([t for t in tasks if not t.done() and "_probe" in str(t.get_coro())]) == len(waiting)
        world.troubles.end("container_never_returns", 0)
        await world.until(lambda: world.started(began, 3))
        assert len(world.started(began, 3)) == 1

    world.play(story)


def test_two_containers_that_end_at_once_ask_for_one_restart() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(5.0)
        pod, began = world.pod(3), world.now()
        world.kubelet(3).trainer_ended(pod, 1)
        world.kubelet(3).agent_ended(pod, pod.agent_process, 88)
        await world.until(lambda: len(world.started(began)) == 4)
        await asyncio.sleep(10.0)
        assert len(world.restarting(began, 3)) == 1
        assert world.running() == {0, 1, 2, 3}

    world.play(story)


def test_a_dark_node_restarts_in_place_all_the_same_and_tells_it_in_the_light() -> None:
    world = SmallWorld()

    async def story() -> None:
        began = world.now()
        world.cut_node("node-1")
        world.kubelet(3).trainer_ended(world.pod(3), 1)
        await asyncio.sleep(15.0)
        assert world.pod(3).agent.restarts == 1
        assert world.pod(3).agent.state == "running"
        assert world.statuses(3, began + 0.5) == []
        world.heal_node("node-1")
        await asyncio.sleep(15.0)
        last = world.there(3)["status"]
        assert told(last) == ("False", "Running", "running", "running")

    world.play(story)


def test_the_last_word_is_the_truth_however_dark_it_was_when_it_changed() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(5.0)
        world.troubles.begin("container_never_returns", 0)
        world.kubelet(3)._post(world.pod(3))
        world.kubelet(3).trainer_ended(world.pod(3), 1)
        await asyncio.sleep(0.01)
        world.cut_node("node-1")
        await asyncio.sleep(10.0)
        world.heal_node("node-1")
        await asyncio.sleep(5.0)
        assert told(world.there(3)["status"]) == ("False", "Pending", "running", "waiting PodInitializing")

    world.play(story)


def test_a_kubelet_whose_statuses_are_late_restarts_as_fast_as_any() -> None:
    world = SmallWorld()

    async def story() -> None:
        world.kubelet(3).lag_s = 120.0
        began = await exits(world, 3)
        await world.until(lambda: world.pod(3).agent.restarts == 1 and world.pod(3).agent.state == "running", 10.0)
        assert [s for s in world.statuses(3, began) if restarting(s) == "True"] == []
        await asyncio.sleep(130.0)
        late = [e.at - began for e in world.wrote(name=world.name(3), at=began + 60) if e.actor.startswith("kubelet/")]
        assert late
        assert min(late) > 100.0

    world.play(story)


# The end of a pod


def test_a_fatal_exit_leaves_a_failed_pod_with_its_code_on_record() -> None:
    world = SmallWorld()

    async def story() -> None:
        pod = world.pod(3)
        pod.trainer.rules = [
            {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0, 64]}},
        ]
        world.kubelet(3).trainer_ended(pod, 64)
        await world.until(lambda: world.there(3)["status"]["phase"] == "Failed", 5.0)
        assert of(world.there(3)["status"], TRAINER) == "terminated 64"
        assert of(world.there(3)["status"], AGENT).startswith("terminated")

    world.play(story)


def test_a_trainer_that_exits_0_makes_its_pod_succeed() -> None:
    world = SmallWorld()

    async def story() -> None:
        for rank in range(4):
            world.kubelet(rank).trainer_ended(world.pod(rank), 0)
        await world.until(lambda: all(world.there(r)["status"]["phase"] == "Succeeded" for r in range(4)), 5.0)
        assert all(of(world.there(rank)["status"], TRAINER) == "terminated 0" for rank in range(4))

    world.play(story)


def delete(world: World, rank: int, grace_s: int | None = None) -> None:
    world.api.delete("somebody", "pods", NS, f"g-worker-{rank}", grace_s=grace_s)


def test_a_deleted_pod_has_its_grace_and_then_goes() -> None:
    world = SmallWorld(trainer=Trainer(stops_in=(7.0, 7.0)))

    async def story() -> None:
        uid, began = world.pod(3).uid, world.now()
        delete(world, 3, 30)
        await world.until(lambda: world.ended(began, 3))
        (end,) = world.ended(began, 3)
        assert (end.why, end.exit_code) == ("pod", 143)
        assert 7.0 < end.at - began < 8.0
        await world.until(lambda: world.body(3) is None or world.there(3)["metadata"]["uid"] != uid, 5.0)
        gone = [e for e in world.wrote(name=world.name(3), at=began) if e.verb == "delete" and e.after is None]
        assert [e.actor for e in gone] == ["kubelet/node-1"]
        before = gone[0].before
        assert before is not None
        assert before["status"]["phase"] == "Failed"

    world.play(story)


def test_a_trainer_that_outlasts_the_grace_is_killed() -> None:
    world = SmallWorld(trainer=Trainer(stops_in=(60.0, 60.0)))

    async def story() -> None:
        began = world.now()
        delete(world, 3, 5)
        await world.until(lambda: world.ended(began, 3))
        (end,) = world.ended(began, 3)
        assert end.exit_code == 137
        assert 5.0 < end.at - began < 6.0

    world.play(story)


def test_a_pod_deleted_by_force_is_gone_at_once_and_its_containers_soon_after() -> None:
    world = SmallWorld()

    async def story() -> None:
        uid, began = world.pod(3).uid, world.now()
        delete(world, 3, 0)
        assert world.body(3) is None
        assert 3 in world.running()
        await world.until(lambda: world.ended(began, 3), 2.0)
        assert world.ended(began, 3)[0].uid == uid

    world.play(story)


def test_a_pod_that_never_ran_has_not_succeeded_when_it_is_deleted() -> None:
    world = SmallWorld(controllers=0, latency=Latency(container_start=(5.0, 5.0)))

    async def story() -> None:
        world.api.create(
            "somebody", "pods", {"metadata": {"name": "p", "namespace": NS}, "spec": {"containers": [{"name": "c"}]}}
        )
        await asyncio.sleep(3.0)
        (pod,) = world.kubelets["node-0"].pods.values()
        world.api.delete("somebody", "pods", NS, "p", grace_s=30)
        await world.until(lambda: world.api.get("pods", NS, "p") is None)
        told = [e.after["status"]["phase"] for e in world.wrote(name="p") if e.after and e.actor.startswith("kubelet/")]
        assert told == ["Pending", "Failed", "Failed"]  # the last one only ends its grace
        assert pod.trainer.started_at == ""

    world.play(story, gang=False)


def test_a_pod_that_carries_a_finalizer_ends_but_stays() -> None:
    world = SmallWorld()

    async def story() -> None:
        keep = lambda pod: {**pod, "metadata": {**pod["metadata"], "finalizers": ["somebody.example/keep"]}}  # noqa: E731
        let_go = lambda pod: {**pod, "metadata": {**pod["metadata"], "finalizers": []}}  # noqa: E731
        world.api.update("somebody", "pods", NS, world.name(3), keep)
        uid = world.pod(3).uid
        delete(world, 3, 1)
        await asyncio.sleep(10.0)
        assert world.there(3)["metadata"]["uid"] == uid
        assert world.there(3)["status"]["phase"] == "Failed"
        assert 3 not in world.running()
        world.api.update("somebody", "pods", NS, world.name(3), let_go)
        assert world.body(3) is None

    world.play(story)


# Images


def test_a_pod_whose_image_cannot_be_pulled_says_so_and_starts_when_it_can() -> None:
    world = SmallWorld(latency=Latency(image_pull=(1.0, 2.0)))

    async def story() -> None:
        world.troubles.begin("image_pull_fails", 3)
        began = world.now()
        delete(world, 3, 0)
        await asyncio.sleep(20.0)
        assert of(world.there(3)["status"], LIFE) == "waiting ImagePullBackOff"
        assert world.there(3)["status"]["phase"] == "Pending"
        assert 3 not in world.running()
        world.troubles.end("image_pull_fails", 3)
        await world.until(lambda: world.started(began, 3), 10.0)

    world.play(story)


def test_a_restart_in_place_pulls_nothing() -> None:
    world = SmallWorld(latency=Latency(image_pull=(30.0, 30.0)))

    async def story() -> None:
        began = await exits(world, 3)
        await world.until(lambda: world.started(began, 3), 10.0)

    world.play(story)


# Machines


def test_a_killed_node_ends_everything_on_it_and_tells_nobody() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(2.0)
        began = world.now()
        world.kill_node("node-1")
        assert {(e.rank, e.why) for e in world.ended(began)} == {(2, "node"), (3, "node")}
        await asyncio.sleep(15.0)
        by_the_dead = [e for e in world.since(began) if getattr(e, "actor", "") == "kubelet/node-1"]
        assert by_the_dead == []
        await asyncio.sleep(45.0)
        assert world.ready("node-1") == "Unknown"
        assert world.ready("node-0") == "True"

    world.play(story)


def test_a_rebooted_node_keeps_the_volumes_and_gives_its_pods_a_new_life() -> None:
    world = SmallWorld()

    async def story() -> None:
        volumes = {rank: world.pod(rank).volume for rank in (2, 3)}
        lives = {rank: volume.life_id for rank, volume in volumes.items()}
        uids = {rank: world.pod(rank).uid for rank in (2, 3)}
        world.kill_node("node-1")
        await asyncio.sleep(2.0)
        world.boot_node("node-1")
        began = world.now()
        # somebody touches a pod before the kubelet has looked at it
        world.api.update(
            "somebody",
            "pods",
            NS,
            world.name(3),
            lambda p: {**p, "metadata": {**p["metadata"], "labels": {**p["metadata"]["labels"], "x": "y"}}},
        )
        await world.until(lambda: {2, 3} <= {e.rank for e in world.started(began)})
        await asyncio.sleep(5.0)
        for rank in (2, 3):
            assert world.pod(rank).uid == uids[rank]
            assert world.pod(rank).volume is volumes[rank]
            assert volumes[rank].life_id != lives[rank]
            assert len(world.started(began, rank)) == 1
        assert len(world.local_pods(GANG)) == 4

    world.play(story)


def test_a_node_that_is_up_is_not_booted_again() -> None:
    world = SmallWorld()

    async def story() -> None:
        kubelet = world.kubelets["node-1"]
        world.boot_node("node-1")
        await asyncio.sleep(10.0)
        assert world.kubelets["node-1"] is kubelet
        assert len(world.started()) == 4

    world.play(story)


def test_a_stopped_kubelet_does_nothing_while_what_it_had_started_goes_on() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(2.0)
        world.loop.freeze(world.kubelets["node-1"].process)
        began = world.now()
        world.kubelet(3).trainer_ended(world.pod(3), 139)
        await asyncio.sleep(5.0)
        assert world.restarting(began) == []
        assert [e for e in world.since(began) if getattr(e, "actor", "") == "kubelet/node-1"] == []
        assert 2 in world.running()
        assert world.pod(2).agent.state == "running"
        world.loop.thaw(world.kubelets["node-1"].process)
        await world.until(lambda: world.restarting(began), 5.0)
        assert world.restarting(began)[0].exit_code == 139

    world.play(story)


def test_an_old_status_that_is_told_again_is_followed_by_the_true_one() -> None:
    world = SmallWorld()

    async def story() -> None:
        await asyncio.sleep(3.0)
        true = world.there(3)["status"]
        began = world.now() + 0.001
        await asyncio.sleep(0.01)
        world.kubelet(3).post_old_statuses()
        await asyncio.sleep(2.0)
        posted = world.statuses(3, began)
        assert of(posted[0], TRAINER) != "running"
        assert posted[-1] == true

    world.play(story)


def test_a_dead_or_dark_kubelet_tells_nothing_old_either() -> None:
    world = SmallWorld()

    async def story() -> None:
        world.kill_node("node-1")
        world.cut_node("node-0")
        began = world.now()
        for rank in (0, 3):
            world.kubelet(rank).post_old_statuses()
        await asyncio.sleep(3.0)
        assert world.statuses(0, began) + world.statuses(3, began) == []

    world.play(story)


def test_every_kubelet_renews_its_lease() -> None:
    world = SmallWorld()

    async def story() -> None:
        began = world.now()
        await asyncio.sleep(60.0)
        for node in world.node_names:
            assert 5 <= len(world.wrote("leases", node, began)) <= 6

    world.play(story)


# Rules


@pytest.mark.parametrize(
    ("operator", "values", "code", "all_restart"),
    [
        ("In", [88], 88, True),
        ("In", [88], 1, False),
        ("NotIn", [0], 0, False),
        ("NotIn", [0, 64], 64, False),
        ("NotIn", [0, 64], 137, True),
    ],
)
def test_a_container_asks_for_a_restart_of_all_by_its_rules(
    operator: str, values: list[int], code: int, all_restart: bool
) -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": operator, "values": values}}
    container = Container("c", [rule])
    container.end(code, "")
    assert container.asks_for_restart_of_all() is all_restart


def test_the_first_rule_that_fits_decides() -> None:
    rules = [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}},
        {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}},
    ]
    container = Container("c", rules)
    container.end(3, "")
    assert not container.asks_for_restart_of_all()
