"""A row for each rule, and for its nearest misses: what is seen, and what is told. The rows of a rule are those that
change when it is taken out of the registry (test_diagnose_rules.py)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evidence import BORN, NOW, at_barrier, calm, ended, gathering, life, member, report, rule, steps, trains

from fleetctl.gang.diagnose import (
    container_exit,
    hardware,
    node_state,
    pod_state,
    progress,
    record,
    strikes,
    user_rules,
)
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.state import Member, Node, Strike


@dataclass(frozen=True)
class Row:
    """`told`: the rule's id and the sentence of the first verdict, None if there is none."""

    by: Callable[..., Any]
    members: Sequence[Member]
    told: tuple[str, str] | None
    gang: Circumstances = field(default_factory=calm)
    waited: Mapping[int, float] = field(default_factory=dict)


def struck(*rules: str, who: str = "ns/g/1", ago_h: float = 1) -> Node:
    return Node(name="n1", strikes=tuple(Strike(at=NOW - 3600 * ago_h, rule=rule, who=who) for rule in rules))


def silent(rank: int = 1, still_s: float = 20.0, **more: Any) -> Node:
    return Node(name=f"n{rank}", ready="Unknown", silent=True, still_s=still_s, **more)


NO_POD = Member(rank=1, pod_name="p-1", trainer="trainer")
QUIET = life(connected=False, silent=True)
FATAL = (rule("FailGang", exit_codes=[64]),)
RULED = (rule("RecreatePod", exit_codes=[42]), rule("RestartInPlace", signals=["SIGSEGV"]))
FRESH: dict[str, Any] = {"attempt": 3}
PULLS: dict[str, Any] = {"running": False, "waiting_reason": "ErrImagePull"}
CANNOT_PULL = "the new pod of rank 1 did not come up on node n1 within 120 s (ImagePullBackOff)"
UNBOUND: dict[str, Any] = {"node": "", "phase": "Pending", "containers": (), "unschedulable": True, "attempt": 3}
LAGS = steps({0: 4712, 1: 4711, 2: 4712}, at=100)
HANGS = calm(steps=LAGS, monotonic=161.0)
NO_STEP = calm(steps_before=True, released_s=1801.0)
HANG = "rank 1 made no step after 4711 for 60 s, while the others reached 4712"

