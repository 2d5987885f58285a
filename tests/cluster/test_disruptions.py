"""What befalls a gang from outside: drains, preemption, quotas, and fleetctl itself being upgraded or removed."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import (
    CONTROL_PLANE,
    WORKERS,
    Audit,
    Gang,
    Json,
    apply,
    controller_ready,
    deploy,
    get,
    held_with,
    kubectl,
    no_longer_held,
    on_node,
    plain_template,
)

pytestmark = pytest.mark.usefixtures("fleet")


def test_a_drained_node_costs_its_own_pods() -> None:
    with Gang("drained", ranks=4) as gang:
        gang.running(attempt=1)
        before, node = gang.seen(), gang.nodes()[0]
        lost = {rank for rank, seen in before.items() if seen.node == node}
        gang.moved |= lost
        try:
            kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=90)
            gang.running(attempt=2, within_s=90)
            after = gang.seen()
            assert {rank for rank in range(4) if after[rank].uid != before[rank].uid} == lost
            assert node not in {seen.node for seen in after.values()}
            assert "was evicted (a drain?)" in gang.attempt()["cause"]["message"]
        finally:
            kubectl("uncordon", node)


def test_a_preempted_rank_waits_for_room_and_says_so() -> None:
    """A pod of higher priority takes the place of a rank on the only node the gang may use."""
    node = WORKERS[3]
    allocatable = get("node", node)["status"]["allocatable"]
    cpu = int(allocatable["cpu"]) * 1000 if allocatable["cpu"].isdigit() else int(allocatable["cpu"].rstrip("m"))
    template = plain_template("humble", resources={"requests": {"cpu": f"{cpu * 2 // 5}m"}})
    template["spec"] |= {"nodeSelector": {"kubernetes.io/hostname": node}}
    del template["spec"]["topologySpreadConstraints"]
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    container = {"name": "c", "image": "busybox:test", "command": ["sleep", "1000"]}
    container["resources"] = {"requests": {"cpu": f"{cpu * 2 // 5}m"}}
    rude: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rude"}}
    rude["spec"] = {
        "priorityClassName": "rude",
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [container],
    }
    with Gang("humble", ranks=2, template=template) as gang:
        gang.running(attempt=1)
        gang.moved |= {0, 1}
        apply({**priority, "metadata": {"name": "rude"}}, rude)
        try:
            held_with(gang, "no node has room for the pod (kubectl describe pod says why)")
            assert "was preempted by a pod of higher priority" in gang.attempt()["cause"]["message"]
        finally:
            kubectl("delete", "pod/rude", "priorityclass/rude", "--grace-period=1")
        gang.running(attempt=2)
        assert no_longer_held(gang)


def test_a_quota_that_refuses_a_replacement() -> None:
    with Gang("poor", ranks=2) as gang:
        gang.running(attempt=1)
        gang.moved.add(1)
        pods = len(get("pods")["items"])
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}}
        apply({**quota, "spec": {"hard": {"pods": str(pods - 1)}}})
        try:
            kubectl("delete", "pod", gang.pod(1), "--grace-period=1")
            held_with(gang, "exceeded quota: tight")
        finally:
            kubectl("delete", "resourcequota", "tight")
        gang.running(attempt=2)
        assert no_longer_held(gang)


def test_a_controller_upgraded_under_a_running_gang_restarts_nothing() -> None:
    with Gang("steady", ranks=4) as gang:
        gang.running(attempt=1)
        before, audit = gang.seen(), Audit()
        image = "docker.io/library/fleetctl:next"
        on_node(CONTROL_PLANE, f"ctr -n k8s.io images tag --force docker.io/library/fleetctl:test {image}")
        try:
            deployment = ("-n", "fleetctl-system", "deployment/fleetctl-controller")
            kubectl("set", "image", *deployment, f"controller={image}")
            controller_ready()
            time.sleep(10)
            assert gang.seen() == before
            assert audit.pod_changes() == []
            assert gang.attempt()["target"] == 1
            gang.tell(0, "exit 1")  # agents of the version before are led by the new controller
            gang.running(attempt=2)
        finally:
            deploy()


@contextlib.contextmanager
def uninstalled() -> Iterator[None]:
    """All of fleetctl but its CustomResourceDefinition, with which the gangs would go."""
    kinds: Any = ("deployment", "service", "serviceaccount", "role", "rolebinding")
    for kind in kinds:
        kubectl("-n", "fleetctl-system", "delete", kind, "-l", "!kubernetes.io/nobody", "--wait=true")
    kubectl("delete", "clusterrole,clusterrolebinding", "fleetctl-controller", "--ignore-not-found")
    try:
        yield
    finally:
        deploy()


def test_trainers_run_on_when_fleetctl_is_uninstalled() -> None:
    with Gang("left", ranks=4) as gang:
        gang.running(attempt=1)
        before, audit = gang.seen(), Audit()
        with uninstalled():
            time.sleep(20)
            assert gang.seen() == before
            assert audit.pod_changes() == []
        gang.tell(2, "exit 1")  # and when it is back, it knows them
        gang.running(attempt=2, within_s=90)
