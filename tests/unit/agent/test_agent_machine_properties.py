"""Whatever arrives and wherever the agent crashes: what must hold of machine and files together."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetctl.agent.files import Files
from fleetctl.agent.machine import DialCoordinator, Machine, OpenGate, Persist, RestartAll, Send
from fleetctl.rendezvous.messages import Ping, Pong, Prove, Release, Released, Reset

ATTEMPTS, TICKETS = st.integers(1, 4), st.sampled_from("tu")
MESSAGES = st.one_of(
    st.builds(Ping, ATTEMPTS, TICKETS),
    st.builds(Release, ATTEMPTS, TICKETS),
    st.builds(Reset, ATTEMPTS),
    st.builds(Prove, st.sampled_from(["life-1", "life-2"])),
)
# `done`: how many of the message's actions are carried out before the agent crashes; 9 is all of them
STEPS = st.one_of(
    st.tuples(st.just("hear"), MESSAGES, st.sampled_from([9, 9, 9, 9, 0, 1])),
    st.tuples(st.just("hear pinged release"), st.just(None), st.just(9)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 2.0, 4.9, 6.0]), st.just(9)),
    st.tuples(st.just("crash"), st.just(None), st.just(9)),
    st.tuples(st.just("new life"), st.just(None), st.just(9)),
)


class Pod:
    """A pod's agent on real files, with an observer that remembers more than the agent does."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.now, self.lives = directory, 0.0, 0
        self.starts: list[tuple[str, int]] = []
        self.pinged: list[tuple[str, int, str]] = []  # in which life
        self.pongs: dict[tuple[int, str], float] = {}  # of this process
        self.promised = 0
        self.new_life()

    def new_life(self) -> None:
        self.lives += 1
        self.gate_open = False
        (self.directory / "life").write_text(f"life-{self.lives}\n")
        self.boot()

    def boot(self) -> None:
        self.pongs = {}
        self.files = Files(str(self.directory), str(self.directory), say=lambda line: None)
        memory = self.files.load()
        self.machine = Machine(*memory)
        if memory.released_attempt and not self.gate_open:
            self.gate_open = True

    def on_disk(self, name: str) -> tuple[object, ...]:
        path = self.directory / name
        return tuple(json.loads(path.read_text()).values()) if path.exists() else ()

    def hear(self, message, done: int) -> None:
        if isinstance(message, Ping):
            self.pinged.append((self.machine.life_id, *message))
        actions = self.machine.on_message(message, self.now)
        if isinstance(message, Prove):
            assert repr(actions) == repr([DialCoordinator(message.life_id)]), "a proof is about the path, nothing else"
            return
        for action in actions[:done]:
            self.carry_out(action)
        if done < len(actions):
            self.boot()

    def carry_out(self, action) -> None:
        life = self.machine.life_id
        match action:
            case Persist(attempt, ticket):
                assert attempt >= self.promised, "a promised attempt decreased"
                self.promised = attempt
                self.files.keep_promise(attempt, ticket)
            case Send(Pong(attempt, ticket)):
                assert self.on_disk("promise") == (life, attempt, ticket), "ponged before it was persisted"
                assert not self.gate_open, "a running life promised"
                self.pongs[attempt, ticket] = self.now
            case OpenGate(attempt):
                self.start(life, attempt)
                self.files.keep_release(attempt)
            case Send(Released(attempt)):
                assert self.on_disk("released") == (life, attempt)
                assert self.gate_open, "acknowledged before the gate opened"
            case RestartAll(attempt):
                assert self.gate_open
                assert attempt > self.machine.attempt
                self.new_life()

    def start(self, life: str, attempt: int) -> None:
        assert life not in [earlier for earlier, _ in self.starts], "a life started twice"
        owner, promised, ticket = self.on_disk("promise")
        assert (owner, promised) == (life, attempt), "started without a persisted promise"
        assert (life, attempt, ticket) in self.pinged, "started for a ticket nobody pinged"
        assert self.now - self.pongs[attempt, ticket] <= 5, "started on a stale pong"
        assert attempt == self.promised, "started below what was promised"
        self.gate_open = True
        self.starts.append((life, attempt))


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_nothing_starts_that_was_not_pinged_promised_persisted_and_fresh(steps):
    with tempfile.TemporaryDirectory() as directory:
        pod = Pod(Path(directory))
        for step, value, done in steps:
            match step:
                case "hear":
                    pod.hear(value, done)
                case "hear pinged release" if pod.pinged:
                    pod.hear(Release(*pod.pinged[-1][1:]), done)
                case "wait":
                    pod.now += value
                case "crash":
                    pod.boot()
                case "new life":
                    pod.new_life()
