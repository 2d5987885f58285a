"""S4, S6 to S9, S11 to S13: what controllers write, and what it costs. What keeps an invariant, and what does not."""

from typing import Any

import pytest

from fleetctl.sim.journal import ProcessChanged

from .histories import History


def gathers(**recovery: Any) -> History:
    """Rank 0 died, attempt 2 is wanted, and rank 3 does not come back."""
    history = History(ranks=8, recovery=recovery).runs().later(60).dies(0).raises()
    return history.everyone_else_restarts((0, 3))


def gives_up(history: History, rank: int = 3) -> History:
    """The record names that rank's pod, which is deleted."""
    return history.writes_record(replacing=[history.entry(rank)]).delete_pod(rank)


# S4


def test_s4_a_pod_on_a_good_node_has_until_its_deadline_to_come_back():
    kept, early = gathers().later(120), gathers().later(119)
    assert gives_up(kept).broken() == set()
    assert kept.looked_at("S4")
    assert gives_up(early).broken() == {"S4"}
    assert "after 119.0 s of the 120 s it has" in early.told()


def test_s4_the_deadline_is_the_users():
    assert gives_up(gathers(inPlaceDeadlineSeconds=30).later(30)).broken() == set()
    assert gives_up(gathers(inPlaceDeadlineSeconds=30).later(29)).broken() == {"S4"}


def test_s4_a_deadline_that_was_raised_a_moment_ago_may_not_have_been_heard():
    edited = gathers(inPlaceDeadlineSeconds=30).later(20).edit_recovery(inPlaceDeadlineSeconds=500).later(11)
    assert gives_up(edited).broken() == set()


def test_s4_a_new_pod_has_the_longer_deadline():
    def replaced(after_s: float) -> History:
        history = gathers().later(130)
        gives_up(history).pod_goes(3).create_pod(3, node="node-5").later(after_s)
        return gives_up(history)

    assert replaced(900).broken() == set()
    assert replaced(899).broken() == {"S4"}


@pytest.mark.parametrize("why", ["fault", "taint", "not ready", "deleted"])
def test_s4_does_not_judge_nodes_that_were_ever_unwell(why):
    history = gathers()
    if why == "fault":
        history.fault("kubelet_slow", "node", nodes=("node-1",))
    elif why == "deleted":
        history.wrote("nodes", {"metadata": {"name": "node-1"}}, None, verb="delete")
    else:
        history.node("node-1", taint="karpenter.sh/disrupted" if why == "taint" else "", ready="False")
    assert gives_up(history).broken() == set()


def test_s4_our_own_taint_makes_no_node_unwell():
    history = gathers()
    history.node("node-1", taint="fleetctl.dev/quarantined")
    history.wrote("nodes", None, {"metadata": {"name": "node-1"}, "spec": {}})  # and a new one says nothing yet
    assert gives_up(history).broken() == {"S4"}


def test_s4_a_container_fault_is_no_excuse():
    history = gathers().fault("container_never_returns", "pod", ranks=(3,))
    assert gives_up(history).broken() == {"S4"}


def test_s4_does_not_judge_what_is_over_or_on_its_way_out():
    assert gives_up(gathers().pod_is(3, "Failed")).broken() == set()
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    assert gives_up(gathers().pod_is(3, "Running", evicted)).broken() == set()
    assert gives_up(gathers().delete_pod(3, by="somebody")).broken() == set()
    assert gives_up(gathers().fault("pod_edited", "people", ranks=(3,))).broken() == set()


def test_s4_does_not_judge_pods_without_a_node():
    history = gathers().create_pod(3, node="")
    assert gives_up(history).broken() == set()


def test_s4_does_not_judge_a_gang_that_is_suspended():
    history = History().runs().writes_record(replaceCreatedBefore=2).delete_pod(1)
    assert history.broken() == set()
    assert not history.looked_at("S4")


# S6


def test_s6_only_what_the_record_names_is_deleted():
    history = gathers().later(200).writes_record(replacing=[gathers().entry(3)])
    assert history.delete_pod(2).broken() == {"S6"}


def test_s6_a_name_is_a_uid_not_a_rank():
    history = gathers().later(200)
    history.writes_record(replacing=[history.entry(3, uid="its successor")]).delete_pod(3)
    assert history.broken() == {"S6"}


def test_s6_what_was_named_for_an_earlier_attempt_is_not_named_any_more():
    history = History().runs().node_dies().later(25).replaces().releases()
    assert history.delete_pod(1).broken() >= {"S6"}


