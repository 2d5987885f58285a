"""The virtual loop is asyncio's, but for time: the same programs tell the same story on both."""

import asyncio
import contextvars
import gc
import os
import selectors
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from fleetctl.sim.loop import BEGIN, Deadlock, VirtualLoop
from fleetctl.sim.processes import CURRENT

Story = list[Any]
Program = Callable[[Story], Awaitable[None]]
TICK = 0.01


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.wind_down()


class Jumping(asyncio.SelectorEventLoop):
    """asyncio's own loop, but for waiting: its clock goes on by as long as it would have waited."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        select, self._at = selector.select, 0.0

        def jump(timeout: float | None = None) -> Any:
            self._at += timeout or 0.0
            return select(0)

        selector.select = jump  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self._at


# The same as asyncio

PROGRAMS: list[Program] = []


def on_both(program: Program) -> Program:
    PROGRAMS.append(program)
    return program


@on_both
async def callbacks_run_first_come_first_served(story: Story) -> None:
    loop = asyncio.get_running_loop()

    def two_more(name: str) -> None:
        story.append(name)
        loop.call_soon(story.append, f"{name}, later")

    for name in "abc":
        loop.call_soon(two_more, name)
    await asyncio.sleep(TICK)


@on_both
async def timers_fire_in_the_order_of_their_times(story: Story) -> None:
    loop = asyncio.get_running_loop()
    for ticks in (3, 1, 2):
        loop.call_later(ticks * TICK, story.append, ticks)
    loop.call_at(loop.time() - 1, story.append, "overdue")
    loop.call_soon(story.append, "soon")
    await asyncio.sleep(4 * TICK)


@on_both
async def a_timer_that_is_due_waits_for_one_round_only(story: Story) -> None:
    loop = asyncio.get_running_loop()
    done = []
    loop.call_later(0, done.append, True)
    for _ in range(3):
        await asyncio.sleep(0)
        story.append(len(done))  # it would never come if timers waited until nothing is ready


@on_both
async def cancelled_callbacks_do_not_run(story: Story) -> None:
    loop = asyncio.get_running_loop()
    soon, later = loop.call_soon(story.append, "soon"), loop.call_later(TICK, story.append, "later")
    soon.cancel()
    later.cancel()
    later.cancel()
    second = loop.call_later(2 * TICK, story.append, "second")
    loop.call_later(2 * TICK, story.append, "third")
    loop.call_later(TICK, second.cancel)
    story.append((soon.cancelled(), later.cancelled()))
    await asyncio.sleep(3 * TICK)


@on_both
async def a_callback_cancelled_by_the_one_before_it_does_not_run(story: Story) -> None:
    loop = asyncio.get_running_loop()
    handles: list[asyncio.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(story.append, "never"))
    await asyncio.sleep(TICK)
    story.append("the end")


@on_both
async def each_task_and_callback_keeps_its_own_context(story: Story) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    loop = asyncio.get_running_loop()

    async def work(mine: str) -> None:
        name.set(mine)
        loop.call_soon(lambda: story.append(("callback", name.get())))
        await asyncio.sleep(TICK)
        story.append(("task", name.get()))

    await asyncio.gather(work("a"), work("b"))
    name.set("main")
    loop.call_soon(lambda: story.append(("an empty context", name.get())), context=contextvars.Context())
    loop.call_soon(lambda: story.append(("ours", name.get())))
    await asyncio.sleep(0)
    story.append(name.get())


@on_both
async def a_task_group_cancels_the_others_when_one_fails(story: Story) -> None:
    async def sleeper(name: str) -> None:
        try:
            await asyncio.sleep(100 * TICK)
        finally:
            story.append(f"{name} ends")

    async def fails() -> None:
        await asyncio.sleep(TICK)
        raise ValueError("no")

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleeper("a"))
            tasks.create_task(fails())
    except ExceptionGroup as errors:
        story.append([str(error) for error in errors.exceptions])


@on_both
async def a_timeout_ends_what_takes_too_long(story: Story) -> None:
    try:
        async with asyncio.timeout(TICK):
            await asyncio.sleep(10 * TICK)
    except TimeoutError:
        story.append("too long")
    async with asyncio.timeout(10 * TICK) as limit:
        await asyncio.sleep(TICK)
    story.append(limit.expired())
    try:
        await asyncio.wait_for(asyncio.Event().wait(), TICK)
    except TimeoutError:
        story.append("waited for too long")


@on_both
async def wait_and_gather_give_back_what_is_done(story: Story) -> None:
    async def after(ticks: int) -> int:
        await asyncio.sleep(ticks * TICK)
        return ticks

    tasks = [asyncio.create_task(after(n)) for n in (1, 9, 2)]
    done, pending = await asyncio.wait(tasks, timeout=4 * TICK)
    story.append((sorted(task.result() for task in done), len(pending)))
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    story.append(len(done))
    story.append(await asyncio.gather(*tasks))
    story.append([await each for each in asyncio.as_completed([after(2), after(1)])])


@on_both
async def a_queue_serves_who_waits_in_turn(story: Story) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def take(name: str) -> None:
        story.append((name, await queue.get()))

    takers = [asyncio.create_task(take(name)) for name in "abc"]
    await asyncio.sleep(0)
    for number in range(2):
        queue.put_nowait(number)
    takers[0].cancel()  # in the same moment: its item goes to another
    await asyncio.sleep(TICK)
    story.append([task.cancelled() for task in takers])
    story.append(queue.empty())
    takers[2].cancel()


@on_both
async def locks_and_events_wake_in_turn(story: Story) -> None:
    lock, event = asyncio.Lock(), asyncio.Event()

    async def work(name: str) -> None:
        async with lock:
            story.append(name)
            await asyncio.sleep(0)
        await event.wait()
        story.append(f"{name} woke")

    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(work(name))
        await asyncio.sleep(TICK)
        event.set()


@on_both
async def an_abandoned_generator_is_finalised(story: Story) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(TICK)
            story.append("closed")

    async for number in numbers():
        story.append(number)
        break
    gc.collect()
    await asyncio.sleep(3 * TICK)


@on_both
async def cancellation_reaches_the_innermost_wait(story: Story) -> None:
    async def inner() -> None:
        try:
            await asyncio.sleep(100 * TICK)
        except asyncio.CancelledError as error:
            story.append(error.args)
            raise

    task = asyncio.create_task(inner())
    await asyncio.sleep(0)
    task.cancel("enough")
    try:
        await task
    except asyncio.CancelledError:
        story.append("cancelled")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_tells_the_same_story_as_on_asyncio(loop: VirtualLoop, program: Program) -> None:
    virtual: Story = []
    real: Story = []
    loop.run_until_complete(program(virtual))
    with asyncio.Runner(loop_factory=Jumping) as runner:
        runner.run(program(real))
    assert virtual == real
    assert virtual
    assert loop.failures == []


def test_an_exception_in_a_callback_is_told_and_the_loop_goes_on(loop: VirtualLoop) -> None:
    error, after = ValueError("no"), []

    def fails() -> None:
        raise error

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fails)
        asyncio.get_running_loop().call_soon(after.append, 1)
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert after == [1]
    assert [failure["exception"] for failure in loop.failures] == [error]


def test_what_a_spawned_task_fails_of_is_told(loop: VirtualLoop) -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def main() -> None:
        loop.spawn(None, fails())
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert [str(failure["exception"]) for failure in loop.failures] == ["no"]


def test_an_interrupt_ends_the_run(loop: VirtualLoop) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    assert asyncio._get_running_loop() is None


# Time


def test_time_stands_still_while_anything_can_run_and_then_jumps(loop: VirtualLoop) -> None:
    times = []

    async def main() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        times.append(loop.time() - BEGIN)
        await asyncio.sleep(3600.0)
        times.append(loop.time() - BEGIN)
        await asyncio.sleep(0.5)
        times.append(loop.time() - BEGIN)

    loop.run_until_complete(main())
    assert times == [0.0, 3600.0, 3600.5]


def test_timers_of_the_same_moment_fire_in_the_order_they_were_set(loop: VirtualLoop) -> None:
    fired: list[int] = []

    async def main() -> None:
        for number in range(50):
            loop.call_at(BEGIN + 1.0, fired.append, number)
        await asyncio.sleep(2.0)

    loop.run_until_complete(main())
    assert fired == list(range(50))


def test_a_cancelled_timer_does_not_hold_time_up(loop: VirtualLoop) -> None:
    async def main() -> float:
        loop.call_later(5.0, print).cancel()
        await asyncio.sleep(7.0)
        return loop.time() - BEGIN

    assert loop.run_until_complete(main()) == 7.0


def test_cancelled_timers_do_not_pile_up_and_the_others_still_fire_in_order(loop: VirtualLoop) -> None:
    fired: list[int] = []

    async def main() -> None:
        for number in range(60_000):
            timer = loop.call_later(100.0 - number / 1000, fired.append, number)
            if number % 1000:
                timer.cancel()
        assert len(loop._timers) < 30_000
        await asyncio.sleep(200.0)

    loop.run_until_complete(main())
    assert fired == list(range(59_000, -1, -1000))


def test_when_everything_waits_for_ever_that_is_an_error(loop: VirtualLoop) -> None:
    with pytest.raises(Deadlock):
        loop.run_until_complete(asyncio.wait_for(loop.create_future(), None))


# The same in every process

SETS_OF_TASKS = """
import asyncio, sys
from fleetctl.sim.loop import VirtualLoop

