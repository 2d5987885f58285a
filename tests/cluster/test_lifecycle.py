"""The life of a gang among people: what each case ends in, and what the user reads on the way. One gang a story.

The longest come first, because they run at the same time.
"""

import json
import time

import pytest
from fleet import (
    WORKERS,
    Gang,
    apply,
    fleetctl_status,
    get,
    held_with,
    kubectl,
    no_longer_held,
    plain_template,
    until,
)

pytestmark = [pytest.mark.usefixtures("fleet"), pytest.mark.together]


def test_a_pod_with_a_foreign_finalizer_is_named_and_nothing_hangs() -> None:
    with Gang("stuck", ranks=2) as gang:
        gang.running(attempt=1)
        gang.moved.add(1)
        _finalizers(gang.pod(1), ["example.com/keep"])
        kubectl("delete", "pod", gang.pod(1), "--wait=false", "--grace-period=1")
        held_with(gang, "rank 1: the pod stays Terminating: finalizer example.com/keep", 90)
        kubectl("delete", "gang", "stuck", timeout=20)  # does not wait for it
        with Gang("stuck2", ranks=2) as other:
            other.running(attempt=1)
        _finalizers(gang.pod(1), None)


def _finalizers(pod: str, names: list[str] | None) -> None:
    kubectl("patch", "pod", pod, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": names}}))


def test_deleted_and_created_again_under_the_same_name() -> None:
    with Gang("again", ranks=4) as gang:
        gang.running(attempt=1)
        old = {seen.uid for seen in gang.seen().values()}
        kubectl("delete", "gang", "again")  # returns while the pods are still terminating
        gang.create()
        until("the new gang runs", lambda: gang.attempt().get("released") == 1 and not _uids(gang) & old, 90)
        until("all trainers run", lambda: len([s for s in gang.records() if s["uid"] in _uids(gang)]) == 4)
        gang.forget_records()  # two gangs of one name are not one story to the judge
        gang.tell(2, "exit 1")
        gang.running(attempt=2)


def _uids(gang: Gang) -> set[str]:
    return {seen.uid for seen in gang.seen().values()}


def test_a_pod_that_somebody_deletes_even_by_force_is_made_anew() -> None:
    with Gang("robbed", ranks=4) as gang:
        gang.running(attempt=1)
        gang.moved |= {1, 2}
        kubectl("delete", "pod", gang.pod(1), "--wait=false")
        gang.running(attempt=2)
        assert gang.attempt()["cause"]["message"] in (
            f"the pod of rank 1, {gang.pod(1)}, is being deleted",
            f"the pod of rank 1, {gang.pod(1)}, is gone",
        )
        gang.fenced.add(gang.seen()[2].uid)
        kubectl("delete", "pod", gang.pod(2), "--force", "--grace-period=0")
        gang.running(attempt=3)
        assert gang.status()["history"][0]["recreated"] == "2"
        assert gang.status()["budgets"]["application"] == {}


def test_a_name_that_somebody_else_has_is_waited_for() -> None:
    pod = {"name": "clash-worker-1", "labels": {"fleetctl.dev/gang": "nobody"}}
    spec = {"containers": [{"name": "c", "image": "busybox:test", "command": ["sleep", "1000"]}]}
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": spec})
    with Gang("clash", ranks=2) as gang:
        held_with(gang, "pod clash-worker-1 exists and is not this gang's: delete it, or give the gang another name")
        assert get("pod", "clash-worker-1")["metadata"]["labels"] == {"fleetctl.dev/gang": "nobody"}
        kubectl("delete", "pod", "clash-worker-1", "--grace-period=1")
        gang.running(attempt=1)
        assert no_longer_held(gang)


def test_two_gangs_whose_pods_would_have_the_same_name() -> None:
    """Gang "a" with group "b-worker", and gang "a-b" with group "worker"."""
    second = Gang("a", ranks=2)
    second.manifest["spec"]["groups"][0]["name"] = "b-worker"
    with Gang("a-b", ranks=2) as first, second:
        first.running(attempt=1)
        held_with(second, "pod a-b-worker-0 exists and is not this gang's")
        assert first.attempt()["target"] == 1


def test_suspended_and_resumed() -> None:
    with Gang("sleeper", ranks=4) as gang:
        gang.running(attempt=1)
        gang.moved |= {0, 1, 2, 3}
        _suspend(gang, True)
        until("its pods are gone", lambda: not gang.pods())
        suspended = gang.holds("Suspended")
        assert suspended
        assert suspended["message"] == "spec.suspend is true: the gang has no pods until it is false"
        assert "Suspended" in kubectl("get", "gang", gang.name)
        assert "State:    Suspended" in fleetctl_status(gang)
        _suspend(gang, False)
        gang.running(attempt=2)
        assert gang.attempt()["cause"]["message"] == "the gang is resumed"
        assert gang.holds("Suspended") is None
        assert set(map(str, gang.status()["budgets"].values())) == {"{}"}
        assert "resumed, released after" in fleetctl_status(gang)


def _suspend(gang: Gang, yes: bool) -> None:
    kubectl("patch", "gang", gang.name, "--type=merge", "-p", json.dumps({"spec": {"suspend": yes}}))


def test_paused_nothing_is_done_about_a_fault() -> None:
    with Gang("paused", ranks=2) as gang:
        gang.running(attempt=1)
        _pause(gang, True)
        held_with(gang, "spec.recovery.paused is true: nothing is done until it is false")
        gang.tell(1, "exit 1")
        until("the rank has restarted by itself", lambda: gang.seen()[1].restarts["fleetctl-agent"] == 1)
        time.sleep(5)
        assert len(gang.records()) == 2
        _pause(gang, False)
        gang.running(attempt=2)
        assert no_longer_held(gang)


def _pause(gang: Gang, yes: bool) -> None:
    patch = {"spec": {"recovery": {"paused": yes}}}
    kubectl("patch", "gang", gang.name, "--type=merge", "-p", json.dumps(patch))


def test_observed_a_rank_that_restarted_by_itself_is_let_in_alone() -> None:
    with Gang("observed", ranks=2, spec={"recovery": {"mode": "Observe"}}) as gang:
        gang.running(attempt=1)
        gang.tell(1, "exit 6")
        until("rank 1 has started again", lambda: len(gang.records()) == 3)
        assert gang.attempt()["target"] == 1
        until("an Event says what would be done", lambda: any("would begin attempt 2" in m for _, m in gang.events()))
        until("it is not held any longer", lambda: no_longer_held(gang))


def test_an_image_that_cannot_be_pulled_is_named() -> None:
    template = plain_template("imageless", image="nowhere.invalid/trainer:1")
    with Gang("imageless", ranks=2, template=template) as gang:
        held_with(gang, "rank 0-1: container fleetctl-life cannot pull its image; the kubelet keeps trying")


def test_a_gang_in_the_network_of_its_nodes_with_pull_secrets() -> None:
    template = plain_template("hostly")
    template["spec"] |= {"hostNetwork": True, "imagePullSecrets": [{"name": "registry"}]}
    with Gang("hostly", ranks=4, template=template) as gang:
        gang.running(attempt=1)
        assert set(gang.nodes().values()) == set(WORKERS)
        assert all(pod["spec"]["imagePullSecrets"] == [{"name": "registry"}] for pod in gang.pods())
        assert "one rank a node" in fleetctl_status(gang)
        gang.tell(3, "exit 1")
        gang.running(attempt=2)
