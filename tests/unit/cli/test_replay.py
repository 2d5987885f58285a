"""`fleetctl replay`, as it is typed: what it prints, what it runs, and its exit code."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetctl.cli import main as cli
from fleetctl.cli import replay
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome
from fleetctl.sim.journal import Event, Faulted, ProcessChanged, Restarting

SCENARIO = """\
version: 1
name: NAME
why: nothing happens
seed: 7
world:
  gang: {ranks: 2}
expect:
- running: {}
"""
Watch = Callable[[Event], None] | None


def file(folder: Path, name: str = "demo", text: str = SCENARIO) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("NAME", name))
    return path


def fleetctl(*arguments: object) -> int:
    """Its exit code."""
    try:
        return cli._dispatch(["fleetctl", *map(str, arguments)])
    except SystemExit as ended:  # argparse's way to say that the usage was wrong
        return int(ended.code or 0)


def of(scenario: Scenario, seed: int, **changes: Any) -> Outcome:
    outcome = Outcome(scenario.name, seed, "pass", wall_s=0.1, virtual_s=12.5, trace_hash="9f0c")
    for name, value in changes.items():
        setattr(outcome, name, value)
    return outcome


def passes(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
    if watch:
        watch(ProcessChanged(at=0.25, process="controller-0_1", what="leads"))
        watch(Faulted(at=3.0, fault="node_dark", family="node", phase="begins", text="node-1: goes dark"))
        gang = ("default", "llm")
        watch(Restarting(at=12.0, gang=gang, rank=1, uid="u", node="node-0", by="fleetctl-agent", exit_code=88))
    return of(scenario, seed, figures={"attempts": 1})


def fails_at_17(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
    changes: dict[str, Any] = {"verdict": "fail", "unmet": ["expected x; seen y"]} if seed == 17 else {}
    return of(scenario, seed, figures={"attempts": 1}, **changes)


def breaks_at_17(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
    return of(scenario, seed, verdict="fail", broken="no world") if seed == 17 else of(scenario, seed)


def raises(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
    raise LookupError("the world has no such thing")


def is_interrupted(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
    raise KeyboardInterrupt


def takes_long(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
    time.sleep(600)
    return of(scenario, seed)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Outcome]], None]:
    """Replays are made by this function."""
    return lambda simulate: monkeypatch.setattr(replay, "simulate", simulate)


World = Callable[[Callable[..., Outcome]], None]


# One run


def test_one_run_is_told_as_it_happens_and_judged(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(passes)
    assert fleetctl("replay", file(tmp_path)) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "demo: nothing happens",
        "  2 ranks on 3 nodes (room for 8 each, 8 a rack), 1 controller, 0 faults, seed 7",
        "",
        "     0.2  controller-0 leads",
        "     3.0  FAULT  node-1: goes dark",
        "    12.0  rank 1 restarts in place",
        "",
        "  figure    value  expected",
        "  attempts      1",
        "",
        "PASS demo  seed 7  12.5 s simulated in 0.1 s  trace 9f0c",
    ]
    assert told.err == ""


def test_what_simulated_controllers_log_is_not_shown(tmp_path: Path) -> None:
    program = f"""
import logging, test_replay
from fleetctl.cli import main, replay
def logs(scenario, seed, *, watch=None):
    logging.getLogger("fleetctl.controller.app").error("a conflict, as so often")
    return test_replay.passes(scenario, seed)
replay.simulate = logs
main._dispatch(["fleetctl", "replay", {str(file(tmp_path))!r}])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert ended.stdout.startswith("demo: nothing happens")
    assert ended.stderr == ""


def test_a_failed_run_ends_with_the_line_that_replays_it(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(fails_at_17)
    path = file(tmp_path)
    assert fleetctl("replay", path, "--seed", 17) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "UNMET     expected x; seen y",
        "FAIL demo  seed 17  12.5 s simulated in 0.1 s  trace 9f0c",
        f"fleetctl replay {path} --seed 17",
    ]


