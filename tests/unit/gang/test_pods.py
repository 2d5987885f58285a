"""Pods made from templates, and templates that are refused."""

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from worlds import TEMPLATE, a_gang

from fleetctl.gang import pods, template
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import Coordinator, Group, Match, PlacementSpec, UserRule
from fleetctl.rendezvous.messages import RESTART_EXIT_CODE

RESTART = {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}


def made(gang: Gang, rank: int = 1, avoid: Collection[str] = ()) -> dict[str, Any]:
    return pods.pod(
        gang,
        gang.slots[rank],
        3,
        agent_image="fleetctl:1",
        rendezvous="r.ns.svc:8443",
        server_name="r.ns.svc",
        avoid=avoid,
    )


def agent_of(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["initContainers"][-1]


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"]}


def mounts_of(container: dict[str, Any]) -> dict[str, bool]:
    """Whether each volume is mounted writable."""
    return {m["name"]: not m.get("readOnly") for m in container["volumeMounts"]}


def pod_spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {**fields, **TEMPLATE["spec"]}}


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def on_nodes(*terms: Any) -> dict[str, Any]:
    """An affinity that requires a node which one of the terms matches."""
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def zone(*names: str) -> dict[str, Any]:
    return {"key": "zone", "operator": "In", "values": list(names)}


def not_node(name: str) -> dict[str, Any]:
    return {"key": "metadata.name", "operator": "NotIn", "values": [name]}


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
    own = {"name": "own", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [RESTART | {"exitCodes": {}}]}
    spec = made(a_gang(template=containers({"name": "plain", "image": "i"}, own)))["spec"]
    for container in spec["containers"][:2]:
        assert container["restartPolicy"] == "Never"
        assert container["restartPolicyRules"] == [RESTART]
    assert spec["containers"][2]["restartPolicyRules"] == own["restartPolicyRules"]


def a_rule(action: Any = "FailGang", **match: Any) -> UserRule:
    return UserRule(match=Match(**match), action=action)


def ruled(*rules: UserRule, template: dict[str, Any] = TEMPLATE) -> Gang:
    """A gang with these user rules, and a second group, `eval`."""
    gang = a_gang(template=template)
    groups = [Group(name=name, size=1, template=template) for name in ("worker", "eval")]
    recovery = msgspec.structs.replace(gang.spec.recovery, rules=list(rules))
    return replace(gang, spec=msgspec.structs.replace(gang.spec, groups=groups, recovery=recovery))


def restarting(gang: Gang, rank: int = 0, container: int = 0) -> set[int]:
    """The exit codes upon which the kubelet restarts the pod, read from its rules as the kubelet reads them."""
    rules = made(gang, rank)["spec"]["containers"][container]["restartPolicyRules"]
    for rule in rules:
        values = rule["exitCodes"]["values"]
        assert len(values) == len(set(values)) <= 255, "Kubernetes takes no more"
    conditions = [(rule["exitCodes"]["operator"] == "In", rule["exitCodes"]["values"]) for rule in rules]
    return {code for code in range(256) for within, values in conditions if (code in values) == within}


ALL = set(range(1, 256))
BUT_WORKER = a_rule("RestartInPlace", groups=["worker"])


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        ((), ALL),
        ((a_rule(exit_codes=[64, 65]),), ALL - {64, 65}),
        ((a_rule("RestartInPlace", exit_codes=[64]), a_rule(exit_codes=[64, 65])), ALL - {65}),
        ((a_rule("RecreatePod", exit_codes=[64]), a_rule("RecreateGang", exit_codes=[65])), ALL),
        # an allowlist of what may be restarted
        ((a_rule("RestartInPlace", exit_codes=[1, 42]), a_rule()), {1, 42}),
        ((a_rule("RecreatePod", exit_codes=[42]), a_rule()), {42}),
        ((a_rule("RestartInPlace", exit_codes=list(range(1, 129))), a_rule()), set(range(1, 129))),
        ((a_rule("RestartInPlace", exit_codes=list(range(1, 128))), a_rule()), set(range(1, 128))),
        ((a_rule(),), set()),
        # of one group
        ((a_rule(groups=["worker"], exit_codes=[64]),), ALL - {64}),
        ((a_rule(groups=["eval"], exit_codes=[64]),), ALL),
        ((BUT_WORKER, a_rule()), ALL),
        # the kubelet cannot know what more decides: it restarts, unless no earlier rule may want that
        ((a_rule(reasons=["OOMKilled"]),), ALL),
        ((a_rule(reasons=["OOMKilled"]), a_rule(exit_codes=[137])), ALL - {137}),
        ((a_rule("RestartInPlace", reasons=["OOMKilled"]), a_rule(exit_codes=[137])), ALL),
        ((a_rule("RestartInPlace", reasons=["X"], exit_codes=[1]), a_rule(exit_codes=[1, 2])), ALL - {2}),
        ((a_rule("RestartInPlace", signals=["SIGSEGV"]), a_rule()), set(range(129, 256))),
        # nodes and devices have no exit codes
        ((a_rule("RecreatePod", node_conditions=["X"]), a_rule(exit_codes=[1])), ALL - {1}),
        ((a_rule("RestartInPlace", hardware=["xid-13"]), a_rule(exit_codes=[1])), ALL - {1}),
        ((a_rule(hardware=["xid-79"]), a_rule(node_conditions=["X"])), ALL),
    ],
)
def test_user_rules_become_restart_rules_of_the_trainer(rules: tuple[UserRule, ...], codes: set[int]) -> None:
    assert restarting(ruled(*rules)) == codes


