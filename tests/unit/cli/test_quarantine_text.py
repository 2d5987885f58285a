"""What `fleetctl quarantine` reads from an API server, what it prints, and what it changes."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetctl.cli import main, quarantine
from fleetctl.cli.quarantine import as_lifted, as_text, lift, quarantined
from fleetctl.cli.status import quarantined_by
from fleetctl.controller.resources import GangObject
from fleetctl.errors import GiveUp
from fleetctl.gang.spec import GangSpec
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import Node, ObjectMeta
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Journal
from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.transport import FrontDoor
from fleetctl.sim.troubles import Errors

NOW = datetime(2026, 11, 21, 6, 10, tzinfo=UTC)
KEY = "fleetctl.dev/quarantine"
GPU = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
LEMON = {
    "rule": "lemon",
    "evidence": "node gpu-2 failed 3 times within 48 h (fatal-signal, fatal-signal, fatal-signal)",
    "gangs": ["ml/llm", "ml/vision"],
    "at": "2026-11-18T06:00:00Z",
    "uid": "u",
}
HARDWARE = {
    "rule": "hardware-report",
    "evidence": "node gpu-10: xid-79 on GPU-3, reported by rank 80's pod",
    "gangs": ["ml/llm"],
    "at": "2026-11-21T06:07:00Z",
    "uid": "u",
}
STRIKES = "1/fatal-signal/ml/llm/7,2/fatal-signal/ml/llm/7"


class Cluster:
    """Nodes on a simulated API server."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.server = ApiServer(Journal(), self, lambda: self.loop.time() - BEGIN)
        self.door = FrontDoor(self.server, random.Random(1), (0.001, 0.005), lambda _: True)
        self.a_node("gpu-1")

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.loop.time() - BEGIN)

    def a_node(self, name: str, why: object = None, strikes: str = "") -> None:
        meta: dict[str, Any] = {"name": name, "labels": {"gpu": "h100"}, "annotations": {"a": "b"}}
        taints = [GPU]
        if strikes:
            meta["annotations"]["fleetctl.dev/strikes"] = strikes
        if why is not None:
            rule = why["rule"] if isinstance(why, dict) else "by-hand"
            meta["labels"][KEY] = "true"
            meta["annotations"][KEY] = json.dumps(why) if isinstance(why, dict) else why
            taints = [GPU, {"key": KEY, "value": rule, "effect": "NoSchedule"}]
        self.server.create("u", "nodes", {"metadata": meta, "spec": {"taints": taints}})

    def client(self) -> KubeClient:
        return self.door.client("user", random.Random(2))

    def listed(self) -> list[Node]:
        return self.loop.run_until_complete(quarantined(self.client()))

    def lifts(self, name: str) -> Node:
        return self.loop.run_until_complete(lift(self.client(), name))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    ready = Cluster()
    yield ready
    ready.loop.wind_down()
    assert ready.loop.failures == []


def test_the_nodes_in_quarantine_and_why(cluster: Cluster) -> None:
    cluster.a_node("gpu-2", LEMON, STRIKES)
    cluster.a_node("gpu-10", HARDWARE)
    assert list(as_text(cluster.listed(), NOW)) == [
        "NODE    AGE  RULE             GANGS             EVIDENCE",
        "gpu-10  3m   hardware-report  ml/llm            node gpu-10: xid-79 on GPU-3, reported by rank 80's pod",
        f"gpu-2   3d   lemon            ml/llm,ml/vision  {LEMON['evidence']}",
    ]


def test_none(cluster: Cluster) -> None:
    assert list(as_text(cluster.listed(), NOW)) == ["no node is in quarantine"]


def test_what_somebody_wrote_by_hand_is_shown_as_far_as_it_goes(cluster: Cluster) -> None:
    cluster.a_node("gpu-2", "bad cable")
    cluster.a_node("gpu-3", {"rule": "lemon", "at": "yesterday"})
    assert list(as_text(cluster.listed(), NOW))[1:] == [
        "gpu-2  ?    by-hand  ?      its annotation fleetctl.dev/quarantine cannot be read",
        "gpu-3  ?    lemon    ?",
    ]


