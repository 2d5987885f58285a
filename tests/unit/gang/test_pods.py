"""Pods made from templates, and templates that are refused."""

import copy
from typing import Any

import pytest
from worlds import TEMPLATE, a_gang

from fleetctl.gang import pods, template
from fleetctl.gang.identity import Gang
from fleetctl.rendezvous.messages import RESTART_EXIT_CODE

RESTART = {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}


def made(gang: Gang, rank: int = 1) -> dict[str, Any]:
    return pods.pod(
        gang, gang.slots[rank], 3, agent_image="fleetctl:1", rendezvous="r.ns.svc:8443", server_name="r.ns.svc"
    )


def containers(*more: dict[str, Any], **trainer: Any) -> dict[str, Any]:
    first = {"name": "trainer", "image": "trainer:1", **trainer}
    return {"spec": {"containers": [first, *more]}}


def test_the_agent_is_the_last_init_container_right_after_the_life() -> None:
    spec = made(a_gang(template={"spec": {"initContainers": [{"name": "own", "image": "i"}], **TEMPLATE["spec"]}}))[
        "spec"
    ]
    assert [c["name"] for c in spec["initContainers"]] == ["own", "fleetctl-life", "fleetctl-agent"]
    assert spec["initContainers"][1]["image"] == "trainer:1"
    assert spec["restartPolicy"] == "Never"


def test_each_other_image_is_pulled_once_before_the_barrier() -> None:
    helpers = [{"name": f"h{i}", "image": image} for i, image in enumerate(["x:1", "y:1", "x:1", "trainer:1"])]
    spec = made(a_gang(template=containers(*helpers)))["spec"]
    assert [(c["name"], c["image"]) for c in spec["initContainers"][:2]] == [
        ("fleetctl-pull-0", "x:1"),
        ("fleetctl-pull-1", "y:1"),
    ]


def test_the_exit_code_is_the_agents() -> None:
    assert pods.RESTART_EXIT_CODE == RESTART_EXIT_CODE
    agent = made(a_gang())["spec"]["initContainers"][-1]
    assert agent["restartPolicyRules"][0]["exitCodes"] == {"operator": "In", "values": [88]}


def test_containers_without_rules_restart_the_gang_and_those_with_rules_keep_them() -> None:
    own = {"name": "own", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [RESTART]}
    spec = made(a_gang(template=containers({"name": "plain", "image": "i"}, own), fatal=(64, 65)))["spec"]
    for container in spec["containers"][:2]:
        assert container["restartPolicy"] == "Never"
        assert container["restartPolicyRules"] == [
            {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0, 64, 65]}}
        ]
    assert spec["containers"][2]["restartPolicyRules"] == [RESTART]


def test_a_rule_of_the_trainers_own_comes_first_and_ours_catches_the_rest() -> None:
    own = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}
    spec = made(a_gang(template=containers(restartPolicy="Never", restartPolicyRules=[own])))["spec"]
    assert [r["exitCodes"]["operator"] for r in spec["containers"][0]["restartPolicyRules"]] == ["In", "NotIn"]


def test_a_users_own_environment_wins() -> None:
    env = [{"name": "PET_MASTER_PORT", "value": "1"}]
    found = made(a_gang(template=containers(env=env)))["spec"]["containers"][0]["env"]
    assert [e["value"] for e in found if e["name"] == "PET_MASTER_PORT"] == ["1"]
    assert {e["name"]: e["value"] for e in found}["FLEETCTL_RANK"] == "1"


def test_only_the_agent_holds_credentials() -> None:
    spec = made(a_gang())["spec"]
    mounts = {
        c["name"]: {m["name"] for m in c.get("volumeMounts", ())} for c in spec["containers"] + spec["initContainers"]
    }
    assert [name for name, volumes in mounts.items() if "fleetctl-credentials" in volumes] == ["fleetctl-agent"]
    assert mounts["trainer"] == {"fleetctl-shared"}
    assert all(m.get("readOnly") for m in spec["containers"][0]["volumeMounts"])


