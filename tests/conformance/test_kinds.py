"""What is particular to a kind, as far as fleetctl relies on it, and paths that lead nowhere."""

import asyncio
import base64
import random
from datetime import UTC, datetime

import msgspec
import pytest

from fleetctl.controller.events import emit
from fleetctl.controller.resources import GANGS
from fleetctl.gang.actions import Notice
from fleetctl.kube import errors
from fleetctl.kube.elector import LeaseElector
from fleetctl.kube.objects import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS, SECRETS, SERVICES

from .api import Api
from .words import a_config_map, a_gang, a_lease, a_pod, changed

RENEWED = "2026-11-21T10:00:02.654321Z"


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 21, 12, 0, 0, 250, tzinfo=UTC)


# Leases


def test_the_times_of_a_lease_are_kept_to_the_microsecond(api: Api):
    spec = api.post(LEASES, a_lease()).ok["spec"]
    assert (spec["acquireTime"], spec["renewTime"]) == ("2026-11-21T10:00:00.000000Z", "2026-11-21T10:00:00.123456Z")


def test_of_two_who_renew_a_lease_only_the_first_has_it(api: Api):
    api.post(LEASES, a_lease())
    seen = api.run(api.client.get(LEASES, api.namespace, "lease"))
    spec = msgspec.structs.replace(seen.spec, holder_identity="b", renew_time=RENEWED, lease_transitions=1)
    written = api.run(api.client.replace(LEASES, msgspec.structs.replace(seen, spec=spec)))
    assert written.spec == spec
    late = msgspec.structs.replace(seen, spec=msgspec.structs.replace(spec, holder_identity="c"))
    with pytest.raises(errors.Conflict):
        api.run(api.client.replace(LEASES, late))
    assert api.run(api.client.get(LEASES, api.namespace, "lease")) == written


def test_of_two_who_create_a_lease_only_the_first_has_it(api: Api):
    api.post(LEASES, a_lease())
    with pytest.raises(errors.AlreadyExists):
        api.run(api.client.create(LEASES, api.namespace, a_lease()))


def test_a_lease_may_have_no_holder(api: Api):
    old = api.post(LEASES, a_lease()).ok
    spec = {key: value for key, value in old["spec"].items() if key != "holderIdentity"}
    assert "holderIdentity" not in api.put(LEASES, changed(old, spec=spec)).ok["spec"]


def test_a_lease_that_was_deleted_meanwhile_is_not_made_again_by_its_renewal(api: Api):
    old = api.post(LEASES, a_lease()).ok
    api.delete(LEASES, "lease")
    assert api.put(LEASES, old).refusal[0] in {404, 409}
    assert api.get(LEASES, "lease").status == 404


def test_the_elector_leads_releases_and_hands_over(api: Api):
    async def lead(who: str) -> int:
        leads = asyncio.Event()
        candidate = LeaseElector(api.client, api.namespace, "lease", who, Clock(), changed=leads.set)
        task = asyncio.create_task(candidate.run())
        await leads.wait()
        assert candidate.leading
        task.cancel()
        await asyncio.wait([task])
        return candidate.transitions

    assert [api.run(lead(who)) for who in "aba"] == [0, 1, 2]
    assert api.run(api.client.get(LEASES, api.namespace, "lease")).spec.holder_identity == ""


# Events


def test_the_controllers_event_is_accepted_and_can_be_listed(api: Api):
    gang = api.run(api.client.create(GANGS, api.namespace, a_gang()))
    notice = Notice(reason="Recovering", message="rank 1 failed", action="Restart", kind="Warning")
    api.run(emit(api.client, Clock(), gang, notice, "a", random.Random(1)))
    (event,) = api.list(EVENTS).ok["items"]
    assert event["metadata"]["name"].startswith("llm.")
    assert event["regarding"]["uid"] == gang.metadata.uid
    told = [event[key] for key in ("reason", "note", "action", "type", "eventTime")]
    assert told == ["Recovering", "rank 1 failed", "Restart", "Warning", "2026-11-21T12:00:00.000250Z"]


# Services, ConfigMaps, Secrets


def test_a_headless_service_stays_headless(api: Api):
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"fleetctl.dev/gang": "llm"}}
    made = api.post(SERVICES, {"metadata": {"name": "llm"}, "spec": spec}).ok["spec"]
    assert {key: made[key] for key in spec} == spec


def test_a_service_keeps_its_selector_and_ports(api: Api):
    spec = {
        "publishNotReadyAddresses": True,
        "selector": {"fleetctl.dev/gang": "llm", "fleetctl.dev/rank": "0"},
        "ports": [{"name": "coordinator", "port": 29500}, {"name": "gate", "port": 29499}],
    }
    made = api.post(SERVICES, {"metadata": {"name": "llm-coordinator"}, "spec": spec}).ok["spec"]
    assert [(port["name"], port["port"]) for port in made["ports"]] == [("coordinator", 29500), ("gate", 29499)]
    assert (made["selector"], made["publishNotReadyAddresses"]) == (spec["selector"], True)


