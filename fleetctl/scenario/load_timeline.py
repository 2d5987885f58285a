"""The timeline of a scenario file: faults that fit their targets, on ranks and nodes that exist, at times that come.

Used by `load.py` only. Nothing here raises: problems go to the reader, and what has one is left out.
"""

from dataclasses import dataclass

from yaml.nodes import MappingNode, Node

from fleetctl.scenario import form
from fleetctl.scenario.durations import Spans
from fleetctl.scenario.faults import FAULTS, Backend, Fault, Target
from fleetctl.scenario.model import RANK_TRIGGERS, Select, Step, When
from fleetctl.scenario.reader import Keys, Reader, any_of, fields_of, line_of

SELECTS: dict[Target, tuple[str, ...]] = {
    "ranks": ("rank", "ranks", "any"),
    "nodes": ("node", "nodes", "node_of", "rack", "any"),
    "none": (),
}
SEE_FAULTS = "see fleetctl scenario --list-faults"

_MOST = 100_000  # indices that a list may have where the world's size is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many there are of each; None while that is not known, because the file has it wrong."""

    ranks: int | None = None
    nodes: int | None = None
    nodes_per_rack: int | None = None


def some(count: int, noun: str) -> str:
    """`1 node`, `2 nodes`"""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def exists(reader: Reader, index: int, limit: int | None, noun: str, node: Node) -> bool:
    """Whether there is such a rank, node or rack; reported if not."""
    if limit is None or index < limit:
        return True
    reader.say(node, f"{noun} {index} does not exist; write {'0, the only one' if limit == 1 else f'0 to {limit - 1}'}")
    return False


def all_that_exist(reader: Reader, spans: Spans, limit: int | None, noun: str, node: Node) -> tuple[int, ...]:
    """These numbers in rising order, each once; those that do not exist are reported."""
    found = [span for span in spans if exists(reader, span[1], limit or _MOST, noun, node)]
    return tuple(sorted({index for low, high in found for index in range(low, high + 1)}))


@dataclass(frozen=True, slots=True)
class _Begins:
    """A step's fault, and the fault whose beginning it waits for ("": none)."""

    fault: str
    waits_for: str
    node: Node


