"""A random world and random faults for each seed, storm then calm: `fleetctl replay --campaign`.

Which kinds of fault a seed has is drawn first, a few only, and then several of each (swarm): a mix of everything hides
what two kinds do together. Some faults come at a time, some at the instant of another, some at a moment inside a
recovery, where most mistakes are. Every world can end with all ranks running, and must.

Knows nothing of how faults are done, nor of who judges. What it takes care of by construction, because the simulator
cannot do it or the gang may rightly end otherwise:
    a trigger must come: all wait for the first two attempts, or the third where a fault sees to it, and of ranks for
    the one that fails first; what may keep an attempt from being released, such as suspension, comes after the second
    a fault that lasts has its targets for itself: its end would also end another one's
    a finalizer is set before anything can delete the pod, a foreign pod is taken away again, a gang that is deleted is
    created again, an edit is undone
    a rank that exits 0 is followed by a fault of another one, without which it would have finished
    lost nodes have spare ones, and are below the ceiling; clocks jump once, by the leeway of tokens at most
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fleetctl.scenario import faults as f
from fleetctl.scenario.durations import Range, Seconds
from fleetctl.scenario.model import End, Expect, GangSize, Latency, Scenario, Select, Step, Trainer, When, World

FEWEST, MOST = 8, 64
"""Ranks, unless they are given."""
MANY = 128
"""Gangs of so many ranks have few faults, of the quick kinds."""
WITHIN_S, QUIET_S = 900.0, 12.0
QUARANTINED = 3
"""So many machines of a small cluster may be in quarantine, and are no room for anybody. In every fourth world none
are, and the room is tight."""
WITH_SPARES = 0.25
"""So many of the worlds have spares."""
SPARES_TAKE_S = 40.0
"""Until they are ready, once the gang runs."""

REPORTED = ("xid-79", "xid-48", "xid-31", "xid-13", "xid-45", "xid-999")
CONDITIONS = ("KernelDeadlock", "ReadonlyFilesystem", "GpuUnhealthy", "SomebodyWasHere")
LEAVING = ("karpenter.sh/disrupted", "cloud.google.com/impending-node-termination")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind of fault is drawn. `lasts`: seconds. `quick`: a gang of a thousand ranks may have it."""

    draw: Callable[[random.Random], f.Fault]
    lasts: tuple[Seconds, Seconds] | None = None
    quick: bool = True
    once: bool = False


def _fixed(fault: f.Fault) -> Callable[[random.Random], f.Fault]:
    return lambda _: fault


def _share(rng: random.Random) -> float:
    return rng.choice((0.02, 0.05, 0.1, 0.3))


def _resource(rng: random.Random) -> f.Plural:
    return rng.choice(("pods", "pods", "nodes", "gangs", "leases"))


_REFUSED: tuple[tuple[f.Plural, Any, int], ...] = (
    ("pods", "create", 403),
    ("pods", "create", 422),
    ("pods", "delete", 403),
    ("gangs", "update", 403),
    ("gangs", "update", 422),
)


def _refused(rng: random.Random) -> f.Fault:
    resource, verb, status = rng.choice(_REFUSED)
    return f.WritesRefused(resource=resource, verb=verb, status=status, message="exceeded quota")


def _crash_around(rng: random.Random, write: Any) -> f.Fault:
    return f.ControllerCrash(edge=rng.choice(("before", "after")), write=write, restart_after=rng.uniform(0.2, 8.0))


_SOME, _LONG = (2.0, 15.0), (5.0, 30.0)

