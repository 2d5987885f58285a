"""What may be written in a scenario file: its keys, their types and defaults, one line about each.

The loader, the JSON Schema and the tables of the reference are all made from these types. Knows nothing of what the
keys mean together; that is checked in `load.py`.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct, field

from fleetctl.gang.spec import Recovery
from fleetctl.scenario.durations import Duration, Indices, IndicesOrNone, PositiveDuration
from fleetctl.scenario.faults import Backend
from fleetctl.scenario.model import FIGURES, Bound, Condition, Invariant, KindCluster, World

Attempt = Annotated[int, Meta(ge=1)]
Index = Annotated[int, Meta(ge=0)]
HowMany = Annotated[int, Meta(ge=1)]


class When(Struct, frozen=True, kw_only=True):
    """A change of state; exactly one of these, and occurrence."""

    target: Annotated[Attempt | None, Meta(description="the record's target becomes this attempt")] = None
    released: Annotated[Attempt | None, Meta(description="this attempt is released")] = None
    condition: Annotated[Condition | None, Meta(description="this condition of the Gang becomes True")] = None
    trainer_started: Annotated[Index | None, Meta(description="the trainer of this rank has begun")] = None
    trainer_ended: Annotated[Index | None, Meta(description="the trainer of this rank is gone")] = None
    restarting: Annotated[Index | None, Meta(description="the pod of this rank begins to restart in place")] = None
    pod_created: Annotated[Index | None, Meta(description="a pod of this rank is created")] = None
    pod_deleted: Annotated[Index | None, Meta(description="the deletion of this rank's pod is asked for")] = None
    fault: Annotated[str | None, Meta(description="that fault of the timeline has begun")] = None
    calm: Annotated[
        Index | None, Meta(description="so many faults have begun, and the gang has run undisturbed for 4 s since")
    ] = None
    occurrence: Annotated[HowMany, Meta(description="which time it is, counted from the beginning")] = 1


class Select(Struct, frozen=True, kw_only=True):
    """Whom the fault hits; exactly one of these. count goes with rack."""

    rank: Annotated[Index | None, Meta(description="ranks: this one")] = None
    ranks: Annotated[Indices | None, Meta(description='ranks: these, such as "3,17-24"')] = None
    node: Annotated[Index | None, Meta(description="nodes: this one")] = None
    nodes: Annotated[Indices | None, Meta(description='nodes: these, such as "0-4"')] = None
    node_of: Annotated[Index | None, Meta(description="nodes: the one that has this rank when the fault begins")] = None
    rack: Annotated[Index | None, Meta(description="nodes: all of this rack")] = None
    count: Annotated[HowMany | None, Meta(description="only so many nodes of the rack, the first ones")] = None
    any: Annotated[HowMany | None, Meta(description="ranks or nodes: so many, drawn from the seed")] = None


class Step(Struct, frozen=True, kw_only=True):
    """One fault. Exactly one of at and when."""

    at: Annotated[Duration | None, Meta(description="virtual time since the gang was created")] = None
    when: Annotated[When | None, Meta(description="or: a change of state")] = None
    after: Annotated[Duration, Meta(description="added to at or when")] = 0.0
    fault: Annotated[str, Meta(description="name of a fault")]
    select: Annotated[Select | None, Meta(description="whom it hits; for faults on ranks or nodes")] = None
    spread: Annotated[Duration, Meta(description="the selected ones are hit one after the other within this time")] = (
        0.0
    )
    lasts: Annotated[PositiveDuration | None, Meta(description="for faults that last; absent: until the end")] = field(
        default=None, name="for"
    )
    parameters: Annotated[dict[str, Any], Meta(description="parameters of the fault")] = field(
        default_factory=dict, name="with"
    )


class Expectation(Struct, frozen=True, kw_only=True):
    name: ClassVar[str]


class End(Expectation, frozen=True):
    """`within` is counted from the last fault's beginning or end, or from time 0 if there are none."""

    within: PositiveDuration = 120.0


class Running(End, frozen=True):
    """The end: all ranks run, in this attempt if it is given."""

    name = "running"
    attempt: Attempt | None = None


class Completed(End, frozen=True):
    """The end: all trainers exited 0."""

    name = "completed"


