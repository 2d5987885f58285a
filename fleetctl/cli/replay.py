"""`fleetctl replay FILE…`: runs scenarios in a simulated cluster, and tells how the gang took it. On a real
API server: replay_apiserver.py; on kind: replay_kind.py; many seeds of --campaign: replay_campaign.py.

Exit code: 0 all went as expected, 1 an expectation or an invariant failed, 2 a file or an option is wrong and nothing
was run, 3 a run could not be made.
"""

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import msgspec

from fleetctl.scenario import report
from fleetctl.scenario.campaign import campaign
from fleetctl.scenario.load import ScenarioError, load
from fleetctl.scenario.many import Run, run_all, silence
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.nemesis import nemesis
from fleetctl.scenario.outcome import Line, Outcome, Trace, not_run
from fleetctl.scenario.simulate import simulate
from fleetctl.scenario.timeline import Timeline
from fleetctl.sim.journal import Event, Listener

FAILED, USAGE, BROKEN = 1, 2, 3
NEMESIS_FAULTS = 10


def run(options: argparse.Namespace) -> int:
    """Replay what is asked for."""
    silence()
    if bool(options.files) + options.nemesis + options.campaign != 1 or (options.faults and not options.nemesis):
        return _wrong("name files to replay, or draw faults with --nemesis [--faults N] or --campaign [--ranks N]")
    if options.campaign and options.backend != "sim":
        return _wrong("--campaign is for --backend sim; kind has --nemesis")
    if options.ranks and not options.campaign:
        return _wrong("--ranks is for --campaign; a file says how large its gang is")
    if options.progress and not (options.campaign and options.seeds):
        return _wrong("--progress is for --campaign --seeds A..B")
    scenarios = []
    for path in options.files:
        try:
            scenarios.append(load(path))
        except ScenarioError as error:
            print("\n".join(error.problems), file=sys.stderr)
    if len(scenarios) < len(options.files):
        return USAGE
    runs = [(scenario, seed) for scenario in scenarios for seed in _seeds(options, scenario.seed)]
    if options.nemesis:
        runs = [(nemesis(seed, options.faults or NEMESIS_FAULTS), seed) for seed in _seeds(options, 1)]
    if options.campaign and not options.seeds:
        runs = [(campaign(seed, options.ranks), seed) for seed in _seeds(options, 1)]
    if options.backend == "apiserver":
        return _on_apiserver(runs, options)
    if options.backend != "sim":
        return _on_kind(runs, options)
    if options.context or options.keep or options.image or options.logs:
        return _wrong("--context, --keep, --image and --logs are for --backend kind or both")
    number = len(options.seeds) if options.campaign and options.seeds else len(runs)
    if options.trace and (number > 1 or not runs):
        return _wrong(f"--trace takes a single run, and these are {number}: name one file and one --seed")
    try:
        if not runs:
            return _campaign(options)
        with contextlib.ExitStack() as stack:
            write = stack.enter_context(options.trace.open("wb")).write if options.trace else None
            outcomes = [_one(runs[0], options.output, write)] if len(runs) == 1 else _many(runs, options)
            sys.stdout.flush()
    except BrokenPipeError:  # `fleetctl replay … | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _wrong(f"cannot write {options.trace or options.progress or 'the report'}: {error.strerror}")
    return exit_code(outcomes)


def _campaign(options: argparse.Namespace) -> int:
    from fleetctl.cli import replay_campaign

    try:
        failed = replay_campaign.run(options).failed
    except replay_campaign.Unfit as error:
        return _wrong(str(error))
    sys.stdout.flush()
    return BROKEN if any(run["broken"] for run in failed) else FAILED if failed else 0


def _on_apiserver(runs: Sequence[Run], options: argparse.Namespace) -> int:
    from fleetctl.apiserver.replay import NotHere
    from fleetctl.cli import replay_apiserver

    if options.context or options.keep or options.image or options.trace or options.jobs:
        return _wrong("--backend apiserver takes files, --seed, --output and --logs")
    try:
        return exit_code(replay_apiserver.run(runs, options))
    except NotHere as error:
        return _wrong(str(error))


def _on_kind(runs: Sequence[Run], options: argparse.Namespace) -> int:
    from fleetctl.cli import replay_kind
    from fleetctl.kind.cluster import Unsuitable

    elsewhere = [str(scenario.path) for scenario, _ in runs if "kind" not in scenario.backends]
    if elsewhere:
        return _wrong(
            f"{', '.join(dict.fromkeys(elsewhere))}: not made for kind; backends: in the file says where it runs"
        )
    if options.trace or options.jobs:
        return _wrong("--trace and --jobs are for --backend sim")
    try:
        return exit_code(replay_kind.run(runs, options))
    except Unsuitable as error:
        print(f"fleetctl replay: {error}", file=sys.stderr)
        return BROKEN


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """The worst of them decides."""
    if any(outcome.broken for outcome in outcomes):
        return BROKEN
    return FAILED if any(outcome.verdict == "fail" for outcome in outcomes) else 0