def test_the_option_seed_goes_before_the_file_s(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(passes)
    for arguments, seed in ((("--seed", "0"), 0), ((), 7)):
        assert fleetctl("replay", file(tmp_path), "-o", "json", *arguments) == 0
        assert json.loads(capsys.readouterr().out)["seed"] == seed


def test_json_is_one_object_and_nothing_else(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world(passes)
    assert fleetctl("replay", file(tmp_path), "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["figures"], told["trace_hash"]) == ("pass", {"attempts": 1}, "9f0c")


@pytest.mark.parametrize(("simulate", "why"), [(breaks_at_17, "no world"), (raises, "LookupError: the world has no")])
def test_a_run_that_cannot_be_made_is_told_and_is_code_3(
    simulate: Callable[..., Outcome], why: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(simulate)
    assert fleetctl("replay", file(tmp_path), "--seed", 17) == 3
    assert f"BROKEN    {why}" in capsys.readouterr().out


def test_the_trace_is_written_line_by_line(world: World, tmp_path: Path) -> None:
    world(passes)
    assert fleetctl("replay", file(tmp_path), "--trace", tmp_path / "trace", "-o", "json") == 0
    lines = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["process leads", "fault begins", "restarting"]


def test_a_trace_that_cannot_be_written_is_told_before_anything_runs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(raises)
    path = tmp_path / "none" / "trace"
    assert fleetctl("replay", file(tmp_path), "--trace", path) == 2
    told = capsys.readouterr()
    assert told.err == f"fleetctl replay: cannot write {path}: No such file or directory\n"
    assert told.out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_event_of_the_world(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tells_much(scenario: Scenario, seed: int, *, watch: Watch = None) -> Outcome:
        for _ in range(10_000):
            if watch:
                watch(ProcessChanged(at=0.0, process="controller-0_1", what="leads"))
        return of(scenario, seed)

    world(tells_much)
    assert fleetctl("replay", file(tmp_path), "--trace", "/dev/full", "-o", "json") == 2
    assert "cannot write /dev/full: No space left" in capsys.readouterr().err


# Usage


def test_all_problems_of_all_files_are_told_and_nothing_runs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(raises)
    bad = [file(tmp_path, name, SCENARIO.replace("why", "because").replace("ranks", "rank")) for name in ("a", "b")]
    assert fleetctl("replay", file(tmp_path), *bad, tmp_path / "absent.yaml") == 2
    told = capsys.readouterr()
    assert told.out == ""
    for path in bad:
        assert told.err.count(f"{path}:") >= 2
    assert f"{tmp_path}/absent.yaml:1: cannot be read" in told.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--seeds", "5"), '"5" is no range of seeds; write the first and the last, such as 1..50'),
        (("--seeds", "1..x"), '"x" is no whole number'),
        (("--seeds", "9..1"), '"9..1" is upside down; write 1..9'),
        (("--seed", "-1"), '"-1" is no whole number'),
        (("--seed", "1", "--seeds", "1..2"), "not allowed with argument"),
        (("--jobs", "0"), "0 would do nothing; write 1 or more"),
        (("--seeds", "1..2", "--trace", "t"), "--trace takes a single run, and these are 2"),
        (("-o", "yaml"), "invalid choice: 'yaml'"),
    ],
)
def test_wrong_usage_is_told_and_is_code_2(
    arguments: tuple[str, ...], told: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(raises)
    assert fleetctl("replay", file(tmp_path), *arguments) == 2
    assert told in capsys.readouterr().err


# Many runs. They are made in processes of their own, which find the functions above by their names.


def test_many_seeds_are_summed_up_and_those_that_failed_told(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(fails_at_17)
    path = file(tmp_path)
    assert fleetctl("replay", path, "--seeds", "16..18", "--jobs", 2) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "FAIL demo  seed 17  12.5 s simulated in 0.1 s  trace 9f0c",
        "UNMET     expected x; seen y",
        f"fleetctl replay {path} --seed 17",
        "",
        "  figure    least  median  most  expected",
        "  attempts      1       1     1",
        "FAIL demo  seeds 16..18  2 of 3 seeds passed; 1 failed (17)  37.5 s simulated",
    ]
    assert told.err == ""  # a pipe is no place for progress


def test_many_files_are_a_line_each(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world(passes)
    assert fleetctl("replay", file(tmp_path, "a"), file(tmp_path, "b"), "--jobs", 2) == 0
    assert [line[:14] for line in capsys.readouterr().out.splitlines()] == ["PASS a  seed 7", "PASS b  seed 7"]


def test_many_runs_are_one_json_document(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world(breaks_at_17)
    assert fleetctl("replay", file(tmp_path), "--seeds", "16..17", "-o", "json", "--jobs", 1) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "fail"
    assert [(run["seed"], run["broken"]) for run in told["runs"]] == [(16, ""), (17, "no world")]


# Ctrl-C


def test_ctrl_c_is_130(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    world(is_interrupted)
    assert fleetctl("replay", file(tmp_path)) == 130


LONG = """\
import signal, sys
sys.path[:0] = {path!r}
import test_replay
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started us in the background
from fleetctl.cli import main, replay
replay.simulate = test_replay.takes_long
if __name__ == "__main__":
    sys.argv = ["fleetctl", "replay", {file!r}, "--seeds", "1..9", "--jobs", "2"]
    main.main()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes_without_a_traceback(number: signal.Signals, code: int, tmp_path: Path) -> None:
    program = file(tmp_path, "long", LONG.format(path=sys.path, file=str(file(tmp_path))))
    ours, theirs = pty.openpty()  # a terminal, so that progress tells when it has begun
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        while b"seed 1/9" not in os.read(ours, 1000):
            pass
        while len(children := _children(process.pid)) < 3:  # two that run, and one of multiprocessing's own
            time.sleep(0.05)
        os.killpg(process.pid, number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (code, b"")
    assert _all_of(ours) == b"\r\x1b[K"  # no traceback, and no progress any more
    while any(map(_runs, children)):  # multiprocessing's own is told by our end that it is over; pytest has a timeout
        time.sleep(0.05)


def _all_of(terminal: int) -> bytes:
    told = b""
    with os.fdopen(terminal, "rb", buffering=0) as stream, contextlib.suppress(OSError):  # its way to say that it ended
        while data := stream.read(1000):
            told += data
    return told


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
