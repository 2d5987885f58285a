"""Rules of diagnosis, a row each: what is seen of rank 1, and the verdict; with the near misses that must give none."""

from dataclasses import replace
from typing import Any

import pytest

from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.diagnose.node_state import LEAVING_TAINTS, OUT_OF_SERVICE, is_suspect
from fleetctl.gang.spec import Match, UserRule
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise, Verdict

FATAL = (UserRule(match=Match(exit_codes=[64]), action="FailGang"),)
RELEASED = Promise(attempt=2, ticket="t")
CALM = Circumstances(released=RELEASED, target=2, rules=FATAL)
GATHERING = Circumstances(released=RELEASED, target=3, rules=FATAL)
LIFE = Life(uid="u", life_id="x", started_at=100.7, attempt=2, promise=RELEASED)
WAITING = Life(uid="u", life_id="y", started_at=100.7)


def pod(
    code: int | None = None,
    at: float = 105,
    *,
    container: str = "trainer",
    reason: str = "Error",
    signal: int = 0,
    restarting: float | None = 105,
    phase: str = "Running",
) -> Pod:
    ended = None if code is None else Ended(exit_code=code, reason=reason, signal=signal, finished_at=at)
    return Pod(
        name="p",
        uid="u",
        phase=phase,
        restarting_since=restarting,
        containers=(Container(name=container, ended=ended),),
    )


@pytest.mark.parametrize(
    ("seen", "life", "rule", "because"),
    [
        (pod(3), LIFE, "container-exit", "rank 1 exited 3"),
        (pod(3, restarting=None), LIFE, "container-exit", "rank 1 exited 3"),
        (pod(139), LIFE, "fatal-signal", "rank 1 exited 139 (SIGSEGV)"),
        (pod(255, signal=9), LIFE, "fatal-signal", "rank 1 exited 255 (SIGKILL)"),
        (pod(200), LIFE, "container-exit", "rank 1 exited 200"),
        (
            pod(137, reason="OOMKilled"),
            LIFE,
            "out-of-memory",
            "rank 1 was killed because it met its memory limit (OOMKilled)",
        ),
        (pod(64), LIFE, "fatal-exit", "rank 1 exited 64, which a rule of the gang calls fatal"),
        (
            pod(64, phase="Failed", restarting=None),
            LIFE,
            "fatal-exit",
            "rank 1 exited 64, which a rule of the gang calls fatal",
        ),
        (pod(64, phase="Failed"), None, "fatal-exit", "rank 1 exited 64, which a rule of the gang calls fatal"),
        (pod(64, container="helper"), LIFE, "container-exit", "rank 1, container helper, exited 64"),
        (pod(7, container="helper"), LIFE, "container-exit", "rank 1, container helper, exited 7"),
        (pod(), LIFE, "exit-not-observed", "rank 1 restarted (exit code not observed)"),
        (pod(restarting=None), WAITING, "exit-not-observed", "rank 1 restarted (exit code not observed)"),
        (None, None, "pod-gone", "the pod of rank 1, p-1, is gone"),
        # near misses
        (pod(restarting=None), LIFE, None, None),
        (pod(0, restarting=None), LIFE, None, None),  # exited 0: not a fault
        (
            pod(7, container="helper", restarting=None),
            LIFE,
            None,
            None,
        ),  # a helper that ended without restarting the pod
        (pod(3, at=100, restarting=100), LIFE, None, None),  # about an earlier life
        (pod(3, at=100, restarting=None), LIFE, None, None),  # the same second: perhaps about an earlier life
        (pod(3), None, None, None),  # the agent has not spoken yet: which life this is about, nobody knows
        (
            pod(restarting=None),
            Life(uid="u", life_id="y", started_at=100.7, promise=RELEASED),
            None,
            None,
        ),  # not told yet
        (pod(restarting=None), Life(uid="u", life_id="y", started_at=1, connected=False), None, None),  # a stream lost
    ],
)
def test_rule(seen: Pod | None, life: Life | None, rule: str | None, because: str | None) -> None:
    member = Member(rank=1, pod_name="p-1", trainer="trainer", pod=seen, life=life)
    verdicts = diagnose([member], CALM)
    assert [(v.rule, v.because) for v in verdicts] == ([(rule, because)] if rule else [])


