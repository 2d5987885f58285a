"""`fleetctl replay --campaign`, as it is typed: its report, its progress file, what it refuses, and its exit code."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleetctl.cli import main as cli
from fleetctl.cli import replay, replay_campaign
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome

Told = pytest.CaptureFixture[str]


def fleetctl(*arguments: object) -> int:
    """Its exit code."""
    try:
        return cli._dispatch(["fleetctl", "replay", "--campaign", *map(str, arguments)])
    except SystemExit as ended:  # argparse's way to say that the usage was wrong
        return int(ended.code or 0)


def of(scenario: Scenario, seed: int, **changes: Any) -> Outcome:
    outcome = Outcome(scenario.name, seed, "pass", wall_s=0.1, virtual_s=36.0, trace_hash="9f0c", evaluated={"S1": 2})
    outcome.faults = {"container_exit": 1}
    for name, value in changes.items():
        setattr(outcome, name, value)
    return outcome


def passes(scenario: Scenario, seed: int) -> Outcome:
    return of(scenario, seed)


def fails_at_17(scenario: Scenario, seed: int) -> Outcome:
    return of(scenario, seed, verdict="fail", unmet=["expected x; seen y"]) if seed == 17 else of(scenario, seed)


def breaks_at_17(scenario: Scenario, seed: int) -> Outcome:
    return of(scenario, seed, verdict="fail", broken="no world") if seed == 17 else of(scenario, seed)


def raises(scenario: Scenario, seed: int) -> Outcome:
    raise LookupError(f"nobody asked for seed {seed}")


def takes_long_after_40(scenario: Scenario, seed: int) -> Outcome:
    if seed > 40:
        time.sleep(600)
    return of(scenario, seed)


World = Callable[[Callable[..., Outcome]], None]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Runs are made by this function."""
    monkeypatch.setattr(replay_campaign, "_commit", lambda: "23949af")
    return lambda one: monkeypatch.setattr(replay_campaign, "one", one)


def told_json(capsys: Told) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


# The report


def test_a_campaign_that_passes_is_code_0_and_says_what_it_was(world: World, capsys: Told) -> None:
    world(passes)
    assert fleetctl("--seeds", "1..30", "--jobs", 1) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].startswith("campaign: seeds 1..30, commit 23949af, Python 3.")
    assert lines[-1] == "PASS campaign  seeds 1..30  30 of 30 seeds passed, 0 violations"
    assert told.err == ""


def test_a_seed_that_fails_is_told_with_the_line_that_replays_it(world: World, capsys: Told) -> None:
    world(fails_at_17)
    assert fleetctl("--seeds", "16..18", "--ranks", 9, "--jobs", 1) == 1
    told = capsys.readouterr().out
    assert "UNMET     expected x; seen y\nfleetctl replay --campaign --ranks 9 --seed 17\n" in told
    assert "FAIL  fleetctl replay --campaign --ranks 9 --seed 17    # expected x; seen y\n" in told


def test_json_has_the_keys_of_many_runs_and_the_counts_and_only_what_failed(world: World, capsys: Told) -> None:
    world(breaks_at_17)
    assert fleetctl("--seeds", "1..25", "-o", "json", "--jobs", 1) == 3
    told = told_json(capsys)
    assert [(run["seed"], run["broken"], run["replay"]) for run in told["runs"]] == [
        (17, "no world", "fleetctl replay --campaign --seed 17")
    ]
    assert (told["verdict"], told["seeds"], told["seed_range"], told["simulated_h"]) == ("fail", 25, "1..25", 0.25)
    assert (told["faults"]["container_exit"], told["invariants"]["S1"], told["sizes"].keys()) == (
        25, 50, {"8-15", "16-31", "32-63"},
    )  # fmt: skip
    assert set(told["probes"]) <= set(told["probes_never_hit"])
    assert "node_dark" in told["probes_never_hit"]


def test_a_seed_alone_is_told_as_any_replay(monkeypatch: pytest.MonkeyPatch, capsys: Told) -> None:
    monkeypatch.setattr(replay, "simulate", lambda scenario, seed, watch: of(scenario, seed))
    assert fleetctl("--seed", 417, "-o", "json") == 0
    told = told_json(capsys)
    assert (told["seed"], told["replay"]) == (417, "fleetctl replay --campaign --seed 417")


# The progress file


def test_finished_seeds_are_not_run_again(world: World, tmp_path: Path, capsys: Told) -> None:
    path = tmp_path / "progress"
    arguments = ("--seeds", "1..50", "--progress", path, "--jobs", 1, "-o", "json")
    world(fails_at_17)
    assert fleetctl(*arguments) == 1
    first = told_json(capsys)
    world(raises)
    assert fleetctl(*arguments) == 1
    assert told_json(capsys) == first


