"""A recovery is over when ranks make steps: first step, warm-up and progress are told, and charged."""

from datetime import timedelta

import pytest
from worlds import World, a_gang, running_gang

from fleetctl.gang.spec import ApplicationBudget
from fleetctl.gang.state import Steps


def at_step(world: World, step: int, mean_s: float = 2.0, ranks: int | None = None) -> None:
    chosen = range(len(world.members) if ranks is None else ranks)
    world.steps = {rank: Steps(step=step, at=world.clock(), mean_s=mean_s) for rank in chosen}


def train(world: World, seconds: float, step: int, mean_s: float = 2.0) -> None:
    world.now += timedelta(seconds=seconds)
    at_step(world, step, mean_s)
    world.run()


def fault(world: World) -> None:
    world.exits(rank=1, code=3)
    world.steps = {}
    world.run()


def test_the_first_step_of_all_ranks_is_written_once() -> None:
    world = running_gang(2)
    world.now += timedelta(seconds=30)
    at_step(world, 1, ranks=1)
    assert world.think().actions == ()
    at_step(world, 1, mean_s=0.0)  # each has told where it is, and has made none yet
    assert world.think().actions == ()
    at_step(world, 2)
    world.run()
    assert world.status.history[0].outcome.first_step == pytest.approx(30, abs=1)
    train(world, 30, 17)
    assert world.status.history[0].outcome.first_step == pytest.approx(30, abs=1)


def test_warm_up_lasts_until_a_step_takes_what_it_took_before() -> None:
    world = running_gang(2)
    train(world, 60, 30, mean_s=2.0)
    fault(world)
    train(world, 20, 31, mean_s=5.0)
    train(world, 20, 35, mean_s=2.5)
    train(world, 20, 45, mean_s=2.3)
    train(world, 20, 55, mean_s=2.0)
    fault(world)
    told = world.status.history[1].outcome
    assert told.first_step == pytest.approx(20, abs=2)
    assert told.warm_up == pytest.approx(60, abs=3)
    assert told.ran == pytest.approx(85, abs=3)


def test_progress_is_a_step_further_than_ever_not_time() -> None:
    """The slow poison: it dies every 20 minutes, and a checkpoint is made every 30."""
    world = World(a_gang(2, budget=ApplicationBudget(restarts=100, without_progress=3))).run()
    for _ in range(4):
        for _ in range(10):
            train(world, 120, 600)
        fault(world)
    failed = world.status.condition("Failed")
    assert failed
    assert failed.message == "rank 1 exited 3; restarted 3 times in a row without progress (budget: 3)"
    assert world.status.furthest_step == 600


def restarts_without_progress(attempts: list[tuple[int, int]]) -> int:
    """In a row, after attempts that began and ended at these steps; 0 if the gang was stopped."""
    world = World(a_gang(2, budget=ApplicationBudget(restarts=100, without_progress=3))).run()
    for began, reached in attempts:
        train(world, 10, began)
        train(world, 60, reached)
        fault(world)
    return 0 if world.status.condition("Failed") else world.status.budgets.application.since_progress


def test_the_same_steps_again_and_a_few_more_are_no_progress() -> None:
    """They are lost as those before were: it has only been ended a moment later."""
    assert restarts_without_progress([(1, 600), (1, 610), (1, 655)]) == 3
    assert restarts_without_progress([(1, 600), (1, 610), (1, 655), (1, 720)]) == 0
    assert restarts_without_progress([(1, 600), (1, 610), (1, 655), (1, 730)]) == 1


def test_what_is_lost_since_a_checkpoint_may_be_made_good_first() -> None:
    assert restarts_without_progress([(1, 600), (500, 1100), (1000, 1099), (1000, 1600)]) == 1
    assert restarts_without_progress([(1, 600), (600, 601), (601, 602)]) == 1


def test_a_gang_that_gets_further_each_time_goes_on() -> None:
    world = World(a_gang(2, budget=ApplicationBudget(restarts=100, without_progress=3))).run()
    for number in range(1, 9):
        train(world, 60, 100 * number)
        fault(world)
    assert world.status.condition("Failed") is None
    assert world.status.budgets.application.since_progress == 1
    assert world.status.furthest_step == 800


def slow(world: World, seconds: float, work_s: float) -> None:
    """Rank 1 works so long on each step, the others 1.6 s."""
    for _ in range(int(seconds / 5)):
        world.now += timedelta(seconds=5)
        world.steps = {
            rank: Steps(step=9, at=world.clock(), mean_s=2.0, work_s=work_s if rank == 1 else 1.6)
            for rank in range(len(world.members))
        }
        world.run()


def told_of(world: World) -> str:
    condition = world.status.condition("Straggling")
    return condition.message if condition and condition.status == "True" else ""


def test_who_is_slow_for_a_minute_is_told_of_and_nothing_else_is_done() -> None:
    world = running_gang(4)
    slow(world, 60, 2.4)
    assert told_of(world) == ""
    slow(world, 10, 2.4)
    assert told_of(world).startswith("rank 1 works longer on each step than the others")
    assert (world.status.attempt.target, world.deleted) == (1, [])
    slow(world, 30, 1.6)
    assert told_of(world)
    slow(world, 40, 1.6)
    assert told_of(world) == ""


def test_a_moment_of_slowness_is_not_told() -> None:
    world = running_gang(4)
    for _ in range(6):
        slow(world, 50, 2.4)
        slow(world, 10, 1.7)
    assert world.status.condition("Straggling") is None


def test_a_new_leader_does_not_know_when_a_gang_was_warm() -> None:
    world = running_gang(2)
    train(world, 3600, 900)
    world.memory = type(world.memory)()
    train(world, 60, 930)
    fault(world)
    assert world.status.history[1].outcome.warm_up == 0.0
