"""When the agent dials, beats and gives up. The controller is played by hand."""

import asyncio

import pytest
from memory_streams import Peer, connected_pair, in_virtual_time, now, pipe_of, settle

from fleetctl.agent.coordinator import Coordinator
from fleetctl.agent.gate import Gate
from fleetctl.agent.machine import Machine
from fleetctl.agent.session import Agent
from fleetctl.rendezvous.messages import (
    Beat,
    BeatAck,
    Bye,
    Hardware,
    Hello,
    NotLeader,
    Ping,
    Pong,
    Promised,
    Prove,
    Proved,
    Refused,
    Release,
    Released,
    Reset,
    TryAgain,
    Welcome,
)

HELLO = Hello("token", "life", 7.0, 0, None)


class Desk:
    """An agent, and the streams it opens. `gate` is where the coordinator's Service leads, None for nowhere."""

    def __init__(self, *, attempt=0, coordinator=True, gate=None):
        self.log, self.said = [], []
        self.dials: asyncio.Queue[tuple[float, str, Peer]] = asyncio.Queue()
        self.down = 0
        self.dark = False
        self.boottime = 50.0
        self.gate, self.gate_dials = gate, []
        self.progress = Beat()
        self.hardware = ()
        self.agent = Agent(
            Machine("life", 7.0, None, attempt),
            keeper=self,
            open_gate=lambda: self.log.append("open"),
            open_stream=self.open_stream,
            read_token=lambda: "token",
            boottime=lambda: self.boottime,
            chance=lambda: 1.0,
            say=self.said.append,
            coordinator=Coordinator("team-a/llm-worker-0", self.dial_gate) if coordinator else None,
            read_progress=lambda: self.progress,
            read_hardware=lambda: self.hardware,
        )
        self.running = asyncio.create_task(self.agent.run())

    def keep_promise(self, attempt, ticket):
        self.log.append(("promise", attempt, ticket))

    def keep_release(self, attempt):
        self.log.append(("release", attempt))

    async def open_stream(self, address):
        if self.dark:
            await asyncio.sleep(3600)
        if self.down:
            self.down -= 1
            self.log.append(("refused at", round(now() - 1000, 1)))
            raise ConnectionRefusedError("nobody there")
        ours, theirs = connected_pair()
        self.dials.put_nowait((round(now() - 1000, 2), address, Peer(theirs)))
        return ours

    async def dial_gate(self):
        self.gate_dials.append(round(now() - 1000, 2))
        if self.gate is None:
            raise ConnectionRefusedError("no endpoint")
        ours, theirs = connected_pair()
        asyncio.get_running_loop().create_task(self.gate.serve(*theirs))
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
    await controller.hears(Hello("token", "life", 7.0, 3, None, 3))
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
async def test_sent_to_a_leader_that_it_cannot_reach_it_stays_with_the_standby_on_the_same_stream():
    desk = Desk()
    _, _, standby = await desk.dialled()
    desk.down = 1
    for _ in range(3):
        standby.say(NotLeader("10.0.0.9:8443"))  # it died a moment ago
        await asyncio.sleep(1.9)
    assert desk.log == [("refused at", 0.0)]
    standby.say(Welcome(5.0))
    await standby.hears(HELLO)
    await standby.hears(Beat())
    assert desk.dials.empty()
    await desk.stop()


@in_virtual_time
async def test_it_tries_to_reach_that_leader_again_after_a_while():
    desk = Desk()
    _, _, standby = await desk.dialled()
    desk.down = 1
    for _ in range(4):
        standby.say(NotLeader("10.0.0.9:8443"))
        await asyncio.sleep(2)
    at, address, _ = await desk.dialled()
    assert (at, address) == (6.0, "10.0.0.9:8443")
    await standby.hears(HELLO)
    await standby.is_closed()
    await desk.stop()


@in_virtual_time
async def test_while_a_leader_does_not_answer_the_standby_is_kept():
    desk = Desk()
    _, _, standby = await desk.dialled()
    desk.dark = True
    standby.say(NotLeader("10.0.0.9:8443"))
    await asyncio.sleep(4)
    standby.say(Welcome(5.0))  # it leads meanwhile; heard once the dial has failed, after five seconds
    await standby.hears(HELLO, Beat())
    assert now() == pytest.approx(1010)
    assert desk.said == [
        "no stream to 10.0.0.9:8443: TimeoutError",
        "the Service does not lead: staying until somebody does",
        "welcomed by the Service",
    ]
    await desk.stop()


