"""Quarantine: which machines, when, how many, and until when."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from worlds import World, a_gang, running_gang

from fleetctl.gang import quarantine
from fleetctl.gang.actions import QuarantineNodes, WriteStatus
from fleetctl.gang.breaker import HEED_S
from fleetctl.gang.quarantine import AGAIN_S, Accused, Mark, Room, accused, clean_s, is_selected, why_over
from fleetctl.gang.spec import Group, Match, Quarantine, Recovery, UserRule
from fleetctl.gang.state import Container, Report, Strike, Verdict

HOUR = 3600.0
AT = "2026-11-21T06:00:00Z"
SINCE = 1_795_240_800.0
MARK = Mark(rule="lemon", evidence="node n failed 3 times", gangs=("a/llm", "b/vision"), at=AT, uid="u")


# ---- which ----


def verdict(rule: str, node: str = "n", **changes: object) -> Verdict:
    made = {"scope": "Node", "rank": 3, "because": f"{node}: {rule}", "rung": "RecreatePod", **changes}
    return Verdict(rule=rule, node=node, **made)  # type: ignore[arg-type]  # a dict of any fields


@pytest.mark.parametrize("rule", ["lemon", "hardware-report", "device-unhealthy", "node-condition"])
def test_a_machine_that_is_at_fault_itself_is_accused(rule: str) -> None:
    assert accused([verdict(rule)]) == (Accused("n", rule, f"n: {rule}"),)


@pytest.mark.parametrize(
    "other",
    [
        verdict("node-dead", dead=True),
        verdict("node-deleted", dead=True),
        verdict("hardware-report", dead=True),
        verdict("node-leaving"),
        verdict("pod-leaving"),
        verdict("rejected-by-node"),
        verdict("stuck-on-node"),
        verdict("user-rule-1"),
        verdict("user-rule-1", scope="Container"),
        verdict("lemon", scope="Container"),
        verdict("domain-silent", node="", scope="Unknown"),
        verdict("hardware-report", node=""),
    ],
    ids=lambda v: f"{v.rule} {v.scope}",
)
def test_nothing_else_is(other: Verdict) -> None:
    assert accused([other]) == ()


def test_each_machine_is_accused_once_by_the_likeliest_verdict() -> None:
    found = accused([verdict("lemon", "m"), verdict("node-condition", "n", rank=1), verdict("lemon", "n", rank=2)])
    assert [(each.node, each.rule) for each in found] == [("m", "lemon"), ("n", "node-condition")]


def test_the_evidence_stays_short() -> None:
    assert len(accused([verdict("lemon", because="x" * 5000)])[0].evidence) == quarantine.EVIDENCE_MAX


# ---- when ----


def gets_bad(world: World, *nodes: int) -> None:
    for node in nodes:
        world.node(f"node-{node}", conditions=frozenset({"GpuUnhealthy"}))


def asked(world: World, seconds: float = HEED_S + 1.0) -> list[str]:
    """The nodes that are asked for within so many seconds, each as often as it is; nobody does what is asked."""
    found: list[str] = []
    until = world.now + timedelta(seconds=seconds)
    while world.now < until:
        for action in world.think().actions:
            if isinstance(action, QuarantineNodes):
                found += [each.node for each in action.accused]
            world.carry_out(action)
        world.now += timedelta(seconds=0.5)
    return found


def a_gang_of_nodes(nodes: int, **policy: object) -> World:
    """Two ranks on each; nothing else stops anything."""
    world = running_gang(2 * nodes, unhealthy_ceiling="100%")
    return with_policy(world, **{"breaker": msgspec.convert({"nodes": "100%"}, type(Recovery().breaker)), **policy})


def with_policy(world: World, **policy: object) -> World:
    spec = world.gang.spec
    recovery = msgspec.structs.replace(spec.recovery, **policy)
    world.gang = replace(world.gang, spec=msgspec.structs.replace(spec, recovery=recovery))
    return world


def test_all_that_are_judged_at_once_are_asked_for_at_once() -> None:
    world = a_gang_of_nodes(80)
    gets_bad(world, *range(70))
    world.think()
    world.now += timedelta(seconds=HEED_S)
    first, second = world.think().actions[:2]
    assert isinstance(first, WriteStatus)
    assert isinstance(second, QuarantineNodes)
    assert len(first.status.attempt.replacing) == 64
    assert {each.node for each in second.accused} == {f"node-{n}" for n in range(70)}


def test_a_call_is_heeded_only_after_a_moment() -> None:
    world = a_gang_of_nodes(4)
    gets_bad(world, 1)
    assert asked(world, HEED_S - 0.1) == []
    assert asked(world, 1.0) == ["node-1"]


def test_a_lemon_is_quarantined_with_what_it_did() -> None:
    world = a_gang_of_nodes(4)
    struck = tuple(Strike(at=world.clock() - n, rule="fatal-signal", who="a/b/7") for n in (9000.0, 5000.0))
    world.node("node-1", strikes=struck)
    world.exits(rank=2, code=139)
    actions = [a for a in world.think().actions if isinstance(a, QuarantineNodes)]
    assert [(each.node, each.rule) for each in actions[0].accused] == [("node-1", "lemon")]
    assert actions[0].accused[0].evidence.startswith("node node-1 failed 3 times within 48 h")


def test_what_a_pod_reports_while_the_gang_gathers_counts_too() -> None:
    world = a_gang_of_nodes(4)
    world.update_life(7, connected=False)
    world.exits(rank=2, code=1)
    assert asked(world) == []
    world.update_life(2, hardware=(Report(code="xid-79", device="GPU-0", at=world.clock()),))
    assert asked(world) == ["node-1"]


def test_it_is_asked_again_after_a_while_until_the_node_shows_it() -> None:
    world = a_gang_of_nodes(4)
    world.terminates = False
    gets_bad(world, 1, 2)
    assert asked(world) == ["node-1", "node-2"]
    assert asked(world, AGAIN_S - 2.5) == []
    world.node("node-1", quarantined=True)
    assert asked(world, 2.0) == ["node-2"]


def test_another_gangs_quarantine_is_joined_once() -> None:
    world = a_gang_of_nodes(4)
    world.terminates = False
    world.node("node-1", quarantined=True)
    gets_bad(world, 1)
    assert asked(world, 4 * AGAIN_S) == ["node-1"]


def test_a_quarantine_is_no_evidence() -> None:
    world = a_gang_of_nodes(4)
    world.node("node-1", quarantined=True, taints=frozenset({quarantine.QUARANTINE}))
    assert world.think().actions == ()
    assert asked(world) == []


def test_what_is_taken_back_is_forgotten() -> None:
    world = a_gang_of_nodes(4)
    gets_bad(world, 1)
    asked(world)
    world.node("node-1", conditions=frozenset())
    world.run(40)
    assert world.memory.asked == {}


@pytest.mark.parametrize("policy", [{"mode": "Observe"}, {"paused": True}])
def test_whoever_may_not_act_quarantines_nothing(policy: dict[str, object]) -> None:
    world = with_policy(a_gang_of_nodes(4), **policy)
    gets_bad(world, 1)
    assert asked(world) == []
    assert asked(with_policy(world, mode="Enforce", paused=False)) == ["node-1"]


def test_nothing_is_asked_for_where_quarantine_is_off() -> None:
    world = with_policy(a_gang_of_nodes(4), quarantine=Quarantine(nodes="0%"))
    gets_bad(world, 1)
    assert asked(world) == []


def test_a_paused_gang_that_starts_all_the_same_quarantines_nothing() -> None:
    world = World(a_gang(8, paused=True, unhealthy_ceiling="100%"))
    for _ in range(2):
        for action in world.think().actions:
            world.carry_out(action)
    world.update_life(7, connected=False)
    world.terminates = False
    gets_bad(world, 1)
    assert asked(world) == []
    assert world.status.attempt.released == 0
    assert asked(with_policy(world, paused=False)) == ["node-1"]


def test_nor_does_another_writer() -> None:
    world = a_gang_of_nodes(4)
    gets_bad(world, 1)
    asked(world, HEED_S - 0.1)
    world.writer = "controller-b/2"
    world.now += timedelta(seconds=HEED_S)
    assert not any(isinstance(action, QuarantineNodes) for action in world.think().actions)


def test_nor_a_gang_that_has_ended() -> None:
    world = a_gang_of_nodes(2)
    for rank in range(4):
        world.succeeds(rank)
    world.run()
    assert world.status.finished
    gets_bad(world, 1)
    assert asked(world) == []


def test_nor_anybody_while_the_breaker_is_open() -> None:
    world = with_policy(a_gang_of_nodes(40), breaker=type(Recovery().breaker)())
    gets_bad(world, *range(5))
    assert asked(world, 10.0) == []
    assert world.status.breaker
    world.node("node-9", strikes=tuple(Strike(at=world.clock() - n, rule="x", who=f"a/b/{n}") for n in (9, 5)))
    world.exits(rank=18, code=139)
    assert asked(world, 10.0) == []


def test_nor_above_the_ceiling() -> None:
    world = with_policy(a_gang_of_nodes(4), unhealthy_ceiling="25%")
    gets_bad(world, 1, 2)
    assert asked(world, 10.0) == []


def test_a_users_rule_gets_what_it_asks_for_and_no_more() -> None:
    rule = UserRule(match=Match(node_conditions=["GpuUnhealthy"]), action="RecreatePod")
    world = with_policy(a_gang_of_nodes(4), rules=[rule])
    gets_bad(world, 1)
    assert asked(world) == []
    assert len(world.deleted) == 2


def test_the_machine_is_remembered_when_the_gang_ends_because_of_it() -> None:
    world = running_gang(8, node_budget=msgspec.convert({"restarts": 0}, type(Recovery().budgets.node)))
    gets_bad(world, 1)
    assert asked(world) == ["node-1"]
    assert world.status.holds("Failed")


def test_a_device_that_the_kubelet_calls_unhealthy_is_of_the_machine() -> None:
    world = a_gang_of_nodes(4)
    world.pod(2, containers=(Container(name="trainer", running=True, unhealthy=("nvidia.com/gpu GPU-3",)),))
    assert asked(world) == ["node-1"]


def test_an_exit_alone_accuses_no_machine() -> None:
    world = a_gang_of_nodes(4)
    world.exits(rank=2, code=139)
    assert asked(world) == []


# ---- how it stands on the Node ----


def test_the_annotation_says_what_is_known() -> None:
    assert msgspec.json.decode(quarantine.format(MARK)) == {
        "rule": "lemon",
        "evidence": "node n failed 3 times",
        "gangs": ["a/llm", "b/vision"],
        "at": AT,
        "uid": "u",
    }
    assert quarantine.parse(quarantine.format(MARK)) == MARK
    assert MARK.since == SINCE


@pytest.mark.parametrize("text", ["", "true", "[]", '{"gangs": "a"}', '{"gangs": [1]}', "{", '{"rule": 7}', "\0"])
def test_an_annotation_that_cannot_be_read_is_nobodys(text: str) -> None:
    assert quarantine.parse(text) is None


@pytest.mark.parametrize("text", ['{"at": "yesterday"}', "{}", '{"more": {"of": "this"}}'])
def test_one_that_lacks_something_says_the_rest(text: str) -> None:
    mark = quarantine.parse(text)
    assert mark
    assert (mark.gangs, mark.since) == ((), 0.0)


def test_gangs_join_and_leave() -> None:
    assert MARK.wanted_by("a/x").gangs == ("a/llm", "a/x", "b/vision")
    assert MARK.wanted_by("a/llm") == MARK
    assert MARK.without({"a/llm", "c/d"}).gangs == ("b/vision",)


# ---- where ----


def group(selector: dict[str, str] | None) -> Group:
    return Group(name="worker", size=1, template={"spec": {"containers": [], "nodeSelector": selector}})


@pytest.mark.parametrize(
    ("selectors", "selected"),
    [
        ([None], True),
        ([{}], True),
        ([{"gpu": "h100"}], True),
        ([{"gpu": "h100", "zone": "a"}], False),
        ([{"gpu": "a100"}], False),
        ([{"gpu": "a100"}, {"gpu": "h100"}], True),
    ],
)
def test_a_node_belongs_to_a_gang_if_one_of_its_groups_may_go_there(
    selectors: list[dict[str, str] | None], selected: bool
) -> None:
    assert is_selected({"gpu": "h100", "os": "linux"}, map(group, selectors)) is selected


# ---- how many ----


def fleet(nodes: int, a_rack: int = 4, racks_a_zone: int = 2) -> dict[str, tuple[str, ...]]:
    racks = (n // a_rack for n in range(nodes))
    return {f"n{n}": (f"zone={r // racks_a_zone}", f"rack={r % racks_a_zone}") for n, r in enumerate(racks)}


def taken(room: Room, nodes: list[int], policy: Quarantine) -> list[int]:
    found = []
    for node in nodes:
        if not room.why_not(f"n{node}", policy):
            room.take(f"n{node}")
            found.append(node)
    return found


def test_three_of_a_cluster_always_may_and_one_of_a_domain() -> None:
    little = Quarantine(nodes="1%", per_domain="0%")
    assert taken(Room(fleet(64), ()), [0, 1, 4, 8, 9, 12, 16, 24, 32, 40], little) == [0, 8, 16]


def test_a_share_of_the_cluster() -> None:
    policy = Quarantine(nodes="10%", per_domain="100%")
    room = Room(fleet(64), ["n60", "n61"])
    assert taken(room, list(range(20)), policy) == [0, 1, 2, 3]
    assert room.why_not("n9", policy) == (
        "6 of the 64 nodes of the cluster are in quarantine, no less than the 6 that "
        "spec.recovery.quarantine.nodes allows"
    )


def test_a_share_of_each_domain() -> None:
    policy = Quarantine(nodes="100%", per_domain="50%")
    room = Room(fleet(64), ["n0"])
    assert taken(room, [1, 2, 3, 4, 5, 6, 8, 9, 10], policy) == [1, 4, 5, 8, 9]
    assert room.why_not("n2", policy) == (
        "4 of the 8 nodes of zone=0 are in quarantine, no less than the 4 that "
        "spec.recovery.quarantine.perDomain allows"
    )
    assert "nodes of rack=0 are in quarantine" in room.why_not("n10", policy)


def test_racks_of_one_name_in_two_zones_are_two() -> None:
    policy = Quarantine(nodes="100%", per_domain="25%")
    assert taken(Room(fleet(16), ()), [0, 1, 8, 9], policy) == [0, 8]


def test_a_node_of_no_domain_is_bounded_by_the_cluster_alone() -> None:
    assert taken(Room({f"n{n}": () for n in range(8)}, ()), list(range(8)), Quarantine()) == [0, 1, 2]


def test_what_is_quarantined_and_gone_does_not_count() -> None:
    assert taken(Room(fleet(8), ["gone"] * 9), [0], Quarantine()) == [0]


# ---- until when ----


def over(mark: Mark = MARK, **changes: object) -> str:
    asked = {"uid": "u", "gone": (), "clean_s": 0.0, "after_hours": 72, **changes}
    return why_over(mark, **asked)  # type: ignore[arg-type]  # a dict of any fields


def test_it_goes_on_while_a_gang_wants_it() -> None:
    assert over() == ""
    assert over(gone=["a/llm"]) == ""
    assert over(gone=["a/llm", "c/d"]) == ""


def test_it_ends_with_the_last_gang_that_wanted_it() -> None:
    assert over(gone=["b/vision", "a/llm"]) == "no gang is left that wanted it (a/llm, b/vision)"


def test_what_no_gang_wanted_is_not_ended_with_them() -> None:
    assert over(Mark(rule="x"), gone=["a/llm"]) == ""


def test_it_ends_with_the_machine() -> None:
    assert over(uid="another") == "the Node was replaced"
    assert over(Mark(gangs=("a/llm",)), uid="another") == ""


def test_it_ends_when_the_machine_was_clean_for_long_enough() -> None:
    assert over(clean_s=72 * HOUR - 1) == ""
    assert over(clean_s=72 * HOUR) == "nothing has spoken against it for 72 h"
    assert over(clean_s=9999 * HOUR, after_hours=0) == ""


def test_clean_is_what_nothing_has_spoken_against_since() -> None:
    def strike(at: float) -> Strike:
        return Strike(at=at, rule="x", who="a/b/1")

    now = SINCE + 100 * HOUR
    assert clean_s(MARK, (), 0.0, now) == 100 * HOUR
    assert clean_s(MARK, (strike(SINCE - 5.0), strike(SINCE + HOUR)), 0.0, now) == 99 * HOUR
    assert clean_s(MARK, (strike(SINCE + HOUR),), SINCE + 3 * HOUR, now) == 97 * HOUR
    assert clean_s(Mark(), (), 0.0, now) == 0.0


@pytest.mark.parametrize(
    ("hours", "after"), [((), 0), ((72,), 72), ((24, 96), 96), ((24, 0), 0)], ids=lambda value: str(value)
)
def test_the_gang_that_is_most_careful_decides(hours: tuple[int, ...], after: int) -> None:
    policies = [Quarantine(lift_after_hours=each) for each in hours]
    assert quarantine.lift_after_hours(policies) == after


@pytest.mark.parametrize(
    ("rule", "hours", "over"),
    [
        ("node-condition", 1 / 6, True),
        ("device-unhealthy", 1 / 6, True),
        ("node-condition", 0.16, False),
        ("lemon", 71.0, False),
        ("hardware-report", 71.0, False),
        ("lemon", 72.0, True),
    ],
)
def test_what_is_taken_back_by_whoever_said_it_ends_soon(rule: str, hours: float, over: bool) -> None:
    mark = Mark(rule=rule, gangs=("ml/llm",), at="2026-11-21T06:00:00Z", uid="u")
    assert bool(why_over(mark, uid="u", gone=(), clean_s=hours * 3600, after_hours=72)) is over


def test_a_share_of_nothing_turns_it_off() -> None:
    assert Quarantine(nodes="0%").off
    assert not Quarantine(nodes="1%").off
    assert Quarantine(nodes="1%").allows(10) == 3