def test_for_programs(cluster: Cluster) -> None:
    cluster.a_node("gpu-2", LEMON)
    assert json.loads(json.dumps(quarantine.as_json(cluster.listed()))) == [{"node": "gpu-2", **LEMON}]


def test_a_node_that_is_let_out_has_no_trace_of_it_and_no_strikes(cluster: Cluster) -> None:
    cluster.a_node("gpu-2", LEMON, STRIKES)
    before = cluster.lifts("gpu-2")
    node = cluster.server.get("nodes", "", "gpu-2")
    assert node
    assert node["spec"]["taints"] == [GPU]
    assert (node["metadata"]["labels"], node["metadata"]["annotations"]) == ({"gpu": "h100"}, {"a": "b"})
    assert list(as_lifted(before, NOW)) == [
        "node gpu-2 gets pods again: it is quarantined no longer, 2 strikes are forgiven",
        f"it was for 3d (lemon, by ml/llm,ml/vision): {LEMON['evidence']}",
    ]
    assert cluster.listed() == []


def test_without_strikes_none_are_forgiven(cluster: Cluster) -> None:
    cluster.a_node("gpu-10", HARDWARE)
    told = next(as_lifted(cluster.lifts("gpu-10"), NOW))
    assert told == "node gpu-10 gets pods again: it is quarantined no longer"


def test_whoever_writes_at_the_same_moment_loses_nothing(cluster: Cluster) -> None:
    cluster.a_node("gpu-2", LEMON)
    client, patch, tries = cluster.client(), KubeClient.patch, []

    async def slow(*arguments: Any, **options: Any) -> Any:
        if not tries:
            more = {"key": "more", "effect": "NoSchedule"}
            taints = [GPU, more, {"key": KEY, "effect": "NoSchedule"}]
            cluster.server.update("u", "nodes", "", "gpu-2", lambda node: {**node, "spec": {"taints": taints}})
        tries.append(1)
        return await patch(client, *arguments, **options)

    client.patch = slow  # type: ignore[method-assign]
    cluster.loop.run_until_complete(lift(client, "gpu-2"))
    node = cluster.server.get("nodes", "", "gpu-2")
    assert node
    assert [taint["key"] for taint in node["spec"]["taints"]] == ["nvidia.com/gpu", "more"]
    assert len(tries) == 2


def test_a_node_that_is_not_there_or_not_in_quarantine(cluster: Cluster) -> None:
    with pytest.raises(GiveUp, match='node "gpu-7" not found'):
        cluster.lifts("gpu-7")
    with pytest.raises(GiveUp, match='node "gpu-1" is not in quarantine: see fleetctl quarantine'):
        cluster.lifts("gpu-1")


def test_the_command(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.a_node("gpu-2", LEMON)
    nodes = cluster.listed()

    async def ask(options: Any) -> list[Node]:
        if options.lift == "gpu-9":
            raise GiveUp("not there")
        return nodes

    monkeypatch.setattr(quarantine, "_ask", ask)

    def printed(*arguments: str) -> str:
        assert main._dispatch(["fleetctl", "quarantine", *arguments]) == 0
        return capsys.readouterr().out

    assert printed().startswith("NODE ")
    assert printed("--lift", "gpu-2").startswith("node gpu-2 gets pods again")
    assert json.loads(printed("-o", "json")) == json.loads(printed("--lift", "gpu-2", "-o", "json"))
    assert main._dispatch(["fleetctl", "quarantine", "--lift", "gpu-9"]) == 1
    assert capsys.readouterr().err == "fleetctl: not there\n"


def test_the_status_of_a_gang_names_the_nodes_that_it_wants_there(cluster: Cluster) -> None:
    cluster.a_node("gpu-2", LEMON)
    cluster.a_node("gpu-10", HARDWARE)
    cluster.a_node("gpu-3", "{spoilt")

    def of(name: str) -> list[str] | None:
        gang = GangObject(metadata=ObjectMeta(namespace="ml", name=name), spec=GangSpec(groups=[]))
        found = cluster.loop.run_until_complete(quarantined_by(cluster.client(), gang))
        return None if found is None else list(found)

    assert of("llm") == ["gpu-10", "gpu-2"]
    assert of("vision") == ["gpu-2"]
    assert of("other") == []
    cluster.door.begin(Errors(plural="nodes", status=403))
    assert of("llm") is None