def test_the_earliest_evidence_with_a_time_names_the_culprit() -> None:
    seen = {0: pod(1, at=109), 1: pod(139, at=106), 2: pod(), 3: pod(1, at=106)}
    members = [Member(rank=r, pod_name=f"p-{r}", trainer="trainer", pod=p, life=LIFE) for r, p in seen.items()]
    assert [v.rank for v in diagnose(members, CALM)] == [1, 3, 0, 2]


def test_a_fatal_exit_comes_before_everything() -> None:
    seen = {0: pod(1, at=106), 1: pod(64, at=109)}
    members = [Member(rank=r, pod_name=f"p-{r}", trainer="trainer", pod=p, life=LIFE) for r, p in seen.items()]
    assert [v.rank for v in diagnose(members, CALM)] == [1, 0]


def member(seen: Pod | None, node: Node | None = None, life: Life | None = None, rank: int = 1) -> Member:
    return Member(rank=rank, pod_name=f"p-{rank}", trainer="trainer", pod=seen, node=node, life=life)


def judged(*verdicts: Verdict) -> list[tuple[object, ...]]:
    return [(v.scope, v.rule, v.rung, v.node, v.dead) for v in verdicts]


# machines

TRAINS = Pod(name="p", uid="u", node="n1", phase="Running", containers=(Container(name="trainer", running=True),))
QUIET = replace(LIFE, connected=False, silent=True)


def node(name: str = "n1", *taints: str, **seen: Any) -> Node:
    return Node(name=name, taints=frozenset(taints), **seen)


def silent(name: str = "n1", *taints: str, still_s: float = 0.0, **seen: Any) -> Node:
    return node(name, *taints, silent=True, still_s=still_s, **seen)


@pytest.mark.parametrize(
    ("on", "rule", "because"),
    [
        (
            silent(still_s=20, ready="Unknown"),
            "node-dead",
            "node n1 is dead: its agents are silent and its Lease did not move for 20 s, while others' did",
        ),
        (
            silent(exists=False, ready="Unknown"),
            "node-deleted",
            "the Node object of n1 is gone, and nothing is heard from its agents",
        ),
        (
            silent("n1", OUT_OF_SERVICE),
            "node-out-of-service",
            "node n1 is tainted node.kubernetes.io/out-of-service, and its agents are silent",
        ),
        # near misses
        (silent(still_s=19.9, ready="Unknown"), None, None),
        (
            node(still_s=100, ready="Unknown"),
            None,
            None,
        ),  # an agent speaks: the machine lives, whatever its kubelet does
        (node(ready="Unknown"), None, None),
        (node(ready="False"), None, None),
        (silent(ready="Unknown"), None, None),
        (silent("n1", "node.kubernetes.io/unreachable", ready="Unknown"), None, None),
        (silent("n1", "karpenter.sh/disrupted"), None, None),  # the machine may stop as slowly as it likes
        (None, None, None),
    ],
)
def test_a_node_is_dead_when_that_is_proven(on: Node | None, rule: str | None, because: str | None) -> None:
    found = diagnose([member(TRAINS, on, QUIET)], CALM)
    assert judged(*found) == ([("Node", rule, "RecreatePod", "n1", True)] if rule else [])
    assert [(v.rank, v.because) for v in found] == ([(1, because)] if rule else [])


