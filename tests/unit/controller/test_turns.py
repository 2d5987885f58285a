"""Turns of the event loop: they are kept short, and how long they were is told."""

import asyncio
import gc
import socket
from collections.abc import Iterator

import pytest

from fleetctl.controller import turns
from fleetctl.controller.turns import Lateness


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = turns.new_loop()
    yield loop
    loop.close()


def test_however_many_sockets_are_ready_a_timer_waits_for_few_of_them_and_none_is_forgotten(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SOCKETS_A_TURN", 3)
    pairs = [socket.socketpair() for _ in range(10)]
    heard: list[int] = []

    def hear(number: int) -> None:
        heard.append(number)  # and does not read: it is ready again at once
        loop.call_soon(heard.append, -1)

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, hear, number)
    loop.run_until_complete(several_turns())
    for ours, theirs in pairs:
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    turn: list[int] = []
    for number in heard:
        turn = [*turn, number] if number >= 0 else []
        assert len(turn) <= 3
    assert {*heard} == {-1, *range(10)}


async def several_turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def test_how_late_a_timer_fires_is_counted_by_its_bounds() -> None:
    late = Lateness()
    for seconds in (0.0, 0.01, 0.03, 0.1, 0.101, 9.0):
        late.note(seconds)
    assert late.counts == [2, 0, 1, 1, 1, 0, 0, 0, 1]
    assert (late.longest_s, late.sum_s) == (9.0, pytest.approx(9.241))


def test_a_loop_that_is_blocked_is_noticed(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    late, time = Lateness(), [0.0]
    monkeypatch.setattr(loop, "time", lambda: time[0])

    async def blocked() -> None:
        measuring = asyncio.create_task(late.measure())
        await asyncio.sleep(0)
        time[0] = 0.3  # nobody had a turn meanwhile
        await several_turns()
        measuring.cancel()

    loop.run_until_complete(blocked())
    assert late.longest_s == pytest.approx(0.28)
    assert sum(late.counts[5:]) == 1


async def test_what_lives_is_spared_when_there_are_a_quarter_more_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    spared, streams, before = [], iter([0, 8, 10, 11, 11, 13, 14]), gc.get_threshold()
    monkeypatch.setattr(gc, "freeze", lambda: spared.append(now))
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0)
    now, ended = 0, asyncio.Event()

    def count() -> int:
        nonlocal now
        try:
            now = next(streams)
        except StopIteration:
            ended.set()
        return now

    try:
        task = asyncio.create_task(turns.spare_what_lives(count, lambda: 0))
        await ended.wait()
        task.cancel()
        assert gc.get_threshold()[:2] == (turns.YOUNG, turns.MIDDLING)
    finally:
        gc.set_threshold(*before)
    assert spared == [0, 8, 11, 14]  # when it begins, and by the quarter


async def test_what_ended_streams_left_is_collected_once_as_many_have_ended_as_are_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = iter([(1000, 0), (1000, 999), (1000, 1000), (10, 1400), (10, 1499), (10, 1500), (2001, 9000), (2001, 9999)])
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "collect", lambda: collected.append(now))
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0)
    now, before, collected, over = (0, 0), gc.get_threshold(), [], asyncio.Event()

    def streams() -> int:
        nonlocal now
        try:
            now = next(story)
        except StopIteration:
            over.set()
        return now[0]

    try:
        task = asyncio.create_task(turns.spare_what_lives(streams, lambda: now[1]))
        await over.wait()
        task.cancel()
    finally:
        gc.set_threshold(*before)
    assert collected == [(1000, 1000), (10, 1500)]
