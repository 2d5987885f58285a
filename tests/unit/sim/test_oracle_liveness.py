"""L1 to L4: how runs end."""

import pytest

from .histories import History


def test_l1_all_ranks_run_one_attempt_in_time():
    assert History().runs().ends().broken() == set()
    late = History().runs().later(30).recovers().ends(bound_s=2)
    assert late.broken() == {"L1"}
    assert "llm is running only since 38.6 s, 3.6 s after the last fault began or ended; 2 s are allowed" in late.told()
    assert History().runs().later(30).recovers().ends(bound_s=4).broken() == set()


def test_l1_counts_from_the_end_of_the_last_fault():
    def recovered(phase: str) -> History:
        history = History().runs().fault("node_dark", "node").later(30)
        if phase == "ends":
            history.fault("node_dark", "node", phase="ends")
        return history.recovers().fault("node_dark", "node", phase="ends").ends(bound_s=1)

    assert recovered("ends").broken() == set()


def test_l1_every_rank_must_run():
    history = History().runs().stops(2, "itself", 0).ends()
    assert "L1" in history.broken()
    assert "3 of 4 ranks run attempt 1, the target is 1; conditions that are True: none" in history.told()


def test_l1_a_gang_that_gathers_does_not_run():
    history = History().runs().dies(0).raises().condition("Held").ends()
    assert history.broken() == {"L1"}
    wanted = History().runs().pod_goes(1).raises("Unknown", "pod-gone", 1).condition("Held").ends()
    assert wanted.broken() == {"L1"}, "all run, but another attempt is wanted"


def test_l1_ranks_of_different_attempts_are_not_one_gang():
    history = History().runs().recovers().stops(1, "node").starts(1, 1).condition("Held").ends()
    assert "L1" in history.broken()


@pytest.mark.parametrize("end", ["failed", "completed", "held", "suspended"])
def test_l1_another_end_is_a_condition(end):
    kind = end.capitalize()
    assert History().runs().condition(kind).ends(end).broken() == set()
    assert History().runs().ends(end).broken() == {"L1"}
    assert History().runs().condition(kind).condition(kind, "False").ends(end).broken() == {"L1"}
    late = History().runs().fault("x", "pod").later(61).condition(kind).ends(end)
    assert late.broken() == {"L1"}


def test_l1_a_condition_counts_from_when_it_became_true():
    history = (
        History().runs().fault("x", "pod").condition("Held").later(99).condition("Held", message="more").ends("held")
    )
    assert history.broken() == set()


def test_l1_a_gang_that_should_be_gone_is_gone():
    assert History().runs().delete_gang().gang_goes().ends("gone").broken() == set()
    assert History().runs().delete_gang().ends("gone").broken() == {"L1"}
    assert History().runs().fault("x", "pod").later(61).gang_goes().ends("gone").broken() == {"L1"}


def test_l1_there_must_be_a_gang_that_runs():
    assert History().runs().gang_goes().ends().broken() == {"L1"}


def test_l2_at_the_end_it_is_quiet():
    assert History().runs().later(30).ends(quiet_s=30).broken() == set()
    noisy = History().runs().later(29).ends(quiet_s=30)
    assert noisy.broken() == {"L2"}
    assert "controller/a still wrote gangs llm 29.0 s before the end" in noisy.told()
    assert History().runs().ends(quiet_s=0).oracle.evaluated["L2"] == 0


def test_l2_leases_are_renewed_all_the_same():
    history = History().runs().later(30)
    lease = {"metadata": {"name": "fleetctl-controller"}}
    history.wrote("leases", lease, lease, by="a")
    assert history.ends(quiet_s=30).broken() == set()
    history.wrote("events", None, {"metadata": {"name": "e"}}, by="a", verb="create")
    assert history.ends(quiet_s=30).broken() == {"L2"}


@pytest.mark.parametrize("kind", ["Failed", "Completed", "Suspended", "Held"])
def test_l3_a_gang_that_does_not_run_says_why(kind):
    def stopped() -> History:
        return History().runs().dies(0).raises()

    assert "L3" not in stopped().condition(kind).ends().broken()
    assert stopped().condition(kind).ends().looked_at("L3")
    for history in (
        stopped(),
        stopped().condition(kind, "False"),
        stopped().condition(kind, message=""),
        stopped().condition(kind, reason=""),
        stopped().condition("Running"),
    ):
        assert "L3" in history.ends().broken()


def test_l4_a_recovery_writes_only_so_much():
    def chatty(times: int) -> History:
        history = History().runs()
        for number in range(times):
            history.condition("Held", message=str(number))
        return history.ends()

    # one raise (20), four pods and ten; six of them are spent on the start
    assert chatty(28).broken() == set()
    assert chatty(29).broken() == {"L4"}
    assert chatty(29).oracle.violations[0].text.startswith("gang llm: 35 writes for 0 replaced pods")


def test_l4_replaced_pods_may_cost_four_each():
    def chatty(times: int) -> History:
        history = History().runs().node_dies().later(25).replaces().releases().all_start()
        for number in range(times):
            history.condition("Held", message=str(number))
        return history.ends()

    # two raises (40), 2 pods replaced (8), 14 for the start; 6 + 6 are spent
    assert chatty(50).broken() == set()
    assert chatty(51).broken() == {"L4"}


def test_l4_counts_faults_when_they_begin():
    def chatty(times: int) -> History:
        history = History().runs()
        for _ in range(2):
            history.fault("trainer_hangs", "pod").fault("trainer_hangs", "pod", phase="ends")
        for number in range(times):
            history.condition("Held", message=str(number))
        return history.ends()

    assert chatty(48).broken() == set()
    assert chatty(49).broken() == {"L4"}


def test_l4_is_not_judged_if_writes_had_to_be_repeated():
    history = History().runs().fault("conflicts", "api")
    for number in range(99):
        history.condition("Held", message=str(number))
    assert history.ends().broken() == set()
    assert not history.looked_at("L4")
