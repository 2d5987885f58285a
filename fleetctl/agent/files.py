"""What the agent remembers between its own restarts: small files in two emptyDirs.

The agent's own volume (FLEETCTL_STATE_DIR) holds
    life       a random id, written by an init container; its mtime is the start of the life
    promise    {"life", "attempt", "ticket"}
    released   {"life", "attempt"}
and the one shared with the trainer (FLEETCTL_SHARED_DIR) holds
    attempt    the number of the attempt the trainer was started for

Nothing is flushed to the disk: these files must survive this process, not the machine. After a power loss every
container of the pod starts anew; that is another life, and it is entitled to nothing an earlier one had.
"""

# pathlib would cost every pod of every gang 0.7 MiB and 5 ms:
# ruff: noqa: PTH105, PTH118, PTH123

import json
import os
import os.path
from collections.abc import Callable
from typing import NamedTuple

from fleetctl.rendezvous.messages import Promised


class StateError(Exception):
    """The agent cannot work without this file; the message says what to do."""


class Memory(NamedTuple):
    """What earlier runs of the agent left: `promise` and `released_attempt` are this life's, `floor` any life's."""

    life_id: str
    started_at: float
    promise: Promised | None
    released_attempt: int
    floor: int


class Files:
    def __init__(self, state_dir: str, shared_dir: str, say: Callable[[str], None]) -> None:
        self._state_dir = state_dir
        self._shared_dir = shared_dir
        self._say = say
        self._life_id = ""

    def load(self) -> Memory:
        path = os.path.join(self._state_dir, "life")
        try:
            with open(path, encoding="ascii") as file:
                lines = file.read().split()
                started_at = os.fstat(file.fileno()).st_mtime
        except (OSError, ValueError) as error:
            raise StateError(
                f"cannot read the life id: {error}; the init container before the agent writes it"
            ) from error
        if not lines:
            raise StateError(f"{path} is empty; the init container before the agent writes a random id to it")
        self._life_id = lines[-1]
        promised = self._read("promise", attempt=int, ticket=str)
        released = self._read("released", attempt=int)
        mine = promised is not None and promised["life"] == self._life_id
        return Memory(
            life_id=self._life_id,
            started_at=started_at,
            promise=Promised(promised["attempt"], promised["ticket"]) if promised and mine else None,
            released_attempt=released["attempt"] if released and released["life"] == self._life_id else 0,
            floor=promised["attempt"] if promised else 0,
        )

    def keep_promise(self, attempt: int, ticket: str) -> None:
        self._write(self._state_dir, "promise", {"life": self._life_id, "attempt": attempt, "ticket": ticket})

    def keep_release(self, attempt: int) -> None:
        """The trainer's number first: once `released` exists, a restarted agent opens the gate without another look."""
        self._write(self._shared_dir, "attempt", attempt)
        self._write(self._state_dir, "released", {"life": self._life_id, "attempt": attempt})

    def _read(self, name: str, **fields: type) -> dict | None:  # type: ignore[type-arg]
        """The object in a file if it has these fields; a corrupt one counts as absent."""
        try:
            with open(os.path.join(self._state_dir, name), encoding="utf-8") as file:
                value = json.load(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._say(f"ignoring the unreadable file {name}: {error}")
            return None
        wanted = {"life": str, **fields}
        if not isinstance(value, dict) or any(type(value.get(field)) is not kind for field, kind in wanted.items()):
            self._say(f"ignoring the file {name}: not an object with {', '.join(wanted)}")
            return None
        return value

    def _write(self, directory: str, name: str, value: object) -> None:
        path = os.path.join(directory, name)
        try:
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                json.dump(value, file)
                file.write("\n")
            os.replace(f"{path}.new", path)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error}") from error