def test_an_allowlist_reads_as_one() -> None:
    gang = ruled(a_rule("RestartInPlace", exit_codes=[42, 1]), a_rule())
    (rule,) = made(gang)["spec"]["containers"][0]["restartPolicyRules"]
    assert rule["exitCodes"] == {"operator": "In", "values": [1, 42]}


def test_each_group_has_the_rules_that_name_it() -> None:
    gang = ruled(a_rule(groups=["eval"]), a_rule(groups=["worker"], exit_codes=[64]))
    assert restarting(gang, rank=0) == ALL - {64}
    assert made(gang, rank=1)["spec"]["containers"][0]["restartPolicyRules"] == []


def test_the_exit_codes_of_rules_are_the_trainers_and_another_containers_failure_is_always_seen() -> None:
    sidecar = {"name": "s", "image": "i", "restartPolicy": "Always"}
    template = containers({"name": "helper", "image": "i"})
    template["spec"]["initContainers"] = [sidecar]
    gang = ruled(a_rule(), template=template)
    assert restarting(gang, container=0) == set()
    assert restarting(gang, container=1) == ALL
    assert made(gang)["spec"]["initContainers"][0]["restartPolicyRules"] == [RESTART]


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
    assert mounts["trainer"] == {"fleetctl-shared", "fleetctl-progress"}


def test_a_trainer_reads_its_attempt_and_writes_its_progress() -> None:
    pod = made(a_gang(template=containers({"name": "helper", "image": "i"})))
    for container in pod["spec"]["containers"]:
        assert mounts_of(container) == {"fleetctl-shared": False, "fleetctl-progress": True}
        assert environment_of(container)["FLEETCTL_PROGRESS_FILE"] == "/fleetctl/progress/step"
        assert {"name": "fleetctl-progress", "mountPath": "/fleetctl/progress"} in container["volumeMounts"]


def test_the_agent_reads_the_progress_and_cannot_write_it() -> None:
    agent = agent_of(made(a_gang()))
    assert mounts_of(agent) == {
        "fleetctl-agent": True,
        "fleetctl-shared": True,
        "fleetctl-progress": False,
        "fleetctl-credentials": False,
    }
    assert environment_of(agent)["FLEETCTL_PROGRESS_FILE"] == pods.PROGRESS_FILE


def test_every_volume_that_is_mounted_is_there() -> None:
    spec = made(a_gang())["spec"]
    mounted = {m["name"] for c in spec["containers"] + spec["initContainers"] for m in c.get("volumeMounts", ())}
    assert mounted == {v["name"] for v in spec["volumes"]}
    assert {"name": "fleetctl-progress", "emptyDir": {}} in spec["volumes"]


def test_the_trainer_is_not_told_the_agents_settings() -> None:
    pod = made(a_gang())
    shared = environment_of(agent_of(pod)).keys() & environment_of(pod["spec"]["containers"][0]).keys()
    assert shared == {"FLEETCTL_PROGRESS_FILE"}


def test_an_agent_knows_the_coordinators_pod_and_the_way_to_its_agent() -> None:
    settings = environment_of(agent_of(made(a_gang(), rank=1)))
    assert settings["FLEETCTL_COORDINATOR_GATE"] == "llm-coordinator:28100"
    assert settings["FLEETCTL_COORDINATOR_POD"] == "llm-worker-0"


def test_the_coordinators_service_leads_to_the_trainer_and_to_the_agent() -> None:
    _, coordinator = pods.services(a_gang())
    assert coordinator["spec"]["ports"] == [
        {"name": "coordinator", "port": 29500},
        {"name": "fleetctl-gate", "port": 28100},
    ]