def test_a_guaranteed_pod_stays_guaranteed() -> None:
    limits = {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    agent = made(a_gang(template=containers(**limits)))["spec"]["initContainers"][-1]
    assert agent["resources"]["limits"] == agent["resources"]["requests"]
    burstable = made(a_gang())["spec"]["initContainers"][-1]
    assert "cpu" not in burstable["resources"]["limits"]


def test_nulls_are_nothing() -> None:
    names = ("env", "volumeMounts", "restartPolicyRules", "resources", "lifecycle")
    bare = containers(**dict.fromkeys(names))
    bare["spec"] |= dict.fromkeys(("volumes", "tolerations", "initContainers"))
    bare["metadata"] = {"labels": None, "annotations": None}
    assert template.problems(a_gang(template=bare)) == []
    assert made(a_gang(template=bare))["spec"]["containers"][0]["name"] == "trainer"


def test_the_template_is_not_changed() -> None:
    gang = a_gang(template=containers(volumeMounts=[]))
    before = copy.deepcopy(gang.spec)
    made(gang)
    assert gang.spec == before


@pytest.mark.parametrize(
    ("found", "field", "fix"),
    [
        ({"spec": {}}, "template.spec.containers", "needs at least one container"),
        ({"spec": {"containers": [{"name": "x"}]}}, "template.spec.containers", "a name and an image"),
        ({"spec": {"containers": "x"}}, "template.spec.containers", "needs at least one container"),
        ({"spec": {"restartPolicy": "OnFailure", **TEMPLATE["spec"]}}, "template.spec.restartPolicy", "must be Never"),
        (containers(env="x"), "containers[0].env", "must be a list of maps"),
        (containers(restartPolicyRules=["x"]), "containers[0].restartPolicyRules", "must be a list of maps"),
        (containers(resources=[]), "containers[0].resources", "must be a map"),
        ({"spec": {"volumes": {}, **TEMPLATE["spec"]}}, "template.spec.volumes", "must be a list of maps"),
        ({"metadata": {"labels": 1}, **TEMPLATE}, "template.metadata.labels", "must be a map"),
        (containers(name="fleetctl-x"), "containers[0].name", "rename it"),
        (
            containers(containerRestartPolicy="x"),
            "containers[0].containerRestartPolicy",
            "restartPolicyRules[].exitCodes",
        ),
        (containers(restartPolicy="OnFailure"), "containers[0].restartPolicy", "leave it out"),
        (
            containers(restartPolicyRules=[{"action": "Restart"}]),
            "containers[0].restartPolicyRules",
            "one trainer alone",
        ),
        (containers(restartPolicyRules=[{"when": {}}]), "restartPolicyRules[0].when", "exitCodes"),
        (containers(restartPolicyRules=[{"onExit": {}}]), "restartPolicyRules[0].onExit", "exitCodes"),
        (
            containers(restartPolicyRules=[{"exitCodes": {"operator": "In", "values": [88]}}]),
            "restartPolicyRules[0].exitCodes.values",
            "use another one",
        ),
    ],
)
def test_refused(found: dict[str, Any], field: str, fix: str) -> None:
    (problem,) = template.problems(a_gang(template=found))
    assert problem.field.endswith(field)
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("operator", "codes", "refused"), [("NotIn", [0], True), ("In", [64], True), ("In", [3], False)]
)
def test_a_rule_that_would_restart_on_a_fatal_code_is_refused(operator: str, codes: list[int], refused: bool) -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": operator, "values": codes}}
    helper = {"name": "h", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    gang = a_gang(template=containers(helper), fatal=(64,))
    assert bool(template.problems(gang)) == refused


def test_what_works_but_surprises_is_a_warning() -> None:
    gang = a_gang(template=containers(lifecycle={"preStop": {}}, imagePullPolicy="Always"))
    assert template.problems(gang) == []
    assert [str(w).partition(": ")[0].rpartition(".")[2] for w in template.warnings(gang)] == ["imagePullPolicy"]
    gang = a_gang(template=containers(lifecycle={"preStop": {"exec": {}}}))
    assert [w.field for w in template.warnings(gang)] == [
        "spec.groups[0].template.spec.containers[0].lifecycle.preStop"
    ]
