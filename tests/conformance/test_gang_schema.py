"""What users may write in a Gang, and what they are told otherwise: the schema and its CEL rules, tried where they are
enforced. The simulated API server takes any spec, so these are asked of the real one only."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.gang import pods
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import (
    FACTS_MAX,
    AttemptRecord,
    Cause,
    Fact,
    GangSpec,
    GangStatus,
    Incident,
    Latch,
    Match,
    Model,
    Outcome,
    Recovered,
    Recovery,
    Seconds,
    UserRule,
)
from fleetctl.kube.objects import PODS

from .api import Api, Connection, Object
from .conftest import NAMESPACES
from .words import a_gang, changed


@pytest.fixture
def real(connection: Connection) -> Iterator[Api]:
    with connection.api(next(NAMESPACES)) as ready:
        yield ready


def with_recovery(**recovery: Any) -> Object:
    gang = a_gang()
    return {**gang, "spec": {**gang["spec"], "recovery": recovery}}


def with_rules(*rules: Object) -> Object:
    return with_recovery(rules=list(rules))


def a_rule(action: str = "RecreatePod", **match: Any) -> Object:
    return {"match": match, "action": action}


ALLOWLIST = (a_rule("RestartInPlace", exitCodes=[1, 42]), a_rule("FailGang"))
A_RULE_TOO_MANY = (
    "exitCodes, signals and reasons are of containers, nodeConditions of nodes, hardware of devices: write a rule for "
    "each"
)


@pytest.mark.parametrize(
    "gang",
    [
        with_rules(a_rule("FailGang", exitCodes=[64])),
        with_rules(*ALLOWLIST),
        with_rules(a_rule(exitCodes=[137], signals=["SIGKILL"], reasons=["OOMKilled"], groups=["worker"])),
        with_rules(a_rule(nodeConditions=["GpuUnhealthy"])),
        with_rules(a_rule("RestartInPlace", hardware=["xid-13"])),
        with_rules(a_rule("RecreateGang", groups=["worker"])),
        with_rules(*[a_rule(exitCodes=list(range(1, 256)))] * 20),
        with_rules(*[a_rule(reasons=["R" * 63] * 50)] * 20),
        with_recovery(progress={"hangSeconds": 10, "firstStepSeconds": 30}),
        with_recovery(breaker={"nodes": "100%", "withinMinutes": 1440, "resets": 3}),
    ],
)
def test_accepted(real: Api, gang: Object):
    assert real.post(GANGS, gang).status == 201


@pytest.mark.parametrize(
    ("gang", "field", "told"),
    [
        (with_rules(a_rule(exitCodes=[1], nodeConditions=["X"])), "rules[0].match", A_RULE_TOO_MANY),
        (with_rules(a_rule(signals=["SIGSEGV"], hardware=["xid-79"])), "rules[0].match", A_RULE_TOO_MANY),
        (with_rules(a_rule(reasons=["Error"], hardware=["xid-79"])), "rules[0].match", A_RULE_TOO_MANY),
        (with_rules(a_rule(nodeConditions=["X"], hardware=["xid-79"])), "rules[0].match", A_RULE_TOO_MANY),
        (
            with_rules(a_rule("RestartInPlace", nodeConditions=["X"])),
            "rules[0]",
            "a node's condition cannot be answered with RestartInPlace: leave the rule out, or use RecreatePod",
        ),
        (
            with_rules(a_rule(groups=["worker"]), a_rule(groups=["worker", "wroker"])),
            "spec",
            "recovery.rules[].match.groups names no group: use names of spec.groups",
        ),
        # what a rule leaves empty is no rule for everything
        (with_rules(a_rule("FailGang", exitCodes=[])), "exitCodes", "at least 1 items"),
        (with_rules(a_rule("FailGang", groups=[])), "groups", "at least 1 items"),
        (with_rules({"action": "FailGang"}), "rules[0].match", "Required value"),
        (with_rules({"match": {}}), "rules[0].action", "Required value"),
        (with_rules(a_rule("Explode")), "rules[0].action", 'supported values: "FailGang", "RecreateGang"'),
        (with_rules(a_rule(exitCodes=[0])), "exitCodes[0]", "greater than or equal to 1"),
        (with_rules(a_rule(exitCodes=[256])), "exitCodes[0]", "less than or equal to 255"),
        (with_rules(a_rule(signals=["SEGV"])), "signals[0]", "should match"),
        (with_rules(*[a_rule()] * 21), "rules", "at most 20 items"),
        (with_recovery(progress={"hangSeconds": 9}), "hangSeconds", "greater than or equal to 10"),
        (with_recovery(progress={"firstStepSeconds": 9}), "firstStepSeconds", "greater than or equal to 30"),
        (with_recovery(breaker={"nodes": "101%"}), "breaker.nodes", "should match"),
        (with_recovery(breaker={"withinMinutes": 0}), "withinMinutes", "greater than or equal to 1"),
        (with_recovery(breaker={"resets": -1}), "resets", "greater than or equal to 0"),
    ],
)
def test_refused(real: Api, gang: Object, field: str, told: str):
    answer = real.post(GANGS, gang)
    assert answer.refusal == (422, "Invalid")
    causes = answer.body["details"]["causes"]
    assert any(cause["field"].endswith(field) and told in cause["message"] for cause in causes), causes


def test_what_is_left_out_means_to_the_server_what_it_means_to_us(real: Api):
    stored = real.post(GANGS, with_rules(a_rule(exitCodes=[64]))).ok["spec"]
    assert stored["recovery"]["rules"] == [a_rule(exitCodes=[64])]
    assert stored["recovery"]["breaker"] == {"nodes": "10%", "withinMinutes": 10, "resets": 0}
    spec = msgspec.convert(stored, GangSpec)
    assert spec.recovery == Recovery(rules=[UserRule(match=Match(exit_codes=[64]), action="RecreatePod")])


def test_every_rule_of_the_types_is_in_the_schema_that_the_server_took(real: Api):
    name = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gangs.fleetctl.dev"
    text = msgspec.json.encode(real.ask("GET", name).ok["spec"]).decode()
    messages = [message for kind in Model.__subclasses__() for _, message in kind.RULES]
    assert len(messages) >= 7
    assert [m for m in messages if msgspec.json.encode(m).decode() not in text] == []


def test_what_the_controller_tells_of_an_incident_is_kept_whole(real: Api):
    cause = Cause(scope="Node", rule="node-dead", message="node n is dead", rank=3, node="n")
    facts = [Fact(rule="node-dead", what="w" * 220, ranks="3", at="2026-11-21T06:00:00Z")] * FACTS_MAX
    incident = Incident(culprits="3", cascade="0-2", facts=facts, refused=["r" * 160] * 8, omitted=2)
    took, at = Seconds(barrier=4.1, total=4.7), "2026-11-21T06:00:00Z"
    outcome = Outcome(first_step=1.5, ran=2.5)
    status = GangStatus(
        attempt=AttemptRecord(target=3, released=2, cause=cause, incident=incident),
        breaker=Latch(since=at, message="open", resets=1),
        history=[
            Recovered(
                attempt=number,
                cause=cause,
                rung="RecreateGang",
                at=at,
                seconds=took,
                incident=incident,
                outcome=outcome,
            )
            for number in range(20)
        ],
    )
    made = real.post(GANGS, a_gang()).ok
    kept = real.put(GANGS, changed(made, status=msgspec.to_builtins(status)), "status").ok["status"]
    assert msgspec.convert(kept, GangStatus) == status


RESTARTS: dict[str, tuple[Object, ...]] = {
    "no rules": (),
    "a few end the gang": (a_rule("FailGang", exitCodes=[64, 65]),),
    "an allowlist": ALLOWLIST,
    "half and half": (a_rule("FailGang", exitCodes=list(range(1, 129))),),
    "nothing restarts": (a_rule("FailGang"),),
}


@pytest.mark.parametrize("rules", RESTARTS.values(), ids=RESTARTS)
def test_the_pods_that_rules_are_compiled_into_are_accepted(real: Api, rules: tuple[Object, ...]):
    wanted = with_rules(*rules)
    template = {"spec": {"serviceAccountName": "default", "containers": [{"name": "trainer", "image": "trainer:1"}]}}
    wanted["spec"]["groups"][0]["template"] = template
    gang = real.post(GANGS, wanted).ok
    view = Gang(namespace=real.namespace, name="llm", uid="u", spec=msgspec.convert(gang["spec"], GangSpec))
    body = pods.pod(view, view.slots[0], 1, agent_image="fleetctl:1", rendezvous="r:1", server_name="r")
    made = real.post(PODS, body, fieldValidation="Strict").ok
    (asked,), (got,) = body["spec"]["containers"], made["spec"]["containers"]
    assert got.get("restartPolicyRules", []) == asked["restartPolicyRules"]
    assert got["restartPolicy"] == "Never"
