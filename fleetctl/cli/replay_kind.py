"""`fleetctl replay --backend kind|both FILE…`: scenarios on a real kind cluster, one after the other.

The cluster is made for it and taken away again, or it is the one of --context. Exit codes are replay's; a cluster that
will not do is 3, and nothing has been touched then.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fleetctl.kind import cluster as clusters
from fleetctl.kind.install import check, default_image, deployed
from fleetctl.kind.rehearse import collect_logs, rehearse
from fleetctl.kind.shell import CommandFailed
from fleetctl.scenario import report
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Line, Outcome, not_run
from fleetctl.scenario.scaled import scaled, size_on_kind
from fleetctl.scenario.simulate import simulate
from fleetctl.scenario.timeline import Timeline

NAME = "fleetctl-replay"
"""Of the cluster that is made."""


def run(runs: Sequence[tuple[Scenario, int]], options: argparse.Namespace) -> list[Outcome]:
    """All runs, on one cluster; with `both` each of them in the simulator first. Raises Unsuitable."""
    try:
        return asyncio.run(_until_interrupted(runs, options))
    except CommandFailed as error:  # of kind or Docker, outside of a run
        print(f"fleetctl replay: {error}", file=sys.stderr)
        return [not_run(scenario.name, seed, str(error), "kind") for scenario, seed in runs]


async def _until_interrupted(runs: Sequence[tuple[Scenario, int]], options: argparse.Namespace) -> list[Outcome]:
    """SIGINT and SIGTERM cancel the work, which cleans up; a second one does not keep it from that."""
    work = asyncio.ensure_future(_all(runs, options))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: work.cancelling() or work.cancel())
    try:
        return await work
    except asyncio.CancelledError:
        print("fleetctl replay: interrupted; the cluster is as it was", file=sys.stderr)
        raise KeyboardInterrupt from None


async def _all(runs: Sequence[tuple[Scenario, int]], options: argparse.Namespace) -> list[Outcome]:
    small = [(scaled(scenario), seed) for scenario, seed in runs]
    workers = {size_on_kind(scenario).workers for scenario, _ in small}
    if len(workers) > 1:
        raise clusters.Unsuitable(f"the files want clusters of {sorted(workers)} workers: replay them apart")
    async with contextlib.AsyncExitStack() as stack:
        context = options.context
        if context is None:
            await clusters.need_docker()
            await check(options.image or default_image())  # before minutes are spent on a cluster
            shared = Path(stack.enter_context(_folder(keep=options.keep)))
            print(f"making a kind cluster of {max(workers)} workers …", file=sys.stderr, flush=True)
            context = await stack.enter_async_context(clusters.made(NAME, max(workers), shared, keep=options.keep))
        cluster = await clusters.find(context, max(workers))
        image = await stack.enter_async_context(deployed(cluster, options.image))
        told: list[tuple[Scenario, Outcome]] = []
        for scenario, seed in small:
            simulated = simulate(scenario, seed) if options.backend == "both" else None
            outcome = await _one(scenario, seed, cluster, image, options, simulated)
            told += [(scenario, each) for each in (simulated, outcome) if each]
    if options.output == "json":
        value = report.as_json(*told[0]) if len(told) == 1 else report.many_as_json(told)
        print(msgspec.json.format(msgspec.json.encode(value)).decode())
    return [outcome for _, outcome in told]


def _folder(*, keep: bool) -> "contextlib.AbstractContextManager[str]":
    if keep:
        return contextlib.nullcontext(tempfile.mkdtemp(prefix="fleetctl-replay-"))
    return tempfile.TemporaryDirectory(prefix="fleetctl-replay-", ignore_cleanup_errors=True)


async def _one(
    scenario: Scenario,
    seed: int,
    cluster: clusters.Cluster,
    image: str,
    options: argparse.Namespace,
    simulated: Outcome | None,
) -> Outcome:
    text = options.output == "text"
    if text:
        _print([*report.header(scenario, seed, "kind"), ""])
    timeline = Timeline(_print_line)
    outcome = await rehearse(scenario, seed, cluster, image, watch=timeline if text else None)
    if text:
        timeline.story()
        table = (
            report.side_by_side(scenario, simulated, outcome) if simulated else report.figures_table(scenario, outcome)
        )
        both = [*([simulated] if simulated else []), outcome]
        by_fault = ["", *report.by_fault(both)] if scenario.drawn else []
        _print(["", *table, *by_fault, "", *report.problems(outcome)])
        if not simulated:
            _print([report.verdict(outcome)])
    if outcome.verdict == "fail":
        folder = Path(options.logs or tempfile.mkdtemp(prefix="fleetctl-replay-logs-"))
        await collect_logs(cluster, outcome, folder)
        print(f"logs: {folder}", file=sys.stderr)
    return outcome


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _print_line(line: Line) -> None:
    print(report.story_line(line), flush=True)
