"""`fleetctl scenario`: checks scenario files, and tells what may be written in one. Replays nothing."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleetctl.scenario import reference
from fleetctl.scenario.load import ScenarioError, load
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.schema import as_text


def run(options: argparse.Namespace) -> int:
    """Do what is asked for; 2 if a file is no scenario, or nothing was asked for."""
    if options.list_faults or options.list_expectations:
        tables = [reference.faults()] if options.list_faults else []
        tables += [reference.expectations(), reference.figures()] if options.list_expectations else []
        print("\n\n".join("\n".join(_aligned(table)) for table in tables))
        return 0
    match options.scenario_command:
        case "check":
            return _check(options.files)
        case "schema":
            print(as_text(), end="")
            return 0
        case _:
            print("fleetctl scenario: nothing to do; see fleetctl scenario --help", file=sys.stderr)
            return 2


def _check(files: Iterable[Path]) -> int:
    code = 0
    for file in files:
        try:
            print(f"{file}: ok ({_summary(load(file))})")
        except ScenarioError as error:
            print(error, file=sys.stderr)
            code = 2
    return code


def _summary(scenario: Scenario) -> str:
    faults, kinds = len(scenario.timeline), len({step.fault.name for step in scenario.timeline})
    told = f"{_some(faults, 'fault')} of {_some(kinds, 'kind')}" if faults else "no faults"
    return f"{told}, backends: {', '.join(scenario.backends)}"


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _aligned(table: reference.Table) -> Iterator[str]:
    """The table in columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
