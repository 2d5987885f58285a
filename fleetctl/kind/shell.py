"""Programs of this machine, run and waited for. Knows nothing of what they do."""

import asyncio
import contextlib
import os
import shutil
import signal

from fleetctl.errors import GiveUp

SHOWN = 160


class CommandFailed(GiveUp):
    """A program ended with an error, or not in time; the message has what it printed."""


def is_there(program: str) -> bool:
    """Whether the PATH has it."""
    return shutil.which(program) is not None


async def run(*command: str, stdin: str = "", timeout_s: float = 60.0, check: bool = True) -> str:
    """What the program prints. Raises CommandFailed unless it ends with 0 (`check`), and when it takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us: what cleans up must not die of it
    )
    shown = " ".join(command)[:SHOWN]
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError as error:
        raise CommandFailed(f"{shown}: no answer within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and all it started: they would hold the pipes open
            await process.wait()
    if check and process.returncode != 0:
        said = " ".join((err or out).decode(errors="replace").split())
        raise CommandFailed(f"{shown}: exit {process.returncode}: {said}")
    return out.decode(errors="replace")
