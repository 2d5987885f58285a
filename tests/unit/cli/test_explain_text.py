"""What `fleetctl explain` reads from an API server, and what it prints."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from fleetctl.cli import main
from fleetctl.cli.explain import AGAIN, NOTHING, Question, answer, as_json, as_text, look
from fleetctl.errors import GiveUp
from fleetctl.gang import spec
from fleetctl.kube.client import KubeClient
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Journal
from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.transport import FrontDoor
from fleetctl.sim.troubles import Errors

NOW = datetime(2026, 11, 21, 6, 10, tzinfo=UTC)
NODE_OF = ("n0", "n0", "n1", "n1")
CAUSE = spec.Cause(scope="Container", rule="fatal-signal", rank=3, node="n1", message="rank 3 exited 139 (SIGSEGV)")
INCIDENT = spec.Incident(
    culprits="3",
    cascade="0",
    facts=[spec.Fact(rule="fatal-signal", what="exited 139 (SIGSEGV)", ranks="3", at="2026-11-21T06:07:58Z")],
    refused=["RecreatePod: node n1 is not to blame for this alone; if it fails again soon, it is"],
)
EARLIER = spec.Cause(scope="Node", rule="node-dead", rank=2, node="n9", message="node n9 is dead: … (rank 2)")


class _Clock:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self._loop.time() - BEGIN)


class Cluster:
    """A gang of four ranks on two nodes, on a simulated API server."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.server = ApiServer(Journal(), _Clock(self.loop), lambda: self.loop.time() - BEGIN)
        self.door = FrontDoor(self.server, random.Random(1), (0.001, 0.005), lambda _: True)
        template = {"spec": {"containers": [{"name": "trainer", "image": "i"}]}}
        body = {"groups": [{"name": "worker", "size": 4, "template": template}]}
        self.server.create("u", "gangs", {"metadata": {"name": "llm", "namespace": "ml"}, "spec": body})
        for name in ("n0", "n1", "idle"):
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            self.server.create("u", "nodes", {"metadata": {"name": name}, "status": status})
            self.server.update("u", "nodes", "", name, lambda b, s=status: {**b, "status": s}, subresource="status")
        for rank, node in enumerate(NODE_OF):
            self.pod(rank, node)

    def pod(self, rank: int, node: str) -> None:
        uid = self.server.get("gangs", "ml", "llm")["metadata"]["uid"]  # type: ignore[index]
        labels = {"fleetctl.dev/gang": "llm", "fleetctl.dev/attempt": "1"}
        meta = {"name": f"llm-worker-{rank}", "namespace": "ml", "labels": labels, "ownerReferences": [{"uid": uid}]}
        self.server.create("u", "pods", {"metadata": meta, "spec": {"nodeName": node, "containers": []}})
        self.containers(rank, {"running": {}}, phase="Running")

    def containers(self, rank: int, state: Any, phase: str) -> None:
        told = {"phase": phase, "containerStatuses": [{"name": "trainer", "state": state}]}
        self._update("pods", "ml", f"llm-worker-{rank}", "status", status=told)

    def exits(self, rank: int, code: int) -> None:
        ended = {"exitCode": code, "reason": "Error", "finishedAt": "2026-11-21T06:09:00Z"}
        self.containers(rank, {"terminated": ended}, phase="Failed")

    def node(self, name: str, annotations: dict[str, str], taint: str, *conditions: str) -> None:
        found = [{"type": each, "status": "True"} for each in ("Ready", *conditions)]
        self._update("nodes", "", name, "status", status={"conditions": found})
        self._update("nodes", "", name, "", spec={"taints": [{"key": taint, "effect": "NoSchedule"}]})
        self._update("nodes", "", name, "", metadata={"name": name, "annotations": annotations})

    def status(self, *history: spec.Recovered, **record: Any) -> None:
        attempt = spec.AttemptRecord(**{"target": 7, "released": 7, "cause": CAUSE, **record})
        runs = spec.Condition(
            type="Running",
            status="True",
            reason="AllRanksReleased",
            message="…",
            last_transition_time="2026-11-21T06:00:00Z",
        )
        told = spec.GangStatus(attempt=attempt, history=list(history), conditions=[runs])
        self._update("gangs", "ml", "llm", "status", status=msgspec.to_builtins(told))

    def _update(self, plural: str, namespace: str, name: str, subresource: str, **parts: Any) -> None:
        def changed(body: Any) -> Any:
            parts_ = {**parts}
            if "metadata" in parts_:
                parts_["metadata"] = {**body["metadata"], **parts_["metadata"]}
            return {**body, **parts_}

        self.server.update("u", plural, namespace, name, changed, subresource=subresource)

    def client(self) -> KubeClient:
        return self.door.client("user", random.Random(2))

    def text(self, name: str = "llm", **asked: Any) -> list[str]:
        question = Question(**asked)
        seen = self.loop.run_until_complete(look(self.client(), "ml", name, question, NOW))
        return list(as_text(seen, question, answer(seen, question)))

    def json(self, **asked: Any) -> Any:
        question = Question(**asked)
        seen = self.loop.run_until_complete(look(self.client(), "ml", "llm", question, NOW))
        return msgspec.json.decode(msgspec.json.encode(as_json(seen, question, answer(seen, question))))


