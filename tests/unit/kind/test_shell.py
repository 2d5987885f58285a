"""Programs are run and waited for; whatever ends the waiting ends all of the program."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fleetctl.kind import shell
from fleetctl.kind.shell import CommandFailed, is_there, run

FOR_EVER = "tail -f /dev/null"


async def test_what_a_program_prints_is_given_and_what_it_complains_is_not() -> None:
    assert await run("sh", "-c", "echo out; echo err >&2") == "out\n"


async def test_it_reads_what_it_is_given() -> None:
    assert await run("cat", stdin="a\nb") == "a\nb"
    assert await run("cat") == ""


async def test_a_program_need_not_read_what_it_is_given() -> None:
    assert await run("true", stdin="x" * 1_000_000) == ""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo out; echo one >&2; echo two >&2; exit 3", "exit 3: one two"),
        ("echo only; exit 1", "exit 1: only"),
        ("kill -9 $$", "exit -9: "),
    ],
)
async def test_a_failure_is_told_with_its_exit_code_and_what_was_printed(script: str, told: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        await run("sh", "-c", script)
    assert str(failed.value) == f"sh -c {script}: {told}"


async def test_a_failure_may_not_matter() -> None:
    assert await run("sh", "-c", "echo out; exit 1", check=False) == "out\n"


async def test_of_a_long_command_the_beginning_is_told() -> None:
    with pytest.raises(CommandFailed) as failed:
        await run("false", "x" * 500)
    assert str(failed.value) == f"false {'x' * 154}: exit 1: "


async def test_ctrl_c_does_not_reach_the_program() -> None:
    group = await run("sh", "-c", "ps -o pgid= -p $$ || cut -d' ' -f5 /proc/$$/stat")
    assert int(group) != os.getpgrp()


def test_whether_a_program_is_there() -> None:
    assert is_there("sh")
    assert not is_there("no-such-program")


async def test_a_program_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    start: Callable[..., Awaitable[asyncio.subprocess.Process]] = asyncio.create_subprocess_exec

    async def keep(*command: str, **options: object) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        return started[0]

    monkeypatch.setattr(shell.asyncio, "create_subprocess_exec", keep)
    with pytest.raises(CommandFailed) as failed:
        await run(*FOR_EVER.split(), timeout_s=0, check=False)
    assert str(failed.value) == "tail -f /dev/null: no answer within 0 s"
    assert [process.returncode for process in started] == [-signal.SIGKILL]


async def test_a_program_is_killed_with_all_that_it_started_when_nobody_waits_any_more(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    life = asyncio.StreamReader()
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as file:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(life), file)
        script = f"exec 3>{pipe}; read _; {FOR_EVER} | {FOR_EVER} & echo up >&3; wait"
        waiting = asyncio.ensure_future(run("sh", "-c", script, stdin="go\n"))
        assert await life.readline() == b"up\n"
        waiting.cancel()
        await asyncio.wait((waiting,), timeout=20)
        assert waiting.cancelled()
        assert await asyncio.wait_for(life.read(), 20) == b""  # the pipe's end: none of them holds it open any more
