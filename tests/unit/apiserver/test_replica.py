"""What the simulator's parts see of a real API server, and what that is told of them."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetctl.apiserver.replica import Replica, difference
from fleetctl.sim.answers import JSON, Answer
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.journal import Event, Journal, Object, Wrote
from fleetctl.sim.lifecycle import merged


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)


class Upstream:
    """A real server, played by a simulated one. `held`: it does not answer yet."""

    def __init__(self) -> None:
        self.server = ApiServer(Journal(), Clock(), lambda: 0.0)
        self.asked: list[tuple[str, str, str, Any]] = []
        self.held = asyncio.Event()
        self.held.set()

    async def patiently(
        self, actor: str, method: str, path: str, content_type: str = JSON, body: bytes | None = None
    ) -> Answer:
        await self.held.wait()
        self.asked.append((actor, method, path, msgspec.json.decode(body) if body else None))
        answer = self.server.handle(actor, method, path, {}, content_type, body)
        assert isinstance(answer, Answer)
        return answer


class Here:
    """A replica, its server, and what the journal was told."""

    def __init__(self) -> None:
        self.told: list[Wrote] = []
        journal = Journal()
        journal.listeners.append(self._listen)
        self.upstream = Upstream()
        self.replica = Replica(journal, Clock(), lambda: 0.0)
        self.replica.upstream = self.upstream  # type: ignore[assignment]

    def _listen(self, event: Event) -> None:
        if isinstance(event, Wrote):
            self.told.append(event)

    def by_a_controller(self, method: str, path: str, body: Object, verb: Any, subresource: str = "") -> None:
        """As it comes through the door."""
        kind = JSON if method != "PATCH" else "application/merge-patch+json"
        answer = self.upstream.server.handle("controller-0", method, path, {}, kind, msgspec.json.encode(body))
        assert isinstance(answer, Answer), answer
        assert answer.status < 300, answer.body
        self.replica.committed("controller/a", verb, ("pods", ("default", "p")), subresource, answer.body)

    def pod(self) -> Object:
        body = self.replica.get("pods", "default", "p")
        assert body is not None
        return body


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": []}}
PODS, P = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/pods/p"


@pytest.fixture
async def here() -> Here:
    here = Here()
    here.by_a_controller("POST", PODS, POD, "create")
    return here


def running(pod: Object) -> Object:
    return {**pod, "status": {**pod["status"], "phase": "Running"}}


async def test_what_a_controller_made_is_there_and_told_in_its_name(here: Here) -> None:
    assert [(w.actor, w.verb, w.before) for w in here.told] == [("controller/a", "create", None)]
    assert here.pod()["metadata"]["uid"] == here.upstream.server.get("pods", "default", "p")["metadata"]["uid"]  # type: ignore[index]


async def test_what_a_kubelet_says_is_there_at_once_and_sent(here: Here) -> None:
    here.replica.update("kubelet/n", "pods", "default", "p", running, subresource="status")
    assert here.pod()["status"]["phase"] == "Running"
    assert [(w.actor, w.subresource) for w in here.told[1:]] == [("kubelet/n", "status")]
    await here.replica.settled()
    uid = here.pod()["metadata"]["uid"]
    assert here.upstream.asked == [
        ("kubelet", "PATCH", f"{P}/status", {"metadata": {"uid": uid}, "status": {"phase": "Running"}})
    ]
    assert len(here.told) == 2


async def test_what_is_on_its_way_is_kept_when_a_controller_writes_meanwhile(here: Here) -> None:
    here.upstream.held.clear()
    here.replica.update("kubelet/n", "pods", "default", "p", running, subresource="status")
    here.by_a_controller("PATCH", P, {"metadata": {"labels": {"a": "b"}}}, "patch")
    assert (here.pod()["status"]["phase"], here.pod()["metadata"]["labels"]) == ("Running", {"a": "b"})
    here.upstream.held.set()
    await here.replica.settled()
    there = here.upstream.server.get("pods", "default", "p")
    assert there is not None
    assert (there["status"]["phase"], there["metadata"]["labels"]) == ("Running", {"a": "b"})


async def test_a_scheduler_binds_as_schedulers_do(here: Here) -> None:
    to_n = lambda pod: {**pod, "spec": {**pod["spec"], "nodeName": "n"}}  # noqa: E731
    here.upstream.held.clear()
    here.replica.update("scheduler", "pods", "default", "p", to_n)
    assert here.pod()["spec"]["nodeName"] == "n"
    (write,) = here.replica._on_their_way["pods", ("default", "p")]
    assert (write.method, write.path, write.body["target"]["name"]) == ("POST", f"{P}/binding", "n")


async def test_a_deletion_names_the_uid_and_what_is_gone_is_not_brought_back_by_a_late_answer(here: Here) -> None:
    uid = here.pod()["metadata"]["uid"]
    here.upstream.held.clear()
    here.replica.update("kubelet/n", "pods", "default", "p", running, subresource="status")
    here.replica.delete("kubelet/n", "pods", "default", "p", grace_s=0, uid=uid)
    assert here.replica.get("pods", "default", "p") is None
    here.upstream.held.set()
    await here.replica.settled()
    assert here.replica.get("pods", "default", "p") is None
    assert here.upstream.server.get("pods", "default", "p") is None
    assert here.upstream.asked[-1] == (
        "kubelet", "DELETE", P, {"preconditions": {"uid": uid}, "gracePeriodSeconds": 0}
    )  # fmt: skip


async def test_a_new_object_is_shown_when_the_server_has_made_it(here: Here) -> None:
    here.replica.create("somebody", "pods", {"metadata": {"name": "own", "namespace": "default"}, "spec": {}})
    assert here.replica.get("pods", "default", "own") is None
    await here.replica.settled()
    assert here.replica.get("pods", "default", "own") is not None
    assert (here.told[-1].actor, here.told[-1].verb) == ("somebody", "create")


async def test_a_write_of_unknown_fate_is_looked_for(here: Here) -> None:
    patch = msgspec.json.encode({"metadata": {"labels": {"a": "b"}}})
    here.upstream.server.handle("controller-0", "PATCH", P, {}, "application/merge-patch+json", patch)
    assert "labels" not in here.pod()["metadata"]
    here.replica.uncertain("controller/a", ("pods", ("default", "p")))
    await here.replica.settled()
    assert here.pod()["metadata"]["labels"] == {"a": "b"}
    assert here.told[-1].actor == "controller/a"
    here.upstream.server.delete("controller-0", "pods", "default", "p", grace_s=0)
    here.replica.uncertain("controller/a", ("pods", ("default", "p")))
    await here.replica.settled()
    assert here.replica.get("pods", "default", "p") is None


async def test_a_muted_kubelet_is_seen_and_costs_nothing(here: Here) -> None:
    here.replica.muted.add("kubelet/n")
    here.replica.update("kubelet/n", "pods", "default", "p", running, subresource="status")
    await here.replica.settled()
    assert here.pod()["status"]["phase"] == "Running"
    assert here.upstream.asked == []


plain = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2))
nested = st.dictionaries(st.sampled_from("ab"), plain, max_size=2)
objects = st.dictionaries(st.sampled_from("abc"), st.one_of(plain, nested), max_size=3)


@given(objects, objects)
def test_the_difference_makes_the_one_of_the_other(before: Object, after: Object) -> None:
    assert merged(before, difference(before, after)) == after
