"""The figures of hand-made runs, each to the tenth of a second."""

import pytest

from fleetctl.rendezvous.messages import Ping, Reset
from fleetctl.scenario.faults import FAULTS
from fleetctl.scenario.figures import HIT_TRAINERS, Figures, Number, number_text
from fleetctl.scenario.model import FIGURES

from .journals import Telling


def figures_of(telling: Telling) -> dict[str, Number]:
    (figures,) = telling.listeners
    assert isinstance(figures, Figures)
    return figures.finish(telling.at)


@pytest.fixture
def telling() -> Telling:
    return Telling(Figures(), ranks=4)


def test_the_figures_are_those_of_the_format_and_no_others(telling: Telling) -> None:
    assert set(figures_of(telling)) == set(FIGURES)


def test_the_faults_that_hit_trainers_exist() -> None:
    assert set(FAULTS) >= HIT_TRAINERS


def test_a_run_without_a_recovery_has_nothing_to_measure_but_what_it_cost(telling: Telling) -> None:
    telling.runs().later(10)
    figures = figures_of(telling)
    assert {name for name, value in figures.items() if value is None} == {
        "detect_s",
        "signal_s",
        "barrier_s",
        "recover_s",
        "writes_per_lost_rank",
    }
    assert (figures["attempts"], figures["pods_created"], figures["wasted_rank_s"]) == (1, 4, 0.0)
    assert figures["virtual_s"] == 13.0


def test_a_recovery_is_measured_from_the_fault_to_the_last_trainer(telling: Telling) -> None:
    telling.runs().later(10).fault(ranks=(1,)).ends(1)
    telling.later(0.5).raised(2)
    telling.later(0.1).heard(Reset(2), 0, 2).later(0.3).heard(Reset(2), 3).later(1).restarts(0, 1, 2, 3)
    telling.ends(0, 2, 3, why="restart").later(1).released(2).later(1).starts(0, 1, 2, attempt=2)
    telling.later(0.2).starts(3, attempt=2)
    figures = figures_of(telling)
    assert (figures["detect_s"], figures["signal_s"], figures["barrier_s"], figures["recover_s"]) == (
        0.5,
        0.4,
        2.4,
        4.1,
    )
    assert (figures["in_place_restarts"], figures["attempts"], figures["pods_recreated"]) == (4, 2, 0)


def test_a_reset_that_is_repeated_or_meant_for_another_attempt_does_not_count(telling: Telling) -> None:
    telling.runs().fault(ranks=(1,)).later(1).raised(2).later(0.1).heard(Reset(2), 0)
    telling.later(5).heard(Reset(2), 0).heard(Reset(1), 2).heard(Ping(2, "t"), 3)
    assert figures_of(telling)["signal_s"] == 0.1


def test_of_several_recoveries_the_largest_counts(telling: Telling) -> None:
    for attempt, detect_s in ((2, 0.5), (3, 2.0), (4, 1.0)):
        if attempt == 2:
            telling.runs()
        telling.later(20).fault(ranks=(1,)).ends(1).later(detect_s).recovers(attempt)
    figures = figures_of(telling)
    assert (figures["detect_s"], figures["barrier_s"], figures["recover_s"]) == (2.0, 3.0, 6.0)


def test_a_raise_without_a_fault_before_it_was_not_detected_but_takes_its_time(telling: Telling) -> None:
    telling.runs().later(5).recovers(2)
    figures = figures_of(telling)
    assert figures["detect_s"] is figures["recover_s"] is None
    assert figures["barrier_s"] == 3.0


def test_a_fault_that_hits_no_trainer_is_not_what_was_detected(telling: Telling) -> None:
    telling.runs().later(5).fault("node_dark", nodes=("node-0",)).later(10).fault("api_slow").later(5).raised(2)
    assert figures_of(telling)["detect_s"] == 15.0


def test_a_second_try_of_the_same_recovery_counts_from_the_same_fault(telling: Telling) -> None:
    telling.runs().later(5).fault(ranks=(1,)).ends(1).later(1).raised(2).later(10).recovers(3)
    figures = figures_of(telling)
    assert (figures["detect_s"], figures["barrier_s"], figures["recover_s"]) == (1.0, 3.0, 15.0)


def test_a_fault_that_was_over_before_the_release_is_not_detected_by_a_later_raise(telling: Telling) -> None:
    telling.runs().later(5).fault(ranks=(1,)).ends(1).later(1).raised(2).fault(ranks=(2,)).later(1)
    telling.released(2).later(100).raised(3)
    assert figures_of(telling)["detect_s"] == 1.0


def test_starting_and_resuming_are_no_recoveries(telling: Telling) -> None:
    telling.runs().later(5).raised(2, scope="Resume").later(7).released(2)
    assert figures_of(telling)["barrier_s"] is None


def test_pods_are_counted_once_however_they_go(telling: Telling) -> None:
    telling.runs().pod_deleted(0).later(1).pod_gone(0).pod_gone(1, by="somebody").pod_created(0, 1)
    telling.bound(0, 1, to="node-9").pod_changed(0, by="kubelet/node-9", status={"phase": "Running"})
    figures = figures_of(telling)
    assert (figures["pods_created"], figures["pods_deleted"], figures["pods_recreated"]) == (6, 2, 2)
    assert figures["bindings"] == 2


