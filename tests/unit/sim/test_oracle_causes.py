"""S14, S16: nobody is stopped, and no attempt begun, without a cause that exists."""

import pytest

from fleetctl.rendezvous.messages import Ping, Reset

from .histories import History

# S14


@pytest.mark.parametrize("family", ["api", "stale", "process"])
@pytest.mark.parametrize("why", ["restart", "pod"])
def test_s14_api_loss_alone_never_stops_a_trainer(family, why):
    history = History().runs().fault("x", family).stops(1, why)
    assert history.broken() == {"S14"}


def test_s14_no_fault_at_all_is_no_reason_either():
    assert History().runs().stops(1).broken() == {"S14"}


@pytest.mark.parametrize("family", ["node", "pod", "agent", "people"])
def test_s14_any_other_fault_may_be_a_reason(family):
    history = History().runs().fault("x", "api").fault("y", family).stops(1)
    assert history.broken() == set()
    assert history.looked_at("S14")


def test_s14_a_trainer_may_end_by_itself():
    assert History().runs().stops(1, "itself", 0).broken() == set()


# S16: containers

TRAINER_RULES = ["container-exit", "fatal-signal", "out-of-memory"]


@pytest.mark.parametrize("rule", [*TRAINER_RULES, "exit-not-observed"])
def test_s16_a_container_is_blamed_only_if_it_failed(rule):
    assert History().runs().dies(2).raises(rule=rule, rank=2).broken() == set()
    history = History().runs().dies(2).raises(rule=rule, rank=1)
    assert history.broken() == {"S16"}
    assert f"attempt 2 began for a cause that does not exist ({rule}: rank 1 did it)" in history.told()
    assert History().runs().dies(2).raises(rule=rule, rank=None).broken() == {"S16"}


@pytest.mark.parametrize("rule", TRAINER_RULES)
def test_s16_an_exit_with_0_is_no_failure(rule):
    assert History().runs().stops(2, "itself", 0).raises(rule=rule, rank=2).broken() == {"S16"}


@pytest.mark.parametrize("rule", [*TRAINER_RULES, "exit-not-observed"])
def test_s16_what_happened_before_the_last_raise_is_no_cause(rule):
    history = History().runs().recovers(2).later(9)
    assert history.raises(rule=rule, rank=2).broken() == {"S16"}


@pytest.mark.parametrize("rule", TRAINER_RULES)
def test_s16_a_restart_that_we_asked_for_is_no_cause(rule):
    history = History().runs().dies(2).raises(rank=2).later(1)
    history.everyone_else_restarts((2,)).releases().all_start().later(9)
    assert history.raises(rule=rule, rank=1).broken() == {"S16"}


def test_s16_a_helpers_failure_restarts_all_containers():
    history = History().runs().fault("container_exit", "pod", ranks=(1,)).restarts_in_place(1, 3).stops(1)
    assert history.raises(rank=1).broken() == set()


def test_s16_a_life_that_restarts_after_the_release_burns_the_attempt():
    history = History().runs().fault("agent_exits", "agent", ranks=(1,)).restarts_in_place(1, 88)
    assert history.raises(rule="exit-not-observed", rank=1).broken() == set()


def test_s16_an_agent_may_exit_with_our_code_by_a_fault_before_the_release():
    def history(*faulted: int) -> History:
        history = History().raises("Start", "start", None).all_pods()
        history.fault("agent_exits", "agent", ranks=faulted).restarts_in_place(1, 88).later(1).releases()
        return history.raises(rule="exit-not-observed", rank=1)

    assert history(1).broken() == set()
    assert history(2).broken() == {"S16"}


def test_s16_one_witness_is_enough():
    early = History().runs().fault("container_exit", "pod").stops(1, "itself", 1)
    assert early.raises(rank=1).broken() == set(), "the pod has not begun to restart"
    helper = History().runs().fault("container_exit", "pod").restarts_in_place(1, 3)
    assert helper.raises(rank=1).broken() == set(), "the trainer was not to blame"
    fatal = History().runs().fault("container_exit", "pod").pod_is(1, "Failed")
    assert fatal.raises(rank=1).broken() == set(), "the pod does not restart at all"
    asked = History().runs().fault("container_exit", "pod").restarts_in_place(1, 88)
    assert asked.raises(rule="exit-not-observed", rank=1).broken() == set(), "that life lost its ticket"


@pytest.mark.parametrize("rule", [*TRAINER_RULES, "exit-not-observed", "pod-failed", "pod-leaving", "node-dead"])
def test_s16_a_rank_that_never_was_is_no_cause(rule):
    assert "S16" in History().runs().pod_is(1, "Failed").raises(rule=rule, rank=None).broken()
    if rule != "pod-leaving":
        assert "S16" in History().runs().pod_is(1, "Failed").raises(rule=rule, rank=99).broken()


# S16: pods


@pytest.mark.parametrize("rule", ["pod-failed", "rejected-by-node"])
def test_s16_a_pod_has_failed_only_if_it_was_failed(rule):
    failed = History().runs().pod_is(1, "Failed").pod_is(1, "Running")
    assert failed.raises("Node", rule, 1).broken() == set()
    assert History().runs().pod_is(1, "Running").raises("Node", rule, 1).broken() == {"S16"}


def test_s16_a_pod_is_gone_only_if_it_is_not_there():
    assert History().runs().pod_goes(1).raises("Unknown", "pod-gone", 1).broken() == set()
    assert History().runs().raises("Unknown", "pod-gone", 1).broken() == {"S16"}
    leaving = History().runs().delete_pod(1, by="somebody")
    assert leaving.raises("Unknown", "pod-gone", 1).broken() == {"S16"}, "it is leaving"