@in_virtual_time
async def test_a_standby_that_is_lost_while_the_leader_is_dialled_is_dialled_anew():
    desk = Desk()
    _, _, standby = await desk.dialled()
    desk.dark = True
    standby.say(NotLeader("10.0.0.9:8443"))
    await settle()
    standby.writer.close()
    desk.dark = False
    at, address, _ = await desk.dialled()
    assert (at, address) == (5.1, "")
    await desk.stop()


@in_virtual_time
async def test_sigterm_while_a_leader_is_dialled_says_bye_to_the_standby():
    desk = Desk()
    _, _, standby = await desk.dialled()
    desk.dark = True
    standby.say(NotLeader("10.0.0.9:8443"))
    await settle()
    desk.agent.stop()
    await standby.hears(HELLO, Bye())
    assert await desk.running == 0


@in_virtual_time
async def test_a_leader_that_takes_connections_and_says_nothing_is_not_reached_either():
    desk = Desk()
    _, _, standby = await desk.dialled()
    standby.say(NotLeader("10.0.0.9:8443"))
    _, _, frozen = await desk.dialled()
    await frozen.hears(HELLO)
    at, address, standby = await desk.dialled()
    assert (at, address) == (5.1, "")
    for _ in range(4):
        standby.say(NotLeader("10.0.0.9:8443"))
        await asyncio.sleep(2)
    at, address, _ = await desk.dialled()
    assert (at, address) == (11.1, "10.0.0.9:8443")  # six seconds after it was given up
    await desk.stop()


@in_virtual_time
async def test_it_stays_with_a_standby_that_knows_no_leader_but_not_for_ever():
    desk = Desk()
    _, _, standby = await desk.dialled()
    for _ in range(11):
        standby.say(NotLeader(""))
        await asyncio.sleep(2)
    at, address, other = await desk.dialled()
    assert (at, address) == (20.1, "")
    other.say(NotLeader(""))
    await asyncio.sleep(1)
    other.say(NotLeader("10.0.0.9:8443"))
    at, address, _ = await desk.dialled()
    assert (at, address) == (23.0, "10.0.0.9:8443")
    await desk.stop()


@in_virtual_time
async def test_a_standby_that_it_stays_with_and_that_falls_silent_is_given_up():
    desk = Desk()
    _, _, standby = await desk.dialled()
    standby.say(NotLeader(""))
    at, address, _ = await desk.dialled()
    assert (at, address) == (5.1, "")
    await desk.stop()


@in_virtual_time
async def test_a_leader_that_resigns_is_left():
    desk = Desk()
    leader = await desk.welcomed()
    leader.say(NotLeader(""))
    at, address, _ = await desk.dialled()
    assert (at, address) == (0.1, "")
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
    await controller.hears(Hello("token", "life", 7.0, 0, Promised(1, "t"), 1))
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


# the trainer's progress


@in_virtual_time
async def test_each_beat_tells_the_step_of_that_moment():
    desk = Desk()
    controller = await desk.welcomed()
    for beat in (Beat(), Beat(0), Beat(17, 1.82), Beat(17, 1.82, True)):
        desk.progress = beat
        await controller.hears(beat)
        controller.say(BeatAck())
    await desk.stop()


# reports of hardware

LOST = Hardware("xid-79", "GPU-3", "has fallen off the bus", 7.5)
LATER = Hardware("xid-48", "GPU-1", "", 9.0)


@in_virtual_time
async def test_a_report_is_told_at_once_and_once():
    desk = Desk()
    controller = await desk.welcomed()
    await settle()
    desk.hardware = (LOST,)
    desk.agent.tell_hardware()
    desk.agent.tell_hardware()
    await controller.hears(LOST)
    desk.hardware = (LOST, LATER)
    desk.agent.tell_hardware()
    await controller.hears(LATER)
    assert now() < 1000.1
    await controller.hears(Beat())
    await desk.stop()


