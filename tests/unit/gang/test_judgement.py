"""What counts of what is diagnosed: what the record has condemned stays condemned until its pod is gone."""

from dataclasses import replace

import msgspec
from worlds import World, a_gang, running_gang

from fleetctl.gang.spec import Match, UserRule
from fleetctl.gang.state import Strike


def struck(world: World, name: str) -> None:
    world.node(name, strikes=(Strike(at=world.clock() - 3600, rule="hang", who="default/llm/1"),))


def begins(world: World) -> None:
    """The record names what must go; nothing is deleted yet."""
    world.carry_out(world.think().actions[0])


def test_a_lemon_is_left_though_its_trainer_has_restarted_meanwhile() -> None:
    world = running_gang(4)
    struck(world, "node-0")
    world.exits(rank=1, code=139)
    begins(world)
    assert [(r.rank, r.bad) for r in world.status.attempt.replacing] == [(1, True)]
    world.new_life(1)
    world.run()
    assert [uid for uid, _ in world.deleted] == ["uid-1"]
    assert world.status.history[0].cause.rule == "lemon"
    assert world.status.history[0].recreated == "1"


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
    assert [uid for uid, _ in world.deleted] == ["uid-1"]
    assert world.status.attempt.released == 2