def test_a_pod_avoids_nodes_by_name_one_requirement_each() -> None:
    pod = made(a_gang(), avoid={"node-b", "node-a"})
    assert pod["metadata"]["annotations"][pods.AVOIDS] == "node-a,node-b"
    spec = pod["spec"]
    assert spec["affinity"] == on_nodes({"matchFields": [not_node("node-a"), not_node("node-b")]})


def test_a_pod_that_avoids_nothing_has_the_users_affinity_and_no_other() -> None:
    assert "affinity" not in made(a_gang())["spec"]
    assert made(a_gang())["metadata"]["annotations"] == {}
    own = on_nodes({"matchExpressions": [zone("a")]})
    assert made(a_gang(template=pod_spec(affinity=own)))["spec"]["affinity"] == own


def test_avoided_nodes_are_ruled_out_in_every_alternative_of_the_users() -> None:
    other = {"key": "metadata.name", "operator": "In", "values": ["x"]}
    own = on_nodes({"matchExpressions": [zone("a")]}, {"matchFields": [other], "matchExpressions": [zone("b")]})
    spec = made(a_gang(template=pod_spec(affinity=own)), avoid=["bad"])["spec"]
    assert spec["affinity"] == on_nodes(
        {"matchExpressions": [zone("a")], "matchFields": [not_node("bad")]},
        {"matchExpressions": [zone("b")], "matchFields": [other, not_node("bad")]},
    )


