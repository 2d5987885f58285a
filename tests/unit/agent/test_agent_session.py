"""When the agent dials, beats and gives up. The controller is played by hand."""

import asyncio

import pytest
from memory_streams import Peer, connected_pair, in_virtual_time, now, pipe_of, settle

from fleetctl.agent.machine import Machine
from fleetctl.agent.session import Agent
from fleetctl.rendezvous.messages import (
    Beat,
    BeatAck,
    Bye,
    Hello,
    NotLeader,
    Ping,
    Pong,
    Promised,
    Refused,
    Release,
    Released,
    Reset,
    TryAgain,
    Welcome,
)

HELLO = Hello("token", "life", 7.0, 0, None)


class Desk:
    """An agent, and the streams it opens."""

    def __init__(self, *, attempt=0):
        self.log, self.said = [], []
        self.dials: asyncio.Queue[tuple[float, str, Peer]] = asyncio.Queue()
        self.down = 0
        self.boottime = 50.0
        self.agent = Agent(
            Machine("life", 7.0, None, attempt),
            keeper=self,
            open_gate=lambda: self.log.append("open"),
            open_stream=self.open_stream,
            read_token=lambda: "token",
            boottime=lambda: self.boottime,
            chance=lambda: 1.0,
            say=self.said.append,
        )
        self.running = asyncio.create_task(self.agent.run())

    def keep_promise(self, attempt, ticket):
        self.log.append(("promise", attempt, ticket))

    def keep_release(self, attempt):
        self.log.append(("release", attempt))

    async def open_stream(self, address):
        if self.down:
            self.down -= 1
            self.log.append(("refused at", round(now() - 1000, 1)))
            raise ConnectionRefusedError("nobody there")
        ours, theirs = connected_pair()
        self.dials.put_nowait((round(now() - 1000, 2), address, Peer(theirs)))
        return ours

    async def dialled(self):
        return await self.dials.get()

    async def welcomed(self, beat_s=5.0):
        _, _, controller = await self.dialled()
        await controller.hear()
        controller.say(Welcome(beat_s))
        return controller

    async def stop(self):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@in_virtual_time
async def test_it_dials_the_service_at_once_and_says_hello():
    desk = Desk()
    at, address, controller = await desk.dialled()
    assert (at, address) == (0.0, "")
    await controller.hears(HELLO)
    await desk.stop()


@in_virtual_time
async def test_it_beats_as_the_welcome_says():
    desk = Desk()
    controller = await desk.welcomed(beat_s=7.0)
    for beat in (1, 2, 3):
        await controller.hears(Beat())
        assert now() == pytest.approx(1000 + 7 * beat)
        controller.say(BeatAck())
    await desk.stop()


@in_virtual_time
async def test_a_stream_silent_for_three_beats_is_dropped_and_dialled_anew():
    desk = Desk()
    controller = await desk.welcomed()
    await controller.hears(Beat(), Beat())
    await controller.is_closed()
    at, _, again = await desk.dialled()
    assert at == pytest.approx(15.1)
    await again.hears(HELLO)
    await desk.stop()


@in_virtual_time
async def test_a_controller_that_never_welcomes_is_given_up_after_five_seconds():
    desk = Desk()
    _, _, controller = await desk.dialled()
    await controller.hears(HELLO)
    await controller.is_closed()
    assert now() == pytest.approx(1005)
    await desk.stop()


@in_virtual_time
async def test_it_keeps_trying_with_growing_pauses_and_says_the_reason_once():
    desk = Desk(attempt=3)
    desk.down = 9
    at, _, controller = await desk.dialled()
    times = [time for _, time in desk.log]
    assert times == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.1, 9.1, 12.1]
    assert at == pytest.approx(15.1)
    await controller.hears(Hello("token", "life", 7.0, 3, None))
    assert len(desk.said) == 1
    await desk.stop()


