"""Production clients live with the simulated front door, on the fast way and over the real HTTP library alike."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetctl.kube import errors
from fleetctl.kube.client import WatchEvent
from fleetctl.kube.elector import LeaseElector
from fleetctl.kube.objects import CONFIG_MAPS, PODS, Pod
from fleetctl.sim.processes import Process
from fleetctl.sim.troubles import (
    AnswerLost,
    Closed,
    Coalesced,
    Conflict,
    Delayed,
    Duplicated,
    Errors,
    Outage,
    Refused,
    Reset,
    Slow,
    StaleLists,
    Stalled,
    Throttled,
    TokenRejected,
    Trouble,
)

from .apiworld import NS, ApiWorld, Follower

A_POD = {"metadata": {"name": "p"}, "spec": {"containers": []}}


@pytest.fixture(params=["fast", "http"])
def world(request: pytest.FixtureRequest) -> ApiWorld:
    return ApiWorld(way=request.param)


# Requests


def test_every_verb_of_the_client_works(world: ApiWorld):
    world.api.raw["/version"] = b'{"minor":"36"}'

    async def story() -> None:
        client = await world.client()
        assert await client.raw_get("/version") == b'{"minor":"36"}'
        body = await client.create(CONFIG_MAPS, NS, {"metadata": {"name": "c", "namespace": NS}, "data": {"a": "1"}})
        await client.replace(CONFIG_MAPS, {**body.body, "data": {"a": "2"}})
        await client.patch(CONFIG_MAPS, NS, "c", {"data": {"b": "3"}})
        assert (await client.get(CONFIG_MAPS, NS, "c")).body["data"] == {"a": "2", "b": "3"}
        assert [item.metadata.name for item in (await client.list(CONFIG_MAPS)).items] == ["c"]
        assert await client.delete(CONFIG_MAPS, NS, "c")
        assert not await client.delete(CONFIG_MAPS, NS, "c")
        with pytest.raises(errors.NotFound):
            await client.get(CONFIG_MAPS, NS, "c")

    world.run(story())
    assert [(w.actor, w.verb) for w in world.wrote] == [
        ("controller/a", verb) for verb in ("create", "update", "patch", "delete")
    ]


def test_a_list_of_many_pages_is_read_to_its_end(world: ApiWorld):
    for number in range(1100):
        world.create(name=f"p{number}")

    async def story() -> int:
        return len((await (await world.client()).list(PODS)).items)

    assert world.run(story()) == 1100


def test_an_exchange_takes_its_time(world: ApiWorld):
    async def story() -> list[float]:
        client, took = await world.client(), []
        for _ in range(30):
            began = world.now()
            await client.list(PODS)
            took.append(world.now() - began)
        return took

    took = world.run(story())
    assert min(took) >= 0.001
    assert max(took) < (0.02 if world.way == "http" else 0.005)
    assert len(set(took)) == 30


def test_a_throttled_client_waits_as_long_as_it_is_told(world: ApiWorld):
    async def story() -> float:
        client = await world.client()
        world.door.begin(trouble := Throttled(retry_after=7))
        world.loop.call_later(1, world.door.end, trouble)
        await client.create(PODS, NS, A_POD)
        return world.now()

    assert 7 < world.run(story()) < 8


def test_a_failing_server_has_done_nothing(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        world.door.begin(Errors(status=503))
        with pytest.raises(errors.Unavailable) as caught:
            await client.create(PODS, NS, A_POD)
        assert (caught.value.status, caught.value.unsent) == (503, False)

    world.run(story())
    assert world.pod() is None


@pytest.mark.parametrize("applied", [True, False])
def test_an_answer_that_is_lost_says_nothing_of_what_happened(world: ApiWorld, applied: bool):
    ends = set()

    async def story() -> None:
        client = await world.client()
        world.door.begin(AnswerLost(applied=applied))
        for number in range(12):
            with pytest.raises(errors.Unavailable) as caught:
                await client.create(PODS, NS, {"metadata": {"name": f"p{number}"}}, timeout=10)
            assert (caught.value.status, caught.value.unsent) == (0, False)
            ends.add(caught.value.message)

    world.run(story())
    assert len(world.api.all("pods")) == (12 if applied else 0)
    assert ends == {"no answer within 10 s", "the connection broke (ServerDisconnectedError)"}


def test_an_answer_that_is_torn_has_happened(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        world.door.begin(Reset())
        with pytest.raises(errors.Unavailable, match="ClientPayloadError"):
            await client.create(PODS, NS, A_POD)

    world.run(story())
    assert world.pod() is not None


def test_credentials_that_are_rejected_are_renewed_once(world: ApiWorld):
    async def story() -> int:
        client, refused = await world.client(), 0
        world.door.begin(TokenRejected(share=0.5))
        for _ in range(40):
            try:
                await client.list(PODS)
            except errors.Unauthorized:
                refused += 1
        return refused

    assert 4 < world.run(story()) < 15  # twice in a row, that is: about ten of forty


@pytest.mark.parametrize(("status", "verb"), [(403, "create"), (422, "create"), (403, "")])
def test_a_write_that_is_refused_is_refused_with_its_message(world: ApiWorld, status: int, verb: str):
    async def story() -> None:
        client = await world.client()
        world.door.begin(Refused(plural="pods", verb=verb, status=status, message="exceeded quota"))
        with pytest.raises(errors.Refused, match="exceeded quota") as caught:
            await client.create(PODS, NS, A_POD)
        assert caught.value.status == status
        await client.list(PODS)
        await client.create(CONFIG_MAPS, NS, {"metadata": {"name": "c"}})
        world.create()
        if verb:
            assert await client.delete(PODS, NS, "p")
        else:
            with pytest.raises(errors.Refused):
                await client.delete(PODS, NS, "p")

    world.run(story())


def test_somebody_writes_first(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        body = (await client.create(CONFIG_MAPS, NS, {"metadata": {"name": "c", "namespace": NS}})).body
        world.door.begin(trouble := Conflict(plural="configmaps"))
        with pytest.raises(errors.Conflict):
            await client.replace(CONFIG_MAPS, body)
        world.door.end(trouble)
        await client.replace(CONFIG_MAPS, {**(await client.get(CONFIG_MAPS, NS, "c")).body, "data": {}})

    world.run(story())
    assert [w.actor for w in world.wrote] == ["controller/a", "somebody", "controller/a"]


def test_a_slow_server_acts_late_even_if_nobody_waits_for_it_any_more(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        world.door.begin(Slow(latency_s=(4.0, 6.0)))
        began = world.now()
        await client.list(PODS)
        assert 4 < world.now() - began < 6.1
        with pytest.raises(errors.Unavailable, match="no answer within 1 s"):
            await client.create(PODS, NS, A_POD, timeout=1)
        assert world.pod() is None
        await asyncio.sleep(5)

    world.run(story())
    assert world.pod() is not None


def test_in_an_outage_connections_are_refused_and_nothing_is_sent(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        await client.list(PODS)
        world.door.begin(trouble := Outage())
        world.loop.call_later(8, world.door.end, trouble)
        await asyncio.sleep(0.1)  # until a connection that was idle is seen to be closed
        with pytest.raises(errors.Unavailable, match="no connection") as caught:
            await client.create(PODS, NS, A_POD, timeout=5)
        assert caught.value.unsent
        await client.create(PODS, NS, A_POD)
        assert world.now() > 8

    world.run(story())


def test_an_outage_breaks_what_is_under_way(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        world.door.begin(Slow(latency_s=(4.0, 4.0)))
        world.loop.call_later(3, world.door.begin, Outage())
        with pytest.raises(errors.Unavailable, match="the connection broke"):
            await client.create(PODS, NS, A_POD)

    world.run(story())
    assert world.pod() is not None


def test_a_trouble_befalls_only_whom_and_what_it_names(world: ApiWorld):
    async def story() -> list[str]:
        world.door.begin(Errors(actor="controller/a/elector", plural="pods"))
        hit = []
        for actor in ("controller/a", "controller/a/elector", "controller/a/electors", "controller/b"):
            for resource in (PODS, CONFIG_MAPS):
                try:
                    await (await world.client(actor)).create(resource, NS, {"metadata": {"generateName": "x-"}})
                except errors.Unavailable:
                    hit.append(f"{actor} {resource.plural}")
        return hit

    assert world.run(story()) == ["controller/a/elector pods"]


def test_what_began_first_is_met_first(world: ApiWorld):
    async def story() -> None:
        world.door.begin(Refused())
        world.door.begin(Errors(status=500))
        with pytest.raises(errors.Refused):
            await (await world.client()).create(PODS, NS, A_POD)

    world.run(story())


def test_a_trouble_takes_its_share(world: ApiWorld):
    async def story() -> int:
        client, failed = await world.client(), 0
        world.door.begin(Errors(share=0.3))
        for number in range(100):
            try:
                await client.create(PODS, NS, {"metadata": {"name": f"p{number}"}})
            except errors.Unavailable:
                failed += 1
        return failed

    assert 15 < world.run(story()) < 45


# Watches


async def lines(world: ApiWorld, *, seconds: int = 300, silence: float = 130.0) -> list[tuple[float, str]]:
    """Everything one watch tells from now on, and when."""
    client = await world.client()

    def name(event: WatchEvent[Pod]) -> str:
        return f"{event.type} {event.object.metadata.name}" if event.object else event.type

    version = str(world.api.version)
    events = client.watch(PODS, resource_version=version, timeout_seconds=seconds, silence=silence)
    return [(world.now(), name(event)) async for event in events]


def test_a_watch_has_bookmarks_every_minute_and_ends_in_time(world: ApiWorld):
    told = world.run(lines(world, seconds=200))
    assert [what for _, what in told] == ["BOOKMARK"] * 3
    assert [round(at) for at, _ in told] == [60, 120, 180]
    assert 200 < world.now() < 200.1


def test_lines_arrive_late_and_in_the_order_of_the_commits(world: ApiWorld):
    def make() -> None:
        for number in range(100):
            world.create(name=f"p{number}")

    world.loop.call_later(1, make)
    told = world.run(lines(world, seconds=2))
    assert [what for _, what in told] == [f"ADDED p{number}" for number in range(100)]
    times = [at for at, _ in told]
    assert times == sorted(times)
    assert 1.001 <= times[0] < times[-1] < 1.01


def test_the_reflector_follows_and_lists_once(world: ApiWorld):
    world.create(name="a", labels={"app": "x"})

    async def story() -> Follower:
        follower = Follower(world, await world.client(), selector="app")
        await follower.reflector.synced.wait()
        await asyncio.sleep(1)
        world.create(name="b", labels={"app": "x"})
        world.phase("Running", "b")
        world.label("a")
        world.api.delete("somebody", "pods", NS, "b")
        await asyncio.sleep(3600)
        return follower

    follower = world.run(story())
    assert follower.story == ["+a", "+b", "~b Running", "-a", "~b Running", "-b"]
    assert follower.reflector.relists == 0


def test_a_watch_that_stalls_says_nothing_and_then_everything(world: ApiWorld):
    trouble = Stalled(plural="pods")

    async def story() -> Follower:
        follower = Follower(world, await world.client())
        await asyncio.sleep(1)
        world.door.begin(trouble)
        world.create()
        world.phase("Running")
        await asyncio.sleep(100)
        assert follower.story == []
        assert follower.reflector.last_event_at is not None
        assert world.loop.time() - follower.reflector.last_event_at > 100  # no bookmark either
        world.door.end(trouble)
        await asyncio.sleep(0.1)
        return follower

    follower = world.run(story())
    assert follower.story == ["+p", "~p Running"]
    assert follower.reflector.relists == 0


def test_a_watch_that_stalls_for_too_long_is_given_up_by_its_client(world: ApiWorld):
    async def story() -> None:
        world.door.begin(Stalled())
        with pytest.raises(errors.Unavailable, match="went silent"):
            await lines(world, silence=20)
        assert 20 <= world.now() < 20.1

    world.run(story())


def test_watches_that_are_closed_are_opened_again_and_miss_nothing(world: ApiWorld):
    async def story() -> Follower:
        follower = Follower(world, await world.client())
        await asyncio.sleep(1)
        world.door.begin(trouble := Closed(every_s=1))
        opened = count_watches(world)
        for number in range(60):
            world.create(name=f"p{number}")
            await asyncio.sleep(1)
        assert len(opened) > 3
        world.door.end(trouble)
        await asyncio.sleep(40)
        return follower

    follower = world.run(story())
    assert follower.story == [f"+p{number}" for number in range(60)]
    assert follower.reflector.relists == 0


def count_watches(world: ApiWorld) -> list[float]:
    """When each watch from now on is asked for."""
    opened: list[float] = []
    answer = world.api.answer

    def counted(request: Any, **options: Any) -> Any:
        if request.verb == "watch":
            opened.append(world.now())
        return answer(request, **options)

    world.api.answer = counted  # type: ignore[method-assign]
    return opened


@pytest.mark.parametrize("how", ["reset", "outage", "break"])
def test_a_watch_may_break_in_the_middle(world: ApiWorld, how: str):
    def breaks() -> None:
        match how:
            case "reset":
                world.door.begin(Reset())
                world.create(name="b")
            case "outage":
                world.door.begin(Outage())
            case "break":
                world.door.break_watches(plural="configmaps")
                world.door.break_watches(plural="pods")

    async def story() -> None:
        world.loop.call_later(1, world.create)
        world.loop.call_later(2, breaks)
        with pytest.raises(errors.Unavailable, match="the connection broke"):
            await lines(world)
        assert 2 <= world.now() < 2.1
        assert world.open_watches() == 0

    world.run(story())


def test_after_a_watch_broke_another_goes_on_where_it_was(world: ApiWorld):
    async def story() -> Follower:
        follower = Follower(world, await world.client())
        await asyncio.sleep(1)
        world.door.begin(trouble := Reset())
        for name in "abc":
            world.create(name=name)
        world.door.end(trouble)
        await asyncio.sleep(5)
        return follower

    follower = world.run(story())
    assert follower.story == ["+a", "+b", "+c"]
    assert follower.reflector.relists == 0


def test_a_delayed_watch_tells_late_and_in_order(world: ApiWorld):
    trouble = Delayed(plural="pods", by_s=5)
    world.loop.call_later(1, world.door.begin, trouble)
    world.loop.call_later(2, lambda: world.create(name="a"))
    world.loop.call_later(3, world.door.end, trouble)
    world.loop.call_later(4, lambda: world.create(name="b"))
    world.loop.call_later(8, lambda: world.create(name="c"))
    told = world.run(lines(world, seconds=10))
    assert [what for _, what in told] == ["ADDED a", "ADDED b", "ADDED c"]
    assert [round(at, 1) for at, _ in told] == [7.0, 7.0, 8.0]


def test_a_watch_may_tell_everything_twice(world: ApiWorld):
    world.door.begin(Duplicated())
    world.loop.call_later(1, world.create)
    world.loop.call_later(2, world.phase, "Running")
    told = world.run(lines(world, seconds=3))
    assert [what for _, what in told] == ["ADDED p", "ADDED p", "MODIFIED p", "MODIFIED p"]


def test_of_many_changes_only_the_newest_may_be_told(world: ApiWorld):
    def changes() -> None:
        for name in "ab":
            world.bound(name)
        for phase in ("Running", "Failed"):
            world.phase(phase, "a")

    async def story() -> Follower:
        follower = Follower(world, await world.client())
        await asyncio.sleep(1)
        world.door.begin(trouble := Coalesced(plural="pods", window_s=2))
        changes()
        await asyncio.sleep(1.9)
        assert follower.story == []
        await asyncio.sleep(0.2)
        assert follower.story == ["+b", "+a"]
        world.api.delete("somebody", "pods", NS, "a")
        world.door.end(trouble)
        world.phase("Running", "b")
        await asyncio.sleep(0.1)
        assert follower.story == ["+b", "+a", "-a", "~b Running"]
        return follower

    assert world.run(story()).agrees()


def test_what_is_new_within_a_window_is_told_as_new_and_no_bookmark_overtakes_it(world: ApiWorld):
    world.door.begin(Coalesced(window_s=100))
    world.loop.call_later(59, world.create)
    world.loop.call_later(59.5, world.phase, "Running")
    told = world.run(lines(world, seconds=61))
    assert [what for _, what in told] == ["ADDED p", "BOOKMARK"]
    assert round(told[0][0]) == 60


def test_a_watch_is_not_closed_by_a_trouble_that_is_over(world: ApiWorld):
    world.door.begin(trouble := Closed(every_s=5))
    world.loop.call_later(4, world.door.end, trouble)
    world.loop.call_later(6, world.create)
    assert len(world.run(lines(world, seconds=10))) == 1
    assert world.now() > 10


def test_lists_may_be_of_the_past(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        world.create(name="a")
        world.door.begin(trouble := StaleLists(as_of=world.api.version))
        world.create(name="b")
        world.phase("Running", "a")
        stale = await client.list(PODS)
        assert [(p.metadata.name, p.status.phase) for p in stale.items] == [("a", "Pending")]
        assert stale.resource_version == "2"
        assert (await client.get(PODS, NS, "a")).status.phase == "Running"
        world.door.end(trouble)
        assert (await client.list(PODS)).resource_version == "4"

    world.run(story())


def test_the_history_may_be_lost(world: ApiWorld):
    async def story() -> Follower:
        follower = Follower(world, await world.client())
        await asyncio.sleep(1)
        world.door.break_watches()
        world.create(name="a")
        world.api.forget_history()
        await asyncio.sleep(10)
        assert follower.reflector.relists == 1
        return follower

    assert world.run(story()).story == ["+a"]


TROUBLES: dict[str, Callable[[ApiWorld], Trouble]] = {
    "throttled": lambda _: Throttled(share=0.3),
    "errors": lambda _: Errors(share=0.3),
    "answer lost": lambda _: AnswerLost(share=0.3),
    "reset": lambda _: Reset(share=0.5),
    "token rejected": lambda _: TokenRejected(share=0.3),
    "slow": lambda _: Slow(),
    "outage": lambda _: Outage(),
    "stalled": lambda _: Stalled(),
    "closed": lambda _: Closed(every_s=2),
    "delayed": lambda _: Delayed(),
    "duplicated": lambda _: Duplicated(share=0.5),
    "coalesced": lambda _: Coalesced(),
    "stale lists": lambda world: StaleLists(as_of=world.api.version),
}


async def churn(world: ApiWorld, rng: random.Random, changes: int = 300) -> None:
    """Pods come, change and go; now and then a connection breaks or the past is forgotten."""
    for _ in range(changes):
        name = f"p{rng.randrange(10)}"
        match rng.randrange(60):
            case 0:
                world.door.break_watches()
            case 1:
                world.api.forget_history()
            case n if n < 20:
                world.api.delete("somebody", "pods", NS, name, grace_s=0)
            case _ if world.pod(name) is None:
                world.bound(name)
            case n:
                world.phase(f"Phase{n}", name)
        await asyncio.sleep(rng.random() / 5)


@pytest.mark.parametrize("trouble", [*TROUBLES, "all of them"])
def test_the_reflector_ends_up_with_the_truth_whatever_befalls_it(world: ApiWorld, trouble: str):
    async def story() -> None:
        follower = Follower(world, await world.client())
        await asyncio.sleep(1)
        begun = [TROUBLES[name](world) for name in (TROUBLES if trouble == "all of them" else [trouble])]
        for each in begun:
            world.door.begin(each)
        await churn(world, random.Random(3))
        for each in begun:
            world.door.end(each)
        await asyncio.sleep(200)
        assert follower.agrees()
        world.create(name="last")
        await asyncio.sleep(1)
        assert follower.agrees()

    world.run(story())


@pytest.mark.parametrize("trouble", [*TROUBLES, "conflict", "all of them"])
def test_no_two_lead_at_once_and_in_the_end_one_does(world: ApiWorld, trouble: str):
    more = {**TROUBLES, "conflict": lambda _: Conflict(share=0.5)}
    leading: dict[str, LeaseElector] = {}
    electors: list[asyncio.Task[None]] = []

    def look() -> None:
        assert sum(elector.leading for elector in leading.values()) <= 1

    async def story() -> None:
        for number, name in enumerate("ab"):
            client = await world.client(f"controller/{name}/elector")
            elector = LeaseElector(client, NS, "leader", name, world.clock, changed=look, rng=random.Random(number))
            leading[name] = elector
            electors.append(asyncio.create_task(elector.run()))
        await asyncio.sleep(10)
        assert sum(elector.leading for elector in leading.values()) == 1
        begun = [more[name](world) for name in (more if trouble == "all of them" else [trouble])]
        for each in begun:
            world.door.begin(each)
        for _ in range(100):
            await asyncio.sleep(1)
            look()
        for each in begun:
            world.door.end(each)
        await asyncio.sleep(30)
        assert sum(elector.leading for elector in leading.values()) == 1

    world.run(story())


# Hosts and programs


def test_a_host_in_the_dark_hears_nothing_until_the_light_returns(world: ApiWorld):
    process = Process("controller-0", "host-1")
    followers: list[Follower] = []

    async def controller() -> float:
        client = await world.client()
        followers.append(Follower(world, client))
        await asyncio.sleep(5)
        await client.create(PODS, NS, {"metadata": {"name": "mine"}})
        return world.now()

    async def story() -> None:
        task = world.loop.spawn(process, controller())
        await asyncio.sleep(2)
        world.network.cut("host-1")
        world.create(name="other")
        await asyncio.sleep(18)
        assert not task.done()
        assert followers[0].story == []
        assert world.pod("mine") is None
        world.network.heal("host-1")
        await asyncio.sleep(1)
        assert 20 <= await task < 20.5
        assert followers[0].story == ["+other", "+mine"]

    world.run(story())


def test_an_answer_waits_for_the_light_too(world: ApiWorld):
    process = Process("controller-0", "host-1")

    async def controller() -> float:
        await (await world.client()).create(PODS, NS, A_POD)
        return world.now()

    async def story() -> None:
        world.door.after_write.append(lambda _: world.network.cut("host-1"))
        world.loop.call_later(10, world.network.heal, "host-1")
        assert 10 <= await world.loop.spawn(process, controller()) < 10.5

    world.run(story())


def test_what_was_given_up_in_the_dark_is_not_done_later_by_a_fast_client():
    world = ApiWorld()

    async def story() -> None:
        world.network.cut("world")
        with pytest.raises(errors.Unavailable, match="no answer within 5 s"):
            await (await world.client()).create(PODS, NS, A_POD, timeout=5)
        world.network.heal("world")
        await asyncio.sleep(60)

    world.run(story())
    assert world.pod() is None


@pytest.mark.parametrize("edge", ["before", "after"])
def test_a_program_can_be_killed_at_each_edge_of_a_write(world: ApiWorld, edge: str):
    process = Process("controller-0", "host-1")
    went_on: list[str] = []

    def kill(request: Any) -> None:
        assert (request.verb, request.plural, request.actor) == ("create", "pods", "controller/a")
        world.loop.kill(process)
        world.network.died(process)
        world.door.drop("controller/a")

    async def controller() -> None:
        client = await world.client()
        Follower(world, client)
        await asyncio.sleep(1)
        (world.door.before_write if edge == "before" else world.door.after_write).append(kill)
        await client.create(PODS, NS, A_POD)
        went_on.append("yes")

    async def story() -> None:
        world.loop.spawn(process, controller())
        await asyncio.sleep(10)
        assert world.open_watches() == 0

    world.run(story())
    assert went_on == []
    assert (world.pod() is not None) == (edge == "after")


def test_a_watch_ends_when_there_is_nobody_left_to_tell():
    world, process = ApiWorld(), Process("controller-0", "host-1")

    async def controller() -> None:
        await Follower(world, await world.client()).task

    async def story() -> None:
        world.loop.spawn(process, controller())
        await asyncio.sleep(1)
        world.loop.kill(process)
        world.create()
        assert world.open_watches() == 0

    world.run(story())


def test_the_edges_of_a_write_are_told_of_writes_only_and_may_take_their_time(world: ApiWorld):
    told: list[str] = []

    async def before(request: Any) -> None:
        await asyncio.sleep(3)
        told.append(f"before {request.verb} {world.pod() is not None}")

    world.door.before_write.append(before)
    world.door.after_write.append(lambda r: told.append(f"after {r.verb} {world.pod() is not None}"))

    async def story() -> None:
        client = await world.client()
        await client.list(PODS)
        await client.create(PODS, NS, A_POD)
        assert world.now() > 3
        with pytest.raises(errors.AlreadyExists):
            await client.create(PODS, NS, A_POD)
        await client.create(PODS, NS, {"metadata": {"name": "q"}}, dry_run=True)

    world.run(story())
    assert told == ["before create False", "after create True", "before create True", "before create True"]


def test_a_frozen_program_hears_everything_once_it_goes_on(world: ApiWorld):
    process = Process("controller-0", "host-1")
    followers: list[Follower] = []

    async def controller() -> None:
        followers.append(Follower(world, await world.client()))
        await asyncio.sleep(3600)

    async def story() -> None:
        task = world.loop.spawn(process, controller())
        await asyncio.sleep(2)
        world.loop.freeze(process)
        for name in "abc":
            world.create(name=name)
        await asyncio.sleep(40)
        assert followers[0].story == []
        world.loop.thaw(process)
        await asyncio.sleep(1)
        assert followers[0].story == ["+a", "+b", "+c"]
        task.cancel()

    world.run(story())


def test_a_client_that_goes_leaves_no_watch_behind(world: ApiWorld):
    async def story() -> None:
        client = await world.client()
        for seconds in (0.0, 0.0005, 0.002, 0.004, 0.01, 1.0):
            follower = Follower(world, client)
            await asyncio.sleep(seconds)
            follower.task.cancel()
        await asyncio.sleep(1)
        assert world.open_watches() == 0

    world.run(story())


def test_a_watch_that_is_given_up_as_it_is_answered_is_not_left_behind():
    world = ApiWorld(latency_s=(0.0, 0.0))

    async def story() -> None:
        client = world.door.client("controller/a", random.Random(1))
        for steps in range(40):
            follower = Follower(world, client)
            for _ in range(steps):
                await asyncio.sleep(0)
            follower.task.cancel()
            await asyncio.sleep(1)
            assert world.open_watches() == 0

    world.run(story())


# The same again


def run_of(seed: int, way: str) -> list[str]:
    world = ApiWorld(seed, way=way)
    followers: list[Follower] = []

    async def story() -> None:
        followers.append(Follower(world, await world.client()))
        for make in TROUBLES.values():
            world.door.begin(make(world))
        await churn(world, random.Random(seed), changes=100)
        for trouble in world.door.troubles:
            world.door.end(trouble)
        await asyncio.sleep(100)

    world.run(story())
    heard = [f"{at} {what}" for at, what in zip(followers[0].times, followers[0].story, strict=True)]
    return [*map(str, world.events), *heard, str(world.loop.steps)]


@pytest.mark.parametrize("way", ["fast", "http"])
def test_the_same_seed_gives_the_same_run_in_any_process(way: str):
    program = f"from sim.test_api_transport import run_of; print(chr(10).join(run_of(7, {way!r})))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.splitlines()
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 50
    assert run_of(8, way) != runs[0]
