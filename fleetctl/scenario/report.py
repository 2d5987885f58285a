"""What people and programs are told of replays: lines of text, and JSON values.

Every function yields what is to be shown; showing it is the command's. Knows nothing of how a run is made.
"""

import shlex
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, get_args

from fleetctl.scenario.expectations import bound_text
from fleetctl.scenario.faults import FAULTS
from fleetctl.scenario.figures import Number, number_text
from fleetctl.scenario.many import Tally
from fleetctl.scenario.model import Bound, Invariant, Scenario
from fleetctl.scenario.outcome import SITUATIONS, Line, Outcome, Place
from fleetctl.scenario.scaled import size_on_kind
from fleetctl.sim.oracle import Violation

PREFIXES = {"fault": "FAULT  ", "violation": "VIOLATED  "}
LAST_LINES = 15
"""So many lines at the end of a story are always told."""
TOLD_VIOLATIONS = 3
"""So many of each invariant."""
AT_WIDTH = 8
WHERE: dict[Place, str] = {"sim": "simulated", "apiserver": "on a real API server", "kind": "on kind"}


# one run


def header(scenario: Scenario, seed: int, backend: Place = "sim") -> Iterator[str]:
    """What is replayed."""
    world = scenario.world
    yield f"{scenario.name}: {' '.join(scenario.why.split())}"
    ranks, where = world.gang.ranks, f"{_count(world.nodes, 'node')} "
    where += f"(room for {world.ranks_per_node} each, {world.nodes_per_rack} a rack)"
    if backend == "kind":
        size = size_on_kind(scenario)
        ranks, where = size.ranks, f"{_count(size.workers, 'worker')} of a kind cluster"
    yield (
        f"  {_count(ranks, 'rank')} on {where}, "
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
        told = (bound_text(bound) + ("  MISSED" if _misses(value, bound) else "")) if bound else ""
        rows.append((name, number_text(value), told))
    return _table(rows)


def _misses(value: Number, bound: Bound) -> bool:
    return value is None or not bound.holds(value)


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
    """`PASS demo  seed 7  96.3 s simulated in 2.1 s  trace 9f0c…`, or `PASS demo  seed 7  96.3 s on kind`."""
    word = "BROKEN" if outcome.broken else outcome.verdict.upper()
    run = f"{word} {outcome.scenario}  seed {outcome.seed}  {_took(outcome.virtual_s, outcome.backend)}"
    if outcome.backend != "sim":
        return run
    return f"{run} in {outcome.wall_s:,.1f} s  trace {outcome.trace_hash or '-'}"


def _took(seconds: float, backend: Place) -> str:
    return f"{seconds:,.1f} s {WHERE[backend]}"


def replay_command(scenario: Scenario, seed: int, backend: Place = "sim") -> str:
    """The command that does this run again."""
    on = f"--backend {backend} " if backend != "sim" else ""
    what = shlex.join(scenario.drawn or (str(scenario.path),))
    return f"fleetctl replay {on}{what} --seed {seed}"


def failed_run(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """A run that failed, among many: in short, and how to see all of it."""
    yield verdict(outcome)
    yield from short_story(outcome)
    yield from problems(outcome)
    yield replay_command(scenario, outcome.seed, outcome.backend)
    yield ""


# one run in the simulator, and one elsewhere


def side_by_side(scenario: Scenario, sim: Outcome, real: Outcome) -> Iterator[str]:
    """The figures of both beside each other, and how each of them ended."""
    rows: list[tuple[str, ...]] = [("figure", "sim", real.backend, "expected")]
    for name in dict.fromkeys((*sim.figures, *real.figures)):
        both = {"sim": sim.figures.get(name), real.backend: real.figures.get(name)}
        if all(value is None for value in both.values()):
            continue
        told = ""
        if bound := scenario.expect.figures.get(name):
            missed = [backend for backend, value in both.items() if _misses(value, bound)]
            told = bound_text(bound) + (f"  MISSED on {' and '.join(missed)}" if missed else "")
        rows.append((name, *map(number_text, both.values()), told))
    yield from _table(rows)
    yield verdict(sim)
    yield verdict(real)


def by_fault(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """How long it took after each kind of fault, medians: a row for each, a column for each figure and backend."""
    names = ("detect_s", "barrier_s", "recover_s")
    columns = [(outcome, name) for name in names for outcome in outcomes]
    rows: list[tuple[str, ...]] = [("fault", *(f"{name} {outcome.backend}" for outcome, name in columns), "times")]
    for fault in sorted({each.fault for outcome in outcomes for each in outcome.recoveries}):
        of = {id(o): [each for each in o.recoveries if each.fault == fault] for o in outcomes}
        told = [_median([each.seconds[name] for each in of[id(o)] if name in each.seconds]) for o, name in columns]
        times = " / ".join(str(len(of[id(o)])) for o in outcomes)
        rows.append((fault or "(none)", *map(number_text, told), times))
    if len(rows) > 1:
        yield from _table(rows)


def _median(values: Sequence[float]) -> Number:
    return round(statistics.median(values), 1) if values else None


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
    yield f"{word} {scenario.name}  {which}  {told}  {_took(virtual_s, outcomes[0].backend)}"


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


# a campaign


@dataclass(frozen=True, slots=True)
class Campaign:
    """Which one. `seeds` is `1..2000`; `ranks` None: drawn."""

    seeds: str
    ranks: int | None
    commit: str
    python: str

    @property
    def name(self) -> str:
        return f"campaign of {self.ranks:,} ranks" if self.ranks else "campaign"


def campaign(of: Campaign, tally: Tally) -> Iterator[str]:
    """What was run, what was looked at, what never came up, and a line for each seed that failed."""
    hours, speed = tally.elapsed_s / 3600, tally.simulated_s / tally.elapsed_s if tally.elapsed_s else 0.0
    yield f"{of.name}: seeds {of.seeds}, commit {of.commit}, Python {of.python}"
    yield f"  {tally.simulated_s / 3600:,.1f} h simulated in {hours:,.2f} h ({speed:,.0f} times as fast)"
    sizes = {f"{size} ranks": count for size, count in sorted(tally.sizes.items(), key=lambda pair: _low(pair[0]))}
    yield from _counts("runs by size", sizes)
    yield from _counts("faults injected", dict(sorted(tally.faults.items(), key=lambda pair: -pair[1])))
    yield from _counts("invariants checked", {name: tally.invariants.get(name, 0) for name in get_args(Invariant)})
    yield from _counts("situations seen", {name: tally.situations.get(name, 0) for name in SITUATIONS})
    yield from _wrapped("never seen", probes_never_hit(tally) or ["nothing: every fault and every situation was"])
    yield from _wrapped("slowest", [f"seed {seed} {wall_s:,.1f} s" for wall_s, seed in tally.slowest])
    for run in tally.failed:
        yield f"{'BROKEN' if run['broken'] else 'FAIL'}  {run['replay']}    # {_first_problem(run)}"
    passed = tally.runs - len(tally.failed)
    word = "FAIL" if tally.failed else "PASS"
    violations = sum(len(run["violations"]) for run in tally.failed)
    yield (
        f"{word} {of.name}  seeds {of.seeds}  {passed:,} of {_count(tally.runs, 'seed')} passed, "
        f"{_count(violations, 'violation')}"
    )


def probes_never_hit(tally: Tally) -> list[str]:
    """Faults that never began, and situations that never arose."""
    faults = [name for name in FAULTS if name not in tally.faults]
    return faults + [name for name in SITUATIONS if not tally.situations.get(name)]


def campaign_as_json(of: Campaign, tally: Tally) -> dict[str, Any]:
    """As of many runs, but only those that failed are listed; the others are counted."""
    return {
        "verdict": "fail" if tally.failed else "pass",
        "runs": tally.failed,
        "seeds": tally.runs,
        "seed_range": of.seeds,
        "ranks": of.ranks,
        "commit": of.commit,
        "python": of.python,
        "elapsed_h": round(tally.elapsed_s / 3600, 3),
        "simulated_h": round(tally.simulated_s / 3600, 3),
        "sizes": tally.sizes,
        "faults": {name: tally.faults.get(name, 0) for name in FAULTS},
        "invariants": {name: tally.invariants.get(name, 0) for name in get_args(Invariant)},
        "probes": {name: tally.situations.get(name, 0) for name in SITUATIONS},
        "probes_never_hit": probes_never_hit(tally),
        "slowest": [{"seed": seed, "wall_s": wall_s} for wall_s, seed in tally.slowest],
    }


def _low(size: str) -> int:
    return int(size.partition("-")[0])


def _counts(title: str, counts: dict[str, int]) -> Iterator[str]:
    return _wrapped(title, [f"{name} {count:,}" for name, count in counts.items()])


def _wrapped(title: str, items: Sequence[str]) -> Iterator[str]:
    indent = " " * 22
    text = textwrap.fill(", ".join(items), 118, initial_indent=indent, subsequent_indent=indent)
    yield f"  {title:20}{text[len(indent) :]}"


def _first_problem(run: dict[str, Any]) -> str:
    violations = [f"{each['invariant']}: {each['text']}" for each in run["violations"]]
    return str([run["broken"], *violations, *run["unmet"]][0 if run["broken"] else 1])


# for programs


def as_json(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """One run. `replay` is the command that does it again."""
    told = asdict(outcome)
    story = told.pop("story")
    del told["faults"], told["situations"]  # of campaigns, which add them up
    return {**told, "replay": replay_command(scenario, outcome.seed, outcome.backend), "story": story}


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
