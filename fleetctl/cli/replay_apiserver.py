"""`fleetctl replay --backend apiserver FILE…`: scenarios on a real API server, one after the other, each on its own.

Exit codes are replay's. Each is made in the simulator first, and told beside it.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fleetctl.apiserver.replay import check, replay
from fleetctl.scenario import report
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.timeline import Timeline


def run(runs: Sequence[tuple[Scenario, int]], options: argparse.Namespace) -> list[Outcome]:
    """All runs. Raises NotHere before the first, if one of them cannot be made here."""
    for scenario, _ in runs:
        check(scenario)
    told: list[tuple[Scenario, Outcome]] = []
    for scenario, seed in runs:
        simulated, outcome = _one(scenario, seed, options)
        told += [(scenario, simulated), (scenario, outcome)]
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(report.many_as_json(told))).decode())
    return [outcome for _, outcome in told]


def _one(scenario: Scenario, seed: int, options: argparse.Namespace) -> tuple[Outcome, Outcome]:
    text = options.output == "text"
    if text:
        _print([*report.header(scenario, seed, "apiserver"), ""])
    timeline = Timeline(lambda line: print(report.story_line(line), flush=True))
    folder = Path(tempfile.mkdtemp(prefix="fleetctl-replay-"))
    kept = False
    try:
        simulated, outcome = replay(scenario, seed, folder, timeline if text else None)
        kept = outcome.verdict == "fail"
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    if text:
        timeline.story()
        _print(["", *report.side_by_side(scenario, simulated, outcome), "", *report.problems(outcome)])
    if kept:
        _print_logs(outcome, folder, options.logs)
    return simulated, outcome


def _print_logs(outcome: Outcome, folder: Path, wanted: Path | None) -> None:
    (folder / "timeline.txt").write_text("".join(f"{line.at:8.1f}  {line.text}\n" for line in outcome.story))
    if wanted is not None:
        shutil.copytree(folder, wanted, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"logs: {wanted or folder}", file=sys.stderr)


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, flush=True)
