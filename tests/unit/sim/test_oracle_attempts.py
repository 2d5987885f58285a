"""S1, S2, S3, S5, S10: who runs which attempt. Each invariant meets a history that keeps it, and one that does not."""

from fleetctl.rendezvous.messages import Release

from .histories import History


def test_a_gang_that_starts_and_recovers_in_place_breaks_nothing():
    history = History().runs().later(60).recovers().later(60).recovers(3).later(60).ends()
    assert history.told() == ""
    for invariant in ("S1", "S2", "S3", "S5", "S7", "S8", "S9", "S10", "S11", "S12", "S14", "S16", "L1", "L4"):
        assert history.looked_at(invariant), invariant


def test_a_gang_whose_node_died_breaks_nothing():
    history = (
        History().runs().later(60).node_dies().later(25).replaces().later(9).releases().all_start().later(9).ends()
    )
    assert history.told() == ""
    for invariant in ("S6", "S13"):
        assert history.looked_at(invariant), invariant


# S1


def test_s1_nobody_runs_an_earlier_attempt_once_a_later_one_is_released():
    history = History().runs().dies(0).raises().everyone_else_restarts((0, 3)).releases()
    assert history.broken() == {"S1"}
    assert "attempt 2 was released while rank 3 ran attempt 1" in history.told()


def test_s1_nobody_starts_an_earlier_attempt_later():
    history = History().runs().recovers().later(5).stops(2).starts(2, 1)
    assert "S1" in history.broken()
    assert "rank 2 starts attempt 1 on node-1 although 2 is released" in history.told()


def dark(history: History, **fault: tuple[str, ...]) -> History:
    """node-0 goes dark with rank 0 and 1, which run on, and is replaced."""
    history.fault("node_dark", "node", nodes=("node-0",), **fault)
    return history.later(25).replaces().releases()


def test_s1_does_not_count_a_trainer_that_a_fault_has_fenced_once_its_pod_is_gone():
    history = History().runs()
    uids = tuple(history.pods[rank]["metadata"]["uid"] for rank in (0, 1))
    assert dark(history, fences=uids).broken() == set()
    assert dark(History().runs(), fences=("node-0",)).broken() == set()
    assert dark(History().runs()).broken() == {"S1"}


def test_s1_counts_a_fenced_trainer_while_its_pod_is_there():
    history = History().runs().fault("node_dark", "node", nodes=("node-0",), fences=("node-0",))
    history.raises("Node", "node-dead").everyone_else_restarts((0, 1)).releases()
    assert history.broken() == {"S1"}


def test_s1_does_not_count_a_trainer_whose_pod_somebody_took_away_by_force():
    def taken(by: str) -> History:
        history = History().runs().fault("pod_deleted", "people", ranks=(0,)).pod_goes(0, by=by)
        history.raises("Unknown", "pod-gone").create_pod(0).everyone_else_restarts()
        return history.releases()

    assert taken("somebody").broken() == set()
    assert taken("pod-gc").broken() == set()
    assert taken("kubelet/node-0").broken() == {"S1"}, "a kubelet says that a pod is gone when it is"


def test_s1_speaks_of_one_gang_only():
    history = History().runs()
    history.delete_gang().gang_goes()
    for rank in range(4):
        history.pod_goes(rank, by="garbage-collector")
    history.create_gang({})
    history.runs()
    assert history.broken() == set()


def test_s1_takes_what_ran_before_somebody_wiped_the_status_for_earlier():
    def wiped(*still_run: int) -> History:
        history = History().runs().recovers().fault("status_wiped", "people").writes_status({}, by="somebody")
        history.raises("Start", "start", None).everyone_else_restarts(still_run)
        return history.releases("ticket-after")

    assert wiped().broken() == set()
    assert wiped(2).broken() == {"S1"}


def test_s1_is_not_judged_while_the_gang_only_observes():
    def history(mode: str) -> History:
        history = History(recovery={"mode": mode}).runs().dies(0).raises().everyone_else_restarts((0, 3))
        return history.releases()

    assert history("Observe").broken() == set()
    assert history("Enforce").broken() == {"S1"}