def _seeds(options: argparse.Namespace, default: int) -> Sequence[int]:
    if options.seeds is not None:
        return options.seeds  # type: ignore[no-any-return]
    return (default if options.seed is None else options.seed,)


def _wrong(why: str) -> int:
    print(f"fleetctl replay: {why}", file=sys.stderr)
    return USAGE


# one run: told while it happens


def _one(run: Run, output: str, write: Callable[[bytes], object] | None) -> Outcome:
    scenario, seed = run
    timeline = Timeline(_print_line)
    listeners: list[Listener] = [timeline] if output == "text" else []
    if write:
        listeners.append(Trace(write))
    if output == "json":
        outcome = _simulated(scenario, seed, listeners)
        print_json(report.as_json(scenario, outcome))
        return outcome
    print_lines(report.header(scenario, seed))
    print()
    outcome = _simulated(scenario, seed, listeners)
    timeline.story()
    print()
    print_lines(report.figures_table(scenario, outcome))
    print()
    if scenario.drawn:
        print_lines(report.by_fault([outcome]))
        print()
    print_lines(report.problems(outcome))
    print(report.verdict(outcome))
    if outcome.verdict == "fail":
        print(report.replay_command(scenario, seed))
    return outcome


def _simulated(scenario: Scenario, seed: int, listeners: Sequence[Listener]) -> Outcome:
    unwritten: list[OSError] = []

    def watch(event: Event) -> None:
        if not unwritten:
            try:
                for listener in listeners:
                    listener(event)
            except OSError as error:  # of our own file or pipe: the world, in which we are called, must not meet it
                unwritten.append(error)

    try:
        outcome = simulate(scenario, seed, watch=watch if listeners else None)
    except KeyboardInterrupt:
        # A world that was left in the middle of things: what its thousands of coroutines have to say when Python
        # collects them is of no interest to anybody.
        sys.unraisablehook = lambda _: None
        warnings.simplefilter("ignore")
        raise
    except Exception as error:  # whatever it is: the run did not take place
        return not_run(scenario.name, seed, f"{type(error).__name__}: {error}")
    if unwritten:
        raise unwritten[0]
    return outcome


# many runs: told in their order, those that failed in full


def _many(runs: Sequence[Run], options: argparse.Namespace) -> list[Outcome]:
    outcomes: list[Outcome] = []
    text, progress = options.output == "text", Progress(len(runs))
    jobs = options.jobs or os.cpu_count() or 1
    with ending_on_sigterm(), contextlib.closing(run_all(runs, simulate, jobs)) as ending, progress:
        for outcome in _in_order(progress.counting(ending)):
            scenario = runs[len(outcomes)][0]
            outcomes.append(outcome)
            if outcome.verdict == "pass":
                outcome.story = []  # a thousand of them would be too much to keep
            elif text:
                progress.clear()
                print_lines(report.failed_run(scenario, outcome))
    told = [(scenario, outcome) for (scenario, _), outcome in zip(runs, outcomes, strict=True)]
    if not text:
        print_json(report.many_as_json(told))
        return outcomes
    for _, group in groupby(told, key=lambda pair: pair[0].path):
        of = list(group)
        if len(of) > 1:
            print_lines(report.summary(of[0][0], [outcome for _, outcome in of]))
        elif of[0][1].verdict == "pass":  # one that failed has been told
            print(report.verdict(of[0][1]))
    return outcomes


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """As by `timeout`: left to itself, SIGTERM would end this process and leave those that it started."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_order(ended: Iterator[tuple[int, Outcome]]) -> Iterator[Outcome]:
    early: dict[int, Outcome] = {}
    following = 0
    for number, outcome in ended:
        early[number] = outcome
        while following in early:
            yield early.pop(following)
            following += 1


class Progress(contextlib.AbstractContextManager["Progress"]):
    """`seed 12/50 …`, rewritten in place, gone at the end; nothing where nobody watches."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._watched = sys.stderr.isatty()

    def counting(self, ended: Iterator[tuple[int, Outcome]]) -> Iterator[tuple[int, Outcome]]:
        """Passes on what has ended."""
        self._show(0)
        for done, each in enumerate(ended, 1):
            yield each
            self._show(done)

    def _show(self, done: int) -> None:
        if done < self._total:
            self._write(f"\rseed {done + 1}/{self._total} …")

    def clear(self) -> None:
        """Before anything else is printed."""
        self._write("\r\x1b[K")

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        if self._watched:
            print(text, end="", file=sys.stderr, flush=True)


def print_lines(lines: Iterator[str]) -> None:
    """Each as soon as it is there."""
    for line in lines:
        print(line, flush=True)


def _print_line(line: Line) -> None:
    print(report.story_line(line), flush=True)


def print_json(value: object) -> None:
    """For programs, and legible."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())
