"""What people and programs are told of replays: lines of text, and JSON values.

Every function yields what is to be shown; showing it is the command's. Knows nothing of how a run is made.
"""

import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from fleetctl.scenario.expectations import bound_text
from fleetctl.scenario.figures import Number, number_text
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Line, Outcome
from fleetctl.sim.oracle import Violation

PREFIXES = {"fault": "FAULT  ", "violation": "VIOLATED  "}
LAST_LINES = 15
"""So many lines at the end of a story are always told."""
TOLD_VIOLATIONS = 3
"""So many of each invariant."""
AT_WIDTH = 8


# one run


def header(scenario: Scenario, seed: int) -> Iterator[str]:
    """What is replayed."""
    world = scenario.world
    yield f"{scenario.name}: {' '.join(scenario.why.split())}"
    yield (
        f"  {_count(world.gang.ranks, 'rank')} on {_count(world.nodes, 'node')} "
        f"(room for {world.ranks_per_node} each, {world.nodes_per_rack} a rack), "
        f"{_count(world.controllers, 'controller')}, {_count(len(scenario.timeline), 'fault')}, seed {seed}"
    )


def story_line(line: Line) -> str:
    """`30.4  attempt 2: rank 417 exited 139 (SIGSEGV)`, aligned."""
    return f"{line.at:{AT_WIDTH},.1f}  {PREFIXES.get(line.level, '')}{line.text}"


def short_story(outcome: Outcome) -> Iterator[str]:
    """Faults, decisions and violations, and how it ended; what is left out is counted."""
    first, _ = _first_violations(outcome)
    broke = [Line(v.at, "oracle", f"{v.invariant}: {v.text}", "violation") for v in first]
    lines = sorted([*outcome.story, *broke], key=lambda line: line.at)
    told = [line.level != "fact" or number >= len(lines) - LAST_LINES for number, line in enumerate(lines)]
    for shown, part in groupby(zip(told, lines, strict=True), key=lambda pair: pair[0]):
        if shown:
            yield from (story_line(line) for _, line in part)
        else:
            yield f"{'…':>{AT_WIDTH}}  {_count(len(list(part)), 'line')} left out"


def figures_table(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """All figures, with what was expected of them."""
    bounds = scenario.expect.figures
    rows: list[tuple[str, ...]] = [("figure", "value", "expected")]
    for name, value in outcome.figures.items():
        bound = bounds.get(name)
        missed = bound is not None and (value is None or not bound.holds(value))
        told = (bound_text(bound) + ("  MISSED" if missed else "")) if bound else ""
        rows.append((name, number_text(value), told))
    return _table(rows)


def problems(outcome: Outcome) -> Iterator[str]:
    """What was wrong, one line each."""
    if outcome.broken:
        yield f"BROKEN    {outcome.broken}"
    violations, others = _first_violations(outcome)
    for violation in violations:
        yield f"VIOLATED  {violation.invariant} at {violation.at:,.1f} s: {violation.text}"
    for invariant, count in others.items():
        yield f"VIOLATED  {invariant} {count:,} more times"
    for sentence in outcome.unmet:
        yield f"UNMET     {sentence}"


def _first_violations(outcome: Outcome) -> tuple[list[Violation], dict[str, int]]:
    """The first few of each invariant, and how many others there are of which."""
    told: list[Violation] = []
    seen: Counter[str] = Counter()
    for violation in outcome.violations:
        seen[violation.invariant] += 1
        if seen[violation.invariant] <= TOLD_VIOLATIONS:
            told.append(violation)
    return told, {name: count - TOLD_VIOLATIONS for name, count in seen.items() if count > TOLD_VIOLATIONS}


def verdict(outcome: Outcome) -> str:
    """`PASS demo  seed 7  96.3 s simulated in 2.1 s  trace 9f0c…`."""
    word = "BROKEN" if outcome.broken else outcome.verdict.upper()
    took = f"{outcome.virtual_s:,.1f} s simulated in {outcome.wall_s:,.1f} s"
    return f"{word} {outcome.scenario}  seed {outcome.seed}  {took}  trace {outcome.trace_hash or '-'}"


def replay_command(scenario: Scenario, seed: int) -> str:
    """The command that does this run again."""
    return f"fleetctl replay {shlex.quote(str(scenario.path))} --seed {seed}"


def failed_run(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """A run that failed, among many: in short, and how to see all of it."""
    yield verdict(outcome)
    yield from short_story(outcome)
    yield from problems(outcome)
    yield replay_command(scenario, outcome.seed)
    yield ""


# many runs


def summary(scenario: Scenario, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """All runs of one scenario: how their figures spread, and how many passed."""
    yield from _spread(scenario, [o for o in outcomes if not o.broken])
    seeds = [outcome.seed for outcome in outcomes]
    virtual_s = sum(o.virtual_s for o in outcomes)
    failed = {o.seed: "could not run" if o.broken else "failed" for o in outcomes if o.verdict == "fail"}
    parts = [
        f"{len(of):,} {how} ({', '.join(map(str, of[:10]))}{' …' if len(of) > 10 else ''})"
        for how in ("failed", "could not run")
        if (of := [seed for seed, what in failed.items() if what == how])
    ]
    told = "; ".join([f"{len(outcomes) - len(failed):,} of {_count(len(outcomes), 'seed')} passed", *parts])
    word, which = "FAIL" if failed else "PASS", f"seeds {min(seeds)}..{max(seeds)}"
    yield f"{word} {scenario.name}  {which}  {told}  {virtual_s:,.1f} s simulated"


def _spread(scenario: Scenario, outcomes: Sequence[Outcome]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("figure", "least", "median", "most", "expected")]
    for name in outcomes[0].figures if outcomes else ():
        values = [value for o in outcomes if (value := o.figures.get(name)) is not None]
        bound = scenario.expect.figures.get(name)
        three: tuple[Number, ...] = (None, None, None)
        if values:
            three = (min(values), statistics.median(values), max(values))
        rows.append((name, *map(number_text, three), bound_text(bound) if bound else ""))
    return _table(rows) if outcomes else iter(())


# for programs


def as_json(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """One run. `replay` is the command that does it again."""
    told = asdict(outcome)
    story = told.pop("story")
    return {**told, "replay": replay_command(scenario, outcome.seed), "story": story}


def many_as_json(runs: Iterable[tuple[Scenario, Outcome]]) -> dict[str, Any]:
    """Many runs; the story only of those that failed."""
    told = [as_json(scenario, outcome) for scenario, outcome in runs]
    for run in told:
        if run["verdict"] == "pass":
            del run["story"]
    return {"verdict": "pass" if all(run["verdict"] == "pass" for run in told) else "fail", "runs": told}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, the last as it is, numbers to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for name, *numbers, last in rows:
        columns = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:], strict=False)]
        yield "  ".join([f"  {name:{widths[0]}}", *columns, last]).rstrip()