_KINDS: tuple[_Kind, ...] = (
    _Kind(lambda rng: f.ContainerExit(exit_code=rng.choice((1, 2, 88, 137, 139, 143)))),
    _Kind(_fixed(f.ContainerExit(exit_code=0)), quick=False),
    _Kind(lambda rng: f.ContainerExit(signal="SIGSEGV", container=rng.choice(("trainer", "trainer", "agent")))),
    _Kind(lambda rng: f.OutOfMemory(container=rng.choice(("trainer", "trainer", "agent")))),
    _Kind(lambda rng: f.CrashLoop(after=rng.uniform(0.0, 3.0)), lasts=(3.0, 15.0), quick=False),
    _Kind(_fixed(f.TrainerHangs()), lasts=_SOME),
    _Kind(lambda rng: f.TrainerSlow(factor=rng.uniform(1.1, 3.0)), lasts=_LONG),
    _Kind(lambda rng: f.HardwareReport(code=rng.choice(REPORTED), device=f"GPU-{rng.randrange(8)}")),
    _Kind(_fixed(f.DeviceUnhealthy()), lasts=_LONG),
    _Kind(_fixed(f.ImagePullFails()), lasts=_LONG),
    _Kind(_fixed(f.ContainerNeverReturns()), lasts=_LONG, quick=False),
    _Kind(
        lambda rng: f.PodEvicted(
            reason=rng.choice(
                (
                    "EvictionByEvictionAPI",
                    "PreemptionByScheduler",
                    "DeletionByTaintManager",
                    "DeletionByPodGC",
                    "TerminationByKubelet",
                )
            )
        )
    ),
    _Kind(lambda rng: f.AgentExits(exit_code=rng.choice((0, 1, 88, 137)))),
    _Kind(_fixed(f.AgentHangs()), lasts=_SOME),
    _Kind(_fixed(f.AgentUnreachable()), lasts=_SOME),
    _Kind(_fixed(f.AgentNeverStarts()), lasts=_SOME, quick=False),
    _Kind(_fixed(f.AgentToldNothing()), lasts=_SOME),
    _Kind(_fixed(f.NodeKilled())),
    _Kind(_fixed(f.NodePowerLoss())),
    _Kind(lambda rng: f.NodeRebooted(down=rng.uniform(1.0, 30.0))),
    _Kind(_fixed(f.NodeDark()), lasts=(3.0, 45.0)),
    _Kind(_fixed(f.NodeFrozen()), lasts=(3.0, 45.0)),
    _Kind(lambda rng: f.NodeFlapping(every=rng.uniform(6.0, 20.0), down=rng.uniform(0.5, 5.0)), lasts=_LONG),
    _Kind(_fixed(f.KubeletStopped()), lasts=_LONG),
    _Kind(lambda rng: f.KubeletSlow(lag=rng.uniform(1.0, 30.0)), lasts=_LONG, quick=False),
    _Kind(_fixed(f.KubeletForgets())),
    _Kind(
        lambda rng: f.NodeTainted(
            key=rng.choice(("example.com/wanted", *LEAVING)), effect=rng.choice(("NoSchedule", "NoExecute"))
        ),
        lasts=_LONG,
    ),
    _Kind(lambda rng: f.NodeCondition(type=rng.choice(CONDITIONS)), lasts=_LONG),
    _Kind(_fixed(f.NodeDeleted())),
    _Kind(_fixed(f.NoCapacity()), lasts=_SOME),
    _Kind(lambda rng: f.ControllerCrash(restart_after=rng.uniform(0.2, 8.0))),
    _Kind(lambda rng: _crash_around(rng, "status")),
    _Kind(lambda rng: _crash_around(rng, rng.choice(("create", "delete", "any")))),
    _Kind(_fixed(f.ControllerFrozen()), lasts=_SOME),
    _Kind(_fixed(f.ControllerGone()), lasts=_SOME),
    _Kind(_fixed(f.LeaseUnreachable()), lasts=_SOME),
    _Kind(lambda rng: f.ClockJump(by=rng.choice((60.0, 900.0, 3600.0, -60.0, -900.0, -3600.0))), once=True),
    _Kind(lambda rng: f.ApiThrottled(retry_after=rng.choice((1.0, 2.0, 5.0)), share=_share(rng)), lasts=_LONG),
    _Kind(lambda rng: f.ApiErrors(status=rng.choice((500, 503, 504)), share=_share(rng)), lasts=_LONG),
    _Kind(lambda rng: f.AnswersLost(share=_share(rng), applied=rng.random() < 0.7), lasts=_LONG),
    _Kind(lambda rng: f.ConnectionsReset(share=_share(rng)), lasts=_LONG),
    _Kind(lambda rng: f.TokenRejected(share=rng.choice((0.05, 0.3, 1.0))), lasts=_SOME),
    _Kind(_refused, lasts=_SOME),
    _Kind(
        lambda rng: f.Conflicts(resource=rng.choice(("gangs", "gangs", "leases")), share=rng.choice((0.2, 0.5, 0.8))),
        lasts=_LONG,
    ),
    _Kind(lambda rng: f.ApiSlow(latency=Range(0.5, rng.uniform(0.6, 5.0))), lasts=_SOME, quick=False),
    _Kind(_fixed(f.ApiOutage()), lasts=_SOME),
    _Kind(lambda rng: f.WatchStalled(resource=_resource(rng)), lasts=_LONG),
    _Kind(lambda rng: f.WatchesClosed(every=rng.uniform(0.3, 5.0)), lasts=_SOME, quick=False),
    _Kind(_fixed(f.HistoryLost())),
    _Kind(_fixed(f.StaleLists()), lasts=_LONG),
    _Kind(_fixed(f.EventsDuplicated()), lasts=_LONG),
    _Kind(lambda rng: f.WatchDelayed(resource=_resource(rng), by=rng.uniform(0.5, 10.0)), lasts=_LONG),
    _Kind(lambda rng: f.EventsCoalesced(resource=_resource(rng), window=rng.uniform(0.5, 5.0)), lasts=_LONG),
    _Kind(lambda rng: f.PodDeleted(grace=rng.choice((1.0, 5.0, 30.0)), force=rng.random() < 0.4)),
    _Kind(_fixed(f.PodEdited())),
    _Kind(_fixed(f.GangEdited(spec={})), lasts=None, quick=False, once=True),
    _Kind(_fixed(f.GangDeleted()), quick=False, once=True),
    _Kind(_fixed(f.StatusWiped()), quick=False, once=True),
    _Kind(_fixed(f.StuckTerminating()), quick=False, once=True),
    _Kind(_fixed(f.ForeignPod()), quick=False, once=True),
)
"""Those whose faults come with others, such as their undoing, are written out in `_Storm`."""

