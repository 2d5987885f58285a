"""Connections between the processes of a simulated world: reliable, ordered, delayed, and cut when a host goes dark.

As TCP does: what is sent into darkness is delivered when the light comes back, in order, unless somebody gave up
meanwhile; a program that dies on a living host closes its connections; a host that loses power closes nothing. Nothing
is encrypted here: `ssl` is accepted and not looked at.

Knows nothing of what is said on a connection.
"""

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from fleetctl.sim.processes import CURRENT, Process, Processes

Factory = Callable[[], Any]


class Refused(ConnectionRefusedError):
    """Nobody listens there."""


class End(asyncio.Transport):
    """One end of a connection: what is written here is received at `other`."""

    other: "End"

    def __init__(self, network: "Network", process: Process | None, host: str, port: int) -> None:
        super().__init__()
        self.host = host
        self.process = process
        self.port = port
        self.protocol: Any = None
        self._network = network
        self._inbox: deque[tuple[float, bytes | None]] = deque()
        """What is on its way to this end, and when it arrives; None: the other end has closed."""
        self._unread = 0
        self._reading = True
        self._closing = False
        self._lost = False

    def write(self, data: Any) -> None:
        if not self._closing:
            self.other._send(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _send(self, data: bytes | None) -> None:
        """Put something on its way to this end."""
        network = self._network
        arrives = network.loop.time() + network.delay()  # but never before what was sent earlier: see _receive
        self._inbox.append((arrives, data))
        if data:
            self._unread += len(data)
        if not network.is_blocked(self):
            network.loop.call_at(arrives, self._receive, context=network.context)

    def _receive(self) -> None:
        if self._lost or self.protocol is None or not self._reading or self._network.is_blocked(self):
            return
        now, inbox = self._network.loop.time(), self._inbox
        while inbox and inbox[0][0] <= now and self._reading and not self._closing:
            data = inbox.popleft()[1]
            if data is None:
                self._other_has_closed()
            else:
                self._unread -= len(data)
                self.protocol.data_received(data)

    def resume(self) -> None:
        """Receive what has waited, now that it may."""
        if self._inbox:
            loop = self._network.loop
            for arrives, _ in self._inbox:
                loop.call_at(max(arrives, loop.time()), self._receive, context=self._network.context)

    def _other_has_closed(self) -> None:
        if not self.protocol.eof_received() or self._closing:
            self.close()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.other._send(None)
        self._network.loop.call_soon(self._finish, context=self._network.context)

    def abort(self) -> None:
        self.close()

    def _finish(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._network.forget(self)
        self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self.other._unread if self._network.is_blocked(self) else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.other.host, self.other.port) if name == "peername" and not self._lost else default

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.resume()

    def is_reading(self) -> bool:
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def can_write_eof(self) -> bool:
        return False


class Listener:
    """Who accepts connections at an address; as much of asyncio's Server as anybody asks for."""

    sockets = ()

    def __init__(self, network: "Network", factory: Factory, process: Process | None, at: tuple[str, int]) -> None:
        self._network = network
        self.factory = factory
        self.process = process
        self.at = at
        self.context = contextvars.copy_context()

    def close(self) -> None:
        self._network.silence(self)

    async def wait_closed(self) -> None:
        pass

    def is_serving(self) -> bool:
        return self._network.listener(*self.at) is self


class Network:
    """All connections. `latency_s` is the range from which each way's delay is drawn."""

    def __init__(self, loop: Processes, rng: random.Random, latency_s: tuple[float, float] = (0.0002, 0.002)) -> None:
        self.loop = loop
        self.context = contextvars.Context()  # what is on its way belongs to no process
        self._random = rng.random
        self._shortest, self._spread = latency_s[0], latency_s[1] - latency_s[0]
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._ends: dict[Process | None, dict[End, None]] = {}
        self._listening: dict[Process | None, dict[Listener, None]] = {}
        self._dark: set[str] = set()
        self._isolated: set[str] = set()
        """Addresses of programs."""
        self._waiting: list[asyncio.Future[None]] = []

    def delay(self) -> float:
        """One way, seconds."""
        return self._shortest + self._spread * self._random()

    # Connections

    def listen(self, factory: Factory, address: str, port: int) -> Listener:
        at = (address, port)
        if at in self._listeners:
            raise OSError(f"address already in use: {address}:{port}")
        listener = self._listeners[at] = Listener(self, factory, CURRENT.get(), at)
        self._listening.setdefault(listener.process, {})[listener] = None
        return listener

    def listener(self, address: str, port: int) -> Listener | None:
        return self._listeners.get((address, port))

    def silence(self, listener: Listener) -> None:
        if self._listeners.get(listener.at) is listener:
            del self._listeners[listener.at]
            del self._listening[listener.process][listener]

    async def connect(self, factory: Factory, address: str, port: int) -> tuple[End, Any]:
        """A connection from the current process, once word has gone there and back. Waits while the way is dark; raises
        Refused if nobody listens."""
        process = CURRENT.get()
        here = process.host if process else "world"
        await asyncio.sleep(self.delay() + self.delay())
        while True:
            listener = self._listeners.get((address, port))
            there = listener.process.host if listener and listener.process else address
            if not self._is_dark(here, there, process, listener.process if listener else None):
                break
            light = self.loop.create_future()
            self._waiting.append(light)
            await light
        if listener is None:
            raise Refused(f"connection refused by {address}:{port}")
        near, far = End(self, process, here, port), End(self, listener.process, there, port)
        near.other, far.other = far, near
        for end in (near, far):
            self._ends.setdefault(end.process, {})[end] = None
        context = listener.context.copy()
        far.protocol = context.run(listener.factory)
        context.run(far.protocol.connection_made, far)
        near.protocol = factory()
        near.protocol.connection_made(near)
        return near, near.protocol

    async def open_stream(
        self, address: str, port: int, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The same as asyncio streams."""
        reader = asyncio.StreamReader(limit=limit, loop=self.loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self.loop)
        end, _ = await self.connect(lambda: protocol, address, port)
        return reader, asyncio.StreamWriter(cast(asyncio.WriteTransport, end), protocol, reader, self.loop)

    def forget(self, end: End) -> None:
        self._ends.get(end.process, {}).pop(end, None)
        if end._lost and end.other._lost:  # or they would keep each other for as long as the run lasts
            del end.other.other, end.other

    # What can befall them

    def is_blocked(self, end: End) -> bool:
        """Whether nothing gets through to this end now."""
        if not (self._dark or self._isolated):
            return False
        return self._is_dark(end.host, end.other.host, end.process, end.other.process)

    def _is_dark(self, one: str, other: str, *ends: Process | None) -> bool:
        if one == other:
            return False
        cut = one in self._dark or other in self._dark
        return cut or any(end is not None and end.address in self._isolated for end in ends)

    def reaches(self, one: str, other: str) -> bool:
        """Whether packets get from one host to the other."""
        return one == other or not (one in self._dark or other in self._dark)

    async def way(self, one: str, other: str) -> None:
        """Returns once packets get from one host to the other."""
        while not self.reaches(one, other):
            light = self.loop.create_future()
            self._waiting.append(light)
            await light

    def cut(self, host: str) -> None:
        """Nothing gets in or out of this host any more."""
        self._dark.add(host)

    def heal(self, host: str) -> None:
        self._dark.discard(host)
        self._resume()

    def isolate(self, process: Process) -> None:
        """Nothing gets to or from this program's address but within its own host."""
        self._isolated.add(process.address)

    def rejoin(self, process: Process) -> None:
        self._isolated.discard(process.address)
        self._resume()

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for light in waiting:
            if not light.done():
                light.set_result(None)
        for end in self._all():
            if not self.is_blocked(end):
                end.resume()

    def died(self, process: Process) -> None:
        """The kernel closes what a program that is gone had open."""
        for end in list(self._ends.get(process, ())):
            self._hang_up(end)
        for listener in list(self._listening.get(process, ())):
            self.silence(listener)
        self._drop(process)

    def _hang_up(self, end: End) -> None:
        if not end._closing:
            end._closing = end._lost = True
            end.other._send(None)
        self.forget(end)

    def lost_power(self, host: str) -> None:
        """Everything on this host ends without a word; its peers hear nothing."""
        for process in [p for p in (*self._ends, *self._listening) if p is not None and p.host == host]:
            for end in self._ends.get(process, ()):
                end._closing = end._lost = True
            for listener in list(self._listening.get(process, ())):
                self.silence(listener)
            self._drop(process)

    def end(self) -> None:
        """Nobody will say anything any more."""
        for end in self._all():
            end._closing = end._lost = True

    def _all(self) -> list[End]:
        return [end for ends in self._ends.values() for end in ends]

    def _drop(self, process: Process) -> None:
        self._ends.pop(process, None)
        self._listening.pop(process, None)
