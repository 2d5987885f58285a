"""Where the simulated server is not like a real one, on purpose: the rows of README.md that can be asked for.

A row that no longer holds is news: the simulation has learned it, or Kubernetes has changed.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.kube.objects import CONFIG_MAPS, LEASES, NODES, PODS, SERVICES

from .api import Api
from .words import a_config_map, a_gang, a_lease, a_pod, changed


def a_field_that_nobody_knows(api: Api) -> int:
    return api.post(PODS, {**a_pod(), "spec": {**a_pod()["spec"], "unknown": 1}}, fieldValidation="Strict").status


def a_namespace_that_does_not_exist(api: Api) -> int:
    body = {"apiVersion": "v1", "kind": "ConfigMap", **a_config_map()}
    return api.ask("POST", CONFIG_MAPS.collection("nowhere"), body).status


def a_body_that_does_not_say_what_it_is(api: Api) -> int:
    return api.ask("POST", CONFIG_MAPS.collection(api.namespace), a_config_map()).status


def defaults_of_a_pod(api: Api) -> bool:
    return "restartPolicy" in api.post(PODS, a_pod()).ok["spec"]


def defaults_of_a_gang(api: Api) -> bool:
    return "recovery" in api.post(GANGS, a_gang()).ok["spec"]


def rules_of_a_gang(api: Api) -> int:
    old = api.post(GANGS, a_gang()).ok
    return api.put(GANGS, changed(old, spec={**old["spec"], "coordinator": {"index": 1}})).status


def a_new_node_is_tainted(api: Api) -> bool:
    return "taints" in api.post(NODES, {"metadata": {"name": f"node-{api.namespace}"}}).ok.get("spec", {})


def an_address_for_a_service(api: Api) -> bool:
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}
    return "clusterIP" in api.post(SERVICES, body).ok["spec"]


def a_blind_replacement_of_a_core_object(api: Api) -> int:
    old = api.post(CONFIG_MAPS, a_config_map()).ok
    return api.put(CONFIG_MAPS, changed(old, meta={"resourceVersion": None})).status


def a_change_of_what_a_pod_runs(api: Api) -> int:
    api.post(PODS, a_pod())
    return api.patch(PODS, "p", {"spec": {"containers": [{"name": "other", "image": "x"}]}}).status


def a_json_patch_of_a_core_object(api: Api) -> int:
    api.post(CONFIG_MAPS, a_config_map())
    body = b'[{"op": "add", "path": "/data", "value": {"a": "b"}}]'
    return api.ask("PATCH", api.path(CONFIG_MAPS, "c"), body, "application/json-patch+json").status


def labels_with_the_status_of_a_pod(api: Api) -> bool:
    api.post(PODS, a_pod())
    return "labels" in api.patch(PODS, "p", {"metadata": {"labels": {"a": "b"}}}, "status").meta


def another_name_by_a_patch(api: Api) -> int:
    api.post(CONFIG_MAPS, a_config_map())
    return api.patch(CONFIG_MAPS, "c", {"metadata": {"name": "other"}}).status


def a_deletion_by_replacement(api: Api) -> int:
    old = api.post(GANGS, a_gang()).ok
    return api.put(GANGS, changed(old, meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})).status


def a_dry_run_of_a_deletion(api: Api) -> int:
    api.post(CONFIG_MAPS, a_config_map())
    return api.ask("DELETE", api.path(CONFIG_MAPS, "c"), dryRun="All").status


def a_deletion_is_answered_with(api: Api) -> str:
    api.post(CONFIG_MAPS, a_config_map())
    return str(api.delete(CONFIG_MAPS, "c").ok["kind"])


def a_deletion_of_all(api: Api) -> int:
    return api.ask("DELETE", CONFIG_MAPS.collection(api.namespace)).status


def a_renewal_of_a_lease_that_is_gone(api: Api) -> int:
    old = api.post(LEASES, a_lease()).ok
    api.delete(LEASES, "lease")
    return api.put(LEASES, old).status


def what_items_of_a_list_say_they_are(api: Api) -> bool:
    api.post(PODS, a_pod())
    return "kind" in api.list(PODS).ok["items"][0]


def details_of_what_was_not_found(api: Api) -> str | None:
    return api.get(PODS, "p").body["details"].get("name")


def who_wrote_what(api: Api) -> bool:
    return "managedFields" in api.post(CONFIG_MAPS, a_config_map(a="b")).meta


@pytest.mark.parametrize(
    ("ask", "really", "simulated"),
    [
        (a_field_that_nobody_knows, 400, 201),
        (a_namespace_that_does_not_exist, 404, 201),
        (a_body_that_does_not_say_what_it_is, 201, 400),
        (defaults_of_a_pod, True, False),
        (defaults_of_a_gang, True, False),
        (rules_of_a_gang, 422, 200),
        (a_new_node_is_tainted, True, False),
        (an_address_for_a_service, True, False),
        (a_blind_replacement_of_a_core_object, 200, 422),
        (a_change_of_what_a_pod_runs, 422, 200),
        (a_json_patch_of_a_core_object, 200, 415),
        (labels_with_the_status_of_a_pod, True, False),
        (another_name_by_a_patch, 400, 200),
        (a_deletion_by_replacement, 422, 200),
        (a_dry_run_of_a_deletion, 200, 400),
        (a_deletion_is_answered_with, "Status", "ConfigMap"),
        (a_deletion_of_all, 200, 405),
        (a_renewal_of_a_lease_that_is_gone, 409, 404),
        (what_items_of_a_list_say_they_are, False, True),
        (details_of_what_was_not_found, "p", None),
        (who_wrote_what, True, False),
    ],
)
def test_a_known_difference_is_still_one(api: Api, ask: Callable[[Api], Any], really: Any, simulated: Any):
    assert ask(api) == (really if api.real else simulated)
