"""A campaign's worlds are drawn from their seeds, hold every kind of fault, and nothing that cannot end well; what they
add up to."""

from collections import Counter

import pytest

from fleetctl.scenario import faults as f
from fleetctl.scenario import report
from fleetctl.scenario.campaign import MOST, campaign
from fleetctl.scenario.many import KEPT_STORIES, SLOWEST, Tally
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import SITUATIONS, Outcome, Seen
from fleetctl.scenario.simulate import simulate
from fleetctl.sim.oracle import Violation

SEEDS = range(1, 401)
SCENARIOS = {seed: campaign(seed) for seed in SEEDS}


def kinds(scenario: Scenario) -> list[str]:
    return [type(step.fault).name for step in scenario.timeline]


# What is drawn


def test_a_seed_draws_the_same_again_and_another_seed_or_size_draws_another() -> None:
    assert campaign(3) == campaign(3)
    assert campaign(3).timeline != campaign(4).timeline
    assert campaign(3, 1024).timeline != campaign(3).timeline


def test_every_seed_can_be_drawn() -> None:
    for seed in range(1, 3001):
        assert campaign(seed).timeline


def test_every_kind_of_fault_occurs() -> None:
    seen = {kind for scenario in SCENARIOS.values() for kind in kinds(scenario)}
    assert seen == set(f.FAULTS)


def test_a_seed_has_a_few_kinds_and_some_seeds_several_of_one() -> None:
    counts = [Counter(kinds(scenario)) for scenario in SCENARIOS.values()]
    assert max(map(len, counts)) <= 14
    assert (
        sum(any(of >= 3 for kind, of in count.items() if kind != "container_exit") for count in counts)
        > len(SEEDS) / 10
    )


def test_gangs_are_small_mostly_and_large_at_times() -> None:
    sizes = [scenario.world.gang.ranks for scenario in SCENARIOS.values()]
    assert (min(sizes) >= 8, max(sizes) <= MOST, max(sizes) > MOST / 2) == (True, True, True)
    assert sum(sizes) / len(sizes) < 16


@pytest.mark.parametrize("ranks", [None, 8, 1024])
def test_all_targets_exist_and_what_lasts_ends(ranks: int | None) -> None:
    for seed in SEEDS if ranks is None else range(1, 40):
        scenario = campaign(seed, ranks)
        world = scenario.world
        assert world.nodes * world.ranks_per_node >= world.gang.ranks
        for step in scenario.timeline:
            assert step.when is not None
            assert all(rank < world.gang.ranks for rank in step.select.ranks)
            assert all(node < world.nodes for node in step.select.nodes)
            assert bool(step.select.ranks or step.select.nodes) == (type(step.fault).target != "none")
            assert type(step.fault).lasts == (step.lasts is not None)
            assert not step.fault.problem()


def test_there_is_room_for_the_nodes_that_do_not_come_back() -> None:
    for scenario in SCENARIOS.values():
        lost = {
            n
            for step in scenario.timeline
            if isinstance(step.fault, f.NodeKilled | f.NodePowerLoss | f.NodeDeleted)
            for n in step.select.nodes
        }
        assert (scenario.world.nodes - len(lost)) * scenario.world.ranks_per_node >= scenario.world.gang.ranks


def test_faults_that_last_do_not_share_a_target() -> None:
    for scenario in SCENARIOS.values():
        lasting = [step for step in scenario.timeline if step.lasts is not None]
        nodes = Counter(node for step in lasting for node in step.select.nodes)
        ranks = Counter(rank for step in lasting for rank in step.select.ranks)
        alone = Counter(type(step.fault) for step in lasting if type(step.fault).target == "none")
        assert max([*nodes.values(), *ranks.values(), *alone.values()], default=1) == 1


def test_what_would_end_the_gang_is_undone() -> None:
    for scenario in SCENARIOS.values():
        counts = Counter(kinds(scenario))
        assert counts["gang_deleted"] == counts["gang_created_again"]
        assert counts["gang_edited"] in (0, 2)
        assert counts["foreign_pod"] == 0 or counts["pod_deleted"] >= 2