def test_s16_a_pod_leaves_only_if_it_was_told_to():
    assert History().runs().delete_pod(1, by="somebody").raises("Unknown", "pod-leaving", 1).broken() == set()
    assert History().runs().pod_goes(1).raises("Unknown", "pod-leaving", 1).broken() == set()
    assert History().runs().raises("Unknown", "pod-leaving", 1).broken() == {"S16"}


@pytest.mark.parametrize("rule", ["pod-gone", "pod-leaving", "container-exit", "exit-not-observed"])
def test_s16_peoples_hands_on_the_pod_excuse_much(rule):
    scope = "Unknown" if rule.startswith("pod") else "Container"
    assert History().runs().fault("pod_edited", "people", ranks=(1,)).raises(scope, rule, 1).broken() == set()
    assert "S16" in History().runs().fault("pod_edited", "people", ranks=(2,)).raises(scope, rule, 1).broken()


# S16: nodes


@pytest.mark.parametrize("rule", ["node-condition", "node-dead", "node-deleted", "node-leaving", "node-out-of-service"])
def test_s16_a_node_is_blamed_only_if_something_befell_it(rule):
    assert History().runs().node_dies().raises("Node", rule, 1).broken() == set()
    assert History().runs().node_dies().raises("Node", rule, 2).broken() == {"S16"}
    tainted = History().runs()
    tainted.node("node-1", taint="karpenter.sh/disrupted")
    assert tainted.raises("Node", rule, 2).broken() == set()


def test_s16_a_pod_that_is_gone_was_on_its_node():
    assert History().runs().node_dies().pod_goes(1, by="pod-gc").raises("Node", "node-dead", 1).broken() == set()


# S16: devices, hangs, lemons, the user's rules


@pytest.mark.parametrize(
    ("rule", "fault"), [("hardware-report", "hardware_report"), ("device-unhealthy", "device_unhealthy")]
)
def test_s16_a_device_is_blamed_only_if_something_befell_it(rule, fault):
    assert History().runs().fault(fault, "pod", ranks=(1,)).raises("Node", rule, 1).broken() == set()
    assert History().runs().fault(fault, "pod", ranks=(2,)).raises("Node", rule, 1).broken() == {"S16"}
    assert History().runs().fault("crash_loop", "pod", ranks=(1,)).raises("Node", rule, 1).broken() == {"S16"}
    assert History().runs().fault(fault, "pod", ranks=(1,)).raises("Node", rule, None).broken() == {"S16"}


@pytest.mark.parametrize("rule", ["hang", "no-first-step"])
def test_s16_a_gang_stands_still_only_if_somebody_hangs(rule):
    assert History().runs().fault("trainer_hangs", "pod", ranks=(1,)).raises("Unknown", rule, 2).broken() == set()
    assert History().runs().raises("Unknown", rule, 1).broken() == {"S16"}
    assert History().runs().fault("trainer_slow", "pod", ranks=(1,)).raises("Unknown", rule, 1).broken() == {"S16"}
    hung = History().runs().fault("trainer_hangs", "pod", ranks=(1,)).later(1).raises("Unknown", rule, 1)
    assert hung.later(1).raises("Unknown", rule, 1).broken() == set(), "it hangs still"
    over = History().runs().fault("trainer_hangs", "pod", ranks=(1,)).later(1)
    over.fault("trainer_hangs", "pod", phase="ends", ranks=(1,)).later(1).raises("Unknown", rule, 1)
    assert over.later(1).raises("Unknown", rule, 1).broken() == {"S16"}


def test_s16_a_machine_is_a_lemon_only_after_two_failures():
    def failing(times: int, rank: int = 1) -> History:
        history = History().runs()
        for _ in range(times):
            history.recovers(rank).later(1)
        return history.dies(rank)

    assert failing(1).raises("Node", "lemon", 1).broken() == set()
    assert failing(0).raises("Node", "lemon", 1).broken() == {"S16"}
    assert failing(1).raises("Node", "lemon", 2).broken() == {"S16"}, "another rank, on another node"


def test_s16_a_users_rule_needs_something_that_it_may_be_about():
    assert History().runs().dies(1).raises("Container", "user-rule-3", 1).broken() == set()
    reported = History().runs().fault("hardware_report", "pod", ranks=(1,))
    assert reported.raises("Node", "user-rule-1", 1).broken() == set()
    assert History().runs().dies(2).raises("Container", "user-rule-3", 1).broken() == {"S16"}


# S16: people


def test_s16_a_gang_starts_once_and_resumes_after_it_was_suspended():
    assert History().runs().raises("Start", "start", None).broken() == {"S16"}
    assert History().runs().raises("Resume", "resumed", None).broken() == {"S16"}
    recreated = History().runs().writes_record(replaceCreatedBefore=1)
    assert recreated.raises("Resume", "resumed", None).broken() == {"S16"}
    suspended = History().runs().writes_record(replaceCreatedBefore=2)
    assert suspended.raises("Resume", "resumed", None).broken() == set()


def test_s16_does_not_believe_a_rule_that_nobody_has_told_it_about():
    assert History().runs().raises(rule="a-rule-of-tomorrow").broken() == {"S16"}


# S16: messages


@pytest.mark.parametrize("message", [Reset(2), Ping(2, "t")])
def test_s16_agents_are_told_only_of_attempts_that_are_wanted(message):
    assert History().runs().hears(1, message).broken() == {"S16"}
    assert History().runs().dies(0).raises().hears(1, message).broken() == set()


def test_s16_messages_to_nobodys_pods_are_not_judged():
    history = History().runs()
    history.create(history.pod_body(9, 1, []), 9, by="somebody")
    assert history.hears(9, Reset(7)).broken() == set()
