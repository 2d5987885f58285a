"""A nemesis is drawn from its seed, and every fault of it is one that every backend can do."""

import pytest

from fleetctl.scenario.nemesis import RANKS, nemesis
from fleetctl.scenario.report import replay_command
from fleetctl.scenario.scaled import scaled
from fleetctl.scenario.simulate import simulate


def test_a_seed_draws_the_same_faults_again_and_another_draws_others() -> None:
    assert nemesis(3, 50) == nemesis(3, 50)
    assert nemesis(3, 50).timeline != nemesis(4, 50).timeline
    assert len(nemesis(3, 50).timeline) == 50


def test_every_fault_waits_until_the_one_before_is_over() -> None:
    assert [step.when and step.when.value for step in nemesis(3, 20).timeline] == list(range(20))


@pytest.mark.parametrize("seed", range(5))
def test_every_fault_can_be_done_on_both_backends_to_a_rank_that_exists(seed: int) -> None:
    for step in nemesis(seed, 100).timeline:
        assert [step.fault.problem_on(backend) for backend in type(step.fault).backends] == ["", ""]
        assert all(rank < RANKS for rank in (*step.select.ranks, step.select.node_of or 0))
        assert type(step.fault).lasts == (step.lasts is not None)


def test_on_kind_it_is_as_large_as_in_simulation() -> None:
    drawn = nemesis(3, 10)
    small = scaled(drawn)
    assert (small.world.gang, small.world.nodes, small.timeline) == (
        drawn.world.gang,
        drawn.world.nodes,
        drawn.timeline,
    )


def test_the_command_draws_it_again() -> None:
    drawn = nemesis(3, 10)
    assert replay_command(drawn, 3, "kind") == "fleetctl replay --backend kind --nemesis --faults 10 --seed 3"


def test_a_gang_survives_it() -> None:
    outcome = simulate(nemesis(5, 6), 5)
    assert (outcome.verdict, outcome.unmet, outcome.violations) == ("pass", [], [])
    assert [line.level for line in outcome.story].count("fault") >= 6