@in_virtual_time
async def test_whoever_welcomes_it_is_told_all_that_was_reported():
    desk = Desk()
    desk.agent.tell_hardware()
    desk.hardware = (LOST, LATER)
    desk.agent.tell_hardware()  # nobody listens
    first = await desk.welcomed()
    await first.hears(LOST, LATER)
    first.say(NotLeader(""))
    second = await desk.welcomed()
    await second.hears(LOST, LATER)
    second.say(Welcome(5.0))  # to a second hello, of an agent that was too late for a release
    await second.hears(LOST, LATER)
    await desk.stop()


# the path to the coordinator


def rank_0(life="life-0"):
    return Gate("team-a/llm-worker-0", life)


@in_virtual_time
async def test_a_life_that_is_reached_is_proved_at_once():
    desk = Desk(gate=rank_0())
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await controller.hears(Proved("life-0"))
    assert desk.gate_dials == [0.0]
    await controller.hears(Beat())
    await desk.stop()


@in_virtual_time
async def test_it_dials_four_times_a_second_until_that_life_answers():
    desk = Desk()
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await asyncio.sleep(0.9)
    desk.gate = rank_0("an earlier life")
    await asyncio.sleep(0.5)
    desk.gate = rank_0()
    await controller.hears(Proved("life-0"))
    assert desk.gate_dials == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert desk.said == [
        "welcomed by the Service",
        "does not reach the coordinator's life life-0 yet: no endpoint",
        "does not reach the coordinator's life life-0 yet: another life answers",
        "reaches the coordinator's life life-0",
    ]
    await desk.stop()


@in_virtual_time
async def test_being_asked_again_while_it_tries_changes_nothing():
    desk = Desk()
    controller = await desk.welcomed()
    for _ in range(9):
        controller.say(Prove("life-0"))
        await asyncio.sleep(0.1)
    assert desk.gate_dials == [0.0, 0.25, 0.5, 0.75]
    desk.gate = rank_0()
    await controller.hears(Proved("life-0"))
    await controller.hears_nothing()
    await desk.stop()


@in_virtual_time
async def test_being_asked_again_after_a_proof_it_looks_again():
    desk = Desk(gate=rank_0())
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await controller.hears(Proved("life-0"))
    desk.gate = None
    controller.say(Prove("life-0"))
    await controller.hears_nothing()
    desk.gate = rank_0()
    await controller.hears(Proved("life-0"))
    await desk.stop()


@in_virtual_time
async def test_another_life_replaces_the_one_it_tries():
    desk = Desk()
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await settle()
    controller.say(Prove("life-1"))
    await settle()
    desk.gate = rank_0("life-0")
    await controller.hears_nothing()
    assert desk.gate_dials == [0.0, 0.0, 0.25, 0.5]
    desk.gate = rank_0("life-1")
    await controller.hears(Proved("life-1"))
    await desk.stop()


@in_virtual_time
async def test_a_stream_that_ends_takes_its_question_along():
    desk = Desk()
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await settle()
    controller.writer.close()
    _, _, again = await desk.dialled()
    await again.hears(HELLO)
    dials = len(desk.gate_dials)
    desk.gate = rank_0()
    again.say(Welcome(5.0))
    await again.hears_nothing()
    assert len(desk.gate_dials) == dials
    again.say(Prove("life-0"))
    await again.hears(Proved("life-0"))
    await desk.stop()


@in_virtual_time
async def test_a_coordinator_that_does_not_answer_does_not_hold_up_the_beat_nor_the_goodbye():
    desk = Desk(gate=rank_0())
    desk.gate.serve = lambda reader, writer: asyncio.sleep(3600)
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await controller.hears(Beat())
    assert now() == pytest.approx(1005)
    assert desk.gate_dials == [0.0, 1.25, 2.5, 3.75, 5.0]
    desk.agent.stop()
    await controller.hears(Bye())
    assert await desk.running == 0
    await asyncio.sleep(5)
    assert len(desk.gate_dials) == 5


@in_virtual_time
async def test_an_agent_that_knows_no_coordinator_answers_nothing():
    desk = Desk(coordinator=False)
    controller = await desk.welcomed()
    controller.say(Prove("life-0"))
    await controller.hears(Beat())
    await desk.stop()
