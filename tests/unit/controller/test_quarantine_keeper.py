"""The keeper of the quarantine: what it writes on Nodes, within which bounds, and when it takes it off again."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from fleetctl.clock import SystemClock
from fleetctl.controller import quarantine
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import Executor, PodSettings
from fleetctl.controller.quarantine import CALLS_AT_ONCE, LOOK_EVERY_S, Keeper, lifted
from fleetctl.controller.resources import GangObject
from fleetctl.controller.views import gang_view, node_view
from fleetctl.gang.actions import Plan, QuarantineNodes
from fleetctl.gang.identity import Gang
from fleetctl.gang.quarantine import QUARANTINE, Accused
from fleetctl.gang.spec import GangSpec, Group, PlacementSpec, Quarantine, Recovery
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError, Conflict, NotFound, Unavailable
from fleetctl.kube.objects import EVENTS, NODES, Node, ObjectMeta, Pod, PodSpec
from fleetctl.sim.lifecycle import merged

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time

BEGIN = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
GPU = {"key": "nvidia.com/gpu", "effect": "NoSchedule", "timeAdded": "2026-11-20T00:00:00Z"}
WIDE = Quarantine(nodes="100%", per_domain="100%")


class Cluster:
    """API server, cache and clock in one. The cache shows what was written once `watched` is true."""

    def __init__(self, nodes: int = 40, **keeper: Any) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, Node] = {}
        self.found: dict[tuple[str, str], GangObject] = {}
        self.version = 100
        self.watched = True
        self.leads = True
        self.errors: dict[str, list[ApiError]] = {}
        self.first: dict[str, dict[str, Any]] = {}
        """What somebody else writes before our next patch of that node arrives."""
        self.patches: list[str] = []
        self.reads: list[str] = []
        self.under_way = self.most_at_once = 0
        self.began = asyncio.get_running_loop().time()
        for number in range(nodes):
            labels = {"topology.kubernetes.io/rack": f"rack-{number // 4}", "gpu": "h100"}
            self.write(f"n{number}", {"metadata": {"name": f"n{number}", "uid": f"uid-{number}", "labels": labels}})
        self.keeper = Keeper(cast(KubeClient, self), cast(Cache, self), self, leading=lambda: self.leads, **keeper)

    def write(self, name: str, patch: Mapping[str, Any]) -> None:
        self.version += 1
        there = merged(self.bodies.get(name, {}), patch)
        self.bodies[name] = merged(there, {"metadata": {"resourceVersion": str(self.version)}})
        if self.watched:
            self.watch()

    def condition(self, name: str, status: str, changed: datetime) -> None:
        told = {"type": "GpuUnhealthy", "status": status, "lastTransitionTime": changed.isoformat()}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": (BEGIN + timedelta(hours=20)).isoformat()}
        self.write(name, {"status": {"conditions": [ready, told]}})

    def watch(self) -> None:
        self.seen = {name: msgspec.convert(body, Node) for name, body in self.bodies.items()}

    def gang(self, key: tuple[str, str]) -> GangObject | None:
        return self.found.get(key)

    def gangs(self) -> list[tuple[str, str]]:
        return list(self.found)

    def a_gang(
        self,
        name: str = "llm",
        policy: Quarantine = WIDE,
        selector: dict[str, str] | None = None,
        namespace: str = "research",
        **spec: Any,
    ) -> Gang:
        template = {"spec": {"containers": [], "nodeSelector": selector or {}}}
        groups = [Group(name="worker", size=4, template=template)]
        made = GangSpec(groups=groups, recovery=Recovery(quarantine=policy), **spec)
        body = GangObject(metadata=ObjectMeta(namespace=namespace, name=name, uid=f"uid-{name}"), spec=made)
        self.found[namespace, name] = body
        return gang_view(body)

    async def accuses(self, gang: Gang, *nodes: int, rule: str = "hardware-report") -> str:
        judged = [Accused(f"n{node}", rule, f"node n{node}: xid-79") for node in nodes]
        return await self.keeper.quarantine(gang, judged)

    def quarantined(self) -> list[int]:
        return sorted(int(name[1:]) for name, node in self.bodies.items() if QUARANTINE in node["metadata"]["labels"])

    def mark(self, node: int) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.bodies[f"n{node}"]["metadata"]["annotations"][QUARANTINE]))

    def taints(self, node: int) -> list[dict[str, str]]:
        return cast(list[dict[str, str]], self.bodies[f"n{node}"].get("spec", {}).get("taints", []))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.keeper.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises what ended it, if anything did

    # clock

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time() - self.began)

    # cache

    def nodes(self) -> list[str]:
        return list(self.seen)

    def node(self, name: str) -> Node | None:
        return self.seen.get(name)

    # API server

    async def get(self, resource: object, namespace: None, name: str) -> Node:
        assert resource is NODES
        self.reads.append(name)
        if name not in self.bodies:
            raise NotFound("GET", "it is gone", status=404)
        return msgspec.convert(self.bodies[name], Node)

    async def patch(self, resource: object, namespace: None, name: str, body: dict[str, Any], *, kind: str) -> Node:
        assert (resource, kind) == (NODES, "merge")
        self.patches.append(name)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if errors := self.errors.get(name):
            raise errors.pop(0).with_traceback(None)
        if other := self.first.pop(name, None):
            self.write(name, other)
        if body["metadata"]["resourceVersion"] != self.bodies[name]["metadata"]["resourceVersion"]:
            raise Conflict("PATCH", "the object has been modified", status=409)
        self.write(name, body)
        return msgspec.convert(self.bodies[name], Node)


# ---- how it stands on the Node ----


@in_virtual_time
async def test_label_taint_and_annotation_are_written_at_once_and_nothing_else_is_touched() -> None:
    cluster = Cluster()
    cluster.write("n3", {"spec": {"taints": [GPU]}, "metadata": {"annotations": {"a": "b"}}})
    assert await cluster.accuses(cluster.a_gang(), 3) == ""
    assert (cluster.patches, cluster.reads) == (["n3"], [])
    assert cluster.quarantined() == [3]
    assert cluster.bodies["n3"]["metadata"]["labels"]["gpu"] == "h100"
    assert cluster.bodies["n3"]["metadata"]["annotations"]["a"] == "b"
    assert cluster.taints(3) == [GPU, {"key": QUARANTINE, "value": "hardware-report", "effect": "NoSchedule"}]
    assert cluster.mark(3) == {
        "rule": "hardware-report",
        "evidence": "node n3: xid-79",
        "gangs": ["research/llm"],
        "at": "2026-11-21T06:00:00Z",
        "uid": "uid-3",
    }


@in_virtual_time
async def test_whoever_wrote_first_loses_nothing() -> None:
    cluster = Cluster()
    cluster.first["n3"] = {"spec": {"taints": [GPU]}}
    await cluster.accuses(cluster.a_gang(), 3)
    assert [taint["key"] for taint in cluster.taints(3)] == ["nvidia.com/gpu", QUARANTINE]
    assert (cluster.patches, cluster.reads) == (["n3", "n3"], ["n3"])


@in_virtual_time
async def test_it_is_tried_a_few_times_and_then_left_for_another_time() -> None:
    cluster = Cluster()
    cluster.errors["n3"] = [Conflict("PATCH", "again", status=409) for _ in range(quarantine.TRIES)]
    gang = cluster.a_gang()
    assert await cluster.accuses(gang, 3) == ""
    assert len(cluster.patches) == quarantine.TRIES
    assert cluster.quarantined() == []
    await cluster.accuses(gang, 3)
    assert cluster.quarantined() == [3]


@in_virtual_time
async def test_one_that_fails_does_not_stop_the_others() -> None:
    cluster = Cluster()
    cluster.errors["n1"] = [Unavailable("PATCH", "no answer")]
    assert await cluster.accuses(cluster.a_gang(), 0, 1, 2) == ""
    assert cluster.quarantined() == [0, 2]


@in_virtual_time
async def test_another_machine_of_that_name_is_not_quarantined() -> None:
    cluster = Cluster()
    cluster.first["n3"] = {"metadata": {"uid": "another"}}
    await cluster.accuses(cluster.a_gang(), 3)
    assert cluster.quarantined() == []


@in_virtual_time
async def test_many_go_together_some_at_a_time() -> None:
    cluster = Cluster(100)
    await cluster.accuses(cluster.a_gang(), *range(100))
    assert cluster.quarantined() == list(range(100))
    assert cluster.most_at_once == CALLS_AT_ONCE
    assert len(cluster.patches) == 100


@in_virtual_time
async def test_what_is_quarantined_is_not_written_again_even_if_the_watch_lags() -> None:
    cluster = Cluster()
    cluster.watched = False
    gang = cluster.a_gang()
    for _ in range(3):
        await asyncio.gather(cluster.accuses(gang, 3), cluster.accuses(gang, 3))
    assert cluster.patches == ["n3"]


@in_virtual_time
async def test_another_gang_joins_whether_it_comes_later_or_at_the_same_moment() -> None:
    cluster = Cluster()
    one = Quarantine(nodes="1%", per_domain="0%")
    gangs = [cluster.a_gang(name, one) for name in ("llm", "vision", "late")]
    told = await asyncio.gather(*(cluster.accuses(gang, 3) for gang in gangs[:2]))
    await cluster.accuses(gangs[2], 3, rule="lemon")
    assert told == ["", ""]
    assert cluster.mark(3)["gangs"] == ["research/late", "research/llm", "research/vision"]
    assert cluster.mark(3)["rule"] == "hardware-report"
    assert len(cluster.taints(3)) == 1


@in_virtual_time
async def test_what_somebody_quarantined_by_hand_is_theirs() -> None:
    cluster = Cluster()
    cluster.write("n3", {"metadata": {"labels": {QUARANTINE: "true"}, "annotations": {QUARANTINE: "bad cable"}}})
    await cluster.accuses(cluster.a_gang(), 3)
    assert cluster.patches == []


@in_virtual_time
async def test_who_does_not_lead_writes_nothing() -> None:
    cluster = Cluster()
    cluster.leads = False
    await cluster.accuses(cluster.a_gang(), 3)
    assert cluster.patches == []


# ---- within bounds ----


@in_virtual_time
async def test_above_the_bound_of_the_cluster_nothing_is_written_and_the_gang_is_told_once() -> None:
    cluster = Cluster()
    gang, other = (cluster.a_gang(name, Quarantine(per_domain="100%")) for name in ("llm", "vision"))
    assert await cluster.accuses(gang, 0, 4) == ""
    assert await cluster.accuses(other, 8, 12, 16, 20) == (
        "not quarantined, though judged bad: n16, n20: 4 of the 40 nodes of the cluster are in quarantine, "
        "no less than the 4 that spec.recovery.quarantine.nodes allows"
    )
    assert cluster.quarantined() == [0, 4, 8, 12]
    assert await cluster.accuses(other, 16, 20) == ""
    assert (await cluster.accuses(other, 16, 24)).startswith("not quarantined, though judged bad: n24: 4 of")
    assert (await cluster.accuses(gang, 16)).startswith("not quarantined, though judged bad: n16: 4 of")
    await asyncio.sleep(quarantine.TELL_AGAIN_S)
    assert (await cluster.accuses(other, 16)).startswith("not quarantined")
    assert len(cluster.patches) == 4


@in_virtual_time
async def test_what_is_under_way_counts_for_other_gangs() -> None:
    cluster = Cluster()
    cluster.watched = False
    policy = Quarantine(per_domain="100%")
    gangs = [cluster.a_gang(name, policy) for name in ("llm", "vision", "third")]
    await asyncio.gather(cluster.accuses(gangs[0], 0, 1, 2), cluster.accuses(gangs[1], 5, 6, 7))
    assert cluster.quarantined() == [0, 1, 2, 5]
    await cluster.accuses(gangs[2], 9)
    assert cluster.quarantined() == [0, 1, 2, 5]


@in_virtual_time
async def test_a_failure_domain_is_never_emptied() -> None:
    cluster = Cluster()
    gang = cluster.a_gang(policy=Quarantine(nodes="100%"))
    told = await cluster.accuses(gang, 0, 1, 2, 3, 4)
    assert cluster.quarantined() == [0, 1, 4]
    assert told.startswith("not quarantined, though judged bad: n2, n3: 2 of the 4 nodes of topology.kubernetes.io/")
    assert "rack=rack-0 are in quarantine, no less than the 2" in told


@in_virtual_time
async def test_failure_domains_are_those_that_the_gang_names() -> None:
    cluster = Cluster()
    for number in range(8):
        cluster.write(f"n{number}", {"metadata": {"labels": {"row": "a" if number % 2 else "b"}}})
    policy, placement = Quarantine(nodes="100%"), PlacementSpec(topology_keys=["row"])
    told = await cluster.accuses(cluster.a_gang(policy=policy, placement=placement), 1, 3, 5)
    assert cluster.quarantined() == [1, 3]
    assert "2 of the 4 nodes of row=a" in told


@in_virtual_time
async def test_a_node_that_is_not_the_gangs_is_left_alone() -> None:
    cluster = Cluster()
    cluster.write("n2", {"metadata": {"labels": {"gpu": "a100"}}})
    told = await cluster.accuses(cluster.a_gang(selector={"gpu": "h100"}), 1, 2, 999)
    assert cluster.quarantined() == [1]
    assert told == "not quarantined, though judged bad: n2: no nodeSelector of the gang selects it"


@in_virtual_time
async def test_a_long_refusal_names_some() -> None:
    cluster = Cluster()
    gang = cluster.a_gang(policy=Quarantine(per_domain="100%"))
    told = await cluster.accuses(gang, *range(20))
    assert "n10, n11, n12, n13, n14, n15, n16, n17, …: 4 of the 40" in told


# ---- until it is over ----


async def a_look() -> None:
    await asyncio.sleep(LOOK_EVERY_S + 1.0)


@in_virtual_time
async def test_it_goes_on_while_nothing_ends_it_and_costs_no_write() -> None:
    cluster = Cluster()
    await cluster.accuses(cluster.a_gang(), 1, 2)
    async with cluster.kept():
        await asyncio.sleep(3600)
    assert cluster.quarantined() == [1, 2]
    assert len(cluster.patches) == 2


@in_virtual_time
async def test_a_gang_that_is_gone_is_taken_off_and_with_the_last_one_it_ends() -> None:
    cluster = Cluster()
    cluster.write("n1", {"spec": {"taints": [GPU]}})
    both, alone = cluster.a_gang("llm"), cluster.a_gang("vision")
    await cluster.accuses(both, 1, 2)
    await cluster.accuses(alone, 1)
    async with cluster.kept():
        del cluster.found["research", "llm"]
        cluster.keeper.look_now()
        await asyncio.sleep(1.0)
        assert cluster.quarantined() == [1]
        assert cluster.mark(1)["gangs"] == ["research/vision"]
        del cluster.found["research", "vision"]
        await a_look()
    assert cluster.quarantined() == []
    assert cluster.taints(1) == [GPU]
    assert cluster.taints(2) == []
    assert QUARANTINE not in cluster.bodies["n1"]["metadata"]["annotations"]
    assert len(cluster.patches) == 6


@in_virtual_time
async def test_gangs_that_this_controller_does_not_see_are_not_gone() -> None:
    cluster = Cluster(2, watch="research")
    await cluster.accuses(cluster.a_gang("llm", namespace="elsewhere"), 1)
    await cluster.accuses(cluster.a_gang("llm"), 1)
    cluster.condition("n1", "False", BEGIN - timedelta(days=1))
    del cluster.found["elsewhere", "llm"]
    async with cluster.kept():
        await a_look()
        assert cluster.mark(1)["gangs"] == ["elsewhere/llm", "research/llm"]
        await asyncio.sleep(80 * 3600)
        assert cluster.quarantined() == [1]
        del cluster.found["research", "llm"]
        await a_look()
    assert cluster.mark(1)["gangs"] == ["elsewhere/llm"]


@in_virtual_time
async def test_it_ends_after_clean_hours() -> None:
    cluster = Cluster()
    await cluster.accuses(cluster.a_gang(policy=Quarantine(nodes="100%", lift_after_hours=24)), 1, 4, 8, 12, 16)
    forever = cluster.a_gang("careful", Quarantine(nodes="100%", lift_after_hours=0))
    await cluster.accuses(forever, 16)
    for name in ("n1", "n4", "n8", "n12", "n16"):
        cluster.condition(name, "False", BEGIN - timedelta(days=1))
    struck = int((BEGIN + timedelta(hours=5)).timestamp())
    cluster.write("n4", {"metadata": {"annotations": {"fleetctl.dev/strikes": f"{struck}/lemon/research/llm/1"}}})
    cluster.condition("n8", "True", BEGIN)
    cluster.condition("n12", "False", BEGIN + timedelta(hours=2))
    async with cluster.kept():
        await asyncio.sleep(23.9 * 3600)
        assert cluster.quarantined() == [1, 4, 8, 12, 16]
        await asyncio.sleep(3600)
        assert cluster.quarantined() == [4, 8, 12, 16]
        await asyncio.sleep(2 * 3600)
        assert cluster.quarantined() == [4, 8, 16]
        await asyncio.sleep(3 * 3600)
        assert cluster.quarantined() == [8, 16]
        cluster.condition("n8", "False", cluster.now())
        await asyncio.sleep(23 * 3600)
        assert cluster.quarantined() == [8, 16]
        await asyncio.sleep(1.1 * 3600)
    assert cluster.quarantined() == [16]


@in_virtual_time
async def test_another_machine_of_that_name_is_let_out() -> None:
    cluster = Cluster()
    await cluster.accuses(cluster.a_gang(), 1)
    cluster.write("n1", {"metadata": {"uid": "another"}})
    async with cluster.kept():
        await a_look()
    assert cluster.quarantined() == []


@pytest.mark.parametrize("text", ["bad cable", '{"gangs": []}', "{}"])
@in_virtual_time
async def test_what_cannot_be_read_or_names_no_gang_is_left_to_people(text: str) -> None:
    cluster = Cluster(2)
    cluster.write("n1", {"metadata": {"labels": {QUARANTINE: "true"}, "annotations": {QUARANTINE: text}}})
    async with cluster.kept():
        await asyncio.sleep(80 * 3600)
    assert cluster.patches == []


@in_virtual_time
async def test_who_does_not_lead_lifts_nothing() -> None:
    cluster = Cluster()
    await cluster.accuses(cluster.a_gang(), 1)
    cluster.found.clear()
    cluster.leads = False
    async with cluster.kept():
        await a_look()
        assert cluster.quarantined() == [1]
        cluster.leads = True
        await a_look()
    assert cluster.quarantined() == []


@in_virtual_time
async def test_a_gang_that_joins_at_that_moment_keeps_it() -> None:
    cluster = Cluster()
    await cluster.accuses(cluster.a_gang(), 1)
    joined = json.dumps({**cluster.mark(1), "gangs": ["research/llm", "research/vision"]})
    cluster.a_gang("vision")
    del cluster.found["research", "llm"]
    cluster.first["n1"] = {"metadata": {"annotations": {QUARANTINE: joined}}}
    async with cluster.kept():
        await a_look()
        assert cluster.quarantined() == [1]
        await a_look()
    assert cluster.mark(1)["gangs"] == ["research/vision"]


@in_virtual_time
async def test_an_error_stops_neither_the_others_nor_the_next_look() -> None:
    cluster = Cluster()
    await cluster.accuses(cluster.a_gang(), 1, 2)
    cluster.found.clear()
    cluster.errors["n1"] = [Unavailable("PATCH", "no answer")]
    async with cluster.kept():
        await a_look()
        assert cluster.quarantined() == [1]
        await a_look()
    assert cluster.quarantined() == []


# ---- by hand ----


def node(labels: bool = False, annotated: bool = False, tainted: bool = False, version: str = "1") -> Node:
    taint = {"key": QUARANTINE, "effect": "NoExecute"}
    meta = {
        "name": "n",
        "resourceVersion": version,
        "labels": {QUARANTINE: "true"} if labels else {},
        "annotations": {"fleetctl.dev/strikes": "1/x/a/b/1", **({QUARANTINE: "{}"} if annotated else {})},
    }
    return msgspec.convert({"metadata": meta, "spec": {"taints": [taint] if tainted else []}}, Node)


def test_whatever_is_left_of_a_quarantine_is_removed() -> None:
    assert lifted(node()) is None
    everything = {
        "metadata": {"labels": {QUARANTINE: None}, "annotations": {QUARANTINE: None}},
        "spec": {"taints": None},
    }
    assert lifted(node(labels=True)) == lifted(node(annotated=True)) == lifted(node(tainted=True)) == everything
    forgiven = lifted(node(labels=True), forgiven=True)
    assert forgiven
    assert forgiven["metadata"]["annotations"] == {QUARANTINE: None, "fleetctl.dev/strikes": None}


# ---- the parts around it ----


class Desk:
    """The keeper and the API server, as the executor knows them."""

    def __init__(self, refuses: str) -> None:
        self.refuses = refuses
        self.asked: list[tuple[str, list[str]]] = []
        self.events: list[tuple[str, str]] = []
        nothing = cast(Any, None)
        self.executor = Executor(
            cast(KubeClient, self),
            nothing,
            nothing,
            SystemClock(),
            PodSettings(agent_image="", rendezvous="", server_name=""),
            cast(Keeper, self),
            identity="me",
            bundle=lambda: "",
            leading=lambda: True,
            rng=random.Random(1),
        )

    async def quarantine(self, gang: Gang, accused: list[Accused]) -> str:
        await asyncio.sleep(5.0)
        self.asked.append((gang.name, [each.node for each in accused]))
        return self.refuses

    async def create(self, resource: object, namespace: str, body: dict[str, Any]) -> None:
        assert resource is EVENTS
        self.events.append((body["type"], body["note"]))


@pytest.mark.parametrize("refuses", ["", "not quarantined, though judged bad: n1: …"])
@in_virtual_time
async def test_the_executor_asks_for_it_beside_and_tells_the_gang_of_a_refusal(refuses: str) -> None:
    desk = Desk(refuses)
    seen = Cluster(0).a_gang()
    body = GangObject(metadata=ObjectMeta(namespace="research", name="llm"), spec=seen.spec)
    action = QuarantineNodes((Accused("n1", "lemon", "…"),))
    began = asyncio.get_running_loop().time()
    await desk.executor.carry_out(Plan((action,)), body, seen)
    assert asyncio.get_running_loop().time() == began
    await asyncio.sleep(6.0)
    assert desk.asked == [("llm", ["n1"])]
    assert desk.events == ([("Warning", refuses)] if refuses else [])


def test_decisions_see_the_label() -> None:
    assert node_view("n", node(labels=True)).quarantined
    assert not node_view("n", node(annotated=True, tainted=True)).quarantined


@in_virtual_time
async def test_the_cache_tells_gangs_of_it() -> None:
    dirty: list[tuple[str, str]] = []
    cache: Any = Cache(cast(KubeClient, None), dirty.append, pod_gone=lambda _: None)
    meta = ObjectMeta(namespace="a", name="p", uid="u", labels={"fleetctl.dev/gang": "llm"})
    cache._pods._put(Pod(metadata=meta, spec=PodSpec(node_name="n")))
    cache._nodes._put(node())
    dirty.clear()
    cache._nodes._put(node(labels=True, version="2"))
    assert dirty == [("a", "llm")]