def test_s6_creation_attempts_count_and_no_later_ones():
    assert History().runs().writes_record(replaceCreatedBefore=2).delete_pod(1).broken() == set()
    assert "S6" in History().runs().writes_record(replaceCreatedBefore=1).delete_pod(1).broken()


def test_s6_a_terminating_orphan_may_be_removed():
    def orphan(history: History) -> History:
        return history.delete_pod(1, by="garbage-collector").delete_pod(1, at_once=True)

    assert orphan(History().runs().delete_gang()).broken() == set()
    assert orphan(History().runs().delete_gang().gang_goes()).broken() == set()
    assert orphan(History().runs()).broken() == {"S6"}
    assert History().runs().delete_gang().delete_pod(1).broken() == {"S6"}, "nobody had told it to go"
    assert History().runs().gang_goes().delete_pod(1).broken() == {"S6"}


# S7


def creates(count: int, within_s: float) -> History:
    history = History(ranks=300).raises("Start", "start", None)
    for rank in range(count):
        history.create_pod(rank).later(within_s / count)
    return history


def test_s7_creates_keep_the_pace():
    assert creates(100, 0.5).broken() == set()
    assert creates(101, 0.5).broken() == {"S7"}
    assert creates(250, 2.5).broken() == set()


def test_s7_deletes_keep_the_pace():
    def suspended(within_s: float) -> History:
        history = creates(150, 3.0).releases().writes_record(replaceCreatedBefore=2)
        for rank in range(150):
            history.delete_pod(rank).later(within_s / 150)
        return history

    assert suspended(3.0).broken() == set()
    assert suspended(1.0).broken() == {"S7"}


# S8 (S16 does not know the rules that are made up here)


def test_s8_a_raise_is_paid_for_by_its_kind():
    for scope, rule, kind, other in (
        ("Container", "fatal-signal", "application", "node"),
        ("Node", "x", "node", "application"),
        ("Unknown", "x", "node", "application"),
    ):
        assert History().runs().dies(0).raises(scope, rule).broken() - {"S16"} == set()
        for wrong in ((), (other,), (kind, other)):
            assert History().runs().dies(0).raises(scope, rule, charged=wrong).broken() - {"S16"} == {"S8"}
        assert kind in History().runs().dies(0).raises(scope, rule).status["budgets"]


def test_s8_a_start_is_free():
    assert History().raises("Start", "start", None).broken() - {"S16"} == set()
    assert History().raises("Start", "start", None, charged=("node",)).broken() - {"S16"} == {"S8"}


def test_s8_nothing_spent_is_forgotten_inside_its_window():
    history = History().runs().dies(0).raises()
    assert history.sets_spend(application={"hours": {}, "sinceProgress": 1}).broken() - {"S16"} == {"S8"}
    assert "1 application restarts of 2026-11-21T06 became 0" in history.told()


def test_s8_what_is_older_than_the_window_may_be_forgotten():
    def spent(old: str) -> History:
        history = History(recovery={"budgets": {"node": {"withinHours": 3}}}).runs().dies(0)
        history.sets_spend(by="somebody", node={"hours": {old: 4}})
        history.gang["status"]["budgets"]["node"] = {"hours": {old: 4}}
        before = history.gang
        history.gang = {**before, "status": {**before["status"], "budgets": {}}}
        wanted = history.raises("Node", "x").gang
        history = History(recovery={"budgets": {"node": {"withinHours": 3}}}).runs().dies(0)
        history.writes_gang({**before, "metadata": history.gang["metadata"]})
        return history.writes_gang({**wanted, "metadata": history.gang["metadata"]}, by="a", subresource="status")

    assert spent("2026-11-21T02").broken() - {"S16"} == set()
    assert spent("2026-11-21T03").broken() - {"S16"} == {"S8"}


def test_s8_no_budget_is_exceeded():
    def spend(limit: int) -> History:
        history = History(recovery={"budgets": {"node": {"restarts": limit}}}).runs().dies(0)
        return history.raises("Node", "x").raises("Node", "x")

    assert spend(2).broken() - {"S16"} == set()
    assert spend(1).broken() - {"S16"} == {"S8"}


def test_s8_a_budget_that_was_lowered_is_exceeded_only_by_the_next_restart():
    history = History().runs().dies(0).raises("Node", "x").raises("Node", "x")
    history.edit_recovery(budgets={"node": {"restarts": 1}})
    assert history.raises("Container", "x").broken() - {"S16"} == set()
    assert history.raises("Node", "x").broken() - {"S16"} == {"S8"}