ROWS: dict[str, Row] = {
    # the user's
    "a fatal code": Row(
        user_rules.fails_gang,
        [member(exits=ended(64))],
        ("fatal-exit", "rank 1 exited 64, which a rule of the gang calls fatal"),
        calm(rules=FATAL),
    ),
    "another code": Row(
        user_rules.fails_gang, [member(exits=ended(65))], ("container-exit", "rank 1 exited 65"), calm(rules=FATAL)
    ),
    "a code with a rule": Row(
        user_rules.restarts,
        [member(exits=ended(42))],
        ("user-rule-1", "rank 1 exited 42; rule 1 of the gang says RecreatePod"),
        calm(rules=RULED),
    ),
    "a code without": Row(
        user_rules.restarts, [member(exits=ended(43))], ("container-exit", "rank 1 exited 43"), calm(rules=RULED)
    ),
    # machines
    "a dead node": Row(
        node_state.node_dead,
        [member(node=silent(), alive=QUIET)],
        (
            "node-dead",
            "node n1 is dead: its agents are silent and its Lease did not move for 20 s, while others' did",
        ),
    ),
    "a silent one": Row(node_state.node_dead, [member(node=silent(still_s=19.9), alive=QUIET)], None),
    "a device that fell off": Row(
        hardware.hardware_report,
        [member(alive=life(hardware=(report("xid-79", text="has fallen off the bus"),)))],
        ("hardware-report", "node n1: xid-79 on GPU-3 (has fallen off the bus), reported by rank 1's pod"),
    ),
    "a program's report": Row(hardware.hardware_report, [member(alive=life(hardware=(report("xid-31"),)))], None),
    "an unhealthy device": Row(
        hardware.device_unhealthy,
        [member(container={"unhealthy": ("nvidia.com/gpu GPU-3",)})],
        ("device-unhealthy", "node n1: its kubelet calls nvidia.com/gpu GPU-3 unhealthy"),
    ),
    "one of a pod that is done": Row(
        hardware.device_unhealthy,
        [member(container={"unhealthy": ("nvidia.com/gpu GPU-3",)}, pod={"phase": "Succeeded"})],
        None,
    ),
    "a bad condition": Row(
        node_state.node_condition,
        [member(node=Node(name="n1", conditions=frozenset({"KernelDeadlock"})))],
        ("node-condition", "node n1 is bad (condition KernelDeadlock)"),
    ),
    "a good one": Row(
        node_state.node_condition, [member(node=Node(name="n1", conditions=frozenset({"KernelReady"})))], None
    ),
    "a node that leaves": Row(
        node_state.node_leaving,
        [member(node=Node(name="n1", taints=frozenset({"karpenter.sh/disrupted"})))],
        ("node-leaving", "node n1 is going away (taint karpenter.sh/disrupted)"),
    ),
    "a tainted one": Row(
        node_state.node_leaving, [member(node=Node(name="n1", taints=frozenset({"nvidia.com/gpu"})))], None
    ),
    # pods
    "an evicted pod": Row(
        pod_state.rejected_by_node,
        [member(pod={"phase": "Failed", "reason": "Evicted"})],
        ("rejected-by-node", "node n1 ended the pod: Evicted"),
    ),
    "a pod past its deadline": Row(
        pod_state.rejected_by_node,
        [member(pod={"phase": "Failed", "reason": "DeadlineExceeded"})],
        ("pod-failed", "the pod of rank 1 has failed: DeadlineExceeded"),
    ),
    "no pod": Row(pod_state.pod_gone, [NO_POD], ("pod-gone", "the pod of rank 1, p-1, is gone")),
    "no pod yet": Row(pod_state.pod_gone, [NO_POD], None, gathering()),
    "a pod that goes": Row(
        pod_state.pod_leaving,
        [member(alive=life(leaving=True), pod={"deleting": True})],
        ("pod-leaving", "the pod of rank 1, p-1, is being deleted"),
    ),
    "one that may save": Row(pod_state.pod_leaving, [member(pod={"deleting": True})], None),
    "done too early": Row(
        pod_state.succeeded_too_early,
        [member(pod={"phase": "Succeeded"})],
        ("succeeded-too-early", "rank 1 exited 0 in an attempt that was not finished"),
        gathering(),
    ),
    "done": Row(pod_state.succeeded_too_early, [member(pod={"phase": "Succeeded"})], None),
    "late": Row(
        pod_state.overdue,
        [member()],
        ("in-place-deadline", "rank 1 did not come back in place on node n1 within 120 s"),
        gathering(),
        {1: 120},
    ),
    "nearly late": Row(pod_state.overdue, [member()], None, gathering(), {1: 119}),
    "cannot pull here": Row(
        pod_state.overdue,
        [at_barrier(0), member(container=PULLS, pod=FRESH | {"phase": "Pending"}, heard=False)],
        ("stuck-on-node", f"{CANNOT_PULL}, while others of its group came up elsewhere"),
        gathering(),
        {1: 120},
    ),
    "cannot pull anywhere": Row(
        pod_state.overdue,
        [at_barrier(0), *(member(r, container=PULLS, pod=FRESH, heard=False) for r in (1, 2, 3))],
        None,
        gathering(),
        {1: 9999, 2: 9999, 3: 9999},
    ),
    "slow, and a spare is ready": Row(
        pod_state.slower_than_a_spare,
        [member(pod=FRESH, heard=False)],
        ("slower-than-a-spare", "the new pod of rank 1 did not come up on node n1 within 60 s, and a spare is ready"),
        gathering(spared=frozenset({"workers"})),
        {1: 60},
    ),
    "a spare of others is ready": Row(
        pod_state.slower_than_a_spare,
        [member(pod=FRESH, heard=False)],
        None,
        gathering(spared=frozenset({"eval"})),
        {1: 60},
    ),
    "not slow yet": Row(
        pod_state.slower_than_a_spare,
        [member(pod=FRESH, heard=False)],
        None,
        gathering(spared=frozenset({"workers"})),
        {1: 59},
    ),
    "slow in place, and a spare is ready": Row(
        pod_state.slower_than_a_spare, [member()], None, gathering(spared=frozenset({"workers"})), {1: 60}
    ),
    "lost track of": Row(
        pod_state.lost_track_of,
        [member(container={"running": False}, heard=False)],
        ("lost-track", "the trainer of rank 1 does not run, and nothing is heard from its agent for 120 s"),
        waited={1: 120},
    ),
    "nearly lost": Row(
        pod_state.lost_track_of, [member(container={"running": False}, heard=False)], None, waited={1: 119}
    ),
    "kept away": Row(
        pod_state.kept_away,
        [member(pod=UNBOUND, heard=False, avoided=(Node(name="n9"),))],
        ("kept-away", "no node has room for the pod of rank 1, which may not go to n9, well again by now"),
        gathering(well_s={"n9": 10}),
        {1: 120},
    ),
    "kept away, and the scheduler has not looked yet": Row(
        pod_state.kept_away,
        [member(pod=UNBOUND, heard=False, avoided=(Node(name="n9"),))],
        None,
        gathering(well_s={"n9": 9.9}),
        {1: 120},
    ),
    "kept away from a machine that is not well": Row(
        pod_state.kept_away,
        [member(pod=UNBOUND, heard=False, avoided=(Node(name="n9"),))],
        None,
        gathering(well_s={"n8": 10}),
        {1: 120},
    ),
    "failed for good": Row(
        pod_state.ended_for_good,
        [member(pod={"phase": "Failed", "containers": ()})],
        ("pod-failed", "the pod of rank 1 has failed"),
    ),
    "not yet failed": Row(pod_state.ended_for_good, [member(pod={"phase": "Pending", "containers": ()})], None),
    # the record
    "ahead": Row(
        record.record_lost,
        [member(alive=life(attempt=4))],
        (
            "record-lost",
            "rank 1 knows attempt 4, and the record only 2: the gang's status was emptied, or restored from a backup",
        ),
    ),
    "not ahead": Row(record.record_lost, [member()], None),
    "behind": Row(
        record.left_behind,
        [member(alive=life(attempt=1))],
        ("left-behind", "rank 1 runs attempt 1, though attempt 2 was released"),
    ),
    "behind and away": Row(record.left_behind, [member(alive=life(attempt=1, connected=False))], None),
    # containers
    "out of memory": Row(
        container_exit.out_of_memory,
        [member(exits=ended(137, reason="OOMKilled"))],
        ("out-of-memory", "rank 1 was killed because it met its memory limit (OOMKilled)"),
    ),
    "killed": Row(
        container_exit.out_of_memory,
        [member(exits=ended(137, reason="Error"))],
        ("fatal-signal", "rank 1 exited 137 (SIGKILL)"),
    ),
    "a signal": Row(
        container_exit.fatal_signal, [member(exits=ended(139))], ("fatal-signal", "rank 1 exited 139 (SIGSEGV)")
    ),
    "no signal": Row(
        container_exit.fatal_signal, [member(exits=ended(128))], ("container-exit", "rank 1 exited 128")
    ),
    "an exit": Row(container_exit.plain_exit, [member(exits=ended(3))], ("container-exit", "rank 1 exited 3")),
    "no program": Row(
        container_exit.plain_exit, [member(exits=ended(127))], ("container-exit", "rank 1 exited 127 (not found)")
    ),
    "an exit of an earlier life": Row(container_exit.plain_exit, [member(exits=ended(3, at=BORN))], None),
    "unseen": Row(
        container_exit.exit_not_observed,
        [at_barrier(1, life=life(attempt=0, promise=None))],
        ("exit-not-observed", "rank 1 restarted (exit code not observed)"),
    ),
    "entitled": Row(container_exit.exit_not_observed, [at_barrier(1)], None),
    # progress
    "a hang": Row(progress.hang, trains(0, 1, 2), ("hang", HANG), HANGS),
    "not yet a hang": Row(progress.hang, trains(0, 1, 2), None, replace(HANGS, monotonic=159.0)),
    "no first step": Row(
        progress.no_first_step,
        trains(0, 1),
        ("no-first-step", "no rank made a step within 1800 s of the release of attempt 2"),
        NO_STEP,
    ),
    "not yet late with it": Row(progress.no_first_step, trains(0, 1), None, replace(NO_STEP, released_s=1800.0)),
    # what a machine has done before
    "a lemon": Row(
        strikes.lemon,
        [member(exits=ended(139), node=struck("fatal-signal", "hang"))],
        ("lemon", "node n1 failed 3 times within 48 h (fatal-signal, hang, fatal-signal)"),
    ),
    "struck once": Row(
        strikes.lemon,
        [member(exits=ended(139), node=struck("fatal-signal"))],
        ("fatal-signal", "rank 1 exited 139 (SIGSEGV)"),
    ),
}  # fmt: skip
