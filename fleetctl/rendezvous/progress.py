"""What the beats of one life add up to: how far its trainer is, since when, and how long a step takes it."""

from fleetctl.gang.state import Seconds, Steps
from fleetctl.rendezvous.messages import Beat

KEEPS = 0.9
"""Of the mean, when there is a new step: it is that of about the last ten times."""


class Progress:
    """`steps`: the same object until there is something new."""

    __slots__ = ("_seconds", "_steps", "steps")

    def __init__(self) -> None:
        self.steps: Steps | None = None
        self._steps, self._seconds = 0.0, 0.0  # a mean of each, so that a beat that sees three steps counts as three

    def hear(self, beat: Beat, now: Seconds) -> bool:
        """Whether a step was made."""
        if beat.step is None:
            return False
        before, at, work_s = self.steps, now, beat.work_s or 0.0
        if before is not None:
            if (before.step, before.work_s, before.paused) == (beat.step, work_s, beat.paused):
                return False
            if beat.step == before.step:
                at = before.at
            elif beat.step > before.step and not before.paused:
                self._steps = KEEPS * self._steps + (beat.step - before.step)
                self._seconds = KEEPS * self._seconds + (now - before.at)
        mean_s = self._seconds / self._steps if self._steps else 0.0
        self.steps = Steps(step=beat.step, at=at, mean_s=mean_s, work_s=work_s, paused=beat.paused)
        return before is not None and beat.step > before.step

    @property
    def paused(self) -> bool:
        return self.steps is not None and self.steps.paused