def test_s8_restarts_in_a_row_without_progress_are_bounded():
    def crashes(times: int, apart_s: float = 60.0) -> History:
        history = History().runs()
        for _ in range(times):
            history.later(apart_s).recovers()
        return history

    assert crashes(3).broken() - {"S16"} == set()
    assert crashes(4).broken() - {"S16"} == {"S8"}


def test_s8_restarts_in_a_row_start_anew_only_after_progress():
    def forgiven(ran_s: float) -> History:
        history = History().runs().later(60).recovers().later(ran_s).dies(0)
        after = History()
        after.gang, after.at = history.gang, history.at
        spent = {"hours": {"2026-11-21T06": 2}, "sinceProgress": 1}
        wanted = after.raises().gang
        status = {**wanted["status"], "budgets": {"application": spent}}
        return history.writes_status(status)

    assert forgiven(600).broken() - {"S16"} == set()
    assert forgiven(300).broken() - {"S16"} == {"S8"}


def test_s8_naming_further_pods_may_cost_one():
    def named(**changes: Any) -> History:
        history = gathers()
        budgets = {**history.status["budgets"], "node": {"hours": {"2026-11-21T06": 1}}}
        record = {**history.record, **changes}
        return history.writes_status({**history.status, "attempt": record, "budgets": budgets})

    assert named(replacing=[gathers().entry(3)]).broken() - {"S16"} == set()
    assert named().broken() - {"S16"} == {"S8"}


# S9


def test_s9_terms_only_grow():
    history = History().runs().another_leads("b", term=5)
    assert history.broken() == set()
    assert history.writes_record(by="b", writer="b/4").broken() == {"S9"}


def test_s9_who_was_deposed_writes_nothing():
    history = History().runs().another_leads()
    assert history.condition("Held").broken() == {"S9"}, "it writes under another's name"
    history = History().runs().another_leads().node_dies().raises("Node", "node-dead", replacing=(), by="b")
    history.writes_record(by="b", replacing=[history.entry(0)])
    assert history.delete_pod(0, by="b", at_once=True).create_pod(0, by="b").broken() == set()
    assert history.create_pod(1, by="a").broken() == {"S9"}
    assert "a did create pod llm-worker-1 while the record's writer was b/2" in history.told()


def test_s9_orphans_are_cleared_by_whoever_leads():
    def orphan(history: History) -> History:
        history.controller_lists("b")
        return history.delete_pod(1, by="garbage-collector").delete_pod(1, by="b", at_once=True)

    assert orphan(History().runs().delete_gang()).broken() == set()
    assert orphan(History().runs().gang_goes()).broken() == set()
    assert orphan(History().runs()).broken() == {"S6", "S9"}


def test_s9_a_gang_that_was_never_started_has_no_writer():
    history = History()
    history.controller_lists("b")
    refused = {"type": "Accepted", "status": "False", "reason": "NotAccepted", "message": "m"}
    history.writes_status({"attempt": {"writer": "a/1"}}, by="a")
    history.writes_status({"attempt": {"writer": "a/1"}, "conditions": [refused]}, by="b")
    assert history.create_pod(0, by="b").broken() == set()


# S11


def test_s11_nothing_is_written_before_everything_was_listed():
    history = History(listed=False)
    history.controller_starts("a")
    history.controller_lists("a", "gangs", "pods")
    assert history.raises("Start", "start", None).broken() == {"S11"}
    history = History(listed=False)
    history.controller_lists("a")
    assert history.raises("Start", "start", None).broken() == set()
    history.controller_starts("a")
    assert history.create_pod(0).broken() == {"S11"}, "that was before it started again"


def test_s11_what_a_crashed_controller_had_asked_for_may_still_be_done():
    history = History().raises("Start", "start", None)
    history.tell(ProcessChanged(at=0.0, process="a", what="crashes"))
    assert history.create_pod(0).broken() == set()


# S12


def test_s12_pods_without_an_owner_are_left_alone():
    history = History().runs()
    history.create(history.pod_body(9, 1, []), 9, by="somebody")
    assert history.broken() == set()
    assert history.delete_pod(9).broken() == {"S12"}


def test_s12_pods_are_made_for_gangs_that_exist():
    history = History().raises("Start", "start", None)
    unknown = {"apiVersion": "fleetctl.dev/v1alpha1", "kind": "Gang", "uid": "never-seen"}
    foreign = {"apiVersion": "jobset.x-k8s.io/v1", "kind": "Gang", "uid": history.gang["metadata"]["uid"]}
    assert history.create(history.pod_body(0, 1, [unknown]), 0, by="a").broken() == {"S12"}
    assert history.create(history.pod_body(1, 1, [foreign]), 1, by="a").oracle.counts["S12"] == 2


