"""What `fleetctl explain` tells of an incident, line by line, and which incidents it knows."""

from typing import Any, Literal

import pytest
from msgspec.structs import replace
from worlds import running_gang

from fleetctl.gang import explain
from fleetctl.gang.spec import (
    AttemptRecord,
    Cause,
    Condition,
    Fact,
    GangStatus,
    Incident,
    Latch,
    Outcome,
    Recovered,
    Replacing,
    Seconds,
)

SEGV = Cause(
    scope="Container", rule="fatal-signal", rank=417, node="n52", message="rank 417 exited 139 (SIGSEGV) (rank 417,8-9)"
)
DEAD = Cause(
    scope="Node", rule="node-dead", rank=3, node="n7", message="node n7 is dead: its Lease did not move (rank 3,24)"
)
START = Cause(scope="Start", rule="start", message="the gang starts")
INCIDENT = Incident(
    culprits="417",
    cascade="8-9,500",
    facts=[
        Fact(rule="fatal-signal", what="exited 139 (SIGSEGV)", ranks="417", at="2026-11-21T06:07:58Z"),
        Fact(rule="container-exit", what="exited 1", ranks="8-9", at="2026-11-21T06:07:59Z"),
        Fact(rule="exit-not-observed", what="restarted (exit code not observed)", ranks="500"),
    ],
    refused=["RecreatePod: node n52 is not to blame for this alone", "RecreateGang: 1024 ranks need no new pod"],
)
TOOK = Seconds(barrier=4.1, total=4.7)


def closed(cause: Cause = SEGV, attempt: int = 7, **fields: Any) -> Recovered:
    made: dict[str, Any] = {"rung": "InPlace", "at": "2026-11-21T06:08:03Z", "seconds": TOOK, "incident": INCIDENT}
    return Recovered(attempt=attempt, cause=cause, **{**made, **fields})


def a_status(*history: Recovered, failed: bool = False, **record: Any) -> GangStatus:
    made = {"target": 7, "released": 7, "cause": SEGV, **record}
    conditions = [condition("Failed", "no more")] if failed else []
    return GangStatus(attempt=AttemptRecord(**made), history=list(history), conditions=conditions)


def condition(kind: str, message: str, value: Literal["True", "False"] = "True") -> Condition:
    return Condition(type=kind, status=value, reason="R", message=message, last_transition_time="2026-11-21T06:00:00Z")


def lines(status: GangStatus, number: int = 0) -> list[str]:
    return list(explain.told(explain.stories(status)[number], status))


def labelled(found: list[str], label: str) -> list[str]:
    """The lines of that label, without it."""
    out: list[str] = []
    for line in found:
        if line.startswith(f"{label}:") or (out and line.startswith(" ")):
            out.append(line[10:])
        elif out:
            break
    return out


def test_a_closed_incident_is_told_whole() -> None:
    status = replace(a_status(closed(outcome=Outcome(first_step=12.04, warm_up=40.2))), furthest_step=4711)
    assert lines(status) == [
        "Incident: 7, closed: attempt 7 was released at 2026-11-21T06:08:03Z",
        "Cause:    rank 417 exited 139 (SIGSEGV) (rank 417,8-9)",
        "Rule:     fatal-signal (scope: Container)",
        "Culprits: rank 417, node n52",
        "Cascade:  rank 8-9,500 failed because of that",
        "Evidence: 2026-11-21T06:07:58Z  rank 417: exited 139 (SIGSEGV) [fatal-signal]",
        "          2026-11-21T06:07:59Z  rank 8-9: exited 1 [container-exit]",
        "          time not known        rank 500: restarted (exit code not observed) [exit-not-observed]",
        "Done:     restarted in place; at the barrier after 4.1 s, released after 4.7 s",
        "Outcome:  first step after 12.0 s, as fast as before after 40.2 s",
        "Not done: RecreatePod: node n52 is not to blame for this alone",
        "          RecreateGang: 1024 ranks need no new pod",
    ]