@in_virtual_time
async def test_it_asks_the_leader_it_is_told_of_and_then_the_service_again():
    desk = Desk()
    _, _, standby = await desk.dialled()
    standby.say(NotLeader("10.0.0.9:8443"))
    at, address, other_standby = await desk.dialled()
    assert (at, address) == (0.0, "10.0.0.9:8443")
    other_standby.say(NotLeader("10.0.0.8:8443"))
    at, address, _ = await desk.dialled()
    assert (at, address) == (0.1, ""), "two standbys that name each other must not make it spin"
    await desk.stop()


@in_virtual_time
async def test_try_again_is_soon_and_refused_backs_off():
    desk = Desk()
    for expected in (0.0, 0.5, 1.0):
        at, _, controller = await desk.dialled()
        assert at == pytest.approx(expected)
        controller.say(TryAgain("not known yet"))
    for expected in (1.5, 1.6, 1.8, 2.2):
        at, _, controller = await desk.dialled()
        assert at == pytest.approx(expected)
        controller.say(Refused("no member"))
    await desk.stop()


@in_virtual_time
async def test_start_to_reset():
    desk = Desk()
    controller = await desk.welcomed()
    controller.say(Ping(1, "t"))
    await controller.hears(Pong(1, "t"))
    controller.say(Release(1, "t"))
    await controller.hears(Released(1))
    assert desk.log == [("promise", 1, "t"), ("release", 1), "open"]
    controller.say(Reset(2))
    assert await desk.running == 88


@in_virtual_time
async def test_a_late_release_makes_it_say_hello_on_the_same_stream():
    desk = Desk()
    controller = await desk.welcomed()
    controller.say(Ping(1, "t"))
    await controller.hears(Pong(1, "t"))
    desk.boottime += 6
    controller.say(Release(1, "t"))
    await controller.hears(Hello("token", "life", 7.0, 0, Promised(1, "t")))
    assert "open" not in desk.log
    await desk.stop()


@in_virtual_time
async def test_a_promise_that_cannot_be_kept_is_not_said():
    class DiskFullError(Exception):
        pass

    desk = Desk()

    def keep_promise(attempt, ticket):
        raise DiskFullError

    desk.keep_promise = keep_promise
    controller = await desk.welcomed()
    controller.say(Ping(1, "t"))
    with pytest.raises(DiskFullError):
        await desk.running
    await controller.is_closed()


@in_virtual_time
async def test_sigterm_says_bye_and_ends_with_zero():
    desk = Desk()
    controller = await desk.welcomed()
    await settle()
    desk.agent.stop()
    await controller.hears(Bye())
    assert await desk.running == 0


@in_virtual_time
async def test_goodbye_to_a_stream_that_does_not_close_is_short():
    desk = Desk()
    controller = await desk.welcomed()
    await settle()
    agents_end = pipe_of(controller.writer).other
    agents_end._finish = lambda: None
    desk.agent.stop()
    assert await desk.running == 0
    assert now() == pytest.approx(1000.2, abs=0.01)


@in_virtual_time
async def test_sigterm_between_streams_ends_at_once():
    desk = Desk()
    desk.down = 1000
    await asyncio.sleep(20.5)
    desk.agent.stop()
    assert await desk.running == 0
    assert now() == pytest.approx(1020.5)


@in_virtual_time
async def test_nonsense_or_an_unknown_type_does_not_stop_it():
    desk = Desk()
    controller = await desk.welcomed()
    controller.say_line(b'{"type":"teleport"}\n')
    await controller.hears(Beat())
    controller.say_line(b"HTTP/1.1 400 Bad Request\r\n")
    await controller.is_closed()
    _, _, again = await desk.dialled()
    await again.hears(HELLO)
    await desk.stop()


@in_virtual_time
async def test_a_timeout_of_the_kernel_is_not_taken_for_a_beat():
    desk = Desk()
    controller = await desk.welcomed()
    await settle()
    pipe_of(controller.writer).other.protocol._stream_reader.set_exception(TimeoutError("ETIMEDOUT"))
    _, _, again = await desk.dialled()
    await again.hears(HELLO)
    await desk.stop()