def test_it_goes_on_after_what_is_there_and_a_torn_line_is_not(world: World, tmp_path: Path, capsys: Told) -> None:
    path = tmp_path / "progress"
    world(passes)
    assert fleetctl("--seeds", "1..50", "--progress", path, "--jobs", 1) == 0
    head, first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + second[:-20])
    capsys.readouterr()
    world(fails_at_17)  # seed 17 has passed
    assert fleetctl("--seeds", "1..50", "--progress", path, "--jobs", 1, "-o", "json") == 0
    assert told_json(capsys)["seeds"] == 50
    assert [msgspec.json.decode(line)["first"] for line in path.read_bytes().splitlines()[1:]] == [1, 21, 41]
    assert third.endswith(b"\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--seeds", "1..30"), "is the progress of seeds 1..20 of 23949af"),
        (("--seeds", "1..20", "--ranks", "9"), "not of seeds 1..20 with --ranks 9 of 23949af"),
    ],
)
def test_the_progress_of_something_else_is_refused(
    arguments: tuple[str, ...], why: str, world: World, tmp_path: Path, capsys: Told
) -> None:
    world(passes)
    path = tmp_path / "progress"
    assert fleetctl("--seeds", "1..20", "--progress", path, "--jobs", 1) == 0
    before = path.read_bytes()
    capsys.readouterr()
    assert fleetctl(*arguments, "--progress", path) == 2
    told = capsys.readouterr()
    assert why in told.err
    assert "or name another file" in told.err
    assert (told.out, path.read_bytes()) == ("", before)


def test_the_progress_of_other_code_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Told
) -> None:
    world(passes)
    path = tmp_path / "progress"
    assert fleetctl("--seeds", "1..20", "--progress", path, "--jobs", 1) == 0
    monkeypatch.setattr(replay_campaign, "_digest", lambda: "0123abcd")
    assert fleetctl("--seeds", "1..20", "--progress", path) == 2
    assert "go back to that code, or name another file" in capsys.readouterr().err


def test_a_file_that_is_something_else_is_refused_and_left_alone(world: World, tmp_path: Path, capsys: Told) -> None:
    world(raises)
    path = tmp_path / "notes"
    path.write_text("milk\nbread\n")
    assert fleetctl("--seeds", "1..20", "--progress", path) == 2
    assert "is no progress of a campaign" in capsys.readouterr().err
    assert path.read_text() == "milk\nbread\n"


INTERRUPTED = """\
import signal, sys
sys.path[:0] = {path!r}
import test_replay_campaign
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started us in the background
from fleetctl.cli import main, replay_campaign
replay_campaign.one = test_replay_campaign.takes_long_after_40
if __name__ == "__main__":
    sys.argv = ["fleetctl", "replay", "--campaign", "--seeds", "1..60", "--jobs", "2", "--progress", {file!r}]
    main.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_what_is_finished_outlives_a_signal(number: signal.Signals, code: int, tmp_path: Path) -> None:
    path, program = tmp_path / "progress", tmp_path / "interrupted.py"
    program.write_text(INTERRUPTED.format(path=sys.path, file=str(path)))
    process = subprocess.Popen([sys.executable, program], stderr=subprocess.PIPE, start_new_session=True)
    try:
        while not path.exists() or path.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=30) == code
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # those it had started outlive it, if it is killed
    assert process.stderr
    with process.stderr as said:
        assert b"Traceback" not in said.read()
    assert [msgspec.json.decode(line).get("first") for line in path.read_bytes().splitlines()] == [None, 1, 21]


# Usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--nemesis",), "name files to replay, or draw faults with --nemesis"),
        (("file.yaml",), "name files to replay, or draw faults with --nemesis"),
        (("--faults", "3"), "name files to replay, or draw faults with --nemesis"),
        (("--backend", "kind"), "--campaign is for --backend sim; kind has --nemesis"),
        (("--backend", "both"), "--campaign is for --backend sim; kind has --nemesis"),
        (("--progress", "p"), "--progress is for --campaign --seeds A..B"),
        (("--seeds", "1..9", "--trace", "t"), "--trace takes a single run, and these are 9"),
        (("--seeds", "1..9", "--keep"), "--keep, --image and --logs are for --backend kind"),
        (("--ranks", "0"), "0 would do nothing; write 1 or more"),
    ],
)
def test_wrong_usage_is_told_and_is_code_2(arguments: tuple[str, ...], told: str, world: World, capsys: Told) -> None:
    world(raises)
    assert fleetctl(*arguments) == 2
    assert told in capsys.readouterr().err


def test_ranks_are_for_campaigns_only(capsys: Told) -> None:
    assert cli._dispatch(["fleetctl", "replay", "--nemesis", "--ranks", "9"]) == 2
    assert "--ranks is for --campaign" in capsys.readouterr().err


def test_progress_that_cannot_be_written_is_told_before_anything_runs(
    world: World, tmp_path: Path, capsys: Told
) -> None:
    world(raises)
    path = tmp_path / "none" / "progress"
    assert fleetctl("--seeds", "1..2", "--progress", path) == 2
    assert capsys.readouterr().err == f"fleetctl replay: cannot write {path}: No such file or directory\n"
