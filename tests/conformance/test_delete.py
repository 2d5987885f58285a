"""Deleting: under conditions, with grace, and against finalizers."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.kube import errors
from fleetctl.kube.objects import CONFIG_MAPS, PODS, SERVICES

from .api import Api, Object
from .words import a_config_map, a_gang, a_pod

NOBODY = "00000000-0000-0000-0000-000000000000"


def ends(meta: Object) -> datetime:
    return datetime.fromisoformat(meta["deletionTimestamp"])


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        (GANGS, a_gang("x")),
        (CONFIG_MAPS, a_config_map("x")),
        (SERVICES, {"metadata": {"name": "x"}, "spec": {"clusterIP": "None"}}),
    ],
)
def test_what_nobody_holds_is_gone_at_once(api: Api, resource: Any, body: Object):
    api.post(resource, body)
    assert api.delete(resource, "x").status == 200
    assert api.get(resource, "x").refusal == (404, "NotFound")


def test_what_is_not_there_cannot_be_deleted(api: Api):
    assert api.delete(PODS, "p").refusal == (404, "NotFound")
    assert api.delete(PODS, "p", preconditions={"uid": NOBODY}).refusal == (404, "NotFound")
    assert api.run(api.client.delete(PODS, api.namespace, "p", uid=NOBODY)) is False


@pytest.mark.parametrize("condition", [{"uid": NOBODY}, {"resourceVersion": "1"}, {"uid": "", "resourceVersion": "1"}])
@pytest.mark.parametrize("node", ["", "n"])
def test_a_deletion_under_a_condition_that_does_not_hold_is_a_conflict(api: Api, condition: Object, node: str):
    meta = api.post(PODS, a_pod(node=node)).meta
    if condition.get("uid") == "":
        condition = {**condition, "uid": meta["uid"]}
    assert api.delete(PODS, "p", preconditions=condition, gracePeriodSeconds=0).refusal == (409, "Conflict")
    assert api.get(PODS, "p").meta == meta


def test_a_deletion_under_conditions_that_hold_is_carried_out(api: Api):
    meta = api.post(PODS, a_pod(node="n")).meta
    work = api.client.delete(
        PODS, api.namespace, "p", uid=meta["uid"], resource_version=meta["resourceVersion"], grace_seconds=0
    )
    assert api.run(work) is True
    assert api.get(PODS, "p").status == 404


def test_the_successor_of_a_pod_is_not_deleted_in_its_stead(api: Api):
    first = api.post(PODS, a_pod()).meta
    api.delete(PODS, "p")
    second = api.post(PODS, a_pod()).meta
    with pytest.raises(errors.Conflict):
        api.run(api.client.delete(PODS, api.namespace, "p", uid=first["uid"]))
    assert api.get(PODS, "p").meta["uid"] == second["uid"]


@pytest.mark.parametrize("options", [{}, {"gracePeriodSeconds": 30}])
def test_a_pod_that_no_node_has_is_gone_at_once(api: Api, options: Object):
    api.post(PODS, a_pod())
    assert api.delete(PODS, "p", **options).status == 200
    assert api.get(PODS, "p").status == 404


@pytest.mark.parametrize(
    ("own", "asked", "granted"), [(None, None, 30), (7, None, 7), (7, 3, 3), (7, 60, 60), (None, 1, 1)]
)
def test_a_pod_on_a_node_is_told_to_go_and_stays(api: Api, own: int | None, asked: int | None, granted: int):
    api.post(PODS, a_pod(node="n", grace_s=own))
    told = api.delete(PODS, "p", **({} if asked is None else {"gracePeriodSeconds": asked}))
    there = api.get(PODS, "p")
    assert told.ok == there.ok
    assert there.meta["deletionGracePeriodSeconds"] == granted
    assert (
        timedelta(0)
        <= ends(there.meta) - datetime.fromisoformat(there.meta["creationTimestamp"]) - timedelta(seconds=granted)
        <= timedelta(seconds=5)
    )
    assert there.meta["generation"] == 2


def test_a_pod_on_a_node_is_gone_at_once_with_no_grace(api: Api):
    api.post(PODS, a_pod(node="n"))
    assert api.run(api.client.delete(PODS, api.namespace, "p", grace_seconds=0))
    assert api.get(PODS, "p").status == 404


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_gone_at_once(api: Api, phase: str):
    api.post(PODS, a_pod(node="n"))
    api.patch(PODS, "p", {"status": {"phase": phase}}, "status")
    api.delete(PODS, "p", gracePeriodSeconds=30)
    assert api.get(PODS, "p").status == 404


def test_a_running_pod_is_not_gone_at_once(api: Api):
    api.post(PODS, a_pod(node="n"))
    api.patch(PODS, "p", {"status": {"phase": "Running"}}, "status")
    api.delete(PODS, "p")
    assert api.get(PODS, "p").meta["deletionGracePeriodSeconds"] == 30


def test_a_second_deletion_shortens_the_first_from_when_it_began(api: Api):
    api.post(PODS, a_pod(node="n"))
    first = api.delete(PODS, "p", gracePeriodSeconds=20).meta
    second = api.delete(PODS, "p", gracePeriodSeconds=5).meta
    assert second["deletionGracePeriodSeconds"] == 5
    assert ends(first) - ends(second) == timedelta(seconds=15)
    assert second["generation"] == first["generation"]
    assert second["resourceVersion"] != first["resourceVersion"]


@pytest.mark.parametrize("options", [{}, {"gracePeriodSeconds": 20}, {"gracePeriodSeconds": 25}])
def test_a_second_deletion_that_grants_no_less_changes_nothing(api: Api, options: Object):
    api.post(PODS, a_pod(node="n"))
    first = api.delete(PODS, "p", gracePeriodSeconds=20).ok
    assert api.delete(PODS, "p", **options).status == 200
    assert api.get(PODS, "p").ok == first


def test_a_pod_that_terminates_can_be_deleted_by_force(api: Api):
    meta = api.post(PODS, a_pod(node="n")).meta
    api.delete(PODS, "p")
    api.delete(PODS, "p", gracePeriodSeconds=0, preconditions={"uid": meta["uid"]})
    assert api.get(PODS, "p").status == 404


def test_a_pod_that_ends_while_it_terminates_waits_for_its_kubelet(api: Api):
    api.post(PODS, a_pod(node="n"))
    api.delete(PODS, "p")
    api.patch(PODS, "p", {"status": {"phase": "Failed"}}, "status")
    api.delete(PODS, "p")
    assert api.get(PODS, "p").meta["deletionGracePeriodSeconds"] == 30


def test_a_pod_that_terminates_may_still_be_changed_but_not_revived(api: Api):
    api.post(PODS, a_pod(node="n"))
    old = api.delete(PODS, "p").ok
    meta = {k: v for k, v in old["metadata"].items() if k not in ("deletionTimestamp", "deletionGracePeriodSeconds")}
    new = api.put(PODS, {**old, "metadata": {**meta, "labels": {"a": "b"}}}).meta
    assert new["deletionTimestamp"] == old["metadata"]["deletionTimestamp"]
    assert new["labels"] == {"a": "b"}


def test_the_name_of_a_pod_that_terminates_is_taken(api: Api):
    api.post(PODS, a_pod(node="n"))
    api.delete(PODS, "p")
    assert api.post(PODS, a_pod()).refusal == (409, "AlreadyExists")


def test_a_finalizer_keeps_a_gang_until_it_is_removed(api: Api):
    api.post(GANGS, a_gang(finalizers=["x.dev/y", "x.dev/z"]))
    told = api.delete(GANGS, "llm").ok
    there = api.get(GANGS, "llm")
    assert (there.meta["deletionGracePeriodSeconds"], there.meta["generation"]) == (0, 2)
    assert told == there.body
    assert api.delete(GANGS, "llm").status == 200
    assert api.get(GANGS, "llm").ok == there.body
    assert api.patch(GANGS, "llm", {"metadata": {"finalizers": ["x.dev/y"]}}).status == 200
    assert api.patch(GANGS, "llm", {"metadata": {"finalizers": None}}).status == 200
    assert api.get(GANGS, "llm").status == 404


def test_a_replacement_can_remove_the_last_finalizer(api: Api):
    api.post(GANGS, a_gang(finalizers=["x.dev/y"]))
    api.delete(GANGS, "llm")
    there = api.get(GANGS, "llm").ok
    meta = {key: value for key, value in there["metadata"].items() if key != "finalizers"}
    assert api.put(GANGS, {**there, "metadata": meta}).status == 200
    assert api.get(GANGS, "llm").status == 404


def test_what_is_being_deleted_takes_no_new_finalizer(api: Api):
    api.post(GANGS, a_gang(finalizers=["x.dev/y"]))
    api.delete(GANGS, "llm")
    patch = {"metadata": {"finalizers": ["x.dev/y", "x.dev/z"]}}
    assert api.patch(GANGS, "llm", patch).refusal == (422, "Invalid")
    assert api.patch(GANGS, "llm", {"metadata": {"finalizers": ["x.dev/z"]}}).refusal == (422, "Invalid")
    assert api.get(GANGS, "llm").meta["finalizers"] == ["x.dev/y"]


def test_a_gang_that_is_being_deleted_still_takes_a_status(api: Api):
    api.post(GANGS, a_gang(finalizers=["x.dev/y"]))
    api.delete(GANGS, "llm")
    told = api.patch(GANGS, "llm", {"status": {"observedGeneration": 2}}, "status")
    assert told.ok["status"] == {"observedGeneration": 2}


def test_finalizers_are_no_obstacle_before_a_deletion(api: Api):
    api.post(GANGS, a_gang(finalizers=["x.dev/y"]))
    assert api.patch(GANGS, "llm", {"metadata": {"finalizers": ["x.dev/z"]}}).meta["finalizers"] == ["x.dev/z"]
    assert "finalizers" not in api.patch(GANGS, "llm", {"metadata": {"finalizers": []}}).meta
    assert api.get(GANGS, "llm").status == 200


@pytest.mark.parametrize("kubelet_first", [True, False])
def test_a_pod_goes_when_both_its_grace_and_its_finalizers_have_ended(api: Api, kubelet_first: bool):
    api.post(PODS, a_pod(node="n", finalizers=["x.dev/y"]))
    api.delete(PODS, "p")
    steps = [
        lambda: api.delete(PODS, "p", gracePeriodSeconds=0),
        lambda: api.patch(PODS, "p", {"metadata": {"finalizers": None}}),
    ]
    for step in steps if kubelet_first else reversed(steps):
        assert api.get(PODS, "p").status == 200
        assert step().status == 200
    assert api.get(PODS, "p").status == 404


def test_a_pod_without_a_node_is_kept_by_a_finalizer_too(api: Api):
    api.post(PODS, a_pod(finalizers=["x.dev/y"]))
    api.delete(PODS, "p")
    assert api.get(PODS, "p").meta["deletionGracePeriodSeconds"] == 0
    api.patch(PODS, "p", {"metadata": {"finalizers": None}})
    assert api.get(PODS, "p").status == 404
