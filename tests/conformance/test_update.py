"""Replacing an object, or its status alone: compare-and-swap, and what counts as a change."""

from typing import Any

import msgspec
import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.gang.spec import AttemptRecord, GangStatus
from fleetctl.kube import errors
from fleetctl.kube.objects import CONFIG_MAPS, LEASES, NODES, PODS

from .api import Api, Object
from .words import a_config_map, a_gang, a_lease, a_pod, changed


def test_a_replacement_takes_the_place_of_all_there_was(api: Api):
    old = api.post(CONFIG_MAPS, a_config_map(a="1", b="2")).ok
    new = api.put(CONFIG_MAPS, changed(old, data={"a": "3"}))
    assert new.ok["data"] == {"a": "3"}
    assert new.meta["uid"] == old["metadata"]["uid"]
    assert int(new.meta["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert api.get(CONFIG_MAPS, "c").ok == new.body


@pytest.mark.parametrize(("resource", "body"), [(GANGS, a_gang()), (CONFIG_MAPS, a_config_map()), (LEASES, a_lease())])
def test_whoever_read_an_older_version_is_told_of_a_conflict(api: Api, resource: Any, body: Object):
    old = api.post(resource, body).ok
    name = old["metadata"]["name"]
    api.patch(resource, name, {"metadata": {"labels": {"first": "yes"}}})
    assert api.put(resource, changed(old, meta={"labels": {"second": "yes"}})).refusal == (409, "Conflict")
    with pytest.raises(errors.Conflict):
        api.run(api.client.replace(resource, old))
    assert api.get(resource, name).meta["labels"] == {"first": "yes"}


@pytest.mark.parametrize(("resource", "body"), [(GANGS, a_gang()), (LEASES, a_lease())])
@pytest.mark.parametrize("version", [None, ""])
def test_a_gang_or_lease_is_not_replaced_blindly(api: Api, resource: Any, body: Object, version: str | None):
    old = api.post(resource, body).ok
    blind = changed(old, meta={"resourceVersion": version, "labels": {"a": "b"}})
    assert api.put(resource, blind).refusal == (422, "Invalid")


def test_the_object_of_another_uid_is_not_replaced(api: Api):
    old = api.post(GANGS, a_gang()).ok
    other = changed(old, meta={"uid": "00000000-0000-0000-0000-000000000000", "labels": {"a": "b"}})
    assert api.put(GANGS, other).refusal == (409, "Conflict")


def test_one_may_replace_without_a_uid(api: Api):
    old = api.post(GANGS, a_gang()).ok
    meta = {key: value for key, value in old["metadata"].items() if key != "uid"}
    new = api.put(GANGS, {**old, "metadata": {**meta, "labels": {"a": "b"}}})
    assert new.meta["uid"] == old["metadata"]["uid"]


@pytest.mark.parametrize("subresource", ["", "status"])
def test_a_body_of_another_name_than_the_path_is_a_bad_request(api: Api, subresource: str):
    old = api.post(GANGS, a_gang()).ok
    path = api.path(GANGS, "llm", subresource)
    assert api.ask("PUT", path, changed(old, meta={"name": "other"})).refusal == (400, "BadRequest")


@pytest.mark.parametrize("resource", [PODS, GANGS])
def test_what_is_not_there_cannot_be_replaced(api: Api, resource: Any):
    body = a_pod(resourceVersion="1") if resource is PODS else a_gang(resourceVersion="1")
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    assert api.put(resource, body).refusal == (404, "NotFound")


def test_a_replacement_that_changes_nothing_keeps_the_version_and_is_told_nobody(api: Api):
    old = api.post(GANGS, a_gang()).ok
    watch = api.watch(GANGS, resourceVersion=old["metadata"]["resourceVersion"])
    assert api.put(GANGS, old).ok == old
    assert api.put(GANGS, old, "status").ok == old
    api.post(GANGS, a_gang("marker"))
    assert watch.story(1) == ["ADDED marker"]


def test_the_generation_grows_with_the_spec_and_with_nothing_else(api: Api):
    generations = [api.post(GANGS, a_gang()).meta["generation"]]
    for patch, subresource in (
        ({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}, ""),
        ({"status": {"observedGeneration": 1}}, "status"),
        ({"metadata": {"finalizers": ["x.dev/y"]}}, ""),
        ({"spec": {"suspend": True}}, ""),
        ({"spec": {"suspend": True}}, ""),
        ({"spec": {"suspend": False}}, ""),
    ):
        generations.append(api.patch(GANGS, "llm", patch, subresource).meta["generation"])
    assert generations == [1, 1, 1, 1, 2, 2, 3]


def test_the_generation_cannot_be_written(api: Api):
    old = api.post(GANGS, a_gang()).ok
    assert api.put(GANGS, changed(old, meta={"generation": 9, "labels": {"a": "b"}})).meta["generation"] == 1


def test_the_status_is_not_written_with_the_spec(api: Api):
    old = api.post(GANGS, a_gang()).ok
    new = api.put(GANGS, changed(old, spec={**old["spec"], "suspend": True}, status={"observedGeneration": 7}))
    assert new.ok["spec"]["suspend"] is True
    assert "status" not in new.body


def test_the_spec_and_the_metadata_of_a_gang_are_not_written_with_its_status(api: Api):
    old = api.post(GANGS, a_gang()).ok
    spec = {**old["spec"], "suspend": True}
    new = api.put(
        GANGS, changed(old, meta={"labels": {"a": "b"}}, spec=spec, status={"observedGeneration": 7}), "status"
    )
    assert new.ok["status"] == {"observedGeneration": 7}
    assert new.body["spec"] == old["spec"]
    assert "labels" not in new.meta
    assert new.meta["generation"] == 1


def test_a_spec_is_written_without_loss_of_the_status(api: Api):
    api.post(GANGS, a_gang())
    old = api.patch(GANGS, "llm", {"status": {"observedGeneration": 1}}, "status").ok
    new = api.put(GANGS, {key: value for key, value in old.items() if key != "status"})
    assert new.ok["status"] == {"observedGeneration": 1}


def test_a_status_is_compared_and_swapped(api: Api):
    old = api.post(GANGS, a_gang()).ok
    assert api.put(GANGS, {**old, "status": {"observedGeneration": 1}}, "status").status == 200
    assert api.put(GANGS, {**old, "status": {"observedGeneration": 2}}, "status").refusal == (409, "Conflict")
    assert api.get(GANGS, "llm").ok["status"] == {"observedGeneration": 1}


def test_a_status_and_a_spec_conflict_with_each_other(api: Api):
    old = api.post(GANGS, a_gang()).ok
    api.patch(GANGS, "llm", {"metadata": {"annotations": {"a": "b"}}})
    assert api.put(GANGS, {**old, "status": {"observedGeneration": 2}}, "status").refusal == (409, "Conflict")


def test_a_status_is_not_replaced_blindly_nor_that_of_another_uid(api: Api):
    old = {**api.post(GANGS, a_gang()).ok, "status": {"observedGeneration": 1}}
    assert api.put(GANGS, changed(old, meta={"resourceVersion": None}), "status").refusal == (422, "Invalid")
    other = changed(old, meta={"uid": "00000000-0000-0000-0000-000000000000"})
    assert api.put(GANGS, other, "status").refusal == (409, "Conflict")


def test_a_status_is_replaced_as_a_whole(api: Api):
    api.post(GANGS, a_gang())
    old = api.patch(GANGS, "llm", {"status": {"observedGeneration": 1, "attempt": {"target": 1}}}, "status").ok
    new = api.put(GANGS, {**old, "status": {"attempt": {"target": 2}}}, "status")
    assert new.ok["status"] == {"attempt": {"target": 2}}
    assert "status" not in api.put(GANGS, {k: v for k, v in new.body.items() if k != "status"}, "status").ok


def test_the_controllers_own_status_is_read_back_as_it_was_written(api: Api):
    gang = api.run(api.client.create(GANGS, api.namespace, a_gang()))
    status = GangStatus(observed_generation=1, attempt=AttemptRecord(target=3, released=2, ticket="t", writer="a/1"))
    written = api.run(api.client.replace_status(GANGS, msgspec.structs.replace(gang, status=status)))
    assert written.status == status
    assert written.metadata.resource_version != gang.metadata.resource_version
    assert api.run(api.client.get(GANGS, api.namespace, "llm")) == written


def test_the_status_of_a_pod_is_written_at_its_own_path_only(api: Api):
    old = api.post(PODS, a_pod()).ok
    running = {**old["status"], "phase": "Running"}
    assert api.put(PODS, changed(old, meta={"labels": {"a": "b"}}, status=running)).ok["status"]["phase"] == "Pending"
    assert api.patch(PODS, "p", {"status": {"phase": "Running"}}, "status").ok["status"]["phase"] == "Running"


def test_the_status_of_a_node_is_written_at_its_own_path_only(api: Api):
    name = f"node-{api.namespace}"
    api.post(NODES, {"metadata": {"name": name}})
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]
    assert "conditions" not in api.patch(NODES, name, {"status": {"conditions": ready}}).ok.get("status", {})
    told = api.patch(NODES, name, {"status": {"conditions": ready}, "spec": {"unschedulable": True}}, "status").ok
    assert told["status"]["conditions"][0]["status"] == "True"
    assert "unschedulable" not in told.get("spec", {})


def test_what_has_no_status_has_no_path_for_one(api: Api):
    api.post(LEASES, a_lease())
    assert api.patch(LEASES, "lease", {"status": {}}, "status").refusal == (404, "NotFound")


def test_what_is_the_servers_stays_as_it_was(api: Api):
    old = api.post(GANGS, a_gang()).ok
    meta = {"creationTimestamp": None, "generation": 99, "labels": {"a": "b"}}
    new = api.put(GANGS, changed(old, meta=meta)).meta
    assert (new["creationTimestamp"], new["generation"]) == (old["metadata"]["creationTimestamp"], 1)
