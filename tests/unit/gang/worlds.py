"""A small vocabulary for tests of the pure core: a gang, its members, and what may happen to them."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fleetctl.gang import attempt, spare_pods
from fleetctl.gang.actions import (
    Action,
    CreatePods,
    CreateSpares,
    DeletePods,
    Ping,
    Plan,
    Prove,
    Release,
    Reset,
    WriteStatus,
)
from fleetctl.gang.breaker import HEED_S
from fleetctl.gang.identity import Gang
from fleetctl.gang.plan import plan
from fleetctl.gang.snapshot import Acceptance, Memory, Snapshot
from fleetctl.gang.spec import (
    ApplicationBudget,
    Budgets,
    GangSpec,
    GangStatus,
    Group,
    Match,
    NodeBudget,
    Recovery,
    UserRule,
)
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise, Spare, Steps, Zombie

TEMPLATE: dict[str, Any] = {"spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]}}
NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def a_gang(
    ranks: int = 2,
    template: dict[str, Any] = TEMPLATE,
    budget: ApplicationBudget | None = None,
    fatal: tuple[int, ...] = (),
    node_budget: NodeBudget | None = None,
    spares: int = 0,
    **policy: Any,
) -> Gang:
    recovery = Recovery(
        budgets=Budgets(
            application=budget or ApplicationBudget(restarts=100, without_progress=100),
            node=node_budget or NodeBudget(),
        ),
        rules=[UserRule(match=Match(exit_codes=list(fatal)), action="FailGang")] if fatal else [],
        **policy,
    )
    spec = GangSpec(groups=[Group(name="worker", size=ranks, template=template, spares=spares)], recovery=recovery)
    return Gang(namespace="default", name="llm", uid="gang-uid", spec=spec)


@dataclass
class World:
    """A gang whose members do at once what a plan asks of them. Not a simulator: no delays, no API server.

    Rank r is on node r // 2; a pod that must avoid that goes to the next.
    """

    gang: Gang
    status: GangStatus = field(default_factory=GangStatus)
    memory: Memory = field(default_factory=Memory)
    writer: str = "controller-a/1"
    members: list[Member] = field(default_factory=list)
    now: datetime = NOW
    starts: list[tuple[int, int]] = field(default_factory=list)
    """(rank, attempt) of every trainer that started."""
    tickets: int = 0
    lives: int = 0
    pods: int = 0
    deleted: list[tuple[str, int | None]] = field(default_factory=list)
    """(uid, grace) of every pod that was deleted."""
    nodes: dict[str, Node] = field(default_factory=dict)
    zombies: list[Zombie] = field(default_factory=list)
    refused: str = ""
    steps: dict[int, Steps] = field(default_factory=dict)
    spares: list[Spare] = field(default_factory=list)
    terminates: bool = True
    """Whether a pod that is deleted with a grace goes at once."""

    def __post_init__(self) -> None:
        self.members = [
            Member(rank=s.rank, pod_name=s.pod_name, trainer=s.trainer, group=s.group.name) for s in self.gang.slots
        ]

    def snapshot(self) -> Snapshot:
        self.tickets += 1
        return Snapshot(
            gang=self.gang,
            generation=1,
            status=self.status,
            members=tuple(replace(m, node=self.node_of(m)) for m in self.members),
            spares=tuple(replace(s, on=self.nodes[s.on.name] if s.on else None) for s in self.spares),
            monotonic=self.clock(),
            zombies=tuple(self.zombies),
            refused=self.refused,
            steps=self.steps,
            now=self.now,
            writer=self.writer,
            fresh_ticket=f"ticket-{self.tickets}",
            acceptance=Acceptance(),
        )

    def think(self) -> Plan:
        decided = plan(self.snapshot(), self.memory)
        self.memory = decided.memory or self.memory
        return decided

    def carry_out(self, action: Action) -> None:
        self.now += timedelta(milliseconds=100)
        match action:
            case WriteStatus(status):
                self.status = status
            case CreatePods(slots, number, avoid, onto):
                for slot in slots:
                    self.create(slot.rank, number, avoid, onto.get(slot.rank, ""))
            case CreateSpares(wanted):
                for spare in wanted:
                    self.create_spare(spare.group, spare.index)
            case DeletePods(pods):
                for deletion in pods:
                    self.spares = [spare for spare in self.spares if spare.uid != deletion.uid]
                    self.delete(deletion.uid, deletion.grace_s)
            case Prove(uids, coordinator_uid):
                for member in self._members(uids):
                    self.update_life(member.rank, reaches=coordinator_uid)
            case Reset(uids, number):
                for member in self._members(uids):
                    if member.life and 0 < member.life.attempt < number:
                        self.new_life(member.rank)
            case Ping(uids, promise):
                for member in self._members(uids):
                    if member.life and member.life.waits:
                        self.update_life(member.rank, promise=promise)
            case Release(uids, promise):
                for member in self._members(uids):
                    if member.life and member.life.waits and member.life.promise == promise:
                        self.starts.append((member.rank, promise.attempt))
                        self.update_life(member.rank, attempt=promise.attempt)
            case _:
                pass

    def run(self, steps_max: int = 20) -> "World":
        """Plan and act until nothing is left to do, nor in a moment."""
        for _ in range(steps_max):
            decided = self.think()
            if not decided.actions and decided.wake_in == HEED_S:
                self.now += timedelta(seconds=HEED_S)
                continue
            if not decided.actions:
                return self
            for action in decided.actions:
                self.carry_out(action)
            if any(isinstance(action, CreatePods) for action in decided.actions):
                self.now += timedelta(seconds=1)  # the next ones come a second later
        raise AssertionError(f"still busy after {steps_max} steps: {decided}")

    def create_spare(self, group: Group, index: int) -> None:
        """On a node of its own, where it is ready at once."""
        name = spare_pods.name(self.gang, group, index)
        assert name not in {spare.name for spare in self.spares}
        self.pods += 1
        node = self.nodes.setdefault(f"spare-{self.pods}", Node(name=f"spare-{self.pods}"))
        self.spares.append(
            Spare(name=name, uid=f"spare-{self.pods}", version="1", group=group.name, ready=True, on=node)
        )

    def create(self, rank: int, attempt: int, avoid: tuple[str, ...] = (), onto: str = "") -> None:
        if self.members[rank].pod:
            return
        self.pods += 1
        uid = f"uid-{rank}" if self.pods <= len(self.members) else f"uid-{rank}-{self.pods}"
        node = onto or next(name for n in range(rank // 2, 1000) if (name := f"node-{n}") not in avoid)
        assert node not in avoid, "a node to avoid"
        assert all(spare.on is None or spare.on.name != node for spare in self.spares), "the room is still taken"
        self.nodes.setdefault(node, Node(name=node))
        pod = Pod(name=self.members[rank].pod_name, uid=uid, version="1", attempt=attempt, phase="Running", node=node)
        self.members[rank] = replace(self.members[rank], pod=pod, life=None)
        self.new_life(rank)

    def delete(self, uid: str, grace_s: int | None) -> None:
        """By us, as the API server does it."""
        record = self.status.attempt
        for member in self._members((uid,)):
            assert member.pod
            named = (member.rank, uid) in {(r.rank, r.uid) for r in record.replacing}
            assert named or member.pod.attempt < record.replace_created_before, "S6: deleted without being named"
            self.deleted.append((uid, grace_s))
            if grace_s == 0 or self.terminates:
                self.members[member.rank] = replace(member, pod=None, life=None)
            else:
                self.pod(member.rank, deleting=True)

    def node(self, name: str, **changes: Any) -> None:
        self.nodes[name] = replace(self.nodes[name], **changes)

    def node_of(self, member: Member) -> Node | None:
        return self.nodes[member.pod.node] if member.pod and member.pod.node else None

    def dies(self, name: str, still_s: float = 100.0) -> None:
        """A node is gone without a word."""
        self.node(name, silent=True, still_s=still_s)
        for member in self.members:
            if member.pod and member.pod.node == name and member.life:
                self.update_life(member.rank, connected=False, silent=True)

    def new_life(self, rank: int) -> None:
        """The pod's containers restart in place; the agent says hello with the promise floor it had."""
        self.lives += 1
        member = self.members[rank]
        assert member.pod
        reaches = member.life.reaches if member.life else ""
        life = Life(uid=member.pod.uid, life_id=f"life-{self.lives}", started_at=self.clock(), reaches=reaches)
        pod = replace(member.pod, containers=(Container(name=member.trainer),), restarting_since=None)
        self.members[rank] = replace(member, life=life, pod=pod)

    def update_life(self, rank: int, **changes: Any) -> None:
        member = self.members[rank]
        assert member.life
        self.members[rank] = replace(member, life=replace(member.life, **changes))

    def exits(self, rank: int, code: int, container: str = "trainer", reason: str = "Error") -> None:
        """A container ends; the kubelet begins to restart all containers of the pod."""
        self.now += timedelta(seconds=5)
        member = self.members[rank]
        assert member.pod
        ended = Ended(exit_code=code, reason=reason, finished_at=int(self.clock()))
        containers = (
            Container(name=container, ended=ended),
            *(c for c in member.pod.containers if c.name != container),
        )
        pod = replace(member.pod, containers=containers, restarting_since=int(self.clock()))
        self.members[rank] = replace(member, pod=pod)

    def pod(self, rank: int, **changes: Any) -> None:
        member = self.members[rank]
        assert member.pod
        self.members[rank] = replace(member, pod=replace(member.pod, **changes))

    def succeeds(self, rank: int) -> None:
        self.pod(rank, phase="Succeeded")
        self.update_life(rank, connected=False, leaving=True)

    def clock(self) -> float:
        return self.now.timestamp()

    def _members(self, uids: tuple[str, ...]) -> list[Member]:
        return [m for m in self.members if m.pod and m.pod.uid in uids]


def running_gang(ranks: int = 2, **settings: Any) -> World:
    """A gang whose first attempt runs."""
    world = World(a_gang(ranks, **settings))
    world.run()
    assert world.status.attempt.released == 1
    return world


def committed(world: World) -> Promise:
    return Promise(attempt=world.status.attempt.released, ticket=world.status.attempt.ticket)


def round_of(world: World) -> attempt.Round:
    assert world.memory.round
    return world.memory.round
