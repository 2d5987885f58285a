"""What is known of a run so far, from the journal alone: gangs and their records, pods, trainers, nodes, faults.

Spares are no ranks: they are among no gang's pods, take part in nothing, and are only counted.

Judges are asked about an event before it is learnt here, so they see the world as it was. Learning costs a few lookups
an event; nothing here walks over all ranks.

Several gangs are told apart by uid: a gang that was deleted and created again is another one. If anybody but a
controller changes a record (somebody wipes the status), a new **era** of that gang begins: what ran in an earlier era
is of an earlier attempt, whatever its number.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import inf

from fleetctl.sim.journal import Event, Faulted, Key, Object, TrainerEnded, TrainerStarted, Wrote
from fleetctl.sim.oracle import records
from fleetctl.sim.oracle.records import Limits, Record

CONTROLLER = "controller/"


@dataclass(slots=True)
class Trainer:
    """A trainer's process that runs."""

    rank: int
    attempt: int
    era: int
    uid: str
    node: str


@dataclass(slots=True)
class Pod:
    """A pod of a gang. `removed_by`: the actor by whose write the object went, empty while it is there."""

    uid: str
    name: str
    gang: "Gang"
    rank: int
    created_at: float
    bound_at: float = 0.0
    node: str = ""
    phase: str = ""
    deleting: bool = False
    failed: bool = False
    """Whether it was ever Failed: a kubelet may post an older status again."""
    removed_by: str = ""


@dataclass(slots=True)
class Spare:
    """A placeholder pod of a gang. `put_out`: a controller asked for its deletion."""

    gang: "Gang"
    node: str = ""
    put_out: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """A release that was committed."""

    era: int
    at: float


@dataclass(slots=True)
class Gang:
    """One Gang object, from its creation to its end. Times are the journal's."""

    key: Key
    uid: str
    record: Record = field(default_factory=Record)
    limits: Limits = field(default_factory=Limits)
    deleting: bool = False
    gone_at: float | None = None
    raised_at: float = -inf
    observed_at: float = -inf
    """When it was last in mode Observe; see `was_observing`."""
    era: int = 0
    highest_target: int = 0
    highest_released: int = 0
    commits: dict[tuple[int, str], Commit] = field(default_factory=dict)
    """By (attempt, ticket)."""
    trainers: dict[str, Trainer] = field(default_factory=dict)
    """By uid of the pod."""
    at_work: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    """By (era, attempt), the ranks that run it."""
    complete_since: float | None = None
    """Since when all ranks run the attempt that is released and wanted."""
    pods: dict[int, Pod] = field(default_factory=dict)
    """Those that are there, by rank."""
    latest: dict[int, Pod] = field(default_factory=dict)
    """The last that each rank had, there or not."""
    nodes: Counter[str] = field(default_factory=Counter)
    """How many of its pods are on each node."""
    most_nodes: int = 0
    room: Counter[str] = field(default_factory=Counter)
    """How many spares a controller has put out on each node, whose room no rank was given yet."""
    ready_spares: set[str] = field(default_factory=set)
    """Uids."""
    spared_at: float = -inf
    """When a spare was ready last, if none is now."""
    loosest: Limits = field(default_factory=Limits)
    """The limits that forbade least since the last raise: who edits them is not heard at once."""
    conditions: dict[str, Object] = field(default_factory=dict)
    true_since: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"gang {self.key[1]}"

    def was_observing(self, since: float) -> bool:
        """Whether it was in mode Observe at any time since then."""
        return self.limits.observes or self.observed_at >= since

    def had_a_spare(self, since: float) -> bool:
        """Whether one was ready at any time since then."""
        return bool(self.ready_spares) or self.spared_at >= since

    def is_earlier(self, trainer: Trainer) -> bool:
        """Whether the trainer runs an attempt that came before the one that is released."""
        if trainer.era != self.era:
            return self.record.released > 0
        return trainer.attempt < self.record.released

    def look_whether_complete(self, at: float) -> None:
        record, size = self.record, self.limits.size
        running = len(self.at_work.get((self.era, record.released), ()))
        if record.target != record.released or not size or running < size:
            self.complete_since = None
        elif self.complete_since is None:
            self.complete_since = at