@pytest.mark.parametrize(
    ("on", "because"),
    [
        *((node("n1", taint), f"node n1 is going away (taint {taint})") for taint in sorted(LEAVING_TAINTS)),
        (node("n1", "a/b", "karpenter.sh/disrupted"), "node n1 is going away (taint karpenter.sh/disrupted)"),
        (
            node("n1", OUT_OF_SERVICE),
            "node n1 is going away (taint node.kubernetes.io/out-of-service)",
        ),  # an operator vouches for it, and yet an agent speaks
        (node(exists=False, ready="Unknown"), "the Node object of n1 is gone, though its agents speak"),
        # near misses
        (node("n1", "node.kubernetes.io/unschedulable"), None),  # cordoned: who runs there may stay
        (node("n1", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"), None),
        (node("n1", "node.kubernetes.io/memory-pressure"), None),
        (node("n1", "fleetctl.dev/quarantined"), None),
        (node("n1", "nvidia.com/gpu"), None),
        (node("n1", "DeletionCandidateOfClusterAutoscaler"), None),  # it only thinks of it
        (silent(), None),
    ],
)
def test_a_node_is_leaving_when_somebody_says_so_and_it_still_works(on: Node, because: str | None) -> None:
    found = diagnose([member(TRAINS, on, LIFE)], CALM)
    assert judged(*found) == ([("Node", "node-leaving", "RecreatePod", "n1", False)] if because else [])
    assert [(v.rank, v.because) for v in found] == ([(1, because)] if because else [])


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        (replace(TRAINS, phase="Pending", containers=()), "node-dead"),
        (replace(TRAINS, deleting=True), "node-dead"),
        (replace(TRAINS, deleting=True, phase="Succeeded"), "node-dead"),  # nobody there will confirm that it is gone
        (replace(TRAINS, phase="Succeeded"), None),
        (replace(TRAINS, phase="Failed"), "pod-failed"),
        (None, "pod-gone"),
    ],
)
def test_a_dead_node_matters_to_pods_that_it_still_has_to_do_something_for(seen: Pod | None, rule: str | None) -> None:
    found = diagnose([member(seen, silent(still_s=20), QUIET)], CALM)
    assert [v.rule for v in found] == ([rule] if rule else [])


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_does_not_mind_that_its_node_leaves(phase: str) -> None:
    found = diagnose([member(replace(TRAINS, phase=phase), node("n1", "karpenter.sh/disrupted"))], CALM)
    assert "node-leaving" not in [v.rule for v in found]


@pytest.mark.parametrize(
    ("nodes", "dead"),
    [
        ({0: silent("n1", still_s=39.9), 1: silent("n2", still_s=39.9)}, []),
        ({0: silent("n1", still_s=40), 1: silent("n2", still_s=40)}, [0, 1]),
        ({0: silent("n1", still_s=40), 1: silent("n2", still_s=20)}, [0]),
        ({0: silent("n1", still_s=20), 1: silent("n1", still_s=20)}, [0, 1]),  # two ranks, one node
        ({0: silent("n1", still_s=20), 1: node("n2", ready="Unknown")}, [0]),
        ({0: silent("n1", exists=False), 1: silent("n2", OUT_OF_SERVICE)}, [0, 1]),  # that needs no waiting
    ],
)
def test_nodes_that_fall_silent_together_need_a_longer_proof(nodes: dict[int, Node], dead: list[int]) -> None:
    members = [member(replace(TRAINS, node=on.name), on, QUIET, rank) for rank, on in nodes.items()]
    found = diagnose(members, CALM)
    assert [v.rank for v in found] == dead
    assert [v.node for v in found] == [nodes[rank].name for rank in dead]
    assert all(v.dead and v.scope == "Node" for v in found)


def test_the_sentence_says_how_long_the_proof_took() -> None:
    members = [member(TRAINS, silent(name, still_s=77), QUIET, r) for r, name in enumerate(("n1", "n2"))]
    assert all("for 40 s" in v.because for v in diagnose(members, CALM))


