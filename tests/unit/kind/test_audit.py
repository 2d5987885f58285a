"""Lines as a kube-apiserver 1.36 writes them (apiserver/pkg/registry/generic/registry/store.go), and what they tell."""

import json
from typing import Any

import pytest

from fleetctl.kind.audit import AuditLog
from fleetctl.sim.journal import Object, Wrote

BEGAN = 1795277300.0
"""2026-11-21T16:08:20Z"""
CONTROLLER = {
    "username": "system:serviceaccount:fleetctl-system:fleetctl-controller",
    "extra": {"authentication.kubernetes.io/pod-name": ["fleetctl-controller-7d9"]},
}
KUBELET = {"username": "system:node:fleetctl-worker2"}
SCHEDULER = {"username": "system:kube-scheduler"}
COLLECTOR = {"username": "system:serviceaccount:kube-system:generic-garbage-collector"}
PEOPLE = {"username": "kubernetes-admin"}
STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def line(
    verb: str,
    resource: str,
    answer: Object | None = None,
    *,
    by: Object = PEOPLE,
    name: str | None = None,
    second: float = 26.0,
    code: int = 200,
    uri: str = "/api/v1/some/path",
    asked: Any = None,
    stage: str = "ResponseComplete",
) -> bytes:
    plural, _, subresource = resource.partition("/")
    meta = (answer or {}).get("metadata") or {}
    ref = {"resource": plural, "apiVersion": "v1"}
    if subresource:
        ref["subresource"] = subresource
    if plural != "nodes":
        ref["namespace"] = meta.get("namespace", "default")
    if name or (meta.get("name") and verb != "create"):
        ref["name"] = name or meta["name"]
    told = {
        "kind": "Event",
        "stage": stage,
        "verb": verb,
        "user": by,
        "objectRef": ref,
        "requestURI": uri,
        "responseStatus": {"metadata": {}, "code": code},
        "stageTimestamp": f"2026-11-21T16:08:{second:09.6f}Z",
    }
    if asked is not None:
        told["requestObject"] = asked
    if answer is not None:
        told["responseObject"] = answer
    return json.dumps(told).encode()


def pod(version: int, *, uid: str = "u1", node: str = "", phase: str = "Pending", **meta: Any) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": "llm-3", "namespace": "default", "uid": uid, "resourceVersion": str(version), **meta},
        "spec": {"terminationGracePeriodSeconds": 20} | ({"nodeName": node} if node else {}),
        "status": {"phase": phase},
    }


def gang(version: int, **meta: Any) -> Object:
    named = {"name": "llm", "namespace": "default", "uid": "g1", "resourceVersion": str(version)}
    return {"kind": "Gang", "metadata": {**named, **meta}, "spec": {"groups": []}}


def dying(grace: int) -> Object:
    return {"deletionTimestamp": "2026-11-21T16:08:46Z", "deletionGracePeriodSeconds": grace}


def gone(uid: str, kind: str = "gangs") -> Object:
    return {**STATUS, "details": {"name": "x", "kind": kind, "uid": uid}}


def told(log: AuditLog, *lines: bytes) -> list[Wrote]:
    return [wrote for each in lines for wrote in log.events(each)]


def short(wrote: Wrote) -> tuple[str, str, str, str]:
    """Who, verb, and the versions before and after."""
    before, after = (b["metadata"]["resourceVersion"] if b else "-" for b in (wrote.before, wrote.after))
    return wrote.actor, wrote.verb, before, after


@pytest.fixture
def log() -> AuditLog:
    return AuditLog(BEGAN)


@pytest.fixture
def running() -> AuditLog:
    """A pod u1 of version 10 runs."""
    log = AuditLog(BEGAN)
    log.know("pods", pod(10, node="worker", phase="Running"))
    return log


