"""The controller's end of the agents' streams, and what it knows of each pod's life from them.

Knows nothing of gangs, attempts' rules or the API server: who may come (`admit`), who leads and what to say next are
asked of the controller. It keeps one promise by itself, the freshness rule: **a Release is written only just after
the pong for its ticket arrived, and never behind a Ping for it.** Both in the socket of a paused agent would be obeyed
whenever that agent wakes: it would have ponged a moment before.

Asking twice is harmless: `ping`, `release`, `reset` and `prove` do not block, do nothing on a stream that is gone, and
repeat the same line at most once a second. They are level-triggered: ask again while the answer has not come.

A **standby** answers a hello with who leads, and keeps the stream of an agent that stays because it cannot get there.
If we lead next it is welcomed, and its TLS handshake was made before it mattered.

A **superseded** pod was deleted or replaced, and yet its agent speaks: perhaps its node was frozen. It is parked, so
that it stays quiet and can be reset, and is told nothing else. As a life it does not count: `life` does not know it.
"""

import asyncio
import asyncio.sslproto
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

from fleetctl.errors import Retry
from fleetctl.gang.state import Life, Promise, Report, Steps
from fleetctl.rendezvous.identity import Admission, BadToken, PodIdentity
from fleetctl.rendezvous.messages import (
    HARDWARE_KEPT,
    LINE_LIMIT,
    Beat,
    BeatAck,
    Bye,
    FromController,
    Hardware,
    Hello,
    NotLeader,
    Ping,
    Pong,
    ProtocolError,
    Prove,
    Proved,
    Refused,
    Release,
    Released,
    Reset,
    TryAgain,
    Welcome,
    encode,
    receive,
)
from fleetctl.rendezvous.progress import Progress

HELLO_S = 5.0
SILENT_BEATS = 2
GONE_BEATS = 3
FRESH_S = 4.0  # an agent obeys for 5 s after its pong (agent/machine.py); the second between is for the network
REPEAT_S = 1.0
LONGEST_WORD, LONGEST_TEXT = 63, 200
"""Of a report of hardware. Agents cut it themselves; whoever speaks in one's place need not."""
SEND_LIMIT = 64 * 1024
STANDBY_TELLS_S, STANDBY_KEEPS_S = 2.0, 30.0
"""A standby tells those who stay again and again that it lives, and lets go of strangers who never leave."""
WELCOMES_A_SECOND = 1000.0
"""Of those who stayed; what else the controller does goes on meanwhile."""
WAIT_TO_BE_ACCEPTED, ACCEPTED_AT_ONCE = 4096, 32
"""Agents that come back at once wait in the kernel; a TLS handshake costs a millisecond."""

_encoded = lru_cache(maxsize=256, typed=True)(encode)
"""A thousand agents are told the same. By type: a Ping and a Release of the same are equal tuples."""


@dataclass(slots=True)
class Statistics:
    """Plain counts since the start; `streams` is the number open now."""

    streams: int = 0
    welcomed: int = 0
    refused: int = 0
    try_again: int = 0
    not_leader: int = 0
    displaced: int = 0
    superseded: int = 0
    silent: int = 0
    slow: int = 0
    bad_lines: int = 0
    over_limit: int = 0
    pings: int = 0
    releases: int = 0
    resets: int = 0
    proves: int = 0


@dataclass(slots=True, eq=False)
class _Stream:
    """One connection; what was said on it counts for nothing on the next."""

    number: int
    writer: asyncio.StreamWriter
    pong: Promise | None = None
    pong_at: float = 0.0
    wish: Promise | None = None  # released as soon as its pong arrives
    wish_until: float = 0.0
    unanswered: set[Promise] = field(default_factory=set)  # pinged and not ponged: a stream loses no line, so no repeat
    proof: tuple[str, str] | None = None  # the life id that was asked for, and its pod's uid
    sent: dict[type, tuple[FromController, float]] = field(default_factory=dict)
    heard_at: float = 0.0
    silence: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Session:
    """A pod: its life as last told, and its stream while there is one. One that is superseded has a stream."""

    identity: PodIdentity
    life: Life
    stream: _Stream | None
    superseded: bool = False
    progress: Progress = field(default_factory=Progress)  # of this life
    progressed_at: float = 0.0
    falls_silent: asyncio.TimerHandle | None = None


