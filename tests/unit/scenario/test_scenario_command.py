"""`fleetctl scenario`, as it is typed."""

import json
from pathlib import Path

import pytest

from fleetctl.cli.main import _dispatch
from fleetctl.scenario.faults import FAULTS

from .examples import TINY, WHOLE


def fleetctl(*arguments: object) -> int:
    return _dispatch(["fleetctl", *map(str, arguments)])


def test_check_sums_up_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, tiny = tmp_path / "whole.yaml", tmp_path / "tiny.yaml"
    whole.write_text(WHOLE)
    tiny.write_text(TINY)
    assert fleetctl("scenario", "check", whole, tiny) == 0
    assert capsys.readouterr().out == (
        f"{whole}: ok (3 faults of 3 kinds, backends: sim)\n{tiny}: ok (no faults, backends: sim)\n"
    )


def test_check_tells_all_problems_of_all_files_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, tiny = tmp_path / "bad.yaml", tmp_path / "tiny.yaml"
    bad.write_text(TINY.replace("name: tiny", "name: bad\nsede: 1").replace("{ranks: 8}", "{ranks: 0}"))
    tiny.write_text(TINY)
    assert fleetctl("scenario", "check", bad, tmp_path / "none.yaml", tiny) == 2
    told = capsys.readouterr()
    assert told.out == f"{tiny}: ok (no faults, backends: sim)\n"
    assert told.err.splitlines() == [
        f'{bad}:3: unknown key "sede" in the file; did you mean "seed"?',
        f"{bad}:6: world.gang.ranks is 0; write a whole number from 1 to 100000",
        f"{tmp_path}/none.yaml:1: cannot be read (No such file or directory); name a scenario file",
    ]


def test_the_lists_name_every_fault_expectation_and_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert fleetctl("scenario", "--list-faults") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["FAULT", *FAULTS]
    assert lines[1].split()[1:5] == ["pod", "ranks", "no", "sim,"]
    assert fleetctl("scenario", "--list-expectations") == 0
    text = capsys.readouterr().out
    assert "quiet        for: …" in text
    assert "running      within: 2m, [attempt]" in text
    assert "wasted_rank_s" in text


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert fleetctl("scenario", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "fleetctl scenario"


def test_with_nothing_to_do_it_says_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert fleetctl("scenario") == 2
    assert "see fleetctl scenario --help" in capsys.readouterr().err
