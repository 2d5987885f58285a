"""What happens in a simulated world, one event after the other, told to whoever listens: oracle, triggers, timeline.

Ground truth comes from what the simulated kubelets ran and what the API server committed, never from what the
controller believes. Listeners are called synchronously, in their order, and must not change the world.

Times are seconds of virtual time since the world began. Objects of the API are plain JSON values, and are never changed
in place: `before` and `after` may be kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fleetctl.rendezvous.messages import Message

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerStarted(Event):
    """A trainer's process began. `attempt` is what it was told to run; `ticket` what its agent had promised last."""

    gang: Key
    rank: int
    attempt: int
    uid: str
    pod: str
    node: str
    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerEnded(Event):
    """A trainer's process is gone.

    `why`: itself (it exited, or a fault killed it), restart (RestartAllContainers of its pod), pod (its pod is being
    deleted), node (the machine lost all its processes).
    """

    gang: Key
    rank: int
    attempt: int
    uid: str
    pod: str
    node: str
    exit_code: int
    why: Literal["itself", "restart", "pod", "node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarting(Event):
    """A kubelet began to restart all containers of a pod in place; `by` is the container whose exit asked for it, and
    `exit_code` how that ended."""

    gang: Key
    rank: int
    uid: str
    node: str
    by: str
    exit_code: int


Verb = Literal["create", "update", "patch", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote(Event):
    """The API server committed a change.

    `actor` is who asked: `controller/<identity>` (all connections of one controller process), `kubelet/<node>`,
    `scheduler`, `node-lifecycle`, `pod-gc`, `garbage-collector`, or `somebody` (people and the scenario). `before` is
    None for a new object, `after` for one that is gone. A delete with grace leaves `after` with a deletionTimestamp;
    the object goes later, by an event of its own (verb delete, by whoever finished it).
    """

    actor: str
    verb: Verb
    plural: str
    namespace: str
    name: str
    subresource: str = ""
    before: Object | None
    after: Object | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Event):
    """The API server answered the last page of a list."""

    actor: str
    plural: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHeard(Event):
    """A line of a controller has reached the agent of this pod, which acts on it now. (Ping, Release, Reset, Prove.)"""

    uid: str
    node: str
    message: Message


Family = Literal["api", "stale", "process", "node", "pod", "agent", "people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted(Event):
    """A fault of the scenario begins or ends. `text` is one sentence; empty tuples: it names no rank, or no node.

    `fences`: from now on what runs on these nodes, or in these pods (uids), may go on although the API server has
    deleted it: darkness, a freeze, a deletion by force.
    """

    fault: str
    family: Family
    phase: Literal["begins", "ends"]
    text: str
    ranks: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    fences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessChanged(Event):
    """A controller process started, crashed, froze, went on, began or ceased to lead."""

    process: str
    what: Literal["starts", "crashes", "freezes", "goes on", "leads", "leads no more", "stops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calmed(Event):
    """The gang has run undisturbed for a while, and so many faults have begun so far. Told only if a fault waits for
    it."""

    faults: int


Listener = Callable[[Event], None]


class Journal:
    """Tells every listener every event."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