@pytest.mark.parametrize(
    ("on", "suspect"),
    [
        (node(), False),
        (node("n1", "nvidia.com/gpu", "node.kubernetes.io/unschedulable"), False),
        (silent(), True),
        (node(exists=False), True),
        (node(ready="False"), True),
        (node(ready="Unknown"), True),
        (node("n1", "karpenter.sh/disrupted"), True),
        (node("n1", OUT_OF_SERVICE), True),
    ],
)
def test_where_a_new_pod_had_better_not_go(on: Node, suspect: bool) -> None:
    assert is_suspect(on) is suspect


# pods

FAILED = Pod(name="p", uid="u", node="n1", phase="Failed")


@pytest.mark.parametrize(
    "reason",
    [
        "Evicted",
        "NodeAffinity",
        "NodeShutdown",
        "OutOfcpu",
        "OutOfnvidia.com/gpu",
        "OutOfpods",
        "Terminated",
        "TopologyAffinityError",
        "UnexpectedAdmissionError",
    ],
)
def test_a_node_that_ends_a_pod_is_to_blame(reason: str) -> None:
    seen = replace(FAILED, reason=reason, message="see there")
    found = diagnose([member(seen, node())], CALM)
    assert judged(*found) == [("Node", "rejected-by-node", "RecreatePod", "n1", False)]
    assert (found[0].rank, found[0].because) == (1, f"node n1 ended the pod: {reason} (see there)")


def test_what_a_node_says_is_quoted_at_moderate_length() -> None:
    [found] = diagnose([member(replace(FAILED, reason="Evicted", message="x" * 1000), node())], CALM)
    assert len(found.because) == 300
    [found] = diagnose([member(replace(FAILED, reason="Evicted"), node())], CALM)
    assert found.because == "node n1 ended the pod: Evicted"


@pytest.mark.parametrize(
    ("seen", "because"),
    [
        (FAILED, "the pod of rank 1 has failed"),
        (replace(FAILED, reason="DeadlineExceeded"), "the pod of rank 1 has failed: DeadlineExceeded"),
        (
            replace(FAILED, reason="?", preparing=Container(name="prepare", ended=Ended(exit_code=128))),
            "the pod of rank 1 has failed: init container prepare exited 128",
        ),
        (
            replace(FAILED, reason="Why", preparing=Container(name="prepare", waiting_reason="PodInitializing")),
            "the pod of rank 1 has failed: Why",
        ),
        # near misses
        (replace(FAILED, phase="Running", reason="Evicted"), None),
        (replace(FAILED, phase="Pending", reason="DeadlineExceeded"), None),
        (replace(FAILED, phase="Succeeded", reason="Terminated"), None),
    ],
)
def test_a_pod_that_failed_for_good_is_made_anew(seen: Pod, because: str | None) -> None:
    found = diagnose([member(seen, node())], CALM)
    assert judged(*found) == ([("Container", "pod-failed", "RecreatePod", "", False)] if because else [])
    assert [v.because for v in found] == ([because] if because else [])


def test_a_failed_pod_whose_trainers_exit_is_on_record_is_made_anew_for_that() -> None:
    found = diagnose([member(pod(3, phase="Failed"))], CALM)
    assert judged(*found) == [("Container", "container-exit", "RecreatePod", "", False)]
    found = diagnose([member(pod(3), life=LIFE)], CALM)
    assert judged(*found) == [("Container", "container-exit", "InPlace", "", False)]


def test_a_pod_that_is_gone_is_made_anew() -> None:
    found = diagnose([member(None)], CALM)
    assert judged(*found) == [("Unknown", "pod-gone", "RecreatePod", "", False)]


