"""The network of a simulated world behaves as TCP does, whatever befalls hosts and programs."""

import asyncio
import gc
import random
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from fleetctl.sim.loop import BEGIN, VirtualLoop
from fleetctl.sim.network import End, Network, Refused
from fleetctl.sim.processes import CURRENT, Process

PORT = 80
SLOWEST_S = 0.002


class Wire:
    """A server on host `b` that notes what it hears and when; clients come from host `a`."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.network = self.loop.network = Network(self.loop, random.Random(1), (0.0002, SLOWEST_S))
        self.server = Process("server", "b", "10.0.0.2")
        self.client = Process("client", "a", "10.0.0.1")
        self.heard: list[bytes] = []
        self.times: list[float] = []
        self.eof = False
        self.writers: list[asyncio.StreamWriter] = []
        self._kept: list[object] = []

    def now(self) -> float:
        return self.loop.time() - BEGIN

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while line := await reader.readline():
            self.heard.append(line.strip())
            self.times.append(self.now())
        self.eof = True

    async def listen(self) -> None:
        await self.loop.spawn(self.server, asyncio.start_server(self.serve, "10.0.0.2", PORT))

    async def dial(self, process: Process | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        work = self.network.open_stream("10.0.0.2", PORT, 4096)
        stream = await self.loop.spawn(process or self.client, work)
        self._kept.append(stream)  # a writer that nobody holds would close its connection
        return stream

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await self.listen()
            await story()

        self.loop.run_until_complete(whole())
        assert self.loop.failures == []
        assert self.loop.lost_errors() == []


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.loop.wind_down()
    wire.network.end()


def test_what_is_sent_arrives_in_order_and_late(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        sent = wire.now()
        for number in range(200):
            writer.write(b"%d\n" % number)
            if number % 7 == 0:
                await asyncio.sleep(0.0003)
        await asyncio.sleep(1.0)
        assert wire.heard == [b"%d" % number for number in range(200)]
        assert wire.times == sorted(wire.times)
        assert wire.times[0] > sent

    wire.run(story)


def test_both_ways_are_independent(wire: Wire) -> None:
    async def story() -> None:
        reader, writer = await wire.dial()
        writer.write(b"ping\n")
        await asyncio.sleep(0.1)
        wire.writers[0].write(b"pong\n")
        assert await reader.readline() == b"pong\n"

    wire.run(story)


def test_what_was_sent_before_a_close_still_arrives_and_then_the_end(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        writer.write(b"last words\n")
        writer.close()
        writer.write(b"too late\n")
        await writer.wait_closed()
        await asyncio.sleep(1.0)
        assert wire.heard == [b"last words"]
        assert wire.eof

    wire.run(story)


def test_nothing_is_received_after_our_own_close(wire: Wire) -> None:
    received: list[bytes] = []

    class Once(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            received.append(data)
            self.transport.close()

    async def story() -> None:
        await wire.loop.spawn(wire.client, wire.network.connect(Once, "10.0.0.2", PORT))
        await asyncio.sleep(0.1)
        for number in range(9):
            wire.writers[0].write(b"%d" % number)
        await asyncio.sleep(1.0)
        assert received == [b"0"]

    wire.run(story)


def test_a_connection_that_nobody_accepts_is_refused(wire: Wire) -> None:
    async def story() -> None:
        with pytest.raises(Refused):
            await wire.network.open_stream("10.0.0.9", PORT, 100)

    wire.run(story)


def test_an_address_can_be_listened_at_once_and_again_when_it_is_free(wire: Wire) -> None:
    async def story() -> None:
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(wire.serve, "10.0.0.2", PORT)
        wire.network.died(wire.server)
        again = await asyncio.start_server(wire.serve, "10.0.0.2", PORT)
        assert again.is_serving()
        again.close()
        assert not again.is_serving()

    wire.run(story)


# Programs that end


def test_the_kernel_closes_what_a_killed_program_had_open_after_what_it_had_sent(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        writer.write(b"last words\n")
        wire.loop.kill(wire.client)
        wire.network.died(wire.client)
        await asyncio.sleep(1.0)
        assert wire.heard == [b"last words"]
        assert wire.eof

    wire.run(story)


def test_the_death_of_a_program_closes_nothing_of_others(wire: Wire) -> None:
    async def story() -> None:
        other = Process("client", "a", "10.0.0.3")  # of the same name and host
        _, mine = await wire.dial()
        _, its = await wire.dial(other)
        wire.loop.kill(wire.client)
        wire.network.died(wire.client)
        its.write(b"I live\n")
        await asyncio.sleep(1.0)
        assert wire.heard == [b"I live"]
        assert mine.transport.is_closing()
        assert not its.transport.is_closing()

    wire.run(story)


def test_a_death_costs_only_what_that_program_had_open(wire: Wire) -> None:
    async def story() -> None:
        for number in range(50):
            await wire.dial(Process(f"client-{number}", "a", f"10.0.1.{number}"))
        await wire.dial()
        looked_at: list[End] = []
        hang_up = wire.network._hang_up
        wire.network._hang_up = lambda end: (looked_at.append(end), hang_up(end))  # type: ignore[method-assign,assignment,func-returns-value]
        wire.loop.kill(wire.client)
        wire.network.died(wire.client)
        assert [end.process for end in looked_at] == [wire.client]

    wire.run(story)


def test_nothing_is_kept_of_programs_that_are_gone(wire: Wire) -> None:
    async def story() -> None:
        for number in range(20):
            process = Process(f"client-{number}", "a")
            await wire.dial(process)
            wire.loop.kill(process)
            wire.network.died(process)
        await asyncio.sleep(1.0)
        for writer in wire.writers:
            writer.close()
        await asyncio.sleep(1.0)
        assert wire.network._all() == []
        assert set(wire.network._ends) == {wire.server}
        assert set(wire.network._listening) == {wire.server}

    wire.run(story)


def test_a_dial_that_is_given_up_on_its_way_reaches_nobody(wire: Wire) -> None:
    async def story() -> None:
        dialling = asyncio.ensure_future(wire.network.open_stream("10.0.0.2", PORT, 100))
        await asyncio.sleep(0.00001)
        dialling.cancel()
        await asyncio.sleep(1.0)
        assert wire.writers == []
        assert wire.network._all() == []

    wire.run(story)


def test_ends_do_not_keep_each_other_once_both_are_closed(wire: Wire) -> None:
    async def story() -> None:
        end, protocol = await wire.network.connect(asyncio.Protocol, "10.0.0.2", PORT)
        await asyncio.sleep(0.01)
        end.close()
        wire.writers.pop().close()
        near = weakref.ref(end)
        del end, protocol
        await asyncio.sleep(1.0)
        assert near() is None

    gc.disable()
    try:
        wire.run(story)
    finally:
        gc.enable()


def test_the_loss_of_a_hosts_power_is_silent(wire: Wire) -> None:
    async def story() -> None:
        reader, _ = await wire.dial()
        wire.loop.kill(wire.client)
        wire.network.lost_power("a")
        wire.network.died(wire.client)  # as the world does after it
        await asyncio.sleep(1000.0)
        assert not wire.eof
        wire.writers[0].write(b"are you there?\n")
        await asyncio.sleep(1.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await reader.read(1)

    wire.run(story)


def test_who_listened_on_a_host_without_power_listens_no_more(wire: Wire) -> None:
    async def story() -> None:
        wire.loop.kill(wire.server)
        wire.network.lost_power("b")
        assert wire.network.listener("10.0.0.2", PORT) is None

    wire.run(story)


# Programs that stand still


def test_a_frozen_program_reads_later_and_its_peer_notices_nothing(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        await asyncio.sleep(0.1)
        wire.loop.freeze(wire.server)
        writer.write(b"one\n")
        await asyncio.sleep(10.0)
        writer.write(b"two\n")
        await asyncio.sleep(10.0)
        assert wire.heard == []
        assert not writer.transport.is_closing()
        wire.loop.thaw(wire.server)
        await asyncio.sleep(0.001)
        assert wire.heard == [b"one", b"two"]

    wire.run(story)


def test_what_a_program_sent_just_before_it_froze_is_on_its_way(wire: Wire) -> None:
    async def program() -> None:
        _, writer = await wire.network.open_stream("10.0.0.2", PORT, 100)
        wire.writers.append(writer)
        writer.write(b"sent\n")
        wire.loop.freeze(wire.client)

    async def story() -> None:
        wire.loop.spawn(wire.client, program())
        await asyncio.sleep(1.0)
        assert wire.heard == [b"sent"]

    wire.run(story)


def test_what_is_received_belongs_to_nobody_and_who_serves_to_the_server(wire: Wire) -> None:
    whose: list[Process | None] = []

    class Notes(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            whose.append(CURRENT.get())

        def data_received(self, data: bytes) -> None:
            whose.append(CURRENT.get())

    async def story() -> None:
        listening = asyncio.get_running_loop().create_server(Notes, "10.0.0.2", PORT + 1)
        await wire.loop.spawn(wire.server, listening)
        _, writer = await wire.loop.spawn(wire.client, wire.network.open_stream("10.0.0.2", PORT + 1, 100))
        await wire.loop.spawn(wire.client, _say(writer))
        await asyncio.sleep(1.0)
        assert whose == [wire.server, None]

    wire.run(story)


async def _say(writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")


# Darkness


def test_what_is_sent_into_darkness_arrives_in_order_when_it_is_over(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        await asyncio.sleep(0.1)
        writer.write(b"0\n")
        wire.network.cut("b")  # while the first is on its way
        for number in range(1, 6):
            writer.write(b"%d\n" % number)
            await asyncio.sleep(1.0)
        assert wire.heard == []
        wire.network.heal("b")
        writer.write(b"6\n")
        await asyncio.sleep(0.1)
        assert wire.heard == [b"%d" % number for number in range(7)]

    wire.run(story)


def test_the_end_of_a_connection_waits_for_light_too(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        wire.network.cut("a")
        writer.write(b"goodbye\n")
        writer.close()
        await asyncio.sleep(60.0)
        assert (wire.heard, wire.eof) == ([], False)
        wire.network.heal("a")
        await asyncio.sleep(0.1)
        assert (wire.heard, wire.eof) == ([b"goodbye"], True)

    wire.run(story)


def test_within_a_dark_host_everything_goes_on(wire: Wire) -> None:
    async def story() -> None:
        wire.network.cut("b")
        _, writer = await wire.dial(Process("neighbour", "b"))
        writer.write(b"next door\n")
        await asyncio.sleep(0.1)
        assert wire.heard == [b"next door"]
        assert wire.network.reaches("b", "b")
        assert not wire.network.reaches("a", "b")

    wire.run(story)


def test_a_dial_into_darkness_waits_for_the_light(wire: Wire) -> None:
    async def story() -> None:
        wire.network.cut("b")
        dialling = asyncio.ensure_future(wire.dial())
        await asyncio.sleep(30.0)
        assert not dialling.done()
        wire.network.cut("a")
        wire.network.heal("b")
        await asyncio.sleep(1.0)
        assert not dialling.done()
        wire.network.heal("a")
        await asyncio.sleep(0.1)
        _, writer = dialling.result()
        writer.write(b"at last\n")
        await asyncio.sleep(0.1)
        assert wire.heard == [b"at last"]

    wire.run(story)


def test_a_dial_into_darkness_may_be_given_up(wire: Wire) -> None:
    async def story() -> None:
        wire.network.cut("b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await wire.network.open_stream("10.0.0.2", PORT, 100)
        wire.network.heal("b")
        await asyncio.sleep(1.0)
        assert wire.writers == []

    wire.run(story)


def test_who_asks_for_a_way_gets_it_when_there_is_light(wire: Wire) -> None:
    async def story() -> None:
        wire.network.cut("b")
        way = asyncio.ensure_future(wire.network.way("b", "api"))
        await asyncio.sleep(30.0)
        assert not way.done()
        wire.network.heal("b")
        await asyncio.sleep(0.1)
        assert way.done()

    wire.run(story)


def test_a_writer_into_darkness_sees_what_it_could_not_send(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        await asyncio.sleep(0.1)
        wire.network.cut("b")
        writer.write(b"x" * 1000)
        assert writer.transport.get_write_buffer_size() == 1000
        wire.network.heal("b")
        await asyncio.sleep(0.1)
        assert writer.transport.get_write_buffer_size() == 0

    wire.run(story)


def test_an_isolated_program_reaches_only_its_own_host(wire: Wire) -> None:
    async def story() -> None:
        neighbour, other = Process("neighbour", "b", "10.0.0.7"), Process("other", "a", "10.0.0.8")
        _, near = await wire.dial(neighbour)
        _, far = await wire.dial(other)
        wire.network.isolate(wire.server)
        near.write(b"near\n")
        far.write(b"far\n")
        await asyncio.sleep(10.0)
        assert wire.heard == [b"near"]
        wire.network.rejoin(wire.server)
        await asyncio.sleep(0.1)
        assert wire.heard == [b"near", b"far"]

    wire.run(story)


def test_a_program_that_starts_again_at_an_isolated_address_is_isolated_and_one_of_its_name_is_not(wire: Wire) -> None:
    async def story() -> None:
        wire.network.isolate(wire.client)
        again, namesake = Process("client/1", "a", wire.client.address), Process("client", "a", "10.0.0.9")
        dialling = asyncio.ensure_future(wire.dial(again))
        await wire.dial(namesake)
        await asyncio.sleep(10.0)
        assert not dialling.done()
        wire.network.rejoin(wire.client)
        await asyncio.sleep(0.1)
        assert dialling.done()

    wire.run(story)


# Pauses


def test_a_reader_that_pauses_hears_later_in_order(wire: Wire) -> None:
    async def story() -> None:
        _, writer = await wire.dial()
        await asyncio.sleep(0.1)
        transport = wire.writers[0].transport
        assert isinstance(transport, End)
        transport.pause_reading()
        assert not transport.is_reading()
        for number in range(5):
            writer.write(b"%d\n" % number)
        writer.close()
        await asyncio.sleep(10.0)
        assert (wire.heard, wire.eof) == ([], False)
        transport.resume_reading()
        await asyncio.sleep(0.1)
        assert wire.heard == [b"%d" % number for number in range(5)]
        assert wire.eof

    wire.run(story)


def test_a_stream_that_is_read_slowly_loses_nothing(wire: Wire) -> None:
    """The reader pauses by itself when much is unread, as asyncio's does."""
    told: list[bytes] = []

    async def slow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            told.append(data)
            await asyncio.sleep(0.01)

    async def story() -> None:
        listening = asyncio.start_server(slow, "10.0.0.2", PORT + 1, limit=256)
        await wire.loop.spawn(wire.server, listening)
        _, writer = await wire.loop.spawn(wire.client, wire.network.open_stream("10.0.0.2", PORT + 1, 100))
        for number in range(500):
            writer.write(b"%04d" % number)
        writer.close()
        await asyncio.sleep(60.0)
        assert b"".join(told) == b"".join(b"%04d" % number for number in range(500))

    wire.run(story)
