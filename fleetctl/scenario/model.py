"""What a scenario says, typed and resolved: the world, the policy, the timeline, and how it must end.

Whoever holds a Scenario may trust it: `load.py` has checked that its ranks and nodes exist, that its faults fit their
targets and that its expectations can be met. Knows nothing of YAML, of backends or of judges.

Times are seconds; ranks, nodes and racks count from 0.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from fleetctl.gang.spec import Count, Recovery
from fleetctl.scenario.durations import DurationRange, PositiveDuration, Range, Seconds
from fleetctl.scenario.faults import Backend, Fault

VERSION = 1

Condition = Literal["Accepted", "Running", "Recovering", "Held", "Straggling", "Suspended", "Completed", "Failed"]
EndKind = Literal["running", "completed", "failed", "held", "suspended", "gone"]
WhenKind = Literal[
    "target",
    "released",
    "condition",
    "trainer_started",
    "trainer_ended",
    "restarting",
    "pod_created",
    "pod_deleted",
    "fault",
    "calm",
]
RANK_TRIGGERS: tuple[WhenKind, ...] = ("trainer_started", "trainer_ended", "restarting", "pod_created", "pod_deleted")

Invariant = Literal[
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "S14", "S15", "S16",
    "S17", "L1", "L2", "L3", "L4",
]  # fmt: skip

FIGURES: dict[str, str] = {
    "detect_s": "from the beginning of the last fault that hit a trainer until the target is raised",
    "signal_s": "from raising the target until the last agent has heard its reset",
    "barrier_s": "from raising the target until the release is committed",
    "recover_s": "from the fault until all trainers of the new attempt run",
    "pods_created": "pods created",
    "pods_deleted": "pods deleted",
    "pods_recreated": "pods created for a rank that had one before",
    "in_place_restarts": "restarts of all containers of a pod in place",
    "attempts": "the record's target at the end",
    "bindings": "pods of ranks that the scheduler bound to a node",
    "bindings_after_start": "of these, the ones after the first release",
    "spares_taken": "pods of ranks that were created on the node of a spare, without the scheduler",
    "nodes_quarantined": "nodes put into quarantine",
    "writes_per_lost_rank": "writes of all controllers since the first release, for each pod created for a rank that "
    "had one before; Events, Leases and the first pod of each spare excluded",
    "controller_writes": "writes of all controllers, Events included, Leases excluded",
    "status_writes": "writes to the Gang's status",
    "wasted_rank_s": "rank-seconds between the first fault and the end in which a rank's trainer did not run as part "
    "of a complete gang",
    "virtual_s": "virtual time until the end",
}
"""Name and meaning. Names that end in _s count seconds; of several recoveries the largest counts."""


# the world


class GangSize(Struct, frozen=True, kw_only=True):
    """The gang that is tried."""

    name: Annotated[str, Meta(pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)] = "llm"
    ranks: Count
    spares: Annotated[int, Meta(ge=0, le=1000, description="placeholder pods that keep room for a rank each")] = 0
    spec: Annotated[
        dict[str, Any],
        Meta(
            description="merged into the Gang's spec, such as {coordinator: {index: 3}}; not recovery, that is policy",
            extra={"reads": "patch"},
        ),
    ] = field(default_factory=dict)


class Trainer(Struct, frozen=True, kw_only=True):
    """How the trainers behave."""

    step: Annotated[PositiveDuration, Meta(description="how long one step takes")] = 2.0
    reports_steps: Annotated[bool, Meta(description="whether the trainer tells its agent each step")] = False
    runs_for: Annotated[
        PositiveDuration | None, Meta(description="then it exits 0; how long one attempt has to run. Absent: for ever")
    ] = None
    stops_in: Annotated[
        DurationRange, Meta(description="how long it takes to end on SIGTERM; over 2s means it is killed")
    ] = Range(0.05, 0.2)
    checkpoint_every: Annotated[
        PositiveDuration | None,
        Meta(
            description="so much training is lost at most: a new attempt begins at the last checkpoint. Absent: none is"
        ),
    ] = field(default=None, name="checkpointEvery")


class Latency(Struct, frozen=True, kw_only=True):
    """How long things take when nothing is wrong."""

    network: Annotated[DurationRange, Meta(description="one way, between two hosts")] = Range(0.0002, 0.002)
    api: Annotated[DurationRange, Meta(description="one request, within the API server")] = Range(0.001, 0.005)
    kubelet: Annotated[DurationRange, Meta(description="until a kubelet acts on, or posts, what it saw")] = Range(
        0.05, 0.3
    )
    container_start: DurationRange = Range(0.1, 0.6)
    agent_start: DurationRange = Range(0.1, 0.3)
    image_pull: DurationRange = Range(0.0, 0.0)


class World(Struct, frozen=True, kw_only=True):
    """The cluster and the gang on it."""

    gang: GangSize
    ranks_per_node: Annotated[Count, Meta(description="capacity of a node, in ranks")] = 8
    nodes: Annotated[
        int, Meta(ge=1, le=100_000, description="default: as many as the ranks need, as the spares need, + 2")
    ] = 0
    nodes_per_rack: Count = 8
    controllers: Annotated[int, Meta(ge=1, le=9, description="replicas of the controller")] = 1
    trainer: Trainer = field(default_factory=Trainer)
    latency: Latency = field(default_factory=Latency)

    def __post_init__(self) -> None:
        if not self.nodes:
            msgspec.structs.force_setattr(self, "nodes", default_nodes(self.gang, self.ranks_per_node))


class KindCluster(Struct, frozen=True, kw_only=True):
    """How the scenario maps to a small real cluster."""

    ranks: Annotated[int, Meta(ge=1, le=64, description="size of the gang there")] = 8
    workers: Annotated[int, Meta(ge=1, le=16, description="worker nodes")] = 4


SPARE_NODES = 2


def default_nodes(gang: GangSize, ranks_per_node: int) -> int:
    """As many nodes as the ranks need, others for the spares, and two that nobody has."""
    return -(-gang.ranks // ranks_per_node) - (-gang.spares // ranks_per_node) + SPARE_NODES


# the timeline


class When(Struct, frozen=True, kw_only=True):
    """The `occurrence`-th time, counted from the beginning, that this happens.

    `value`: the attempt (target, released), the condition's type, the rank, the fault's name, or how many faults have
    begun (calm).
    """

    kind: WhenKind
    value: int | str
    occurrence: int = 1


class Select(Struct, frozen=True, kw_only=True):
    """Whom a fault hits: these ranks, these nodes, the node of a rank when the fault begins, or so many drawn from the
    seed (ranks or nodes, as the fault's target says). All empty: the fault has no target.
    """

    ranks: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    node_of: int | None = None
    any: int = 0


class Step(Struct, frozen=True, kw_only=True):
    """One fault. It begins `after` seconds after `at` (since the gang was created) or `when`: exactly one of the two.

    What is selected is hit one after the other within `spread` seconds. `lasts`: seconds until it ends by itself; None:
    it does not. `line`: where it stands in the file.
    """

    at: Seconds | None = None
    when: When | None = None
    after: Seconds = 0.0
    fault: Fault
    select: Select = Select()
    spread: Seconds = 0.0
    lasts: Seconds | None = None
    line: int = 0


# the expectations


class End(Struct, frozen=True, kw_only=True):
    """How it must end, `within` seconds of the last fault's beginning or end (or of time 0).

    `attempt`: the gang runs this one; None: any. `message`: a part of the condition's message.
    """

    kind: EndKind
    attempt: int | None = None
    message: str = ""
    within: Seconds = 120.0


class Sometime(Struct, frozen=True, kw_only=True):
    """The condition is True at some time, with this part in its message."""

    condition: Condition
    message: str = ""


class Bound(Struct, frozen=True, kw_only=True):
    """Limits of a figure, both included; None: no limit."""

    min: float | None = None
    max: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value is within."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class NotJudged(Struct, frozen=True, kw_only=True):
    """An invariant that is not judged in simulation, and why."""

    invariant: Invariant
    because: str


class WantedCause(Struct, frozen=True, kw_only=True):
    """Of a recovery; None: any."""

    rule: str
    scope: str | None = None
    rank: int | None = None


class Expect(Struct, frozen=True, kw_only=True):
    """How it must end, and what must hold on the way.

    `quiet_s`: so long after the end was reached nobody of fleetctl writes; 0: not asked. `same_pods`: ranks that had
    one pod only all along. `new_pods`: exactly these had more than one; None: not asked. `quarantined`: exactly these
    nodes are, and `spares_ready`: so many, in the end; None: not asked.
    """

    end: End
    quiet_s: Seconds = 0.0
    never: tuple[Condition, ...] = ()
    sometime: tuple[Sometime, ...] = ()
    causes: tuple[WantedCause, ...] = ()
    same_pods: tuple[int, ...] = ()
    new_pods: tuple[int, ...] | None = None
    quarantined: tuple[int, ...] | None = None
    spares_ready: int | None = None
    figures: dict[str, Bound] = field(default_factory=dict)
    not_judged: tuple[NotJudged, ...] = ()


class Scenario(Struct, frozen=True, kw_only=True):
    """A scenario file. `policy_given`: the policy as it stands there, for the Gang's spec.recovery. `drawn`: the
    arguments of `fleetctl replay` that draw it, if it is no file."""

    version: int = VERSION
    name: str
    why: str
    backends: tuple[Backend, ...] = ("sim",)
    seed: int = 1
    world: World
    policy: Recovery = field(default_factory=Recovery)
    policy_given: dict[str, Any] = field(default_factory=dict)
    kind: KindCluster | None = None
    timeline: tuple[Step, ...] = ()
    expect: Expect
    path: Path
    drawn: tuple[str, ...] = ()
