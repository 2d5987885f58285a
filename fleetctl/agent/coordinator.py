"""Whether the coordinator's Service leads to the life of rank 0 that the controller means: asks that pod's gate.

After rank 0 has moved to another pod, some nodes send the Service's packets to the old one for a while. A trainer that
starts then dials nobody, or a zombie.
"""

import asyncio
from collections.abc import Awaitable, Callable

TRY_S = 1.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Coordinator:
    """`pod` is `<namespace>/<name>` of rank 0's pod; `open_stream` dials its gate through the Service."""

    def __init__(self, pod: str, open_stream: Callable[[], Awaitable[Stream]]) -> None:
        self._question = f"GET /life/{pod} HTTP/1.1\r\nHost: coordinator\r\nConnection: close\r\n\r\n".encode()
        self._open_stream = open_stream

    async def why_not(self, life_id: str) -> str:
        """Why this life was not reached now; empty if it was."""
        writer = None
        try:
            async with asyncio.timeout(TRY_S):
                reader, writer = await self._open_stream()
                writer.write(self._question)
                head = await reader.readuntil(b"\r\n\r\n")
                if head.split(b" ", 2)[1:2] != [b"200"]:
                    return "another pod answers"
                # One byte more than expected: whoever answers, it cannot be endless.
                body = await _read_up_to(reader, len(life_id.encode()) + 1)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            return str(error) or type(error).__name__
        finally:
            if writer is not None:
                writer.close()
        return "" if body == life_id.encode() else "another life answers"


async def _read_up_to(reader: asyncio.StreamReader, limit: int) -> bytes:
    try:
        return await reader.readexactly(limit)
    except asyncio.IncompleteReadError as error:
        return error.partial
