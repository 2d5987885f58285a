"""The whole protocol in a world so small that everything that can happen in it can be tried: a few ranks, two
controllers, and an adversary for a network.

Decisions are production's own: plan(), with attempt.step() and diagnose() inside, and the agent's Machine. Around them
is as little as possible. Messages may take for ever, arrive again, or in any order; caches are as old as they like; a
request may reach the API server after whoever sent it has lost the Lease or died. There is no time: what may happen
soon may also happen late. A real network can do less, so what holds here holds there.

A state is a value, made of tuples and numbers; `moves` gives what may happen next, and raises Violation if that breaks
an invariant of the design: S1, S2, S3, S5 or S10.

Left out, because nothing that is judged here depends on it: exit codes, budgets, conditions, pace, suspending, the path
proof, and how old a pong may be (here it may have any age).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from fleetctl.agent.machine import Action, Machine, OpenGate, Persist, RestartAll
from fleetctl.gang import actions as planned
from fleetctl.gang import attempt as steps
from fleetctl.gang import plan as planning
from fleetctl.gang.identity import Gang
from fleetctl.gang.snapshot import Acceptance, Memory, Snapshot
from fleetctl.gang.spec import (
    ApplicationBudget,
    AttemptRecord,
    Budgets,
    Cause,
    Condition,
    GangSpec,
    GangStatus,
    Group,
    NodeBudget,
    Recovery,
    Replacing,
)
from fleetctl.gang.state import Life as LifeView
from fleetctl.gang.state import Member, Node, Promise, Zombie
from fleetctl.gang.state import Pod as PodView
from fleetctl.rendezvous import messages

CONTROLLERS = 2
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Uid = tuple[int, int]
"""A rank, and which of its pods."""
Held = tuple[int, int]
"""A promise: attempt and ticket; (0, 0) if there is none."""
NOTHING: Held = (0, 0)


class Record(NamedTuple):
    """The record as the API server has it, or as somebody saw it. `version` is its resourceVersion."""

    target: int
    released: int
    ticket: int
    replacing: tuple[tuple[Uid, bool], ...]
    writer: tuple[int, int]
    version: int
    ended: bool = False


class Pod(NamedTuple):
    """A pod as the API server has it, or as somebody saw it."""

    uid: Uid
    attempt: int
    deleting: bool = False


class Seen(NamedTuple):
    """What the API server had under the name of a rank's pod, one version after the other."""

    version: int
    pod: Pod | None


class Life(NamedTuple):
    """What runs of a pod, whatever the API server says: its agent's files, and its trainer.

    `attempt` is the one this life was released into; `trains` the one its trainer runs, which may begin later. While
    `restarting` the agent is gone, and the trainer goes on until the kubelet ends it.
    """

    uid: Uid
    number: int
    promise: Held = NOTHING
    floor: int = 0
    attempt: int = 0
    trains: int = 0
    restarting: bool = False


class Told(NamedTuple):
    """What an agent told of itself, by hello, pong or released: how it was when it spoke."""

    uid: Uid
    number: int
    attempt: int
    promise: Held


class Message(NamedTuple):
    """From a controller to one life: ping, release or reset."""

    kind: str
    uid: Uid
    number: int
    attempt: int
    ticket: int


class Session(NamedTuple):
    """What a controller believes of a pod's life."""

    told: Told
    connected: bool = True


class Write(NamedTuple):
    """A request on its way to the API server; `sender` waits for the answer, nobody if it is CONTROLLERS."""

    sender: int
    kind: str
    what: Any


Asked = tuple[Held, tuple[tuple[Uid, int], ...]]


class Controller(NamedTuple):
    """One controller: what it has seen at least, and what it is at. `term` is 0 until it leads for the first time.

    `record` and `pods` are versions: it never sees older ones again. `asked` is its ping round: the promise, and of
    which lives. `rest` is what it does once its requests are answered; None: it does not wait for any.
    """

    term: int = 0
    record: int = 0
    pods: tuple[int, ...] = ()
    sessions: tuple[Session, ...] = ()
    asked: Asked | None = None
    rest: tuple[Any, ...] | None = None
    failed: bool = False
    dead: tuple[Uid, ...] = ()


class View(NamedTuple):
    """What a controller decides on."""

    record: Record
    pods: tuple[Pod | None, ...]
    sessions: tuple[Session, ...]
    dead: tuple[Uid, ...]


class Bounds(NamedTuple):
    """How often things may happen.

    exits    a container exits, and the kubelet restarts them all
    terms    the Lease changes hands; whoever led may not know it, or be dead
    losses   a controller gives up waiting for an answer that may yet come
    deletes  somebody deletes a pod
    deaths   a node dies
    dark     a node falls silent, and its containers live on
    late     a deadline of a rank passes
    rounds   a new ping round is begun
    """

    exits: int = 0
    terms: int = 0
    losses: int = 0
    deletes: int = 0
    deaths: int = 0
    dark: int = 0
    late: int = 0
    rounds: int = 3


