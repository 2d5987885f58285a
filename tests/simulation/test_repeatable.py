"""The same seed gives the same run: in fresh processes, whatever strings hash to."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLEETCTL = str(Path(sys.executable).with_name("fleetctl"))


def traces(hash_seed: int) -> dict[int, str]:
    """By seed, the hash of the trace of a run in which everything goes wrong."""
    done = subprocess.run(
        [FLEETCTL, "replay", "scenarios/storm.yaml", "--seeds", "1..50", "--jobs", "1", "-o", "json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return {run["seed"]: run["trace_hash"] for run in json.loads(done.stdout)["runs"]}


def test_fifty_seeds_have_the_same_traces_in_two_fresh_processes() -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(traces, (1, 2))
    assert one == other
    assert len(one) == len(set(one.values())) == 50
