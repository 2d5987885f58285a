"""The scenario at the size that it has on kind, where a gang of thousands has a handful of ranks.

Ranks keep their place in proportion: rank 512 of 1,024 is rank 4 of 8. So do nodes, counted without the spare ones.
Whether a file can be made smaller without two of its ranks becoming one is checked when it is loaded (load_kind.py).
Knows nothing of either backend.
"""

from msgspec.structs import replace

from fleetctl.scenario.durations import Range
from fleetctl.scenario.model import (
    RANK_TRIGGERS,
    SPARE_NODES,
    Expect,
    GangSize,
    KindCluster,
    Latency,
    Scenario,
    Select,
    Step,
    When,
    World,
)

TWO_CORES = Latency(
    kubelet=Range(0.05, 0.4), container_start=Range(0.5, 2.0), agent_start=Range(0.1, 0.4), image_pull=Range(1.0, 3.0)
)
"""Fitted to kind clusters whose nodes all share two cores, quiet ones and busy ones (README: Rehearse on kind)."""
AS_IT_IS = 16
"""So many ranks need no `kind` in the file."""


def scaled(scenario: Scenario) -> Scenario:
    """The scenario with the ranks, nodes and latencies that it has on kind. Bounds of figures stay what they are.

    In the simulator there are two nodes more than workers: the workers of kind have room for any number of pods.
    """
    scale = Scale(scenario)
    return replace(
        scenario,
        world=scale.world(scenario.world),
        timeline=tuple(scale.step(step) for step in scenario.timeline),
        expect=scale.expect(scenario.expect),
    )


def size_on_kind(scenario: Scenario) -> KindCluster:
    """How many ranks and workers. Raises ValueError if the file does not say, and has too many ranks."""
    ranks = scenario.world.gang.ranks
    if scenario.kind is None and ranks > AS_IT_IS:
        raise ValueError(f"{scenario.path}: {ranks:,} ranks are too many for kind; add kind: {{ranks: 8, workers: 4}}")
    return scenario.kind or KindCluster(ranks=ranks)


class Scale:
    """How numbers of the file become numbers on kind."""

    def __init__(self, scenario: Scenario) -> None:
        world, self.small = scenario.world, size_on_kind(scenario)
        self.ranks = world.gang.ranks
        self.nodes = max(-(-self.ranks // world.ranks_per_node), self.small.workers)
        """As many as the ranks fill; fewer than the workers need not become fewer."""

    def rank(self, rank: int) -> int:
        """This rank of the file, on kind."""
        return rank * self.small.ranks // self.ranks

    def node(self, node: int) -> int:
        """This node of the file, on kind; no worker's number if none stands for it."""
        return node * self.small.workers // self.nodes

    def world(self, world: World) -> World:
        """The world of that size."""
        per_node, gang = -(-self.small.ranks // self.small.workers), self._gang(world.gang)
        nodes = self.small.workers - (-gang.spares // per_node) + SPARE_NODES
        return replace(world, gang=gang, ranks_per_node=per_node, nodes=nodes, latency=TWO_CORES)

    def step(self, step: Step) -> Step:
        """The fault, for those who stand for whom it hits."""
        nodes = type(step.fault).target == "nodes"
        return replace(step, when=step.when and self._when(step.when), select=self._select(step.select, nodes))

    def expect(self, expect: Expect) -> Expect:
        """What is expected of the ranks that there are."""
        new, ready = expect.new_pods, expect.spares_ready
        return replace(
            expect,
            same_pods=self._all(expect.same_pods),
            new_pods=None if new is None else self._all(new),
            quarantined=None,  # those of the file may be none that there are
            spares_ready=None if ready is None else self._spares(ready),
        )

    def _spares(self, spares: int) -> int:
        """So many of the file's, on kind."""
        return -(-spares * self.small.ranks // self.ranks)

    def _gang(self, gang: GangSize) -> GangSize:
        spec, coordinator = gang.spec, gang.spec.get("coordinator") or {}
        if coordinator.get("index"):
            spec = {**spec, "coordinator": {**coordinator, "index": self.rank(coordinator["index"])}}
        return replace(gang, ranks=self.small.ranks, spares=self._spares(gang.spares), spec=spec)

    def _when(self, when: When) -> When:
        return replace(when, value=self.rank(int(when.value))) if when.kind in RANK_TRIGGERS else when

    def _select(self, select: Select, nodes: bool) -> Select:
        small, big = (self.small.workers, self.nodes) if nodes else (self.small.ranks, self.ranks)
        return Select(
            ranks=self._all(select.ranks),
            nodes=tuple(sorted({self.node(node) for node in select.nodes})),
            node_of=None if select.node_of is None else self.rank(select.node_of),
            any=min(small, max(1, select.any * small // big)) if select.any else 0,
        )

    def _all(self, ranks: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({self.rank(rank) for rank in ranks}))
