"""A controller may die anywhere in a recovery: the next one goes on, and no rank restarts twice."""

from collections.abc import Iterator

import pytest
from fleet import WORKERS, Gang, agents_out_of_reach, until
from holding_proxy import HoldingProxy, controller_behind, kill_controller, raises_target_to, releases


@pytest.fixture(scope="module")
def held(fleet: None) -> Iterator[tuple[Gang, HoldingProxy]]:
    """A gang, and a controller whose writes can be held."""
    with HoldingProxy() as proxy, controller_behind(proxy), Gang("held") as gang:
        gang.running(attempt=1, within_s=90)
        yield gang, proxy


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_at_raising_the_target(held: tuple[Gang, HoldingProxy], before: bool) -> None:
    gang, proxy = held
    attempt, seen = gang.attempt()["released"] + 1, gang.seen()
    with proxy.holding(raises_target_to(attempt), before=before) as hold:
        gang.tell(2, "exit 2")
        assert hold.reached.wait(60)
        kill_controller()
    gang.recovered_once(attempt, seen)


def test_killed_before_the_release(held: tuple[Gang, HoldingProxy]) -> None:
    gang, proxy = held
    attempt, seen = gang.attempt()["released"] + 1, gang.seen()
    with proxy.holding(releases(attempt), before=True) as hold:
        gang.tell(2, "exit 2")
        assert hold.reached.wait(60)
        kill_controller()
    gang.recovered_once(attempt, seen)


def test_killed_after_the_release_with_half_of_the_agents_told(held: tuple[Gang, HoldingProxy]) -> None:
    gang, proxy = held
    attempt, seen = gang.attempt()["released"] + 1, gang.seen()
    with proxy.holding(releases(attempt), before=False) as hold:
        gang.tell(2, "exit 2")
        assert hold.reached.wait(60)
        with agents_out_of_reach(WORKERS[:2]):
            hold.go_on.set()
            until("half of the ranks run", lambda: len(gang.starts(attempt)) == gang.ranks // 2)
            kill_controller()
            assert len(gang.starts(attempt)) == gang.ranks // 2
    gang.recovered_once(attempt, seen)