_KINDS_OF_SPARES: tuple[_Kind, ...] = (
    _Kind(_fixed(f.SparesCrash()), lasts=_LONG),
    _Kind(lambda rng: f.NodeRejectsPods(reason=rng.choice(("OutOfcpu", "UnexpectedAdmissionError"))), lasts=_LONG),
    _Kind(lambda rng: f.PodsStartSlowly(takes=rng.uniform(5.0, 200.0)), lasts=_LONG),
    _Kind(lambda rng: f.ImagePullSlow(takes=rng.uniform(5.0, 200.0)), lasts=_LONG),
    _Kind(_fixed(f.NodeKilled())),
    _Kind(_fixed(f.NodePowerLoss())),
    _Kind(_fixed(f.NodeDark()), lasts=(3.0, 45.0)),
    _Kind(_fixed(f.NodeReplaced())),
)
"""What befalls nodes with spares, in worlds that have any."""

_EDITS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"suspend": True}, {"suspend": False}),
    ({"recovery": {"paused": True}}, {"recovery": {"paused": False}}),
    ({"recovery": {"mode": "Observe"}}, {"recovery": {"mode": "Enforce"}}),
    ({"recovery": {"inPlaceDeadlineSeconds": 5}}, {"recovery": {"inPlaceDeadlineSeconds": 60}}),
)
"""What somebody edits, and edits back."""
_ACCUSES = (f.AgentNeverStarts, f.ContainerNeverReturns, f.HardwareReport, f.DeviceUnhealthy)
"""Faults of ranks for which their nodes may be judged bad."""
_LOST = (f.NodeKilled, f.NodePowerLoss, f.NodeDeleted)


