"""Pods as the API server shows them, and what decisions see of them."""

import msgspec

from fleetctl.controller.views import pod_view
from fleetctl.gang.state import Ended
from fleetctl.kube.objects import Pod

RESTARTING = {
    "metadata": {
        "name": "llm-worker-3",
        "namespace": "default",
        "uid": "u3",
        "ownerReferences": [{"uid": "g", "kind": "Gang", "name": "llm", "apiVersion": "fleetctl.dev/v1alpha1"}],
    },
    "spec": {
        "nodeName": "n1",
        "containers": [{"name": "trainer", "image": "t"}],
        "initContainers": [
            {"name": "prepare", "image": "t"},
            {"name": "logs", "image": "l", "restartPolicy": "Always"},
            {"name": "fleetctl-life", "image": "t"},
            {"name": "fleetctl-agent", "image": "f", "restartPolicy": "Always"},
        ],
    },
    "status": {
        "phase": "Running",
        "conditions": [
            {
                "type": "AllContainersRestarting",
                "status": "True",
                "reason": "RestartAllContainersStarted",
                "lastTransitionTime": "1970-01-01T00:01:40Z",
            }
        ],
        "containerStatuses": [
            {
                "name": "trainer",
                "restartCount": 1,
                "state": {"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": "1970-01-01T00:01:39Z"}},
            }
        ],
        "initContainerStatuses": [
            {"name": "prepare", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "logs", "state": {"running": {}}},
            {"name": "fleetctl-life", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "fleetctl-agent", "state": {"running": {}}},
        ],
    },
}


def seen(gang_uid: str = "g", **status: object) -> Pod:
    return msgspec.convert({**RESTARTING, "status": {**RESTARTING["status"], **status}}, Pod)


def test_a_pod_that_restarts_in_place() -> None:
    view = pod_view(seen(), "g")
    assert (view.ours, view.node, view.restarting_since) == (True, "n1", 100)
    assert [c.name for c in view.containers] == ["trainer", "logs"]  # not the agent, not what only prepares
    assert view.containers[0].ended == Ended(exit_code=3, reason="Error", finished_at=99)
    assert view.preparing is None


def test_a_pod_of_an_earlier_gang_of_that_name_is_not_ours() -> None:
    assert not pod_view(seen(), "another").ours


def test_the_init_container_a_pod_is_at() -> None:
    waiting = {"name": "prepare", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    view = pod_view(seen(initContainerStatuses=[waiting]), "g")
    assert view.preparing is not None
    assert (view.preparing.name, view.preparing.waiting_reason) == ("prepare", "ImagePullBackOff")


def test_an_init_container_that_failed() -> None:
    failed = {"name": "fleetctl-life", "state": {"terminated": {"exitCode": 128, "reason": "StartError"}}}
    view = pod_view(seen(phase="Failed", initContainerStatuses=[failed]), "g")
    assert view.preparing is not None
    assert view.preparing.ended == Ended(exit_code=128, reason="StartError")
