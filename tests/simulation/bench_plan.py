"""How long one decision takes: `plan()` over 10,240 members, in the situations that a large gang is in.

python tests/simulation/bench_plan.py [RANKS]: milliseconds, median and worst of thirty, and the ratio to a gang that
runs. A look at API objects and agents, which comes before, is not in it.
"""

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

import msgspec

from fleetctl.gang.diagnose import foresee
from fleetctl.gang.identity import Gang
from fleetctl.gang.plan import plan
from fleetctl.gang.snapshot import Memory, Snapshot
from fleetctl.gang.spec import AttemptRecord, Condition, GangSpec, GangStatus, Group
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise, Report, Steps

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
HELD = Promise(attempt=4, ticket="t")
RUNS = 30
A_NODE = 8


def a_gang(ranks: int) -> Gang:
    template = {"spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]}}
    spec = GangSpec(groups=[Group(name="worker", size=ranks, template=template)])
    return Gang(namespace="default", name="llm", uid="u", spec=spec)


def running(gang: Gang) -> Snapshot:
    nodes = [
        Node(name=f"node-{n}", domains=(f"zone={n // 512}", f"rack={n // 16}"))
        for n in range(len(gang.slots) // A_NODE)
    ]
    members = tuple(
        Member(
            rank=slot.rank,
            pod_name=slot.pod_name,
            trainer=slot.trainer,
            group="worker",
            node=nodes[slot.rank // A_NODE],
            pod=Pod(
                name=slot.pod_name,
                uid=f"uid-{slot.rank}",
                attempt=1,
                node=f"node-{slot.rank // A_NODE}",
                phase="Running",
                containers=(Container(name=slot.trainer, running=True),),
            ),
            life=Life(uid=f"uid-{slot.rank}", life_id="x", started_at=100.0, attempt=4, promise=HELD),
        )
        for slot in gang.slots
    )
    stamp = "2026-11-21T05:00:00.000000Z"
    record = AttemptRecord(target=4, released=4, ticket="t", writer="c/1", released_at=stamp, started_at=stamp)
    condition = Condition(type="Running", status="True", reason="r", message="m", last_transition_time=stamp)
    return Snapshot(
        gang=gang,
        generation=1,
        status=GangStatus(attempt=record, conditions=[condition]),
        members=members,
        now=NOW,
        writer="c/1",
        fresh_ticket="f",
        monotonic=5000.0,
    )


def reporting(seen: Snapshot) -> Snapshot:
    return replace(seen, steps={m.rank: Steps(step=9, at=4999.0, mean_s=2.0, work_s=1.6) for m in seen.members})


def hanging(seen: Snapshot) -> Snapshot:
    steps = {m.rank: Steps(step=9 - (m.rank == 17), at=4900.0, mean_s=2.0, work_s=1.6) for m in seen.members}
    return replace(seen, steps=steps)


def noisy(seen: Snapshot) -> Snapshot:
    """GPU nodes: tainted, with conditions; after a restart each has reported an XID."""

    def dressed(member: Member) -> Member:
        assert member.node
        assert member.life
        node = replace(member.node, taints=frozenset({"nvidia.com/gpu"}), conditions=frozenset({"KernelReady"}))
        life = replace(member.life, hardware=(Report(code="xid-45", device="GPU-0", at=101.0),))
        return replace(member, node=node, life=life)

    return replace(seen, members=tuple(dressed(m) for m in seen.members))


def failed(seen: Snapshot, ranks: range) -> Snapshot:
    def ended(member: Member) -> Member:
        assert member.pod
        end = Ended(exit_code=134, reason="Error", finished_at=200.0)
        pod = replace(member.pod, containers=(Container(name="trainer", ended=end),), restarting_since=200.0)
        return replace(member, pod=pod)

    return replace(seen, members=tuple(ended(m) if m.rank in ranks else m for m in seen.members))


def gathering(seen: Snapshot) -> Snapshot:
    """Everybody was told to restart; half are back."""
    status = msgspec.structs.replace(seen.status, attempt=msgspec.structs.replace(seen.status.attempt, target=5))

    def back(member: Member) -> Member:
        assert member.life
        return replace(member, life=replace(member.life, attempt=0, life_id="y")) if member.rank % 2 else member

    return replace(seen, status=status, members=tuple(back(m) for m in seen.members))


def main(ranks: int) -> None:
    """Print one line for each situation."""
    seen = running(a_gang(ranks))
    situations = {
        "runs": seen,
        "runs, steps are told": reporting(seen),
        "runs, taints, conditions and XIDs": noisy(seen),
        "hangs": hanging(seen),
        "one rank failed": failed(seen, range(17, 18)),
        "all ranks failed": failed(seen, range(ranks)),
        "gathers": gathering(seen),
    }
    baseline = 0.0
    for name, situation in situations.items():
        took = []
        for _ in range(RUNS):
            fresh = replace(situation, members=tuple(situation.members))
            for member in fresh.members:
                foresee(member)  # as the controller does, with pauses between
            began = time.perf_counter()
            plan(fresh, Memory())
            took.append((time.perf_counter() - began) * 1000)
        middle = median(took)
        baseline = baseline or middle
        print(f"{name:34} median {middle:7.1f} ms  worst {max(took):7.1f} ms  x{middle / baseline:.1f}")
    print(f"ranks={ranks} plan_ms={baseline:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_240)