class _Dismiss(Exception):
    """Say this and close."""

    def __init__(self, message: FromController) -> None:
        self.message = message


class Rendezvous:
    """All sessions, by pod uid.

    `authenticate` raises BadToken, or a Retry when it cannot tell now. `leading`: whether agents are told what to do;
    `attending`: whether they are heard, also by who leads no more while nobody else can. `on_change` is called when a
    life has changed, also when its stream was lost or it fell silent; never for a beat or for progress, but when a
    trainer tells of its first step in this life, and when it begins or ends a pause.
    """

    def __init__(
        self,
        *,
        authenticate: Callable[[str], Awaitable[PodIdentity]],
        admit: Callable[[PodIdentity], Awaitable[Admission]],
        leading: Callable[[], bool],
        attending: Callable[[], bool],
        leader_address: Callable[[], str],
        on_change: Callable[[PodIdentity], None],
        beat_s: float = 5.0,
        stream_limit: int = 20_000,
    ) -> None:
        self._authenticate = authenticate
        self._admit = admit
        self._leading = leading
        self._attending = attending
        self._leader_address = leader_address
        self._on_change = on_change
        self._beat_s = beat_s
        self._stream_limit = stream_limit
        self._sessions: dict[str, Session] = {}
        self._writers: dict[asyncio.StreamWriter, None] = {}  # in their order, so that a run can be repeated
        self._staying: dict[asyncio.StreamWriter, asyncio.Timeout] = {}  # with whom we, a standby, wait for a leader
        self._accepted = 0
        self.progress_told = 0
        """Grows whenever `progressed_at` of any pod may have changed."""
        self.statistics = Statistics()

    # What the controller sees and says

    def life(self, uid: str) -> Life | None:
        """The life of this pod as last told, also after its stream was lost; None if it never came or is superseded."""
        session = self._sessions.get(uid)
        return session.life if session and not session.superseded else None

    def progressed_at(self, uid: str) -> float:
        """When (loop time) this pod's trainer was last heard to be a step further; 0.0 if never, or if superseded."""
        session = self._sessions.get(uid)
        return session.progressed_at if session and not session.superseded else 0.0

    def steps(self, uid: str) -> Steps | None:
        """How far this pod's trainer is in its current life; None if nothing was told, it waits, or is superseded. The
        same object until there is something new."""
        session = self._sessions.get(uid)
        return session.progress.steps if session and not session.superseded and not session.life.waits else None

    @property
    def attended(self) -> int:
        """How many streams are open, but for those that stay with a standby."""
        return self.statistics.streams - len(self._staying)

    @property
    def ended(self) -> int:
        """How many streams there were that are no longer open."""
        return self._accepted - self.statistics.streams

    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def superseded(self) -> list[Session]:
        """Pods that are deleted or replaced, and whose agents still hold a stream."""
        return [session for session in self._sessions.values() if session.superseded]

    def supersede(self, uid: str) -> None:
        """The pod was deleted or replaced: if its agent still speaks, it is parked from now on and for good."""
        session = self._sessions.get(uid)
        if session is None or session.superseded:
            return
        if session.stream is None:
            self._drop(session)
            return
        session.superseded = True
        self.progress_told += 1
        session.stream.wish = None
        self.statistics.superseded += 1
        self._on_change(session.identity)

    def ping(self, uid: str, attempt: int, ticket: str) -> None:
        """Ask this life to promise the attempt."""
        stream, life = self._reach(uid)
        if stream and life.waits:
            promise = Promise(attempt=attempt, ticket=ticket)
            if stream.wish != promise:
                stream.wish = None
            self._ask(stream, promise)

    def release(self, uid: str, attempt: int, ticket: str) -> None:
        """The ticket is committed: let this life's trainer start, as soon as its pong is fresh."""
        stream, life = self._reach(uid)
        if not stream or not life.waits:
            return
        promise, now = Promise(attempt=attempt, ticket=ticket), _now()
        if stream.pong == promise and now - stream.pong_at <= FRESH_S and promise not in stream.unanswered:
            stream.wish = None
            self._send(stream, Release(attempt, ticket))
        else:
            # A wish the controller does not repeat is forgotten: it may have decided otherwise by then.
            stream.wish, stream.wish_until = promise, now + FRESH_S
            self._ask(stream, promise)

    def reset(self, uid: str, attempt: int) -> None:
        """Restart this life in place, so that its pod can take part in the attempt, or at least not in an older one."""
        stream, life = self._reach(uid, superseded=True)
        if stream and not life.waits and life.attempt < attempt:
            self._send(stream, Reset(attempt))

    def prove(self, uid: str, coordinator_uid: str, life_id: str) -> None:
        """Let this pod find out whether it reaches this life of the coordinator's pod; then `Life.reaches` says so."""
        stream, _ = self._reach(uid)
        if stream:
            stream.proof = (life_id, coordinator_uid)
            self._send(stream, Prove(life_id))

    def dismiss_all(self) -> None:
        """Another may lead by now: send every agent there."""
        for writer in list(self._writers):
            if writer not in self._staying:
                self._say_last(writer, NotLeader(self._leader_address()))

    def leadership_changed(self) -> None:
        """Agents that stay with a standby are welcomed now, or told who leads."""
        soon = _now()
        for pause in self._staying.values():
            due = pause.when()
            if due is not None and due > soon and not pause.expired():
                pause.reschedule(soon)
            soon += 1 / WELCOMES_A_SECOND

    def _reach(self, uid: str, *, superseded: bool = False) -> tuple[_Stream | None, Life]:
        session = self._sessions.get(uid)
        if session is None or session.stream is None or not self._leading():
            return None, _NOBODY
        if session.superseded and not superseded:
            return None, _NOBODY
        return session.stream, session.life

    # One stream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Attend one connection from its first line to its end."""
        if len(self._writers) >= self._stream_limit:
            self.statistics.over_limit += 1
            writer.transport.abort()
            return
        self._accepted += 1
        stream = _Stream(self._accepted, writer)
        self._writers[writer] = None
        self.statistics.streams += 1
        session = None
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await receive(reader)
            if not isinstance(hello, Hello):
                raise ProtocolError("the first line is not a hello")
            await self._until_we_lead(reader, writer)
            async with asyncio.timeout(HELLO_S):
                identity, superseded = await self._identify(hello)
            session = self._enter(stream, identity, hello, superseded=superseded)
            stream.heard_at = _now()
            self._watch_for_silence(session, stream, due=stream.heard_at)
            await self._listen(reader, stream, session)
        except _Dismiss as dismissal:
            self._say_last(writer, dismissal.message)
        except ProtocolError:
            self.statistics.bad_lines += 1
        except (TimeoutError, EOFError, OSError):
            pass
        finally:
            if stream.silence:
                stream.silence.cancel()
            self._writers.pop(writer, None)
            self.statistics.streams -= 1
            writer.close()
            if session and session.stream is stream:
                self._lose(session, stream)

    async def _until_we_lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A standby, with an agent that stays. What the agent says meanwhile, it says again once it is welcomed."""
        until = _now() + STANDBY_KEEPS_S
        while not self._attending():
            if _now() >= until:
                raise EOFError
            self.statistics.not_leader += 1
            self._write(writer, NotLeader(self._leader_address()))
            try:
                async with asyncio.timeout(STANDBY_TELLS_S) as self._staying[writer]:
                    while True:
                        await receive(reader)
            except TimeoutError:
                pass
            finally:
                del self._staying[writer]

    async def _listen(self, reader: asyncio.StreamReader, stream: _Stream, session: Session) -> None:
        while True:
            message = await receive(reader)
            stream.heard_at = _now()
            if session.stream is not stream:
                return  # displaced
            if session.life.silent:
                self._change(session, silent=False)
            self._require_attendance()
            match message:
                case Beat():
                    self._write(stream.writer, BeatAck())
                    self._hear_progress(session, message)
                case Hardware():
                    self._hear_hardware(session, message)
                case Hello():
                    identity, superseded = await self._identify(message)
                    if identity != session.identity:
                        raise _Dismiss(Refused("a stream speaks for one pod only"))
                    if superseded:
                        self.supersede(identity.uid)
                    if session.stream is stream:
                        self._hear_hello(session, stream, message)
                case Pong(attempt, ticket):
                    self._hear_pong(session, stream, Promise(attempt=attempt, ticket=ticket))
                case Released(attempt):
                    stream.wish = None
                    self._change(session, attempt=attempt)
                case Proved(life_id):
                    if stream.proof and stream.proof[0] == life_id:
                        self._change(session, reaches=stream.proof[1])
                case Bye():
                    self._change(session, leaving=True)

    def _watch_for_silence(self, session: Session, stream: _Stream, due: float) -> None:
        """Two beats without a message make the session silent, three end the stream. One timer looks again and again:
        arming one for each message would cost more than the message. `due`: when this look was meant to be; if it is
        late, it was us who slept, and what the agent said meanwhile is read first."""
        if _now() > due + REPEAT_S:
            stream.heard_at = _now()
        now, silent_at = _now(), stream.heard_at + SILENT_BEATS * self._beat_s
        gone_at = stream.heard_at + GONE_BEATS * self._beat_s
        if now >= gone_at:
            self.statistics.silent += 1
            stream.writer.transport.abort()  # nobody is there to read a goodbye
            return
        if now >= silent_at and session.stream is stream and not session.life.silent:
            self._change(session, silent=True)
        due = gone_at if now >= silent_at else silent_at
        stream.silence = asyncio.get_running_loop().call_at(due, self._watch_for_silence, session, stream, due)

    def _require_attendance(self) -> None:
        if not self._attending():
            raise _Dismiss(NotLeader(self._leader_address()))

    async def _identify(self, hello: Hello) -> tuple[PodIdentity, bool]:
        """Who says so, and whether it is superseded."""
        self._require_attendance()
        try:
            identity = await self._authenticate(hello.token)
            admission = await self._admit(identity)
        except BadToken as error:
            raise _Dismiss(Refused(_one_line(error))) from error
        except Retry as error:
            raise _Dismiss(TryAgain(_one_line(error))) from error
        self._require_attendance()
        if admission is Admission.NOT_YET:
            raise _Dismiss(TryAgain(f"pod {identity.namespace}/{identity.pod} is not known yet"))
        if admission is Admission.STRANGER:
            raise _Dismiss(Refused(f"pod {identity.namespace}/{identity.pod} is no member of a gang"))
        return identity, admission is Admission.SUPERSEDED

    def _enter(self, stream: _Stream, identity: PodIdentity, hello: Hello, *, superseded: bool) -> Session:
        """Give the pod this stream; an older one is closed."""
        if superseded:
            self.supersede(identity.uid)
        session = self._sessions.get(identity.uid)
        if session is None:
            session = self._sessions[identity.uid] = Session(identity, _NOBODY, stream, superseded)
            self.statistics.superseded += superseded
        elif session.stream:
            # Proving who one is takes time, so the newer of two may be here before the older.
            older, newer = sorted((session.stream, stream), key=lambda each: each.number)
            self.statistics.displaced += 1
            older.writer.close()
            if newer is not stream:
                raise EOFError
        session.stream = stream
        _stop_timer(session)
        self._hear_hello(session, stream, hello)
        return session

    def _lose(self, session: Session, stream: _Stream) -> None:
        """The stream has ended. Whoever said goodbye or was reset is given two beats to be back before it is silent."""
        session.stream = None
        if session.superseded:
            self._drop(session)
            return
        silent = session.life.silent or not (session.life.leaving or Reset in stream.sent)
        if not silent:
            session.falls_silent = asyncio.get_running_loop().call_later(
                SILENT_BEATS * self._beat_s, lambda: self._change(session, silent=True)
            )
        self._change(session, connected=False, silent=silent)

    def _drop(self, session: Session) -> None:
        del self._sessions[session.identity.uid]
        self.progress_told += 1
        _stop_timer(session)
        self._on_change(session.identity)

    def _hear_hello(self, session: Session, stream: _Stream, hello: Hello) -> None:
        # An agent says hello again when it is too late for a release: what it ponged before is stale.
        stream.pong = stream.wish = None
        self.statistics.welcomed += 1
        self._write(stream.writer, Welcome(self._beat_s))
        promise = Promise(attempt=hello.promise.attempt, ticket=hello.promise.ticket) if hello.promise else None
        if hello.life_id != session.life.life_id:
            session.progress = Progress()
        session.life = Life(
            uid=session.identity.uid,
            life_id=hello.life_id,
            started_at=hello.started_at,
            attempt=hello.attempt,
            promise=promise,
            floor=hello.floor,
            reaches=session.life.reaches,  # the pod does, whichever life it is in
            hardware=session.life.hardware,  # the pod's too
        )
        self._on_change(session.identity)

    def _hear_pong(self, session: Session, stream: _Stream, promise: Promise) -> None:
        stream.pong, stream.pong_at = promise, _now()
        stream.unanswered.discard(promise)
        if stream.wish == promise and _now() <= stream.wish_until and self._leading():
            stream.wish = None
            self._send(stream, Release(promise.attempt, promise.ticket))
        self._change(session, promise=promise)

    def _hear_progress(self, session: Session, beat: Beat) -> None:
        before, was_paused = session.progress.steps, session.progress.paused
        if session.progress.hear(beat, _now()):
            session.progressed_at = _now()
            self.progress_told += 1
        first = before is None and session.progress.steps is not None
        if first or session.progress.paused != was_paused:
            self._on_change(session.identity)

    def _hear_hardware(self, session: Session, told: Hardware) -> None:
        """An agent tells all again after a hello: what is known is no news."""
        code, device, text = told.code[:LONGEST_WORD], told.device[:LONGEST_WORD], told.text[:LONGEST_TEXT]
        report = Report(code=code, device=device, text=text, at=told.at)
        known = session.life.hardware
        if report not in known:
            self._change(session, hardware=(*known, report)[-HARDWARE_KEPT:])

    def _change(self, session: Session, **facts: object) -> None:
        session.life = replace(session.life, **facts)  # type: ignore[arg-type]
        self._on_change(session.identity)

    # Writing never waits

    def _ask(self, stream: _Stream, promise: Promise) -> None:
        if promise not in stream.unanswered and self._send(stream, Ping(promise.attempt, promise.ticket)):
            stream.unanswered.add(promise)

    def _send(self, stream: _Stream, message: Ping | Release | Reset | Prove) -> bool:
        """Say it, unless the same was said a moment ago."""
        last, at = stream.sent.get(type(message), (None, 0.0))
        if last == message and _now() - at < REPEAT_S:
            return False
        stream.sent[type(message)] = (message, _now())
        match message:
            case Ping():
                self.statistics.pings += 1
            case Release():
                self.statistics.releases += 1
            case Reset():
                self.statistics.resets += 1
            case Prove():
                self.statistics.proves += 1
        self._write(stream.writer, message)
        return True

    def _write(self, writer: asyncio.StreamWriter, message: FromController) -> None:
        if writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > SEND_LIMIT:
            self.statistics.slow += 1
            writer.transport.abort()
        else:
            writer.write(_encoded(message))

    def _say_last(self, writer: asyncio.StreamWriter, message: FromController) -> None:
        match message:
            case Refused():
                self.statistics.refused += 1
            case TryAgain():
                self.statistics.try_again += 1
            case NotLeader():
                self.statistics.not_leader += 1
        self._write(writer, message)
        writer.close()

    @asynccontextmanager
    async def listening(self, host: str | None, port: int, context: ssl.SSLContext) -> AsyncIterator[asyncio.Server]:
        """Accept agents over TLS while inside; all streams are closed on the way out."""
        # 32 KiB a connection; 44 with a whole TLS record at a time, 288 by default. An API server's list: +7 ms a MB.
        asyncio.sslproto.SSLProtocol.max_size = 4096
        server = await asyncio.start_server(
            self.serve,
            host,
            port,
            limit=LINE_LIMIT,
            backlog=ACCEPTED_AT_ONCE,  # so many does asyncio accept without a pause
            ssl=context,
            ssl_handshake_timeout=HELLO_S,
            ssl_shutdown_timeout=1.0,
        )
        for listener in server.sockets:
            with listener.dup() as same:
                same.listen(WAIT_TO_BE_ACCEPTED)
        try:
            yield server
        finally:
            server.close()
            for writer in list(self._writers):
                writer.close()
            await server.wait_closed()


_NOBODY = Life(uid="", life_id="", started_at=0.0)


def _stop_timer(session: Session) -> None:
    if session.falls_silent is not None:
        session.falls_silent.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