def test_it_knows_the_pods_that_are_there(log: AuditLog) -> None:
    def member(version: int, **more: Any) -> Any:
        body = pod(version, **more)
        return {**body, "metadata": {**body["metadata"], "labels": {"gang": "llm"}}}

    log.know("pods", member(5))
    log.know("pods", {"metadata": {"namespace": "default", "name": "another", "uid": "u2", "resourceVersion": "6"}})
    told(log, line("patch", "pods/status", member(7, phase="Running"), by=KUBELET))
    assert log.pods("default", "gang", "llm") == [member(7, phase="Running")]
    assert log.pods("default", "gang", "other") == log.pods("elsewhere", "gang", "llm") == []


def test_a_creation_and_a_status_follow_each_other(log):
    first, second = told(
        log,
        line("create", "pods", pod(5), by=CONTROLLER, second=26.25, code=201),
        line("patch", "pods/status", pod(7, phase="Running"), by=KUBELET, second=27.5),
    )
    assert first == Wrote(
        at=6.25,
        actor="controller/fleetctl-controller-7d9",
        verb="create",
        plural="pods",
        namespace="default",
        name="llm-3",
        before=None,
        after=pod(5),
    )
    assert second == Wrote(
        at=7.5,
        actor="kubelet/fleetctl-worker2",
        verb="patch",
        plural="pods",
        namespace="default",
        name="llm-3",
        subresource="status",
        before=pod(5),
        after=pod(7, phase="Running"),
    )


@pytest.mark.parametrize(
    ("user", "actor"),
    [
        ({"username": CONTROLLER["username"]}, "controller/?"),
        (SCHEDULER, "scheduler"),
        ({"username": "system:serviceaccount:kube-system:node-controller"}, "node-lifecycle"),
        ({"username": "system:serviceaccount:kube-system:pod-garbage-collector"}, "pod-gc"),
        (COLLECTOR, "garbage-collector"),
        ({"username": "system:serviceaccount:kube-system:taint-eviction-controller"}, "taint-eviction-controller"),
        ({"username": "system:serviceaccount:default:somebody"}, "somebody"),
        (PEOPLE, "somebody"),
    ],
)
def test_every_user_has_a_name_in_the_journal(log, user, actor):
    assert [w.actor for w in told(log, line("create", "pods", pod(5), by=user, code=201))] == [actor]


@pytest.mark.parametrize(
    "nothing",
    [
        b"",
        b'{"kind":"Event","stage":"ResponseComp',
        b'{"name":"caf\xc3',
        line("get", "pods", pod(5)),
        line("create", "pods", pod(5), code=409),
        line("create", "pods", pod(5), code=101),
        line("create", "pods", pod(5), code=201, stage="Panic"),
        line("create", "pods", pod(5), code=201, uri="/api/v1/namespaces/default/pods?dryRun=All"),
    ],
)
def test_reads_failures_and_torn_lines_tell_nothing(log, nothing):
    assert told(log, nothing) == []


def test_what_was_there_before_is_created_by_somebody_at_the_start(log):
    node = {"metadata": {"name": "worker", "uid": "n", "resourceVersion": "3"}, "spec": {}}
    known = log.know("nodes", node)
    assert (known.at, known.namespace, known.name, short(known)) == (
        0.0,
        "",
        "worker",
        ("somebody", "create", "-", "3"),
    )
    changed = {**node, "metadata": {**node["metadata"], "resourceVersion": "4"}}
    assert [short(w) for w in told(log, line("patch", "nodes/status", changed, by=KUBELET))] == [
        ("kubelet/fleetctl-worker2", "patch", "3", "4")
    ]


def test_an_object_that_is_gone_does_not_come_back_with_a_late_line(running):
    [ended] = told(running, line("delete", "pods", pod(12, **dying(0))))
    assert ended.after is None
    assert told(running, line("create", "pods", pod(5), code=201), line("patch", "pods/status", pod(11))) == []