def test_a_gang_of_a_thousand_ranks_has_few_faults() -> None:
    assert max(len(campaign(seed, 1024).timeline) for seed in range(1, 100)) <= 3


def test_the_command_draws_it_again() -> None:
    assert report.replay_command(campaign(417), 417) == "fleetctl replay --campaign --seed 417"
    assert report.replay_command(campaign(3, 1024), 3) == "fleetctl replay --campaign --ranks 1024 --seed 3"


# What is seen


def test_faults_and_situations_are_counted_where_they_arise() -> None:
    seen = Seen()
    outcome = simulate(campaign(5), 5, watch=seen)
    assert outcome.verdict == "pass"
    assert seen.faults == Counter(kinds(campaign(5)))
    assert set(seen.situations) <= set(SITUATIONS)


# What they add up to


def passed(seed: int, wall_s: float = 0.1) -> Outcome:
    return Outcome("campaign", seed, "pass", wall_s=wall_s, virtual_s=36.0, trace_hash="9f0c", evaluated={"S1": 2})


def failed(seed: int) -> Outcome:
    outcome = passed(seed)
    outcome.verdict, outcome.violations = "fail", [Violation("S1", 30.0, "two run")]
    return outcome


def added(*outcomes: Outcome) -> Tally:
    tally = Tally()
    for outcome in outcomes:
        outcome.faults, outcome.situations = {"container_exit": 1}, {"held": 1}
        tally.add(campaign(outcome.seed, 12), outcome, report.as_json(campaign(outcome.seed, 12), outcome))
    return tally


def test_runs_that_passed_are_counts_and_nothing_else() -> None:
    tally = added(*(passed(seed, wall_s=seed) for seed in range(1, 101)))
    assert (tally.runs, tally.simulated_s, tally.failed) == (100, 3600.0, [])
    assert (tally.sizes, tally.faults, tally.invariants, tally.situations) == (
        {"8-15": 100}, {"container_exit": 100}, {"S1": 200}, {"held": 100},
    )  # fmt: skip
    assert tally.slowest == [(wall_s, wall_s) for wall_s in range(100, 100 - SLOWEST, -1)]


def test_failed_runs_are_kept_by_seed_and_the_first_ones_with_their_story() -> None:
    tally = added(*(failed(seed) for seed in range(30, 0, -1)))
    assert [run["seed"] for run in tally.failed] == list(range(1, 31))
    assert sum("story" in run for run in tally.failed) == KEPT_STORIES


def test_parts_add_up_to_the_whole_in_any_order() -> None:
    one, other = added(passed(1), failed(2)), added(failed(3), passed(4))
    both = added(passed(1), failed(2), failed(3), passed(4))
    other.merge(one)
    assert other == both


OF = report.Campaign("1..3", None, "23949af", "3.11.9")


def test_the_report_tells_what_failed_and_what_never_came_up() -> None:
    lines = list(report.campaign(OF, added(passed(1), failed(2), passed(3))))
    assert lines[0] == "campaign: seeds 1..3, commit 23949af, Python 3.11.9"
    assert "FAIL  fleetctl replay --campaign --ranks 12 --seed 2    # S1: two run" in lines
    assert lines[-1] == "FAIL campaign  seeds 1..3  2 of 3 seeds passed, 1 violation"
    never = " ".join(lines).partition("never seen")[2].partition("slowest")[0]
    assert "node_dark" in never
    assert "burnt_attempt" in never
    assert "container_exit" not in never
    assert "held" not in never


def test_programs_are_told_the_same() -> None:
    told = report.campaign_as_json(OF, added(passed(1), failed(2), passed(3)))
    assert (told["verdict"], told["seeds"], [run["seed"] for run in told["runs"]]) == ("fail", 3, [2])
    assert (told["faults"]["container_exit"], told["invariants"]["S1"], told["probes"]["held"]) == (3, 6, 3)
    assert "held" not in told["probes_never_hit"]
    assert "node_dark" in told["probes_never_hit"]
    assert told["simulated_h"] == 0.03