def closed(attempt: int = 7, cause: spec.Cause = CAUSE, incident: spec.Incident | None = INCIDENT) -> spec.Recovered:
    took = spec.Seconds(barrier=4.1, total=4.7)
    at = "2026-11-21T06:08:03Z"
    return spec.Recovered(attempt=attempt, cause=cause, rung="InPlace", at=at, seconds=took, incident=incident)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    ready = Cluster()
    yield ready
    ready.loop.wind_down()
    assert ready.loop.failures == []


STORED = [
    "",
    "Incident: 7, closed: attempt 7 was released at 2026-11-21T06:08:03Z",
    "Cause:    rank 3 exited 139 (SIGSEGV)",
    "Rule:     fatal-signal (scope: Container)",
    "Culprits: rank 3, node n1",
    "Cascade:  rank 0 failed because of that",
    "Evidence: 2026-11-21T06:07:58Z  rank 3: exited 139 (SIGSEGV) [fatal-signal]",
    "Done:     restarted in place; at the barrier after 4.1 s, released after 4.7 s",
    "Not done: RecreatePod: node n1 is not to blame for this alone; if it fails again soon, it is",
]
HEAD = ["Gang:     ml/llm", "State:    AllRanksReleased"]


def test_the_latest_incident_is_told_unless_one_is_asked_for(cluster: Cluster) -> None:
    cluster.status(closed(), closed(6, EARLIER))
    assert cluster.text() == cluster.text(incident=7) == [*HEAD, *STORED]
    assert cluster.text(incident=6)[3:5] == [
        "Incident: 6, closed: attempt 6 was released at 2026-11-21T06:08:03Z",
        "Cause:    node n9 is dead: … (rank 2)",
    ]


def test_an_open_incident_comes_first(cluster: Cluster) -> None:
    cluster.status(closed(), target=8, cause=EARLIER)
    assert cluster.text()[3] == "Incident: 8, open: the gang gathers for attempt 8"


def test_a_gang_to_which_nothing_has_happened(cluster: Cluster) -> None:
    assert cluster.text() == [
        "Gang:     ml/llm",
        "State:    New",
        "Incident: none is stored",
    ]


def test_a_rank_that_a_closed_incident_tells_of_is_looked_at_once_more(cluster: Cluster) -> None:
    cluster.status(closed())
    assert cluster.text(rank=0) == [
        *HEAD,
        "Rank:     0, pod llm-worker-0 on node n0: training",
        *STORED,
        "",
        f"Now:      {AGAIN}",
        f"Cause:    {NOTHING}",
    ]


def test_a_rank_that_the_open_incident_tells_of_has_its_story(cluster: Cluster) -> None:
    cluster.status(target=8, incident=INCIDENT)
    cluster.exits(3, 139)
    assert f"Now:      {AGAIN}" not in cluster.text(rank=3)
    assert "Cause:    rank 3 exited 139 (SIGSEGV)" in cluster.text(rank=3)


def test_a_rank_of_which_nothing_is_stored_is_diagnosed_again(cluster: Cluster) -> None:
    cluster.status(closed())
    cluster.exits(2, 12)
    cluster.exits(1, 13)  # which nobody asks about
    assert cluster.text(rank=2) == [
        *HEAD,
        "Rank:     2, pod llm-worker-2 on node n1: failed",
        "",
        f"Now:      {AGAIN}",
        "Cause:    rank 2 exited 12",
        "Rule:     container-exit (scope: Container)",
        "Evidence: 2026-11-21T06:09:00Z  rank 2: container trainer exited 12 (Error)",
    ]


def test_the_rules_of_the_gang_are_asked_again_too(cluster: Cluster) -> None:
    cluster.status()
    rule = {"match": {"exitCodes": [12]}, "action": "FailGang"}
    gang: Any = cluster.server.get("gangs", "ml", "llm")
    cluster._update("gangs", "ml", "llm", "", spec={**gang["spec"], "recovery": {"rules": [rule]}})
    cluster.exits(2, 12)
    assert "Rule:     fatal-exit (scope: Container)" in cluster.text(rank=2)


def test_a_node_is_told_with_its_ranks_and_its_record(cluster: Cluster) -> None:
    cluster.status(closed(6, EARLIER))
    strikes = "1795240800/fatal-signal/ml/llm/3"
    cluster.node("n1", {"fleetctl.dev/strikes": strikes}, "example.com/maintenance", "MemoryPressure", "KernelSick")
    cluster.exits(2, 12)
    assert cluster.text(node="n1") == [
        *HEAD,
        "Node:     n1",
        "          Ready: True",
        "          conditions: KernelSick",
        "          taints: example.com/maintenance",
        "          its Lease was not read: whether it is dead, the controller watches",
        "Strikes:  2026-11-21T06:00:00Z  ml/llm/3: fatal-signal",
        "Ranks:    2  failed",
        "          3  training",
        "",
        f"Now:      {AGAIN}",
        "Cause:    rank 2 exited 12",
        "Rule:     container-exit (scope: Container)",
        "Evidence: 2026-11-21T06:09:00Z  rank 2: container trainer exited 12 (Error)",
    ]


