"""A seeded random sequence of faults for one gang, each once it runs undisturbed again: `fleetctl replay --nemesis`.

Only faults that end by themselves or that a gang recovers from, that every backend can do, and after which a cluster of
a few nodes is as it was. Knows nothing of how they are done.
"""

import random
from pathlib import Path

from fleetctl.scenario import faults as f
from fleetctl.scenario.durations import Seconds
from fleetctl.scenario.model import (
    SPARE_NODES,
    End,
    Expect,
    GangSize,
    KindCluster,
    Scenario,
    Select,
    Step,
    When,
    World,
)

RANKS, WORKERS = 12, 4
WITHIN_S = 240.0
"""A gang that does not run again so long after the last fault never will."""

_KINDS: tuple[tuple[f.Fault, float, Seconds | None], ...] = (
    (f.ContainerExit(exit_code=3), 3, None),
    (f.ContainerExit(signal="SIGSEGV"), 3, None),
    (f.OutOfMemory(), 2, None),
    (f.AgentExits(), 2, None),
    (f.AgentHangs(), 1, 20.0),
    (f.AgentUnreachable(), 1, 20.0),
    (f.TrainerHangs(), 1, 10.0),
    (f.PodDeleted(grace=2.0), 2, None),
    (f.PodDeleted(force=True), 1, None),
    (f.PodEvicted(), 1, None),
    (f.NodeRebooted(down=5.0), 2, None),
    (f.NodeDark(), 2, 45.0),
    (f.NodeFrozen(), 2, 45.0),
    (f.KubeletStopped(), 1, 15.0),
    (f.ControllerCrash(), 2, None),
    (f.ControllerFrozen(), 1, 8.0),
    (f.ApiOutage(), 1, 10.0),
)
"""What may happen, how often compared with the others, and for how long."""


def nemesis(seed: int, faults: int) -> Scenario:
    """So many faults, drawn from the seed."""
    rng = random.Random(f"{seed}:nemesis")  # noqa: S311  (it must repeat)
    weights = [weight for _, weight, _ in _KINDS]
    steps = [_step(rng, number, *_KINDS[rng.choices(range(len(_KINDS)), weights)[0]]) for number in range(faults)]
    return Scenario(
        name="nemesis",
        why=f"{faults} faults drawn from seed {seed}, each once the gang runs undisturbed again.",
        backends=("sim", "kind"),
        seed=seed,
        world=World(gang=GangSize(ranks=RANKS), ranks_per_node=RANKS // WORKERS, nodes=WORKERS + SPARE_NODES),
        policy_given={
            "budgets": {"application": {"restarts": 1000, "withoutProgress": 1000}, "node": {"restarts": 1000}}
        },
        kind=KindCluster(ranks=RANKS, workers=WORKERS),
        timeline=tuple(steps),
        expect=Expect(end=End(kind="running", within=WITHIN_S)),
        path=Path("nemesis"),
        drawn=("--nemesis", "--faults", str(faults)),
    )


def _step(rng: random.Random, number: int, fault: f.Fault, _: float, lasts: Seconds | None) -> Step:
    select = Select()
    if type(fault).target == "ranks":
        select = Select(ranks=(rng.randrange(RANKS),))
    elif type(fault).target == "nodes":
        select = Select(node_of=rng.randrange(RANKS))
    return Step(
        when=When(kind="calm", value=number), after=rng.uniform(0.0, 2.0), fault=fault, select=select, lasts=lasts
    )
