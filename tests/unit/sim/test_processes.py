"""Processes of the virtual loop: frozen, killed, crashed, and wound down at the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.processes import CURRENT, Process


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.wind_down()


class Ticker:
    """Says once a second when it is."""

    def __init__(self, loop: VirtualLoop, name: str = "ticker") -> None:
        self.loop = loop
        self.process = Process(name, "host")
        self.heard: list[float] = []
        self.ended = False
        loop.spawn(self.process, self.tick())

    async def tick(self) -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
                self.heard.append(self.loop.time() - BEGIN)
        finally:
            self.ended = True


def test_a_frozen_process_does_nothing_and_then_what_came_due_meanwhile(loop: VirtualLoop) -> None:
    async def main() -> list[float]:
        ticker = Ticker(loop)
        await asyncio.sleep(2.5)
        loop.freeze(ticker.process)
        await asyncio.sleep(10.0)
        assert ticker.heard == [1.0, 2.0]
        loop.thaw(ticker.process)
        await asyncio.sleep(1.5)
        return ticker.heard

    # the tick that was due at 3 comes at 12.5, and the next a second later
    assert loop.run_until_complete(main()) == [1.0, 2.0, 12.5, 13.5]


def test_what_comes_due_during_a_freeze_keeps_its_order(loop: VirtualLoop) -> None:
    process, heard = Process("p", "host"), []

    async def program() -> None:
        for seconds in (3, 1, 2):
            loop.call_later(seconds, heard.append, seconds)
        loop.call_later(1.5, heard.append, "cancelled").cancel()

    async def main() -> None:
        await loop.spawn(process, program())
        loop.freeze(process)
        await asyncio.sleep(5.0)
        loop.thaw(process)
        await asyncio.sleep(1.0)

    loop.run_until_complete(main())
    assert heard == [1, 2, 3]


def test_nothing_of_a_killed_process_runs_not_even_a_finally(loop: VirtualLoop) -> None:
    async def main() -> Ticker:
        ticker, other = Ticker(loop), Ticker(loop, "other")
        await asyncio.sleep(1.5)
        loop.kill(ticker.process)
        await asyncio.sleep(3.0)
        assert other.heard == [1.0, 2.0, 3.0, 4.0]
        assert ticker.heard == [1.0]
        assert not ticker.ended
        return ticker

    ticker = loop.run_until_complete(main())
    loop.wind_down()
    assert ticker.ended  # at the end of the world it is let go


def test_a_killed_process_does_not_come_back_by_a_thaw(loop: VirtualLoop) -> None:
    async def main() -> list[float]:
        ticker = Ticker(loop)
        await asyncio.sleep(1.5)
        loop.freeze(ticker.process)
        loop.kill(ticker.process)
        loop.thaw(ticker.process)
        await asyncio.sleep(3.0)
        return ticker.heard

    assert loop.run_until_complete(main()) == [1.0]


def test_two_processes_of_one_name_do_not_answer_for_each_other(loop: VirtualLoop) -> None:
    """A pod that is created again has an agent of the same name."""

    async def main() -> tuple[list[float], list[float]]:
        old, new = Ticker(loop, "same"), Ticker(loop, "same")
        await asyncio.sleep(1.5)
        loop.kill(old.process)
        loop.freeze(new.process)
        loop.thaw(new.process)
        await asyncio.sleep(2.0)
        return old.heard, new.heard

    assert loop.run_until_complete(main()) == ([1.0], [1.0, 2.0, 3.0])


def test_whatever_a_process_starts_belongs_to_it(loop: VirtualLoop) -> None:
    process, heard = Process("p", "host"), []

    async def child() -> None:
        await asyncio.sleep(1.0)
        heard.append(CURRENT.get())

    async def program() -> None:
        loop.call_later(1.0, lambda: heard.append(CURRENT.get()))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())

    async def main() -> None:
        loop.spawn(process, program())
        await asyncio.sleep(0.5)
        loop.freeze(process)
        await asyncio.sleep(5.0)
        assert heard == []
        loop.thaw(process)
        await asyncio.sleep(1.0)

    loop.run_until_complete(main())
    assert heard == [process, process]


def test_a_process_that_waits_for_one_that_is_killed_waits_for_ever(loop: VirtualLoop) -> None:
    async def main() -> bool:
        process = Process("p", "host")
        work = loop.spawn(process, asyncio.sleep(1.0))
        loop.kill(process)
        done, _ = await asyncio.wait([work], timeout=100.0)
        return bool(done)

    assert loop.run_until_complete(main()) is False


def test_an_error_that_nobody_asks_a_background_task_for_is_found(loop: VirtualLoop) -> None:
    async def fails() -> None:
        raise ValueError("lost")

    async def asked() -> None:
        with contextlib.suppress(ValueError):
            await asyncio.create_task(fails())

    async def program() -> None:
        program.task = asyncio.create_task(fails())  # type: ignore[attr-defined]
        await asked()

    async def main() -> None:
        await loop.spawn(Process("p", "host"), program())
        await asyncio.sleep(1.0)

    loop.run_until_complete(main())
    assert loop.failures == []
    assert [str(error) for error in loop.lost_errors()] == ["lost"]


def test_winding_down_ends_all_that_runs_is_frozen_or_killed(loop: VirtualLoop) -> None:
    tickers = [Ticker(loop, name) for name in ("runs", "frozen", "killed")]

    async def main() -> None:
        await asyncio.sleep(1.5)
        loop.freeze(tickers[1].process)
        loop.kill(tickers[2].process)
        await asyncio.sleep(3.0)  # what is due is held

    loop.run_until_complete(main())
    loop.wind_down()
    assert [ticker.ended for ticker in tickers] == [True, True, True]
    assert asyncio.all_tasks(loop) == set()
    assert loop.is_closed()
    assert loop.failures == []


def test_winding_down_lets_last_words_take_their_time_and_start_others(loop: VirtualLoop) -> None:
    words = []

    async def polite() -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            await asyncio.sleep(2.0)
            words.append("goodbye")
            words.append(asyncio.create_task(asyncio.sleep(1000.0)))

    async def main() -> None:
        loop.spawn(Process("p", "host"), polite())
        await asyncio.sleep(1.0)

    loop.run_until_complete(main())
    loop.wind_down()
    assert words[0] == "goodbye"
    assert asyncio.all_tasks(loop) == set()


def test_winding_down_closes_the_generators_of_the_dead(loop: VirtualLoop) -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(1000.0)
            yield 2
        finally:
            await asyncio.sleep(1.0)
            closed.append(True)

    async def reads() -> None:
        async for _ in numbers():
            await asyncio.sleep(5.0)

    async def main() -> None:
        process = Process("p", "host")
        loop.spawn(process, reads())
        await asyncio.sleep(1.0)
        loop.kill(process)
        await asyncio.sleep(1.0)

    loop.run_until_complete(main())
    loop.wind_down()
    assert closed == [True]
    assert loop.failures == []