loop = VirtualLoop()
ballast = [object() for _ in range(int(sys.argv[1]))]

async def nothing(): await asyncio.sleep(1)

async def main():
    tasks = {asyncio.create_task(nothing(), name=f"task {n}") for n in range(200)}
    futures = {loop.create_future() for n in range(200)}
    done, _ = await asyncio.wait(tasks)
    print([task.get_name() for task in done], [task.get_name() for task in tasks], [hash(f) for f in futures])

loop.run_until_complete(main())
"""


def test_sets_of_tasks_and_futures_iterate_alike_in_every_process() -> None:
    def told(seed: str, ballast: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SETS_OF_TASKS, ballast]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert told("1", "0") == told("2", "12345") != ""


# What is refused


def test_threads_signals_and_sockets_are_refused(loop: VirtualLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no threads"):
            await asyncio.to_thread(print)
        with pytest.raises(RuntimeError, match="no threads"):
            loop.call_soon_threadsafe(print)
        with pytest.raises(RuntimeError, match="no signals"):
            loop.add_signal_handler(15, print)
        with pytest.raises(NotImplementedError):
            await loop.getaddrinfo("localhost", 80)
        with pytest.raises(NotImplementedError):
            await asyncio.create_subprocess_exec("true")

    loop.run_until_complete(main())


def test_what_the_world_does_belongs_to_no_process(loop: VirtualLoop) -> None:
    async def whose() -> str:
        process = CURRENT.get()
        return process.name if process else ""

    assert loop.run_until_complete(whose()) == ""
    assert loop.run_until_complete(loop.spawn(None, whose())) == ""


def test_a_program_that_keeps_itself_busy_at_one_moment_is_told_and_not_waited_for() -> None:
    async def busy() -> None:
        while True:  # noqa: ASYNC110 - it is the point
            await asyncio.sleep(0)

    loop = VirtualLoop()  # type: ignore[abstract]
    with pytest.raises(Deadlock, match="time stands still"):
        loop.run_until_complete(busy())