def test_who_takes_a_spare_is_counted_and_bound_by_nobody(telling: Telling) -> None:
    telling.runs().spare_created("s-0", "s-1").later(5).raised(2)
    telling.pod_gone(0, 1, by="controller/controller-0_1").spare_gone("s-0")
    telling.pod_created(0, on="node-9").pod_created(1).bound(1, to="node-8").released(2)
    figures = figures_of(telling)
    assert (figures["spares_taken"], figures["bindings_after_start"], figures["pods_created"]) == (1, 1, 6)


def test_bindings_before_the_first_release_are_part_of_the_start(telling: Telling) -> None:
    telling.created().raised(1, scope="Start").pod_created(0, 1).bound(0, to="node-0").released(1)
    telling.bound(1, to="node-0")
    assert (figures_of(telling)["bindings"], figures_of(telling)["bindings_after_start"]) == (2, 1)


def test_a_lost_rank_costs_the_requests_since_the_first_release_but_for_events_and_new_spares(telling: Telling) -> None:
    telling.runs().spare_created("s-0", "s-1").later(5)
    assert figures_of(telling)["writes_per_lost_rank"] is None
    telling.raised(2).event("a note").quarantined("node-0").pod_deleted(0).pod_gone(0).spare_gone("s-0")
    telling.pod_created(0, on="node-9").released(2).spare_created("s-0")
    assert figures_of(telling)["writes_per_lost_rank"] == 7.0  # of an object deleted at once two things are told
    telling.pod_gone(1, by="somebody").pod_created(1)
    assert figures_of(telling)["writes_per_lost_rank"] == 4.0


def test_a_node_counts_each_time_it_is_quarantined(telling: Telling) -> None:
    telling.nodes(1).runs().quarantined("node-0").quarantined("node-0").quarantined("node-1")
    assert figures_of(telling)["nodes_quarantined"] == 2
    telling.quarantined("node-0", lifted=True).quarantined("node-0")
    assert figures_of(telling)["nodes_quarantined"] == 3


def test_a_gang_that_is_created_again_has_had_no_pods(telling: Telling) -> None:
    telling.runs().deleted().runs()
    figures = figures_of(telling)
    assert (figures["pods_created"], figures["pods_recreated"], figures["attempts"]) == (8, 0, 1)


def test_writes_are_those_of_controllers_without_leases(telling: Telling) -> None:
    telling.created()
    before = figures_of(telling)
    telling.raised(1).event("a note").pod_created(0)
    telling.wrote("leases", None, {"metadata": {"name": "l"}})
    telling.status(by="somebody", target=0)
    after = figures_of(telling)
    assert after["controller_writes"] == 3
    assert (before["status_writes"], after["status_writes"]) == (0, 1)


def test_wasted_is_all_time_since_the_first_fault_in_which_not_everybody_runs(telling: Telling) -> None:
    telling.runs().later(10).fault(ranks=(1,)).later(2).ends(1).later(1).recovers(2).later(30)
    assert figures_of(telling)["wasted_rank_s"] == 4 * (1 + 4)


def test_a_gang_with_a_rank_in_the_dark_wastes_its_time_although_all_trainers_run(telling: Telling) -> None:
    telling.runs().fault("node_dark", nodes=("node-0",)).later(7).fault(
        "node_dark", nodes=("node-0",), phase="ends"
    ).later(9)
    assert figures_of(telling)["wasted_rank_s"] == 4 * 7


def test_the_dark_does_not_matter_any_more_once_nobody_is_there(telling: Telling) -> None:
    telling.runs().fault("node_dark", nodes=("node-0",)).later(1).raised(2, new_pods=(0, 1)).ends(2, 3, why="restart")
    telling.pod_gone(0, 1).pod_created(0, 1).later(1).released(2).starts(0, 1, attempt=2, on="node-7").starts(2, 3)
    telling.later(50)
    assert figures_of(telling)["wasted_rank_s"] == 4 * 2


def test_work_that_is_done_is_no_waste(telling: Telling) -> None:
    telling.runs().fault("agent_exits", ranks=(1,)).later(10).ends(0, code=0).later(0.1).ends(1, 2, 3, code=0).later(1)
    telling.status(conditions={"Completed": "all exited 0"}).later(50)
    assert figures_of(telling)["wasted_rank_s"] == 0.0


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1024, "1,024"), (0.5, "0.5"), (2.0, "2"), (1.23456, "1.235")]
)
def test_numbers_are_written_as_people_read_them(value: Number, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize("kind", ["Suspended", "Failed"])
def test_a_gang_that_should_not_run_wastes_nothing(kind: str, telling: Telling) -> None:
    telling.runs().fault("gang_edited").later(5).status(conditions={kind: "so it is"}).ends(
        0, 1, 2, 3, why="pod"
    ).later(9)
    assert figures_of(telling)["wasted_rank_s"] == 0.0


def test_a_gang_that_is_gone_keeps_the_attempt_it_came_to(telling: Telling) -> None:
    telling.runs().recovers(2).deleted().later(5)
    assert figures_of(telling)["attempts"] == 2


def test_each_recovery_is_kept_with_the_fault_that_began_it(telling: Telling) -> None:
    telling.runs().fault(ranks=(1,)).ends(1).later(0.5).recovers(2).later(5).recovers(3)
    (figures,) = telling.listeners
    assert isinstance(figures, Figures)
    first, second = figures.recoveries
    assert (first.fault, first.seconds["detect_s"]) == ("container_exit", 0.5)
    assert {"barrier_s", "recover_s"} <= set(first.seconds)
    assert second.fault == ""
    assert "detect_s" not in second.seconds