def test_a_late_answer_and_one_that_changed_nothing_are_dropped(running):
    writes = told(
        running,
        line("patch", "pods/status", pod(99)),
        line("patch", "pods/status", pod(100)),
        line("patch", "pods/status", pod(100)),
        line("patch", "pods/status", pod(98)),
    )
    assert [short(w)[2:] for w in writes] == [("10", "99"), ("99", "100")]


def test_what_comes_before_the_creation_waits_for_it_and_times_never_go_back(log):
    target = {"metadata": {"name": "llm-3", "uid": "u1"}, "target": {"kind": "Node", "name": "worker"}}
    early = [
        line("create", "pods/binding", STATUS, by=SCHEDULER, name="llm-3", asked=target, second=26.2, code=201),
        line("patch", "pods/status", pod(8, node="worker"), by=KUBELET, second=26.3),
    ]
    assert told(log, *early) == []
    writes = told(log, line("create", "pods", pod(5), by=CONTROLLER, second=26.1, code=201))
    assert [(w.verb, w.actor.partition("/")[0]) for w in writes] == [
        ("create", "controller"),
        ("update", "scheduler"),
        ("patch", "kubelet"),
    ]
    assert [w.at for w in writes] == [pytest.approx(6.3)] * 3


def test_a_creation_by_put_or_apply_is_one(log):
    assert [short(w)[1:] for w in told(log, line("patch", "gangs", gang(5), code=201))] == [("create", "-", "5")]


def test_a_generated_name_is_read_from_the_answer(log):
    event = {"metadata": {"name": "llm.17f", "namespace": "default", "uid": "e", "resourceVersion": "9"}, "note": "n"}
    [wrote] = told(log, line("create", "events", event, by=CONTROLLER, code=201))
    assert (wrote.plural, wrote.name, wrote.after) == ("events", "llm.17f", event)


def test_a_binding_names_the_node_and_keeps_the_version(log):
    log.know("pods", pod(5))
    target = {"metadata": {"name": "llm-3", "uid": "u1"}, "target": {"kind": "Node", "name": "worker"}}
    bind = line("create", "pods/binding", STATUS, by=SCHEDULER, name="llm-3", asked=target, code=201)
    [wrote] = told(log, bind)
    assert (short(wrote), wrote.subresource) == (("scheduler", "update", "5", "5"), "binding")
    assert (wrote.before, wrote.after) == (pod(5), pod(5, node="worker"))
    assert told(log, bind) == []


def test_a_binding_of_the_next_pod_waits_for_its_creation(log):
    log.know("pods", pod(5))
    target = {"metadata": {"name": "llm-3", "uid": "u2"}, "target": {"kind": "Node", "name": "worker"}}
    bind = line("create", "pods/binding", STATUS, by=SCHEDULER, name="llm-3", asked=target, code=201)
    writes = told(log, bind, line("create", "pods", pod(9, uid="u2"), by=CONTROLLER, code=201))
    assert [short(w)[1:] for w in writes] == [("delete", "5", "-"), ("create", "-", "9"), ("update", "9", "9")]


# Deletions


def test_a_pod_with_grace_goes_when_its_kubelet_says_so(running):
    writes = told(
        running,
        line("delete", "pods", pod(11, node="w", **dying(20)), by=CONTROLLER),
        line("delete", "pods", pod(11, node="w", **dying(20)), by=CONTROLLER),  # is under way: changes nothing
        line("patch", "pods/status", pod(12, node="w", phase="Failed", **dying(20)), by=KUBELET),
        line("delete", "pods", pod(12, node="w", phase="Failed", **dying(20)), by=COLLECTOR),
        line("delete", "pods", pod(14, node="w", phase="Failed", **dying(0)), by=KUBELET),
        line("delete", "pods", pod(13, node="w", phase="Failed", **dying(0)), by=CONTROLLER),  # won by the kubelet
    )
    assert [(short(w)[0].partition("/")[0], *short(w)[1:]) for w in writes] == [
        ("controller", "delete", "10", "11"),
        ("kubelet", "patch", "11", "12"),
        ("kubelet", "delete", "12", "-"),
    ]


