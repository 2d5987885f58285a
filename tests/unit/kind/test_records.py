"""What trainers write down is read once, whole, and as it was meant."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fleetctl.kind.judge import Start
from fleetctl.kind.records import PROGRAM, Records
from fleetctl.sim.journal import TrainerStarted

GANG = ("default", "llm")
BEGAN = 1000.0


@pytest.fixture
def records(tmp_path: Path) -> Records:
    records = Records(tmp_path / "llm", GANG, BEGAN)
    records.clear()
    return records


def line(rank: int, attempt: int, at: float) -> str:
    fields = {"uid": f"uid-{rank}", "node": f"node-{rank}", "pod": f"llm-worker-{rank}"}
    return json.dumps({"rank": rank, "at": at, "attempt": attempt, **fields}) + "\n"


def write(folder: Path, rank: int, text: str) -> None:
    """The trainer of that rank appends this to its starts."""
    pod = folder / "llm" / f"uid-{rank}"
    pod.mkdir(exist_ok=True)
    with (pod / "starts").open("a") as file:
        file.write(text)


def told(records: Records) -> list[tuple[int, int, float]]:
    return [(start.rank, start.attempt, start.at) for start in records.poll()]


def test_a_start_becomes_an_event(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 3, line(3, 2, 1012.5))
    assert records.poll() == [
        TrainerStarted(at=12.5, gang=GANG, rank=3, attempt=2, uid="uid-3", pod="llm-worker-3", node="node-3", ticket="")
    ]


def test_nothing_is_told_while_there_is_nothing(tmp_path: Path) -> None:
    assert Records(tmp_path / "llm", GANG, BEGAN).poll() == []


def test_each_start_is_told_once_in_order_of_time(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 0, line(0, 1, 1002))
    write(tmp_path, 1, line(1, 1, 1001))
    assert told(records) == [(1, 1, 1.0), (0, 1, 2.0)]
    assert told(records) == []
    write(tmp_path, 0, line(0, 2, 1009) + line(0, 3, 1012))
    write(tmp_path, 1, line(1, 2, 1010))
    write(tmp_path, 2, line(2, 2, 1011))
    assert told(records) == [(0, 2, 9.0), (1, 2, 10.0), (2, 2, 11.0), (0, 3, 12.0)]


def test_a_start_before_second_0_is_told_as_it_was_written(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 0, line(0, 1, 999.5))
    assert told(records) == [(0, 1, -0.5)]


def test_a_half_written_line_waits_for_its_end(tmp_path: Path, records: Records) -> None:
    second = line(0, 2, 1002)
    write(tmp_path, 0, line(0, 1, 1001) + second[:20])
    assert told(records) == [(0, 1, 1.0)]
    write(tmp_path, 0, second[20:-1])
    assert told(records) == []
    write(tmp_path, 0, second[-1:])
    assert told(records) == [(0, 2, 2.0)]


def test_what_is_read_already_is_not_read_again(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 0, line(0, 1, 1001))
    assert len(records.poll()) == 1
    starts = tmp_path / "llm" / "uid-0" / "starts"
    starts.write_text("?" * (starts.stat().st_size - 1) + "\n" + line(0, 2, 1002))
    assert told(records) == [(0, 2, 2.0)]


def test_the_judge_gets_all_starts_in_unix_time_and_takes_none_from_the_poll(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 0, line(0, 1, 1001))
    first, second = Start(0, 1, 1001, "uid-0", "node-0"), Start(0, 2, 1002, "uid-0", "node-0")
    assert records.starts() == [first]
    assert told(records) == [(0, 1, 1.0)]
    write(tmp_path, 0, line(0, 2, 1002))
    assert records.starts() == [first, second]
    assert records.starts() == [first, second]
    assert told(records) == [(0, 2, 2.0)]


def test_marks_tell_who_was_alive_last(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 0, line(0, 1, 1001))
    for attempt, at in ((1, 1005.25), (12, 1010.0)):
        mark = tmp_path / "llm" / "uid-0" / f"alive-{attempt}"
        mark.touch()
        os.utime(mark, (at, at))
    assert records.alive() == {("uid-0", 1): 1005.25, ("uid-0", 12): 1010.0}


def test_an_earlier_gang_of_that_name_is_forgotten(tmp_path: Path, records: Records) -> None:
    write(tmp_path, 0, line(0, 7, 1001))
    assert len(records.poll()) == 1
    write(tmp_path, 1, line(1, 7, 1001))
    records.starts()
    records.clear()
    assert (records.starts(), records.alive()) == ([], {})
    write(tmp_path, 0, line(0, 1, 1002))
    assert told(records) == [(0, 1, 2.0)]
    assert (tmp_path / "llm").stat().st_mode & 0o777 == 0o777


def test_a_pod_without_records_cannot_be_told_anything(records: Records) -> None:
    with pytest.raises(LookupError, match="the pod uid-0 of gang llm keeps no records"):
        records.command("uid-0", "exit 3")


# The program itself


def run(folder: Path, **environment: str) -> int:
    """Runs it as in the pod of rank 0, without third parties; its exit code."""
    pod = folder / "llm" / "uid-0"
    pod.mkdir(exist_ok=True)
    (folder / "attempt").write_text("4")
    given = {
        "FLEETCTL_RANK": "0",
        "FLEETCTL_ATTEMPT_FILE": str(folder / "attempt"),
        "FLEETCTL_PROGRESS_FILE": str(folder / "step"),
        "POD_UID": "uid-0",
        "POD": "llm-worker-0",
        "NODE": "node-0",
    }
    program = PROGRAM.replace("/records", str(pod))
    done = subprocess.run([sys.executable, "-ISc", program], env=given | environment, timeout=30, check=False)
    return done.returncode


def test_the_trainer_finishes_in_time_and_says_so(tmp_path: Path, records: Records) -> None:
    assert run(tmp_path, RUNS_FOR="0") == 0
    (start,) = records.poll()
    assert (start.rank, start.attempt, start.uid, start.pod, start.node) == (0, 4, "uid-0", "llm-worker-0", "node-0")
    assert list(records.alive()) == [("uid-0", 4)]
    finished = json.loads((tmp_path / "llm" / "uid-0" / "finished").read_text())
    assert finished.keys() == {"rank", "at"}
    assert finished["at"] >= start.at + BEGAN


def test_the_trainer_takes_a_command_once_and_did_not_finish(tmp_path: Path, records: Records) -> None:
    (tmp_path / "llm" / "uid-0").mkdir()
    records.command("uid-0", "exit 3")
    assert run(tmp_path, RUNS_FOR="60") == 3
    assert sorted(path.name for path in (tmp_path / "llm" / "uid-0").iterdir()) == ["alive-4", "deaths", "starts"]


@pytest.mark.parametrize(
    ("environment", "steps"),
    [({"STEPS": "yes"}, "1"), ({"STEPS": "yes", "STEP_S": "60"}, None), ({"STEP_S": "0.01"}, None), ({}, None)],
    ids=["20 a second", "a slow one", "not asked for", "nothing said"],
)
def test_steps_are_counted_as_long_as_they_take(
    tmp_path: Path, records: Records, environment: dict[str, str], steps: str | None
) -> None:
    run(tmp_path, RUNS_FOR="0", **environment)
    file = tmp_path / "step"
    assert (file.read_text() if file.exists() else None) == steps


def test_steps_are_counted_by_the_clock_and_one_that_waits_for_another_rank_has_begun_the_next(
    tmp_path: Path, records: Records
) -> None:
    (tmp_path / "llm" / "uid-0").mkdir()
    records.command("uid-0", "wait")
    hours = int(time.time() / 3600)
    run(tmp_path, RUNS_FOR="0.2", STEPS="yes", STEP_S="3600")
    assert int((tmp_path / "step").read_text()) == hours + 1


def test_a_trainer_waits_until_it_is_told_to_go_on(tmp_path: Path, records: Records) -> None:
    (tmp_path / "llm" / "uid-0").mkdir()
    records.command("uid-0", "wait")
    run(tmp_path, RUNS_FOR="0.3", STEPS="yes")
    assert (tmp_path / "step").read_text() == "2"  # one before it was told, and the one in which it waits
    records.command("uid-0", "wait")
    lives = threading.Thread(target=run, args=(tmp_path,), kwargs={"RUNS_FOR": "20", "STEPS": "yes"})
    lives.start()
    for order in ("go", "exit 0"):
        while (tmp_path / "llm" / "uid-0" / "command").exists():
            time.sleep(0.01)
        records.command("uid-0", order)
        while order == "go" and int((tmp_path / "step").read_text() or 0) <= 2:
            time.sleep(0.01)
    lives.join()