ENDS = replace(TRAINS, deleting=True, containers=(Container(name="trainer", ended=Ended(exit_code=0)),))
IS_DELETED = "the pod of rank 1, p, is being deleted"


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("EvictionByEvictionAPI", "was evicted (a drain?)"),
        ("PreemptionByScheduler", "was preempted by a pod of higher priority"),
        ("DeletionByTaintManager", "was evicted by a NoExecute taint of its node"),
        ("DeletionByPodGC", "was removed because its node is gone"),
        ("TerminationByKubelet", "was terminated by its node"),
        ("SomethingNew", "is being deleted"),
    ],
)
def test_a_pod_that_kubernetes_takes_away_leaves_its_node(reason: str, what: str) -> None:
    found = diagnose([member(replace(ENDS, disruption=reason), node(), LIFE)], CALM)
    assert judged(*found) == [("Node", "pod-leaving", "RecreatePod", "", False)]
    assert (found[0].rank, found[0].because) == (1, f"the pod of rank 1, p, {what}")


@pytest.mark.parametrize(
    ("seen", "life", "leaves"),
    [
        (ENDS, LIFE, True),
        (ENDS, None, True),
        (replace(TRAINS, deleting=True), replace(LIFE, leaving=True), True),
        (replace(TRAINS, deleting=True), replace(LIFE, connected=False), True),
        (replace(TRAINS, deleting=True, phase="Succeeded"), LIFE, True),
        (replace(TRAINS, deleting=True, containers=(Container(name="trainer"),)), LIFE, True),  # it never started
        # near misses
        (replace(TRAINS, deleting=True), LIFE, False),  # it may still save a checkpoint
        (replace(TRAINS, deleting=True), None, False),
        (replace(TRAINS, deleting=True, disruption="EvictionByEvictionAPI"), LIFE, False),
        (replace(TRAINS, disruption="EvictionByEvictionAPI"), LIFE, False),  # announced, not yet done
        (replace(TRAINS, deleting=True, containers=(*TRAINS.containers, Container(name="helper"))), LIFE, False),
        (replace(ENDS, deleting=False), LIFE, False),
    ],
)
def test_a_pod_leaves_when_somebody_deletes_it_and_its_trainer_has_ended(
    seen: Pod, life: Life | None, leaves: bool
) -> None:
    found = diagnose([member(seen, node(), life)], CALM)
    assert judged(*found) == ([("Unknown", "pod-leaving", "RecreatePod", "", False)] if leaves else [])
    assert [v.because for v in found] == ([IS_DELETED] if leaves else [])


def test_success_counts_until_the_others_need_the_rank_again() -> None:
    succeeded = member(replace(TRAINS, phase="Succeeded"), node())
    assert diagnose([succeeded], CALM) == ()
    found = diagnose([succeeded], GATHERING)
    assert judged(*found) == [("Unknown", "succeeded-too-early", "RecreatePod", "", False)]
    assert found[0].because == "rank 1 exited 0 in an attempt that was not finished"


RESTARTS = replace(TRAINS, attempt=1, containers=())
FRESH = replace(RESTARTS, attempt=3)
IN_PLACE = ("in-place-deadline", "rank 1 did not come back in place on node n1 within 120 s")
RECREATED = ("recreate-deadline", "the new pod of rank 1 did not come up on node n1 within 900 s")


@pytest.mark.parametrize(
    ("seen", "missing_s", "expected"),
    [
        (RESTARTS, 120, IN_PLACE),
        (replace(RESTARTS, attempt=2), 120, IN_PLACE),  # made for the attempt that runs
        (FRESH, 900, RECREATED),
        (replace(FRESH, phase="Pending"), 900, RECREATED),
        # near misses
        (RESTARTS, 119, None),
        (FRESH, 120, None),
        (FRESH, 899, None),
        (replace(FRESH, node=""), 10_000, None),  # no machine is to blame; obstacle.py tells
        (replace(RESTARTS, deleting=True), 10_000, None),
    ],
)
def test_a_rank_that_does_not_come_to_the_barrier_is_made_anew(
    seen: Pod, missing_s: float, expected: tuple[str, str] | None
) -> None:
    found = diagnose([member(seen, node(), LIFE)], GATHERING, {1: missing_s, 0: 10_000})
    assert [(v.rule, v.because) for v in found] == ([expected] if expected else [])
    assert judged(*found) == ([("Unknown", expected[0], "RecreatePod", "n1", False)] if expected else [])
    calm = replace(CALM, released=Promise(attempt=3, ticket="t"), target=3)
    assert diagnose([member(seen, node(), replace(LIFE, attempt=3))], calm, {1: missing_s}) == ()


