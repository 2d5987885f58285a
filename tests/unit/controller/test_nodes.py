"""What is known of machines: which are silent, when they were last alive, which others to compare them with."""

import asyncio
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from fleetctl.controller.cache import Cache
from fleetctl.controller.nodes import REJOIN_S, Nodes
from fleetctl.controller.views import node_view
from fleetctl.gang.diagnose.node_state import OUT_OF_SERVICE, why_dead
from fleetctl.gang.pods import AGENT, LABEL_GANG
from fleetctl.gang.state import Life
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import (
    Condition,
    ContainerState,
    ContainerStatus,
    Node,
    NodeSpec,
    NodeStatus,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    Running,
    Taint,
)
from fleetctl.rendezvous.server import Rendezvous

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time, now

RUNS = ContainerState(running=Running())
WAITS = ContainerState()

# what is known of one pod's agent
SPEAKS = "speaks"
SILENT = "was heard, is silent now, its container has stopped"
EXPECTED = "never heard, its container runs"
ABSENT = "never heard, its container does not run"


class Fleet:
    """Nodes and pods as the watch shows them, agents as the rendezvous knows them."""

    def __init__(self, led_for: float | None = 1000.0) -> None:
        self.lives: dict[str, Life] = {}
        self.progress_told = 0
        self.progress = {}
        self.still: dict[str, float] = {}
        self.led_since = None if led_for is None else now() - led_for
        self.cache = Cache(cast(KubeClient, None), lambda _: None, pod_gone=lambda _: None)
        self.nodes = Nodes(
            self.cache,
            cast(Rendezvous, self),
            led_since=lambda: self.led_since,
            still_s=lambda name: self.still.get(name, 0.0),
        )

    @property
    def progress(self) -> dict[str, float]:
        return self._progress

    @progress.setter
    def progress(self, told: dict[str, float]) -> None:
        self._progress = told
        self.progress_told += 1

    def life(self, uid: str) -> Life | None:
        return self.lives.get(uid)

    def progressed_at(self, uid: str) -> float:
        return self.progress.get(uid, 0.0)

    def node(self, name: str = "n1", ready: str | None = "True", *taints: str) -> "Fleet":
        """A Node object; `ready` None: without that condition."""
        conditions = () if ready is None else (Condition(type="Ready", status=ready),)
        self._show(
            self.cache._nodes,
            Node(
                metadata=ObjectMeta(name=name, resource_version="1"),
                spec=NodeSpec(taints=tuple(Taint(key=key) for key in taints)),
                status=NodeStatus(conditions=conditions),
            ),
        )
        return self

    def pod(
        self, uid: str, agent: str = ABSENT, *, node: str = "n1", gang: str = "llm", phase: str = "Running"
    ) -> "Fleet":
        others = ContainerStatus(name="fleetctl-life", state=WAITS if agent in (SPEAKS, EXPECTED) else RUNS)
        container = ContainerStatus(name=AGENT, state=RUNS if agent in (SPEAKS, EXPECTED) else WAITS)
        meta = ObjectMeta(
            namespace="default", name=f"{gang}-{uid}", uid=uid, resource_version="1", labels={LABEL_GANG: gang}
        )
        self._show(
            self.cache._pods,
            Pod(
                metadata=meta,
                spec=PodSpec(node_name=node),
                status=PodStatus(phase=phase, init_container_statuses=(others, container)),
            ),
        )
        if agent in (SPEAKS, SILENT):
            self.lives[uid] = Life(uid=uid, life_id="x", started_at=1, silent=agent == SILENT)
        return self

    def _show(self, reflector: Any, item: Node | Pod) -> None:
        reflector._put(item)


