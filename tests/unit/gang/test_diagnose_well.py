"""Members of which no rule can say anything are not asked about: a thousand are looked at many times a second."""

from hypothesis import given
from hypothesis import strategies as st

from fleetctl.gang import diagnose as diagnosing
from fleetctl.gang.diagnose.case import Case, Circumstances
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise

PROMISE = Promise(attempt=2, ticket="t")
codes = st.sampled_from([0, 1, 64, 137, 139])
ends = st.builds(
    Ended, exit_code=codes, reason=st.sampled_from(["", "OOMKilled"]), finished_at=st.sampled_from([0.0, 9.0, 20.0])
)
containers = st.builds(
    Container, name=st.sampled_from(["trainer", "helper"]), running=st.booleans(), ended=st.none() | ends
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


@given(members, st.booleans(), st.sampled_from([0.0, 119.0, 120.0, 900.0]))
def test_of_a_member_that_is_well_no_rule_has_anything_to_say(member: Member, gathering: bool, waited_s: float) -> None:
    gang = Circumstances(released=PROMISE, target=PROMISE.attempt + gathering, fatal_codes=frozenset({64}))
    if not diagnosing._is_well(member, gang, {0: waited_s}):
        return
    verdict = diagnosing._first_answer(Case(member, gang, waited_s, proof_s=20.0))
    # who restarts while the gang gathers does what it was told; that it does may be said, and changes nothing
    assert verdict is None or (gathering and verdict.rung == "InPlace" and not verdict.fatal)