@pytest.mark.parametrize("empty", [{}, None, {"matchFields": [], "matchExpressions": None}])
def test_an_alternative_that_matches_no_node_does_not_begin_to(empty: Any) -> None:
    own = on_nodes(empty, {"matchExpressions": [zone("a")]})
    found = made(a_gang(template=pod_spec(affinity=own)), avoid=["bad"])["spec"]["affinity"]
    terms = found["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert terms == [empty or {}, {"matchExpressions": [zone("a")], "matchFields": [not_node("bad")]}]


def test_the_rest_of_the_users_affinity_stays() -> None:
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
    own = {"podAntiAffinity": {REQUIRED: []}, "nodeAffinity": preferred}
    found = made(a_gang(template=pod_spec(affinity=own)), avoid=["bad"])["spec"]["affinity"]
    avoided = on_nodes({"matchFields": [not_node("bad")]})["nodeAffinity"]
    assert found == {"podAntiAffinity": {REQUIRED: []}, "nodeAffinity": preferred | avoided}


@pytest.mark.parametrize(
    "nothing",
    [None, {}, {"nodeAffinity": None}, {"nodeAffinity": {REQUIRED: None}}, on_nodes() | {"podAffinity": None}],
)
def test_an_affinity_that_says_nothing_is_none(nothing: Any) -> None:
    found = made(a_gang(template=pod_spec(affinity=nothing)), avoid=["bad"])["spec"]["affinity"]
    assert found["nodeAffinity"] == on_nodes({"matchFields": [not_node("bad")]})["nodeAffinity"]


PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def in_blocks(**placement: Any) -> Gang:
    gang = a_gang(4, template=pod_spec(affinity={"podAffinity": {PREFERRED: ["theirs"]}}))
    return replace(gang, spec=msgspec.structs.replace(gang.spec, placement=PlacementSpec(**placement)))


def test_ranks_of_a_block_wish_to_be_near_each_other() -> None:
    gang = in_blocks(topology_keys=["zone", "block", "rack"], block_size=2)
    assert [made(gang, rank)["metadata"]["labels"]["fleetctl.dev/block"] for rank in range(4)] == ["0", "0", "1", "1"]
    near = made(gang, 3, avoid=["bad"])["spec"]["affinity"]["podAffinity"][PREFERRED]
    assert near[0] == "theirs"
    assert [(wish["weight"], wish["podAffinityTerm"]["topologyKey"]) for wish in near[1:]] == [
        (100, "rack"),
        (25, "block"),
        (6, "zone"),
    ]
    (selector,) = {tuple(wish["podAffinityTerm"]["labelSelector"]["matchLabels"].items()) for wish in near[1:]}
    assert dict(selector) == {"fleetctl.dev/gang": "llm", "fleetctl.dev/block": "1"}


def test_eight_levels_of_domains_are_wished_for_with_weights_that_kubernetes_takes() -> None:
    near = made(in_blocks(topology_keys=[f"level-{n}" for n in range(8)], block_size=2))["spec"]["affinity"]
    assert [wish["weight"] for wish in near["podAffinity"][PREFERRED][1:]] == [100, 25, 6, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("placement", [{"topology_keys": ["rack"]}, {"block_size": 2}, {}])
def test_without_blocks_and_their_domains_nothing_is_wished(placement: dict[str, Any]) -> None:
    found = made(in_blocks(**placement))
    assert "fleetctl.dev/block" not in found["metadata"]["labels"]
    assert found["spec"]["affinity"] == {"podAffinity": {PREFERRED: ["theirs"]}}


@pytest.mark.parametrize("affinity", ["x", {"podAffinity": ["x"]}])
def test_a_wish_beside_a_misshapen_affinity_is_left_out(affinity: Any) -> None:
    gang = in_blocks(topology_keys=["rack"], block_size=2)
    group = msgspec.structs.replace(gang.spec.groups[0], template=pod_spec(affinity=affinity))
    gang = replace(gang, spec=msgspec.structs.replace(gang.spec, groups=[group]))
    assert made(gang)["spec"]["affinity"] == affinity


@pytest.mark.parametrize(
    "affinity", ["x", ["x"], {"nodeAffinity": "x"}, {"nodeAffinity": {REQUIRED: [1]}}, on_nodes("x"), on_nodes(1)]
)
def test_a_misshapen_affinity_is_left_to_the_api_server(affinity: Any) -> None:
    assert made(a_gang(template=pod_spec(affinity=affinity)), avoid=["bad"])["spec"]["affinity"] == affinity


def test_a_pod_in_the_nodes_network_still_resolves_services() -> None:
    assert made(a_gang(template=pod_spec(hostNetwork=True)))["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert "dnsPolicy" not in made(a_gang())["spec"]


def test_a_users_own_dns_policy_wins() -> None:
    own = pod_spec(hostNetwork=True, dnsPolicy="Default")
    assert made(a_gang(template=own))["spec"]["dnsPolicy"] == "Default"


def test_pull_secrets_survive() -> None:
    secrets = [{"name": "registry"}]
    assert made(a_gang(template=pod_spec(imagePullSecrets=secrets)))["spec"]["imagePullSecrets"] == secrets


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
    found = containers(volumeMounts=[])
    found["spec"] |= {"hostNetwork": True, "affinity": on_nodes({"matchExpressions": [zone("a")], "matchFields": []})}
    gang = a_gang(template=found)
    before = copy.deepcopy(gang.spec)
    made(gang, avoid=["bad"])
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
    found = template.problems(a_gang(template=containers(restartPolicyRules=[rule]), fatal=(64,)))
    assert [p.field for p in found] == [
        "spec.groups[0].template.spec.containers[0].restartPolicyRules[0].exitCodes.values"
    ] * refused
    helper = {"name": "h", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    assert template.problems(a_gang(template=containers(helper), fatal=(64,))) == []  # the code is the trainer's


def test_a_rule_that_restarts_what_an_allowlist_leaves_out_is_refused() -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1, 3]}}
    may_restart = a_rule("RestartInPlace", exit_codes=[1])
    (problem,) = template.problems(
        ruled(may_restart, a_rule(groups=["eval"]), template=containers(restartPolicyRules=[rule]))
    )
    assert problem.field.startswith("spec.groups[1].")
    assert "restarts on exit code 3, which spec.recovery.rules wants to end the gang" in problem.fix


def test_the_port_of_the_agent_is_not_the_coordinators() -> None:
    gang = a_gang()
    taken = msgspec.structs.replace(gang.spec, coordinator=Coordinator(port=28100))
    (problem,) = template.problems(replace(gang, spec=taken))
    assert problem.field == "spec.coordinator.port"
    assert problem.fix == "fleetctl's agent listens on port 28100: use another one"


def test_ranks_in_the_nodes_network_are_warned_that_they_need_a_node_each() -> None:
    gang = a_gang(template=pod_spec(hostNetwork=True))
    assert template.problems(gang) == []
    (warning,) = template.warnings(gang)
    assert warning.field == "spec.groups[0].template.spec.hostNetwork"
    assert warning.fix == "one rank a node: fleetctl's agent listens on port 28100 of the node's network"
    assert template.warnings(a_gang(template=pod_spec(hostNetwork=False))) == []


def test_what_works_but_surprises_is_a_warning() -> None:
    gang = a_gang(template=containers(lifecycle={"preStop": {}}, imagePullPolicy="Always"))
    assert template.problems(gang) == []
    assert [str(w).partition(": ")[0].rpartition(".")[2] for w in template.warnings(gang)] == ["imagePullPolicy"]
    gang = a_gang(template=containers(lifecycle={"preStop": {"exec": {}}}))
    assert [w.field for w in template.warnings(gang)] == [
        "spec.groups[0].template.spec.containers[0].lifecycle.preStop"
    ]
