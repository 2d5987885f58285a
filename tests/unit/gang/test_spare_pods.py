"""The pod of a spare: whatever finds room for it has room for a rank, and its images are there."""

from typing import Any

import pytest

from fleetctl.gang import pods, spare_pods
from fleetctl.gang.identity import Gang
from fleetctl.gang.pods import LABEL_GANG, LABEL_RANK, LABEL_ROLE
from fleetctl.gang.spec import GangSpec, Group

GPU = {"limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "8"}}
TRAINER = {
    "name": "trainer", "image": "trainer:7", "command": ["train"], "resources": GPU,
    "ports": [{"containerPort": 29500}],
    "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "livenessProbe": {"exec": {"command": ["true"]}}, "securityContext": {"runAsUser": 1000},
}  # fmt: skip
LOGS = {"name": "logs", "image": "logs:1", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
SPEC: dict[str, Any] = {
    "containers": [TRAINER, {"name": "tensorboard", "image": "board:1"}],
    "initContainers": [LOGS, {"name": "fetch", "image": "fetch:1"}],
    "volumes": [{"name": "data", "emptyDir": {}}],
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "priorityClassName": "training",
    "priority": 1000,
    "imagePullSecrets": [{"name": "registry"}],
    "terminationGracePeriodSeconds": 600,
}


def gang(spec: dict[str, Any] | None = None, **group: Any) -> Gang:
    template = {"metadata": {"labels": {"team": "llm"}, "annotations": {"a": "b"}}, "spec": spec or SPEC}
    groups = [Group(name="worker", size=2, template=template, spares=2, **group)]
    return Gang(namespace="ml", name="llm", uid="gang-uid", spec=GangSpec(groups=groups))


def spare(of: Gang | None = None, index: int = 1) -> dict[str, Any]:
    of = of or gang()
    return spare_pods.pod(of, of.spec.groups[0], index, agent_image="fleetctl:1")


def rank(of: Gang) -> dict[str, Any]:
    return pods.pod(of, of.slots[0], 1, agent_image="fleetctl:1", rendezvous="c:8443", server_name="c")


def by_name(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in body["spec"]["containers"]}


def test_it_is_the_gangs_and_no_rank() -> None:
    meta = spare()["metadata"]
    assert (meta["namespace"], meta["name"]) == ("ml", "llm-worker-spare-1")
    assert meta["labels"] | {"team": "llm", LABEL_GANG: "llm", LABEL_ROLE: "spare"} == meta["labels"]
    assert LABEL_RANK not in meta["labels"]
    assert [owner["uid"] for owner in meta["ownerReferences"]] == ["gang-uid"]
    assert meta["annotations"] == {"a": "b"}


def test_services_lead_to_ranks_only() -> None:
    labels, ranks = spare()["metadata"]["labels"], rank(gang())["metadata"]["labels"]
    for service in pods.services(gang()):
        selector = service["spec"]["selector"]
        assert not selector.items() <= labels.items()
        assert selector.items() <= ranks.items()


def test_it_goes_where_ranks_go_and_gives_way() -> None:
    spec = spare()["spec"]
    for key in ("nodeSelector", "tolerations", "imagePullSecrets"):
        assert spec[key] == SPEC[key]
    assert spec["priorityClassName"] == "fleetctl-spare"
    assert "priority" not in spec
    assert spec["terminationGracePeriodSeconds"] == 1


def test_its_containers_ask_for_what_the_ranks_ask_for_and_only_wait() -> None:
    held, trainer = by_name(spare()), by_name(spare())["trainer"]
    assert list(held) == ["logs", "trainer", "tensorboard", "fleetctl-hold"]
    assert trainer == {
        "name": "trainer", "image": "trainer:7", "imagePullPolicy": "IfNotPresent", "resources": GPU,
        "ports": [{"containerPort": 29500}], "securityContext": {"runAsUser": 1000}, "stdin": True,
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; read _"],
    }  # fmt: skip
    assert held["logs"]["image"] == "fleetctl:1"  # nobody says that a sidecar's image has a shell
    assert held["logs"]["resources"] == LOGS["resources"]
    assert "initContainers" not in spare()["spec"]
    assert "volumes" not in spare()["spec"]


@pytest.mark.parametrize(
    "containers", [[TRAINER], [{"name": "trainer", "image": "t"}]], ids=["guaranteed", "burstable"]
)
def test_it_holds_the_agents_share_too(containers: list[dict[str, Any]]) -> None:
    of = gang({"containers": containers})
    agent = next(c for c in rank(of)["spec"]["initContainers"] if c["name"] == pods.AGENT)
    assert by_name(spare(of))["fleetctl-hold"]["resources"] == agent["resources"]
    assert by_name(spare(of))["fleetctl-hold"]["ports"] == [{"containerPort": pods.PROBE_PORT}]


def test_an_image_without_a_shell_is_not_run() -> None:
    held = by_name(spare(gang(life_image="busybox:1")))
    assert held["trainer"]["image"] == held["tensorboard"]["image"] == "busybox:1"


def test_it_would_rather_not_be_beside_ranks() -> None:
    own = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}, "podAffinity": {}}
    affinity = spare(gang({**SPEC, "affinity": own}))["spec"]["affinity"]
    theirs, ours = affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert (theirs, affinity["podAffinity"]) == ({"weight": 1}, {})
    selector = ours["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert selector.items() <= rank(gang())["metadata"]["labels"].items()


@pytest.mark.parametrize("affinity", ["x", {"podAntiAffinity": ["x"]}])
def test_a_misshapen_affinity_is_the_api_servers_to_refuse(affinity: Any) -> None:
    assert spare(gang({**SPEC, "affinity": affinity}))["spec"]["affinity"] == affinity


# A rank's pod in the room of a spare


def placed(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    of = gang(spec)
    settings: dict[str, Any] = {"agent_image": "fleetctl:1", "rendezvous": "c:8443", "server_name": "c"}
    found: dict[str, Any] = pods.pod(of, of.slots[0], 2, node="n7", **settings, **more)["spec"]
    return found


def test_a_rank_is_bound_when_its_pod_is_made() -> None:
    assert placed(SPEC)["nodeName"] == "n7"
    assert "affinity" not in placed(SPEC)


@pytest.mark.parametrize(
    "late",
    [{"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
     {"volumes": [{"name": "v", "ephemeral": {}}]},
     {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}]}],
)  # fmt: skip
def test_what_the_scheduler_must_bind_goes_through_it(late: dict[str, Any]) -> None:
    spec = placed({**SPEC, **late}, avoid=["n3"])
    assert "nodeName" not in spec
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = required["nodeSelectorTerms"]
    assert term["matchFields"] == [
        {"key": "metadata.name", "operator": "NotIn", "values": ["n3"]},
        {"key": "metadata.name", "operator": "In", "values": ["n7"]},
    ]