class Timeline:
    """Reads the timeline of one file."""

    def __init__(self, reader: Reader, sizes: Sizes, backends: tuple[Backend, ...]) -> None:
        self._reader, self._say = reader, reader.say
        self._sizes, self._backends = sizes, backends
        self._begins: list[_Begins] = []

    def read(self, node: Node) -> tuple[Step, ...]:
        """The steps that have no problem."""
        steps = [self._step(each) for each in self._reader.items(node, "timeline")]
        self._check_all_begin()
        return tuple(step for step in steps if step)

    def _step(self, node: Node) -> Step | None:
        before = len(self._reader.problems)
        keys = self._reader.open(node, form.Step, "this step", "")
        if not isinstance(node, MappingNode):
            return None
        kind = self._kind(keys)
        fault = self._fault(kind, keys) if kind else None
        select = self._select(kind, keys) if kind else Select()
        at, after, spread, lasts = keys.get("at"), keys.get("after"), keys.get("spread"), keys.get("for")
        when = self._when(keys.nodes["when"]) if "when" in keys.nodes else None
        if kind:
            waits_for = str(when.value) if when and when.kind == "fault" else ""
            self._begins.append(_Begins(kind.name, waits_for, keys.nodes.get("when", node)))
        if kind and not kind.lasts and "for" in keys.nodes:
            self._say(keys.nodes["for"], f"fault {kind.name} does not last; leave for out")
        if "at" in keys.nodes and "when" in keys.nodes:
            self._say(keys.nodes["when"], "this step has both at and when; keep one (after is added to either)")
        elif "at" not in keys.nodes and "when" not in keys.nodes:
            self._say(node, "this step has neither at nor when; add at: 30s, or when: and what to wait for")
        if len(self._reader.problems) > before or fault is None:
            return None
        return Step(
            at=at, when=when, after=after, fault=fault, select=select, spread=spread, lasts=lasts, line=line_of(node)
        )

    def _kind(self, keys: Keys) -> type[Fault] | None:
        name = keys.get("fault")
        if name is not None and name not in FAULTS:
            self._reader.say_unknown(keys.nodes["fault"], "fault", name, FAULTS, see=SEE_FAULTS)
        return FAULTS.get(name)

    def _fault(self, kind: type[Fault], keys: Keys) -> Fault | None:
        before = len(self._reader.problems)
        name = keys.nodes["fault"]
        for backend in self._backends:
            if backend not in kind.backends:
                self._say(
                    name,
                    f"fault {kind.name} cannot be done on {backend}, one of this scenario's backends; take {backend} "
                    "out of backends, or choose a fault that can (fleetctl scenario --list-faults)",
                )
        parameters = {}
        if "with" in keys.nodes:
            node = keys.nodes["with"]
            parameters = self._reader.open(node, kind, f"fault {kind.name}", f"{kind.name}.").values()
        else:
            for key, about in fields_of(kind).items():
                if about.required:
                    self._say(name, f'fault {kind.name} has no "{key}"; add with: {{{key}: …}}')
        if len(self._reader.problems) > before:
            return None
        fault = kind(**parameters)
        if problem := fault.problem():
            self._say(keys.nodes["with"], f"fault {kind.name}: {problem}")
        for backend in self._backends:
            if problem := fault.problem_on(backend):
                self._say(keys.nodes["with"], f"fault {kind.name}: {problem}")
        return fault

    def _when(self, node: Node) -> When | None:
        keys = self._reader.open(node, form.When, "when", "when.")
        occurrence = keys.get("occurrence")
        values = {key: keys.get(key) for key in keys.nodes if key != "occurrence"}
        if len(values) != 1:
            known = [key for key in fields_of(form.When) if key != "occurrence"]
            has = f"{' and '.join(values)}; keep one of them" if values else f"no change of state; add {any_of(known)}"
            self._say(node, f"when has {has}")
            return None
        ((kind, value),) = values.items()
        if value is None:
            return None
        if kind in RANK_TRIGGERS:
            exists(self._reader, value, self._sizes.ranks, "rank", keys.nodes[kind])
        if kind == "fault" and value not in FAULTS:
            self._reader.say_unknown(keys.nodes[kind], "fault", value, FAULTS, " in when", see=SEE_FAULTS)
            return None
        return When(kind=kind, value=value, occurrence=occurrence)  # type: ignore[arg-type]  # form.When has no others

    def _select(self, kind: type[Fault], keys: Keys) -> Select:
        fits = SELECTS[kind.target]
        if "select" not in keys.nodes:
            if fits:
                fix = f"add select: {{{fits[0]}: 0}}, or with {any_of(fits[1:])}"
                self._say(keys.nodes["fault"], f"fault {kind.name} is done to {kind.target}; {fix}")
            return Select()
        node = keys.nodes["select"]
        if not fits:
            self._say(node, f"fault {kind.name} is not done to ranks or nodes; leave select out")
            return Select()
        chosen = self._reader.open(node, form.Select, "select", "select.")
        ways = [key for key in chosen.nodes if key != "count"]
        if not isinstance(node, MappingNode):
            return Select()
        for way in ways:
            if way not in fits:
                fix = "write node_of for the node of a rank" if way == "rank" else f"write {any_of(fits)}"
                self._say(chosen.nodes[way], f"fault {kind.name} is done to {kind.target}, and select has {way}; {fix}")
        if len(ways) > 1:
            self._say(node, f"select has {' and '.join(ways)}; keep one of them")
        elif not ways and "count" in chosen.nodes:
            self._say(node, f"select has nothing but count; add {any_of(fits)}")
        elif not ways:
            self._say(node, f"select chooses nothing; write {any_of(fits)}")
        elif "count" in chosen.nodes and ways != ["rack"]:
            self._say(chosen.nodes["count"], "select.count goes with rack only; leave it out, or write any: N")
        found = [self._chosen(way, chosen, kind.target) for way in ways if way in fits]
        return found[0] if found else Select()

    def _chosen(self, way: str, keys: Keys, target: Target) -> Select:
        node, value, sizes = keys.nodes[way], keys.get(way), self._sizes
        if value is None:
            return Select()
        match way:
            case "rank":
                exists(self._reader, value, sizes.ranks, "rank", node)
                return Select(ranks=(value,))
            case "ranks":
                return Select(ranks=all_that_exist(self._reader, value, sizes.ranks, "rank", node))
            case "node":
                exists(self._reader, value, sizes.nodes, "node", node)
                return Select(nodes=(value,))
            case "nodes":
                return Select(nodes=all_that_exist(self._reader, value, sizes.nodes, "node", node))
            case "node_of":
                exists(self._reader, value, sizes.ranks, "rank", node)
                return Select(node_of=value)
            case "rack":
                return self._rack(value, keys)
            case _:
                limit = sizes.ranks if target == "ranks" else sizes.nodes
                if limit is not None and value > limit:
                    self._say(node, f"select.any is {value}, of {limit} {target}; write at most {limit}")
                return Select(any=value)

    def _rack(self, rack: int, keys: Keys) -> Select:
        nodes, size, count = self._sizes.nodes, self._sizes.nodes_per_rack, keys.get("count")
        if (
            nodes is None
            or size is None
            or not exists(self._reader, rack, -(-nodes // size), "rack", keys.nodes["rack"])
        ):
            return Select()
        its = tuple(range(rack * size, min((rack + 1) * size, nodes)))
        if count is not None and count > len(its):
            self._say(keys.nodes["count"], f"rack {rack} has only {some(len(its), 'node')}; write at most {len(its)}")
        return Select(nodes=its[:count])

    def _check_all_begin(self) -> None:
        """A step that waits for a fault needs that fault in another step, which does not wait for this one."""
        names = [each.fault for each in self._begins]
        for each in self._begins:
            if each.waits_for and each.waits_for not in names:
                others = sorted({*names} - {each.fault})
                fix = f"write {any_of(others)}" if others else "add a step for it"
                self._say(each.node, f"when.fault: {each.waits_for} is not in the timeline; {fix}")
        sure = {each.fault for each in self._begins if each.waits_for not in names}
        while more := {each.fault for each in self._begins if each.waits_for in sure} - sure:
            sure |= more
        for each in self._begins:
            if each.waits_for in names and each.waits_for not in sure:
                what = "itself" if each.waits_for == each.fault else f"{each.waits_for}, which waits too"
                self._say(each.node, f"when.fault: {each.fault} waits for {what} and never begins; write at instead")
