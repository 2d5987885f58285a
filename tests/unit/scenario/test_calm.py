"""Calm is told once after each fault: when all trainers of the released attempt have run for a while, undisturbed."""

import pytest

from fleetctl.scenario.calm import CALM_S, Calm
from fleetctl.sim.journal import Calmed

from .journals import Telling


def look(telling: Telling) -> Calmed | None:
    (calm,) = telling.listeners
    assert isinstance(calm, Calm)
    return calm.look(telling.at)


@pytest.fixture
def telling() -> Telling:
    return Telling(Calm(), ranks=4)


def test_before_the_first_fault_it_is_told_once_the_gang_has_run_for_a_while(telling: Telling) -> None:
    assert look(telling.later(100)) is None
    telling.runs()
    assert look(telling.later(CALM_S - 0.1)) is None
    assert look(telling.later(0.1)) == Calmed(at=telling.at, faults=0)
    assert look(telling.later(100)) is None


def test_after_a_fault_it_counts_from_the_end_of_the_fault(telling: Telling) -> None:
    telling.runs()
    assert look(telling.later(CALM_S))
    telling.fault("agent_hangs", ranks=(1,)).later(20).fault("agent_hangs", ranks=(1,), phase="ends")
    assert look(telling.later(CALM_S - 0.1)) is None
    assert look(telling.later(0.1)) == Calmed(at=telling.at, faults=1)


def test_a_gang_that_recovers_is_not_calm_until_all_trainers_run_again(telling: Telling) -> None:
    telling.runs().fault(ranks=(1,)).ends(1).raised(2)
    assert look(telling.later(100)) is None
    telling.restarts(0, 2, 3).ends(0, 2, 3, why="restart").released(2).starts(0, 1, 2, attempt=2)
    assert look(telling.later(100)) is None
    telling.starts(3, attempt=2)
    assert look(telling.later(CALM_S - 0.1)) is None
    assert look(telling.later(0.1)) == Calmed(at=telling.at, faults=1)


def test_trainers_that_run_an_attempt_that_is_over_are_not_calm(telling: Telling) -> None:
    telling.runs().raised(2)
    assert look(telling.later(100)) is None
