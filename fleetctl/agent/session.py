"""The agent's side of the stream: when to dial, beat and give up.

Knows nothing of what a message means (machine.py). Everything it touches is handed in, so a simulator runs this same
class over streams in memory; main.py puts it on TLS, files and signals.

That nobody can be reached never stops anything here: an agent keeps trying, and its trainer runs on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from fleetctl.agent.coordinator import Coordinator, Stream
from fleetctl.agent.machine import Action, DialCoordinator, Machine, OpenGate, Persist, RestartAll, SayHello, Send
from fleetctl.rendezvous.messages import (
    RESTART_EXIT_CODE,
    Beat,
    BeatAck,
    Bye,
    Hardware,
    NotLeader,
    ProtocolError,
    Proved,
    Refused,
    TryAgain,
    Welcome,
    encode,
    receive,
)

CONNECT_S = 5.0
SILENT_BEATS = 3
BACK_OFF_S = (0.1, 3.0)
TRY_AGAIN_S = (0.2, 0.5)
STAY_S = 20.0
"""With a standby that knows no leader: whoever takes over does so within that time, or is not this one."""
REACH_AGAIN_S = 6.0
"""A leader that could not be reached is dead, perhaps; a standby names it for five seconds more."""
GOODBYE_S = 0.2
PROVE_AGAIN_S = 0.25


class Keeper(Protocol):
    """Where promises and releases survive this process (files.py)."""

    def keep_promise(self, attempt: int, ticket: str) -> None: ...

    def keep_release(self, attempt: int) -> None: ...


class _Restart(Exception):  # it is not an error
    """Every container of the pod must restart."""


class _Pulse:
    """Beats on a stream once it is told how often, and breaks it off when nothing was heard for three beats.

    Two timers for a stream's whole life: one armed for each message would cost more than the message.
    """

    def __init__(self, writer: asyncio.StreamWriter, read_progress: Callable[[], Beat]) -> None:
        self.gave_up = False
        self._writer = writer
        self._read_progress = read_progress
        self._loop = asyncio.get_running_loop()
        self._beat_s = 0.0
        self._next_beat: asyncio.TimerHandle | None = None
        self._patience_s = CONNECT_S
        self._heard_at = self._loop.time()
        self._look = self._loop.call_at(self._heard_at + self._patience_s, self._listen)

    def heard(self) -> None:
        self._heard_at = self._loop.time()

    def beat_every(self, beat_s: float) -> None:
        self.stop()
        self._beat_s, self._patience_s = beat_s, SILENT_BEATS * beat_s
        self._next_beat = self._loop.call_later(beat_s, self._beat)
        self._look = self._loop.call_at(self._heard_at + self._patience_s, self._listen)

    def stop(self) -> None:
        self._look.cancel()
        if self._next_beat is not None:
            self._next_beat.cancel()

    def _beat(self) -> None:
        self._writer.write(encode(self._read_progress()))
        self._next_beat = self._loop.call_later(self._beat_s, self._beat)

    def _listen(self) -> None:
        due = self._heard_at + self._patience_s
        if self._loop.time() < due:
            self._look = self._loop.call_at(due, self._listen)
        else:
            self.gave_up = True
            self._writer.transport.abort()


class Agent:
    """Speaks for one life of one pod.

    `open_stream` dials an address, or the Service if it is empty; `boottime` reads CLOCK_BOOTTIME; `chance` draws from
    [0, 1); `say` takes one line per decision. `coordinator` is whom to dial when a proof is asked for, if there is one;
    `read_progress` gives the beat that tells how far the trainer is; `read_hardware` the latest reports of the node's
    hardware, and whoever knows that there are new ones calls `tell_hardware`.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        keeper: Keeper,
        open_gate: Callable[[], None],
        open_stream: Callable[[str], Awaitable[Stream]],
        read_token: Callable[[], str],
        boottime: Callable[[], float],
        chance: Callable[[], float],
        say: Callable[[str], None],
        coordinator: Coordinator | None = None,
        read_progress: Callable[[], Beat] = Beat,
        read_hardware: Callable[[], Sequence[Hardware]] = tuple,
    ) -> None:
        self._machine = machine
        self._keeper = keeper
        self._open_gate = open_gate
        self._open_stream = open_stream
        self._read_token = read_token
        self._boottime = boottime
        self._chance = chance
        self._say = say
        self._coordinator = coordinator
        self._read_progress = read_progress
        self._read_hardware = read_hardware
        self._told_hardware: Sequence[Hardware] = ()  # on this stream
        self._said = ""
        self._failures = 0
        self._leader: tuple[str, Stream] | None = None  # whom we were sent to and have just dialled
        self._unreached = ("", 0.0)  # where we were sent last in vain, and when
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[object] | None = None
        self._proof: asyncio.Task[None] | None = None
        self._proof_of = ""
        self._stopping = False

    async def run(self) -> int:
        """Attend the rendezvous until told to restart or to stop; the exit code."""
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                if pause_s := await self._attend():
                    await asyncio.sleep(pause_s)
        except _Restart:
            return RESTART_EXIT_CODE
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        await self._say_goodbye()
        return 0

    def stop(self) -> None:
        """SIGTERM: say goodbye and let `run` return 0."""
        self._say("leaving on SIGTERM")
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    def tell_hardware(self) -> None:
        """Say what was reported of the hardware since the last time. (Who welcomes us is told all: it may be new.)"""
        latest = self._read_hardware()
        if self._writer is None or latest is self._told_hardware:
            return
        for report in latest:
            if report not in self._told_hardware:
                self._writer.write(encode(report))
        self._told_hardware = latest

    async def _say_goodbye(self) -> None:
        if self._writer is None:
            return
        self._writer.write(encode(Bye()))
        self._writer.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._writer.wait_closed()
        except OSError:
            pass  # it was a courtesy

    async def _attend(self) -> float:
        """One stream from dial to end; how long to wait before the next."""
        address, stream = self._leader or ("", None)
        self._leader = None
        where = address or "the Service"
        writer = None
        try:
            reader, writer = stream or await self._dial("")
            self._greet(writer)
            self._writer = writer
            return await self._converse(reader, writer, where, may_redirect=not address)
        except (OSError, EOFError, ValueError, ProtocolError) as error:
            return self._back_off(_no_stream(where, error))
        finally:
            if address and self._unreached[0] == address:  # no welcome: to find out may have taken seconds
                self._reached_in_vain(address)
            self._stop_proving()
            if writer is not None and not self._stopping:
                self._writer = None
                writer.close()

    async def _dial(self, address: str) -> Stream:
        async with asyncio.timeout(CONNECT_S):
            return await self._open_stream(address)

    async def _follow(self, address: str) -> bool:
        """Dial who is said to lead. The stream on which it was said stays open until that has succeeded: if the leader
        has died, that standby may be the next."""
        self._reached_in_vain(address)  # until it says welcome
        try:
            self._leader = address, await self._dial(address)
        except (OSError, ValueError) as error:
            self._reached_in_vain(address)
            self._say_once(_no_stream(address, error))
        return self._leader is not None

    def _reached_in_vain(self, address: str) -> None:
        self._unreached = (address, asyncio.get_running_loop().time())

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(self._machine.hello(self._read_token())))

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str, *, may_redirect: bool
    ) -> float:
        # Nothing waits for the stream to drain: a few small lines are all it can collect before it counts as silent.
        pulse = _Pulse(writer, self._read_progress)
        stays_until = asyncio.get_running_loop().time() + STAY_S
        try:
            while True:
                message = await receive(reader)
                pulse.heard()
                match message:
                    case Welcome(beat_s):
                        self._unreached, stays_until = ("", 0.0), 0.0
                        pulse.beat_every(max(beat_s, 0.1))
                        self._say_once(f"welcomed by {where}")
                        self._told_hardware = ()
                        self.tell_hardware()
                    case BeatAck():
                        self._failures = 0
                    case NotLeader(address):
                        now, (unreached, at) = asyncio.get_running_loop().time(), self._unreached
                        in_vain = address == unreached and now < at + REACH_AGAIN_S
                        if address and may_redirect and not in_vain:
                            pulse.stop()
                            if await self._follow(address):
                                return 0.0
                            pulse = _Pulse(writer, self._read_progress)
                        elif now >= stays_until or (address and not in_vain):
                            return self._back_off(f"{where} does not lead")
                        self._say_once(f"{where} does not lead: staying until somebody does")
                    case TryAgain(reason):
                        self._say_once(f"{where} says try again: {reason}")
                        low, high = TRY_AGAIN_S
                        return low + (high - low) * self._chance()
                    case Refused(reason):
                        return self._back_off(f"refused by {where}: {reason}")
                    case None:
                        pass
                    case _:
                        self._carry_out(self._machine.on_message(message, self._boottime()), writer)
        except EOFError:
            if pulse.gave_up:
                return self._back_off(f"{where} is silent")
            raise
        finally:
            pulse.stop()

    def _carry_out(self, actions: Iterable[Action], writer: asyncio.StreamWriter) -> None:
        """A file that cannot be written ends the agent (StateError): what was not kept must not be acknowledged."""
        for action in actions:
            match action:
                case Send(message):
                    writer.write(encode(message))
                case SayHello():
                    self._say("a release came too long after the pong: saying hello again")
                    self._greet(writer)
                case Persist(attempt, ticket):
                    self._keeper.keep_promise(attempt, ticket)
                    self._say(f"promised attempt {attempt}")
                case OpenGate(attempt):
                    self._keeper.keep_release(attempt)
                    self._open_gate()
                    self._say(f"released into attempt {attempt}")
                case RestartAll(attempt):
                    self._say(f"restarting every container for attempt {attempt}")
                    raise _Restart
                case DialCoordinator(life_id):
                    self._start_proving(life_id)

    def _start_proving(self, life_id: str) -> None:
        """At most one life is being dialled, the last that was asked for."""
        if self._coordinator is None:
            return
        if self._proof is not None and not self._proof.done() and self._proof_of == life_id:
            return
        self._stop_proving()
        self._proof_of = life_id
        self._proof = asyncio.create_task(self._prove(self._coordinator, life_id))

    def _stop_proving(self) -> None:
        if self._proof is not None:
            self._proof.cancel()

    async def _prove(self, coordinator: Coordinator, life_id: str) -> None:
        while why_not := await coordinator.why_not(life_id):
            self._say_once(f"does not reach the coordinator's life {life_id} yet: {why_not}")
            await asyncio.sleep(PROVE_AGAIN_S)
        self._say_once(f"reaches the coordinator's life {life_id}")
        if self._writer is not None:
            self._writer.write(encode(Proved(life_id)))

    def _back_off(self, why: str) -> float:
        self._say_once(why)
        low, high = BACK_OFF_S
        limit = min(high, low * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return limit * self._chance()

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._say(line)
        self._said = line


def _no_stream(where: str, error: Exception) -> str:
    return f"no stream to {where}: {str(error) or type(error).__name__}"
