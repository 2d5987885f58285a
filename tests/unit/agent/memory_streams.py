"""What the tests of agents and of the rendezvous share: streams in memory, and time that jumps."""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

from fleetctl.rendezvous import messages


class _JumpingSelector(selectors.DefaultSelector):
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits and no timer is set")
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything can run, and jumps to the next timer when nothing can."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.writers: list[asyncio.StreamWriter] = []
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            try:
                runner.run(test(*args, **fixtures))
            finally:
                for writer in runner.get_loop().writers:  # a test need not close its streams
                    pipe_of(writer)._closing = True

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


class Pipe(asyncio.Transport):
    """One direction's sending end. `frozen`: the receiver does not read, bytes pile up here."""

    def __init__(self, protocol: asyncio.StreamReaderProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.other: Pipe
        self.frozen = False
        self.pending: list[bytes] = []
        self.aborted = False
        self._closing = False

    def write(self, data: Any) -> None:
        if self._closing:
            return
        self.pending.append(bytes(data))
        asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        if self.frozen or self.other._closing:
            return
        pending, self.pending = self.pending, []
        for data in pending:
            self.other.protocol.data_received(data)

    def thaw(self) -> None:
        self.frozen = False
        self.flush()

    def close(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_soon(self._finish)
        self._closing = True

    def abort(self) -> None:
        self.aborted = True
        self.pending.clear()
        self.close()

    def _finish(self) -> None:
        self.flush()
        self.protocol.connection_lost(None)
        if not self.other._closing:
            self.other.protocol.eof_received()

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.pending))


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def connected_pair() -> tuple[Stream, Stream]:
    loop = asyncio.get_running_loop()
    ends = []
    for _ in range(2):
        reader = asyncio.StreamReader(limit=messages.LINE_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        ends.append((reader, Pipe(protocol)))
    (reader_a, pipe_a), (reader_b, pipe_b) = ends
    pipe_a.other, pipe_b.other = pipe_b, pipe_a
    for _, pipe in ends:
        pipe.protocol.connection_made(pipe)
    writer_a = asyncio.StreamWriter(pipe_a, pipe_a.protocol, reader_a, loop)
    writer_b = asyncio.StreamWriter(pipe_b, pipe_b.protocol, reader_b, loop)
    if isinstance(loop, VirtualLoop):
        loop.writers += [writer_a, writer_b]
    return (reader_a, writer_a), (reader_b, writer_b)


def pipe_of(writer: asyncio.StreamWriter) -> Pipe:
    assert isinstance(writer.transport, Pipe)
    return writer.transport


class Peer:
    """A test's own end of a stream: says and expects messages."""

    def __init__(self, stream: Stream) -> None:
        self.reader, self.writer = stream

    def say(self, message: messages.Message) -> None:
        self.writer.write(messages.encode(message))

    def say_line(self, line: bytes) -> None:
        self.writer.write(line)

    async def hear(self, within: float = 60.0) -> messages.Message | None:
        async with asyncio.timeout(within):
            return await messages.receive(self.reader)

    async def hears(self, *expected: messages.Message) -> None:
        for message in expected:
            heard = await self.hear()
            assert repr(heard) == repr(message)

    async def hears_nothing(self, for_s: float = 0.5) -> None:
        try:
            heard = await self.hear(within=for_s)
        except TimeoutError:
            return
        raise AssertionError(f"heard {heard!r}")

    async def is_closed(self, within: float = 60.0) -> None:
        async with asyncio.timeout(within):
            rest = await self.reader.read()
        assert rest == b"", rest


async def settle() -> None:
    """Let everything run that can run now."""
    await asyncio.sleep(0.001)
