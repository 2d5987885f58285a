"""How far the trainer is, by the file it may write: `STEP [WORK_SECONDS] [paused]` on the first line.

`1234`: it has made so many steps. `1234 1.82`: and works for 1.82 s of each by itself. `1234 1.82 paused`: and makes
none for now, on purpose. The trainer may write what it likes, and at any moment.
"""

import os

from fleetctl.rendezvous.messages import Beat

_LONGEST = 15  # digits; what the protocol can carry
_NOTHING = Beat()


def read_progress(path: str, since: float = 0.0) -> Beat:
    """The beat that tells of it; one that tells nothing if there is no step. `since` is the start of the life: what an
    earlier life wrote is no step of this one."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold up the beat
        try:
            if os.fstat(file).st_mtime < since:
                return _NOTHING
            words = os.read(file, 64).split(b"\n", 1)[0].split()
        finally:
            os.close(file)
    except (OSError, ValueError):
        return _NOTHING
    if not words or not words[0].isdigit() or len(words[0]) > _LONGEST:
        return _NOTHING
    return Beat(int(words[0]), number(words[1]) if len(words) > 1 else None, b"paused" in words[1:])


def number(word: bytes) -> float | None:
    """`12` or `1.5`; None for anything else, and for what the protocol cannot carry."""
    if not word.replace(b".", b"", 1).isdigit() or len(word.partition(b".")[0]) > _LONGEST:
        return None
    return float(word)
