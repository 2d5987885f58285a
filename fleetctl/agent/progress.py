"""How far the trainer is: the step number it may write to a file, decimal, on the first line."""

import os

_LONGEST = 15  # digits; what the protocol can carry


def read_step(path: str) -> int | None:
    """The step; None if there is none, or something else: the trainer may write what it likes, and at any moment."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold up the beat
        try:
            line = os.read(file, 64).split(b"\n", 1)[0].strip()
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None
    return int(line) if line.isdigit() and len(line) <= _LONGEST else None
