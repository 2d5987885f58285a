"""Facts become one incident: culprits, cascade, what was not done; told in at most 4 KiB, whatever is seen."""

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from worlds import World, a_gang, running_gang

from fleetctl.gang import incident
from fleetctl.gang.spec import FACTS_MAX, ApplicationBudget, Fact, Incident
from fleetctl.gang.state import Verdict


def verdict(rank: int, what: str = "exited 1", **more: Any) -> Verdict:
    return Verdict(
        **({"scope": "Container", "rule": "container-exit", "rank": rank, "because": f"rank {rank} {what}"} | more)
    )


def dead(rank: int, node: str) -> Verdict:
    return verdict(rank, scope="Node", rule="node-dead", because=f"node {node} is dead", node=node, rung="RecreatePod")


def seen(*verdicts: Verdict) -> incident.Seen:
    return {v.rank: v for v in verdicts}


def test_alike_facts_are_one_with_the_earliest_time_and_the_culprits_come_first() -> None:
    victims = [verdict(rank, "exited 134 (SIGABRT)", rule="fatal-signal", since=1000.0 + rank) for rank in (5, 6, 7)]
    culprit = verdict(3, "exited 139 (SIGSEGV)", rule="fatal-signal", since=999)
    assert incident.told(culprit, seen(culprit, *victims), ("no",)) == Incident(
        culprits="3",
        cascade="5-7",
        facts=[
            Fact(rule="fatal-signal", what="exited 139 (SIGSEGV)", ranks="3", at="1970-01-01T00:16:39Z"),
            Fact(rule="fatal-signal", what="exited 134 (SIGABRT)", ranks="5-7", at="1970-01-01T00:16:45Z"),
        ],
        refused=["no"],
    )


def test_all_bad_nodes_of_an_incident_are_culprits() -> None:
    told = incident.told(dead(4, "a"), seen(dead(4, "a"), dead(9, "b"), verdict(1)))
    assert (told.culprits, told.cascade) == ("4,9", "1")


def test_what_an_earlier_controller_has_told_stays() -> None:
    before = Incident(culprits="3", facts=[Fact(rule="r", what="w", ranks="3")], omitted=2)
    told = incident.told(verdict(3), seen(verdict(3)), before=before)
    assert [fact.what for fact in told.facts] == ["exited 1", "w"]
    assert told.omitted == 2
    assert incident.told(verdict(3), {}, before=told).facts == told.facts


def test_while_we_restart_everybody_only_what_we_did_not_do_is_news() -> None:
    first = seen(verdict(3))
    killed = verdict(4, "exited 137 (SIGKILL)", rule="fatal-signal")
    unknown = verdict(5, "restarted", rule="exit-not-observed")
    assert incident.remembered(first, [killed, unknown], gathering=True) is first
    crash = verdict(6, "exited 139 (SIGSEGV)", rule="fatal-signal")
    assert set(incident.remembered(first, [killed, crash], gathering=True)) == {3, 6}
    assert set(incident.remembered({}, [killed, unknown], gathering=False)) == {4, 5}


def test_a_node_tells_more_than_what_a_rank_on_it_did() -> None:
    worse = incident.remembered(seen(verdict(3)), [dead(3, "a")], gathering=True)
    assert worse[3].rule == "node-dead"
    assert incident.remembered(worse, [verdict(3)], gathering=True)[3].rule == "node-dead"


def test_three_ranks_that_do_the_same_have_one_root() -> None:
    assert incident.same_root(verdict(rank, "exited 3") for rank in range(3)) == "3 ranks exited 3"
    assert incident.same_root(verdict(rank, "exited 3") for rank in range(2)) == ""
    assert incident.same_root(dead(rank, "a") for rank in range(3)) == ""
    assert incident.same_root(verdict(rank, "exited 134 (SIGABRT)") for rank in range(9)) == ""


WORDS = st.text(st.characters(codec="utf-8"), max_size=400)


