"""Who comes first: culprits before those who failed because of them."""

import pytest
from evidence import calm, ended, life, member, report, verdicts

from fleetctl.gang.state import Member, Node


def order(*members: Member) -> list[int]:
    return [v.rank for v in verdicts(members, calm())]


@pytest.mark.parametrize("victim", [1, 134, 143])
@pytest.mark.parametrize("culprit", [3, 135, 137, 139])
def test_within_a_second_what_seldom_follows_comes_first(victim: int, culprit: int) -> None:
    assert order(member(0, exits=ended(victim, at=1105)), member(1, exits=ended(culprit, at=1105))) == [1, 0]
    assert order(member(0, exits=ended(victim, at=1105.1)), member(1, exits=ended(culprit, at=1105.9))) == [1, 0]


def test_the_earlier_second_comes_first_whatever_it_was() -> None:
    assert order(member(0, exits=ended(139, at=1106)), member(1, exits=ended(134, at=1105.9))) == [1, 0]


def test_what_nobody_saw_comes_last() -> None:
    unseen = member(0, alive=life(0, attempt=0, promise=None))
    assert order(unseen, member(1, exits=ended(1, at=9999))) == [1, 0]


def test_a_report_of_a_machine_comes_before_earlier_exits_and_before_machines_without_a_time() -> None:
    sick = member(2, alive=life(2, hardware=(report("xid-79", at=1107),)))
    leaves = member(1, node=Node(name="n1", taints=frozenset({"karpenter.sh/disrupted"})))
    assert order(member(0, exits=ended(134, at=1105)), leaves, sick) == [2, 1, 0]


def test_of_equals_the_lowest_rank_comes_first() -> None:
    assert order(*(member(rank, exits=ended(139)) for rank in (3, 0, 2))) == [0, 2, 3]
