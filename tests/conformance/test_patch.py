"""Merge patches: what they set and remove, and on what condition."""

import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.kube import errors
from fleetctl.kube.objects import CONFIG_MAPS, NODES, PODS

from .api import MERGE, Api, Object
from .words import a_config_map, a_gang, a_pod


def test_a_merge_patch_sets_removes_and_leaves_the_rest(api: Api):
    api.post(CONFIG_MAPS, a_config_map(a="1", b="2", c="3"))
    assert api.patch(CONFIG_MAPS, "c", {"data": {"a": None, "b": "4", "d": "5"}}).ok["data"] == {
        "b": "4",
        "c": "3",
        "d": "5",
    }


def test_null_removes_a_whole_part_and_what_is_not_there_too(api: Api):
    api.post(CONFIG_MAPS, a_config_map(a="1"))
    assert "data" not in api.patch(CONFIG_MAPS, "c", {"data": None, "metadata": {"labels": None}}).ok


def test_a_merge_patch_replaces_lists_as_a_whole(api: Api):
    name = f"node-{api.namespace}"
    taints = [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "value": "x", "effect": "NoSchedule"}]
    api.post(NODES, {"metadata": {"name": name}, "spec": {"taints": taints}})
    patched = api.patch(NODES, name, {"spec": {"unschedulable": True, "taints": taints[1:]}}).ok
    assert (patched["spec"]["taints"], patched["spec"]["unschedulable"]) == (taints[1:], True)


def test_labels_are_set_and_removed_one_by_one(api: Api):
    api.post(PODS, a_pod(labels={"a": "1", "b": "2"}))
    patch = {"metadata": {"labels": {"a": None, "c": "3"}, "annotations": {"d": "4"}}}
    meta = api.patch(PODS, "p", patch).meta
    assert (meta["labels"], meta["annotations"]) == ({"b": "2", "c": "3"}, {"d": "4"})


@pytest.mark.parametrize("patch", [{}, {"metadata": {"labels": {"a": "b"}}}, {"metadata": {"annotations": None}}])
def test_a_patch_that_changes_nothing_keeps_the_version(api: Api, patch: Object):
    old = api.post(GANGS, a_gang(labels={"a": "b"})).ok
    assert api.patch(GANGS, "llm", patch).ok == old
    assert api.patch(GANGS, "llm", patch, "status").ok == old


def test_a_patch_may_name_the_version_it_was_made_for(api: Api):
    old = api.post(GANGS, a_gang()).meta["resourceVersion"]
    patch = {"metadata": {"resourceVersion": old, "labels": {"a": "b"}}}
    assert api.patch(GANGS, "llm", patch).status == 200
    assert api.patch(GANGS, "llm", patch).refusal == (409, "Conflict")
    with pytest.raises(errors.Conflict):
        api.run(api.client.patch(GANGS, api.namespace, "llm", patch))
    assert api.patch(GANGS, "llm", {**patch, "status": {"observedGeneration": 1}}, "status").refusal[0] == 409


def test_a_patch_may_name_the_uid_it_was_made_for(api: Api):
    uid = api.post(GANGS, a_gang()).meta["uid"]
    assert api.patch(GANGS, "llm", {"metadata": {"uid": uid, "labels": {"a": "b"}}}).status == 200
    other = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000", "labels": {"a": "c"}}}
    assert api.patch(GANGS, "llm", other).refusal == (422, "Invalid")
    assert api.get(GANGS, "llm").meta["labels"] == {"a": "b"}


def test_a_patch_without_a_condition_does_not_mind_who_wrote_first(api: Api):
    api.post(GANGS, a_gang())
    api.patch(GANGS, "llm", {"metadata": {"labels": {"a": "b"}}})
    assert api.patch(GANGS, "llm", {"metadata": {"labels": {"c": "d"}}}).meta["labels"] == {"a": "b", "c": "d"}


def test_a_patch_of_the_status_takes_the_status_only(api: Api):
    api.post(GANGS, a_gang())
    patch = {"spec": {"suspend": True}, "metadata": {"labels": {"a": "b"}}, "status": {"observedGeneration": 3}}
    told = api.patch(GANGS, "llm", patch, "status")
    assert (told.ok["status"], told.ok["spec"]["suspend"]) == ({"observedGeneration": 3}, False)
    assert (told.meta["generation"], told.meta.get("labels")) == (1, None)


def test_a_patch_of_the_object_leaves_the_status(api: Api):
    api.post(GANGS, a_gang())
    api.patch(GANGS, "llm", {"status": {"observedGeneration": 3}}, "status")
    told = api.patch(GANGS, "llm", {"spec": {"suspend": True}, "status": {"observedGeneration": 4}}).ok
    assert (told["status"], told["spec"]["suspend"]) == ({"observedGeneration": 3}, True)
    assert api.patch(GANGS, "llm", {"status": None}).ok["status"] == {"observedGeneration": 3}


def test_what_is_not_there_cannot_be_patched(api: Api):
    assert api.patch(GANGS, "llm", {"metadata": {"labels": {"a": "b"}}}).refusal == (404, "NotFound")
    assert api.patch(PODS, "p", {"status": {"phase": "Running"}}, "status").refusal == (404, "NotFound")


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_a_patch_that_is_no_json_object_is_a_bad_request(api: Api, body: bytes):
    api.post(GANGS, a_gang())
    assert api.ask("PATCH", api.path(GANGS, "llm"), body, MERGE).refusal == (400, "BadRequest")


def test_a_patch_that_makes_no_object_is_invalid(api: Api):
    api.post(PODS, a_pod())
    assert api.patch(PODS, "p", {"metadata": {"labels": {"a": 1}}}).refusal == (422, "Invalid")


@pytest.mark.parametrize("kind", ["application/json", "application/strategic-merge-patch+json", "text/plain"])
def test_a_patch_of_a_kind_that_gangs_do_not_have_is_refused(api: Api, kind: str):
    api.post(GANGS, a_gang())
    assert api.ask("PATCH", api.path(GANGS, "llm"), {}, kind).refusal == (415, "UnsupportedMediaType")
