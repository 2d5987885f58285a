"""The executor: each action becomes its calls, and what they answered is told to the cache."""

import asyncio
import random
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from fleetctl.clock import SystemClock
from fleetctl.controller import executor
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import CALLS_AT_ONCE, Executor, NameTaken, PodSettings
from fleetctl.controller.quarantine import Keeper
from fleetctl.controller.resources import GANGS, GangObject
from fleetctl.controller.views import gang_view
from fleetctl.errors import Retry
from fleetctl.gang.actions import (
    Action,
    CreateCompanions,
    CreatePods,
    CreateSpares,
    DeletePods,
    Deletion,
    Notice,
    Ping,
    Plan,
    Prove,
    Release,
    Reset,
    WriteStatus,
)
from fleetctl.gang.spares import Wanted
from fleetctl.gang.spec import AttemptRecord, GangSpec, GangStatus, Group
from fleetctl.gang.state import Promise
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound, Refused, Unavailable
from fleetctl.kube.objects import CONFIG_MAPS, EVENTS, PODS, SERVICES, ObjectMeta, OwnerReference, Pod, Raw
from fleetctl.rendezvous.server import Rendezvous

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time, settle

TEMPLATE = {"spec": {"containers": [{"name": "trainer", "image": "t"}]}}
SPEC = GangSpec(groups=[Group(name="worker", size=50, template=TEMPLATE)])
SEEN = GangObject(metadata=ObjectMeta(namespace="research", name="llm", uid="g", resource_version="7"), spec=SPEC)
GANG = gang_view(SEEN)
PROMISE = Promise(attempt=3, ticket="t")


