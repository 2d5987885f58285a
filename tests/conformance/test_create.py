"""What becomes of a new object, and which are refused."""

from datetime import datetime
from typing import Any

import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.kube import errors
from fleetctl.kube.objects import CONFIG_MAPS, LEASES, NODES, PODS

from .api import Api, Object
from .words import a_config_map, a_gang, a_lease, a_pod


@pytest.mark.parametrize(
    ("resource", "body"), [(GANGS, a_gang()), (PODS, a_pod()), (CONFIG_MAPS, a_config_map()), (LEASES, a_lease())]
)
def test_a_new_object_is_given_uid_version_and_the_time(api: Api, resource: Any, body: Object):
    meta = api.post(resource, body).meta
    assert len(meta["uid"]) == 36
    assert int(meta["resourceVersion"]) > 0
    assert meta["namespace"] == api.namespace
    assert datetime.fromisoformat(meta["creationTimestamp"])
    assert meta["creationTimestamp"].endswith("Z")
    assert "." not in meta["creationTimestamp"]


def test_gangs_and_pods_have_a_generation_and_others_have_none(api: Api):
    assert [api.post(r, b).meta.get("generation") for r, b in ((GANGS, a_gang()), (PODS, a_pod()))] == [1, 1]
    assert "generation" not in api.post(CONFIG_MAPS, a_config_map()).meta
    assert "generation" not in api.post(LEASES, a_lease()).meta


def test_what_only_the_server_gives_is_not_taken_from_a_new_object(api: Api):
    wanted = {
        "uid": "mine",
        "generation": 7,
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2020-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 5,
    }
    meta = api.post(GANGS, a_gang(**wanted)).meta
    assert meta["uid"] != "mine"
    assert meta["generation"] == 1
    assert meta["creationTimestamp"] > "2026"
    assert "deletionTimestamp" not in meta
    assert "deletionGracePeriodSeconds" not in meta


def test_a_new_object_with_a_version_is_an_error_of_the_server(api: Api):
    assert api.post(CONFIG_MAPS, {"metadata": {"name": "c", "resourceVersion": "1"}}).refusal == (500, "")
    assert api.get(CONFIG_MAPS, "c").status == 404


def test_what_was_created_is_what_is_there(api: Api):
    made = api.post(CONFIG_MAPS, a_config_map(a="1"))
    assert made.status == 201
    assert api.get(CONFIG_MAPS, "c").ok == made.body


def test_a_namespace_in_the_path_is_enough(api: Api):
    assert api.run(api.client.create(PODS, api.namespace, a_pod())).metadata.namespace == api.namespace


def test_names_are_generated_and_differ(api: Api):
    body = {"metadata": {"generateName": "c-"}}
    names = [api.post(CONFIG_MAPS, body).meta["name"] for _ in range(2)]
    assert names[0] != names[1]
    assert all(name.startswith("c-") and len(name) == 7 for name in names)


def test_a_name_that_is_taken_is_refused_with_its_own_reason(api: Api):
    api.post(PODS, a_pod())
    assert api.post(PODS, a_pod()).refusal == (409, "AlreadyExists")
    with pytest.raises(errors.AlreadyExists):
        api.run(api.client.create(PODS, api.namespace, a_pod()))


def test_a_name_may_be_taken_by_another_kind_or_in_another_namespace(api: Api):
    assert api.post(PODS, a_pod("x")).status == 201
    assert api.post(CONFIG_MAPS, a_config_map("x")).status == 201
    elsewhere = api.run(api.client.create(CONFIG_MAPS, "default", a_config_map(f"x-{api.namespace}")))
    assert elsewhere.metadata.namespace == "default"


def test_a_name_is_free_again_once_its_object_is_gone_and_the_next_has_another_uid(api: Api):
    first = api.post(CONFIG_MAPS, a_config_map()).meta
    api.delete(CONFIG_MAPS, "c")
    second = api.post(CONFIG_MAPS, a_config_map()).meta
    assert second["uid"] != first["uid"]
    assert int(second["resourceVersion"]) > int(first["resourceVersion"])