def test_a_node_in_quarantine_is_said_to_be(cluster: Cluster) -> None:
    cluster.status(closed())
    said = "          in quarantine, it gets no new pods: see fleetctl quarantine"
    assert said not in cluster.text(node="n1")
    cluster._update("nodes", "", "n1", "", metadata={"name": "n1", "labels": {"fleetctl.dev/quarantine": "true"}})
    assert said in cluster.text(node="n1")


def test_what_is_stored_of_a_node_is_told_and_not_what_its_ranks_met_elsewhere(cluster: Cluster) -> None:
    cluster.status(closed())
    assert STORED[1] in cluster.text(node="n1")
    assert STORED[1] not in cluster.text(node="n0")  # rank 0 is there now
    cluster.status(target=8, incident=INCIDENT)  # nobody has moved yet
    assert "Incident: 8, open: the gang gathers for attempt 8" in cluster.text(node="n0")


def test_a_node_that_is_gone_is_told_if_an_incident_tells_of_it(cluster: Cluster) -> None:
    cluster.status(closed(6, EARLIER))
    found = cluster.text(node="n9")
    assert found[2:5] == [
        "Node:     n9, which is no longer there",
        "          its Lease was not read: whether it is dead, the controller watches",
        "Ranks:    none",
    ]
    assert "Cause:    node n9 is dead: … (rank 2)" in found


def test_who_may_not_read_nodes_is_told_so(cluster: Cluster) -> None:
    cluster.status(closed())
    cluster.door.begin(Errors(plural="nodes", status=403))
    found = cluster.text(node="n1")
    assert found[2] == "Node:     n1, which we may not read (it takes the right to get nodes)"
    assert found[4] == "Ranks:    2-3  training"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"rank": 4}, 'gang "llm" has no rank 4: its ranks are 0-3'),
        ({"node": "idle"}, 'gang "llm" has no rank on node "idle": its nodes are n0, n1'),
        ({"node": "n7"}, 'gang "llm" has no rank on node "n7": its nodes are n0, n1'),
        (
            {"incident": 5},
            'gang "llm" has no incident 5: stored are 7, 6 (the attempts that they led to)',
        ),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(cluster: Cluster, asked: dict[str, Any], told: str) -> None:
    cluster.status(closed(), closed(6, EARLIER))
    with pytest.raises(GiveUp) as refused:
        cluster.text(**asked)
    assert str(refused.value) == told


def test_a_gang_that_has_nothing_yet_says_so(cluster: Cluster) -> None:
    with pytest.raises(GiveUp, match='gang "llm" has no incident 5: none is stored'):
        cluster.text(incident=5)
    with pytest.raises(GiveUp, match='gang "nobody" not found in namespace "ml"'):
        cluster.text("nobody")
    for rank in range(4):
        cluster.server.delete("u", "pods", "ml", f"llm-worker-{rank}", grace_s=0)
    with pytest.raises(GiveUp, match="none of its ranks is on a node"):
        cluster.text(node="n0")
    assert cluster.text(rank=0)[2] == "Rank:     0, pod llm-worker-0: no pod"


def test_for_programs(cluster: Cluster) -> None:
    cluster.status(closed())
    found = cluster.json()
    assert (found["namespace"], found["name"], found["breaker"]) == ("ml", "llm", None)
    incident = found["incident"]
    assert (incident["attempt"], incident["open"]) == (7, False)
    assert incident["cause"]["rule"] == "fatal-signal"
    assert incident["evidence"]["facts"][0]["what"] == "exited 139 (SIGSEGV)"
    assert incident["recovered"]["seconds"] == {"barrier": 4.1, "total": 4.7}
    assert "diagnosedAgain" not in found
    cluster.exits(2, 12)
    found = cluster.json(node="n1")
    assert found["node"] == {
        "name": "n1",
        "exists": True,
        "ready": "True",
        **{key: [] for key in ("taints", "conditions", "domains", "strikes")},
        "quarantined": False,
    }
    assert found["ranks"] == {"2": "failed", "3": "training"}
    (verdict,) = found["diagnosedAgain"]["verdicts"]
    assert (verdict["rank"], verdict["because"]) == (2, "rank 2 exited 12")
    cluster.status(target=8)
    assert cluster.json()["incident"]["open"] is True


def test_only_one_thing_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main._dispatch(["fleetctl", "explain", "llm", "--rank", "1", "--node", "n0"])
    assert "not allowed with argument --rank" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main._dispatch(["fleetctl", "explain", "llm", "--rank", "-1"])
    assert '"-1" is no whole number' in capsys.readouterr().err


def test_nothing_but_what_is_asked_for_is_read(cluster: Cluster) -> None:
    cluster.status(closed())
    cluster.door.begin(Errors(plural="nodes", status=500))
    assert cluster.text()[: len(HEAD)] == HEAD
