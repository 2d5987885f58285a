"""`fleetctl replay --campaign --seeds A..B`: any number of worlds, added up as they end, and resumed where it stopped.

Runs that passed are kept as counts only. A progress file has a line for each block of seeds that is finished, and is of
one range of seeds and one state of the code. Knows nothing of what a campaign draws.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

import fleetctl
from fleetctl.cli.replay import Progress, ending_on_sigterm, print_json, print_lines
from fleetctl.scenario import report
from fleetctl.scenario.campaign import campaign
from fleetctl.scenario.many import Run, Tally, run_all
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome, Seen
from fleetctl.scenario.simulate import simulate

BLOCK = 20
"""Seeds that are one line of the progress file: so many are lost at worst, for each job."""
CODE = Path(fleetctl.__file__).parent


class Unfit(Exception):
    """This campaign cannot go on with that progress file; the sentence says what to do."""


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line of a progress file: of what it is the progress."""

    seeds: str
    ranks: int | None
    commit: str
    code: str


class _Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another line of it: the block that begins with this seed is finished."""

    first: int
    tally: Tally


def one(scenario: Scenario, seed: int) -> Outcome:
    """One run, in a process of its own."""
    seen = Seen()
    outcome = simulate(scenario, seed, watch=seen)
    outcome.faults, outcome.situations = dict(seen.faults), dict(seen.situations)
    if outcome.verdict == "pass":
        outcome.story = []  # nobody will read it, and it would have to be sent
    return outcome


def run(options: argparse.Namespace) -> Tally:
    """Run the seeds that are not finished yet, and report on all."""
    seeds: range = options.seeds
    head = _Head(f"{seeds[0]}..{seeds[-1]}", options.ranks, _commit(), _digest())
    with contextlib.ExitStack() as stack:
        stack.enter_context(ending_on_sigterm())
        journal = stack.enter_context(_Journal(options.progress, head)) if options.progress else None
        finished = {block.first: block.tally for block in journal.blocks} if journal else {}
        total = Tally()
        for tally in finished.values():
            total.merge(tally)
        left = [seed for first in seeds[::BLOCK] if first not in finished for seed in _block(seeds, first)]
        runs: Iterator[Run] = ((campaign(seed, options.ranks), seed) for seed in left)
        progress = stack.enter_context(Progress(len(left)))
        ending = stack.enter_context(contextlib.closing(run_all(runs, one, options.jobs or os.cpu_count() or 1)))
        told = (_told(outcome, options, progress) for _, outcome in progress.counting(ending))
        for first, tally in _blocks(told, seeds, options.ranks):
            total.merge(tally)
            if journal:
                journal.write(_Block(first, tally))
    about = report.Campaign(head.seeds, options.ranks, head.commit, platform.python_version())
    if options.output == "json":
        print_json(report.campaign_as_json(about, total))
    else:
        print_lines(report.campaign(about, total))
    return total


def _block(seeds: range, first: int) -> range:
    return range(first, min(first + BLOCK, seeds.stop))


def _told(outcome: Outcome, options: argparse.Namespace, progress: Progress) -> Outcome:
    """A run that failed is told at once: others may take hours."""
    if outcome.verdict == "fail" and options.output == "text":
        progress.clear()
        print_lines(report.failed_run(campaign(outcome.seed, options.ranks), outcome))
    return outcome


def _blocks(outcomes: Iterable[Outcome], seeds: range, ranks: int | None) -> Iterator[tuple[int, Tally]]:
    """Each block as it is finished: its first seed, and what its runs add up to."""
    under_way: dict[int, Tally] = {}
    since = time.monotonic()
    for outcome in outcomes:
        first = seeds[(outcome.seed - seeds.start) // BLOCK * BLOCK]
        tally = under_way.setdefault(first, Tally())
        scenario = campaign(outcome.seed, ranks)
        tally.add(scenario, outcome, report.as_json(scenario, outcome))
        if tally.runs == len(_block(seeds, first)):
            now = time.monotonic()
            tally.elapsed_s, since = now - since, now
            yield first, under_way.pop(first)


class _Journal(contextlib.AbstractContextManager["_Journal"]):
    """The progress file. `blocks` are those that were finished before."""

    def __init__(self, path: Path, head: _Head) -> None:
        self._file = path.open("a+b")
        try:
            self.blocks = self._read(path, head)
        except BaseException:
            self._file.close()
            raise

    def _read(self, path: Path, head: _Head) -> list[_Block]:
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):  # somebody was killed while they wrote
            self._file.truncate(sum(map(len, lines[:-1])))
            del lines[-1]
        if not lines:
            self.write(head)
            return []
        try:
            before = msgspec.json.decode(lines[0], type=_Head)
            blocks = [msgspec.json.decode(line, type=_Block) for line in lines[1:]]
        except msgspec.DecodeError as error:
            raise Unfit(f"{path} is no progress of a campaign ({error}); name another file") from None
        if before != head:
            raise Unfit(
                f"{path} is the progress of {_what(before)}, not of {_what(head)}; "
                f"{'go on with that' if before.code == head.code else 'go back to that code'}, or name another file"
            )
        return blocks

    def write(self, line: _Head | _Block) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _what(head: _Head) -> str:
    ranks = f" with --ranks {head.ranks}" if head.ranks else ""
    return f"seeds {head.seeds}{ranks} of {head.commit} (code {head.code})"


def _commit() -> str:
    """What these figures can be had from again: the commit, if this is a checkout; else the version."""
    git = shutil.which("git")
    if git and (CODE.parent / ".git").exists():
        command = [git, "-C", str(CODE.parent), "describe", "--always", "--dirty", "--exclude=*"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (nothing of a user's)
        if found.returncode == 0:
            return found.stdout.strip()
    return f"version {importlib.metadata.version('fleetctl')}"


def _digest() -> str:
    """Of all that decides how a seed goes."""
    found = hashlib.blake2b(digest_size=4)
    for path in sorted(CODE.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