@pytest.mark.parametrize("name", ["Not-A-Name", "under_score", "-x", "x.", "a b", "x" * 254])
def test_a_name_that_dns_would_not_take_is_invalid(api: Api, name: str):
    assert api.post(PODS, a_pod(name)).refusal == (422, "Invalid")


def test_an_object_without_a_name_is_invalid(api: Api):
    assert api.post(PODS, {**a_pod(), "metadata": {}}).refusal == (422, "Invalid")


def test_an_invalid_object_is_refused_with_the_field_at_fault(api: Api):
    with pytest.raises(errors.Refused) as caught:
        api.run(api.client.create(PODS, api.namespace, a_pod("Not A Name")))
    assert "metadata.name" in {cause.field for cause in caught.value.causes}
    assert caught.value.message.startswith('Pod "Not A Name" is invalid: metadata.name: ')


def test_an_object_of_another_namespace_than_the_path_is_a_bad_request(api: Api):
    assert api.post(PODS, a_pod(namespace="elsewhere")).refusal == (400, "BadRequest")


@pytest.mark.parametrize("wrong", [{"kind": "Service"}, {"apiVersion": "v2"}])
def test_an_object_of_another_kind_than_the_path_is_a_bad_request(api: Api, wrong: Object):
    assert api.post(PODS, {**a_pod(), **wrong}).refusal == (400, "BadRequest")


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
def test_a_body_that_is_no_json_object_is_a_bad_request(api: Api, body: bytes):
    assert api.ask("POST", PODS.collection(api.namespace), body).refusal == (400, "BadRequest")


@pytest.mark.parametrize("meta", [{"labels": {"a": 1}}, {"finalizers": "a/b"}, {"annotations": []}])
@pytest.mark.parametrize("resource", [PODS, GANGS])
def test_metadata_of_the_wrong_shape_is_a_bad_request(api: Api, resource: Any, meta: Object):
    body = a_pod(**meta) if resource is PODS else a_gang(**meta)
    assert api.post(resource, body).refusal == (400, "BadRequest")


def test_a_dry_run_tells_what_would_be_and_leaves_nothing(api: Api):
    watch = api.watch(PODS)
    pod = api.run(api.client.create(PODS, api.namespace, a_pod(), dry_run=True, strict=True))
    assert (pod.metadata.name, len(pod.metadata.uid)) == ("p", 36)
    assert pod.metadata.resource_version == ""
    assert api.get(PODS, "p").status == 404
    api.post(PODS, a_pod("marker"))
    assert watch.story(1) == ["ADDED marker"]


def test_a_dry_run_is_refused_what_would_be_refused(api: Api):
    api.post(PODS, a_pod())
    assert api.post(PODS, a_pod(), dryRun="All").refusal == (409, "AlreadyExists")
    assert api.post(PODS, a_pod("Not A Name"), dryRun="All").refusal == (422, "Invalid")


def test_the_status_of_a_new_gang_is_dropped(api: Api):
    assert "status" not in api.post(GANGS, {**a_gang(), "status": {"attempt": {"target": 9}}}).ok


def test_a_new_pod_is_pending_whatever_it_says(api: Api):
    assert api.post(PODS, {**a_pod(), "status": {"phase": "Running"}}).ok["status"]["phase"] == "Pending"


def test_the_status_of_a_new_node_is_kept(api: Api):
    name = f"node-{api.namespace}"
    node = api.post(NODES, {"metadata": {"name": name}, "status": {"declaredFeatures": ["X"]}})
    assert node.ok["status"]["declaredFeatures"] == ["X"]
    assert "namespace" not in node.meta


def test_labels_annotations_owners_and_finalizers_are_kept(api: Api):
    gang = api.post(GANGS, a_gang()).meta
    owner = {
        "apiVersion": "fleetctl.dev/v1alpha1",
        "kind": "Gang",
        "name": "llm",
        "uid": gang["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    meta = {"labels": {"a": "b"}, "annotations": {"c": "d"}, "ownerReferences": [owner], "finalizers": ["x.dev/y"]}
    made = api.post(PODS, a_pod(**meta)).meta
    assert {key: made[key] for key in meta} == meta