def test_which_spares_were_taken_is_told() -> None:
    placed = "rank 417 takes a spare in example.com/rack=r7, where it was"
    told = lines(a_status(closed(rung="RecreatePod", recreated="417", placed=placed)))
    assert told[told.index(f"Placed:   {placed}") - 1].startswith("Done:     rank 417 recreated")


def test_an_open_incident_says_what_is_done_so_far() -> None:
    status = a_status(closed(), target=8, cause=DEAD, incident=Incident(culprits="3,24"))
    assert lines(status) == [
        "Incident: 8, open: the gang gathers for attempt 8",
        "Cause:    node n7 is dead: its Lease did not move (rank 3,24)",
        "Rule:     node-dead (scope: Node)",
        "Culprits: rank 3,24, node n7",
        "Evidence: none was stored",
        "Done:     all ranks restart in place (not released yet)",
    ]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, "all ranks restart in place (not released yet)"),
        (
            {"replacing": [Replacing(rank=r, uid="u") for r in (24, 3)]},
            "new pods for rank 3,24, the others restart in place (not released yet)",
        ),
        (
            {"replacing": [Replacing(rank=3, uid="u")], "replace_created_before": 8},
            "all ranks get new pods (not released yet)",
        ),
    ],
)
def test_what_is_under_way(record: dict[str, Any], told: str) -> None:
    assert labelled(lines(a_status(target=8, **record)), "Done") == [told]


@pytest.mark.parametrize(
    ("rung", "recreated", "told"),
    [
        ("Start", "", "started"),
        ("Resume", "", "resumed"),
        ("InPlace", "", "restarted in place"),
        ("RecreatePod", "3,24", "rank 3,24 recreated, the others restarted in place"),
        ("RecreateGang", "0-1023", "all ranks recreated"),
    ],
)
def test_how_ranks_came_into_an_attempt(rung: str, recreated: str, told: str) -> None:
    assert explain.done(closed(rung=rung, recreated=recreated)) == told


@pytest.mark.parametrize(
    ("outcome", "furthest", "told"),
    [
        (Outcome(), 0, ""),
        (Outcome(), 4711, ""),  # it runs, and has not made a step yet
        (Outcome(ran=61.0), 0, "ran for 61.0 s"),  # trainers that tell nothing
        (Outcome(ran=61.0), 4711, "the recovery failed: it ran for 61.0 s, in which not all ranks made a step"),
        (Outcome(first_step=12.0, ran=3600.0), 4711, "first step after 12.0 s, ran for 3600.0 s"),
        (Outcome(first_step=12.0), 4711, "first step after 12.0 s"),
    ],
)
def test_what_came_of_it(outcome: Outcome, furthest: int, told: str) -> None:
    status = replace(a_status(closed(outcome=outcome)), furthest_step=furthest)
    assert labelled(lines(status), "Outcome") == [told] * bool(told)
    assert explain.failed(status.history[0], status) == told.startswith("the recovery failed")


def test_incidents_are_the_open_one_then_the_latest_and_a_start_is_none() -> None:
    history = (closed(), closed(attempt=6), closed(START, 5, rung="Start", incident=None))
    assert [s.attempt for s in explain.stories(a_status(*history))] == [7, 6]
    gathering = explain.stories(a_status(*history, target=8))
    assert [(s.attempt, s.recovered is None) for s in gathering] == [(8, True), (7, False), (6, False)]
    assert explain.stories(a_status(target=1, released=0, cause=START)) == []
    assert explain.stories(GangStatus()) == []


def test_what_ended_the_gang_led_to_no_attempt() -> None:
    status = a_status(closed(), failed=True, cause=DEAD)
    assert [s.attempt for s in explain.stories(status)] == [0, 7]
    assert lines(status)[0] == "Incident: the gang's last: it ended the gang"
    assert labelled(lines(status), "Done") == ["the gang was ended"]
    while_gathering = a_status(failed=True, cause=DEAD, target=8)
    assert [s.attempt for s in explain.stories(while_gathering)] == [8]
    assert lines(while_gathering)[0] == "Incident: the gang's last: it ended the gang"
    assert labelled(lines(while_gathering), "Done") == ["the gang was ended"]