def test_a_pod_without_grace_goes_at_once_unless_a_finalizer_holds_it(running):
    held = dying(0) | {"finalizers": ["batch.kubernetes.io/job-tracking"]}
    writes = told(
        running,
        line("delete", "pods", pod(11, node="w", **held)),
        line(
            "patch", "pods", pod(11, node="w", **dying(0)), by=COLLECTOR
        ),  # was not stored: the version is the old one
        line("patch", "pods/status", pod(10, node="w"), by=KUBELET),
    )
    assert [short(w)[1:] for w in writes] == [("delete", "10", "11"), ("delete", "11", "-")]


def test_an_object_without_finalizers_is_gone_when_the_answer_is_a_status(log):
    log.know("gangs", gang(10))
    writes = told(
        log,
        line("delete", "gangs", gone("g1"), name="llm"),
        line("patch", "gangs/status", gang(11), by=CONTROLLER),
    )
    assert [(short(w), w.before, w.after) for w in writes] == [(("somebody", "delete", "10", "-"), gang(10), None)]


def test_the_late_end_of_an_older_object_does_not_end_the_newer(log):
    log.know("gangs", gang(20))
    assert told(log, line("delete", "gangs", gone("g0"), name="llm")) == []


def test_a_foreground_deletion_ends_when_the_collector_takes_the_finalizer_away(log):
    log.know("gangs", gang(10))
    marks = dying(0) | {"finalizers": ["foregroundDeletion"]}
    [asked] = told(log, line("delete", "gangs", gang(11, **marks)))
    assert short(asked)[1:] == ("delete", "10", "11")
    partial = {"kind": "PartialObjectMetadata", "metadata": gang(11, **dying(0))["metadata"]}
    [ended] = told(log, line("patch", "gangs", partial, by=COLLECTOR))
    assert short(ended) == ("garbage-collector", "delete", "11", "-")


def test_an_answer_of_metadata_only_keeps_the_rest(running):
    partial = {"kind": "PartialObjectMetadata", "metadata": pod(11, labels={"a": "b"})["metadata"]}
    [wrote] = told(running, line("patch", "pods", partial, by=COLLECTOR))
    assert wrote.after == pod(11, node="worker", phase="Running", labels={"a": "b"})


def test_a_new_object_of_the_name_ends_the_old_one_unless_its_end_was_seen(running):
    [ended, created] = told(running, line("create", "pods", pod(20, uid="u2"), by=CONTROLLER, code=201))
    assert short(ended) == ("somebody", "delete", "10", "-")
    assert short(created)[1:] == ("create", "-", "20")
    late = [
        line("delete", "pods", pod(15, node="w", **dying(0)), by=KUBELET),
        line("create", "pods", pod(4, uid="u0"), by=CONTROLLER, code=201),
    ]
    assert told(running, *late) == []
    last = line("delete", "pods", pod(21, uid="u2", **dying(0)))
    again = line("create", "pods", pod(30, uid="u3"), code=201)
    assert [short(w)[1:] for w in told(running, last, again)] == [("delete", "20", "-"), ("create", "-", "30")]


@pytest.mark.parametrize("name", ["pods", "gangs"])
def test_a_deletion_that_is_only_tried_tells_nothing(name):
    log = AuditLog(BEGAN)
    log.know("gangs", gang(10))
    log.know("pods", pod(10))
    tried = {"kind": "DeleteOptions", "dryRun": ["All"]}
    answers = {"pods": pod(10, **dying(0)), "gangs": gone("g1")}
    named = {"pods": "llm-3", "gangs": "llm"}
    assert told(log, line("delete", name, answers[name], asked=tried, name=named[name])) == []
    evicted = line("create", "pods/eviction", STATUS, name="llm-3", asked={"deleteOptions": tried}, code=201)
    assert told(log, evicted) == []


