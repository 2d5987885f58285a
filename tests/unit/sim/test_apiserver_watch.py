"""A watch of the simulated API server tells each change once, relative to its selector, or that it cannot."""

import asyncio

import msgspec
import pytest

from fleetctl.sim.watch import Watch

from .apiworld import NS, ApiWorld, Follower


@pytest.fixture
def world() -> ApiWorld:
    return ApiWorld()


def test_a_watch_tells_what_happened_since_its_version_and_then_what_happens(world: ApiWorld):
    world.create(name="a")
    world.create(name="b")
    story = world.watch(resourceVersion="2")
    assert story == ["ADDED b@3"]
    world.label("a", x="y")
    world.api.delete("somebody", "pods", NS, "b")
    world.create("services", "s")
    assert story == ["ADDED b@3", "MODIFIED a@4", "MODIFIED b@5", "DELETED b@6"]


@pytest.mark.parametrize("version", ["", "0"])
def test_a_watch_from_nowhere_is_told_first_what_is_there(world: ApiWorld, version: str):
    world.create(name="a", labels={"app": "x"})
    world.create(name="b")
    story = world.watch(resourceVersion=version, labelSelector="app")
    world.label("b", app="x")
    assert story == ["ADDED a@2", "ADDED b@4"]


def test_what_enters_a_selection_is_added_and_what_leaves_it_deleted(world: ApiWorld):
    world.create(labels={"app": "x"})
    story = world.watch(resourceVersion="2", labelSelector="app=x")
    world.label(app="y")
    world.label(app="z")
    world.label(app="x")
    world.phase("Running")
    assert story == ["DELETED p@3", "ADDED p@5", "MODIFIED p@6"]


def test_what_has_gone_is_told_as_it_was_last_under_the_version_of_its_end(world: ApiWorld):
    world.create(labels={"app": "x"})
    watch = world.api.handle("c", "GET", "/api/v1/pods", {"watch": "1", "resourceVersion": "2"}, "", None)
    assert isinstance(watch, Watch)
    lines: list[bytes] = []
    watch.open(lambda line: lines.append(line.data))
    world.api.delete("somebody", "pods", NS, "p")
    marked, told = [msgspec.json.decode(line) for line in lines]
    assert (marked["type"], told["type"]) == ("MODIFIED", "DELETED")
    meta = told["object"]["metadata"]
    assert (meta["labels"], meta["resourceVersion"]) == ({"app": "x"}, "4")
    assert meta["deletionTimestamp"] == marked["object"]["metadata"]["deletionTimestamp"]


def test_a_watch_of_one_namespace_hears_of_no_other(world: ApiWorld):
    here = world.watch("/api/v1/namespaces/default/pods", resourceVersion="1")
    there = world.watch("/api/v1/namespaces/other/pods", resourceVersion="1")
    world.create()
    assert (here, there) == (["ADDED p@2"], [])


def test_a_version_that_is_forgotten_is_an_error_in_the_stream(world: ApiWorld):
    world.create(name="a")
    world.create(name="b")
    world.api.forget_history()
    assert world.watch(resourceVersion="2") == ["ERROR 410@None"]
    assert world.open_watches() == 0
    assert world.watch(resourceVersion="3") == []
    assert world.open_watches() == 1


def test_history_forgets_the_oldest_change_first():
    world = ApiWorld(history=2)
    for name in "abcd":
        world.create(name=name)
    assert world.watch(resourceVersion="2") == ["ERROR 410@None"]
    assert world.watch(resourceVersion="3") == ["ADDED c@4", "ADDED d@5"]


def test_watches_that_are_open_outlive_what_is_forgotten(world: ApiWorld):
    story = world.watch(resourceVersion="1")
    world.api.forget_history()
    world.create()
    assert story == ["ADDED p@2"]


def test_a_version_that_is_yet_to_come_is_waited_for_in_silence(world: ApiWorld):
    watch = world.api.handle("c", "GET", "/api/v1/pods", {"watch": "1", "resourceVersion": "3"}, "", None)
    assert isinstance(watch, Watch)
    story = world.watch(resourceVersion="3")
    for name in "ab":
        assert watch.bookmark() is None
        world.create(name=name)
    assert story == []
    assert watch.bookmark() is not None
    world.create(name="c")
    assert story == ["ADDED c@4"]


def test_a_bookmark_tells_how_far_the_server_has_come(world: ApiWorld):
    watch = world.api.handle("c", "GET", "/api/v1/pods", {"watch": "1", "resourceVersion": "1"}, "", None)
    assert isinstance(watch, Watch)
    world.create("services", "s")
    line = watch.bookmark()
    assert line is not None
    told = msgspec.json.decode(line.data)
    assert (told["type"], told["object"]["kind"], told["object"]["metadata"]["resourceVersion"]) == (
        "BOOKMARK",
        "Pod",
        "2",
    )


def test_an_object_is_encoded_as_it_is_whatever_it_shares_with_its_past(world: ApiWorld):
    world.create(spec={"containers": [{"name": "trainer"}]})
    for phase in ("Running", "Failed"):
        world.phase(phase)
        world.ask("GET", "/api/v1/namespaces/default/pods/p")
    world.api.update("somebody", "pods", NS, "p", lambda b: {**b, "spec": {"nodeName": "n"}})
    assert world.ask("GET", "/api/v1/namespaces/default/pods/p") == (200, world.pod())


def test_a_reflector_reads_anew_what_a_restored_server_does_not_tell():
    """As after etcd was restored from a backup: versions begin anew below ours, and a watch from ours stays silent."""
    world = ApiWorld()
    world.create(name="a")

    async def story() -> Follower:
        follower = Follower(world, await world.client())
        await follower.reflector.synced.wait()
        await asyncio.sleep(1)
        follower.reflector._version = "1000"
        world.door.break_watches()
        await asyncio.sleep(5)
        world.api.delete("somebody", "pods", NS, "a")
        await asyncio.sleep(600)
        return follower

    follower = world.run(story())
    assert follower.agrees(), (follower.story, follower.reflector.relists)