class Failed(End, frozen=True):
    """The end: the gang has failed; message is a part of the condition's."""

    name = "failed"
    message: str = ""


class Held(End, frozen=True):
    """The end: the gang is held; message is a part of the condition's."""

    name = "held"
    message: str = ""


class Suspended(End, frozen=True):
    """The end: the gang is suspended and its pods are gone."""

    name = "suspended"


class Gone(End, frozen=True):
    """The end: the gang and its pods are gone."""

    name = "gone"


class Quiet(Expectation, frozen=True):
    """So long after the end was reached nobody of fleetctl writes."""

    name = "quiet"
    lasts: PositiveDuration = field(name="for")


class Never(Expectation, frozen=True):
    """The condition is never True. May be there more than once."""

    name = "never"
    condition: Condition


class Sometime(Expectation, frozen=True):
    """The condition is True at some time, with this part in its message. May be there more than once."""

    name = "sometime"
    condition: Condition
    message: str = ""


class Cause(Expectation, frozen=True):
    """A recovery had this cause, as the gang's record tells it. May be there more than once: in their order."""

    name = "cause"
    rule: Annotated[str, Meta(min_length=1, description="id of the rule: node-dead, fatal-signal, user-rule-1")]
    scope: Annotated[Literal["Container", "Node", "Unknown"] | None, Meta(description="default: any")] = None
    rank: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="the rank that is named; default: any")] = None


class SamePods(Expectation, frozen=True):
    """These ranks had one pod only, all along."""

    name = "same_pods"
    ranks: Indices


class NewPods(Expectation, frozen=True):
    """Exactly these ranks had more than one pod; "none": no rank had."""

    name = "new_pods"
    ranks: IndicesOrNone


class Quarantined(Expectation, frozen=True):
    """Exactly these nodes are in quarantine in the end; "none": no node is."""

    name = "quarantined"
    nodes: IndicesOrNone


class Spares(Expectation, frozen=True):
    """So many spares are ready in the end."""

    name = "spares"
    ready: Index


class NotJudged(Expectation, frozen=True):
    """Switches one invariant off, with a reason. May be there more than once."""

    name = "not_judged"
    invariant: Invariant
    because: Annotated[str, Meta(min_length=1)]


Figures = msgspec.defstruct(
    "Figures",
    [
        (name, Annotated[Bound | None, Meta(description=meaning, extra={"reads": "bound"})], None)
        for name, meaning in FIGURES.items()
    ],
    namespace={
        "name": "figures",
        "__doc__": "Numbers of the run: a number means equals; or {min: …, max: …}. Names in _s count seconds.",
    },
    frozen=True,
    kw_only=True,
)

EXPECTATIONS: dict[str, type[Struct]] = {
    **{kind.name: kind for kind in (Running, Completed, Failed, Held, Suspended, Gone)},
    **{kind.name: kind for kind in (Quiet, Never, Sometime, Cause, SamePods, NewPods, Quarantined, Spares)},
    "figures": Figures,
    NotJudged.name: NotJudged,
}
ENDS: tuple[str, ...] = tuple(name for name, kind in EXPECTATIONS.items() if issubclass(kind, End))


class File(Struct, frozen=True, kw_only=True):
    """The whole file."""

    version: Annotated[int, Meta(description="of this format: 1")]
    name: Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="the file's name without .yaml")]
    why: Annotated[str, Meta(min_length=1, description="one or two sentences")]
    backends: Annotated[list[Backend], Meta(min_length=1, description="where it is replayed")] = field(
        default_factory=lambda: ["sim"]
    )
    seed: Annotated[int, Meta(ge=0, description="everything drawn is drawn from it")] = 1
    world: World
    policy: Annotated[Recovery, Meta(description="spec.recovery of the Gang, as there", extra={"reads": "policy"})] = (
        field(default_factory=Recovery)
    )
    kind: Annotated[KindCluster | None, Meta(description="how it maps to a small real cluster")] = None
    timeline: Annotated[list[Step], Meta(description="the faults")] = field(default_factory=list)
    expect: Annotated[list[dict[str, Any]], Meta(min_length=1, description="exactly one end, and what else must hold")]
