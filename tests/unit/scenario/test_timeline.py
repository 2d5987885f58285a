"""The story of hand-made runs, line by line, as it would be told."""

import pytest

from fleetctl.rendezvous.messages import Ping, Reset
from fleetctl.scenario.outcome import Line
from fleetctl.scenario.report import story_line
from fleetctl.scenario.timeline import Timeline

from .journals import Telling


class Told(Telling):
    def __init__(self, ranks: int) -> None:
        self.lines: list[Line] = []
        self.timeline = Timeline(self.lines.append)
        super().__init__(self.timeline, ranks=ranks)

    def live(self) -> list[str]:
        """What has been told so far."""
        return [story_line(line).strip() for line in self.lines]

    def story(self) -> list[str]:
        """All of it, the run being over."""
        assert self.timeline.story() == self.lines
        return self.live()

    def since(self, at: float) -> list[str]:
        told = self.story()
        return [line for line, of in zip(told, self.lines, strict=True) if of.at >= at]


def test_a_thousand_ranks_that_recover_are_a_dozen_lines() -> None:
    told = Told(ranks=1024).nodes(130)
    everyone = range(1024)
    told.later(0.3).process("leads")
    told.created().raised(1, "the gang starts", scope="Start").pod_created(*everyone).later(3)
    told.heard(Ping(1, "t"), *everyone).released(1).later(0.9).starts(*everyone, attempt=1)
    told.later(25.8).fault(text="rank 417: the trainer dies (SIGSEGV, exit 139)", ranks=(417,)).ends(417, code=139)
    told.later(0.4).raised(2, "rank 417 exited 139 (SIGSEGV)").event("attempt 2: rank 417 exited 139 (SIGSEGV)")
    others = [rank for rank in everyone if rank != 417]
    told.later(0.1).heard(Reset(2), *others).later(0.2).restarts(417).restarts(*others, each_s=0.001)
    told.ends(*others, why="restart").later(2).heard(Ping(2, "t"), *everyone)
    told.released(2).event("1024 ranks run attempt 2, 3 s after: rank 417", "Released").later(1).starts(
        *everyone, attempt=2
    )
    assert told.story() == [
        "0.3  controller-0 leads",
        "0.3  gang llm: 1,024 ranks on 130 nodes",
        "0.3  attempt 1: the gang starts",
        "0.3  the pods of all 1,024 ranks are created",
        "3.3  all 1,024 ranks stand at the barrier of attempt 1",
        "3.3  attempt 1 is released: all 1,024 trainers may run",
        "4.2  all 1,024 trainers run attempt 1",
        "30.0  FAULT  rank 417: the trainer dies (SIGSEGV, exit 139)",
        "30.0  the trainer of rank 417 exits 139 (SIGSEGV)",
        "30.4  attempt 2: rank 417 exited 139 (SIGSEGV)",
        "30.5  1,023 ranks (all but 417) are told to restart in place",
        "30.7  all 1,024 ranks restart in place (until 31.7)",
        "33.7  all 1,024 ranks stand at the barrier of attempt 2",
        "33.7  attempt 2 is released: all 1,024 trainers may run",
        "34.7  all 1,024 trainers run attempt 2",
    ]


def test_lines_stand_in_the_order_of_time_and_are_told_as_soon_as_nothing_can_come_before_them() -> None:
    told = Told(ranks=8).runs()
    told.later(7).restarts(0).later(1).fault(text="the API server is slow")
    assert "10.0  rank 0 restarts in place" not in told.live()
    assert "11.0  FAULT  the API server is slow" not in told.live()
    told.restarts(1).later(2).process("crashes")
    assert told.live()[-3:] == [
        "10.0  2 ranks (0-1) restart in place (until 11.0)",
        "11.0  FAULT  the API server is slow",
        "13.0  controller-0 crashes",
    ]
    assert [line.at for line in told.lines] == sorted(line.at for line in told.lines)


def test_what_happens_again_after_a_pause_is_a_line_of_its_own() -> None:
    told = Told(ranks=8).runs()
    told.later(7).restarts(0).later(1.4).restarts(1).later(1.6).restarts(2)
    assert told.since(4) == ["10.0  2 ranks (0-1) restart in place (until 11.4)", "13.0  rank 2 restarts in place"]


def test_what_never_pauses_is_told_all_the_same() -> None:
    told = Told(ranks=8).runs().later(7)
    for _ in range(130):
        told.restarts(0).later(1)
    assert [line[:6] for line in told.since(4)] == ["10.0  ", "70.0  ", "130.0 "]


