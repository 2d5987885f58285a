"""A scenario at the size that it has on kind: who stands for whom, and what cannot be made smaller."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from fleetctl.scenario import faults
from fleetctl.scenario.load import ScenarioError, load, parse
from fleetctl.scenario.model import KindCluster, Scenario, Select, When
from fleetctl.scenario.scaled import scaled, size_on_kind

SHIPPED = [
    scenario
    for path in sorted((Path(__file__).parents[3] / "scenarios").glob("*.yaml"))
    if "kind" in (scenario := load(path)).backends
]

BIG = """\
version: 1
name: big
why: A gang of 1,024 that has 8 ranks on kind.
backends: [sim, kind]
world:
  gang: {ranks: 1024, spec: {coordinator: {index: 600}}}
kind: {ranks: 8, workers: 4}
timeline:
- at: 30s
  fault: container_exit
  select: {ranks: "3,417,900"}
- when: {restarting: 417}
  fault: node_killed
  select: {node_of: 600}
- when: {target: 2}
  fault: node_dark
  select: {nodes: "0-31,100"}
- at: 60s
  fault: pod_deleted
  select: {any: 300}
- at: 60s
  fault: node_dark
  select: {any: 1}
expect:
- running: {attempt: 2}
- same_pods: {ranks: "128-255,417"}
- new_pods: {ranks: "600,768-895"}
- figures: {pods_recreated: 8}
"""


def read(text: str) -> Scenario:
    return parse(text, "big.yaml")


def small(world: str, step: str = "{at: 30s, fault: gang_deleted}") -> str:
    """A file with one step; the world begins in line 6, the step is in line 8."""
    end = "gone: {}" if "gang_deleted" in step else "running: {}"
    return f"""\
version: 1
name: big
why: A small one.
backends: [sim, kind]
world:
  {world}