class State(NamedTuple):
    """Everything.

    `records` and `pods` (of each rank) are what the API server has, and before that what it had, as long as somebody
    may see it. `told` is what agents have told and nobody may have heard yet. `committed` has the ticket of each
    attempt that was released, `started` the attempts that each rank began, as bits. `dark` are pods whose nodes are
    silent; `fenced` those whose nodes were declared dead for it, and they are not judged.
    """

    records: tuple[Record, ...]
    term: int
    pods: tuple[tuple[Seen, ...], ...]
    lives: tuple[Life, ...]
    controllers: tuple[Controller, ...]
    told: tuple[Told, ...]
    messages: tuple[Message, ...]
    writes: tuple[Write, ...]
    left: Bounds
    committed: tuple[int, ...]
    started: tuple[int, ...]
    fenced: tuple[Uid, ...] = ()
    dark: tuple[Uid, ...] = ()

    @property
    def record(self) -> Record:
        return self.records[-1]

    def pod(self, rank: int) -> Pod | None:
        return self.pods[rank][-1].pod


class Violation(Exception):
    """An invariant is broken; the message begins with its name."""


Move = tuple[tuple[object, ...], State]
"""What happens, in pieces to be put into words when somebody asks, and the state after it."""


class Protocol:
    """What may happen in a gang of so many ranks, up to an attempt.

    `without` names safeguards that are taken away: promise, ticket, life-id, compare-and-swap, fresh-view.
    """

    def __init__(self, ranks: int, last_attempt: int, without: Iterable[str] = ()) -> None:
        self.ranks = ranks
        self.last_attempt = last_attempt
        self.without = frozenset(without)
        self._gang = _gang(ranks)
        self._plans = lru_cache(maxsize=None)(self._planned)
        self._reactions = lru_cache(maxsize=None)(self._reacted)

    # Where it may begin

    def empty(self, bounds: Bounds) -> State:
        """A gang that was just created."""
        return self._led(Record(0, 0, 0, (), (0, 0), 1), ((Seen(1, None),),) * self.ranks, (), bounds)

    def running(self, bounds: Bounds) -> State:
        """All ranks run attempt 1."""
        floor = 0 if "promise" in self.without else 1
        lives = tuple(Life((rank, 0), 1, (1, 1), floor, 1, 1) for rank in range(self.ranks))
        return self._led(Record(1, 1, 1, (), (0, 1), 1), self._first_pods(), lives, bounds)

    def gathered(self, bounds: Bounds) -> State:
        """All ranks have run attempt 1, and wait for attempt 2."""
        floor = 0 if "promise" in self.without else 1
        lives = tuple(Life((rank, 0), 1, NOTHING, floor) for rank in range(self.ranks))
        return self._led(Record(2, 1, 1, (), (0, 1), 1), self._first_pods(), lives, bounds)

    def replaced(self, bounds: Bounds) -> State:
        """All ranks run attempt 2. The last one has a new pod, because the node of the old one was frozen at the
        barrier and declared dead; it wakes up now. The standby has seen nothing of that."""
        last = self.ranks - 1
        *others, (first,) = self._first_pods()
        history = (first, Seen(2, None), Seen(3, Pod((last, 1), 2)))
        trains = (Life((rank, int(rank == last)), 1, (2, 1), 2, 2, 2) for rank in range(self.ranks))
        lives = tuple(sorted((*trains, Life((last, 0), 1, NOTHING, 1))))
        begins = self._led(Record(2, 2, 1, (), (0, 1), 1), (*others, history), lives, bounds)
        return begins._replace(fenced=((last, 0),), dark=((last, 0),))

    def _first_pods(self) -> tuple[tuple[Seen, ...], ...]:
        return tuple((Seen(1, Pod((rank, 0), 1)),) for rank in range(self.ranks))

    def _led(self, record: Record, pods: tuple[tuple[Seen, ...], ...], lives: tuple[Life, ...], left: Bounds) -> State:
        """The first controller leads and knows everything, the second one nothing that is new."""
        members = {of[-1].pod.uid for of in pods if of[-1].pod}
        heard = tuple(Session(Told(v.uid, v.number, v.attempt, v.promise)) for v in lives if v.uid in members)
        return State(
            records=(record,),
            term=1,
            pods=pods,
            lives=lives,
            controllers=(
                Controller(1, record.version, tuple(of[-1].version for of in pods), heard),
                Controller(pods=(0,) * self.ranks),
            ),
            told=(),
            messages=(),
            writes=(),
            left=left,
            committed=(0, *(record.ticket,) * record.released),
            started=((1 << record.released + 1) - 2,) * self.ranks,
        )

    def moves(self, s: State) -> Iterator[Move]:
        """What may happen next."""
        ticket = 1 + max(_tickets(s))
        for number, controller in enumerate(s.controllers):
            yield from self._of_controller(s, number, controller, ticket)
        for message in s.messages:
            yield from self._arrives(s, message)
        for write in dict.fromkeys(s.writes):
            yield self._written(s, write)
        for life in s.lives:
            yield from self._of_life(s, life)
        yield from _befalls_pods(s)

    def all_run(self, s: State) -> bool:
        """Whether all ranks run the last attempt."""
        running = {life.uid[0] for life in s.lives if life.trains == self.last_attempt and life.uid not in s.fenced}
        return len(running) == self.ranks

    # Controllers

    def _of_controller(self, s: State, number: int, c: Controller, ticket: int) -> Iterator[Move]:
        if s.left.terms:
            leads = Controller(s.term + 1, s.record.version, tuple(of[-1].version for of in s.pods))
            if "fresh-view" in self.without:
                leads = leads._replace(record=c.record, pods=c.pods)
            after = _with(s, number, leads, abandon=True)
            yield ("controller", number, "leads"), after._replace(term=s.term + 1, left=_less(s.left, "terms"))
        if c.rest is not None and s.left.losses:
            gives_up = _with(s, number, c._replace(rest=None, failed=False), abandon=True)
            yield ("controller", number, "gives up waiting"), gives_up._replace(left=_less(s.left, "losses"))
        if c.term and c.rest is None:
            for seen, view in self._views(s, c):
                yield from self._looks(s, number, seen, view, ticket)

    def _views(self, s: State, c: Controller) -> Iterator[tuple[Controller, View]]:
        """All that it may take for the truth now. What it has heard and seen without deciding anything by it counts for
        nothing: it may as well hear and see it later."""
        records = [record for record in s.records if record.version >= c.record]
        pods = [[seen for seen in of if seen.version >= c.pods[rank]] for rank, of in enumerate(s.pods)]
        silent = dict.fromkeys((c.dead, tuple(sorted({*c.dead, *s.dark}))))
        for record, dead, *seen in product(records, silent, *pods):
            known = tuple(each.pod for each in seen)
            versions = tuple(each.version for each in seen)
            for sessions in self._heard(s, c, known):
                yield (
                    c._replace(record=record.version, pods=versions, sessions=sessions, dead=dead),
                    View(record, known, sessions, dead),
                )

    def _heard(self, s: State, c: Controller, pods: tuple[Pod | None, ...]) -> Iterator[tuple[Session, ...]]:
        """What it may have heard of each pod: nothing new, how the agent is now, what it told earlier and was long on
        its way, or that the stream has broken off."""
        now = {v.uid: Told(v.uid, v.number, v.attempt, v.promise) for v in s.lives if not v.restarting}
        before = {session.told.uid: session for session in c.sessions}
        members = {pod.uid for pod in pods if pod}
        choices: list[list[Session | None]] = []
        for uid in sorted({*now, *before, *(told.uid for told in s.told)}):
            known, there = before.get(uid), s.pod(uid[0])
            words = [told for told in (now.get(uid), *s.told) if told and told.uid == uid]
            if uid not in members and there is not None and there.uid == uid:
                words = []  # a pod that is not known yet: its agent is told to try again
            heard = [Session(told) for told in words if known is None or told.number >= known.told.number]
            if known and known.connected and (uid not in now or now[uid].number != known.told.number):
                heard.append(known._replace(connected=False))
            choices.append(list(dict.fromkeys((known, *heard))))
        for chosen in product(*choices):
            yield tuple(session for session in chosen if session)

    def _looks(self, s: State, number: int, c: Controller, view: View, ticket: int) -> Iterator[Move]:
        """One turn of the gang's loop: its messages are sent, its requests are on their way."""
        seen = view._replace(record=view.record._replace(version=0))
        usual = self._plans(seen, c.asked, (number, c.term), ticket, -1)
        yield from self._decided(s, number, c, view, *usual)
        if s.left.late and view.record.target > view.record.released:
            for rank in range(self.ranks):
                if (unusual := self._plans(seen, c.asked, (number, c.term), ticket, rank)) != usual:
                    late = s._replace(left=_less(s.left, "late"))
                    yield from self._decided(late, number, c, view, *unusual)

    def _decided(
        self, s: State, number: int, c: Controller, view: View, actions: tuple[Any, ...], asked: Asked | None
    ) -> Iterator[Move]:
        if not actions and asked == c.asked:
            return
        if asked != c.asked and asked is not None:
            if not s.left.rounds:
                return
            s = s._replace(left=_less(s.left, "rounds"))
        fenced = tuple(sorted({*s.fenced, *c.dead}))
        after = self._act(s._replace(fenced=fenced), number, c._replace(asked=asked), view, actions)
        if after.messages != s.messages or after.writes != s.writes or asked != c.asked:
            yield ("controller", number, "decides", *actions, "by", view), after

    def _act(self, s: State, number: int, c: Controller, view: View, actions: tuple[Any, ...]) -> State:
        """Carry out, up to what must be waited for."""
        sent = set(s.messages)
        for position, (kind, what) in enumerate(actions):
            if kind == "send":
                sent.update(_sent(view, what))
                continue
            if kind == "status" and what.target > self.last_attempt:
                break  # that far, and no further
            requests = [(view.record.version, what)] if kind == "status" else what
            writes = [*s.writes, *(Write(number, kind, request) for request in requests)]
            s = s._replace(writes=tuple(sorted(writes)), messages=tuple(sorted(sent)))
            return _with(s, number, c._replace(rest=actions[position + 1 :]))
        return _with(s._replace(messages=tuple(sorted(sent))), number, c._replace(rest=None))

    def _planned(
        self, view: View, asked: Asked | None, writer: tuple[int, int], ticket: int, late: int
    ) -> tuple[tuple[Any, ...], Asked | None]:
        """What production would do: its actions, and its ping round from then on. `late` is a rank whose deadline has
        passed, -1 if none has."""
        record, pods, sessions, dead = view
        lives = {session.told.uid: _life_view(session, dead, pods) for session in sessions}
        members = tuple(
            Member(
                rank=slot.rank,
                pod_name=slot.pod_name,
                trainer=slot.trainer,
                pod=_pod_view(pod) if pod else None,
                node=_node_view(pod.uid, dead) if pod else None,
                life=lives.get(pod.uid) if pod else None,
            )
            for slot, pod in zip(self._gang.slots, pods, strict=True)
        )
        known = {pod.uid for pod in pods if pod}
        zombies = [Zombie(rank=uid[0], life=life) for uid, life in lives.items() if uid not in known and life.connected]
        memory = Memory(round=_round(asked) if asked else None)
        if late >= 0:
            member = members[late]
            can_be_told = member.life is not None and member.life.connected
            aspect = (member.pod.uid if member.pod else "", member.at_barrier, can_be_told)
            memory = Memory(round=memory.round, waiting={late: (aspect, -1e6)})
        decided = planning.plan(
            Snapshot(
                gang=self._gang,
                generation=1,
                status=_status(record),
                members=members,
                now=NOW,
                writer=_writer(writer),
                fresh_ticket=str(1 if "ticket" in self.without else ticket),
                acceptance=Acceptance(),
                zombies=zombies,
            ),
            memory,
        )
        actions = tuple(a for action in decided.actions if (a := _action(action, record, writer)) is not None)
        after = decided.memory.round if decided.memory else memory.round
        return actions, _asked(after) if after else None

    # The API server

    def _written(self, s: State, write: Write) -> Move:
        """A request arrives: it is carried out or refused, and its sender, if it still waits, is told."""
        writes = list(s.writes)
        writes.remove(write)
        s, good = self._apply(s._replace(writes=tuple(writes)), write)
        label = (write, "is carried out" if good else "is refused")
        if write.sender == CONTROLLERS:
            return label, s
        c = s.controllers[write.sender]
        if write.kind == "status":
            c = c._replace(record=s.record.version)  # as written, or read again
        elif good:
            rank = write.what[0][0]
            c = c._replace(pods=_put(c.pods, rank, s.pods[rank][-1].version))
        c = c._replace(failed=c.failed or not good)
        if any(w.sender == write.sender for w in s.writes):
            return label, _with(s, write.sender, c)
        rest = () if c.failed else c.rest or ()
        known = tuple(next((x.pod for x in of if x.version == c.pods[r]), None) for r, of in enumerate(s.pods))
        view = View(s.record, known, c.sessions, c.dead)
        return label, self._act(s, write.sender, c._replace(rest=None, failed=False), view, rest)

    def _apply(self, s: State, write: Write) -> tuple[State, bool]:
        if write.kind == "status":
            version, wanted = write.what
            if version != s.record.version and "compare-and-swap" not in self.without:
                return s, False
            return _recorded(s, wanted._replace(version=s.record.version + 1)), True
        if write.kind == "create":
            (rank, _), attempt = write.what
            if s.pod(rank) is not None:
                return s, True  # it is ours: as good as created
            uid = (rank, 1 + max((uid[1] for uid in _uids(s) if uid[0] == rank), default=-1))
            lives = tuple(sorted((*s.lives, Life(uid, 1))))
            return _changed(s._replace(lives=lives), rank, Pod(uid, attempt)), True
        uid, deleting, at_once = write.what
        there = s.pod(uid[0])
        if there is None or there.uid != uid or there.deleting != deleting:
            return s, False
        return _changed(s, uid[0], None if at_once else there._replace(deleting=True)), True

    # Lives

    def _arrives(self, s: State, message: Message) -> Iterator[Move]:
        life = next((v for v in s.lives if v.uid == message.uid and v.number == message.number), None)
        if life is None or life.restarting:
            return
        after = self._reactions(life, message)
        if after == life:
            return
        if after.attempt > life.attempt:
            if s.record.released < after.attempt:
                raise Violation(f"S3: rank {life.uid[0]} is let into {after.attempt} before that is released")
            if s.committed[after.attempt] != after.promise[1]:
                raise Violation(f"S10: rank {life.uid[0]} is let into {after.attempt} with another ticket")
        yield (message, "arrives"), _living(s, life, after)

    def _reacted(self, life: Life, message: Message) -> Life:
        """The life after that message. Its agent is made anew from its files each time: one that dies alone, even
        between two of its actions, changes nothing."""
        machine = _machine(life)
        received: messages.Message
        match message.kind:
            case "ping":
                received = messages.Ping(message.attempt, str(message.ticket))
            case "release":
                received = messages.Release(message.attempt, str(message.ticket))
                machine._ponged_at = 0.0
            case _:
                received = messages.Reset(message.attempt)
        after = life
        actions: list[Action] = machine.on_message(received, 0.0)
        for action in actions:
            match action:
                case Persist(attempt, ticket):
                    floor = 0 if "promise" in self.without else attempt
                    after = after._replace(promise=(attempt, int(ticket)), floor=floor)
                case OpenGate(attempt):
                    after = after._replace(attempt=attempt)
                case RestartAll():
                    after = after._replace(restarting=True)
        return after

    def _of_life(self, s: State, life: Life) -> Iterator[Move]:
        who, left = ("pod", life.uid), s.left
        if life.attempt and not life.trains and not life.restarting:
            yield (*who, "starts its trainer"), self._started(s, life)
        if life.restarting:
            again = self._next_life(life)
            yield (*who, "is restarted"), _living(s, life, again)
        elif left.exits:
            ended = life._replace(trains=0, restarting=True)
            yield (*who, "one of its containers exits"), _living(s, life, ended)._replace(left=_less(left, "exits"))
        pod = s.pod(life.uid[0])
        if pod is not None and pod.uid == life.uid and pod.deleting and life.uid not in s.dark:
            gone = s._replace(lives=tuple(v for v in s.lives if v.uid != life.uid))
            yield (*who, "has ended"), _changed(gone, life.uid[0], None)
        if life.uid in s.dark or not (left.deaths or left.dark):
            return
        if left.dark:
            dark = tuple(sorted({*s.dark, life.uid}))
            yield (*who, "its node goes dark"), s._replace(dark=dark, left=_less(left, "dark"))
        if left.deaths:
            lives = tuple(v for v in s.lives if v.uid != life.uid)
            dark = tuple(sorted({*s.dark, life.uid}))
            yield (*who, "its node dies"), s._replace(lives=lives, dark=dark, left=_less(left, "deaths"))

    def _next_life(self, life: Life) -> Life:
        if "life-id" in self.without:
            return life._replace(trains=0, restarting=False, attempt=0)
        return Life(life.uid, life.number + 1, NOTHING, life.floor)

    def _started(self, s: State, life: Life) -> State:
        rank, attempt = life.uid[0], life.attempt
        after = _living(s, life, life._replace(trains=attempt))
        if s.record.released < attempt:
            raise Violation(f"S3: rank {rank} starts {attempt} before that is released")
        if life.uid in s.fenced:
            return after
        if attempt < s.record.released:
            raise Violation(f"S1: rank {rank} starts {attempt} after {s.record.released} was released")
        for other in s.lives:
            if other.uid[0] == rank and other.uid != life.uid and other.trains and other.uid not in s.fenced:
                raise Violation(f"S5: two trainers of rank {rank} run")
        if s.started[rank] & 1 << attempt:
            raise Violation(f"S2: rank {rank} starts {attempt} a second time")
        return after._replace(started=_put(s.started, rank, s.started[rank] | 1 << attempt))


