"""What counts of what is diagnosed: what the record has condemned stays condemned until its pod is gone."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import msgspec
from worlds import World, a_gang, running_gang

from fleetctl.gang.breaker import HEED_S
from fleetctl.gang.judgement import judge
from fleetctl.gang.spec import Latch, Match, UserRule
from fleetctl.gang.state import Node, Report, Strike


def struck(world: World, name: str) -> None:
    world.node(name, strikes=(Strike(at=world.clock() - 3600, rule="hang", who="default/llm/1"),))


def told_of_a_device(world: World, rank: int) -> None:
    """And it has been heeded."""
    life = world.members[rank].life
    assert life is not None
    world.update_life(rank, hardware=(Report(code="xid-79", device="GPU-3", text="", at=life.started_at + 1),))
    assert world.think().actions == ()
    world.now += timedelta(seconds=HEED_S)


def begins(world: World) -> None:
    """The record names what must go; nothing is deleted yet."""
    world.carry_out(world.think().actions[0])


def test_a_lemon_is_left_though_its_trainer_has_restarted_meanwhile() -> None:
    world = running_gang(4)
    struck(world, "node-0")
    world.exits(rank=1, code=139)
    begins(world)
    assert [(r.rank, r.bad) for r in world.status.attempt.replacing] == [(0, True), (1, True)]
    world.new_life(1)
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-0", "uid-1"]
    assert world.status.history[0].cause.rule == "lemon"
    assert world.status.history[0].recreated == "0-1"


def test_so_is_a_machine_that_a_users_rule_is_about_also_by_another_leader() -> None:
    world = World(a_gang(4))
    recovery = msgspec.structs.replace(
        world.gang.spec.recovery, rules=[UserRule(match=Match(exit_codes=[41]), action="RecreatePod")]
    )
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, recovery=recovery))
    world.run()
    world.exits(rank=2, code=41)
    begins(world)
    world.new_life(2)
    world.writer, world.memory = "controller-b/2", type(world.memory)()
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-2"]


def test_all_anew_for_a_machine_is_asked_once_and_nobody_goes_there_again() -> None:
    world = World(a_gang(4, unhealthy_ceiling="90%"))
    recovery = msgspec.structs.replace(
        world.gang.spec.recovery, rules=[UserRule(match=Match(node_conditions=["Odd"]), action="RecreateGang")]
    )
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, recovery=recovery))
    world.run()
    world.node("node-0", conditions=frozenset({"Odd"}))
    world.run(40)
    assert (world.status.attempt.released, len(world.deleted)) == (2, 4)
    assert world.status.history[0].rung == "RecreateGang"
    assert "node-0" not in {member.pod.node for member in world.members if member.pod}


def test_a_new_pod_does_not_ask_for_all_anew_once_more() -> None:
    """At the first start all pods are of the attempt that the gang gathers for: the status was written for ever."""
    world = World(a_gang(4, unhealthy_ceiling="90%"))
    recovery = msgspec.structs.replace(
        world.gang.spec.recovery, rules=[UserRule(match=Match(node_conditions=["Odd"]), action="RecreateGang")]
    )
    world.gang = replace(world.gang, spec=msgspec.structs.replace(world.gang.spec, recovery=recovery))
    for _ in range(2):
        for action in world.think().actions:
            world.carry_out(action)
    world.node("node-0", conditions=frozenset({"Odd"}))
    world.run(40)
    assert world.status.attempt.released == 1
    assert {uid for uid, _ in world.deleted} == {"uid-0", "uid-1"}


def test_a_node_that_is_proven_alive_again_is_not_condemned() -> None:
    world = running_gang(4)
    world.dies("node-0")
    begins(world)
    world.node("node-0", silent=False, still_s=0.0)
    for rank in (0, 1):
        world.new_life(rank)
    world.run()
    assert world.deleted == []


def test_the_successor_of_a_condemned_pod_is_not() -> None:
    world = running_gang(4)
    struck(world, "node-0")
    world.exits(rank=1, code=139)
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-0", "uid-1"]
    assert world.status.attempt.released == 2


def test_a_condemned_pod_whose_node_dies_is_not_waited_for() -> None:
    """It was, for ever: campaign seed 645."""
    world = running_gang(4)
    struck(world, "node-0")
    world.exits(rank=1, code=139)
    begins(world)
    world.pod(1, deleting=True)
    world.dies("node-0")
    world.run()
    assert {"uid-0", "uid-1"} <= {uid for uid, grace_s in world.deleted if grace_s == 0}


def test_a_pod_made_for_this_target_is_not_condemned_with_the_others() -> None:
    world = running_gang(4)
    struck(world, "node-0")
    world.exits(rank=1, code=139)
    begins(world)
    world.pod(1, attempt=world.status.attempt.target)
    world.new_life(1)
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-0"]


def test_how_long_an_avoided_node_is_well_begins_anew_when_it_is_not() -> None:
    world = running_gang(2)
    world.exits(rank=1, code=1)
    begins(world)

    now = int(world.clock())

    def remembered(at: float, ready: str) -> Mapping[str, float]:
        snapshot = world.snapshot()
        lemon = Node(name="n7", strikes=tuple(Strike(at=now, rule=rule, who="ns/g/1") for rule in ("hang", "lemon")))
        avoided = (lemon, Node(name="n8", ready=ready), Node(name="n9", silent=True))
        waits = replace(snapshot.members[1], avoided=avoided)
        snapshot = replace(snapshot, members=(snapshot.members[0], waits), monotonic=at)
        world.memory = judge(snapshot, world.memory).memory
        return world.memory.well

    assert remembered(100, "True") == {"n8": 100}
    assert remembered(107, "True") == {"n8": 100}
    assert remembered(108, "Unknown") == {}
    assert remembered(109, "True") == {"n8": 109}


def test_an_open_breaker_keeps_those_that_were_named_on_somebodys_word() -> None:
    world = running_gang(4)
    told_of_a_device(world, rank=1)
    begins(world)
    latch = Latch(since="2026-11-21T06:00:00Z", message="the breaker is open", resets=0)
    world.status = msgspec.structs.replace(world.status, breaker=latch)
    world.run()
    assert (world.deleted, world.status.attempt.released) == ([], 2)


def test_all_ranks_leave_a_bad_machine_also_if_the_one_that_told_of_it_is_gone_first() -> None:
    world = running_gang(4)
    told_of_a_device(world, rank=1)
    begins(world)
    assert [r.rank for r in world.status.attempt.replacing] == [0, 1]
    world.delete("uid-1", 0)
    world.run()
    assert {uid for uid, _ in world.deleted} == {"uid-0", "uid-1"}
    assert world.status.history[0].recreated == "0-1"
    assert (world.status.history[0].cause.rule, world.status.history[0].cause.rank) == ("hardware-report", 1)
