"""What a gathering waits for, in words: a test for each kind of obstacle, with what passes by itself."""

from dataclasses import replace
from typing import Any

import pytest

from fleetctl.gang.obstacle import IMAGE_REASONS, Waiting, obstacles
from fleetctl.gang.state import Container, Life, Member, Node, Pod, Zombie

COORDINATOR = "Service llm-coordinator, port 28100"
LIFE = Life(uid="u", life_id="x", started_at=1)
BOUND = Pod(name="p", uid="u", node="n1", phase="Pending")
UNBOUND = Pod(name="p", uid="u", unschedulable=True)
SILENT = Node(name="n1", ready="Unknown", silent=True)


def waiting(
    pod: Pod | None,
    for_s: float = 1000.0,
    *,
    rank: int = 0,
    node: Node | None = None,
    life: Life | None = None,
    out_of_spares: bool = False,
    quiet_s: float = 1000.0,
) -> Waiting:
    who = Member(rank=rank, pod_name=f"p-{rank}", trainer="trainer", pod=pod, node=node, life=life)
    return Waiting(who, for_s, COORDINATOR, out_of_spares, quiet_s)


def told(pod: Pod | None, for_s: float = 1000.0, **seen: Any) -> list[str]:
    """What is said of one rank, without whom it is about."""
    return [sentence.removeprefix("rank 0: ") for sentence in obstacles([waiting(pod, for_s, **seen)], ())]


def container(reason: str, name: str = "trainer") -> Container:
    return Container(name=name, waiting_reason=reason)


def test_a_rank_that_simply_takes_its_time_is_no_obstacle() -> None:
    assert told(None) == []
    assert told(BOUND, node=Node(name="n1")) == []
    assert told(replace(BOUND, phase="Running"), node=Node(name="n1", ready="Unknown")) == []


def test_a_pod_that_stays_terminating_is_named_with_its_node() -> None:
    stuck = "the pod stays Terminating on node n1; it is not force-deleted while that node may be alive"
    assert told(replace(BOUND, deleting=True), 60) == [stuck]
    assert told(replace(BOUND, deleting=True), 59.9) == []
    assert told(BOUND, 60) == []


def test_a_finalizer_is_named_for_whoever_set_it() -> None:
    kept = replace(BOUND, deleting=True, finalizers=("example.com/a", "example.com/b"))
    finalizer = "finalizer example.com/a, example.com/b; whoever set it must remove it"
    assert told(kept, 60) == [f"the pod stays Terminating: {finalizer}"]
    assert told(kept, 59.9) == []
    assert told(replace(kept, deleting=False), 60) == []


def test_a_pod_that_finds_no_node() -> None:
    no_room = "no node has room for the pod (kubectl describe pod says why); it goes on when one has"
    assert told(UNBOUND, 10) == [no_room]
    assert told(UNBOUND, 9.9) == []
    assert told(replace(UNBOUND, unschedulable=False), 10) == []  # the scheduler has not looked at it yet
    assert told(replace(UNBOUND, node="n1"), 10) == []  # what was said before it was bound


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("ErrImagePull", "cannot pull its image"),
        ("ImagePullBackOff", "cannot pull its image"),
        ("ErrImageNeverPull", "cannot be created: ErrImageNeverPull"),
        ("InvalidImageName", "cannot be created: InvalidImageName"),
        ("CreateContainerConfigError", "cannot be created: CreateContainerConfigError"),
        # near misses
        ("ContainerCreating", None),
        ("PodInitializing", None),
        ("CrashLoopBackOff", None),
        ("RestartingAllContainers", None),
        ("", None),
    ],
)
def test_a_container_that_the_kubelet_cannot_start(reason: str, what: str | None) -> None:
    expected = [f"container trainer {what}; the kubelet keeps trying"] if what else []
    assert told(replace(BOUND, containers=(container(reason),)), 10) == expected
    assert told(replace(BOUND, containers=(container(reason),)), 9.9) == []
    assert (reason in IMAGE_REASONS) is (what is not None)


def test_the_container_that_is_stuck_is_named() -> None:
    both = (container("PodInitializing"), container("ErrImagePull", "helper"))
    stuck = replace(BOUND, containers=both, preparing=container("PodInitializing", "prepare"))
    assert told(stuck) == ["container helper cannot pull its image; the kubelet keeps trying"]
    first = replace(stuck, preparing=container("ErrImagePull", "fleetctl-life"))
    assert told(first) == ["container fleetctl-life cannot pull its image; the kubelet keeps trying"]