def _befalls_pods(s: State) -> Iterator[Move]:
    for rank in range(len(s.pods)):
        pod = s.pod(rank)
        if pod and s.left.deletes and not pod.deleting:
            after = s._replace(left=_less(s.left, "deletes"))
            yield ("somebody deletes the pod of rank", rank), _changed(after, rank, pod._replace(deleting=True))


def _recorded(s: State, record: Record) -> State:
    if record.target < s.record.target or record.released < s.record.released:
        raise Violation(f"S10: {record.target}, {record.released} follows {s.record.target}, {s.record.released}")
    if record.released > s.record.released:
        for life in s.lives:
            if life.trains and life.trains < record.released and life.uid not in s.fenced:
                raise Violation(f"S1: {record.released} is released while rank {life.uid[0]} runs {life.trains}")
        skipped = (0,) * (record.released - len(s.committed))
        s = s._replace(committed=(*s.committed, *skipped, record.ticket))
    return s._replace(records=(*s.records, record))


# ---- small changes of a state ----


def _with(s: State, number: int, controller: Controller, *, abandon: bool = False) -> State:
    """`abandon`: nobody waits any more for what it has asked the API server."""
    s = s._replace(controllers=_put(s.controllers, number, controller))
    if abandon and s.writes:
        writes = (w._replace(sender=CONTROLLERS) if w.sender == number else w for w in s.writes)
        s = s._replace(writes=tuple(sorted(writes)))
    return s


