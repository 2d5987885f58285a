"""The Gang resource: what users write and what they read back.

The schema of `manifests/crd.yaml` is generated from these types (`crd.py`), so a field, its default, its bounds and its
description are written once, here. Unknown fields are refused by the API server, never by this module: an older
controller must be able to read a newer object.

Rules over several fields are CEL (`RULES` on a type); each message says what to do instead.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

GROUP = "fleetctl.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DnsLabel = Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
ExitCode = Annotated[int, Meta(ge=1, le=255)]
LabelKey = Annotated[
    str, Meta(pattern="^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=317)
]


class Model(Struct, rename="camel", omit_defaults=True, frozen=True):
    """A part of a Gang; `RULES` are (CEL expression, message) pairs for the API server."""

    RULES: ClassVar[tuple[tuple[str, str], ...]] = ()


class Group(Model, frozen=True):
    """Pods of one kind."""

    RULES = (
        (
            (
                "self.size == oldSelf.size && self.template == oldSelf.template && "
                "self.trainer == oldSelf.trainer && self.lifeImage == oldSelf.lifeImage"
            ),
            "a group's size, template, trainer and lifeImage cannot be changed: delete the gang and create it again",
        ),
    )

    name: Annotated[DnsLabel, Meta(description="Part of the pods' names: <gang>-<group>-<index>.")]
    size: Annotated[Count, Meta(description="Number of ranks in this group.")]
    template: Annotated[
        dict[str, Any],
        Meta(
            description="An ordinary pod template. fleetctl adds its agent, restart rules and the ranks' environment.",
            extra_json_schema={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ]
    trainer: Annotated[
        str,
        Meta(
            max_length=63,
            description="Name of the container that trains. Default: the first of template.spec.containers.",
        ),
    ] = ""
    life_image: Annotated[
        str,
        Meta(
            max_length=512,
            description="Needed only where a container's image has no /bin/sh: an image that has one. Default: the "
            "trainer's image; if set, other images are not pulled before the ranks gather.",
        ),
    ] = ""
    spares: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="So many pods of low priority keep room for a rank each, with its images pulled: a lost rank "
            "takes the room of one, without the scheduler.",
        ),
    ] = 0


class Coordinator(Model, frozen=True):
    """The rank that the others connect to (torchrun's master)."""

    group: Annotated[str, Meta(max_length=40, description="Default: the first group.")] = ""
    index: Annotated[int, Meta(ge=0, description="Index of the pod within its group.")] = 0
    port: Annotated[Port, Meta(description="The port that the trainer listens on at this rank.")] = 29500


class ApplicationBudget(Model, frozen=True):
    """How often the gang may restart because of its own containers."""

    restarts: Annotated[int, Meta(ge=0, description="Restarts allowed within the window.")] = 10
    within_hours: Annotated[int, Meta(ge=1, le=168, description="Length of the window, hours.")] = 24
    without_progress: Annotated[
        int,
        Meta(ge=1, description="Restarts in a row allowed without progress (an attempt that ran for 10 minutes)."),
    ] = 3


class NodeBudget(Model, frozen=True):
    """How often the gang may restart because of machines, or because somebody took its pods away."""

    restarts: Annotated[int, Meta(ge=0, description="Restarts allowed within the window.")] = 100
    within_hours: Annotated[int, Meta(ge=1, le=168, description="Length of the window, hours.")] = 24


class Budgets(Model, frozen=True):
    """Restart budgets by the kind of cause."""

    application: ApplicationBudget = field(default_factory=ApplicationBudget)
    node: NodeBudget = field(default_factory=NodeBudget)


SignalName = Annotated[str, Meta(pattern="^SIG[A-Z0-9]+$", max_length=16)]
Word = Annotated[str, Meta(min_length=1, max_length=63)]
Words = Annotated[list[Word], Meta(min_length=1, max_length=50)]


class Match(Model, frozen=True):
    """What a rule applies to: all that is given must hold, and one value of each list. A rule that gives nothing, or
    only groups, applies to every failure of a container."""

    RULES = (
        (
            (
                "[has(self.exitCodes) || has(self.signals) || has(self.reasons), has(self.nodeConditions), "
                "has(self.hardware)].filter(x, x).size() <= 1"
            ),
            (
                "exitCodes, signals and reasons are of containers, nodeConditions of nodes, hardware of devices: "
                "write a rule for each"
            ),
        ),
    )

    exit_codes: Annotated[
        list[ExitCode], Meta(min_length=1, max_length=255, description="Exit codes of the trainer, 1 to 255.")
    ] = field(default_factory=list)
    signals: Annotated[
        list[SignalName], Meta(min_length=1, max_length=31, description="Signals that ended the trainer: SIGSEGV.")
    ] = field(default_factory=list)
    reasons: Annotated[
        Words, Meta(description="Reasons that Kubernetes gives for a container or a pod: OOMKilled, Evicted.")
    ] = field(default_factory=list)
    groups: Annotated[Words, Meta(description="Names of groups. Default: all.")] = field(default_factory=list)
    node_conditions: Annotated[
        Words, Meta(description="Types of conditions of the rank's node that are True: GpuUnhealthy.")
    ] = field(default_factory=list)
    hardware: Annotated[Words, Meta(description="Codes of hardware reports: xid-79.")] = field(default_factory=list)

    @property
    def by_code_only(self) -> bool:
        """Whether the exit code and the group alone decide, so that the kubelet can be told."""
        return not (self.signals or self.reasons or self.node_conditions or self.hardware)

    def may_be(self, code: int, group: str) -> bool:
        """Whether this may be about a trainer of that group that exits so, as far as the code tells."""
        if self.node_conditions or self.hardware or (self.groups and group not in self.groups):
            return False
        return (not self.exit_codes or code in self.exit_codes) and (not self.signals or code > 128)


RuleAction = Literal["RestartInPlace", "RecreatePod", "RecreateGang", "FailGang"]


class UserRule(Model, frozen=True):
    """A decision of the user's that is asked before the built-in ones."""

    RULES = (
        (
            "self.action != 'RestartInPlace' || !has(self.match.nodeConditions)",
            "a node's condition cannot be answered with RestartInPlace: leave the rule out, or use RecreatePod",
        ),
    )

    match: Match
    action: Annotated[
        RuleAction,
        Meta(
            description="RestartInPlace: all ranks restart, nobody is blamed. RecreatePod: the rank gets a new pod on "
            "another node. RecreateGang: all ranks get new pods. FailGang: end the gang as Failed at once."
        ),
    ]


class Progress(Model, frozen=True):
    """What is expected of trainers that report their steps (fleetctl/progress/step in their pod); of others nothing."""

    hang_seconds: Annotated[
        int,
        Meta(ge=10, description="No rank makes a step for so long, and for three mean steps: the gang hangs."),
    ] = 60
    first_step_seconds: Annotated[
        int, Meta(ge=30, description="How long the first step after a release may take: checkpoints are loaded.")
    ] = 1800


class Breaker(Model, frozen=True):
    """When so many nodes are called bad at once that the report is more likely wrong than the nodes. It stays open
    until somebody resets it."""

    nodes: Annotated[
        str,
        Meta(
            pattern="^(100|[1-9]?[0-9])%$",
            max_length=4,
            description="Share of the gang's nodes that may be called bad within the window; three always may.",
        ),
    ] = "10%"
    within_minutes: Annotated[int, Meta(ge=1, le=1440, description="Length of the window, minutes.")] = 10
    resets: Annotated[int, Meta(ge=0, description="How often somebody has reset the breaker: one more resets it.")] = 0

    def allows(self, nodes: int) -> int:
        """How many of so many nodes may be called bad within the window."""
        return max(3, nodes * int(self.nodes.removesuffix("%")) // 100)


class Quarantine(Model, frozen=True):
    """How many machines that were judged bad are kept from new pods, and for how long. Above a limit such a node is not
    quarantined, and the gang recovers all the same."""

    nodes: Annotated[
        str,
        Meta(
            pattern="^(100|[1-9]?[0-9])%$",
            max_length=4,
            description="Share of the cluster's nodes that may be in quarantine at once; three always may. 0%: none.",
        ),
    ] = "10%"
    per_domain: Annotated[
        str,
        Meta(
            pattern="^(100|[1-9]?[0-9])%$",
            max_length=4,
            description="Share of one failure domain's nodes, a rack's or a zone's; one always may.",
        ),
    ] = "50%"
    lift_after_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=8760,
            description="A node that nothing has spoken against for so long is let out again; 0: only by hand, when "
            "its Node is replaced, or with the last gang that wanted it.",
        ),
    ] = 72

    @property
    def off(self) -> bool:
        """Whether no node is to be quarantined."""
        return self.nodes == "0%"

    def allows(self, nodes: int) -> int:
        """How many of a cluster of so many nodes may be in quarantine, if any."""
        return max(3, nodes * int(self.nodes.removesuffix("%")) // 100)

    def allows_in_domain(self, nodes: int) -> int:
        """How many of a failure domain of so many nodes may be."""
        return max(1, nodes * int(self.per_domain.removesuffix("%")) // 100)


class Recovery(Model, frozen=True):
    """How to recover, and when to stop trying."""

    mode: Annotated[
        Literal["Enforce", "Observe"],
        Meta(
            description="Enforce: recover. Observe: decide and report only; a rank that restarted by itself is let in "
            "alone. A recovery that has begun is finished in either."
        ),
    ] = "Enforce"
    paused: Annotated[
        bool, Meta(description="Stop acting at once, whatever is under way; nothing is restarted, deleted or released.")
    ] = False
    in_place_deadline_seconds: Annotated[
        int, Meta(ge=5, description="A rank that does not come back in place for so long gets a new pod.")
    ] = 120
    recreate_deadline_seconds: Annotated[
        int, Meta(ge=5, description="A new pod that does not come up on its node for so long is replaced elsewhere.")
    ] = 900
    unhealthy_ceiling: Annotated[
        str,
        Meta(
            pattern="^(100|[1-9]?[0-9])%$",
            max_length=4,
            description="The share of the gang's nodes that may be judged bad at once; above it nothing is deleted and "
            "the gang is Held. One node is always allowed.",
        ),
    ] = "20%"
    breaker: Breaker = field(default_factory=Breaker)
    quarantine: Quarantine = field(default_factory=Quarantine)
    progress: Progress = field(default_factory=Progress)
    budgets: Budgets = field(default_factory=Budgets)
    rules: Annotated[
        list[UserRule],
        Meta(
            max_length=20,
            description="First match wins. An allowlist of what may be restarted: rules that name it, and a last one "
            "that names nothing and says FailGang.",
        ),
    ] = field(default_factory=list)

    def fatal_codes(self, group: str) -> frozenset[int]:
        """Exit codes of that group's trainers that end the gang, whatever else is known: they must leave a Failed pod,
        with the code on record. What more than the code decides, the kubelet cannot know: such a trainer restarts, and
        then the gang ends."""

        def ends(code: int) -> bool:
            asked = (rule for rule in self.rules if rule.match.may_be(code, group))
            first = next((r for r in asked if r.match.by_code_only or r.action != "FailGang"), None)
            return first is not None and first.action == "FailGang"

        return frozenset(code for code in range(1, 256) if ends(code))

    def bad_nodes_allowed(self, nodes: int) -> int:
        """How many of so many nodes may be judged bad at once."""
        return max(1, nodes * int(self.unhealthy_ceiling.removesuffix("%")) // 100)


class PlacementSpec(Model, frozen=True):
    """Which nodes lost ranks had better go to."""

    RULES = (
        (
            ("!has(self.topologyKeys) || self.topologyKeys.all(k, self.topologyKeys.exists_one(other, other == k))"),
            "placement.topologyKeys names a label twice: each is one level of the tree, name it once",
        ),
    )

    topology_keys: Annotated[
        list[LabelKey],
        Meta(
            min_length=1,
            max_length=8,
            description="Labels of nodes that name their failure domains, the widest first. Default: the well-known "
            "labels of zones, blocks and racks.",
        ),
    ] = field(default_factory=list)
    block_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="So many consecutive ranks, counted from rank 0, belong together: a lost one goes to where the "
            "others of its block are. Default: each rank for itself, near where it was.",
        ),
    ] = 1


class GangSpec(Model, frozen=True):
    """What the user asks for."""

    RULES = (
        (
            (
                "self.groups.size() == oldSelf.groups.size() && "
                "self.groups.all(g, oldSelf.groups.exists(h, h.name == g.name))"
            ),
            "groups cannot be added, removed or renamed: delete the gang and create it again",
        ),
        (
            "self.coordinator == oldSelf.coordinator",
            "the coordinator cannot be changed: delete the gang and create it again",
        ),
        (
            "self.coordinator.group == '' || self.groups.exists(g, g.name == self.coordinator.group)",
            "coordinator.group names no group: use the name of one of spec.groups",
        ),
        (
            (
                "self.coordinator.group == '' ? self.coordinator.index < self.groups[0].size : "
                "self.groups.all(g, g.name != self.coordinator.group || self.coordinator.index < g.size)"
            ),
            "coordinator.index is outside its group: use 0 to size - 1",
        ),
        (
            (
                "!has(self.recovery.rules) || self.recovery.rules.all(r, !has(r.match.groups) || "
                "r.match.groups.all(n, self.groups.exists(g, g.name == n)))"
            ),
            "recovery.rules[].match.groups names no group: use names of spec.groups",
        ),
    )

    groups: Annotated[
        list[Group],
        Meta(
            min_length=1,
            max_length=8,  # the API server bounds what comparing templates may cost
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    coordinator: Coordinator = field(default_factory=Coordinator)
    suspend: Annotated[bool, Meta(description="Delete the gang's pods and keep its record, until it is false.")] = False
    placement: PlacementSpec = field(default_factory=PlacementSpec)
    recovery: Recovery = field(default_factory=Recovery)

    @property
    def size(self) -> int:
        """Number of ranks in the gang."""
        return sum(group.size for group in self.groups)


class Cause(Model, frozen=True):
    """Why an attempt began, in words a person can check. `node`: where the culprit was; the node is not to blame unless
    the scope says so."""

    scope: Literal["Start", "Resume", "Container", "Node", "Unknown"]
    rule: str
    message: str
    rank: int | None = None
    node: str = ""


FACTS_MAX = 10


class Fact(Model, frozen=True):
    """One observation, and the rule that it fits. `at`: when it happened, by the clock of its node; "" if nobody knows.
    `ranks`: whom it is about, as ranges."""

    rule: str
    what: str
    ranks: str
    at: str = ""


class Incident(Model, frozen=True):
    """What was seen when an attempt ended, and what was made of it: at most 4 KiB, so it is kept in short.

    `culprits` and `cascade` are ranks, as ranges: who failed, and who failed because of that. `refused`: what was not
    done, and why. `omitted`: facts that were left out.
    """

    culprits: str
    cascade: str = ""
    facts: Annotated[list[Fact], Meta(max_length=FACTS_MAX)] = field(default_factory=list)
    refused: Annotated[list[str], Meta(max_length=8)] = field(default_factory=list)
    omitted: int = 0


REPLACING_MAX = 64


class Replacing(Model, frozen=True):
    """A pod that may be deleted; its successor must avoid `node`, unless that is empty. `bad`: the node was judged."""

    rank: int
    uid: str
    node: str = ""
    bad: bool = False


class AttemptRecord(Model, frozen=True):
    """The one durable truth about the gang's attempts. Written by compare-and-swap only.

    `target` is the attempt the gang must reach, `released` the one trainers may run; 0 before the first start. `ticket`
    is held by exactly the lives that were released. `replacing` names the pods that may be deleted on the way to the
    target; so does `replace_created_before`: all that were created for an earlier attempt. `writer` is leader identity
    / lease transitions.
    """

    target: int = 0
    released: int = 0
    ticket: str = ""
    cause: Cause | None = None
    replacing: Annotated[list[Replacing], Meta(max_length=REPLACING_MAX)] = field(default_factory=list)
    replace_created_before: int = 0
    writer: str = ""
    started_at: str = ""
    released_at: str = ""
    incident: Incident | None = None


class Ranks(Model, frozen=True):
    """Ranks as counts. Never a list: a gang may have thousands."""

    total: int = 0
    released: int = 0


class ApplicationSpend(Model, frozen=True):
    """What has been spent: restarts by hour (`2026-11-21T03`), and in a row without progress."""

    hours: dict[str, int] = field(default_factory=dict)
    since_progress: int = 0


class NodeSpend(Model, frozen=True):
    """What has been spent: restarts by hour (`2026-11-21T03`)."""

    hours: dict[str, int] = field(default_factory=dict)


class Spend(Model, frozen=True):
    """What has been spent of `spec.recovery.budgets`."""

    application: ApplicationSpend = field(default_factory=ApplicationSpend)
    node: NodeSpend = field(default_factory=NodeSpend)


class Seconds(Model, frozen=True):
    """How long a recovery took, seconds.

    `barrier`: from the decision until every rank stood at the barrier; `total`: from the decision until the release.
    """

    barrier: float
    total: float


class Outcome(Model, frozen=True):
    """What came of an attempt, seconds from its release. `first_step`: until all ranks had made a step; `warm_up`:
    until a step took no longer than before (at most a fifth); both 0 where they did not, or do not report steps. `ran`:
    until the next attempt had to begin, 0 while it runs."""

    first_step: float = 0.0
    warm_up: float = 0.0
    ran: float = 0.0


class Recovered(Model, frozen=True):
    """One finished recovery. `recreated`: the ranks that got new pods, as ranges. `placed`: which spares they took, and
    why those."""

    attempt: int
    cause: Cause
    rung: Literal["Start", "Resume", "InPlace", "RecreatePod", "RecreateGang"]
    at: str
    seconds: Seconds
    recreated: str = ""
    placed: Annotated[str, Meta(max_length=1024)] = ""
    incident: Incident | None = None
    outcome: Outcome = field(default_factory=Outcome)


class Latch(Model, frozen=True):
    """The breaker is open: nothing is done because a node is called bad, until `spec.recovery.breaker.resets` is more
    than `resets`."""

    since: str
    message: str
    resets: int


class Condition(Model, frozen=True):
    """A metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    observed_generation: int = 0


class GangStatus(Model, frozen=True):
    """What the controller knows."""

    observed_generation: int = 0
    conditions: Annotated[
        list[Condition],
        Meta(extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = field(default_factory=list)
    attempt: AttemptRecord = field(default_factory=AttemptRecord)
    ranks: Ranks = field(default_factory=Ranks)
    budgets: Spend = field(default_factory=Spend)
    breaker: Latch | None = None
    furthest_step: Annotated[
        int, Meta(ge=0, description="The furthest step that any attempt is known to have reached; 0 if none is told.")
    ] = 0
    history: Annotated[list[Recovered], Meta(max_length=20, description="The latest recoveries, newest first.")] = (
        field(default_factory=list)
    )

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((c for c in self.conditions if c.type == kind), None)

    def holds(self, kind: str) -> bool:
        """Whether the condition of that type is True."""
        condition = self.condition(kind)
        return condition is not None and condition.status == "True"

    @property
    def finished(self) -> bool:
        return self.holds("Completed") or self.holds("Failed")