@pytest.mark.parametrize(
    ("agents", "ready", "led_for", "silent"),
    [
        # whoever is heard speaks for the machine
        ((SPEAKS,), "True", 1000, False),
        ((SILENT, SPEAKS), "True", 1000, False),
        ((SPEAKS, SILENT, EXPECTED), "True", 1000, False),
        ((EXPECTED, SPEAKS), "Unknown", 1000, False),  # a stopped kubelet under trainers that train
        ((SPEAKS,), "gone", 1000, False),
        # nobody is heard, somebody should be
        ((SILENT,), "True", 1000, True),
        ((SILENT, SILENT), "True", 1000, True),
        ((SILENT, ABSENT), "True", 1000, True),
        ((SILENT,), "Unknown", 1000, True),
        ((EXPECTED,), "True", REJOIN_S, True),
        ((EXPECTED,), "True", REJOIN_S - 0.1, False),  # they may still be looking for us
        ((SILENT, EXPECTED), "True", REJOIN_S - 0.1, False),  # the other one may still come
        ((ABSENT, EXPECTED), "True", REJOIN_S, True),
        # nobody should be heard: the Node decides whether we look
        ((ABSENT,), "True", 1000, False),
        ((ABSENT,), "False", 1000, True),
        ((ABSENT,), "Unknown", 1000, True),
        ((ABSENT,), None, 1000, True),  # a Node that was never reported on
        ((ABSENT,), "gone", 1000, True),
        ((ABSENT,), "Unknown", 0, True),
    ],
)
@in_virtual_time
async def test_a_node_is_silent_when_nobody_is_heard_who_should_be(
    agents: tuple[str, ...], ready: str | None, led_for: float, silent: bool
) -> None:
    fleet = Fleet(led_for)
    if ready != "gone":
        fleet.node("n1", ready)
    for number, agent in enumerate(agents):
        fleet.pod(f"u{number}", agent)
    assert fleet.nodes.view("n1").silent is silent
    assert fleet.nodes.silent() == ({"n1"} if silent else set())


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
@in_virtual_time
async def test_pods_that_have_ended_do_not_count(phase: str) -> None:
    fleet = Fleet().node().pod("ended", SILENT, phase=phase).pod("starting", EXPECTED, phase=phase)
    assert fleet.nodes.silent() == set()
    fleet.pod("alive", SILENT, phase="Pending")
    assert fleet.nodes.silent() == {"n1"}
    fleet.pod("said goodbye late", SPEAKS, phase=phase)
    assert fleet.nodes.silent() == {"n1"}


@in_virtual_time
async def test_each_node_is_judged_by_its_own_pods() -> None:
    fleet = Fleet().node("n1").node("n2").node("n3", "Unknown")
    fleet.pod("a", SILENT, node="n1").pod("b", SPEAKS, node="n2").pod("c", SPEAKS, node="n2")
    assert fleet.nodes.silent() == {"n1"}  # nothing of ours is on n3


@in_virtual_time
async def test_who_does_not_lead_has_nothing_to_look_at() -> None:
    fleet = Fleet(led_for=None).node("n1", "Unknown").pod("a", SILENT).pod("b", EXPECTED)
    assert fleet.nodes.silent() == set()
    fleet.led_since = now() - REJOIN_S
    assert fleet.nodes.silent() == {"n1"}


@in_virtual_time
async def test_an_agent_has_its_time_to_find_us_from_when_we_lead() -> None:
    fleet = Fleet(led_for=0).node().pod("a", EXPECTED)
    await asyncio.sleep(REJOIN_S - 0.1)
    assert fleet.nodes.silent() == set()
    await asyncio.sleep(0.1)
    assert fleet.nodes.silent() == {"n1"}


@in_virtual_time
async def test_what_the_witness_saw_counts_only_while_the_node_is_silent() -> None:
    fleet = Fleet().node("n1", "Unknown", "some/taint").pod("a", SILENT)
    fleet.still = {"n1": 25.0}
    seen = fleet.nodes.view("n1")
    assert (seen.name, seen.exists, seen.ready, seen.taints) == ("n1", True, "Unknown", frozenset({"some/taint"}))
    assert (seen.silent, seen.still_s) == (True, 25.0)
    fleet.pod("b", SPEAKS)
    assert (fleet.nodes.view("n1").silent, fleet.nodes.view("n1").still_s) == (False, 0.0)