timeline:
- {step}
expect:
- {end}
"""


def changed(old: str, new: str) -> str:
    assert BIG.count(old) == 1, old
    return BIG.replace(old, new)


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        read(text)
    return [problem.removeprefix("big.yaml:") for problem in refused.value.problems]


def test_ranks_keep_their_place_in_proportion_wherever_they_are_named() -> None:
    big = read(BIG)
    small = scaled(big)
    exits, killed, dark, deleted, one = small.timeline
    assert exits.select == Select(ranks=(0, 3, 7))
    assert (killed.when, killed.select) == (When(kind="restarting", value=3), Select(node_of=4))
    assert dark.when == When(kind="target", value=2)
    assert (deleted.select, one.select) == (Select(any=2), Select(any=1))
    assert (small.expect.same_pods, small.expect.new_pods) == ((1, 3), (4, 6))
    assert small.world.gang.spec == {"coordinator": {"index": 4}}
    assert (small.expect.figures, small.expect.end) == (big.expect.figures, big.expect.end)


def test_nodes_keep_their_place_among_those_that_have_ranks() -> None:
    assert scaled(read(BIG)).timeline[2].select == Select(nodes=(0, 3))


@pytest.mark.parametrize(("ranks", "workers", "per_node"), [(8, 4, 2), (10, 4, 3), (3, 4, 1)])
def test_the_simulator_has_two_nodes_more_than_there_are_workers(ranks: int, workers: int, per_node: int) -> None:
    world = scaled(replace(read(BIG), kind=KindCluster(ranks=ranks, workers=workers))).world
    assert (world.gang.ranks, world.ranks_per_node, world.nodes) == (ranks, per_node, workers + 2)


def test_spares_become_fewer_with_the_ranks_and_have_nodes_of_their_own() -> None:
    world = "{gang: {ranks: 1024, spares: 130}}\nkind: {ranks: 8, workers: 4}"
    text = small(world) + "- quarantined: {nodes: none}\n- spares: {ready: 128}\n"
    big = read(text)
    here = scaled(big)
    assert (big.world.nodes, here.world.gang.spares, here.world.nodes) == (128 + 17 + 2, 2, 4 + 1 + 2)
    assert (here.expect.spares_ready, here.expect.quarantined) == (1, None)


def test_nothing_asked_of_new_pods_stays_nothing_and_none_stays_none() -> None:
    without = changed('- new_pods: {ranks: "600,768-895"}\n', "")
    assert scaled(read(without)).expect.new_pods is None
    none = changed('"600,768-895"', "none")
    assert scaled(read(none)).expect.new_pods == ()


def test_a_gang_that_is_small_needs_no_size() -> None:
    assert size_on_kind(read(small("gang: {ranks: 16}"))) == KindCluster(ranks=16, workers=4)
    assert scaled(read(small("gang: {ranks: 16}"))).world.ranks_per_node == 4
    told = "6: 1,024 ranks are too many for a kind cluster; add kind: {ranks: 8, workers: 4}"
    assert problems(small("gang: {ranks: 1024}")) == [told]
    with pytest.raises(ValueError, match="1,024 ranks are too many for kind; add kind:"):
        scaled(read(small("gang: {ranks: 1024}").replace("[sim, kind]", "[sim]")))


def test_a_gang_of_the_right_size_keeps_its_ranks_when_its_nodes_become_fewer() -> None:
    text = small("{gang: {ranks: 8}, ranks_per_node: 1}", '{at: 30s, fault: node_killed, select: {nodes: "2,4-5"}}')
    killed = scaled(read(text))
    assert (killed.world.gang.ranks, killed.timeline[0].select) == (8, Select(nodes=(1, 2)))


def test_nodes_that_are_fewer_than_workers_are_the_first_of_them() -> None:
    text = small("{gang: {ranks: 9}, nodes: 9}", "{at: 30s, fault: node_dark, select: {node: 3}}")
    assert scaled(read(text)).timeline[0].select == Select(nodes=(3,))
    assert problems(text.replace("node: 3", "node: 4")) == [
        "8: node 4 has no ranks, and kind no worker for it; write at most 3"
    ]


@pytest.mark.parametrize(
    ("world", "told"),
    [
        (
            "{gang: {ranks: 8}, controllers: 2}",
            "6: on kind there is one controller for now; leave controllers out, or take kind out of backends",
        ),
        (
            "{gang: {ranks: 8}, latency: {}}",
            "6: a kind cluster takes the time that it takes; leave latency out, or take kind out of backends",
        ),
        (
            "{gang: {ranks: 8}, trainer: {checkpointEvery: 1m}}",
            "6: trainers on kind lose no step; leave checkpointEvery out, or take kind out of backends",
        ),
        ("{gang: {ranks: 7}}\nkind: {ranks: 8}", "7: kind has 8 ranks, the gang 7; write ranks: 7"),
    ],
)
def test_a_world_that_a_kind_cluster_cannot_be(world: str, told: str) -> None:
    assert problems(small(world)) == [told]
    assert read(small(world).replace("[sim, kind]", "[sim]")).backends == ("sim",)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("controller_crash, with: {edge: before}", "it cannot be before a write {}; leave edge and write out"),
        ("out_of_memory, with: {container: agent}", "an agent cannot be brought to its memory limit {}; write"),
        ("container_exit, with: {container: agent}", "an agent cannot exit so {}; use agent_exits"),
        ("pod_evicted, with: {reason: DeletionByPodGC}", "DeletionByPodGC cannot be had {}; leave reason out"),
    ],
)
def test_a_fault_that_kind_can_do_only_in_part_is_told_with_what_it_can(fault: str, told: str) -> None:
    select = "" if "controller" in fault else ", select: {rank: 0}"
    text = small("{gang: {ranks: 8}}", f"{{at: 30s, fault: {fault}{select}}}")
    (problem,) = problems(text)
    name = fault.partition(",")[0]
    assert problem.startswith(f"8: fault {name}: {told.format(faults.ON_KIND)}")
    assert read(text.replace("[sim, kind]", "[sim]")).timeline
    assert read(re.sub(r", with: {.*?}", "", text)).timeline


@pytest.mark.parametrize("scenario", [read(BIG), *SHIPPED], ids=lambda scenario: scenario.name)
def test_what_has_the_small_size_keeps_it(scenario: Scenario) -> None:
    small = scaled(scenario)
    assert scaled(small) == small


def test_shipped_scenarios_are_for_kind_too() -> None:
    assert len(SHIPPED) >= 13
    assert "demo-kind" in {scenario.name for scenario in SHIPPED}


@pytest.mark.parametrize("scenario", SHIPPED, ids=lambda scenario: scenario.name)
def test_faults_of_shipped_scenarios_leave_a_real_gang_the_time_to_start(scenario: Scenario) -> None:
    assert all(step.at is None or step.at >= 20 for step in scenario.timeline)


@pytest.mark.parametrize(
    ("old", "new", "line", "two"),
    [
        ('"3,417,900"', '"3,417,418"', 11, "ranks 417 and 418 are both rank 3"),
        ("{restarting: 417}", "{restarting: 418}", 12, "ranks 417 and 418 are both rank 3"),
        ("{node_of: 600}", "{node_of: 513}", 14, "ranks 513 and 600 are both rank 4"),
        ('"128-255,417"', '"129-255"', 26, "ranks 129 and 130 are both rank 1"),
        ('"600,768-895"', '"768-896"', 27, "ranks 896 and 900 are both rank 7"),
    ],
)
def test_two_ranks_that_would_become_one_are_told(old: str, new: str, line: int, two: str) -> None:
    fix = "name ranks that are 128 or more apart, or write a larger kind.ranks"
    assert problems(changed(old, new)) == [f"{line}: {two} of 8 on kind; {fix}"]


def test_two_nodes_that_would_become_one_are_told() -> None:
    fix = "name nodes that are 32 or more apart, or write a larger kind.workers"
    told = f"17: nodes 0 and 1 are both node 0 of 4 on kind; {fix}"
    assert problems(changed('"0-31,100"', '"0-30,100"')) == [told]


def test_a_spare_node_has_no_worker() -> None:
    told = "17: node 129 has no ranks, and kind no worker for it; write at most 127"
    assert problems(changed('"0-31,100"', '"0-31,129"')) == [told]