def test_a_sentence_does_not_change_while_the_kubelet_tries() -> None:
    tries = [
        told(replace(BOUND, containers=(container(reason),)), for_s)
        for for_s, reason in ((10, "ErrImagePull"), (500, "ImagePullBackOff"), (9000, "ErrImagePull"))
    ]
    assert tries[0] == tries[1] == tries[2] != []


def test_a_container_that_does_not_start() -> None:
    fails = replace(BOUND, containers=(container("CreateContainerError"),))
    sentence = (
        "a container does not start: CreateContainerError (kubectl describe pod says why); the kubelet keeps trying"
    )
    assert told(fails, 30) == [sentence]
    assert told(fails, 29.9) == []
    assert told(replace(BOUND, containers=(container("ContainerCreating"),)), 30) == []
    assert told(replace(fails, phase="Failed"), 30) == []


def test_no_room_and_no_spare() -> None:
    [sentence] = told(UNBOUND, out_of_spares=True)
    assert sentence == (
        "no node has room for the pod, and no spare is ready (kubectl describe pod says why); it goes on when one has"
    )


def test_a_node_that_is_not_heard_and_not_proven_dead() -> None:
    unheard = "nothing is heard from node n1, which is not proven dead"
    assert told(BOUND, 30, node=SILENT) == [unheard]
    assert told(BOUND, 29.9, node=SILENT) == []  # its containers may take their time to stop
    assert told(BOUND, 30, node=SILENT, quiet_s=10) == [unheard]
    assert told(BOUND, 30, node=SILENT, quiet_s=9.9) == []  # its agents may be about to say hello for the first time
    assert told(BOUND, 30, node=replace(SILENT, silent=False)) == []
    assert told(BOUND, 30, node=replace(SILENT, still_s=15.0)) == [unheard]  # seconds that pass are not news


def test_a_rank_at_the_barrier_that_does_not_reach_the_coordinator() -> None:
    no_path = f"cannot reach the coordinator through {COORDINATOR}; does a NetworkPolicy forbid it?"
    running = replace(BOUND, phase="Running")
    assert told(running, 10, life=LIFE) == [no_path]
    assert told(running, 9.9, life=LIFE) == []
    assert told(running, 10, life=replace(LIFE, connected=False)) == []  # not at the barrier
    assert told(running, 10) == []


@pytest.mark.parametrize(
    ("pod", "begins"),
    [
        (replace(BOUND, deleting=True, containers=(container("ErrImagePull"),)), "the pod stays Terminating"),
        (replace(BOUND, containers=(container("ErrImagePull"),)), "container trainer"),
        (BOUND, "nothing is heard"),
    ],
)
def test_of_several_obstacles_the_first_that_must_go_is_told(pod: Pod, begins: str) -> None:
    [sentence] = told(pod, node=SILENT, life=LIFE)
    assert sentence.startswith(begins)


def test_ranks_with_one_obstacle_share_one_sentence() -> None:
    cases = [
        waiting(UNBOUND, rank=5),
        waiting(UNBOUND, rank=3),
        waiting(BOUND, rank=8, node=SILENT),
        waiting(UNBOUND, rank=4),
        waiting(UNBOUND, rank=9),
        waiting(BOUND, rank=7, node=replace(SILENT, name="n2")),
        waiting(BOUND, rank=6, node=Node(name="n3")),
    ]
    assert obstacles(cases, ()) == (
        "rank 3-5,9: no node has room for the pod (kubectl describe pod says why); it goes on when one has",
        "rank 8: nothing is heard from node n1, which is not proven dead",
        "rank 7: nothing is heard from node n2, which is not proven dead",
    )


def test_a_former_pod_that_still_runs() -> None:
    runs = replace(LIFE, attempt=1)
    zombies = [
        Zombie(rank=2, life=runs),
        Zombie(rank=1, life=runs),
        Zombie(rank=3, life=LIFE),  # parked
        Zombie(rank=4, life=replace(runs, silent=True)),  # nobody knows
    ]
    sentence = "its former pod, which was deleted, still runs; it goes on when that has stopped"
    assert obstacles([], zombies) == (f"rank 1-2: {sentence}",)


def test_nothing_in_the_way_is_nothing_to_tell() -> None:
    assert obstacles([], ()) == ()