def test_a_decision_ends_what_went_before_it() -> None:
    told = (
        Told(ranks=8).runs().later(7).ends(3, code=1).later(0.1).raised(2, "rank 3 exited 1").later(0.1).ends(4, code=1)
    )
    assert told.since(4) == [
        "10.0  the trainer of rank 3 exits 1",
        "10.1  attempt 2: rank 3 exited 1",
        "10.2  the trainer of rank 4 exits 1",
    ]


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("itself", "the trainers of 2 ranks (1,3) exit 137 (SIGKILL)"),
        ("node", "the trainers of 2 ranks (1,3) end with their nodes"),
        ("pod", "the trainers of 2 ranks (1,3) end with their pods"),
    ],
)
def test_trainers_that_end_are_told_by_why(why: str, text: str) -> None:
    told = Told(ranks=8).runs().later(7).ends(1, 3, code=137, why=why)  # type: ignore[arg-type]
    assert told.since(4) == [f"10.0  {text}"]


def test_a_reset_that_is_repeated_is_not_told_again() -> None:
    told = (
        Told(ranks=8).runs().later(7).heard(Reset(2), 0, 1).later(5).heard(Reset(2), 1, 2).later(5).heard(Reset(3), 0)
    )
    assert told.since(4) == [
        "10.0  2 ranks (0-1) are told to restart in place",
        "15.0  rank 2 is told to restart in place",
        "20.0  rank 0 is told to restart in place",
    ]


def test_replaced_pods_are_followed_until_they_are_bound() -> None:
    told = Told(ranks=8).runs().later(7).raised(2, "node-1 is dead", scope="Node", new_pods=(2, 3))
    told.pod_deleted(2, 3).later(0.5).pod_gone(2, 3).later(0.1).pod_created(2, 3).bound(2, 3, to="node-9")
    assert told.since(4) == [
        "10.0  attempt 2: node-1 is dead",
        "10.0  attempt 2: new pods for 2 ranks (2-3)",
        "10.0  the pods of 2 ranks (2-3) are deleted",
        "10.6  the pods of 2 ranks (2-3) are created",
        "10.6  the pods of 2 ranks (2-3) are bound to node-9",
    ]


def test_a_rank_that_takes_a_spare_is_told_with_the_node_and_the_spare_that_is_made_anew() -> None:
    told = Told(ranks=8).runs().later(7).spare_created("llm-s-0", on="node-9").later(2)
    told.spare_is("llm-s-0", "Running", "running", "running").later(10).raised(2, "node-1 is dead", new_pods=(2,))
    told.pod_deleted(2).pod_gone(2).spare_gone("llm-s-0").later(0.1).pod_created(2, on="node-9").later(5).released(2)
    told.spare_created("llm-s-0", on="node-8").later(1).spare_is("llm-s-0", "Failed", reason="OutOfcpu")
    assert told.since(4) == [
        "10.0  llm-s-0 is made",
        "12.0  llm-s-0 is ready on node-9",
        "22.0  attempt 2: node-1 is dead",
        "22.0  attempt 2: new pod for rank 2",
        "22.0  the pod of rank 2 is deleted",
        "22.0  llm-s-0 is no longer ready on node-9",
        "22.1  rank 2 takes the room of a spare on node-9",
        "27.1  attempt 2 is released: all 8 trainers may run",
        "27.1  llm-s-0 is made",
        "28.1  llm-s-0 is Failed on node-8: OutOfcpu",
    ]


def test_many_spares_are_one_line_and_who_put_one_out_is_named() -> None:
    told = Told(ranks=8).runs().later(7).spare_created(*(f"s-{number}" for number in range(5)), on="node-9")
    for number in range(5):
        told.spare_is(f"s-{number}", "Running", "running")
    told.later(10).spare_gone("s-3", by="scheduler")
    assert told.since(4) == [
        "10.0  5 spares (s-0, s-1 …) are made",
        "10.0  5 spares (s-0, s-1 …) are ready on node-9",
        "20.0  s-3 is no longer ready on node-9, by scheduler",
    ]


def test_quarantine_and_its_end_are_told() -> None:
    told = Told(ranks=8).runs().later(7).quarantined("node-3").later(10).quarantined("node-3", lifted=True)
    assert told.since(4) == ["10.0  node-3 is quarantined", "20.0  node-3 is out of quarantine"]


def test_a_pod_that_goes_long_after_it_was_told_to_is_told_again() -> None:
    told = Told(ranks=8).runs().later(7).pod_deleted(2, by="somebody").later(20)
    told.pod_changed(2, by="kubelet/node-1", status={"phase": "Running"}).later(10).pod_gone(2)
    assert told.since(4) == ["10.0  the pod of rank 2 is deleted by somebody", "40.0  the pod of rank 2 is gone"]


def test_a_pod_without_a_place_and_one_that_failed_are_told_with_the_reason() -> None:
    told = Told(ranks=8).runs().later(7)
    told.pod_changed(2, by="scheduler", status={"phase": "Pending"}).pod_changed(2, by="scheduler", status={"x": 1})
    told.pod_changed(4, by="kubelet/node-2", status={"phase": "Failed", "reason": "Evicted"})
    assert told.since(4) == ["10.0  the pod of rank 2 finds no node", "10.0  the pod of rank 4 is Failed: Evicted"]


