"""Python runs this in each controller of a test that asks for it: what a process does not tell of itself.

Into the folder $TOLD, a file for each process: when it tried to connect to anybody (`<pid>.connects`), and how many
asyncio tasks it has (`<pid>.tasks`), a line each time.
"""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

TOLD = Path(os.environ["TOLD"])
LOOKS_EVERY_S = 1.0

connects = (TOLD / f"{os.getpid()}.connects").open("a", buffering=1)
run_forever = asyncio.BaseEventLoop.run_forever


def note_connects(event: str, _: object) -> None:
    if event == "socket.connect":
        connects.write(f"{time.time()}\n")


def tell_tasks(loop: asyncio.AbstractEventLoop) -> None:
    with (TOLD / f"{os.getpid()}.tasks").open("a", buffering=1) as tasks:
        while True:
            tasks.write(f"{len(asyncio.all_tasks(loop))}\n")
            time.sleep(LOOKS_EVERY_S)


def told_of(loop: asyncio.BaseEventLoop) -> None:
    threading.Thread(target=tell_tasks, args=(loop,), daemon=True).start()
    run_forever(loop)


sys.addaudithook(note_connects)
asyncio.BaseEventLoop.run_forever = told_of  # type: ignore[method-assign]
