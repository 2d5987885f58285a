"""A bad machine is left by all its ranks; one that only hosts a rank in trouble is not."""

from typing import Any

import pytest
from evidence import NOW, calm, ended, gathering, life, member, report, rule, verdicts

from fleetctl.gang.state import Container, Member, Node, Strike, Verdict

SHARED = Node(name="n1")
LEMON = Node(name="n1", strikes=(Strike(at=NOW - 3600, rule="hang", who="ns/g/7"),))


def here(rank: int, on: Node = SHARED, told: str = "", **more: Any) -> Member:
    """A rank on the machine, whose pod may have been told of a device."""
    pod = {"node": on.name, **more.pop("pod", {})}
    hardware = (report(told),) if told else ()
    return member(rank, node=on, pod=pod, alive=life(rank, hardware=hardware), **more)


def judged(members: list[Member], gang: Any) -> dict[int, tuple[str, str]]:
    return {v.rank: (v.rule, v.rung) for v in verdicts(members, gang)}


@pytest.mark.parametrize("gang", [calm(), gathering()], ids=["running", "gathering"])
def test_what_a_machine_reports_of_itself_is_about_all_its_ranks(gang: Any) -> None:
    found = verdicts([here(0), here(1, told="xid-79"), here(2), member(3)], gang)
    assert [(v.rank, v.rule, v.scope, v.rung, v.node) for v in found] == [
        (1, "hardware-report", "Node", "RecreatePod", "n1"),
        (0, "same-machine", "Node", "RecreatePod", "n1"),
        (2, "same-machine", "Node", "RecreatePod", "n1"),
    ]
    assert found[1].because == f"rank 0 is on the same machine as rank 1: {found[0].because}"
    assert found[1].what == found[2].what


def test_so_is_a_device_that_the_kubelet_calls_unhealthy() -> None:
    sick = Container(name="trainer", running=True, unhealthy=("GPU-3",))
    found = judged([here(0, pod={"containers": (sick,)}), here(1)], calm())
    assert found == {0: ("device-unhealthy", "RecreatePod"), 1: ("same-machine", "RecreatePod")}


def test_a_lemon_is_left_by_all_whether_they_failed_or_not() -> None:
    found = judged([here(0, LEMON, exits=ended(139)), here(1, LEMON, exits=ended(134)), here(2, LEMON)], calm())
    assert found == {
        0: ("lemon", "RecreatePod"),
        1: ("lemon", "RecreatePod"),
        2: ("same-machine", "RecreatePod"),
    }


@pytest.mark.parametrize(
    "neighbour",
    [
        member(0),  # elsewhere
        here(0, pod={"deleting": True}),
        here(0, pod={"phase": "Succeeded"}),
    ],
    ids=["elsewhere", "leaves already", "is done"],
)
def test_who_is_left_alone(neighbour: Member) -> None:
    assert judged([neighbour, here(1, told="xid-79")], calm()) == {1: ("hardware-report", "RecreatePod")}


def test_a_failure_in_place_gives_way_and_a_users_rule_does_not() -> None:
    members = [here(0, exits=ended(7)), here(1, told="xid-79")]
    assert judged(members, calm())[0] == ("same-machine", "RecreatePod")
    assert judged(members, calm(rules=[rule("RestartInPlace", exit_codes=[7])]))[0] == ("user-rule-1", "InPlace")
    assert judged(members, calm(rules=[rule("FailGang", exit_codes=[7])]))[0] == ("fatal-exit", "InPlace")


def test_a_failure_that_counts_against_a_machine_drives_nobody_else_off() -> None:
    assert judged([here(0, exits=ended(139)), here(1)], calm()) == {0: ("fatal-signal", "InPlace")}


def test_a_word_that_is_not_heeded_yet_is_not_heeded_for_the_others_either() -> None:
    members = [here(0), here(1, told="xid-79")]
    assert judged(members, calm(unheeded=frozenset({"n1"}))) == {}


def test_of_two_that_report_the_first_is_named() -> None:
    found: list[Verdict] = list(verdicts([here(0, told="xid-48"), here(1, told="xid-79"), here(2)], calm()))
    assert [v.because.partition(": ")[0] for v in found if v.rule == "same-machine"] == [
        "rank 2 is on the same machine as rank 0"
    ]