def test_s12_a_pods_labels_are_its_owners():
    history = History().raises("Start", "start", None)
    owner = {"apiVersion": "fleetctl.dev/v1alpha1", "kind": "Gang", "uid": history.gang["metadata"]["uid"]}
    assert history.create(history.pod_body(0, 1, [owner], gang="another"), 0, by="a").broken() == {"S12"}


def test_s12_a_pod_whose_labels_people_changed_is_still_its_owners():
    history = History().runs().writes_record(replaceCreatedBefore=9)
    pod = history.pods[1]
    labels = {**pod["metadata"]["labels"], "fleetctl.dev/gang": "another"}
    history.changes_pod(1, {**pod, "metadata": {**pod["metadata"], "labels": labels}}, by="somebody")
    assert history.delete_pod(1).broken() == set()


def test_s12_of_a_gang_only_the_status_is_written():
    history = History()
    changed = {**history.gang, "spec": {**history.gang["spec"], "suspend": True}}
    assert History().writes_gang(changed, by="a", subresource="status").broken() == {"S12"}
    assert History().writes_gang(history.gang, by="a").broken() == {"S12"}
    history.wrote("gangs", history.gang, None, by="a", verb="delete")
    assert "made or removed the object" in history.told()
    history = History()
    meta = {"name": "new", "namespace": "default", "uid": "new"}
    history.wrote("gangs", None, {"metadata": meta}, by="a", verb="create")
    assert "made or removed the object" in history.told()
    another = {**history.gang, "metadata": {**history.gang["metadata"], "uid": "another"}}
    assert "the status of another uid" in history.writes_gang(another, by="a", subresource="status").told()


# S13


def nodes_die(bad: int, **recovery: Any) -> History:
    """Of ten nodes, so many; their pods are deleted."""
    history = History(ranks=20, recovery=recovery).runs().later(60)
    ranks = tuple(range(2 * bad))
    history.fault("node_killed", "node", nodes=tuple(f"node-{n}" for n in range(bad)))
    if bad:
        history.raises("Node", "node-dead", 0, replacing=tuple(history.entry(rank) for rank in ranks))
    for rank in ranks:
        history.delete_pod(rank, at_once=True)
    return history


def test_s13_nothing_is_deleted_above_the_ceiling():
    assert nodes_die(2).broken() == set()
    assert nodes_die(3).broken() == {"S13"}
    assert nodes_die(3, unhealthyCeiling="30%").broken() == set()
    assert "3 of 10 nodes are judged bad; 2 may be" in nodes_die(3).told()


def test_s13_a_ceiling_that_was_lowered_a_moment_ago_may_not_have_been_heard():
    history = nodes_die(0, unhealthyCeiling="30%")
    history.fault("node_killed", "node", nodes=("node-0", "node-1", "node-2"))
    history.raises("Node", "node-dead", 0, replacing=tuple(history.entry(rank) for rank in (0, 2, 4)))
    history.edit_recovery(unhealthyCeiling="10%")
    assert history.delete_pod(0, at_once=True).broken() == set()


def test_s13_one_node_is_always_allowed():
    assert nodes_die(1, unhealthyCeiling="0%").broken() == set()


def test_s13_the_share_is_of_the_nodes_the_gang_was_on_when_this_began():
    history = History(ranks=20).runs().later(60)
    history.fault("node_killed", "node", nodes=("node-0", "node-1"))
    history.raises("Node", "node-dead", 0, replacing=tuple(history.entry(rank) for rank in range(4)))
    for rank in (16, 17, 18, 19):
        history.pod_goes(rank, by="somebody")
    for rank in range(4):
        history.delete_pod(rank, at_once=True)
    assert history.broken() == set()


def test_s13_speaks_of_pods_whose_own_node_is_judged_bad():
    history = History(ranks=20).runs().later(60)
    history.fault("node_killed", "node", nodes=("node-0", "node-1", "node-2", "node-3"))
    bad = [history.entry(rank) for rank in (0, 2, 4)]
    history.raises("Node", "node-dead", 0, replacing=(*bad, history.entry(6, bad=False)))
    assert history.delete_pod(6).broken() == set()
    assert history.delete_pod(4).broken() == {"S13"}


def test_s13_pods_that_have_ended_accuse_nobody():
    history = History(ranks=20).runs().later(60)
    for rank in range(6):
        history.pod_is(rank, "Failed")
    history.raises("Node", "rejected-by-node", 0, replacing=tuple(history.entry(r, bad=False) for r in range(6)))
    for rank in range(6):
        history.delete_pod(rank)
    assert history.broken() == set()
