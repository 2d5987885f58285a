"""How the cost of a replay grows with the gang: `make bench-replay`.

The story of scenarios/demo.yaml at 256, 1,024 and 4,096 ranks, each in a fresh process: seconds of the simulation alone
(without Python's start), peak memory, and `look_ms`, the median of the controller's looks at the gang (views and plan).
Before each, the time of ten million additions in the same interpreter: machines are shared, so read `additions`, the
wall time in units of that loop. `talk_s` is a floor: as many agents that only dial and speak their lines over the same
loop and network, with nobody who decides, reads JSON, runs pods or looks on.
"""

import asyncio
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fleetctl.sim.loop import VirtualLoop
from fleetctl.sim.network import Network

DEMO = Path(__file__).parents[2] / "scenarios/demo.yaml"
SIZES = (256, 1024, 4096)


def additions_s() -> float:
    """How fast this machine is just now."""
    began, total = time.perf_counter(), 0
    for number in range(10_000_000):
        total += number
    return time.perf_counter() - began


def story(ranks: int) -> str:
    """The demo, for a gang of that size: its times move with the time that creating the pods takes."""
    text = DEMO.read_text().replace("ranks: 1024", f"ranks: {ranks}").replace("1,024", f"{ranks:,}")
    text = text.replace("{rank: 417}", "{rank: 117}").replace("restarting: 417", "restarting: 117")
    return text.replace("at: 25s", f"at: {ranks / 50 + 5:.0f}s")


def timed(look: Callable[..., Awaitable[Any]], took: list[float]) -> Callable[..., Awaitable[Any]]:
    async def wrapped(*arguments: Any) -> Any:
        began = time.perf_counter()
        decided = await look(*arguments)
        took.append(time.perf_counter() - began)
        return decided

    return wrapped


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def talk(network: Network) -> None:
    """One life of an agent: hello, ping and pong, release and released, and three beats."""
    reader, writer = await network.open_stream("controller", 8443, 65536)
    for pause_s in (0, 0, 0, 5, 5, 5):
        await asyncio.sleep(pause_s)
        writer.write(b"a line\n")
        await reader.readline()
    writer.close()


def talk_s(ranks: int, attempts: int = 4) -> float:
    """What it costs when all ranks do that for every attempt of the demo."""

    async def story() -> None:
        await asyncio.start_server(answer, "controller", 8443)
        for _ in range(attempts):
            await asyncio.gather(*(talk(loop.network) for _ in range(ranks)))

    loop = VirtualLoop()
    loop.network = Network(loop, random.Random(7))
    began = time.perf_counter()
    loop.run_until_complete(story())
    return time.perf_counter() - began


def one(ranks: int) -> None:
    from fleetctl.controller.loop import GangLoop
    from fleetctl.scenario.load import parse
    from fleetctl.scenario.simulate import simulate

    looks: list[float] = []
    GangLoop._decide = timed(GangLoop._decide, looks)  # type: ignore[method-assign]
    unit, floor = additions_s(), talk_s(ranks)
    outcome = simulate(parse(story(ranks), str(DEMO)), 7)
    if outcome.verdict != "pass":
        sys.exit(f"{ranks} ranks: {outcome.broken} {outcome.unmet} {outcome.violations}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"ranks={ranks} wall_s={outcome.wall_s:.1f} additions={outcome.wall_s / unit:.1f} "
        f"ms_per_rank={1000 * outcome.wall_s / ranks:.1f} virtual_s={outcome.virtual_s:.0f} memory_mib={memory:.0f} "
        f"talk_s={floor:.1f} looks={len(looks)} look_ms={1000 * statistics.median(looks):.1f} "
        f"(ten million additions: {unit:.2f} s)",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        one(int(sys.argv[1]))
    else:
        for size in SIZES:
            subprocess.run([sys.executable, __file__, str(size)], check=True)
