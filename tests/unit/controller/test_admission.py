"""Whether a gang is accepted, for every answer that API servers of all ages give to the dry run."""

import asyncio
from typing import Any, cast

import pytest

from fleetctl.controller.admission import FEATURE, check
from fleetctl.gang import pods
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.snapshot import Acceptance
from fleetctl.gang.spec import GangSpec, Group
from fleetctl.kube.client import KubeClient, Listing
from fleetctl.kube.errors import ApiError, Cause, Refused, Unavailable
from fleetctl.kube.objects import Node, NodeStatus, Raw

GANG = Gang(
    namespace="default",
    name="llm",
    uid="u",
    spec=GangSpec(
        groups=[Group(name="worker", size=2, template={"spec": {"containers": [{"name": "t", "image": "i"}]}})]
    ),
)


class ApiServer:
    """Answers the dry run with `answer` (an error, or the pod less its restart rules), and lists nodes."""

    def __init__(
        self, answer: ApiError | None = None, *, keeps_rules: bool = True, features: tuple[str, ...] = (FEATURE,)
    ):
        self.answer = answer
        self.keeps_rules = keeps_rules
        self.features = features
        self.asked: list[dict[str, Any]] = []

    async def create(self, _: object, __: str, body: dict[str, Any], *, dry_run: bool, strict: bool) -> Raw:
        assert dry_run
        assert strict
        self.asked.append(body)
        if self.answer:
            raise self.answer
        if not self.keeps_rules:
            for container in body["spec"]["initContainers"]:
                container.pop("restartPolicyRules", None)
        return Raw(body)

    async def list(self, _: object) -> Listing[Node]:
        nodes = [Node(), Node(status=NodeStatus(declared_features=self.features))]
        return Listing(nodes, "1")


def judged(server: ApiServer, gang: Gang = GANG) -> Acceptance:
    def body(slot: Slot) -> dict[str, Any]:
        return pods.pod(gang, slot, 1, agent_image="f", rendezvous="r:1", server_name="r")

    return asyncio.run(check(cast(KubeClient, server), gang, body))


def test_a_good_gang_on_a_good_cluster_is_accepted() -> None:
    server = ApiServer()
    assert judged(server) == Acceptance()
    (metadata,) = [pod["metadata"] for pod in server.asked]
    assert metadata["generateName"] == "llm-worker-0-"
    assert "name" not in metadata  # which may still be that of an earlier gang's pod


def refused(*causes: Cause, message: str = "no") -> Refused:
    return Refused("POST /pods", message, status=422, causes=causes)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (
            ApiServer(keeps_rules=False),
            "the API server dropped the action RestartAllContainers: fleetctl needs Kubernetes 1.36",
        ),
        (
            ApiServer(
                refused(Cause("spec.initContainers[1].restartPolicyRules[0].action", "FieldValueNotSupported", "x"))
            ),
            "the API server does not know the action RestartAllContainers: fleetctl needs Kubernetes 1.36",
        ),
        (ApiServer(features=("Other",)), f"no node of the cluster declares {FEATURE}: fleetctl needs Kubernetes 1.36"),
        (
            ApiServer(refused(Cause("spec.containers[0].image", "FieldValueRequired", "Required value"))),
            "spec.groups[0].template.spec.containers[0].image: Required value",
        ),
        (ApiServer(refused(message="exceeded quota")), "spec.groups[0].template: exceeded quota"),
    ],
)
def test_refused(server: ApiServer, said: str) -> None:
    (problem,) = judged(server).problems
    assert problem.startswith(said)


def test_an_api_server_that_is_away_is_no_verdict() -> None:
    with pytest.raises(Unavailable):
        judged(ApiServer(Unavailable("POST /pods", "away")))


def test_a_template_that_cannot_work_is_not_even_asked_about() -> None:
    server = ApiServer()
    spec = GangSpec(groups=[Group(name="worker", size=1, template={})])
    (problem,) = judged(server, Gang(namespace="d", name="x", uid="u", spec=spec)).problems
    assert problem.startswith("spec.groups[0].template.spec.containers: needs at least one container")
    assert server.asked == []
