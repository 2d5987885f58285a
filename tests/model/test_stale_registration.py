"""The hole that a design has in which agents say themselves which attempt they are in: one stale read, and a rank joins
the running attempt alone. Nothing tells; the others wait in their collective for ever. (JobSet; architecture.md §3.7.)

In our design the controller says it, and whoever waits without the committed ticket is not let in.
"""

import random

import pytest

from tests.model.protocol import Bounds, Protocol
from tests.model.search import walks
from tests.model.upstream import JobSet

SEEDS = range(300)


def joined_alone(seed: int, stale: float) -> list[tuple[int, int]]:
    """Eight ranks, three crashes: who started its worker twice in one attempt."""
    rng, jobset = random.Random(f"{seed}:crashes"), JobSet(seed, 8, stale)
    for number in range(3):
        jobset.crash(20.0 * (number + 1), rng.randrange(8))
    jobset.run()
    assert stale or jobset.started[-8:] == [(rank, 3) for rank, _ in jobset.started[-8:]]
    return jobset.alone


def test_a_rank_that_registers_itself_on_a_stale_read_joins_a_running_attempt_alone() -> None:
    holes = {stale: sum(bool(joined_alone(seed, stale)) for seed in SEEDS) for stale in (0.0, 0.02, 0.2)}
    print(f"JobSet's protocol, seeds of {len(SEEDS)} in which a rank joined alone, by share of stale reads: {holes}")
    assert holes[0.0] == 0
    assert 0 < holes[0.02] < holes[0.2]


@pytest.mark.parametrize("hundred", [0, 100, 200])
def test_a_rank_that_is_told_its_attempt_never_does_however_stale_the_reads_are(hundred: int) -> None:
    protocol, bounds = Protocol(2, 3), Bounds(exits=2, terms=1)
    for seed in range(hundred, hundred + 100):
        found = walks(protocol, protocol.running(bounds), seed, walks=1, longest=40)
        assert not found.violation, "\n".join((found.violation, *found.way))
