"""Members of which no rule can say anything are not asked about: a thousand are looked at many times a second."""

from hypothesis import given
from hypothesis import strategies as st

from fleetctl.gang import diagnose as diagnosing
from fleetctl.gang.diagnose import progress
from fleetctl.gang.diagnose.case import Case, Circumstances, Whole
from fleetctl.gang.spec import Match, UserRule
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise, Report, Steps

RULES = (
    UserRule(match=Match(exit_codes=[64]), action="FailGang"),
    UserRule(match=Match(reasons=["ErrImagePull"]), action="FailGang"),
    UserRule(match=Match(node_conditions=["VendorSaysBad"]), action="RecreatePod"),
    UserRule(match=Match(hardware=["nic-down"]), action="RecreateGang"),
    UserRule(match=Match(), action="RecreatePod"),
)
PROMISE = Promise(attempt=2, ticket="t")
codes = st.sampled_from([0, 1, 64, 137, 139])
ends = st.builds(
    Ended, exit_code=codes, reason=st.sampled_from(["", "OOMKilled"]), finished_at=st.sampled_from([0.0, 9.0, 20.0])
)
containers = st.builds(
    Container,
    name=st.sampled_from(["trainer", "helper"]),
    running=st.booleans(),
    waiting_reason=st.sampled_from(["", "ErrImagePull", "PodInitializing"]),
    ended=st.none() | ends,
    unhealthy=st.sampled_from([(), ("nvidia.com/gpu GPU-3",)]),
)
pods = st.builds(
    Pod,
    name=st.just("p"),
    uid=st.just("u"),
    attempt=st.sampled_from([1, 2, 3]),
    node=st.sampled_from(["", "n"]),
    phase=st.sampled_from(["Pending", "Running", "Running", "Succeeded", "Failed", "Unknown"]),
    reason=st.sampled_from(["", "Evicted"]),
    disruption=st.sampled_from(["", "EvictionByEvictionAPI"]),
    deleting=st.booleans(),
    restarting_since=st.none() | st.sampled_from([5.0, 20.0]),
    containers=st.lists(containers, max_size=2).map(tuple),
    preparing=st.none() | containers,
)
nodes = st.builds(
    Node,
    name=st.just("n"),
    exists=st.booleans(),
    ready=st.sampled_from(["True", "False", "Unknown"]),
    taints=st.sampled_from([frozenset(), frozenset({"karpenter.sh/disrupted"}), frozenset({"x"})]),
    silent=st.booleans(),
    still_s=st.sampled_from([0.0, 30.0]),
    conditions=st.sampled_from(
        [frozenset(), frozenset({"KernelDeadlock"}), frozenset({"KernelReady", "VendorSaysBad"})]
    ),
)
reports = st.builds(
    Report, code=st.sampled_from(["xid-79", "xid-31", "xid-45", "nic-down"]), at=st.sampled_from([9.0, 20.0])
)
lives = st.builds(
    Life,
    uid=st.just("u"),
    life_id=st.just("l"),
    started_at=st.just(10.0),
    attempt=st.sampled_from([0, 2]),
    promise=st.sampled_from([None, PROMISE]),
    leaving=st.booleans(),
    connected=st.booleans(),
    silent=st.booleans(),
    hardware=st.lists(reports, max_size=2).map(tuple),
)
members = st.builds(
    Member,
    rank=st.just(0),
    pod_name=st.just("p"),
    trainer=st.just("trainer"),
    pod=st.none() | pods,
    node=st.none() | nodes,
    life=st.none() | lives,
)


counted = st.builds(Steps, step=st.just(3), at=st.just(0.0), paused=st.booleans())


@given(
    members,
    st.booleans(),
    st.sampled_from([0.0, 119.0, 120.0, 900.0]),
    st.sampled_from([(), RULES[:1], RULES]),
    st.dictionaries(st.just(0), counted),
)
def test_of_a_member_that_is_well_no_rule_has_anything_to_say(
    member: Member, gathering: bool, waited_s: float, rules: tuple[UserRule, ...], steps: dict[int, Steps]
) -> None:
    gang = Circumstances(
        released=PROMISE,
        target=PROMISE.attempt + gathering,
        rules=rules,
        steps=steps,
        steps_before=True,
        released_s=9999.0,
        monotonic=100.0,
    )
    whole = Whole([member], gang, {0: waited_s})
    if member.rank in progress.accused(whole) or not diagnosing._is_well(member, whole, diagnosing.Telling.of(whole)):
        return
    verdict = diagnosing._first_answer(Case(member, whole))
    # who restarts while the gang gathers does what it was told; that it does may be said, and changes nothing
    assert verdict is None or (gathering and verdict.rung == "InPlace" and not verdict.fatal)


def test_what_means_nothing_on_every_node_of_a_fleet_costs_nothing() -> None:
    """GPU nodes are tainted, health checks are True where all is well, and our restarts leave XIDs behind."""
    life = Life(
        uid="u", life_id="l", started_at=10, attempt=2, promise=PROMISE, hardware=(Report(code="xid-45", at=20),)
    )
    node = Node(name="n", taints=frozenset({"nvidia.com/gpu"}), conditions=frozenset({"KernelReady"}))
    pod = Pod(name="p", uid="u", node="n", phase="Running", containers=(Container(name="trainer", running=True),))
    member = Member(rank=0, pod_name="p", trainer="trainer", pod=pod, node=node, life=life)
    whole = Whole([member], Circumstances(released=PROMISE, target=2), {})
    assert diagnosing._is_well(member, whole, diagnosing.Telling.of(whole))