def test_s1_a_fenced_trainer_may_start_late():
    def thawed(*fences: str) -> History:
        history = History().runs().fault("node_frozen", "node", nodes=("node-0",), fences=fences)
        uid = history.pods[0]["metadata"]["uid"]
        assert uid == "pod-2"
        history.stops(0, "itself", 1).stops(1, "node").replaces().releases().later(9)
        return history.starts(0, 1, uid=uid)

    assert "S1" not in thawed("pod-2").broken()
    assert "S1" in thawed().broken()


# S2


def test_s2_a_rank_starts_once_per_attempt():
    history = History().runs().later(9).stops(1, "itself", 1).starts(1)
    assert history.broken() == {"S2"}


def test_s2_is_not_judged_while_the_gang_only_observes():
    def alone(history: History) -> History:
        return history.runs().dies(1).starts(1)

    assert alone(History(recovery={"mode": "Observe"})).broken() == set()
    assert alone(History()).broken() == {"S2"}
    enforced = alone(History(recovery={"mode": "Observe"})).later(5).edit_recovery(mode="Enforce")
    assert enforced.dies(2).starts(2).dies(2).starts(2).broken() == set(), "it may have been let in before the edit"
    assert enforced.recovers().broken() == set()
    assert enforced.dies(2).starts(2).broken() == {"S2"}, "the next attempt is judged"


def test_a_leader_that_takes_over_between_the_release_and_the_starts_changes_nothing():
    history = History().raises("Start", "start", None).all_pods().releases().another_leads().all_start().ends()
    assert history.broken() == set()


# S3


def test_s3_nobody_starts_before_the_release_is_committed():
    history = History().raises("Start", "start", None).all_pods().starts(2, 1, ticket="ticket-1")
    assert history.broken() == {"S3"}
    assert "rank 2 starts attempt 1, but only 0 is released" in history.told()
    assert History().runs().starts(2, 0, ticket="").broken() >= {"S3"}, "nobody told it an attempt"


# S5


def test_s5_one_attempt_of_a_rank_is_run_by_one_pod():
    history = History().runs().later(9).stops(0, "node").pod_goes(0, by="somebody").create_pod(0, attempt=1).starts(0)
    assert history.broken() == {"S2", "S5"}
    assert "which pod uid pod-2 had started" in history.told()


def test_s5_two_trainers_of_a_rank_do_not_overlap():
    history = History().runs().later(9)
    history.create_pod(0, attempt=1).starts(0)
    assert "while it runs it on node-0" in history.told()


# S10


def test_s10_target_and_release_only_grow():
    for changes, wrong in (
        ({"target": 0}, "the target fell from 1 to 0"),
        ({"released": 0}, "the release fell from 1 to 0"),
        ({"target": 2, "released": 3}, "attempt 3 is released although the target is 2"),
        ({"target": 3, "released": 2, "ticket": "t"}, "attempt 2 was released while the target was 3"),
        ({"ticket": "another"}, "the ticket of attempt 1 was changed after its release"),
    ):
        history = History().runs().writes_record(**changes)
        assert "S10" in history.broken(), wrong
        assert wrong in history.told()


def test_s10_a_release_has_a_ticket():
    history = History().raises("Start", "start", None).writes_record(released=1)
    assert history.broken() == {"S10"}


def test_s10_lets_people_write_what_they_like():
    assert History().runs().writes_record(by="somebody", target=0, released=0).broken() == set()


def test_s10_agents_hear_only_releases_that_were_committed():
    history = History().runs()
    assert history.hears(0, Release(1, "ticket-1")).broken() == set()
    assert history.hears(0, Release(1, "another")).broken() == {"S10"}
    early = History().raises("Start", "start", None).all_pods()
    assert early.hears(0, Release(1, "ticket-1")).broken() == {"S10"}, "it is committed a moment later"


def test_s10_trainers_start_with_the_committed_ticket():
    history = History().raises("Start", "start", None).all_pods().releases("right")
    assert history.starts(0, ticket="right").broken() == set()
    assert history.starts(1, ticket="wrong").broken() == {"S10"}
