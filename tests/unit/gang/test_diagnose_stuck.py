"""A container that does not start: is it the image, or the machine? The place tells."""

from typing import Any

import pytest
from evidence import at_barrier, ended, gathering, member, only, verdicts

from fleetctl.gang.state import Container, Member

LATE = dict.fromkeys(range(1, 9), 900.0)


def stuck(rank: int, reason: str = "CreateContainerError", *, fresh: bool = True, **more: Any) -> Member:
    waits = {"running": False, "waiting_reason": reason}
    return member(rank, container=waits, heard=False, **{"pod": {"attempt": 3 if fresh else 1}, **more})


def judged(*members: Member, waited: dict[int, float] = LATE) -> list[tuple[str, str, str]]:
    return [(v.scope, v.rule, v.node) for v in verdicts(members, gathering(), waited)]


def test_on_one_machine_only_it_is_the_machine() -> None:
    verdict = only([at_barrier(0), stuck(1)], gathering(), {1: 120})
    assert (verdict.scope, verdict.rule, verdict.rung, verdict.node) == ("Node", "stuck-on-node", "RecreatePod", "n1")
    assert verdict.because == (
        "the new pod of rank 1 did not come up on node n1 within 120 s (CreateContainerError), "
        "while others of its group came up elsewhere"
    )


def test_on_many_machines_it_is_the_workload_and_no_new_pod_helps() -> None:
    assert judged(at_barrier(0), *(stuck(rank) for rank in (1, 2, 3))) == []
    two = [("Unknown", "recreate-deadline", f"n{rank}") for rank in (1, 2)]
    assert judged(at_barrier(0), stuck(1), stuck(2)) == two
    assert judged(at_barrier(0), stuck(1), stuck(2), waited={1: 899, 2: 899}) == []


def test_three_ranks_on_one_machine_are_one_machine() -> None:
    on_one = [stuck(r, pod={"attempt": 3, "node": "n1"}) for r in (1, 2, 3)]
    assert judged(at_barrier(0), *on_one) == [("Node", "stuck-on-node", "n1")] * 3


@pytest.mark.parametrize(
    "others", [[], [at_barrier(0, group="others")], [member(0)], [at_barrier(0, pod={"node": "n1"})]]
)
def test_unless_the_same_comes_up_elsewhere_nobody_knows(others: list[Member]) -> None:
    assert judged(*others, stuck(1), waited={1: 900}) == [("Unknown", "recreate-deadline", "n1")]
    assert judged(*others, stuck(1), waited={1: 899}) == []


def test_a_pod_that_was_moved_and_still_fails_is_not_moved_so_soon_again() -> None:
    moved = stuck(1, pod={"attempt": 3, "avoids": ("n7",)})
    assert judged(at_barrier(0), moved, waited={1: 899}) == []
    assert judged(at_barrier(0), moved) == [("Unknown", "recreate-deadline", "n1")]


def test_the_kubelet_alternates_between_two_words_for_the_same() -> None:
    pulls = [stuck(1, "ErrImagePull"), stuck(2, "ImagePullBackOff"), stuck(3, "ErrImagePull")]
    assert judged(at_barrier(0), *pulls) == []
    [first, second] = verdicts([stuck(1, "ErrImagePull"), stuck(2, "ImagePullBackOff")], gathering(), LATE)
    assert "(ImagePullBackOff)" in first.because
    assert "(ImagePullBackOff)" in second.because


@pytest.mark.parametrize(
    "reason", ["RunContainerError", "StartError", "ContainerCannotRun", "ContainerStatusUnknown"]
)  # fmt: skip
def test_how_a_container_that_did_not_start_ended_tells_too(reason: str) -> None:
    init = Container(name="prepare", ended=ended(128, reason=reason))
    seen = stuck(1, "", pod={"attempt": 3, "preparing": init})
    assert judged(at_barrier(0), seen) == [("Node", "stuck-on-node", "n1")]


def test_creating_takes_as_long_as_it_takes() -> None:
    assert judged(at_barrier(0), stuck(1, "ContainerCreating"), waited={1: 899}) == []
    assert judged(at_barrier(0), stuck(1, "ContainerCreating")) == [("Node", "stuck-on-node", "n1")]
    several = [stuck(rank, "ContainerCreating") for rank in (1, 2, 3)]
    assert judged(at_barrier(0), *several, waited={1: 900, 2: 1}) == [("Node", "stuck-on-node", "n1")]
    assert {rule for _, rule, _ in judged(at_barrier(0), *several)} == {"recreate-deadline"}


def test_a_restart_in_place_that_is_stuck_tells_why() -> None:
    verdict = only([stuck(1, "RunContainerError", fresh=False)], gathering(), {1: 120})
    assert verdict.because == "rank 1 did not come back in place on node n1 within 120 s (RunContainerError)"
    assert (verdict.scope, verdict.rule) == ("Unknown", "in-place-deadline")
