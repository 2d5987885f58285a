"""What a plan is made of: actions, as values that explain themselves. How they are carried out, executor.py knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fleetctl.gang.identity import Slot
from fleetctl.gang.quarantine import Accused
from fleetctl.gang.snapshot import Memory
from fleetctl.gang.spares import Wanted
from fleetctl.gang.spec import GangStatus
from fleetctl.gang.state import Promise, Strike


@dataclass(frozen=True, slots=True)
class Notice:
    """What becomes an Event on the Gang once the write it belongs to has succeeded."""

    reason: str
    message: str
    action: str
    kind: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Compare-and-swap the gang's status."""

    status: GangStatus
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class CreateCompanions:
    """Services and the CA ConfigMap; those that exist are left alone."""


@dataclass(frozen=True, slots=True)
class CreatePods:
    """Pods of these slots, labelled with the attempt they are created for, on other nodes than those to `avoid`;
    `onto`: by rank, the node where a spare made room."""

    slots: tuple[Slot, ...]
    attempt: int
    avoid: tuple[str, ...] = ()
    onto: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateSpares:
    """Pods that keep room. What the API server refuses must not hold up the gang."""

    spares: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """One pod, exactly as it was seen. `grace_s` 0: its node is dead, nobody will confirm; None: the pod's own."""

    name: str
    uid: str
    version: str
    grace_s: int | None


@dataclass(frozen=True, slots=True)
class DeletePods:
    """Delete these pods, unless they have changed since."""

    pods: tuple[Deletion, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """Tell these lives (by pod uid) to restart in place for the attempt."""

    uids: tuple[str, ...]
    attempt: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask these lives to promise."""

    uids: tuple[str, ...]
    promise: Promise


@dataclass(frozen=True, slots=True)
class Release:
    """Tell these lives to start their trainers."""

    uids: tuple[str, ...]
    promise: Promise


@dataclass(frozen=True, slots=True)
class StrikeNode:
    """Count a failure against a node, on the Node itself. It may fail: that costs nothing but the count."""

    node: str
    strike: Strike


@dataclass(frozen=True, slots=True)
class QuarantineNodes:
    """Keep new pods off these machines. It may fail, or be refused because too many are quarantined: the gang recovers
    all the same."""

    accused: tuple[Accused, ...]


@dataclass(frozen=True, slots=True)
class Prove:
    """Ask these lives to reach the coordinator's pod through its Service, where that life must answer."""

    uids: tuple[str, ...]
    coordinator_uid: str
    life_id: str


Action = (
    WriteStatus
    | CreateCompanions
    | CreatePods
    | CreateSpares
    | DeletePods
    | StrikeNode
    | QuarantineNodes
    | Reset
    | Prove
    | Ping
    | Release
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order; when to look again at the latest, seconds from now; why, in words; what to remember (None:
    what was remembered)."""

    actions: tuple[Action, ...] = ()
    wake_in: float | None = None
    reasons: tuple[str, ...] = ()
    memory: Memory | None = None
