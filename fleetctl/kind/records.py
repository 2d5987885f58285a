"""What the trainers of a gang wrote down themselves: which attempt they ran, when and where.

Plain files on this machine, which trainer.py writes inside the pods: they outlive pods, and nodes that die or freeze.
Knows no API object and asks nobody; whether it is right what happened is judge.py's to say.
"""

import shutil
from pathlib import Path

import msgspec

from fleetctl.kind.judge import Start
from fleetctl.sim.journal import Key, TrainerStarted

PROGRAM = Path(__file__).with_name("trainer.py").read_text()
"""What the pods run, as `python3 -c`."""


class _Line(msgspec.Struct):
    """Of a file `starts`."""

    rank: int
    attempt: int
    at: float
    uid: str
    node: str
    pod: str


class Records:
    """The trainers' own records of one gang: a folder per pod uid, which the nodes share with this machine.

    `began` is the Unix time that is second 0 of the journal.
    """

    def __init__(self, folder: Path, gang: Key, began: float) -> None:
        self._folder = folder
        self._gang = gang
        self._began = began
        self._lines: list[_Line] = []
        self._told = 0
        """How many of the lines `poll` has given."""
        self._offsets: dict[Path, int] = {}
        """How far each file is read."""

    def clear(self) -> None:
        """Forgets an earlier gang of that name. Nothing of it may run any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self._folder.chmod(0o777)  # made here, so that who runs this may remove what the pods (root) put into it
        self._lines, self._told, self._offsets = [], 0, {}

    def poll(self) -> list[TrainerStarted]:
        """The starts written since the last poll, in order of their times."""
        self._read()
        new = sorted(self._lines[self._told :], key=lambda line: (line.at, line.rank))
        self._told = len(self._lines)
        return [
            TrainerStarted(
                at=line.at - self._began,
                gang=self._gang,
                rank=line.rank,
                attempt=line.attempt,
                uid=line.uid,
                pod=line.pod,
                node=line.node,
                ticket="",
            )
            for line in new
        ]

    def command(self, uid: str, text: str) -> None:
        """Gives the trainer in that pod its orders (trainer.py has the list). LookupError: the pod keeps no records."""
        path = self._folder / uid / "command"
        if not path.parent.is_dir():
            raise LookupError(f"the pod {uid} of gang {self._gang[1]} keeps no records")
        new = path.with_name("command.new")
        new.write_text(f"{text}\n")
        new.rename(path)

    def starts(self) -> list[Start]:
        """All so far, in Unix time, for the judge."""
        self._read()
        return [Start(line.rank, line.attempt, line.at, line.uid, line.node) for line in self._lines]

    def alive(self) -> dict[tuple[str, int], float]:
        """By pod uid and attempt: when that trainer was last alive, in Unix time."""
        marks = self._folder.glob("*/alive-*")
        return {(mark.parent.name, int(mark.name.removeprefix("alive-"))): mark.stat().st_mtime for mark in marks}

    def _read(self) -> None:
        """What is new. A line that is half written waits for the next time."""
        for path in self._folder.glob("*/starts"):
            offset = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                whole, end, _ = file.read().rpartition(b"\n")
            self._lines += [msgspec.json.decode(line, type=_Line) for line in whole.splitlines()]
            self._offsets[path] = offset + len(whole) + len(end)
