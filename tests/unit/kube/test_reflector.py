"""A local copy keeps up with the server, whatever the server does."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleetctl.kube import reflector
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import NODES, Node
from fleetctl.kube.reflector import BACK_IN_TIME, LONGEST_PAUSE, Reflector

from .conftest import Longest
from .fake_api import (
    CUT,
    HANG,
    FakeApi,
    added,
    bookmark,
    busy,
    deleted,
    error_event,
    listing,
    load_balancer_page,
    modified,
    node,
    refusal,
    stream,
)

LIST, WATCH = "GET /api/v1/nodes", "WATCH /api/v1/nodes"
QUIET = stream(then=HANG)


class Follower:
    """A running reflector and the story of what it reported: `+a@1` added, `~a@2` modified, `-a@2` deleted."""

    def __init__(self, client: KubeClient, rng: random.Random) -> None:
        self.story: list[str] = []
        self.reflector = Reflector(client, NODES, self._changed, rng=rng)

    def _changed(self, old: Node | None, new: Node | None) -> None:
        sign = "+" if old is None else "-" if new is None else "~"
        item = new or old
        assert item is not None
        self.story.append(f"{sign}{item.metadata.name}@{item.metadata.resource_version}")

    @property
    def names(self) -> list[str]:
        return sorted(name for _, name in self.reflector.items)


@pytest.fixture
async def follower(client: KubeClient) -> AsyncIterator[Follower]:
    follower = Follower(client, Longest())
    task = asyncio.create_task(follower.reflector.run())
    yield follower
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def versions(api: FakeApi) -> list[str]:
    return [seen.query["resourceVersion"] for seen in api.asked(WATCH)]


async def test_the_copy_is_synced_after_the_first_list_and_then_follows(api: FakeApi, follower: Follower):
    api.says(LIST, listing(node("a"), node("b"), version="10"))
    api.says(WATCH, stream(modified(node("a", "11")), deleted(node("b", "12")), added(node("c", "13")), then=HANG))
    assert not follower.reflector.synced.is_set()
    await follower.reflector.synced.wait()
    assert follower.story == ["+a@1", "+b@1"]
    await asyncio.sleep(1)
    assert follower.story[2:] == ["~a@11", "-b@1", "+c@13"]
    assert follower.names == ["a", "c"]
    assert versions(api) == ["10"]


async def test_watches_are_asked_to_last_five_to_ten_minutes(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, stream())
    await asyncio.sleep(300)
    assert {300 <= int(seen.query["timeoutSeconds"]) <= 600 for seen in api.asked(WATCH)} == {True}


async def test_a_clean_end_is_no_reason_for_a_storm(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, stream())
    await asyncio.sleep(120)
    pauses = api.pauses(WATCH)
    assert pauses[:7] == pytest.approx([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0])
    assert len(api.asked(LIST)) == 1


async def test_a_stream_that_lived_its_time_is_continued_at_once(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, stream(bookmark("20"), after=70), stream(bookmark("30"), after=70), QUIET)
    await asyncio.sleep(150)
    assert api.pauses(WATCH) == pytest.approx([70, 70])
    assert versions(api) == ["10", "20", "30"]


async def test_after_a_long_life_the_back_off_starts_from_the_beginning(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, stream(), stream(), stream(then=CUT, after=100), stream(), QUIET)
    await asyncio.sleep(200)
    assert api.pauses(WATCH) == pytest.approx([0.8, 1.6, 100.8, 1.6])


@pytest.mark.parametrize(
    "at_that_time",
    [
        pytest.param(QUIET, id="a stream that tells nothing"),
        pytest.param(stream(then=CUT), id="a pause after a failure"),
    ],
)
async def test_a_refresh_lists_at_once_whatever_it_was_at(api: FakeApi, follower: Follower, at_that_time: Any):
    api.says(LIST, listing(node("a")), listing(node("b", "30"), version="30"))
    api.says(WATCH, at_that_time, QUIET)
    await asyncio.sleep(0.5)
    async with asyncio.timeout(0.1):
        await follower.reflector.refresh()
    assert follower.story == ["+a@1", "-a@1", "+b@30"]
    await asyncio.sleep(1)
    assert versions(api) == ["10", "30"]
    assert follower.reflector.version == 30


async def test_a_refresh_before_the_first_list_is_that_list(api: FakeApi, client: KubeClient):
    api.says(LIST, listing(node("a")))
    api.says(WATCH, QUIET)
    follower = Follower(client, Longest())
    async with asyncio.TaskGroup() as tasks:
        refreshed = tasks.create_task(follower.reflector.refresh())
        running = tasks.create_task(follower.reflector.run())
        await refreshed
        running.cancel()
    assert len(api.asked(LIST)) == 1


async def test_a_list_older_than_what_was_seen_is_asked_for_again(api: FakeApi, follower: Follower):
    old = listing(node("a"), version="10")
    api.says(LIST, old, old, old, listing(node("b", "12"), version="12"))
    api.says(WATCH, stream(deleted(node("a", "11")), added(node("b", "12")), error_event(410, "Expired")), QUIET)
    await asyncio.sleep(30)
    assert follower.story == ["+a@1", "-a@1", "+b@12"]
    assert len(api.asked(LIST)) == 4
    assert versions(api) == ["10", "12"]


async def test_a_server_that_stays_in_the_past_was_restored_and_is_believed(api: FakeApi, follower: Follower):
    api.says(LIST, listing(node("a", "20"), version="20"), listing(node("b"), version="10"))
    api.says(WATCH, stream(error_event(410, "Expired")), QUIET)
    await asyncio.sleep(BACK_IN_TIME)
    assert follower.names == ["a"]
    await asyncio.sleep(2 * LONGEST_PAUSE)
    assert follower.names == ["b"]
    assert versions(api) == ["20", "10"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(stream(bookmark("15"), then=CUT, after=1), id="TCP cut"),
        pytest.param(stream(bookmark("15"), b"<html>"), id="a line that is not JSON"),
        pytest.param(stream(bookmark("15"), then=HANG), id="silence"),
        pytest.param(stream(bookmark("15"), error_event(500, "InternalError")), id="an ERROR event"),
    ],
)
async def test_a_broken_stream_goes_on_from_the_last_version_without_a_new_list(api, follower: Follower, fault):
    api.says(LIST, listing(node("a")))
    api.says(WATCH, fault, stream(added(node("b", "16")), then=HANG))
    await asyncio.sleep(140)
    assert versions(api)[:2] == ["10", "15"]
    assert follower.names == ["a", "b"]
    assert (len(api.asked(LIST)), follower.reflector.relists) == (1, 0)


@pytest.mark.parametrize("fault", [load_balancer_page(), refusal(401, "Unauthorized"), refusal(403, "Forbidden")])
async def test_a_server_that_refuses_to_watch_is_asked_again_with_patience(api, follower: Follower, fault):
    api.says(LIST, listing())
    api.says(WATCH, fault, fault, stream(added(node("a", "11")), then=HANG))
    await asyncio.sleep(10)
    assert follower.names == ["a"]
    assert api.pauses(WATCH) == pytest.approx([0.8, 1.6])


@pytest.mark.parametrize(
    "gone", [stream(bookmark("15"), error_event(410, "Expired")), refusal(410, "Expired")], ids=["event", "status"]
)
async def test_410_lists_again_and_reports_only_what_differs(api: FakeApi, follower: Follower, gone):
    api.says(
        LIST,
        listing(node("same"), node("changed"), node("lost"), version="10"),
        listing(node("same"), node("changed", "21"), node("new", "22"), version="25"),
    )
    api.says(WATCH, gone, QUIET)
    await asyncio.sleep(5)
    assert sorted(follower.story[3:]) == ["+new@22", "-lost@1", "~changed@21"]
    assert (follower.reflector.relists, versions(api)) == (1, ["10", "25"])


async def test_endless_410_is_asked_with_patience_too(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, refusal(410, "Expired"))
    await asyncio.sleep(60)
    assert len(api.asked(LIST)) == 7
    assert follower.reflector.relists == 6


async def test_a_list_that_fails_changes_nothing_until_it_succeeds(api: FakeApi, follower: Follower):
    api.says(LIST, listing(node("a")), refusal(403, "Forbidden"), listing(node("b"), more="x"), refusal(500, "Oops"))
    api.says(WATCH, refusal(410, "Expired"))
    await asyncio.sleep(20)
    assert follower.names == ["a"]
    assert follower.story == ["+a@1"]


async def test_a_throttled_first_list_waits_and_then_syncs(api: FakeApi, follower: Follower):
    api.says(LIST, busy(retry_after=9), listing(node("a")))
    api.says(WATCH, QUIET)
    await follower.reflector.synced.wait()
    assert api.pauses(LIST) == pytest.approx([9.2])


async def test_lists_never_accept_an_older_answer_from_a_cache(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, refusal(410, "Expired"))
    await asyncio.sleep(5)
    assert not any("resourceVersion" in seen.query for seen in api.asked(LIST))


async def test_another_object_of_the_same_name_is_a_deletion_and_an_addition(api: FakeApi, follower: Follower):
    api.says(LIST, listing(node("a", "1", uid="old")), listing(node("a", "30", uid="newest"), version="30"))
    api.says(WATCH, stream(added(node("a", "20", uid="new")), error_event(410, "Expired")), QUIET)
    await asyncio.sleep(5)
    assert follower.story == ["+a@1", "-a@1", "+a@20", "-a@20", "+a@30"]


async def test_any_sign_of_life_is_noted_bookmarks_included(api: FakeApi, follower: Follower):
    api.says(LIST, listing())
    api.says(WATCH, stream(after=40), stream(bookmark("11"), then=HANG))
    assert follower.reflector.last_event_at is None
    await asyncio.sleep(100)
    assert follower.reflector.last_event_at == pytest.approx(40.8)


async def test_a_bug_in_the_callback_is_not_hidden(api: FakeApi, client: KubeClient):
    def broken(*_: Any) -> None:
        raise KeyError("bug")

    api.says(LIST, listing(node("a")))
    with pytest.raises(KeyError):
        await Reflector(client, NODES, broken).run()


async def test_others_have_a_turn_within_a_long_list_which_is_not_told_as_seen_until_all_is_in(
    api: FakeApi, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reflector, "AT_ONCE", 2)
    api.says(LIST, listing(*map(node, "abcde"), version="10"), listing(node("a"), version="20"))
    api.says(WATCH, QUIET)

    async def meanwhile(version: int) -> set[tuple[int, int]]:
        seen = set()
        while follower.reflector.version != version:
            seen.add((len(follower.reflector.items), follower.reflector.version))
            await asyncio.sleep(0)
        return seen

    assert await meanwhile(10) == {(0, 0), (2, 0), (4, 0)}
    refreshed = asyncio.create_task(follower.reflector.refresh())
    assert await meanwhile(20) == {(5, 10), (3, 10), (1, 10)}
    await refreshed