class Desk:
    """API server, cache and rendezvous in one: writes down who was asked for what, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.bodies: dict[str, dict[str, Any]] = {}
        self.there: dict[str, str] = {}
        """Uid of the owner of what exists already, by name."""
        self.errors: dict[str, ApiError] = {}
        self.leads_for = 1000
        self.under_way = self.most_at_once = 0
        self.executor = Executor(
            cast(KubeClient, self),
            cast(Rendezvous, self),
            cast(Cache, self),
            SystemClock(),
            PodSettings(agent_image="fleetctl:1", rendezvous="controller:8443", server_name="controller"),
            cast(Keeper, self),
            identity="me",
            bundle=lambda: "CERTIFICATES",
            leading=self.leads,
            rng=random.Random(1),
        )

    def leads(self) -> bool:
        self.leads_for -= 1
        return self.leads_for >= 0

    async def does(self, *actions: Action) -> list[tuple[Any, ...]]:
        await self.executor.carry_out(Plan(actions), SEEN, GANG)
        return self.calls

    def names(self, verb: str) -> list[str]:
        return [call[1] for call in self.calls if call[0] == verb]

    async def _answer(self, name: str) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if error := self.errors.get(name):
            raise error.with_traceback(None)

    # API server

    async def create(self, resource: object, namespace: str, body: dict[str, Any]) -> Any:
        assert namespace == "research"
        name = body["metadata"]["name"]
        if resource is EVENTS:
            self.calls.append(("event", body["reason"], body["note"]))
            return None
        self.calls.append(("create", name))
        self.bodies[name] = body
        await self._answer(name)
        if name in self.there:
            raise AlreadyExists("POST", "it exists", status=409)
        return self._object(resource, name, "g", "created")

    async def get(self, resource: object, namespace: str, name: str) -> Any:
        self.calls.append(("get", name))
        if resource is GANGS:
            return GangObject(metadata=ObjectMeta(namespace=namespace, name=name, uid="g"), spec=SPEC)
        if name not in self.there:
            raise NotFound("GET", "it is gone", status=404)
        return self._object(resource, name, self.there[name], "read")

    def _object(self, resource: object, name: str, owner: str, uid: str) -> Any:
        if resource is PODS:
            return Pod(metadata=ObjectMeta(name=name, uid=uid, owner_references=(OwnerReference(uid=owner),)))
        assert resource in (CONFIG_MAPS, SERVICES)
        return Raw({"metadata": {"name": name, "ownerReferences": [{"uid": owner}]}})

    async def delete(self, resource: object, namespace: str, name: str, **options: Any) -> bool:
        assert (resource, namespace) == (PODS, "research")
        self.calls.append(("delete", name, options))
        await self._answer(name)
        return True

    async def replace_status(self, resource: object, gang: GangObject) -> GangObject:
        assert resource is GANGS
        self.calls.append(("status", gang.metadata.resource_version, gang.status.attempt.target))
        await self._answer("status")
        return GangObject(metadata=ObjectMeta(namespace="research", name="written"), spec=SPEC, status=gang.status)

    # cache

    def wrote_pod(self, pod: Pod) -> None:
        self.calls.append(("cache has", pod.metadata.name, pod.metadata.uid))

    def deleted_pod(self, namespace: str, name: str, uid: str, *, at_once: bool) -> None:
        self.calls.append(("cache lost", f"{namespace}/{name}", uid, at_once))

    def wrote_gang(self, gang: GangObject) -> None:
        self.calls.append(("cache knows", gang.metadata.name))

    # rendezvous

    def prove(self, uid: str, coordinator_uid: str, life_id: str) -> None:
        self.calls.append(("prove", uid, coordinator_uid, life_id))

    def reset(self, uid: str, attempt: int) -> None:
        self.calls.append(("reset", uid, attempt))

    def ping(self, uid: str, attempt: int, ticket: str) -> None:
        self.calls.append(("ping", uid, attempt, ticket))

    def release(self, uid: str, attempt: int, ticket: str) -> None:
        self.calls.append(("release", uid, attempt, ticket))


def deletion(rank: int, grace_s: int | None = 10) -> Deletion:
    return Deletion(f"llm-worker-{rank}", f"uid-{rank}", f"rv-{rank}", grace_s)


@pytest.mark.parametrize(("grace_s", "at_once"), [(0, True), (10, False), (None, False)])
async def test_a_pod_is_deleted_exactly_as_it_was_judged(grace_s: int | None, at_once: bool) -> None:
    options = {"uid": "uid-3", "resource_version": "rv-3", "grace_seconds": grace_s}
    assert await Desk().does(DeletePods((deletion(3, grace_s),))) == [
        ("delete", "llm-worker-3", options),
        ("cache lost", "research/llm-worker-3", "uid-3", at_once),
    ]


async def test_a_deletion_that_was_refused_is_not_told_to_the_cache() -> None:
    desk = Desk()
    desk.errors = {"llm-worker-3": Conflict("DELETE", "it has changed", status=409)}
    with pytest.raises(Conflict):
        await desk.does(DeletePods((deletion(3), deletion(4))))
    assert desk.names("delete") == ["llm-worker-3", "llm-worker-4"]  # one that fails does not stop the others
    assert desk.names("cache lost") == ["research/llm-worker-4"]
    assert desk.names("cache has") == []


async def test_a_pod_that_has_changed_before_it_was_deleted_is_looked_at_as_it_is() -> None:
    desk = Desk()
    desk.errors = {"llm-worker-3": Conflict("DELETE", "it has changed", status=409)}
    desk.there = {"llm-worker-3": "g"}
    with pytest.raises(Conflict):
        await desk.does(DeletePods((deletion(3),)))
    assert desk.calls[-2:] == [("get", "llm-worker-3"), ("cache has", "llm-worker-3", "read")]


async def test_pods_are_made_away_from_the_nodes_to_avoid() -> None:
    desk = Desk()
    calls = await desk.does(CreatePods(GANG.slots[1:3], 5, ("n1", "n2")))
    assert sorted(calls) == [
        ("cache has", "llm-worker-1", "created"),
        ("cache has", "llm-worker-2", "created"),
        ("create", "llm-worker-1"),
        ("create", "llm-worker-2"),
    ]
    for name in ("llm-worker-1", "llm-worker-2"):
        body = desk.bodies[name]
        required = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        avoided = [field for term in required["nodeSelectorTerms"] for field in term["matchFields"]]
        assert {(f["key"], f["operator"]) for f in avoided} == {("metadata.name", "NotIn")}
        assert {value for f in avoided for value in f["values"]} == {"n1", "n2"}
        assert body["metadata"]["labels"]["fleetctl.dev/attempt"] == "5"


async def test_pods_that_need_avoid_nothing_go_anywhere() -> None:
    desk = Desk()
    await desk.does(CreatePods(GANG.slots[:1], 5))
    assert "affinity" not in desk.bodies["llm-worker-0"]["spec"]


async def test_a_pod_that_exists_already_is_ours_or_in_the_way() -> None:
    desk = Desk()
    desk.there = {"llm-worker-0": "g", "llm-worker-1": "an earlier gang"}
    with pytest.raises(NameTaken, match="pod llm-worker-1 exists and is not this gang's"):
        await desk.does(CreatePods(GANG.slots[:3], 1))
    assert sorted(c for c in desk.calls if c[0] == "cache has") == [
        ("cache has", "llm-worker-0", "read"),
        ("cache has", "llm-worker-2", "created"),
    ]


async def test_some_calls_at_a_time() -> None:
    desk = Desk()
    await desk.does(CreatePods(GANG.slots, 1))
    assert (len(desk.names("create")), desk.most_at_once) == (50, CALLS_AT_ONCE)


async def test_of_many_errors_the_one_that_says_most_is_raised() -> None:
    desk = Desk()
    desk.errors = {
        "llm-worker-0": Conflict("DELETE", "it has changed", status=409),
        "llm-worker-1": Refused("DELETE", "a webhook says no", status=403),
    }
    with pytest.raises(Refused, match="a webhook says no"):
        await desk.does(DeletePods((deletion(0), deletion(1))))


async def test_proofs_are_asked_of_the_agents() -> None:
    calls = await Desk().does(Prove(("a", "b"), "coordinator", "life"))
    assert calls == [("prove", "a", "coordinator", "life"), ("prove", "b", "coordinator", "life")]


async def test_what_agents_are_told_goes_out_in_the_plans_order() -> None:
    assert await Desk().does(Reset(("a",), 3), Ping(("b",), PROMISE), Release(("c", "d"), PROMISE)) == [
        ("reset", "a", 3),
        ("ping", "b", 3, "t"),
        ("release", "c", 3, "t"),
        ("release", "d", 3, "t"),
    ]


async def test_what_fails_ends_the_plan() -> None:
    desk = Desk()
    desk.errors = {"llm-worker-3": Refused("DELETE", "no", status=403)}
    with pytest.raises(Refused):
        await desk.does(DeletePods((deletion(3),)), Reset(("a",), 3))
    assert desk.names("reset") == []


async def test_who_does_not_lead_any_more_stops() -> None:
    desk = Desk()
    desk.leads_for = 1
    await desk.does(Reset(("a",), 3), DeletePods((deletion(3),)), Reset(("b",), 3))
    assert desk.calls == [("reset", "a", 3)]


STATUS = GangStatus(attempt=AttemptRecord(target=4))


@in_virtual_time
async def test_a_status_is_written_over_the_version_that_was_seen() -> None:
    desk = Desk()
    calls = await desk.does(WriteStatus(STATUS, Notice("Recovering", "why", "Restart")))
    await settle()
    assert calls == [("status", "7", 4), ("cache knows", "written"), ("event", "Recovering", "why")]


@pytest.mark.parametrize("error", [Conflict("PUT", "changed", status=409), Unavailable("PUT", "no answer")])
@in_virtual_time
async def test_a_status_that_may_not_have_been_written_is_read_again(error: ApiError) -> None:
    desk = Desk()
    desk.errors = {"status": error}
    with pytest.raises(type(error)):
        await desk.does(WriteStatus(STATUS, Notice("Recovering", "why", "Restart")), Reset(("a",), 4))
    await settle()
    assert desk.calls == [("status", "7", 4), ("get", "llm"), ("cache knows", "llm")]


async def test_companions_are_made_once() -> None:
    desk = Desk()
    desk.there = {"llm": "g"}
    await desk.does(CreateCompanions())
    await desk.does(CreateCompanions())
    assert sorted(desk.names("create")) == ["llm", "llm-coordinator", "llm-fleetctl-ca"]
    assert desk.bodies["llm-fleetctl-ca"]["data"] == {"ca.crt": "CERTIFICATES"}


async def test_a_companion_of_somebody_else_is_in_the_way_until_it_is_gone() -> None:
    desk = Desk()
    desk.there = {"llm-coordinator": "another gang"}
    with pytest.raises(NameTaken, match="Service llm-coordinator exists"):
        await desk.does(CreateCompanions(), CreatePods(GANG.slots[:1], 1))
    assert "llm-worker-0" not in desk.names("create")
    desk.there = {"llm": "g", "llm-fleetctl-ca": "g"}
    await desk.does(CreateCompanions(), CreatePods(GANG.slots[:1], 1))
    assert desk.calls[-1] == ("cache has", "llm-worker-0", "created")


async def test_a_pod_that_goes_between_create_and_get_is_worth_another_try() -> None:
    class Fickle(Desk):
        async def get(self, *_: object) -> Any:
            raise NotFound("GET", "gone", status=404)

    desk = Fickle()
    desk.there = {"llm-worker-0": "g"}
    with pytest.raises(Retry):
        await desk.does(CreatePods(GANG.slots[:1], 1))


async def test_others_have_a_turn_while_many_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "TOLD_AT_ONCE", 2)
    told: list[str] = []

    async def act() -> None:
        await executor._each(("a", "b", "c", "d", "e"), told.append)

    turns, acting = [], asyncio.create_task(act())
    while not acting.done():
        turns.append(len(told))
        await asyncio.sleep(0)
    assert (turns, told) == ([0, 2, 4], ["a", "b", "c", "d", "e"])


# Spares


async def test_a_rank_goes_where_a_spare_made_room() -> None:
    desk = Desk()
    await desk.does(CreatePods(GANG.slots[:2], 3, (), {1: "n9"}))
    assert "nodeName" not in desk.bodies["llm-worker-0"]["spec"]
    assert desk.bodies["llm-worker-1"]["spec"]["nodeName"] == "n9"


@in_virtual_time
async def test_what_keeps_spares_from_being_made_does_not_hold_up_the_gang(caplog: pytest.LogCaptureFixture) -> None:
    desk, group = Desk(), SPEC.groups[0]
    desk.errors = {"llm-worker-spare-1": Forbidden("POST", "exceeded quota", status=403)}
    desk.there = {"llm-worker-spare-2": "g"}
    await desk.does(CreateSpares(tuple(Wanted(group, index) for index in range(3))), Reset(("a",), 3))
    await settle()
    assert ("reset", "a", 3) in desk.calls
    assert [call for call in desk.calls if call[0] == "cache has"] == [("cache has", "llm-worker-spare-0", "created")]
    assert "exceeded quota" in caplog.text


@in_virtual_time
async def test_why_spares_are_refused_is_told_on_the_gang_once_and_again_when_it_comes_back() -> None:
    desk, one = Desk(), CreateSpares((Wanted(SPEC.groups[0], 0),))
    name, quota = "llm-worker-spare-0", Forbidden("POST", "exceeded quota", status=403)
    for error in (quota, quota, Conflict("POST", "busy", status=409), None, quota):
        desk.errors = {name: error} if error else {}
        await desk.does(one)
        await settle()
    told = [call for call in desk.calls if call[0] == "event"]
    assert told == [("event", "SpareRefused", f"a spare cannot be made: {quota}")] * 2


# How fast


@in_virtual_time
async def test_how_long_it_takes_to_reset_all_after_a_target_was_raised_is_counted_once() -> None:
    desk = Desk()
    await desk.does(Reset(("a",), 4))
    assert sum(desk.executor.signals.counts) == 0
    await desk.does(WriteStatus(STATUS))
    await asyncio.sleep(0.2)
    await desk.does(Reset(("a",), 4))
    await desk.does(Reset(("a",), 4))
    assert sum(desk.executor.signals.counts) == 1
    assert desk.executor.signals.longest_s == pytest.approx(0.2, abs=0.01)
