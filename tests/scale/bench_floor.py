"""What this machine takes for the least that a rendezvous must do: `make bench-floor RANKS=1024`.

A server with nothing but asyncio streams and TLS: it reads a line and writes one. Its clients share one process, as in
bench_scale.py. Beside fleetctl's figures it tells how much of them is fleetctl's own.

    handshake_ms  CPU of the server for one connection, 16 of them dialled at a time
    idle          of a core, beats every 5 s, spread evenly
    together      the same beats, 25 at a time: the difference is what waking up costs
    sent_ms       from the first write of one line to every client until the last
    told_ms       and until the last client has read it
"""

import argparse
import asyncio
import asyncio.sslproto
import contextlib
import multiprocessing
import ssl
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection

from fleetctl.rendezvous.certificates import Authority, server_context

BEAT_S = 5.0
TOGETHER = 25
DIALS_AT_ONCE = 16
MEASURED_S = 20.0
SETTLES_S = 3.0
NAME = "here"
HELLO = b"x" * 1200 + b"\n"
"""As long as a token makes it."""
LINE = b'{"type":"reset","attempt":2}\n'

Writers = list[asyncio.StreamWriter]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1024)
    ranks = parser.parse_args().ranks
    now = datetime.now(UTC)
    authority = Authority.create(now)
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    clients = spawn.Process(target=run_clients, args=(theirs, authority.bundle, ranks), daemon=True)
    clients.start()
    asyncio.run(serve(server_context(authority.issue([NAME], now)), ours, ranks))
    clients.terminate()


async def serve(tls: ssl.SSLContext, clients: Connection, ranks: int) -> None:
    asyncio.sslproto.SSLProtocol.max_size = 16384  # as the rendezvous does
    writers: Writers = []
    beats = 0

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal beats
        with contextlib.suppress(asyncio.CancelledError):  # the end
            await reader.readline()
            writers.append(writer)
            writer.write(LINE)
            while await reader.readline():
                beats += 1
                writer.write(LINE)

    server = await asyncio.start_server(attend, "127.0.0.1", 0, ssl=tls, backlog=2048)

    async def ask(what: object) -> object:
        clients.send(what)
        return await asyncio.to_thread(clients.recv)

    async def load(together: int) -> float:
        await ask(("beat", together))
        await asyncio.sleep(SETTLES_S)
        before, cpu = beats, time.process_time()
        await asyncio.sleep(MEASURED_S)
        spent, heard = time.process_time() - cpu, beats - before
        return spent / heard * ranks / BEAT_S

    cpu = time.process_time()
    await ask(("dial", server.sockets[0].getsockname()[1]))
    handshake_ms = 1000 * (time.process_time() - cpu) / ranks
    idle, together = await load(1), await load(TOGETHER)
    await ask(("beat", 0))
    await asyncio.sleep(SETTLES_S)
    began = time.monotonic()
    for writer in writers:
        writer.write(LINE)
    sent = time.monotonic()
    told = await ask(("last", began))
    assert isinstance(told, float)
    print(
        f"floor: ranks={ranks} handshake_ms={handshake_ms:.2f} idle={idle:.1%} together={together:.1%} "
        f"sent_ms={1000 * (sent - began):.0f} told_ms={1000 * (told - began):.0f}"
    )


def run_clients(orders: Connection, bundle: bytes, ranks: int) -> None:
    asyncio.sslproto.SSLProtocol.max_size = 16384
    asyncio.run(Clients(orders, bundle, ranks).run())


class Clients:
    def __init__(self, orders: Connection, bundle: bytes, ranks: int) -> None:
        self._orders = orders
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.load_verify_locations(cadata=bundle.decode())
        self._ranks = ranks
        self._writers: Writers = []
        self._readers = set[asyncio.Task[None]]()
        self._heard: list[float] = [0.0] * ranks
        self._beating: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            match await asyncio.to_thread(self._orders.recv):
                case "dial", int(port):
                    gate = asyncio.Semaphore(DIALS_AT_ONCE)
                    await asyncio.gather(*(self._dial(number, port, gate) for number in range(self._ranks)))
                    self._orders.send(None)
                case "beat", int(together):
                    if self._beating:
                        self._beating.cancel()
                    self._beating = asyncio.create_task(self._beat(together)) if together else None
                    self._orders.send(None)
                case "last", float(since):
                    while min(self._heard) < since:  # noqa: ASYNC110 - each of a thousand readers would have to tell
                        await asyncio.sleep(0.01)
                    self._orders.send(max(self._heard))

    async def _dial(self, number: int, port: int, gate: asyncio.Semaphore) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self._tls, server_hostname=NAME)
            writer.write(HELLO)
            await reader.readline()
        self._writers.append(writer)
        self._readers.add(asyncio.create_task(self._listen(number, reader)))

    async def _listen(self, number: int, reader: asyncio.StreamReader) -> None:
        while await reader.readline():
            self._heard[number] = time.monotonic()

    async def _beat(self, together: int) -> None:
        pause = BEAT_S * together / self._ranks
        at = time.monotonic()
        while True:
            for first in range(0, self._ranks, together):
                for writer in self._writers[first : first + together]:
                    writer.write(LINE)
                at += pause
                await asyncio.sleep(max(0.0, at - time.monotonic()))


if __name__ == "__main__":
    main()