def _living(s: State, before: Life, after: Life) -> State:
    """What its agent had told may still be on its way."""
    told = set(s.told)
    if not before.restarting:
        told.add(Told(before.uid, before.number, before.attempt, before.promise))
    lives = tuple(sorted((*(v for v in s.lives if v != before), after)))
    return s._replace(lives=lives, told=tuple(sorted(told)))


def _changed(s: State, rank: int, pod: Pod | None) -> State:
    history = s.pods[rank]
    return s._replace(pods=_put(s.pods, rank, (*history, Seen(history[-1].version + 1, pod))))


def _less(left: Bounds, what: str) -> Bounds:
    return left._replace(**{what: getattr(left, what) - 1})


def _put(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    return (*items[:index], item, *items[index + 1 :])


def _sent(view: View, what: tuple[str, tuple[Uid, ...], int, int]) -> Iterator[Message]:
    """As the rendezvous does: to whom it makes sense, over the stream of the life that was heard last."""
    kind, uids, attempt, ticket = what
    members = {pod.uid for pod in view.pods if pod}
    for session in view.sessions:
        told = session.told
        if told.uid not in uids or not session.connected or (kind != "reset" and told.uid not in members):
            continue
        if (0 < told.attempt < attempt) if kind == "reset" else told.attempt == 0:
            yield Message(kind, told.uid, told.number, attempt, ticket)


def _uids(s: State) -> set[Uid]:
    """Of all pods that anybody may still speak of."""
    there = {life.uid for life in s.lives} | {seen.pod.uid for of in s.pods for seen in of if seen.pod}
    there |= {*s.fenced, *s.dark} | {told.uid for told in s.told}
    there |= {session.told.uid for c in s.controllers for session in c.sessions}
    there |= {uid for record in s.records for uid, _ in record.replacing}
    return there | {write.what[0] for write in s.writes if write.kind == "delete"}


# ---- to and from production's types ----


def _gang(ranks: int) -> Gang:
    template = {"spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]}}
    budgets = Budgets(
        application=ApplicationBudget(restarts=1000, without_progress=1000), node=NodeBudget(restarts=1000)
    )
    recovery = Recovery(budgets=budgets, unhealthy_ceiling="100%")
    spec = GangSpec(groups=[Group(name="worker", size=ranks, template=template)], recovery=recovery)
    return Gang(namespace="default", name="llm", uid="gang", spec=spec)


def _name(uid: Uid) -> str:
    return f"{uid[0]}-{uid[1]}"


def _uid(name: str) -> Uid:
    rank, _, number = name.partition("-")
    return int(rank), int(number)


def _writer(writer: tuple[int, int]) -> str:
    return f"controller-{writer[0]}/{writer[1]}" if writer[1] else ""


def _promise(held: Held) -> Promise | None:
    return Promise(attempt=held[0], ticket=str(held[1])) if held != NOTHING else None


def _held(promise: Promise) -> Held:
    return promise.attempt, int(promise.ticket)


def _machine(life: Life) -> Machine:
    promise = messages.Promised(life.promise[0], str(life.promise[1])) if life.promise != NOTHING else None
    machine = Machine(str(life.number), 0.0, promise, life.attempt)
    machine.floor = life.floor  # which is what the files say, unless promises are forgotten
    return machine


def _pod_view(pod: Pod) -> PodView:
    return PodView(
        name=f"llm-worker-{pod.uid[0]}",
        uid=_name(pod.uid),
        version=str(int(pod.deleting)),
        attempt=pod.attempt,
        node=f"node-{_name(pod.uid)}",
        phase="Running",
        deleting=pod.deleting,
    )


def _node_view(uid: Uid, dead: tuple[Uid, ...]) -> Node:
    is_dead = uid in dead
    return Node(name=f"node-{_name(uid)}", silent=is_dead, still_s=1e6 if is_dead else 0.0)


def _life_view(session: Session, dead: tuple[Uid, ...], pods: tuple[Pod | None, ...]) -> LifeView:
    told = session.told
    coordinator = pods[0]
    return LifeView(
        uid=_name(told.uid),
        life_id=str(told.number),
        started_at=0.0,
        attempt=told.attempt,
        promise=_promise(told.promise),
        connected=session.connected and told.uid not in dead,
        silent=told.uid in dead,
        reaches=_name(coordinator.uid) if coordinator else "",
    )


def _status(record: Record) -> GangStatus:
    replacing = [
        Replacing(rank=uid[0], uid=_name(uid), node=f"node-{_name(uid)}" if bad else "", bad=bad)
        for uid, bad in record.replacing
    ]
    attempt = AttemptRecord(
        target=record.target,
        released=record.released,
        ticket=str(record.ticket) if record.ticket else "",
        cause=Cause(scope="Unknown", rule="unknown", message="something") if record.target else None,
        replacing=replacing,
        writer=_writer(record.writer),
    )
    ended = Condition(type="Failed", status="True", reason="", message="", last_transition_time="")
    return GangStatus(attempt=attempt, conditions=[ended] if record.ended else [])


def _round(asked: Asked) -> steps.Round:
    held, lives = asked
    promise = _promise(held)
    assert promise is not None
    return steps.Round(promise, frozenset((_name(uid), str(number)) for uid, number in lives))


def _asked(of: steps.Round) -> Asked:
    return _held(of.promise), tuple(sorted((_uid(uid), int(number)) for uid, number in of.lives))


def _action(action: planned.Action, seen: Record, writer: tuple[int, int]) -> tuple[str, Any] | None:
    """An action of production's as this world knows it: what is sent, or what is asked of the API server."""
    match action:
        case planned.WriteStatus(status):
            wanted = _record(status, writer)
            return None if wanted == seen else ("status", wanted)
        case planned.CreatePods(slots, attempt):
            return "create", tuple(((slot.rank, 0), attempt) for slot in slots)
        case planned.DeletePods(pods):
            return "delete", tuple((_uid(p.uid), p.version == "1", p.grace_s == 0) for p in pods)
        case planned.Reset(uids, attempt):
            return "send", ("reset", tuple(map(_uid, uids)), attempt, 0)
        case planned.Ping(uids, promise):
            return "send", ("ping", tuple(map(_uid, uids)), *_held(promise))
        case planned.Release(uids, promise):
            return "send", ("release", tuple(map(_uid, uids)), *_held(promise))
        case _:
            return None


def _record(status: GangStatus, writer: tuple[int, int]) -> Record:
    record = status.attempt
    assert record.writer == _writer(writer)
    return Record(
        target=record.target,
        released=record.released,
        ticket=int(record.ticket or 0),
        replacing=tuple((_uid(r.uid), r.bad) for r in record.replacing),
        writer=writer,
        version=0,
        ended=status.finished,
    )


def _tickets(s: State) -> set[int]:
    """All that anybody may still speak of."""
    found = {0, *s.committed} | {record.ticket for record in s.records}
    found |= {life.promise[1] for life in s.lives} | {told.promise[1] for told in s.told}
    found |= {message.ticket for message in s.messages}
    found |= {write.what[1].ticket for write in s.writes if write.kind == "status"}
    for c in s.controllers:
        found |= {session.told.promise[1] for session in c.sessions}
        if c.asked:
            found.add(c.asked[0][1])
        for kind, what in c.rest or ():
            found.add(what.ticket if kind == "status" else what[3] if kind == "send" else 0)
    return found


# ---- one of all states that are the same ----


def canonical(s: State, protocol: Protocol) -> State:
    """The same state without what can make no difference any more, and with small numbers: of tickets, versions and
    lives only their order counts."""
    s = _forgetting(s, "fresh-view" in protocol.without)
    tickets, lives = _ranking(_tickets(s)), _ranking_of_lives(s)
    versions = _ranking({0, *(r.version for r in s.records), *(w.what[0] for w in s.writes if w.kind == "status")})
    of_pods = tuple(_ranking({0, *(seen.version for seen in of)}) for of in s.pods)
    if tickets is None and versions is None and lives is None and not any(of_pods):
        return s
    return _Renamed(tickets or {}, versions or {}, lives or {}, tuple(each or {} for each in of_pods)).state(s)


def _forgetting(s: State, anybody: bool) -> State:
    """Without what nobody can see, hear or act on any more; `anybody`: also of those who never led."""
    leaders = tuple(c for c in s.controllers if c.term or anybody)
    oldest = min(c.record for c in leaders)
    records = tuple(r for r in s.records[:-1] if r.version >= oldest)
    pods = []
    for rank, of in enumerate(s.pods):
        oldest = min(c.pods[rank] for c in leaders)
        pods.append((*(seen for seen in of[:-1] if seen.version >= oldest), of[-1]))
    return s._replace(
        records=(*records, s.record),
        pods=tuple(pods),
        messages=tuple(m for m in s.messages if _may_matter(s, m)),
        told=_may_be_heard(s),
    )


def _may_matter(s: State, m: Message) -> bool:
    """Whether the life it is for may ever act on it."""
    life = next((v for v in s.lives if v.uid == m.uid and v.number == m.number and not v.restarting), None)
    if life is None:
        return False
    if m.kind == "reset":
        return m.attempt > max(life.attempt, life.floor if not life.attempt else 0, 1) and m.attempt >= life.floor
    return life.attempt == 0 and m.attempt >= life.floor


def _may_be_heard(s: State) -> tuple[Told, ...]:
    now = {Told(v.uid, v.number, v.attempt, v.promise) for v in s.lives if not v.restarting}
    known = [{x.told.uid: x.told.number for x in c.sessions} for c in s.controllers if c.term]
    alive = {(v.uid, v.number) for v in s.lives}

    def matters(told: Told) -> bool:
        if told in now:
            return False
        if (told.uid, told.number) in alive:
            return True
        return any(of.get(told.uid, told.number + 1) <= told.number for of in known)

    return tuple(told for told in s.told if matters(told))


def _ranking(numbers: set[int]) -> dict[int, int] | None:
    """Their places; None if they are their places."""
    if max(numbers) == len(numbers) - 1:
        return None
    return {number: place for place, number in enumerate(sorted(numbers))}


def _ranking_of_lives(s: State) -> dict[Uid, dict[int, int]] | None:
    found: dict[Uid, set[int]] = {}
    for uid, number in _numbers(s):
        found.setdefault(uid, {0}).add(number)
    places = {uid: place for uid, numbers in found.items() if (place := _ranking(numbers))}
    return places or None


def _numbers(s: State) -> Iterator[tuple[Uid, int]]:
    for life in s.lives:
        yield life.uid, life.number
    for told in s.told:
        yield told.uid, told.number
    for message in s.messages:
        yield message.uid, message.number
    for c in s.controllers:
        for session in c.sessions:
            yield session.told.uid, session.told.number
        if c.asked:
            yield from c.asked[1]


class _Renamed:
    """With other numbers."""

    def __init__(
        self,
        tickets: dict[int, int],
        versions: dict[int, int],
        lives: dict[Uid, dict[int, int]],
        of_pods: tuple[dict[int, int], ...],
    ) -> None:
        self._tickets = tickets
        self._versions = versions
        self._lives = lives
        self._of_pods = of_pods

    def state(self, s: State) -> State:
        return s._replace(
            records=tuple(map(self._record, s.records)),
            pods=tuple(
                tuple(seen._replace(version=places.get(seen.version, seen.version)) for seen in of)
                for of, places in zip(s.pods, self._of_pods, strict=True)
            ),
            lives=tuple(
                v._replace(number=self._number(v.uid, v.number), promise=self._held(v.promise)) for v in s.lives
            ),
            controllers=tuple(self._controller(c) for c in s.controllers),
            told=tuple(sorted(self._told(told) for told in s.told)),
            messages=tuple(
                sorted(
                    m._replace(number=self._number(m.uid, m.number), ticket=self._ticket(m.ticket)) for m in s.messages
                )
            ),
            writes=tuple(sorted(self._write(w) for w in s.writes)),
            committed=tuple(map(self._ticket, s.committed)),
        )

    def _ticket(self, ticket: int) -> int:
        return self._tickets.get(ticket, ticket)

    def _record(self, r: Record) -> Record:
        return r._replace(ticket=self._ticket(r.ticket), version=self._version(r.version))

    def _version(self, version: int) -> int:
        return self._versions.get(version, version) if self._versions else version

    def _held(self, held: Held) -> Held:
        return held[0], self._ticket(held[1])

    def _number(self, uid: Uid, number: int) -> int:
        places = self._lives.get(uid)
        return places[number] if places else number

    def _told(self, told: Told) -> Told:
        return told._replace(number=self._number(told.uid, told.number), promise=self._held(told.promise))

    def _write(self, w: Write) -> Write:
        if w.kind != "status":
            return w
        version, wanted = w.what
        return w._replace(what=(self._version(version), wanted._replace(ticket=self._ticket(wanted.ticket))))

    def _controller(self, c: Controller) -> Controller:
        asked = c.asked
        if asked:
            asked = self._held(asked[0]), tuple((uid, self._number(uid, number)) for uid, number in asked[1])
        return c._replace(
            record=self._version(c.record),
            pods=tuple(places.get(v, v) for v, places in zip(c.pods, self._of_pods, strict=False)),
            sessions=tuple(session._replace(told=self._told(session.told)) for session in c.sessions),
            asked=asked,
            rest=tuple(map(self._rest, c.rest)) if c.rest else c.rest,
        )

    def _rest(self, action: tuple[str, Any]) -> tuple[str, Any]:
        kind, what = action
        if kind == "status":
            return kind, what._replace(ticket=self._ticket(what.ticket))
        return (kind, (*what[:3], self._ticket(what[3]))) if kind == "send" else action