def test_an_eviction_deletes_although_no_line_says_so(running):
    evict = line("create", "pods/eviction", STATUS, name="llm-3", asked={"kind": "Eviction"}, code=201)
    [wrote] = told(running, evict)
    assert (short(wrote), wrote.subresource) == (("somebody", "delete", "10", "10"), "")
    marks = {"deletionTimestamp": "2026-11-21T16:08:26.000000Z", "deletionGracePeriodSeconds": 20}
    assert wrote.after == pod(10, node="worker", phase="Running", **marks)
    assert told(running, evict) == []
    assert told(running, line("patch", "pods/status", pod(11, node="worker"), by=KUBELET)) == []  # from before it
    now = evict.replace(b'{"kind": "Eviction"}', b'{"deleteOptions": {"gracePeriodSeconds": 0}}')
    assert [short(w)[1:] for w in told(running, now)] == [("delete", "10", "-")]


@pytest.mark.parametrize("known", [pod(10), pod(10, node="w", phase="Failed")])
def test_an_eviction_of_a_pod_that_does_not_run_ends_it(log, known):
    log.know("pods", known)
    [wrote] = told(log, line("create", "pods/eviction", STATUS, name="llm-3", asked={"kind": "Eviction"}, code=201))
    assert short(wrote)[1:] == ("delete", "10", "-")


def test_a_deletion_of_many_tells_one_by_one(running):
    waiting, ending = pod(6, uid="w"), pod(7, uid="e", node="w", **dying(20))
    waiting["metadata"]["name"], ending["metadata"]["name"] = "llm-4", "llm-5"
    running.know("pods", waiting)
    running.know("pods", ending)
    found = {"kind": "PodList", "items": [pod(10, node="worker", phase="Running"), waiting, ending]}
    writes = told(running, line("deletecollection", "pods", found))
    assert [(w.name, *short(w)[1:]) for w in writes] == [("llm-3", "delete", "10", "10"), ("llm-4", "delete", "6", "-")]
    assert writes[0].after["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize(
    ("meta", "policy", "stays"),
    [({}, "Foreground", True), ({"finalizers": ["x/y"]}, "Background", True), ({}, "Background", False)],
)
def test_a_deletion_of_many_gangs_leaves_those_with_finalizers(log, meta, policy, stays):
    log.know("gangs", gang(10, **meta))
    deleted = line("deletecollection", "gangs", {"items": [gang(10, **meta)]}, asked={"propagationPolicy": policy})
    [wrote] = told(log, deleted)
    assert bool(wrote.after) == stays
    assert told(log, deleted) == []


# What else is written


def test_the_controllers_other_writes_are_told_without_bodies(log):
    body = {"metadata": {"name": "llm", "namespace": "default", "resourceVersion": ""}}
    created, deleted = told(
        log,
        line("create", "services", by=CONTROLLER, name="llm", code=201),
        line("delete", "services", by=CONTROLLER, name="llm"),
    )
    assert (created.verb, created.plural, created.before, created.after) == ("create", "services", None, body)
    assert (deleted.verb, deleted.before, deleted.after) == ("delete", body, None)


@pytest.mark.parametrize(
    "nothing",
    [
        line("update", "leases", by=CONTROLLER, name="fleetctl"),
        line("create", "tokenreviews", by=CONTROLLER, code=201),
        line("create", "subjectaccessreviews", by=CONTROLLER, code=201),
        line("create", "serviceaccounts/token", by=CONTROLLER, name="default", code=201),
        line("create", "services", name="llm", code=201),
        line("create", "pods/proxy", name="llm-3"),
        line("create", "pods/proxy", STATUS, name="llm-3"),
        line("patch", "pods", name="llm-3", asked=[{"op": "test", "path": "/x", "value": 1}]),
    ],
)
def test_what_writes_no_object_of_interest_tells_nothing(running, nothing):
    assert told(running, nothing) == []
