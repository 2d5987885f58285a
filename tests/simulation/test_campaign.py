"""Campaigns, as they are typed: no invariant is broken in any of these worlds, and every gang runs in the end."""

import json
import subprocess
import sys
from typing import Any

import pytest

from fleetctl.scenario.outcome import SITUATIONS

AT_ALL_TIMES = ("S1", "S2", "S3", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S14", "S16", "L1", "L2")


def campaign(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", "from fleetctl.cli.main import main\nif __name__ == '__main__': main()"]
    ended = subprocess.run(
        [*command, "replay", "--campaign", "--jobs", "1", "-o", "json", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return dict(json.loads(ended.stdout))


def assert_all_passed(told: dict[str, Any]) -> None:
    problems = [f"{run['replay']}\n    {run['broken'] or run['violations'] or run['unmet']}" for run in told["runs"]]
    assert told["verdict"] == "pass", "\n".join(problems)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seeds", ["1..500", "501..1000", "1001..1500", "1501..2000"])
def test_two_thousand_small_gangs(seeds: str) -> None:
    told = campaign("--seeds", seeds)
    assert_all_passed(told)
    assert told["seeds"] == 500
    assert [name for name in AT_ALL_TIMES if not told["invariants"][name]] == []
    assert set(told["probes_never_hit"]) <= set(SITUATIONS)


@pytest.mark.timeout(1800)
def test_twenty_gangs_of_a_thousand_ranks() -> None:
    told = campaign("--ranks", "1024", "--seeds", "1..20")
    assert_all_passed(told)
    assert told["sizes"] == {"1024-2047": 20}
