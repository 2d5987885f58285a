"""Everything that can happen to two ranks and two controllers, within bounds, and no invariant is broken.

How large the scopes are, and how long they take: `python -m tests.model.explore`, which also knows larger ones.
"""

import pytest

from tests.model.protocol import Bounds, Protocol, State
from tests.model.search import Found, everything, walks

SCOPES = {
    "start": ("empty", 2, Bounds(exits=1, rounds=2)),
    "start under a new leader": ("empty", 1, Bounds(terms=1, rounds=2)),
    "two faults": ("running", 3, Bounds(exits=2)),
    "a fault and a new leader": ("running", 2, Bounds(exits=1, terms=1)),
    "a fault, and an answer that comes too late": ("running", 2, Bounds(exits=1, losses=1)),
    "a fault, and a deadline passes": ("running", 2, Bounds(exits=1, late=1)),
    "a fault, and a pod is deleted": ("running", 2, Bounds(exits=1, deletes=1)),
    "a fault, and a node dies": ("running", 2, Bounds(exits=1, deaths=1)),
    "a fault, and a node goes dark": ("running", 2, Bounds(exits=1, dark=1)),
    "a pod is deleted": ("running", 3, Bounds(deletes=1)),
    "a node dies": ("running", 3, Bounds(deaths=1)),
    "a node goes dark": ("running", 3, Bounds(dark=1)),
    "gathered, a fault and a new leader": ("gathered", 2, Bounds(exits=1, terms=1, rounds=1)),
    "a pod that was replaced wakes up under a new leader": ("replaced", 2, Bounds(terms=1)),
}


DEEP = (2, 5, Bounds(exits=4, terms=2, losses=1, deletes=1, deaths=1, dark=1, late=1, rounds=20))
"""Ranks, last attempt and bounds of random walks: far more than can be searched."""


def search(begin: str, last_attempt: int, bounds: Bounds, without: str = "") -> Found:
    protocol = Protocol(2, last_attempt, [without] if without else [])
    state: State = getattr(protocol, begin)(bounds)
    return everything(protocol, state)


def told(found: Found) -> str:
    return "\n".join((found.violation, *found.way))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scope", SCOPES)
def test_nothing_that_can_happen_breaks_an_invariant(scope: str) -> None:
    found = search(*SCOPES[scope])
    assert not found.violation, told(found)
    assert found.complete
    assert found.all_run, "no way leads to where all ranks run the last attempt"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("without", "begin", "last_attempt", "bounds", "broken"),
    [
        ("promise", "running", 3, Bounds(exits=2), "S1"),
        ("ticket", "gathered", 2, Bounds(exits=1, terms=1), "S2"),
        ("life-id", "running", 2, Bounds(exits=1), "S2"),
        ("compare-and-swap", "running", 2, Bounds(exits=1, terms=1), "S10"),
        ("fresh-view", "replaced", 3, Bounds(terms=1), "S1"),
    ],
)
def test_without_a_safeguard_something_can_happen_that_must_not(
    without: str, begin: str, last_attempt: int, bounds: Bounds, broken: str
) -> None:
    found = search(begin, last_attempt, bounds, without)
    print(f"without {without}: {told(found)}")
    assert found.violation.startswith(broken)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
def test_deep_random_walks_break_none_either(seed: int) -> None:
    protocol = Protocol(*DEEP[:2])
    found = walks(protocol, protocol.running(DEEP[2]), seed, walks=8, longest=100)
    assert not found.violation, told(found)
