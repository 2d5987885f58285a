"""What a stretch of time costs the API server: CPU, memory, requests by user and verb, and how long others wait.

`python -m tests.scale.meter` is the observer, in a process of its own, so that its waiting is the server's and not that
of the actors' event loop. Knows nothing of what is measured.
"""

import argparse
import asyncio
import math
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from fleetctl.apiserver.server import die_with_parent
from tests.conformance.realserver import RealServer, token_of

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ROOT = Path(__file__).parents[2]
ROUNDS_PER_S = 20
PAGE_OF_PODS = 5
"""Less than 128 kB, which the server would compress: the observer must not be a load."""


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, all its threads; in steps of a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20


class Request(NamedTuple):
    """`what` is pods, pods/status, …; of what is no resource, the path. `code` only of what was not granted."""

    user: str
    verb: str
    what: str
    code: int = 0


class _Object(msgspec.Struct):
    resource: str = ""
    subresource: str = ""


class _User(msgspec.Struct):
    username: str


class _Status(msgspec.Struct):
    code: int = 0


class _Record(msgspec.Struct, rename="camel"):
    stage: str
    verb: str
    user: _User
    request_uri: str = msgspec.field(default="", name="requestURI")
    object_ref: _Object | None = None
    response_status: _Status | None = None

    def request(self) -> Request:
        there = self.object_ref
        if there is None:
            what = self.request_uri.partition("?")[0]
        else:
            what = "/".join(part for part in (there.resource, there.subresource) if part)
        code = self.response_status.code if self.response_status else 0
        return Request(self.user.username, self.verb, what, 0 if code < 300 else code)


class Audit:
    """The server's audit log. A request counts when it is answered, a watch when it begins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """Where the log is now."""
        return self._path.stat().st_size if self._path.exists() else 0

    def since(self, mark: int) -> Counter[Request]:
        out: Counter[Request] = Counter()
        if self._path.exists():
            decode = msgspec.json.Decoder(_Record).decode
            with self._path.open("rb") as log:
                log.seek(mark)
                for line in log:
                    record = decode(line)
                    if (record.verb == "watch") == (record.stage == "ResponseStarted"):
                        out[record.request()] += 1
        return out


@dataclass(frozen=True)
class Waited:
    """How long the observer waited for answers, milliseconds, and how often it asked."""

    rounds: int
    p50_ms: float
    p99_ms: float


class Observer:
    """Somebody else: twenty times a second one GET of a small object and one LIST of five pods, whether or not the last
    ones were answered. What it waits counts from when it was to ask."""

    def __init__(self, told: Path, process: "subprocess.Popen[bytes]") -> None:
        self._told = told
        self._process = process

    def waited(self, begin: float, end: float) -> Waited:
        """Of the rounds that began between two moments of time.monotonic(). Ask after stop()."""
        took = sorted(ms for began, ms in self._rows() if begin <= began < end)
        if not took:
            return Waited(0, math.nan, math.nan)
        return Waited(len(took) // 2, took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))])

    def stop(self) -> None:
        """Once all it asked was answered."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def _rows(self) -> Iterator[tuple[float, float]]:
        for line in self._told.read_text().splitlines():
            began, ms = line.split()
            yield float(began), float(ms)


@contextmanager
def observing(server: RealServer, namespace: str, folder: Path, rate: int = ROUNDS_PER_S) -> Iterator[Observer]:
    """Until the block ends, or stop(). A rate of 0 asks nothing."""
    told = folder / f"observer-{namespace}.txt"
    command = [sys.executable, "-m", __name__, server.url, str(server.authority), namespace, str(rate)]
    with told.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, cwd=ROOT, preexec_fn=die_with_parent)
    try:
        yield Observer(told, process)
    finally:
        process.kill()
        process.wait()


async def _observe(url: str, authority: str, namespace: str, rate: int) -> None:
    headers = {"Authorization": f"Bearer {token_of('observer')}"}
    targets = ("/api/v1/namespaces/default", f"/api/v1/namespaces/{namespace}/pods?limit={PAGE_OF_PODS}")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=authority))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session, asyncio.TaskGroup() as group:

        async def ask(path: str, due: float) -> None:
            while True:
                async with session.get(url + path) as response:
                    await response.read()
                    if response.status == 200:
                        break
                await asyncio.sleep(1)
            print(due, 1000 * (time.monotonic() - due), flush=True)

        due = time.monotonic()
        if not rate:
            await stop.wait()
        while not stop.is_set():
            for path in targets:
                group.create_task(ask(path, due))
            due += 1 / rate
            await asyncio.sleep(due - time.monotonic())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("authority")
    parser.add_argument("namespace")
    parser.add_argument("rate", type=int)
    options = parser.parse_args()
    asyncio.run(_observe(options.url, options.authority, options.namespace, options.rate))
