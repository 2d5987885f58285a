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


class Match(Model, frozen=True):
    """What a rule applies to."""

    exit_codes: Annotated[
        list[ExitCode], Meta(min_length=1, max_length=255, description="Exit codes of the trainer, 1 to 255.")
    ]


class UserRule(Model, frozen=True):
    """A decision of the user's that is asked before the built-in ones."""

    match: Match
    action: Annotated[Literal["FailGang"], Meta(description="FailGang: end the gang as Failed at once.")]


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
    budgets: Budgets = field(default_factory=Budgets)
    rules: Annotated[list[UserRule], Meta(max_length=20, description="First match wins.")] = field(default_factory=list)

    @property
    def fatal_codes(self) -> frozenset[int]:
        """Exit codes of the trainer that end the gang: they must leave a Failed pod, with the code on record."""
        return frozenset(code for rule in self.rules for code in rule.match.exit_codes)

    def bad_nodes_allowed(self, nodes: int) -> int:
        """How many of so many nodes may be judged bad at once."""
        return max(1, nodes * int(self.unhealthy_ceiling.removesuffix("%")) // 100)


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
    recovery: Recovery = field(default_factory=Recovery)

    @property
    def size(self) -> int:
        """Number of ranks in the gang."""
        return sum(group.size for group in self.groups)


class Cause(Model, frozen=True):
    """Why an attempt began, in words a person can check."""

    scope: Literal["Start", "Resume", "Container", "Node", "Unknown"]
    rule: str
    message: str
    rank: int | None = None


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


class Recovered(Model, frozen=True):
    """One finished recovery. `recreated`: the ranks that got new pods, as ranges."""

    attempt: int
    cause: Cause
    rung: Literal["Start", "Resume", "InPlace", "RecreatePod"]
    at: str
    seconds: Seconds
    recreated: str = ""


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
