"""The expectations of a scenario file: exactly one end, and nothing that cannot be met.

Used by `load.py` only. Nothing here raises: problems go to the reader, and what has one is left out.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from yaml.nodes import Node

from fleetctl.scenario import form
from fleetctl.scenario.durations import indices_text
from fleetctl.scenario.faults import ContainerExit, CrashLoop, GangDeleted, GangEdited
from fleetctl.scenario.load_timeline import Sizes, all_that_exist
from fleetctl.scenario.model import Bound, End, Expect, NotJudged, Sometime, Step, WantedCause, World
from fleetctl.scenario.reader import Keys, Reader, any_of, line_of

ONCE = ("quiet", "same_pods", "new_pods", "quarantined", "spares")
CONDITION_OF = {name: name.capitalize() for name in form.ENDS if name != "gone"}


@dataclass(frozen=True, slots=True)
class _Found:
    """One item of the list; a value that has a problem is None."""

    node: Node
    keys: Keys
    values: dict[str, Any]


def read_expect(
    reader: Reader, node: Node, world: World | None, sizes: Sizes, timeline: tuple[Step, ...]
) -> Expect | None:
    """What is expected; None if any of it has a problem."""
    timeline_is_sound, before = not reader.problems, len(reader.problems)
    found = _found(reader, node)
    for name in ONCE:
        for each in found[name][1:]:
            reader.say(each.node, f"{name} is there twice; keep one, of all that you mean")
    ends = [(name, each) for name in form.ENDS for each in found[name]]
    if len(ends) != 1:
        _say_ends(reader, node, ends)
    same, new = (_those(reader, found[name], "ranks", sizes.ranks) for name in ("same_pods", "new_pods"))
    quarantined = _those(reader, found["quarantined"], "nodes", sizes.nodes)
    figures = _figures(reader, found["figures"])
    _check_pods(reader, found["new_pods"], same, new)
    _check_conditions(reader, found, ends)
    for name, each in ends:
        _check_attempts(reader, each, figures)
        if world is not None and timeline_is_sound:
            _check_that_it_can_come(reader, name, each.node, world, timeline)
    if len(reader.problems) > before or not ends:
        return None
    return Expect(
        end=End(kind=ends[0][0], **ends[0][1].values),  # type: ignore[arg-type]  # form.ENDS are the kinds
        quiet_s=next((each.values["lasts"] for each in found["quiet"]), 0.0),
        never=tuple(each.values["condition"] for each in found["never"]),
        sometime=tuple(Sometime(**each.values) for each in found["sometime"]),
        causes=tuple(WantedCause(**each.values) for each in found["cause"]),
        same_pods=same or (),
        new_pods=new,
        quarantined=quarantined,
        spares_ready=next((each.values["ready"] for each in found["spares"]), None),
        figures=figures,
        not_judged=tuple(NotJudged(**each.values) for each in found["not_judged"]),
    )


def _found(reader: Reader, node: Node) -> Mapping[str, list[_Found]]:
    found: dict[str, list[_Found]] = defaultdict(list)
    for item in reader.items(node, "expect"):
        pair = reader.single(item, "an expectation", "running: {within: 60s}")
        if pair is None:
            continue
        name, value = pair
        if name in form.EXPECTATIONS:
            keys = reader.open(value, form.EXPECTATIONS[name], name, f"{name}.")
            found[name].append(_Found(item, keys, keys.values()))
        else:
            see = "see fleetctl scenario --list-expectations"
            reader.say_unknown(item, "expectation", name, form.EXPECTATIONS, see=see)
    return found


def _say_ends(reader: Reader, node: Node, ends: list[tuple[str, _Found]]) -> None:
    if not ends:
        reader.say(node, f"expect has no end; add one of {any_of(form.ENDS)}")
        return
    ends = sorted(ends, key=lambda end: line_of(end[1].node))
    told = ", ".join(f"{name} in line {line_of(each.node)}" for name, each in ends)
    reader.say(ends[1][1].node, f"expect has {len(ends)} ends ({told}); keep one")


def _those(
    reader: Reader, found: list[_Found], key: Literal["ranks", "nodes"], limit: int | None
) -> tuple[int, ...] | None:
    """The ranks or nodes that are named; None if none are asked about."""
    if not found or found[0].values[key] is None:
        return None
    return all_that_exist(reader, found[0].values[key], limit, key.removesuffix("s"), found[0].keys.nodes[key])


def _figures(reader: Reader, found: list[_Found]) -> dict[str, Bound]:
    out: dict[str, Bound] = {}
    for each in found:
        for name, bound in each.values.items():
            if bound is None:
                continue
            node = each.keys.nodes[name]
            if name in out:
                reader.say(node, f"figure {name} is there twice; keep one")
            if bound.min is None and bound.max is None:
                reader.say(node, f"figure {name} has no limit; write a number, or {{min: …, max: …}}")
            elif bound.min is not None and bound.max is not None and bound.min > bound.max:
                fix = f"write min: {bound.max:g}, max: {bound.min:g}"
                reader.say(node, f"figure {name}: min is above max; {fix}")
            out[name] = bound
    return out


def _check_pods(
    reader: Reader, new_pods: list[_Found], same: tuple[int, ...] | None, new: tuple[int, ...] | None
) -> None:
    if both := set(same or ()) & set(new or ()):
        fix = "take them out of one of the two" if len(both) > 1 else "take it out of one of the two"
        reader.say(new_pods[0].node, f"{_named(both)} in same_pods and in new_pods; {fix}")


def _named(ranks: set[int]) -> str:
    return f"rank {min(ranks)} is" if len(ranks) == 1 else f"ranks {indices_text(ranks)} are"


def _check_conditions(reader: Reader, found: Mapping[str, list[_Found]], ends: list[tuple[str, _Found]]) -> None:
    needed = {CONDITION_OF[name]: f"the end is {name}" for name, _ in ends if name in CONDITION_OF}
    for each in found["sometime"]:
        needed.setdefault(each.values["condition"], f"sometime asks for it (line {line_of(each.node)})")
    for each in found["never"]:
        condition = each.values["condition"]
        if condition in needed and condition is not None:
            reader.say(each.node, f"never {condition} cannot be met: {needed[condition]}; take one of them out")


def _check_attempts(reader: Reader, end: _Found, figures: Mapping[str, Bound]) -> None:
    attempt, bound = end.values.get("attempt"), figures.get("attempts")
    if attempt is not None and bound is not None and not bound.holds(attempt):
        fix = "leave attempts out, or let it be the same"
        reader.say(end.node, f"running.attempt is {attempt}, and the figure attempts does not allow that; {fix}")


def _check_that_it_can_come(reader: Reader, end: str, node: Node, world: World, timeline: tuple[Step, ...]) -> None:
    faults = [step.fault for step in timeline]
    match end:
        case "completed" if world.trainer.runs_for is None:
            if not any(isinstance(fault, ContainerExit | CrashLoop) and fault.exit_code == 0 for fault in faults):
                reader.say(
                    node, "completed never comes: trainers run for ever; write world.trainer.runs_for, such as 10m"
                )
        case "suspended" if not world.gang.spec.get("suspend"):
            if not any(isinstance(fault, GangEdited) and fault.spec.get("suspend") for fault in faults):
                fix = "add fault gang_edited with: {spec: {suspend: true}}"
                reader.say(node, f"suspended never comes: nobody suspends the gang; {fix}")
        case "gone" if not any(isinstance(fault, GangDeleted) for fault in faults):
            reader.say(node, "gone never comes: nobody deletes the gang; add fault gang_deleted")