def test_conditions_are_told_when_they_begin_change_and_end() -> None:
    told = Told(ranks=8).runs().later(7).status(conditions={"Held": "node-1 is suspect", "Running": "so"})
    told.event("node-1 is suspect", "Held").later(1).status(conditions={"Held": "node-1 is suspect"})
    told.status(conditions={"Held": "2 nodes are suspect"}).later(1).status(conditions={"Held": ""})
    told.status(conditions={"Failed": "rank 1 exited 64", "Completed": ""})
    assert told.since(4) == [
        "10.0  HELD: node-1 is suspect",
        "11.0  HELD: 2 nodes are suspect",
        "12.0  no longer held",
        "12.0  FAILED: rank 1 exited 64",
    ]


def test_a_hold_that_shrinks_rank_by_rank_is_told_once_more_when_that_has_paused() -> None:
    told = Told(ranks=8).runs().later(7).status(conditions={"Held": "no node for rank 2-7"}).later(20)
    for rank in (3, 4, 5, 6):
        told.bound(rank - 1, to=f"node-{rank}").status(conditions={"Held": f"no node for rank {rank}-7"}).later(0.1)
    told.later(9).fault(text="something else").later(1).status(conditions={"Held": ""})
    assert told.since(4) == [
        "10.0  HELD: no node for rank 2-7",
        "30.0  the pods of 4 ranks (2-5) are bound to 4 nodes (node-3, node-4 …) (until 30.3)",
        "30.3  HELD: no node for rank 6-7",
        "39.4  FAULT  something else",
        "40.4  no longer held",
    ]


def test_what_holds_for_a_moment_longer_is_not_told_after_the_hold() -> None:
    told = Told(ranks=8).runs().later(7).status(conditions={"Held": "no node for rank 2-7"}).later(20)
    told.status(conditions={"Held": "no node for rank 7"}).later(0.1).status(conditions={"Held": ""})
    assert told.since(4) == ["10.0  HELD: no node for rank 2-7", "30.1  no longer held"]


def test_the_trainer_of_somebody_elses_pod_is_no_part_of_the_story() -> None:
    told = Told(ranks=8).runs().later(7).foreign_trainer().later(1).foreign_trainer(ends=True)
    assert told.since(4) == []


def test_an_event_that_says_what_the_status_does_not_is_told() -> None:
    told = Told(ranks=8).runs().later(7).raised(2, "rank 3 exited 1").event("attempt 2: rank 3 exited 1")
    told.later(1).event("attempt 2: node-1 is dead").event("pods is forbidden: exceeded quota", "CannotAct")
    assert told.since(4) == [
        "10.0  attempt 2: rank 3 exited 1",
        "11.0  attempt 2: node-1 is dead",
        "11.0  pods is forbidden: exceeded quota",
    ]


def test_another_controller_that_takes_over_is_told() -> None:
    told = Told(ranks=8).runs().later(7).process("leads", "controller-1_2").status(writer="controller-1_2/1")
    assert told.since(4) == ["10.0  controller-1 leads", "10.0  controller-1 takes over"]


def test_a_fault_that_hits_many_one_after_the_other_is_told_in_full_three_times() -> None:
    told = Told(ranks=100).runs().later(7)
    for rank in range(20):
        told.fault("container_exit", ranks=(rank,), text=f"rank {rank}: the trainer dies").later(0.1)
    assert told.since(4) == [
        "10.0  FAULT  rank 0: the trainer dies",
        "10.1  FAULT  rank 1: the trainer dies",
        "10.2  FAULT  rank 2: the trainer dies",
        "10.3  FAULT  container_exit begins for 17 ranks (3-19) too (until 11.9)",
    ]


def test_ranks_that_are_all_over_the_place_do_not_fill_the_screen() -> None:
    told = Told(ranks=1000).runs().later(7).restarts(*range(0, 1000, 3))
    assert told.since(4) == ["10.0  334 ranks (0,3,6,9,12,15,18,21,24,27,30,33,36,39 …) restart in place"]


def test_nodes_are_told_by_name() -> None:
    told = Told(ranks=8).nodes(9)
    for name in ("node-1", "node-2", "node-3", "node-4"):
        node = {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        told.wrote("nodes", node, {**node, "status": {}}, by="node-lifecycle")
    assert told.story() == ["0.0  4 nodes (node-1, node-2 …) are marked NotReady"]


def test_the_gang_s_end_is_told() -> None:
    told = Told(ranks=2).runs().later(7)
    told.gang = told.wrote(
        "gangs", told.gang, {**told.gang, "metadata": {**told.gang["metadata"], "deletionTimestamp": "t"}}
    )
    told.later(1).deleted()
    assert told.since(4) == [
        "10.0  gang llm is to be deleted",
        "11.0  gang llm is gone",
        "11.0  the pods of all 2 ranks are deleted by garbage-collector",
    ]
