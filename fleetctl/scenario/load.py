"""Loads a scenario file, or says everything that is wrong with it.

Each problem is a line `FILE:LINE: reason; fix`. What a file may hold is told by `form.py`, how it is read by
`reader.py`; that its parts fit each other is checked here (the head and the world), in `load_timeline.py`, in
`load_expect.py` and, if it is for kind too, in `load_kind.py`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yaml.nodes import Node

from fleetctl.errors import GiveUp
from fleetctl.gang.spec import Match, UserRule
from fleetctl.scenario import form
from fleetctl.scenario.load_expect import read_expect
from fleetctl.scenario.load_kind import check_kind
from fleetctl.scenario.load_timeline import Sizes, Timeline, some
from fleetctl.scenario.model import VERSION, Scenario, World, default_nodes
from fleetctl.scenario.reader import Keys, Reader

GROUP = "worker"
"""The group that every scenario's gang has, and no other."""


class ScenarioError(GiveUp):
    """A file is no scenario. `problems`: one line for each thing that is wrong, `FILE:LINE: reason; fix`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def load(path: Path) -> Scenario:
    """The scenario in this file. Raises ScenarioError with all its problems."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError([f"{path}:1: not UTF-8 at byte {error.start}; save it as UTF-8"]) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ScenarioError([f"{path}:1: cannot be read ({why}); name a scenario file"]) from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Scenario:
    """The scenario of this text; `name` is its file's, for the problems. Raises ScenarioError with all of them."""
    reader = Reader(name)
    root = reader.compose(text)
    scenario = _scenario(reader, root, Path(name)) if root else None
    if scenario is None or reader.problems:
        raise ScenarioError(reader.report())
    return scenario


def _scenario(reader: Reader, root: Node, path: Path) -> Scenario | None:
    keys = reader.open(root, form.File, "the file", "")
    version = keys.get("version")
    if version is not None and version != VERSION:
        # a later version may differ in everything: what else looks wrong here need not be
        reader.problems.clear()
        reader.say(keys.nodes["version"], f"version {version}: this fleetctl reads version {VERSION}; write that")
        return None
    _check_name(reader, keys, path)
    backends = tuple(dict.fromkeys(keys.get("backends") or ()))
    world, sizes = _world(reader, keys.nodes["world"]) if "world" in keys.nodes else (None, Sizes())
    timeline = Timeline(reader, sizes, backends)
    steps = timeline.read(keys.nodes["timeline"]) if "timeline" in keys.nodes else ()
    expect = read_expect(reader, keys.nodes["expect"], world, sizes, steps) if "expect" in keys.nodes else None
    head = {key: keys.get(key) for key in ("version", "name", "why", "seed", "policy", "kind")}
    given = reader.plain(keys.nodes["policy"], "policy") if "policy" in keys.nodes else {}
    if head["policy"]:
        _check_rules(reader, keys.nodes.get("policy", root), head["policy"].rules)
    if reader.problems or world is None or expect is None:
        return None
    scenario = Scenario(
        **head, policy_given=given, backends=backends, world=world, timeline=steps, expect=expect, path=path
    )
    if "kind" in backends:
        check_kind(reader, root, scenario)
    return scenario


def _check_name(reader: Reader, keys: Keys, path: Path) -> None:
    name = keys.get("name")
    if name is not None and path.suffix in (".yaml", ".yml") and name != path.stem:
        fix = f"write name: {path.stem}, or rename the file"
        reader.say(keys.nodes["name"], f'name is "{name}" and the file is {path.name}; {fix}')


def _world(reader: Reader, node: Node) -> tuple[World | None, Sizes]:
    """The world, and as much of its sizes as can be told even if something else in it is wrong."""
    before = len(reader.problems)
    keys = reader.open(node, World, "world", "world.")
    values = keys.values()
    gang, per_node, nodes = values["gang"], values["ranks_per_node"], values["nodes"]
    if gang and per_node:
        if nodes == 0:
            nodes = default_nodes(gang, per_node)
        if nodes and gang.ranks > nodes * per_node:
            reader.say(
                keys.nodes.get("nodes", node),
                f"{some(gang.ranks, 'rank')} do not fit on {some(nodes, 'node')} of {some(per_node, 'rank')} each; "
                f"write nodes: {-(-gang.ranks // per_node)} or more",
            )
    if gang:
        _check_gang_spec(reader, keys.nodes["gang"], gang.spec, gang.ranks)
    world = World(**values) if len(reader.problems) == before else None
    return world, Sizes(ranks=gang.ranks if gang else None, nodes=nodes, nodes_per_rack=values["nodes_per_rack"])


def _check_gang_spec(reader: Reader, node: Node, spec: dict[str, Any], ranks: int) -> None:
    if "recovery" in spec:
        reader.say(node, "world.gang.spec has recovery; write it as policy, at the top of the file")
    if "groups" in spec:
        reader.say(node, "world.gang.spec has groups; leave them out, they are made from world.gang.ranks")
    index = (spec.get("coordinator") or {}).get("index") or 0
    if index >= ranks:
        reader.say(node, f"world.gang.spec.coordinator.index {index} is no rank; write at most {ranks - 1}")


def _check_rules(reader: Reader, node: Node, rules: Iterable[UserRule]) -> None:
    """What a real API server would refuse; the simulated one takes any rule."""
    for number, rule in enumerate(rules):
        match, where = rule.match, f"policy.rules[{number}]"
        of_container = match.exit_codes or match.signals or match.reasons
        if sum(map(bool, (of_container, match.node_conditions, match.hardware))) > 1:
            reader.say(node, f"{where}.match: {Match.RULES[0][1]}")
        if rule.action == "RestartInPlace" and match.node_conditions:
            reader.say(node, f"{where}: {UserRule.RULES[0][1]}")
        if unknown := [name for name in match.groups if name != GROUP]:
            reader.say(node, f'{where}.match.groups: there is no group "{unknown[0]}"; write {GROUP}, or leave it out')
