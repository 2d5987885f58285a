"""What decisions read: frozen views of members, lives and pods.

Made from API objects by `controller/views.py` and from agents' messages by `rendezvous/`; nothing here knows either.
Times are Unix seconds. Those of a pod and of its agent come from the same machine's clock and may be compared with
each other; with anything else they may not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Seconds = float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What an agent has persisted: it accepts nothing below this attempt, and may run it if the ticket commits."""

    attempt: int
    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What something on the node said of its hardware: a line in the pod's volume (`agent/hardware.py`).

    `code` is its kind and number, `xid-79`; `at` is of the node's clock.
    """

    code: str
    device: str = ""
    text: str = ""
    at: Seconds = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How far the trainer of one rank is, as its agent tells, in the current life.

    `step` is the last that was heard; `at` when it was first heard of, seconds of our own monotonic clock; `mean_s` how
    long a step takes it, 0 while that is not known; `work_s` how much of that it works itself, by its own account.
    `paused`: it says that it makes no steps on purpose.
    """

    step: int
    at: Seconds
    mean_s: Seconds = 0.0
    work_s: Seconds = 0.0
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One life of a pod's containers, as its agent tells it.

    `attempt` is the attempt this life was released into, 0 while it waits at the barrier. `leaving` is true once the
    agent said goodbye (SIGTERM). A `Life` exists only while its stream is open or has just been lost; `connected`
    tells which. `silent`: nothing was heard for two beats, or the stream broke off unexpectedly. `reaches`: uid of the
    coordinator's pod that this pod has reached through the coordinator's Service. `floor`: its pod had promised that
    attempt when it said hello, perhaps in an earlier life, and accepts nothing below. `hardware`: the latest reports,
    those of earlier lives too.
    """

    uid: str
    life_id: str
    started_at: Seconds
    attempt: int = 0
    promise: Promise | None = None
    floor: int = 0
    leaving: bool = False
    connected: bool = True
    silent: bool = False
    reaches: str = ""
    hardware: tuple[Report, ...] = ()

    @property
    def waits(self) -> bool:
        return self.attempt == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended (`state.terminated`)."""

    exit_code: int
    reason: str = ""
    signal: int = 0
    finished_at: Seconds = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a pod. `unhealthy`: its devices that the kubelet calls so (`nvidia.com/gpu GPU-3`)."""

    name: str
    running: bool = False
    waiting_reason: str = ""
    ended: Ended | None = None
    unhealthy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A member's pod as the API server knows it.

    `version` is its resourceVersion; `attempt` the one it was created for. `disruption`: the reason of its condition
    DisruptionTarget (an eviction, a preemption). `restarting_since`: when the condition AllContainersRestarting became
    True, None while it is not. `avoids`: names of nodes that it must not go to. `containers`: the user's regular ones
    and sidecars; `preparing`: the init container the pod is at, or that failed, ours included.
    """

    name: str
    uid: str
    version: str = ""
    attempt: int = 0
    ours: bool = True
    node: str = ""
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    disruption: str = ""
    unschedulable: bool = False
    avoids: tuple[str, ...] = ()
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    restarting_since: Seconds | None = None
    containers: tuple[Container, ...] = ()
    preparing: Container | None = None

    @property
    def terminal(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """A failure on a node that may have been the node's fault. Kept on the Node, so it survives reboots and gangs.

    `at` is Unix time of the controller's clock; `who` is namespace/gang/rank.
    """

    at: Seconds
    rule: str
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine that a member is bound to, as far as anybody can tell.

    `exists`: there is a Node object; `ready` the status of its condition Ready; `taints` their keys. `silent`: no agent
    on it can be heard, though at least one should be. `still_s`: for how long its kubelet's Lease was seen not to move
    while another node's did; seconds of our own observation, begun anew by any progress of the gang. `conditions`: the
    types of its conditions that are True, but for Ready. `domains`: the failure domains it is in, the widest first
    (`topology.kubernetes.io/zone=a`). `strikes`: the latest last. `quarantined`: new pods of gangs are kept off it, by
    us; no evidence of anything.
    """

    name: str
    exists: bool = True
    ready: str = "True"
    taints: frozenset[str] = frozenset()
    silent: bool = False
    still_s: Seconds = 0.0
    conditions: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    strikes: tuple[Strike, ...] = ()
    quarantined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """A placeholder pod that keeps room for one rank of its group. `ready`: all its containers run on a node. `over`:
    it has ended, or was put out. `on` is its node, None while it has none."""

    name: str
    uid: str
    version: str
    group: str
    ready: bool = False
    over: bool = False
    deleting: bool = False
    on: Node | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One rank: its pod, the node that is bound to, and what its agent said of the pod's current life. `avoided`: nodes
    that the pod must not go to, while it has none.

    `trainer` is the container's name, `group` the name of the rank's group. Whoever keeps members from one look at the
    gang to the next keeps with them what follows from them: thousands are looked at many times a second.
    """

    rank: int
    pod_name: str
    trainer: str
    pod: Pod | None = None
    node: Node | None = None
    life: Life | None = None
    avoided: tuple[Node, ...] = ()
    group: str = ""

    @property
    def succeeded(self) -> bool:
        return self.pod is not None and self.pod.phase == "Succeeded"

    @cached_property
    def at_barrier(self) -> bool:
        """Whether the current life stands at the barrier: it waits, and its agent can be talked to."""
        life, pod = self.life, self.pod
        return (
            life is not None
            and life.waits
            and life.connected
            and not life.leaving
            and pod is not None
            and not pod.deleting
            and not pod.terminal
        )

    @cached_property
    def lost_track_of(self) -> bool:
        """Whether nothing is known of an agent, and the trainer does not run."""
        pod = self.pod
        if pod is None or pod.deleting or pod.terminal or self.life is not None:
            return False
        return any(container.name == self.trainer and not container.running for container in pod.containers)

    @cached_property
    def latest_attempt(self) -> int:
        """The latest one of this gang that its pod or its agent speaks of."""
        pod, life = self.pod, self.life
        if pod is None or not pod.ours:
            return 0
        told = (life.attempt, life.floor, life.promise.attempt if life.promise else 0) if life else ()
        return max(pod.attempt, *told, 0)

    @cached_property
    def shows(self) -> Literal["Nothing", "End", "More"]:
        """What a diagnosis could follow from, in the pod and its node, but for time, and for a restart of all
        containers: nothing, while the pod goes on and the node is there; the end of a container alone; or more. Taints,
        conditions, silence and reports of hardware may mean nothing: those are the rules' business."""
        pod, node = self.pod, self.node
        if pod is None or pod.deleting or pod.phase not in ("Pending", "Running"):
            return "More"
        if node is not None and not node.exists:
            return "More"
        end = False
        for container in pod.containers:
            if container.unhealthy:
                return "More"
            end = end or container.ended is not None
        return "End" if end else "Nothing"

    @cached_property
    def kept(self) -> dict[object, Any]:
        """What others have worked out from this member alone, by whatever they know it by."""
        return {}

    def holds(self, promise: Promise) -> bool:
        """Whether the current life has persisted exactly this promise."""
        return self.life is not None and self.life.promise == promise


@dataclass(frozen=True, slots=True, kw_only=True)
class Zombie:
    """A pod of that rank that was deleted or replaced and yet has an agent that speaks: perhaps its node was frozen."""

    rank: int
    life: Life

    @property
    def runs(self) -> bool:
        """Whether its trainer may be running now."""
        return not self.life.waits and not self.life.silent


Rung = Literal["InPlace", "RecreatePod", "RecreateGang"]


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Verdict:
    """What failed, judged from evidence. `fatal`: a user rule says that the gang must end.

    `scope` is where the fault lies: in a Container on a good machine, in the Node, or Unknown. `rung` is how hard it
    must be hit: RecreatePod if the pod cannot come back in place. `node` is the machine that the next pod must avoid;
    `dead` that it is proven dead, so that nobody there needs to be waited for. `strikes` is the machine that this
    counts against, though it does not prove anything; "" for none. `since` is of that machine's clock, 0 if nobody
    knows. `follows`: ranks usually end like this because another has failed.
    """

    scope: Literal["Container", "Node", "Unknown"]
    rule: str
    rank: int
    because: str
    since: Seconds = 0
    fatal: bool = False
    rung: Rung = "InPlace"
    node: str = ""
    dead: bool = False
    strikes: str = ""
    follows: bool = False

    @property
    def what(self) -> str:
        """What was seen, whoever it is about: `exited 139 (SIGSEGV)`."""
        return self.because.removeprefix(f"rank {self.rank} ")

    def against_no_machine(self) -> "Verdict":
        """The same, and nothing that counts against a machine. By hand, because thousands may fail alike."""
        return Verdict(
            scope=self.scope,
            rule=self.rule,
            rank=self.rank,
            because=self.because,
            since=self.since,
            fatal=self.fatal,
            rung=self.rung,
            node=self.node,
            dead=self.dead,
            follows=self.follows,
        )


def ranges(ranks: Iterable[int]) -> str:
    """Ranks as people write them: `3,17-24`."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