@dataclass(frozen=True, slots=True)
class GangWrite:
    """A controller's write to a gang."""

    event: Wrote
    gang: Gang
    before: Record
    after: Record

    @property
    def raises(self) -> bool:
        return self.after.target > self.before.target

    @property
    def releases(self) -> bool:
        return self.after.released > self.before.released


@dataclass(frozen=True, slots=True)
class PodWrite:
    """A controller's write to a pod. `gang` is None if it belongs to none that was ever seen."""

    event: Wrote
    body: Object
    uid: str
    name: str
    gang: Gang | None
    is_spare: bool = False


class Facts:
    """Everything so far. `fences`: uids, and names of nodes, of which a fault said that what runs there may go on."""

    def __init__(self) -> None:
        self.gangs: dict[str, Gang] = {}
        """By uid; those that are gone too."""
        self.pods: dict[str, Pod] = {}
        """By uid; those that are gone too."""
        self._spares: dict[str, Spare] = {}
        """By uid; those that are there."""
        self.unwell: set[str] = set()
        """Nodes that any fault ever named, or that were ever tainted by others than us, not ready, or deleted."""
        self.fences: set[str] = set()
        self.families: set[str] = set()
        self.faults = 0
        self.last_fault_at = 0.0

    # What judges ask

    def is_fenced(self, trainer: Trainer) -> bool:
        """Whether nobody can be blamed for that this trainer still runs: its pod's object is gone, and a fault said so
        of the pod or its node, or somebody else took the object away by force."""
        pod = self.pods.get(trainer.uid)
        if pod is None or not pod.removed_by:
            return False
        by_us_or_its_node = pod.removed_by.startswith((CONTROLLER, "kubelet/"))
        return trainer.uid in self.fences or trainer.node in self.fences or not by_us_or_its_node

    def gang_write(self, event: Wrote) -> GangWrite | None:
        """The write as judges read it; None if the object is new or gone."""
        gang = self.gangs.get(records.uid(event.after))
        return GangWrite(event, gang, gang.record, Record.of(event.after)) if gang else None

    def pod_write(self, event: Wrote) -> PodWrite:
        body = event.before or event.after or {}
        owner = self.gangs.get(records.owner(body))
        return PodWrite(event, body, records.uid(body), event.name, owner, records.is_spare(body))

    def trainer(self, event: TrainerStarted) -> tuple[Gang, Trainer] | None:
        """The trainer that starts, and its gang; None if the pod is nobody's."""
        pod = self.pods.get(event.uid)
        if pod is None:
            return None
        commit = pod.gang.commits.get((event.attempt, event.ticket))
        era = commit.era if commit else pod.gang.era
        return pod.gang, Trainer(pod.rank, event.attempt, era, event.uid, event.node)

    # What happens

    def learn(self, event: Event) -> None:
        match event:
            case Wrote():
                self._learn_write(event)
            case TrainerStarted():
                self._learn_start(event)
            case TrainerEnded():
                self._learn_end(event)
            case Faulted():
                self.last_fault_at = event.at
                self.families.add(event.family)
                self.faults += event.phase == "begins"
                self.fences.update(event.fences)
                if event.family == "node":
                    self.unwell.update(event.nodes)

    def _learn_write(self, event: Wrote) -> None:
        match event.plural:
            case "pods":
                self._learn_pod(event)
            case "gangs":
                self._learn_gang(event)
            case "nodes" if not _is_well(event.after):
                self.unwell.add(event.name)

    def _learn_start(self, event: TrainerStarted) -> None:
        if found := self.trainer(event):
            gang, trainer = found
            gang.trainers[event.uid] = trainer
            gang.at_work.setdefault((trainer.era, trainer.attempt), set()).add(trainer.rank)
            gang.look_whether_complete(event.at)

    def _learn_end(self, event: TrainerEnded) -> None:
        pod = self.pods.get(event.uid)
        trainer = pod.gang.trainers.pop(event.uid, None) if pod else None
        if pod and trainer:
            pod.gang.at_work[trainer.era, trainer.attempt].discard(trainer.rank)
            pod.gang.look_whether_complete(event.at)

    def _learn_spare(self, event: Wrote, body: Object) -> None:
        uid, gang = records.uid(body), self.gangs.get(records.owner(body))
        if gang is None:
            return
        spare = self._spares.setdefault(uid, Spare(gang))
        spare.node = records.node_of(body)
        spare.put_out |= event.verb == "delete" and event.actor.startswith(CONTROLLER)
        if event.after is not None and records.is_ready(event.after):
            gang.ready_spares.add(uid)
        elif uid in gang.ready_spares:
            gang.ready_spares.discard(uid)
            gang.spared_at = event.at
        if event.after is None:
            del self._spares[uid]
            if spare.node and spare.put_out:
                gang.room[spare.node] += 1

    def _learn_pod(self, event: Wrote) -> None:
        body = event.after or event.before
        if body is not None and records.is_spare(body):
            self._learn_spare(event, body)
            return
        pod = self.pods.get(records.uid(body))
        if pod is None:
            gang = self.gangs.get(records.owner(body))
            if gang is None or event.after is None:
                return
            rank = records.number(records.label(body, "rank"), -1)
            pod = Pod(records.uid(body), event.name, gang, rank, event.at)
            self.pods[pod.uid] = gang.pods[rank] = gang.latest[rank] = pod
            if event.actor.startswith(CONTROLLER):
                _count(gang.room, records.node_of(body), -1)
        if event.after is None:
            self._lose_pod(pod, event.actor)
            return
        pod.phase, pod.deleting = records.phase(body), records.is_deleting(body)
        pod.failed = pod.failed or pod.phase == "Failed"
        node = records.node_of(body)
        if node != pod.node and not pod.removed_by:
            gang = pod.gang
            _count(gang.nodes, pod.node, -1)
            _count(gang.nodes, node, +1)
            pod.node, pod.bound_at = node, event.at
            gang.most_nodes = max(gang.most_nodes, len(gang.nodes))

    def _lose_pod(self, pod: Pod, actor: str) -> None:
        if not pod.removed_by:
            pod.removed_by = actor
            _count(pod.gang.nodes, pod.node, -1)
            if pod.gang.pods.get(pod.rank) is pod:
                del pod.gang.pods[pod.rank]

    def _learn_gang(self, event: Wrote) -> None:
        body = event.after or event.before
        uid = records.uid(body)
        gang = self.gangs.get(uid)
        if gang is None:
            gang = self.gangs[uid] = Gang((event.namespace, event.name), uid, limits=Limits.of(body))
            gang.loosest = gang.limits
        if event.after is None:
            gang.gone_at = event.at
            return
        gang.deleting = records.is_deleting(body)
        self._learn_spec(gang, event)
        self._learn_record(gang, event)
        self._learn_conditions(gang, event)
        gang.look_whether_complete(event.at)

    def _learn_spec(self, gang: Gang, event: Wrote) -> None:
        now = Limits.of(event.after)
        if gang.limits.observes and not now.observes:
            gang.observed_at = event.at
        gang.limits, loosest = now, gang.loosest
        gang.loosest = Limits(
            size=now.size,
            spares=now.spares,
            in_place_s=min(now.in_place_s, loosest.in_place_s),
            recreate_s=min(now.recreate_s, loosest.recreate_s),
            ceiling_percent=max(now.ceiling_percent, loosest.ceiling_percent),
        )

    def _learn_record(self, gang: Gang, event: Wrote) -> None:
        before, after = gang.record, Record.of(event.after)
        gang.record = after
        if before != after and not event.actor.startswith(CONTROLLER):
            gang.era += 1
        if after.target > before.target:
            gang.raised_at = event.at
            gang.loosest = gang.limits
            gang.most_nodes = len(gang.nodes)
        if after.released > before.released:
            gang.commits[after.released, after.ticket] = Commit(gang.era, event.at)
        gang.highest_target = max(gang.highest_target, after.target)
        gang.highest_released = max(gang.highest_released, after.released)

    def _learn_conditions(self, gang: Gang, event: Wrote) -> None:
        gang.conditions = records.conditions(event.after)
        true = {kind for kind, condition in gang.conditions.items() if records.is_true(condition)}
        gang.true_since = {kind: gang.true_since.get(kind, event.at) for kind in true}


def _count(counter: Counter[str], key: str, by: int) -> None:
    """Counts only what is there."""
    if key:
        counter[key] += by
        if counter[key] <= 0:
            del counter[key]


def _is_well(node: Object | None) -> bool:
    if node is None:
        return False
    taints = records.rows(records.table(node.get("spec")).get("taints"))
    foreign = any(not records.text(taint.get("key")).startswith("fleetctl.dev/") for taint in taints)
    ready = records.conditions(node).get("Ready")
    return not foreign and (ready is None or records.is_true(ready))