def campaign(seed: int, ranks: int | None = None) -> Scenario:
    """The world and the faults of a seed."""
    rng = random.Random(f"{seed}:campaign:{ranks or ''}")  # noqa: S311  (it must repeat)
    size = ranks or int(FEWEST * (MOST / FEWEST) ** (rng.random() ** 5))
    per_node = 8 if size >= MANY else rng.choice((1, 2, 4, 8))
    hosts = -(-size // per_node)
    storm = _Storm(rng, size, hosts)
    storm.draw()
    quarantines = bool(seed % 4)
    spare = storm.lost + rng.choice((1, 2)) + QUARANTINED * quarantines
    drawn = Scenario(
        name="campaign",
        why=f"A world and {len(storm.steps)} faults drawn from seed {seed}: a storm, then calm.",
        seed=seed,
        world=World(
            gang=GangSize(ranks=size),
            ranks_per_node=per_node,
            nodes=hosts + spare,
            controllers=rng.choice((1, 2, 2)),
            trainer=_trainer(rng),
            latency=Latency() if size >= MANY else _latency(rng),
        ),
        policy_given={
            "inPlaceDeadlineSeconds": rng.choice((20, 40, 90)),
            "recreateDeadlineSeconds": rng.choice((90, 300)),
            "unhealthyCeiling": "100%" if storm.accuses_nodes() else rng.choice(("20%", "50%")),
            "breaker": {"nodes": "100%"},  # a storm on a small gang looks like a broken health check
            "budgets": {"application": {"restarts": 1000, "withoutProgress": 1000}, "node": {"restarts": 1000}},
            **({} if quarantines else {"quarantine": {"nodes": "0%"}}),
        },
        timeline=tuple(storm.steps),
        expect=Expect(end=End(kind="running", within=WITHIN_S), quiet_s=QUIET_S),
        path=Path("campaign"),
        drawn=("--campaign", *(("--ranks", str(ranks)) if ranks else ())),
    )
    return _with_spares(drawn, storm) if rng.random() < WITH_SPARES else drawn


def _with_spares(drawn: Scenario, storm: "_Storm") -> Scenario:
    """The same, and spares, on nodes of their own that something may befall. Drawn last, so that what is drawn without
    them is as it was."""
    world, rng = drawn.world, storm.rng
    spares = rng.choice((1, 2, 4))
    theirs = -(-spares // world.ranks_per_node)
    lost = storm.befall_spares(range(world.nodes, world.nodes + theirs))
    return replace(
        drawn,
        why=f"{drawn.why} And {spares} spares.",
        world=replace(world, gang=replace(world.gang, spares=spares), nodes=world.nodes + theirs + lost),
        timeline=tuple(map(_once_there_are_spares, storm.steps)),
    )


def _once_there_are_spares(step: Step) -> Step:
    """What is to happen in the first attempt happens so much later."""
    match step.when:
        case When(kind="released", value=1) | When(kind="trainer_started", occurrence=1):
            return replace(step, after=step.after + SPARES_TAKE_S)
    return step


def _trainer(rng: random.Random) -> Trainer:
    stops_in = rng.choice((Range(0.05, 0.2), Range(0.05, 0.2), Range(0.5, 3.0), Range(10.0, 10.0)))
    return Trainer(step=rng.choice((0.5, 2.0, 5.0)), reports_steps=rng.random() < 0.5, stops_in=stops_in)


def _latency(rng: random.Random) -> Latency:
    if rng.random() < 0.6:
        return Latency()
    slow = rng.uniform(2.0, 10.0)
    return Latency(
        network=Range(0.0002, 0.002 * slow),
        api=Range(0.001, 0.005 * slow),
        kubelet=Range(0.05, 0.1 * slow),
        container_start=Range(0.1, 0.3 * slow),
        image_pull=Range(0.0, rng.choice((0.0, 5.0))),
    )


@dataclass
class _Storm:
    """The faults of one seed."""

    rng: random.Random
    ranks: int
    hosts: int
    """Nodes that the gang needs; there are a few more."""
    steps: list[Step] = field(default_factory=list)
    lost: int = 0
    """Nodes that do not come back."""
    first: int = 0
    """The rank that fails first: it runs in the first attempt, and in another."""
    third: bool = False
    """Whether a third attempt is certain."""

    def draw(self) -> None:
        """First what is sure to raise the target, then faults of the kinds that are live."""
        rng, few = self.rng, self.ranks >= MANY
        self._length_s = rng.uniform(5.0, 15.0) if few else rng.uniform(15.0, 45.0)
        self.first = rng.randrange(self.ranks)
        self._free_nodes = rng.sample(range(self.hosts), self.hosts)
        self._free_ranks = rng.sample(range(self.ranks), self.ranks)
        kinds = [kind for kind in _KINDS if kind.quick or not few]
        chance = rng.choice((0.05, 0.1, 0.25))
        live = [kind for kind in kinds if rng.random() < chance] or [rng.choice(kinds)]
        # while we observe, a rank that fails is let in alone, and a gang that is created again begins with attempt 1
        steady = not any(kind.once and kind.draw(rng).family == "people" for kind in live)
        self._begin_recoveries(few=few, steady=steady)
        for _ in range(rng.randint(1, 2) if few else rng.randint(2, 8)):
            kind = rng.choice(live)
            if kind.once:
                live = [other for other in live if other is not kind] or [_KINDS[0]]
            self._add(kind)

    def accuses_nodes(self) -> bool:
        """Whether nodes may be judged bad: for good, if it is their agents that never start."""
        return any(type(s.fault).family == "node" or isinstance(s.fault, _ACCUSES) for s in self.steps)

    def _begin_recoveries(self, *, few: bool, steady: bool) -> None:
        rng = self.rng
        fails = f.ContainerExit(exit_code=rng.choice((1, 139)))
        self.third = steady and not few and rng.random() < 0.5
        for time in range(1, 2 + self.third):
            runs = When(kind="trainer_started", value=self.first, occurrence=time)
            self._step(fails, (runs, rng.uniform(0.0, 4.0)), Select(ranks=(self.first,)))

    def _add(self, kind: _Kind) -> None:
        rng, fault, moment = self.rng, kind.draw(self.rng), self._moment()
        lasts = rng.uniform(*kind.lasts) if kind.lasts else None
        match fault:
            case f.GangEdited():
                self._edit()
            case f.GangDeleted():
                moment = self._in_second()
                self._step(fault, moment)
                self._step(f.GangCreatedAgain(), _later(moment, rng.uniform(0.01, 20.0)))
            case f.StatusWiped():
                self._step(fault, self._in_second())
            case f.StuckTerminating() | f.ForeignPod() if not self._free_ranks:
                pass
            case f.StuckTerminating():
                self._stick(fault)
            case f.ForeignPod():
                self._take_name(fault, moment)
            case f.ContainerExit(exit_code=0, signal=""):
                first, other = rng.sample(range(self.ranks), 2)
                self._step(fault, moment, Select(ranks=(first,)))
                self._step(f.ContainerExit(), _later(moment, rng.uniform(0.0, 10.0)), Select(ranks=(other,)))
            case f.NodeFault():
                self._befall_node(fault, moment, lasts)
            case _ if type(fault).target == "ranks":
                self._befall_ranks(fault, moment, lasts)
            case _ if lasts is None or not self._is_under_way(fault):
                self._step(fault, moment, lasts=lasts)

    def befall_spares(self, nodes: Sequence[int]) -> int:
        """Faults of some of these nodes, where spares may be. Returns how many do not come back."""
        rng, before = self.rng, self.lost
        self._free_nodes = rng.sample(nodes, len(nodes))
        for _ in range(0 if self.ranks >= MANY else rng.randint(0, 2)):
            kind = rng.choice(_KINDS_OF_SPARES)
            lasts = rng.uniform(*kind.lasts) if kind.lasts else None
            self._befall_node(kind.draw(rng), self._moment(), lasts)
        return self.lost - before

    # Whom

    def _befall_ranks(self, fault: f.Fault, moment: "_Moment", lasts: Seconds | None) -> None:
        rng = self.rng
        count = min(rng.choice((1, 1, 1, 2, 4)), self.ranks // 2)
        if lasts is None:
            chosen = rng.sample(range(self.ranks), count)
        else:
            chosen = [self._free_ranks.pop() for _ in range(min(count, len(self._free_ranks)))]
        if chosen:
            spread = rng.uniform(0.5, 10.0) if rng.random() < 0.3 else 0.0
            self._step(fault, moment, Select(ranks=tuple(sorted(chosen))), lasts=lasts, spread=spread)

    def _befall_node(self, fault: f.Fault, moment: "_Moment", lasts: Seconds | None) -> None:
        if isinstance(fault, f.KubeletForgets):
            self._step(fault, moment, Select(nodes=(self.rng.randrange(self.hosts),)))
        elif self._free_nodes:
            self.lost += isinstance(fault, _LOST)
            self._step(fault, moment, Select(nodes=(self._free_nodes.pop(),)), lasts=lasts)

    def _is_under_way(self, fault: f.Fault) -> bool:
        return any(type(step.fault) is type(fault) for step in self.steps)

    # When

    def _moment(self) -> "_Moment":
        """While the gang starts, in the storm, inside a recovery, or with another fault or soon after it."""
        rng, how = self.rng, self.rng.random()
        if how < 0.05:
            return When(kind="pod_created", value=rng.randrange(self.ranks)), rng.uniform(0.0, 4.0)
        if how < 0.35:
            return When(kind="released", value=1), rng.uniform(0.0, self._length_s)
        if how < 0.8:
            soon = rng.choice((0.0, 0.3, 3.0, 10.0))
            return self._inside(), rng.uniform(0.0, soon)
        other = rng.choice(self.steps)
        assert other.when  # noqa: S101  (all of ours wait for something)
        return _later((other.when, other.after), rng.choice((0.0, rng.uniform(0.0, 2.0))))

    def _in_second(self) -> "_Moment":
        """When all that others wait for has come: what follows may go otherwise than by attempts that follow."""
        soon = self.rng.choice((0.0, 3.0, self._length_s))
        return When(kind="released", value=2), self.rng.uniform(0.0, soon)

    def _inside(self) -> When:
        return self.rng.choice(
            (
                When(kind="target", value=2 + self.third),
                When(kind="target", value=2),
                When(kind="released", value=2 + self.third),
                When(kind="released", value=2),
                When(kind="trainer_ended", value=self.first),
                When(kind="trainer_started", value=self.first, occurrence=2),
            )
        )

    # Faults that come with others

    def _edit(self) -> None:
        does, undoes = self.rng.choice(_EDITS)
        moment = self._in_second()
        self._step(f.GangEdited(spec=does), moment)
        self._step(f.GangEdited(spec=undoes), _later(moment, self.rng.uniform(0.5, 30.0)))

    def _stick(self, fault: f.Fault) -> None:
        select = Select(ranks=(self._free_ranks.pop(),))
        made = When(kind="pod_created", value=select.ranks[0])
        self._step(fault, (made, 0.0), select, lasts=self.rng.uniform(20.0, 60.0))
        self._step(f.PodDeleted(grace=1.0), self._moment(), select)

    def _take_name(self, fault: f.Fault, moment: "_Moment") -> None:
        select, gone = Select(ranks=(self._free_ranks.pop(),)), f.PodDeleted(force=True)
        self._step(gone, moment, select)
        self._step(fault, moment, select)
        self._step(gone, _later(moment, self.rng.uniform(2.0, 20.0)), select)

    def _step(
        self,
        fault: f.Fault,
        moment: "_Moment",
        select: Select = Select(),  # noqa: B008  (it is frozen)
        *,
        lasts: Seconds | None = None,
        spread: Seconds = 0.0,
    ) -> None:
        when, after = moment
        self.steps.append(Step(when=when, after=after, fault=fault, select=select, lasts=lasts, spread=spread))


_Moment = tuple[When, Seconds]


def _later(moment: _Moment, seconds: Seconds) -> _Moment:
    return moment[0], moment[1] + seconds
