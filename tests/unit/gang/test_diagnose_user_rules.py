"""The user's rules: what they fit, what follows, and what no rule can change."""

from dataclasses import replace
from typing import Any

import pytest
from evidence import calm, ended, gathering, life, member, only, report, rule, verdicts

from fleetctl.gang.spec import UserRule
from fleetctl.gang.state import Container, Member, Node, Verdict

DEAD = Node(name="n1", silent=True, still_s=100, ready="Unknown")
LEAVES = Node(name="n1", taints=frozenset({"karpenter.sh/disrupted"}))
SICK = Node(name="n1", conditions=frozenset({"VendorSaysBad"}))
NO_START = Container(name="prepare", ended=ended(128, reason="StartError"))
OOM = ended(137, reason="OOMKilled")


def ruled(*rules: UserRule, seen: Member) -> Verdict:
    return only([seen], calm(rules=rules))


@pytest.mark.parametrize(
    ("match", "seen", "what"),
    [
        ({"exit_codes": [41, 42]}, member(exits=ended(42)), "rank 1 exited 42"),
        ({"signals": ["SIGBUS"]}, member(exits=ended(135)), "rank 1 exited 135 (SIGBUS)"),
        ({"signals": ["SIGKILL"]}, member(exits=ended(255, signal=9)), "rank 1 exited 255 (SIGKILL)"),
        (
            {"reasons": ["OOMKilled"]},
            member(exits=OOM),
            "rank 1 was killed because it met its memory limit (OOMKilled)",
        ),
        ({"reasons": ["Evicted"]}, member(pod={"phase": "Failed", "reason": "Evicted"}), "rank 1 shows Evicted"),
        (
            {"reasons": ["PreemptionByScheduler"]},
            member(pod={"disruption": "PreemptionByScheduler", "deleting": True}, alive=life(leaving=True)),
            "rank 1 shows PreemptionByScheduler",
        ),
        (
            {"reasons": ["ErrImagePull"]},
            member(container={"running": False, "waiting_reason": "ErrImagePull"}),
            "rank 1 shows ErrImagePull",
        ),
        (
            {"reasons": ["StartError"]},
            member(pod={"phase": "Failed", "preparing": NO_START}),
            "rank 1 shows StartError",
        ),
        ({"groups": ["workers"], "exit_codes": [3]}, member(exits=ended(3)), "rank 1 exited 3"),
        ({}, member(exits=ended(3)), "rank 1 exited 3"),
        ({"groups": ["workers"]}, member(exits=ended(3)), "rank 1 exited 3"),
        ({}, member(exits=ended(7), container={"name": "helper"}, pod={"restarting_since": 1105}),
         "rank 1, container helper, exited 7"),
        ({"node_conditions": ["VendorSaysBad"]}, member(node=SICK), "node n1 has the condition VendorSaysBad"),
        (
            {"hardware": ["nic-down"]},
            member(alive=life(hardware=(report("nic-down", device="mlx5_0"),))),
            "node n1: nic-down on mlx5_0, reported by rank 1's pod",
        ),
    ],
)  # fmt: skip
def test_a_rule_fits(match: dict[str, Any], seen: Member, what: str) -> None:
    verdict = ruled(rule("FailGang", exit_codes=[99]), rule("RecreatePod", **match), seen=seen)
    assert (verdict.rule, verdict.because) == ("user-rule-2", f"{what}; rule 2 of the gang says RecreatePod")
    assert (verdict.rung, verdict.node, verdict.fatal) == ("RecreatePod", "n1", False)


@pytest.mark.parametrize(
    ("match", "seen"),
    [
        ({"exit_codes": [42]}, member(exits=ended(43))),
        ({"exit_codes": [42]}, member(exits=ended(42), container={"name": "helper"}, pod={"phase": "Failed"})),
        ({"exit_codes": [42]}, member(exits=ended(42, at=1000))),  # an earlier life
        ({"exit_codes": [139], "signals": ["SIGBUS"]}, member(exits=ended(139))),  # both must hold
        ({"groups": ["others"], "exit_codes": [42]}, member(exits=ended(42))),
        ({"groups": ["others"]}, member(exits=ended(42))),
        ({}, member()),
        ({}, member(exits=ended(0))),
        ({}, member(alive=life(attempt=0, promise=None))),  # nobody saw how it ended
        ({"reasons": ["OOMKilled"]}, member(exits=ended(137, reason="Error"))),
        ({"reasons": ["PodInitializing"]}, member(container={"running": False, "waiting_reason": "PodInitializing"})),
        ({"reasons": ["PreemptionByScheduler"]}, member(pod={"disruption": "PreemptionByScheduler", "deleting": True})),
        ({"node_conditions": ["VendorSaysBad"]}, member(node=Node(name="n1", conditions=frozenset({"KernelReady"})))),
        ({"node_conditions": ["VendorSaysBad"]}, member(node=SICK, pod={"phase": "Succeeded"})),
        ({"node_conditions": ["VendorSaysBad"]}, replace(member(), node=None)),
        ({"hardware": ["xid-45"]}, member(alive=life(hardware=(report("xid-45"),)))),  # our own restarts look like that
        ({"hardware": ["nic-down"]}, member(alive=life(hardware=(report("nic-down", at=1),)))),
        ({"hardware": ["nic-down"]}, member(alive=life(hardware=(report("nic-down"),)), pod={"phase": "Succeeded"})),
        # an end that a machine, or somebody who took the pod away, brought about is no failure of a container
        ({}, member(exits=ended(137), node=DEAD)),
        ({}, member(exits=ended(143), node=LEAVES)),
        ({}, member(exits=ended(143), pod={"phase": "Failed", "reason": "NodeShutdown"})),
        ({}, member(exits=ended(143), pod={"deleting": True})),
        ({}, member(exits=ended(134), alive=life(hardware=(report("xid-79"),)))),
    ],
)
def test_a_rule_does_not_fit(match: dict[str, Any], seen: Member) -> None:
    found = verdicts([seen], calm(rules=[rule("FailGang", **match)]))
    assert not any(v.fatal or v.rule.startswith("user-rule") for v in found)


