"""The agent's side of the protocol, as a machine without IO: messages in, actions out.

Knows nothing of streams, files or clocks (main.py has them): `now` is an argument, in seconds of CLOCK_BOOTTIME, which
goes on while the machine sleeps. What it must guarantee, whatever arrives, late, twice or from a stale controller:

- it never takes part in an attempt below what this pod has promised,
- a life promises only while it waits, and opens the gate at most once,
- the gate opens only for a ticket that was persisted, and whose pong is less than RELEASE_WITHIN_S old: a pause between
  pong and release (a frozen node) must not end in a trainer that nobody expects any more.

Actions are to be carried out in order, and none after one that failed: a Send speaks of what came before it.
"""

from collections.abc import Callable
from typing import NamedTuple

from fleetctl.rendezvous.messages import (
    FromAgent,
    Hello,
    Message,
    Ping,
    Pong,
    Promised,
    Prove,
    Release,
    Released,
    Reset,
)

RELEASE_WITHIN_S = 5.0


class Send(NamedTuple):
    message: FromAgent


class SayHello(NamedTuple):
    """Say hello again on the same stream, so that the controller pings again."""


class Persist(NamedTuple):
    """Keep the promise where it survives this process."""

    attempt: int
    ticket: str


class OpenGate(NamedTuple):
    """Tell the trainer its attempt, note that this life is released, then let the startup probe pass."""

    attempt: int


class RestartAll(NamedTuple):
    """Exit so that every container of the pod is restarted."""

    attempt: int


class DialCoordinator(NamedTuple):
    """Dial the coordinator through its Service until this life answers, then say so: Proved."""

    life_id: str


Action = Send | SayHello | Persist | OpenGate | RestartAll | DialCoordinator


class Machine:
    """One life of the pod, from what its files say.

    `floor` is what earlier lives promised: nothing below it is accepted, but it entitles this life to nothing.
    `released_attempt` is the attempt this life was released into, 0 while it waits.
    """

    def __init__(
        self, life_id: str, started_at: float, promise: Promised | None, released_attempt: int, floor: int = 0
    ) -> None:
        self.life_id = life_id
        self.started_at = started_at
        self.promise = promise
        self.attempt = released_attempt
        self.floor = max(floor, released_attempt, promise.attempt if promise else 0)
        self._ponged_at: float | None = None

    def hello(self, token: str) -> Hello:
        return Hello(token, self.life_id, self.started_at, self.attempt, self.promise, self.floor)

    def on_message(self, message: Message, now: float) -> list[Action]:
        rule = _RULES.get(type(message))
        return rule(self, message, now) if rule else []

    def _on_ping(self, ping: Ping, now: float) -> list[Action]:
        # A running life never promises: it must be reset first, and then it is another life.
        if self.attempt or ping.attempt < self.floor or ping.attempt == 0:
            return []
        promise = Promised(*ping)
        persist: list[Action] = [Persist(*promise)] if promise != self.promise else []
        self.promise, self.floor, self._ponged_at = promise, promise.attempt, now
        return [*persist, Send(Pong(*promise))]

    def _on_release(self, release: Release, now: float) -> list[Action]:
        if self.attempt and self.attempt == release.attempt:
            return [Send(Released(self.attempt))]  # the first acknowledgement was lost
        if self.attempt or self.promise is None or Promised(*release) != self.promise:
            return []
        if self._ponged_at is None or now - self._ponged_at > RELEASE_WITHIN_S:
            return [SayHello()]
        self.attempt = release.attempt
        return [OpenGate(self.attempt), Send(Released(self.attempt))]

    def _on_reset(self, reset: Reset, now: float) -> list[Action]:
        # A life that waits is where a reset would bring it.
        if not self.attempt or reset.attempt <= self.attempt or reset.attempt < self.floor:
            return []
        return [RestartAll(reset.attempt)]

    def _on_prove(self, prove: Prove, now: float) -> list[Action]:
        return [DialCoordinator(prove.life_id)]


_RULES: dict[type, Callable[..., list[Action]]] = {
    Ping: Machine._on_ping,
    Release: Machine._on_release,
    Reset: Machine._on_reset,
    Prove: Machine._on_prove,
}