@in_virtual_time
async def test_a_node_of_which_nothing_is_new_is_the_same_object() -> None:
    fleet = Fleet().node("n1").pod("a", SILENT)
    seen = [fleet.nodes.view("n1"), fleet.nodes.view("n1")]
    assert seen[0] is seen[1]
    fleet.still = {"n1": 25.0}
    assert fleet.nodes.view("n1").still_s == 25.0
    fleet.node("n1", "Unknown")
    assert fleet.nodes.view("n1").ready == "Unknown"
    fleet.cache._nodes.items.clear()
    assert fleet.nodes.view("n1") == node_view("n1", None, silent=True, still_s=25.0)
    fleet.cache._nodes_gone.add("n1")
    assert not fleet.nodes.view("n1").exists


@in_virtual_time
async def test_a_node_was_alive_when_an_agent_on_it_spoke() -> None:
    fleet = Fleet().node().pod("a", SILENT)
    assert fleet.nodes.alive_at("n1") == 0.0
    fleet.nodes.heard("n1")
    heard = now()
    await asyncio.sleep(10)
    assert fleet.nodes.alive_at("n1") == heard
    assert fleet.nodes.alive_at("n2") == 0.0
    fleet.nodes.heard("n1")
    assert fleet.nodes.alive_at("n1") == now()


@in_virtual_time
async def test_a_node_was_alive_when_any_rank_of_a_gang_on_it_made_progress() -> None:
    fleet = Fleet().node("n1").node("n2").node("n3")
    fleet.pod("a", node="n1").pod("b", node="n2").pod("v", node="n1", gang="vision").pod("w", node="n3", gang="vision")
    fleet.pod("x", node="n3", gang="elsewhere")
    fleet.nodes.heard("n1")
    fleet.progress = {"b": now() + 5, "w": now() + 7, "x": now() + 9}
    assert fleet.nodes.alive_at("n1") == now() + 7  # by vision's rank on n3
    assert fleet.nodes.alive_at("n2") == now() + 5
    assert fleet.nodes.alive_at("n3") == now() + 9
    fleet.progress = {"b": now() - 1}
    assert fleet.nodes.alive_at("n1") == now()  # the agent spoke later


@in_virtual_time
async def test_other_nodes_are_those_in_use_first_and_ready_ones_before_the_rest() -> None:
    fleet = Fleet()
    for name, ready in (("a", "Unknown"), ("b", "True"), ("c", "Unknown"), ("d", "True"), ("e", "False")):
        fleet.node(name, ready)
    fleet.pod("1", node="c").pod("2", node="d")
    assert list(fleet.nodes.others()) == ["d", "c", "b", "a", "e"]


@in_virtual_time
async def test_a_new_leader_takes_no_node_for_gone_or_out_of_service_before_agents_had_time_to_come() -> None:
    unready = Fleet(led_for=0).node("n1", "Unknown", OUT_OF_SERVICE).pod("a", EXPECTED)
    assert why_dead(unready.nodes.view("n1"), 20) is None


@in_virtual_time
async def test_a_node_that_our_watch_has_not_shown_yet_is_not_gone() -> None:
    fleet = Fleet(led_for=1000).pod("new", ABSENT, node="new-node")
    assert why_dead(fleet.nodes.view("new-node"), 20) is None


@in_virtual_time
async def test_labels_that_a_gang_names_are_failure_domains_from_then_on() -> None:
    fleet = Fleet()
    meta = ObjectMeta(name="n1", resource_version="1", labels={"example.com/pod": "7"})
    fleet._show(fleet.cache._nodes, Node(metadata=meta))
    before = fleet.nodes.view("n1")
    assert before.domains == ()
    fleet.nodes.are_in(["example.com/pod"])
    after = fleet.nodes.view("n1")
    assert after.domains == ("example.com/pod=7",)
    fleet.nodes.are_in(["example.com/pod", "topology.kubernetes.io/zone"])
    assert fleet.nodes.view("n1") is after  # that was no news