def test_an_incident_of_an_earlier_version_has_a_cause_only() -> None:
    found = lines(a_status(closed(incident=None)))
    assert labelled(found, "Culprits") == ["rank 417, node n52"]
    assert labelled(found, "Evidence") == ["none was stored"]
    assert labelled(found, "Cascade") == labelled(found, "Not done") == []


def test_facts_that_were_left_out_are_counted() -> None:
    found = lines(a_status(closed(incident=replace(INCIDENT, omitted=12))))
    assert labelled(found, "Evidence")[3:] == ["12 more that there was no room for"]


@pytest.mark.parametrize(
    ("rank", "told", "found"),
    [
        (3, "3", True),
        (3, "1-5", True),
        (5, "1,5-5", True),
        (6, "1-5,7", False),
        (1, "11", False),
        (0, "", False),
        (12, "3,12-2…", False),  # cut off: 12-2, or 12-29?
        (3, "3,12-2…", True),
        (3, "3…", False),
    ],
)
def test_ranks_are_found_in_what_people_write(rank: int, told: str, found: bool) -> None:
    assert explain.is_in(rank, told) == found


@pytest.mark.parametrize(("rank", "told"), [(417, True), (9, True), (500, True), (10, False)])
def test_whom_an_incident_speaks_of(rank: int, told: bool) -> None:
    (story,) = explain.stories(a_status(closed()))
    assert story.speaks_of(rank) == told
    (bare,) = explain.stories(a_status(closed(incident=None)))
    assert bare.speaks_of(rank) == (rank == 417)


def test_a_rank_of_which_only_a_fact_tells_is_spoken_of() -> None:
    late = replace(INCIDENT, facts=[Fact(rule="node-dead", what="node n9 is dead: …", ranks="70-77")])
    (story,) = explain.stories(a_status(closed(incident=late)))
    assert (story.speaks_of(71), story.speaks_of(78)) == (True, False)
    assert [story.names(node) for node in ("n52", "n9", "n", "n5")] == [True, True, False, False]


def test_what_keeps_the_gang_from_going_on_says_what_ends_it() -> None:
    latch = Latch(since="2026-11-21T06:00:00Z", message="the breaker is open: … When sorted out: kubectl …", resets=0)
    held = condition("Held", "rank 3: no node has room for the pod; it goes on when one has")
    assert list(explain.standing(GangStatus(conditions=[held]))) == [f"Held:     {held.message}"]
    assert list(explain.standing(GangStatus(breaker=latch, conditions=[condition("Held", latch.message)]))) == [
        "Breaker:  open since 2026-11-21T06:00:00Z",
        "          the breaker is open: … When sorted out: kubectl …",
    ]
    both = GangStatus(breaker=latch, conditions=[held, condition("Failed", "the budget is spent")])
    assert [line[:10] for line in explain.standing(both)] == ["Breaker:  ", " " * 10, "Held:     ", "Failed:   "]
    assert list(explain.standing(GangStatus(conditions=[condition("Held", "x", "False")]))) == []


def test_what_the_controller_stores_can_be_told() -> None:
    world = running_gang(4)
    world.exits(3, 139)
    decided = world.think()
    for action in decided.actions:
        world.carry_out(action)
    cause = "Cause:    rank 3 exited 139 (SIGSEGV)"
    open_ = lines(world.status)
    assert (open_[0], open_[1]) == ("Incident: 2, open: the gang gathers for attempt 2", cause)
    world.run()
    found = lines(world.status)
    assert found[0].startswith("Incident: 2, closed: attempt 2 was released at ")
    assert found[1:4] == [cause, "Rule:     fatal-signal (scope: Container)", "Culprits: rank 3, node node-1"]
    assert labelled(found, "Evidence") == ["2026-11-21T06:00:06Z  rank 3: exited 139 (SIGSEGV) [fatal-signal]"]
    refused = world.status.history[0].incident
    assert refused
    assert labelled(found, "Not done") == refused.refused != []