def test_a_secret_is_kept_and_patched_key_by_key(api: Api):
    data = {name: base64.b64encode(name.encode()).decode() for name in ("ca.crt", "ca.key")}
    api.post(SECRETS, {"metadata": {"name": "s"}, "data": data})
    assert api.get(SECRETS, "s").ok["data"] == data
    new = base64.b64encode(b"new").decode()
    assert api.patch(SECRETS, "s", {"data": {"ca.key": new}}).ok["data"] == {**data, "ca.key": new}


def test_a_config_map_keeps_lines_and_letters(api: Api):
    text = "-----BEGIN CERTIFICATE-----\nüß\n"
    api.post(CONFIG_MAPS, a_config_map(**{"ca.crt": text}))
    assert api.get(CONFIG_MAPS, "c").ok["data"] == {"ca.crt": text}


# Nodes


def test_a_node_is_of_no_namespace(api: Api):
    name = f"node-{api.namespace}"
    api.post(NODES, {"metadata": {"name": name}})
    assert api.run(api.client.get(NODES, None, name)).metadata.namespace == ""
    assert name in [node.metadata.name for node in api.run(api.client.list(NODES)).items]
    assert api.delete(NODES, name).status == 200
    with pytest.raises(errors.NotFound):
        api.run(api.client.get(NODES, None, name))


def test_a_node_is_told_as_the_client_reads_it(api: Api):
    name = f"node-{api.namespace}"
    condition = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "gone"}
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
    api.post(NODES, {"metadata": {"name": name}})
    api.patch(NODES, name, {"spec": {"taints": taints}})
    api.patch(NODES, name, {"status": {"conditions": [condition], "declaredFeatures": ["X"]}}, "status")
    node = api.run(api.client.get(NODES, None, name))
    assert [(taint.key, taint.effect) for taint in node.spec.taints] == [
        ("node.kubernetes.io/unreachable", "NoExecute")
    ]
    assert [(each.type, each.status, each.reason) for each in node.status.conditions] == [
        ("Ready", "Unknown", "NodeStatusUnknown")
    ]
    assert node.status.declared_features == ("X",)


# Pods


def test_a_pod_is_told_as_the_client_reads_it(api: Api):
    api.post(PODS, a_pod(node="n", labels={"a": "b"}))
    ended = {"exitCode": 139, "reason": "Error", "signal": 11, "startedAt": "2026-11-21T10:00:00Z"}
    status = {"name": "trainer", "restartCount": 2, "ready": False, "image": "x", "imageID": "x"}
    told = {"phase": "Running", "containerStatuses": [{**status, "state": {"terminated": ended}}]}
    api.patch(PODS, "p", {"status": told}, "status")
    pod = api.run(api.client.get(PODS, api.namespace, "p"))
    (container,) = pod.status.container_statuses
    assert (pod.spec.node_name, pod.status.phase, pod.metadata.labels) == ("n", "Running", {"a": "b"})
    assert container.restart_count == 2
    assert container.state.terminated is not None
    assert (container.state.terminated.exit_code, container.state.terminated.signal) == (139, 11)


# Paths


def test_the_version_is_told(api: Api):
    assert msgspec.json.decode(api.run(api.client.raw_get("/version")))["minor"] == "36"


def test_what_is_not_there_is_named(api: Api):
    for resource, name, said in ((PODS, "p", 'pods "p" not found'), (GANGS, "g", 'gangs.fleetctl.dev "g" not found')):
        answer = api.get(resource, name)
        assert answer.refusal == (404, "NotFound")
        assert answer.body["message"] == said


@pytest.mark.parametrize(
    "path", ["/api/v1/things", "/api/v1/namespaces/x/things/y", "/apis/fleetctl.dev/v1alpha1/things"]
)
def test_a_resource_that_nobody_serves_is_not_found(api: Api, path: str):
    with pytest.raises(errors.NotFound):
        api.run(api.client.raw_get(path))


def test_what_a_path_does_not_allow_is_refused(api: Api):
    api.post(PODS, a_pod())
    assert api.ask("POST", api.path(PODS, "p"), {}).refusal == (405, "MethodNotAllowed")
    assert api.ask("PUT", PODS.collection(api.namespace), {}).refusal == (405, "MethodNotAllowed")
    assert api.ask("POST", "/version", {}).status in {404, 405}


def test_a_name_may_be_quoted_in_a_path(api: Api):
    api.post(CONFIG_MAPS, a_config_map("a.b"))
    assert api.ask("GET", CONFIG_MAPS.collection(api.namespace) + "/a%2Eb").meta["name"] == "a.b"
