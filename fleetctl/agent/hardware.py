"""What is said of this node's hardware: lines in a file of the volume that the trainer writes its progress to.

    UNIX_SECONDS CODE [DEVICE [TEXT…]]
    1732233600.5 xid-79 GPU-3 has fallen off the bus

A health check in the pod may write there, or one of the node that knows the pod. Anybody may, and what is no such line
is passed over. What a code means is judged elsewhere (gang/diagnose/hardware.py).
"""

# pathlib would cost every pod of every gang 0.7 MiB and 5 ms:
# ruff: noqa: PTH116

import os

from fleetctl.agent.progress import number
from fleetctl.rendezvous.messages import HARDWARE_KEPT, Hardware

_READ_LIMIT = 64 * 1024
_LONGEST_WORD, _LONGEST_TEXT = 63, 200


class HardwareFile:
    """The reports in the file at `path`. It may be absent, grow, shrink or be replaced."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = (0, 0)  # inode and size
        self._read_to = 0  # the end of the last whole line
        self._latest: tuple[Hardware, ...] = ()

    def read(self) -> tuple[Hardware, ...]:
        """The latest reports, the last one last; the same object as before if the file has not grown."""
        try:
            there = os.stat(self._path)
            if self._seen != (there.st_ino, there.st_size):
                if there.st_ino != self._seen[0] or there.st_size < self._read_to:
                    self._read_to = 0
                self._take(there.st_size)
                self._seen = (there.st_ino, there.st_size)
        except (OSError, ValueError):
            pass  # there may be one later
        return self._latest

    def _take(self, size: int) -> None:
        start = max(self._read_to, size - _READ_LIMIT)
        file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            whole, end, _ = os.pread(file, _READ_LIMIT, start).rpartition(b"\n")
        finally:
            os.close(file)
        lines = whole.split(b"\n")[start > self._read_to :]  # the first may lack its beginning
        found = [report for line in lines if (report := _report(line))]
        if found:
            self._latest = (*self._latest, *found)[-HARDWARE_KEPT:]
        self._read_to = start + len(whole) + len(end)


def _report(line: bytes) -> Hardware | None:
    words = line.split(None, 3)
    at = number(words[0]) if len(words) > 1 else None
    if at is None:
        return None
    code, device, text = [word.decode(errors="replace") for word in (*words[1:], b"", b"")[:3]]
    if not all(word.isprintable() and len(word) <= _LONGEST_WORD for word in (code, device)):
        return None
    shown = "".join(c if c.isprintable() else " " for c in text.strip())
    return Hardware(code, device, shown[:_LONGEST_TEXT], at)
