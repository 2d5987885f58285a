"""Machines: conditions, and silence of whole failure domains."""

from dataclasses import replace
from typing import Any

import pytest
from evidence import calm, ended, life, member, only, verdicts

from fleetctl.gang.diagnose.node_state import BAD_CONDITIONS, OUT_OF_SERVICE, is_suspect, silent_domain
from fleetctl.gang.state import Member, Node, Verdict

SWITCH = "topology.kubernetes.io/rack=r1"


def silent_in(rack: str, rank: int, still_s: float, **more: Any) -> Member:
    seen = {"domains": (f"topology.kubernetes.io/rack={rack}",), "still_s": still_s, "silent": still_s > 0, **more}
    quiet = life(rank, connected=False, silent=True) if still_s else None
    return member(rank, node=Node(name=f"n{rank}", **seen), alive=quiet)


def judged(*members: Member) -> tuple[Verdict, ...]:
    return verdicts(members, calm(silent_domain=silent_domain(members)))


def dead(*members: Member) -> list[int]:
    return [v.rank for v in judged(*members) if v.dead]


def test_a_rack_that_falls_silent_is_given_the_time_its_switch_needs() -> None:
    others = [silent_in("r2", rank, 0) for rank in (8, 9)]
    assert dead(*(silent_in("r1", rank, 119.9) for rank in (0, 1)), *others) == []
    gone = [silent_in("r1", rank, 120) for rank in (0, 1)]
    assert dead(*gone, *others) == [0, 1]
    [first, _] = judged(*gone, *others)
    assert first.because == (
        "node n0 is dead: its agents are silent and its Lease did not move for 120 s, while others' did; "
        f"others of {SWITCH} are silent too"
    )


@pytest.mark.parametrize(
    "members",
    [
        [silent_in("r1", 0, 40), silent_in("r2", 1, 40), silent_in("r1", 2, 0), silent_in("r3", 3, 0)],
        [silent_in("r1", 0, 40), silent_in("r1", 1, 40)],  # all that the gang has: says nothing
        [*(silent_in("r1", r, 40 if r < 2 else 0) for r in range(5)), silent_in("r2", 5, 0)],  # two of five
    ],
)  # fmt: skip
def test_nodes_that_have_nothing_in_common_are_not_waited_for_so_long(members: list[Member]) -> None:
    assert dead(*members) == [0, 1]
    assert dead(*(replace(m, node=replace(m.node, still_s=min(39.9, m.node.still_s))) for m in members if m.node)) == []


def test_a_domain_that_was_silent_a_moment_ago_is_waited_for_while_one_of_its_nodes_is() -> None:
    back, still = [silent_in("r1", rank, 0) for rank in (0, 1, 2)], silent_in("r1", 3, 119.9)
    others = [silent_in("r2", rank, 0) for rank in (8, 9)]
    assert dead(*back, still, *others) == [3]
    assert verdicts([*back, still, *others], calm(silent_domain=SWITCH)) == ()
    elsewhere = silent_in("r2", 8, 20)
    assert [v.rank for v in verdicts([*back, elsewhere], calm(silent_domain=SWITCH))] == [8]


def test_a_node_that_is_deleted_or_fenced_needs_no_proof_and_is_no_part_of_a_domain() -> None:
    fenced = silent_in("r1", 0, 1, taints=frozenset({OUT_OF_SERVICE}))
    other, well = silent_in("r1", 1, 40), silent_in("r2", 2, 0)
    assert dead(fenced, other, well) == [0, 1]


@pytest.mark.parametrize("kind", sorted(BAD_CONDITIONS))
def test_a_machine_that_its_watcher_calls_bad_is_left(kind: str) -> None:
    on = Node(name="n1", conditions=frozenset({"KernelReady", kind}))
    verdict = only([member(node=on)], calm())
    assert (verdict.scope, verdict.rung, verdict.node, verdict.dead) == ("Node", "RecreatePod", "n1", False)
    assert verdict.because == f"node n1 is bad (condition {kind})"
    assert is_suspect(on)


@pytest.mark.parametrize(
    "kind", ["KernelReady", "GpuThermalWatch", "GpuPowerWatch", "XIDErrors", "KubeletProblem", "FrequentKubeletRestart"]
)
def test_a_condition_that_a_machine_can_train_with_is_no_reason(kind: str) -> None:
    on = Node(name="n1", conditions=frozenset({kind}))
    assert verdicts([member(node=on)], calm()) == ()
    assert not is_suspect(on)


def test_a_pod_that_has_ended_does_not_mind_the_condition_of_its_node() -> None:
    on = Node(name="n1", conditions=frozenset({"KernelDeadlock"}))
    assert verdicts([member(node=on, pod={"phase": "Succeeded"})], calm()) == ()


def test_while_the_breaker_is_open_nobodys_word_about_a_node_is_taken() -> None:
    on = Node(name="n1", conditions=frozenset({"KernelDeadlock"}))
    assert verdicts([member(node=on)], calm(distrusted=True)) == ()
    assert only([member(node=on, exits=ended(3))], calm(distrusted=True)).rule == "container-exit"