@pytest.mark.parametrize(
    ("action", "scope", "rung", "node"),
    [
        ("RestartInPlace", "Container", "InPlace", ""),
        ("RecreatePod", "Container", "RecreatePod", "n1"),
        ("RecreateGang", "Container", "RecreateGang", ""),
    ],
)
def test_what_a_rule_about_an_exit_makes_of_it(action: Any, scope: str, rung: str, node: str) -> None:
    verdict = ruled(rule(action, exit_codes=[139]), seen=member(exits=ended(139)))
    assert (verdict.scope, verdict.rung, verdict.node, verdict.strikes) == (scope, rung, node, "")
    assert (verdict.rule, verdict.since) == ("user-rule-1", 1105)


@pytest.mark.parametrize(
    ("action", "rung"), [("RecreatePod", "RecreatePod"), ("RecreateGang", "RecreateGang"), ("FailGang", "InPlace")]
)
def test_a_rule_about_a_machine_names_it(action: Any, rung: str) -> None:
    for match in ({"node_conditions": ["VendorSaysBad"]}, {"hardware": ["xid-31"]}):
        seen = member(node=SICK, alive=life(hardware=(report("xid-31"),)))
        verdict = ruled(rule(action, **match), seen=seen)
        assert (verdict.scope, verdict.rung, verdict.node) == ("Node", rung, "n1")
        assert verdict.since == (1100.5 if "hardware" in match else 0)


def test_a_rule_fails_the_gang() -> None:
    by_code = ruled(rule("FailGang", exit_codes=[64]), seen=member(exits=ended(64)))
    assert (by_code.rule, by_code.fatal) == ("fatal-exit", True)
    by_signal = ruled(rule("FailGang", signals=["SIGSEGV"]), seen=member(exits=ended(139)))
    assert (by_signal.rule, by_signal.fatal) == ("user-rule-1", True)
    assert by_signal.because == "rank 1 exited 139 (SIGSEGV); rule 1 of the gang says FailGang"


def test_while_the_breaker_is_open_rules_do_not_take_anybodys_word_about_a_node_either() -> None:
    for action in ("RecreatePod", "RecreateGang", "FailGang"):
        rules = [rule(action, node_conditions=["VendorSaysBad"])]  # type: ignore[arg-type]
        assert verdicts([member(node=SICK)], calm(rules=rules, distrusted=True)) == ()


def test_the_first_rule_that_fits_decides() -> None:
    allow = rule("RestartInPlace", exit_codes=[3]), rule("RecreatePod", exit_codes=[3, 4]), rule("FailGang")
    assert ruled(*allow, seen=member(exits=ended(3))).rule == "user-rule-1"
    assert ruled(*allow, seen=member(exits=ended(4))).rule == "user-rule-2"
    assert ruled(*allow, seen=member(exits=ended(5))).fatal


def test_a_rule_comes_before_the_built_in_ones() -> None:
    evicted = member(pod={"phase": "Failed", "reason": "Evicted"})
    verdict = ruled(rule("RestartInPlace", reasons=["Evicted"]), seen=evicted)
    assert (verdict.scope, verdict.node) == ("Container", "")
    assert ruled(rule("RecreateGang", exit_codes=[3]), seen=member(exits=ended(3), node=LEAVES)).rung == "RecreateGang"


# what no rule can change


@pytest.mark.parametrize("pod", [{"phase": "Failed"}, {"deleting": True}])
def test_a_pod_that_has_ended_cannot_restart_in_place(pod: dict[str, Any]) -> None:
    in_place, seen = rule("RestartInPlace", exit_codes=[3]), member(exits=ended(3), pod=pod)
    assert ruled(in_place, seen=seen).rung == "RecreatePod"
    later = only([seen], gathering(rules=[in_place]))
    assert (later.rule, later.rung) == ("user-rule-1", "RecreatePod")


def test_a_dead_machine_is_dead() -> None:
    for action in ("RestartInPlace", "RecreatePod", "RecreateGang"):
        verdict = ruled(rule(action, exit_codes=[3]), seen=member(exits=ended(3), node=DEAD))  # type: ignore[arg-type]
        assert (verdict.rule, verdict.dead) == ("node-dead", True)


def test_deadlines_go_on_being_judged_though_a_rule_wants_to_wait() -> None:
    lenient = gathering(rules=[rule("RestartInPlace", exit_codes=[3])])
    assert only([member(exits=ended(3))], lenient, {1: 119}).rung == "InPlace"
    assert only([member(exits=ended(3))], lenient, {1: 120}).rule == "in-place-deadline"


def test_what_a_rule_names_is_seen_while_the_gang_gathers_and_before_any_deadline() -> None:
    stuck = member(container={"running": False, "waiting_reason": "CreateContainerConfigError"}, heard=False)
    assert verdicts([stuck], gathering()) == ()
    named = gathering(rules=[rule("FailGang", reasons=["CreateContainerConfigError"])])
    assert only([stuck], named).because == "rank 1 shows CreateContainerConfigError; rule 1 of the gang says FailGang"
