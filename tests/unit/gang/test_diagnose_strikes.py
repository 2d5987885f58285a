"""What counts against a machine, and when it is enough."""

from dataclasses import replace

import pytest
from evidence import NOW, calm, ended, gathering, life, member, only, rule, steps, trains, verdicts

from fleetctl.gang.diagnose.strikes import is_lemon
from fleetctl.gang.state import Ended, Member, Node, Strike

HOUR_S = 3600.0


def node(name: str, *strikes: tuple[str, float]) -> Node:
    """With strikes by whose failure, and how many hours ago."""
    struck = (Strike(at=NOW - HOUR_S * ago, rule="hang", who=f"ns/g/{who}") for who, ago in strikes)
    return Node(name=name, strikes=tuple(struck))


TWICE = node("n1", ("1", 3), ("1", 2))
"""Rank 1 hung there."""
SEGV = ended(139)


@pytest.mark.parametrize(
    ("how", "strikes"),
    [
        (ended(139), "n1"),  # SIGSEGV
        (ended(135), "n1"),  # SIGBUS
        (ended(132), "n1"),  # SIGILL
        (ended(136), "n1"),  # SIGFPE
        (ended(134), "n1"),  # SIGABRT
        (ended(128, reason="StartError"), "n1"),
        (ended(128, reason="ContainerCannotRun"), "n1"),
        # near misses
        (ended(1), ""),
        (ended(126), ""),
        (ended(128), ""),
        (ended(137), ""),
        (ended(143), ""),
        (ended(137, reason="OOMKilled"), ""),
    ],
)
def test_which_ends_may_be_the_machines_fault(how: Ended, strikes: str) -> None:
    assert only([member(exits=how)], calm()).strikes == strikes


def test_what_nobody_saw_counts_against_nobody() -> None:
    assert only([member(alive=life(attempt=0, promise=None))], calm()).strikes == ""


def test_the_second_failure_makes_a_lemon_if_it_is_another() -> None:
    of_another_rank = node("n1", ("7", 2))
    verdict = only([member(exits=SEGV, node=of_another_rank)], calm())
    assert (verdict.rule, verdict.because) == ("lemon", "node n1 failed 2 times within 48 h (hang, fatal-signal)")
    in_another_way = node("n1", ("1", 2))
    assert only([member(exits=SEGV, node=in_another_way)], calm()).rule == "lemon"
    assert only([member(exits=SEGV, node=segv("n1", 2))], calm()).rule == "fatal-signal"
    assert only([member(exits=SEGV, node=segv("n1", 2, 3))], calm()).rule == "lemon"


def segv(name: str, *ago: float) -> Node:
    """Rank 1 died of a signal there, so many hours ago."""
    strikes = tuple(Strike(at=NOW - HOUR_S * hours, rule="fatal-signal", who="ns/g/1") for hours in ago)
    return Node(name=name, strikes=strikes)


def test_the_third_failure_makes_a_lemon() -> None:
    verdict = only([member(exits=SEGV, node=TWICE)], calm())
    assert (verdict.scope, verdict.rule, verdict.rung, verdict.node) == ("Node", "lemon", "RecreatePod", "n1")
    assert verdict.because == "node n1 failed 3 times within 48 h (hang, hang, fatal-signal)"
    assert (verdict.strikes, verdict.since) == ("n1", 1105)


def test_a_hang_counts_too() -> None:
    still = calm(steps=steps({0: 9, 1: 8, 2: 9}), monotonic=60.0)
    members = [*trains(0, 2), member(node=TWICE)]
    assert only(members, still).because == "node n1 failed 3 times within 48 h (hang, hang, hang)"


@pytest.mark.parametrize(
    "seen",
    [
        member(exits=SEGV, node=node("n1")),
        member(exits=SEGV, node=node("n1", ("2", 48.1))),
        member(exits=ended(1), node=TWICE),  # says nothing about the machine
        member(exits=SEGV, node=TWICE, pod={"phase": "Failed"}),  # gets a new pod anyway, wherever
    ],
)
def test_what_is_no_lemon(seen: Member) -> None:
    assert only([seen], calm()).scope == "Container"


def test_while_the_gang_gathers_the_failure_itself_is_among_the_strikes() -> None:
    assert only([member(exits=SEGV, node=TWICE)], gathering()).rule == "fatal-signal"


def test_a_rule_of_the_users_blames_no_machine() -> None:
    ruled = calm(rules=[rule("RestartInPlace", signals=["SIGSEGV"])])
    assert only([member(exits=SEGV, node=TWICE)], ruled).rule == "user-rule-1"


def test_a_fault_that_follows_the_rank_is_not_its_machines() -> None:
    elsewhere = member(2, node=node("n2", ("1", 5)))
    assert only([member(exits=SEGV, node=TWICE), elsewhere], calm()).rule == "fatal-signal"
    of_another = member(2, node=node("n2", ("7", 5)))
    assert only([member(exits=SEGV, node=TWICE), of_another], calm()).rule == "lemon"
    long_ago = member(2, node=node("n2", ("1", 49)))
    assert only([member(exits=SEGV, node=TWICE), long_ago], calm()).rule == "lemon"


def test_other_ranks_failures_on_the_machine_still_count_though_one_rank_fails_everywhere() -> None:
    elsewhere = member(2, node=node("n2", ("1", 5)))
    mixed = member(exits=SEGV, node=node("n1", ("1", 3), ("4", 2), ("5", 1)))
    assert only([mixed, elsewhere], calm()).because == "node n1 failed 3 times within 48 h (hang, hang, fatal-signal)"


# what many do alike


def crowd(*ends: Ended) -> list[Member]:
    return [member(rank, exits=how, node=replace(TWICE, name=f"n{rank}")) for rank, how in enumerate(ends)]


def test_what_many_ranks_do_alike_is_no_machines_fault() -> None:
    found = verdicts(crowd(SEGV, SEGV, SEGV), calm())
    assert {(v.rule, v.strikes) for v in found} == {("fatal-signal", "")}


@pytest.mark.parametrize("ends", [[SEGV, SEGV], [SEGV, SEGV, ended(135)], [SEGV, SEGV, ended(139, at=1116)]])
def test_few_or_different_or_later_ends_are_not_alike(ends: list[Ended]) -> None:
    members = [member(rank, exits=how) for rank, how in enumerate(ends)]
    assert all(v.strikes == f"n{v.rank}" for v in verdicts(members, calm()))


def test_ranks_of_one_machine_that_end_alike_may_well_be_its_fault() -> None:
    members = [member(rank, exits=SEGV, node=Node(name="n1")) for rank in range(3)]
    assert {v.strikes for v in verdicts(members, calm())} == {"n1"}


def test_three_ranks_on_two_machines_within_ten_seconds_are_alike() -> None:
    last = member(2, exits=ended(139, at=1115), node=Node(name="n1"))
    found = verdicts([member(0, exits=SEGV), member(1, exits=SEGV), last], calm())
    assert {v.strikes for v in found} == {""}


@pytest.mark.parametrize(("strikes", "lemon"), [(2, False), (3, True)])
def test_a_node_is_well_again_until_it_was_condemned(strikes: int, lemon: bool) -> None:
    assert is_lemon(node("n1", *[("1", 1.0)] * strikes), NOW) is lemon
