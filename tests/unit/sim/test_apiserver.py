"""The simulated API server does with objects what Kubernetes' own does."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetctl.sim.answers import ApiFailure
from fleetctl.sim.journal import Listed, Object
from fleetctl.sim.watch import Watch

from .apiworld import JSON, MERGE, NS, ApiWorld

POD_PATH = "/api/v1/namespaces/default/pods"
GANG_PATH = "/apis/fleetctl.dev/v1alpha1/namespaces/default/gangs"


@pytest.fixture
def world() -> ApiWorld:
    return ApiWorld()


FIELDS = st.sampled_from(
    [
        *("apiVersion", "kind", "metadata", "spec", "status", "name", "namespace", "labels", "finalizers", "nodeName"),
        *("uid", "resourceVersion", "preconditions", "gracePeriodSeconds", "deletionTimestamp", "annotations"),
    ]
)


def a_pod(name: str = "p", **meta: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": {"containers": []}}


def a_gang(name: str = "llm", **meta: Any) -> Object:
    return {
        "apiVersion": "fleetctl.dev/v1alpha1",
        "kind": "Gang",
        "metadata": {"name": name, **meta},
        "spec": {"suspend": False},
    }


# Creation


def test_a_new_object_is_given_what_only_the_server_gives(world: ApiWorld):
    code, pod = world.ask("POST", POD_PATH, a_pod(uid="mine", generation=7, deletionTimestamp="2020-01-01T00:00:00Z"))
    assert code == 201
    meta = pod["metadata"]
    assert meta["creationTimestamp"] == "2026-11-21T00:00:00Z"
    assert meta["resourceVersion"] == "2"
    assert meta["generation"] == 1
    assert meta["namespace"] == NS
    assert len(meta["uid"]) == 36
    assert "deletionTimestamp" not in meta
    assert pod["status"] == {"phase": "Pending"}
    assert world.ask("GET", f"{POD_PATH}/p") == (200, pod)


def test_uids_are_new_for_every_object_and_the_same_in_every_run(world: ApiWorld):
    first = [world.create(name=name)["metadata"]["uid"] for name in "ab"]
    other = ApiWorld()
    assert first == [other.create(name=name)["metadata"]["uid"] for name in "ab"]
    assert len(set(first)) == 2


def test_a_new_object_has_no_version_yet(world: ApiWorld):
    code, answer = world.ask("POST", POD_PATH, a_pod(resourceVersion="1"))
    assert (code, answer["reason"]) == (500, "")
    assert world.pod() is None


def test_metadata_that_says_nothing_is_not_kept(world: ApiWorld):
    _, pod = world.ask("POST", POD_PATH, a_pod(labels={}, finalizers=[], annotations=None))
    assert pod["metadata"].keys().isdisjoint({"labels", "finalizers", "annotations"})
    assert world.ask("PATCH", f"{POD_PATH}/p", {"metadata": {"labels": {}, "finalizers": []}}, MERGE) == (200, pod)


def test_a_name_is_generated_on_request(world: ApiWorld):
    body = {**a_pod(), "metadata": {"generateName": "p-"}}
    names = [world.ask("POST", POD_PATH, body)[1]["metadata"]["name"] for _ in range(2)]
    assert names[0] != names[1]
    assert all(name.startswith("p-") and len(name) > 2 for name in names)


def test_the_status_of_a_new_gang_is_dropped_and_that_of_a_new_node_is_kept(world: ApiWorld):
    _, gang = world.ask("POST", GANG_PATH, {**a_gang(), "status": {"attempt": {"target": 9}}})
    assert "status" not in gang
    node = world.create("nodes", "n", status={"declaredFeatures": ["X"]})
    assert node["status"] == {"declaredFeatures": ["X"]}


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (a_pod("taken"), 409, "AlreadyExists"),
        (a_pod("Not A Name"), 422, "Invalid"),
        (a_pod(""), 422, "Invalid"),
        (a_pod(namespace="elsewhere"), 400, "BadRequest"),
        ({**a_pod(), "kind": "Service"}, 400, "BadRequest"),
        ({"apiVersion": "v1", "kind": "Pod"}, 400, "BadRequest"),
        ({**a_pod(), "spec": []}, 400, "BadRequest"),
        (a_pod(labels={"a": 1}), 400, "BadRequest"),
        (a_pod(annotations=[]), 400, "BadRequest"),
        (a_pod(finalizers="a/b"), 400, "BadRequest"),
        (b"{", 400, "BadRequest"),
        (b"[]", 400, "BadRequest"),
    ],
)
def test_a_creation_is_refused(world: ApiWorld, body: Any, code: int, reason: str):
    world.create(name="taken")
    before = world.api.version
    status, answer = world.ask("POST", POD_PATH, body)
    assert (status, answer["kind"], answer["code"], answer["reason"]) == (code, "Status", code, reason)
    assert answer["message"]
    assert world.api.version == before


def test_a_dry_run_says_what_would_be_and_leaves_no_trace(world: ApiWorld):
    code, pod = world.ask("POST", POD_PATH, a_pod(), dryRun="All", fieldValidation="Strict")
    assert (code, pod["metadata"]["name"]) == (201, "p")
    assert world.pod() is None
    assert world.events == []
    world.create()
    assert world.ask("POST", POD_PATH, a_pod(), dryRun="All")[0] == 409


def test_an_actor_in_the_cluster_is_refused_as_a_client_is(world: ApiWorld):
    world.create()
    with pytest.raises(ApiFailure, match="already exists") as caught:
        world.create()
    assert caught.value.code == 409


# Changes


def test_every_change_takes_the_next_version_whatever_it_is_of(world: ApiWorld):
    versions = [world.create(plural, "x")["metadata"]["resourceVersion"] for plural in ("pods", "nodes", "leases")]
    assert versions == ["2", "3", "4"]
    world.label("x", a="b")
    assert world.api.version == 5


def test_a_change_that_changes_nothing_is_none(world: ApiWorld):
    pod = world.create(labels={"a": "b"})
    story = world.watch(resourceVersion="2")
    world.label(a="b")
    assert world.ask("PUT", f"{POD_PATH}/p", pod) == (200, pod)
    assert world.ask("PATCH", f"{POD_PATH}/p", {"metadata": {"labels": {"a": "b"}}}, MERGE) == (200, pod)
    world.phase("Pending")
    assert world.ask("PUT", f"{POD_PATH}/p/status", pod) == (200, pod)
    assert (world.api.version, story, len(world.wrote)) == (2, [], 1)
    _, gang = world.ask("POST", GANG_PATH, a_gang())
    assert world.ask("PUT", f"{GANG_PATH}/llm/status", gang) == (200, gang)


def test_objects_are_never_changed_in_place(world: ApiWorld):
    before = world.create(labels={"a": "b"})
    world.label(a="c")
    assert before["metadata"]["labels"] == {"a": "b"}
    assert [(w.before and w.before["metadata"]["labels"], w.after and w.after["metadata"]["labels"])
            for w in world.wrote] == [(None, {"a": "b"}), ({"a": "b"}, {"a": "c"})]  # fmt: skip


def test_the_generation_counts_changes_of_the_spec_only(world: ApiWorld):
    _, gang = world.ask("POST", GANG_PATH, a_gang())
    world.ask("PATCH", f"{GANG_PATH}/llm", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    world.ask("PATCH", f"{GANG_PATH}/llm/status", {"status": {"attempt": {"target": 1}}}, MERGE)
    _, same = world.ask("GET", f"{GANG_PATH}/llm")
    _, changed = world.ask("PATCH", f"{GANG_PATH}/llm", {"spec": {"suspend": True}}, MERGE)
    assert [g["metadata"]["generation"] for g in (gang, same, changed)] == [1, 1, 2]


@pytest.mark.parametrize("plural", ["gangs", "pods", "nodes"])
def test_the_status_is_written_at_its_own_path_and_only_there(world: ApiWorld, plural: str):
    old = world.create(plural, "x", spec={"a": 1}, status={"phase": "Pending"})
    both = lambda b: {**b, "spec": {"a": 2}, "status": {"b": 2}, "metadata": {**b["metadata"], "labels": {"c": "2"}}}  # noqa: E731
    place = old["metadata"].get("namespace", "")
    status = world.api.update("a", plural, place, "x", both, subresource="status")
    assert status is not None
    assert (status["spec"], status["status"], status["metadata"].get("labels")) == ({"a": 1}, {"b": 2}, None)
    main = world.api.update("a", plural, place, "x", lambda b: {**both(b), "status": {"b": 3}})
    assert main is not None
    assert (main["spec"], main["status"], main["metadata"]["labels"]) == ({"a": 2}, {"b": 2}, {"c": "2"})
    assert [w.subresource for w in world.wrote] == ["", "status", ""]


def test_an_object_without_a_status_is_given_none_with_its_spec_and_may_lose_the_one_it_has(world: ApiWorld):
    world.create("gangs", "llm", spec={"a": 1})
    path = f"{GANG_PATH}/llm"
    assert "status" not in world.ask("PATCH", path, {"spec": {"a": 2}, "status": {"b": 1}}, MERGE)[1]
    assert world.ask("PATCH", f"{path}/status", {"status": {"b": 1}}, MERGE)[1]["status"] == {"b": 1}
    assert "status" not in world.ask("PATCH", f"{path}/status", {"status": None}, MERGE)[1]


def test_what_has_no_status_has_no_path_for_one(world: ApiWorld):
    lease = world.create("leases", "l", spec={})
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l/status"
    assert world.ask("PUT", path, lease)[0] == 404


def test_what_is_the_servers_cannot_be_written(world: ApiWorld):
    pod = world.create()
    meta = {**pod["metadata"], "creationTimestamp": None, "generation": 99, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    _, after = world.ask("PUT", f"{POD_PATH}/p", {**pod, "metadata": {**meta, "labels": {"a": "b"}}})
    assert after["metadata"] == {**pod["metadata"], "labels": {"a": "b"}, "resourceVersion": "3"}


@pytest.mark.parametrize(
    ("meta", "code", "reason"),
    [
        ({"resourceVersion": "1"}, 409, "Conflict"),
        ({"uid": "another"}, 409, "Conflict"),
        ({"resourceVersion": None}, 422, "Invalid"),
        ({"name": "q"}, 400, "BadRequest"),
    ],
)
@pytest.mark.parametrize("subresource", ["", "/status"])
def test_a_replacement_is_refused(world: ApiWorld, meta: Object, code: int, reason: str, subresource: str):
    pod = world.create()
    changed = {**pod, "status": {"phase": "Running"}, "metadata": {**pod["metadata"], "labels": {"a": "b"}, **meta}}
    status, answer = world.ask("PUT", f"{POD_PATH}/p{subresource}", changed)
    assert (status, answer["reason"]) == (code, reason)
    assert world.pod() == pod


def test_a_merge_patch_sets_and_removes(world: ApiWorld):
    world.create("configmaps", "c", data={"a": "1", "b": "2"})
    path = "/api/v1/namespaces/default/configmaps/c"
    code, after = world.ask("PATCH", path, {"data": {"a": None, "c": "3"}}, MERGE)
    assert (code, after["data"]) == (200, {"b": "2", "c": "3"})
    assert world.wrote[-1].verb == "patch"


def test_a_merge_patch_cannot_give_another_uid(world: ApiWorld):
    world.create()
    assert world.ask("PATCH", f"{POD_PATH}/p", {"metadata": {"uid": "another"}}, MERGE)[0] == 422


def test_a_merge_patch_may_say_of_which_version_it_speaks(world: ApiWorld):
    world.create()
    patch = {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}
    assert world.ask("PATCH", f"{POD_PATH}/p", patch, MERGE)[0] == 409


@pytest.mark.parametrize("kind", ["strategic-merge-patch+json", "json-patch+json", "apply-patch+yaml"])
def test_other_patches_are_not_simulated(world: ApiWorld, kind: str):
    world.create()
    assert world.ask("PATCH", f"{POD_PATH}/p", {}, f"application/{kind}")[0] == 415


# Deletion


def test_a_pod_that_runs_is_deleted_when_its_kubelet_says_so(world: ApiWorld):
    world.bound(spec={"terminationGracePeriodSeconds": 10})
    code, pod = world.ask("DELETE", f"{POD_PATH}/p")
    meta = pod["metadata"]
    assert code == 200
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) == ("2026-11-21T00:00:10Z", 10)
    assert meta["generation"] == 2
    assert world.pod() == pod
    world.api.delete("kubelet/node-1", "pods", NS, "p", grace_s=0, uid=meta["uid"])
    assert world.pod() is None
    assert [(w.verb, w.actor, w.after is None) for w in world.wrote[1:]] == [
        ("delete", "controller/a", False),
        ("delete", "kubelet/node-1", False),
        ("delete", "kubelet/node-1", True),
    ]


def test_half_a_minute_is_granted_if_nobody_says_otherwise(world: ApiWorld):
    world.bound()
    pod = world.api.delete("somebody", "pods", NS, "p")
    assert pod is not None
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30


def test_a_second_deletion_can_only_shorten_the_first(world: ApiWorld):
    world.bound()
    graces = []
    for asked in (20, None, 25, 20, 5):
        pod = world.api.delete("somebody", "pods", NS, "p", grace_s=asked)
        assert pod is not None
        graces.append((pod["metadata"]["deletionGracePeriodSeconds"], pod["metadata"]["deletionTimestamp"][-3:]))
    assert graces == [(20, "20Z")] * 4 + [(5, "05Z")]
    assert len(world.wrote) == 3


@pytest.mark.parametrize("why", ["unbound", "Succeeded", "Failed", "by force"])
def test_a_pod_of_which_nothing_runs_is_gone_at_once(world: ApiWorld, why: str):
    if why == "unbound":
        world.create()
    else:
        world.bound()
    if why in {"Succeeded", "Failed"}:
        world.phase(why)
    world.api.delete("somebody", "pods", NS, "p", grace_s=0 if why == "by force" else 30)
    assert world.pod() is None
    assert (world.wrote[-1].verb, world.wrote[-1].after) == ("delete", None)


def test_other_objects_are_gone_at_once(world: ApiWorld):
    world.create("services", "s")
    assert world.ask("DELETE", "/api/v1/namespaces/default/services/s")[0] == 200
    assert world.ask("DELETE", "/api/v1/namespaces/default/services/s")[0] == 404


@pytest.mark.parametrize("condition", [{"uid": "another"}, {"resourceVersion": "1"}])
def test_a_deletion_under_a_condition_that_does_not_hold_is_a_conflict(world: ApiWorld, condition: Object):
    world.bound()
    code, answer = world.ask("DELETE", f"{POD_PATH}/p", {"preconditions": condition, "gracePeriodSeconds": 0})
    assert (code, answer["reason"]) == (409, "Conflict")
    assert world.pod() is not None


def test_a_deletion_under_conditions_that_hold_is_carried_out(world: ApiWorld):
    meta = world.bound()["metadata"]
    options = {"preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    assert world.ask("DELETE", f"{POD_PATH}/p", {**options, "gracePeriodSeconds": 0})[0] == 200
    assert world.pod() is None


def without_finalizers(body: Object) -> Object:
    return {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "finalizers"}}


def test_a_finalizer_keeps_an_object_until_it_is_removed(world: ApiWorld):
    world.create("gangs", "llm", finalizers=["a/b"], spec={})
    _, gang = world.ask("DELETE", f"{GANG_PATH}/llm")
    assert gang["metadata"]["deletionTimestamp"] == "2026-11-21T00:00:00Z"
    assert gang["metadata"]["deletionGracePeriodSeconds"] == 0
    assert world.ask("DELETE", f"{GANG_PATH}/llm") == (200, gang)
    story = world.watch(GANG_PATH, resourceVersion=str(world.api.version))
    world.api.update("somebody", "gangs", NS, "llm", without_finalizers)
    assert world.api.get("gangs", NS, "llm") is None
    assert story == ["DELETED llm@4"]
    assert (world.wrote[-1].verb, world.wrote[-1].after) == ("delete", None)


def test_a_pod_goes_when_both_its_finalizers_and_its_grace_have_ended(world: ApiWorld):
    world.bound("kubelet-last", finalizers=["a/b"])
    world.bound("finalizer-last", finalizers=["a/b"])
    for name in ("kubelet-last", "finalizer-last"):
        world.api.delete("somebody", "pods", NS, name)
    world.api.update("somebody", "pods", NS, "kubelet-last", without_finalizers)
    assert world.pod("kubelet-last") is not None
    world.api.delete("kubelet/node-1", "pods", NS, "kubelet-last", grace_s=0)
    assert world.pod("kubelet-last") is None
    waits = world.api.delete("kubelet/node-1", "pods", NS, "finalizer-last", grace_s=0)
    assert waits is not None
    assert world.pod("finalizer-last") == waits
    world.api.update("somebody", "pods", NS, "finalizer-last", without_finalizers)
    assert world.pod("finalizer-last") is None


def test_an_object_that_is_being_deleted_takes_no_new_finalizer(world: ApiWorld):
    pod = world.bound()
    _, pod = world.ask("DELETE", f"{POD_PATH}/p")
    pod["metadata"]["finalizers"] = ["a/b"]
    assert world.ask("PUT", f"{POD_PATH}/p", pod)[0] == 422


def test_what_is_not_there_cannot_be_changed_or_deleted(world: ApiWorld):
    assert world.api.update("somebody", "pods", NS, "p", lambda b: b) is None
    assert world.api.delete("somebody", "pods", NS, "p") is None
    for method, body in (("GET", None), ("PUT", a_pod(resourceVersion="1")), ("PATCH", {}), ("DELETE", None)):
        code, answer = world.ask(method, f"{POD_PATH}/p", body, MERGE if method == "PATCH" else "")
        assert (code, answer["reason"], answer["message"]) == (404, "NotFound", 'pods "p" not found')


# Lists


def names(listing: Object) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


def test_a_list_is_sorted_and_tells_its_version(world: ApiWorld):
    for name in ("b", "c", "a"):
        world.create(name=name)
    _, pods = world.ask("GET", POD_PATH)
    assert (pods["kind"], pods["apiVersion"], pods["metadata"]) == ("PodList", "v1", {"resourceVersion": "4"})
    assert names(pods) == ["a", "b", "c"]
    assert world.ask("GET", "/api/v1/pods")[1] == pods
    assert names(world.ask("GET", "/api/v1/namespaces/other/pods")[1]) == []


def test_the_pages_of_a_list_are_of_one_moment(world: ApiWorld):
    for name in "abcde":
        world.create(name=name)
    _, first = world.ask("GET", POD_PATH, limit="2")
    world.label("c", late="yes")
    world.api.delete("somebody", "pods", NS, "d")
    world.create(name="aa")
    _, second = world.ask("GET", POD_PATH, limit="2", **{"continue": first["metadata"]["continue"]})
    assert world.ask("GET", POD_PATH, limit="2", **{"continue": first["metadata"]["continue"]})[1] == second
    _, third = world.ask("GET", POD_PATH, limit="2", **{"continue": second["metadata"]["continue"]})
    assert [names(page) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert {page["metadata"]["resourceVersion"] for page in (first, second, third)} == {"6"}
    assert "labels" not in second["items"][0]["metadata"]
    assert "continue" not in third["metadata"]


def test_the_next_page_is_gone_once_its_moment_is_forgotten(world: ApiWorld):
    for name in "abc":
        world.create(name=name)
    _, first = world.ask("GET", POD_PATH, limit="2")
    world.label("c", a="b")
    world.api.forget_history()
    code, answer = world.ask("GET", POD_PATH, limit="2", **{"continue": first["metadata"]["continue"]})
    assert (code, answer["reason"]) == (410, "Expired")


def test_the_journal_is_told_of_the_last_page_of_a_list(world: ApiWorld):
    for name in "abc":
        world.create(name=name)
    world.events.clear()
    _, first = world.ask("GET", POD_PATH, limit="2")
    assert world.events == []
    world.ask("GET", POD_PATH, limit="2", **{"continue": first["metadata"]["continue"]})
    assert world.events == [Listed(at=0.0, actor="controller/a", plural="pods")]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("", ["a", "b", "c"]),
        ("app", ["a", "b"]),
        ("app=x", ["a"]),
        ("app==x", ["a"]),
        ("app=x,rank=0", ["a"]),
        ("app=x,rank=1", []),
        ("app in (x, y)", ["a", "b"]),
        ("app in (y),rank", ["b"]),
        ("fleetctl.dev/gang = llm", ["c"]),
        ("app=", []),
        ("!app", ["c"]),
        ("app!=x", ["b", "c"]),
        ("app notin (x)", ["b", "c"]),
        ("app,app notin (x, z)", ["b"]),
    ],
)
def test_labels_select(world: ApiWorld, selector: str, found: list[str]):
    world.create(name="a", labels={"app": "x", "rank": "0"})
    world.create(name="b", labels={"app": "y", "rank": "1"})
    world.create(name="c", labels={"fleetctl.dev/gang": "llm"})
    assert names(world.ask("GET", POD_PATH, labelSelector=selector)[1]) == found


@pytest.mark.parametrize("selector", ["app!", "! ", "!app=x", "app in x", ",", "a b", "app=x,", "app=(x)"])
def test_a_selector_that_makes_no_sense_is_refused(world: ApiWorld, selector: str):
    assert world.ask("GET", POD_PATH, labelSelector=selector)[0] == 400


# Other paths


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["p", "1", "2", "", "Pod", "v1", "default"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=15,
)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"]),
    path=st.sampled_from([POD_PATH, f"{POD_PATH}/p", f"{POD_PATH}/p/status", "/version", "/api/v1/nodes", "/", "/api"]),
    query=st.dictionaries(
        st.sampled_from(["limit", "continue", "labelSelector", "resourceVersion", "watch", "timeoutSeconds", "dryRun"]),
        st.sampled_from(["", "1", "-1", "x", "1:2", "2:0", "a in (b", "true"]),
    ),
    body=JSON_VALUES | st.dictionaries(FIELDS, JSON_VALUES, max_size=6) | st.just(b"{"),
    patch=st.booleans(),
)
def test_whatever_is_asked_there_is_an_answer(method: str, path: str, query: Any, body: Any, patch: bool):
    world = ApiWorld()
    world.create(labels={"a": "b"}, spec={})
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    answer = world.api.handle("somebody", method, path, query, MERGE if patch else JSON, data)
    assert isinstance(answer, Watch) or (200 <= answer.status < 505 and msgspec.json.decode(answer.body))
    assert world.ask("GET", POD_PATH, labelSelector="a")[0] == 200


def test_paths_that_are_no_resource(world: ApiWorld):
    world.api.raw["/version"] = b'{"minor":"36"}'
    assert world.ask("GET", "/version") == (200, {"minor": "36"})
    for path in ("/nothing", "/api/v1/things", "/apis/apps/v1/pods", "/api/v1/pods/p", "/api/v1/namespaces/x/nodes"):
        assert world.ask("GET", path)[0] == 404
    assert world.ask("POST", "/version", {})[0] == 405
    assert world.ask("DELETE", POD_PATH)[0] == 405


def test_a_name_may_be_quoted(world: ApiWorld):
    world.create("events", "a.b")
    assert world.ask("GET", "/apis/events.k8s.io/v1/namespaces/default/events/a%2Eb")[0] == 200


# What is told of it


def test_listeners_hear_of_a_change_after_the_journal_with_the_time_of_the_world(world: ApiWorld):
    heard: list[Any] = []
    world.api.on_change.append(lambda wrote: heard.append((wrote.at, wrote is world.events[-1])))

    async def later() -> None:
        await asyncio.sleep(2.5)
        world.create()

    world.run(later())
    assert heard == [(2.5, True)]
    assert world.api.get("pods", NS, "p") == world.wrote[0].after
