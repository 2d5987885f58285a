"""What a scenario file must keep to if kind is one of its backends: a cluster that is there, ranks that stay apart.

Used by `load.py` only, for a file that has no other problem. What a fault cannot do on kind is told in
`load_timeline.py`, with the fault.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from yaml.nodes import MappingNode, Node, SequenceNode

from fleetctl.scenario.model import RANK_TRIGGERS, KindCluster, Scenario
from fleetctl.scenario.reader import Reader
from fleetctl.scenario.scaled import AS_IT_IS, Scale

WITHOUT_KIND = "or take kind out of backends"


@dataclass(frozen=True, slots=True)
class _Named:
    """Ranks or nodes that the file names in one place."""

    node: Node
    numbers: tuple[int, ...]


def check_kind(reader: Reader, root: Node, scenario: Scenario) -> None:
    """Report what keeps this scenario from kind."""
    world, ranks, small = scenario.world, scenario.world.gang.ranks, scenario.kind
    if world.controllers != 1:
        fix = f"leave controllers out, {WITHOUT_KIND}"
        reader.say(_at(root, "world", "controllers"), f"on kind there is one controller for now; {fix}")
    if (latency := _at(root, "world", "latency")) is not _at(root, "world"):
        reader.say(latency, f"a kind cluster takes the time that it takes; leave latency out, {WITHOUT_KIND}")
    if world.trainer.checkpoint_every is not None:
        fix = f"leave checkpointEvery out, {WITHOUT_KIND}"
        reader.say(_at(root, "world", "trainer", "checkpointEvery"), f"trainers on kind lose no step; {fix}")
    if small is None and ranks > AS_IT_IS:
        fix = f"add kind: {{ranks: {KindCluster().ranks}, workers: {KindCluster().workers}}}"
        reader.say(_at(root, "world", "gang", "ranks"), f"{ranks:,} ranks are too many for a kind cluster; {fix}")
    elif small is not None and small.ranks > ranks:
        reader.say(_at(root, "kind", "ranks"), f"kind has {small.ranks} ranks, the gang {ranks}; write ranks: {ranks}")
    else:
        scale = Scale(scenario)
        nodes = list(_nodes(root, scenario))
        _check_workers(reader, nodes, scale)
        _check_apart(reader, "rank", list(_ranks(root, scenario)), scale.rank, scale.ranks, scale.small.ranks)
        _check_apart(reader, "node", nodes, scale.node, scale.nodes, scale.small.workers)


def _check_workers(reader: Reader, named: list[_Named], scale: Scale) -> None:
    for each in named:
        if each.numbers[-1] >= scale.nodes:
            told = f"node {each.numbers[-1]} has no ranks, and kind no worker for it"
            reader.say(each.node, f"{told}; write at most {scale.nodes - 1}")


def _check_apart(
    reader: Reader, noun: str, named: list[_Named], smaller: Callable[[int], int], big: int, small: int
) -> None:
    """Two that are different in the file stay different; only where all that become one are named, they may."""
    become = Counter(smaller(number) for number in range(big))
    stands_for: dict[int, int] = {}
    for each in named:
        groups: dict[int, list[int]] = defaultdict(list)
        for number in each.numbers:
            groups[smaller(number)].append(number)
        for one, those in groups.items():
            if len(those) == become[one]:
                continue
            first = stands_for.setdefault(one, those[0])
            if others := [number for number in those if number != first]:
                what = f"{noun}s {min(first, others[0])} and {max(first, others[0])} are both {noun} {one} of {small}"
                key = "ranks" if noun == "rank" else "workers"
                fix = f"name {noun}s that are {-(-big // small)} or more apart, or write a larger kind.{key}"
                reader.say(each.node, f"{what} on kind; {fix}")
                break


def _ranks(root: Node, scenario: Scenario) -> Iterator[_Named]:
    coordinator = scenario.world.gang.spec.get("coordinator") or {}
    if coordinator.get("index"):
        yield _Named(_at(root, "world", "gang", "spec"), (coordinator["index"],))
    for step, node in zip(scenario.timeline, _items(_at(root, "timeline")), strict=True):
        if step.select.ranks:
            yield _Named(_at(node, "select"), step.select.ranks)
        if step.select.node_of is not None:
            yield _Named(_at(node, "select"), (step.select.node_of,))
        if step.when and step.when.kind in RANK_TRIGGERS:
            yield _Named(_at(node, "when"), (int(step.when.value),))
    for node in _items(_at(root, "expect")):
        for name, ranks in (("same_pods", scenario.expect.same_pods), ("new_pods", scenario.expect.new_pods)):
            if ranks and _at(node, name) is not node:
                yield _Named(node, ranks)


def _nodes(root: Node, scenario: Scenario) -> Iterator[_Named]:
    for step, node in zip(scenario.timeline, _items(_at(root, "timeline")), strict=True):
        if step.select.nodes:
            yield _Named(_at(node, "select"), step.select.nodes)


def _items(node: Node) -> list[Node]:
    return list(node.value) if isinstance(node, SequenceNode) else []


def _at(node: Node, *keys: str) -> Node:
    """What stands under these keys; as far as they are there."""
    for key in keys:
        found = {name.value: value for name, value in node.value} if isinstance(node, MappingNode) else {}
        node = found.get(key, node)
    return node