@given(
    st.lists(st.builds(verdict, st.integers(0, 20_000), WORDS, since=st.floats(0, 2e9)), max_size=60),
    st.lists(WORDS, max_size=20),
)
def test_an_incident_is_told_in_four_kibibytes(verdicts: list[Verdict], refused: list[str]) -> None:
    told = incident.told(verdict(1), seen(*verdicts), refused)
    assert len(told.facts) <= FACTS_MAX
    ascii_told = msgspec.json.encode(told).decode().encode("ascii", "replace")
    assert len(ascii_told) <= 4096


def in_turn(world: World) -> None:
    world.carry_out(world.think().actions[0])


def test_an_open_recovery_shows_its_incident_and_history_keeps_it() -> None:
    world = running_gang(4)
    world.exits(rank=1, code=3)
    in_turn(world)
    told = world.status.attempt.incident
    assert told
    assert (told.culprits, [fact.what for fact in told.facts]) == ("1", ["exited 3"])
    world.run()
    assert world.status.attempt.incident is None
    kept = world.status.history[0].incident
    assert kept
    assert kept.culprits == "1"


def test_what_is_seen_after_the_decision_belongs_to_the_same_incident() -> None:
    world = running_gang(4)
    world.exits(rank=1, code=3)
    in_turn(world)
    world.exits(rank=2, code=134)
    world.think()
    world.run()
    kept = world.status.history[0].incident
    assert kept
    assert (kept.culprits, kept.cascade) == ("1", "2")
    assert world.status.history[0].attempt == 2


def test_a_culprit_that_reports_late_is_still_named() -> None:
    world = running_gang(4)
    world.exits(rank=2, code=134)
    in_turn(world)
    world.exits(rank=1, code=139)
    pod = world.members[1].pod
    assert pod
    late = pod.containers[0].ended
    assert late
    ended = replace(late, finished_at=late.finished_at - 5)  # its status came later, though it ended first
    world.pod(1, containers=(replace(pod.containers[0], ended=ended), *pod.containers[1:]))
    world.think()
    world.run()
    cause = world.status.history[0].cause
    assert (cause.rank, cause.message) == (1, "rank 1 exited 139 (SIGSEGV)")


def test_a_gang_that_ends_keeps_its_last_incident() -> None:
    for world, why in (
        (World(a_gang(2, fatal=(64,))).run(), "a rule of the gang ends it"),
        (
            World(a_gang(2, budget=ApplicationBudget(restarts=0))).run(),
            "restarted 0 times within 24 hours (budget: 0)",
        ),
    ):
        world.exits(rank=1, code=64)
        world.run()
        assert world.status.holds("Failed")
        told = world.status.attempt.incident
        assert told
        assert (told.culprits, told.refused) == ("1", [f"RestartInPlace: {why}"])


def test_a_pod_that_somebody_else_deletes_is_not_said_to_be_kept() -> None:
    world = running_gang(4)
    world.pod(1, deleting=True)
    world.update_life(1, leaving=True)
    in_turn(world)
    told = world.status.attempt.incident
    assert told
    assert told.refused == [
        "RestartInPlace of rank 1: the pod does not come back",
        "RecreateGang: 3 ranks need no new pod: nothing speaks against their machines",
    ]


def test_a_fact_that_grows_is_told_as_it_is_by_now_and_omissions_are_counted_once() -> None:
    first = incident.told(verdict(3), seen(verdict(3)))
    grown = incident.told(verdict(3), seen(verdict(3), verdict(4), verdict(5)), before=first)
    assert [(fact.what, fact.ranks) for fact in grown.facts] == [("exited 1", "3-5")]
    many = seen(*(verdict(rank, f"exited {rank}") for rank in range(FACTS_MAX + 2)))
    once = incident.told(verdict(0), many)
    assert once.omitted == 2
    assert incident.told(verdict(0), many, before=once) == once


def test_who_does_not_come_back_is_a_fact() -> None:
    late = verdict(7, "did not come back in place", scope="Unknown", rule="in-place-deadline")
    assert set(incident.remembered(seen(verdict(3)), [late], gathering=True)) == {3, 7}