def test_a_pod_that_has_ended_is_not_waited_for() -> None:
    for phase, rule in (("Failed", "pod-failed"), ("Succeeded", "succeeded-too-early")):
        found = diagnose([member(replace(RESTARTS, phase=phase), node())], GATHERING, {1: 10_000})
        assert [v.rule for v in found] == [rule]


def test_the_users_deadlines_count() -> None:
    impatient = replace(GATHERING, in_place_deadline_s=7, recreate_deadline_s=9)
    for seen, limit in ((RESTARTS, 7), (FRESH, 9)):
        assert diagnose([member(seen, node(), LIFE)], impatient, {1: limit - 1}) == ()
        [found] = diagnose([member(seen, node(), LIFE)], impatient, {1: limit})
        assert found.because.endswith(f"within {limit} s")


# who comes first

DEAD = silent(still_s=20)


@pytest.mark.parametrize(
    ("seen", "on", "rule"),
    [
        (pod(64), DEAD, "fatal-exit"),
        (replace(pod(64, phase="Failed"), reason="Evicted"), node(), "fatal-exit"),
        (pod(139), DEAD, "node-dead"),
        (replace(pod(139), deleting=True), node("n1", "karpenter.sh/disrupted"), "node-leaving"),
        (replace(pod(137, phase="Failed"), reason="NodeShutdown"), node(), "rejected-by-node"),
        (replace(pod(139), deleting=True), node(), "pod-leaving"),
        (pod(139, phase="Failed"), node(), "fatal-signal"),
    ],
)
def test_of_one_member_the_likeliest_cause_is_told(seen: Pod, on: Node, rule: str) -> None:
    assert [v.rule for v in diagnose([member(seen, on, LIFE)], CALM)] == [rule]


def test_nodes_come_before_containers_and_a_fatal_exit_before_all() -> None:
    members = [
        member(None, rank=0),
        member(pod(1, at=106), node(), LIFE, rank=1),
        member(TRAINS, DEAD, QUIET, rank=2),
        member(pod(64, at=109), node(), LIFE, rank=3),
        member(TRAINS, node("n1", "karpenter.sh/disrupted"), LIFE, rank=4),
    ]
    found = [(v.rank, v.rule, v.fatal) for v in diagnose(members, CALM)]
    assert found == [
        (3, "fatal-exit", True),
        (2, "node-dead", False),
        (4, "node-leaving", False),
        (1, "container-exit", False),
        (0, "pod-gone", False),
    ]


@pytest.mark.parametrize(
    ("knows", "known"),
    [
        ({"attempt": 4}, 4),  # it runs an attempt that the record does not have
        ({"attempt": 0, "promise": Promise(attempt=4, ticket="t")}, 4),
        ({"attempt": 0, "promise": None, "floor": 5}, 5),
        ({"attempt": 3}, 3),  # it was released before the others
        # near misses
        ({"attempt": 2}, None),
        ({"attempt": 0, "promise": Promise(attempt=3, ticket="t"), "floor": 3}, None),
    ],
)
def test_a_rank_that_knows_more_than_the_record_shows_that_the_record_was_lost(
    knows: dict[str, Any], known: int | None
) -> None:
    found = diagnose([member(TRAINS, node(), replace(LIFE, **knows))], GATHERING)
    lost = "the gang's status was emptied, or restored from a backup"
    told = [f"rank 1 knows attempt {known}, and the record only 3: {lost}"] if known else []
    assert [v.because for v in found if v.rule == "record-lost"] == told


