"""The gate that holds the trainer: the answer to its pod's startup probe.

The kubelet asks `GET /released/<namespace>/<pod>` once a second. A waiting agent holds the question until the gate
opens, so a release does not wait for the kubelet's next second; only after `hold_s` it answers 503 and is asked again.
Any other path is 404 at once: two pods in a node's network must not answer for each other.

Other pods' agents ask rank 0's for `GET /life/<namespace>/<pod>`, to see that they reach it (coordinator.py): answered
at once with this life's id.

Knows nothing of attempts or the rendezvous; answers one question per connection.
"""

import asyncio

HOLD_S = 25.0  # below the probe's timeoutSeconds, which pods set to 30
_REQUEST_S = 5.0
_REQUEST_LIMIT = 8 * 1024
_HELD_LIMIT = 32  # the kubelet has one question open, rarely two; anybody who reaches the port may ask


class Gate:
    """`pod` is `<namespace>/<name>`."""

    def __init__(self, pod: str, life_id: str, hold_s: float = HOLD_S) -> None:
        self._path = f"/released/{pod}".encode()
        self._life_path = f"/life/{pod}".encode()
        self._life_id = life_id.encode()
        self._hold_s = hold_s
        self._held: dict[asyncio.StreamWriter, None] = {}
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        for writer in list(self._held):
            _answer(writer, b"200 OK")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                request = await reader.readuntil(b"\r\n\r\n")
            path = _path_of(request)
            if path == self._life_path:
                _answer(writer, b"200 OK", self._life_id)
                return
            status = self._status(path)
            if status is None:
                status = await self._hold(reader, writer)
            if status is not None:
                _answer(writer, status)
        except (EOFError, OSError, asyncio.LimitOverrunError):
            pass  # gone, slow or talking nonsense: the next probe is a new connection
        finally:
            writer.close()

    def _status(self, path: bytes) -> bytes | None:
        """The answer that can be given at once, None if the question is held."""
        if path != self._path:
            return b"404 Not Found"
        if self.is_open:
            return b"200 OK"
        if len(self._held) >= _HELD_LIMIT:
            return b"503 Service Unavailable"
        return None

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """503 after a while; None if `open` has answered by then, or nobody is there to be answered."""
        self._held[writer] = None
        try:
            async with asyncio.timeout(self._hold_s):
                await reader.read(1)  # returns when either side closes the connection
            return None
        except TimeoutError:
            return b"503 Service Unavailable"
        finally:
            self._held.pop(writer, None)

    async def listen(self, port: int) -> list[asyncio.Server]:
        """Listen on every address, of whichever IP versions the node has."""
        servers, errors = [], []
        for host in ("0.0.0.0", "::"):  # noqa: S104  # the kubelet asks from outside the pod
            try:
                servers.append(await asyncio.start_server(self.serve, host, port, limit=_REQUEST_LIMIT))
            except OSError as error:
                errors.append(error)
        if not servers:
            raise errors[0]
        return servers


def _path_of(request: bytes) -> bytes:
    """What is asked for, empty if it is not a GET."""
    line = request.split(b"\r\n", 1)[0].split(b" ")
    return line[1] if len(line) == 3 and line[0] == b"GET" else b""


def _answer(writer: asyncio.StreamWriter, status: bytes, body: bytes = b"") -> None:
    writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
    writer.close()
