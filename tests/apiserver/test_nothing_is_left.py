"""A replay that is killed leaves no program behind: neither servers nor controllers."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest

from tests.apiserver.trial import until

ROOT = Path(__file__).parents[2]


def children(pid: int) -> dict[int, str]:
    """Commands, by pid."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found[int(stat.parent.name)] = command
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells a child that its parent is dead")
async def test_programs_die_with_the_replay() -> None:
    command = [sys.executable, "-m", "fleetctl", "replay", "--backend", "apiserver", "scenarios/container-exit.yaml"]
    replay = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await until(lambda: any("fleetctl controller" in each for each in children(replay.pid).values()), 120)
        started = children(replay.pid)
    finally:
        replay.kill()
        await replay.wait()
    assert len(started) == 3
    await until(lambda: not any(lives(pid) for pid in started), 5)