def test_a_pod_of_a_later_attempt_than_the_target_shows_that_the_record_was_lost() -> None:
    found = diagnose([member(replace(TRAINS, attempt=3), node(), LIFE)], CALM)
    assert judged(*found) == [("Unknown", "record-lost", "InPlace", "", False)]


@pytest.mark.parametrize(
    ("life", "found"),
    [
        (replace(LIFE, attempt=1), ("Unknown", "left-behind", "InPlace", "", False)),
        # near misses
        (LIFE, None),
        (replace(LIFE, attempt=1, connected=False), None),
    ],
)
def test_a_rank_that_runs_an_earlier_attempt_than_was_released_is_not_left_alone(life: Life, found: Any) -> None:
    assert judged(*diagnose([member(TRAINS, node(), life)], CALM)) == ([found] if found else [])
    assert diagnose([member(TRAINS, node(), life)], GATHERING) == ()  # then it is reset anyway


RESTARTS_ALONE = replace(TRAINS, containers=(Container(name="trainer", waiting_reason="PodInitializing"),))
UNBOUND = replace(TRAINS, node="", phase="Pending", containers=(), unschedulable=True, attempt=3, avoids=("n1", "n2"))


@pytest.mark.parametrize(
    ("seen", "avoided", "missing_s", "well"),
    [
        (UNBOUND, [node("n1"), silent("n2")], 120, "n1"),
        (UNBOUND, [node("n1"), node("n3")], 120, "n1, n3"),
        (UNBOUND, [node(f"n{n}") for n in range(10) if n != 2], 120, "n0, n1, n3, n4, n5, n6, n7, n8, …"),
        # near misses
        (UNBOUND, [silent("n2")], 10_000, None),
        (UNBOUND, [], 10_000, None),
        (UNBOUND, [node("n1")], 119, None),
        (replace(UNBOUND, unschedulable=False), [node("n1")], 10_000, None),
        (replace(UNBOUND, deleting=True), [node("n1")], 10_000, None),
    ],
)
def test_a_pod_that_finds_no_room_is_made_anew_once_a_node_is_well_that_it_had_to_avoid(
    seen: Pod, avoided: list[Node], missing_s: float, well: str | None
) -> None:
    gathering = replace(GATHERING, well_s={f"n{n}": 10.0 for n in range(10) if n != 2})
    found = diagnose([replace(member(seen), avoided=tuple(avoided))], gathering, {1: missing_s})
    because = f"no node has room for the pod of rank 1, which may not go to {well}, well again by now"
    assert [v.because for v in found] == ([because] if well else [])
    assert judged(*found) == ([("Unknown", "kept-away", "RecreatePod", "", False)] if well else [])


def test_a_pod_of_an_earlier_gang_of_that_name_says_nothing_about_this_ones_record() -> None:
    theirs = replace(TRAINS, ours=False, attempt=9)
    found = diagnose([member(theirs, node(), replace(LIFE, attempt=0, promise=None, floor=9))], GATHERING)
    assert "record-lost" not in [v.rule for v in found]


@pytest.mark.parametrize(
    ("seen", "life", "missing_s", "found"),
    [
        (RESTARTS_ALONE, None, 120, True),
        # near misses
        (RESTARTS_ALONE, None, 119, False),
        (RESTARTS_ALONE, LIFE, 10_000, False),  # its agent speaks
        (TRAINS, None, 10_000, False),
        (replace(RESTARTS_ALONE, containers=()), None, 10_000, False),  # the kubelet has told nothing yet
    ],
)
def test_a_released_rank_of_which_nothing_runs_and_nothing_is_heard_is_made_anew(
    seen: Pod, life: Life | None, missing_s: float, found: bool
) -> None:
    verdicts = diagnose([member(seen, node(), life)], CALM, {1: missing_s})
    because = "the trainer of rank 1 does not run, and nothing is heard from its agent for 120 s"
    assert [v.because for v in verdicts] == ([because] if found else [])
    assert judged(*verdicts) == ([("Unknown", "lost-track", "RecreatePod", "", False)] if found else [])
