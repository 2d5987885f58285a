"""Watches: what they tell, in what order, relative to their selector, and how they end."""

from contextlib import aclosing

import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.kube import errors
from fleetctl.kube.client import WatchEvent
from fleetctl.kube.objects import CONFIG_MAPS, PODS

from .api import Api
from .words import a_config_map, a_gang, a_pod


def here(api: Api) -> str:
    """The version to watch from."""
    return str(api.list(PODS).meta["resourceVersion"])


def label(api: Api, name: str = "p", **labels: str | None) -> None:
    assert api.patch(PODS, name, {"metadata": {"labels": labels}}).status == 200


def test_a_watch_tells_what_happened_since_its_version_and_then_what_happens(api: Api):
    since = api.post(PODS, a_pod("a")).meta["resourceVersion"]
    api.post(PODS, a_pod("b"))
    watch = api.watch(PODS, resourceVersion=since)
    assert watch.story(1) == ["ADDED b"]
    label(api, "a", x="y")
    api.delete(CONFIG_MAPS, "no")
    api.post(CONFIG_MAPS, a_config_map())
    api.delete(GANGS, "no")
    api.patch(PODS, "b", {"status": {"phase": "Running"}}, "status")
    assert watch.story(2) == ["MODIFIED a", "MODIFIED b"]


def test_an_event_carries_the_object_as_it_was_at_that_version(api: Api):
    watch = api.watch(GANGS, resourceVersion=api.list(GANGS).meta["resourceVersion"])
    made = api.post(GANGS, a_gang()).ok
    labelled = api.patch(GANGS, "llm", {"metadata": {"labels": {"a": "b"}}}).ok
    spoken = api.patch(GANGS, "llm", {"status": {"observedGeneration": 1}}, "status").ok
    assert watch.events(3) == [("ADDED", made), ("MODIFIED", labelled), ("MODIFIED", spoken)]


def test_what_is_gone_is_told_as_it_was_last_with_the_version_of_its_end(api: Api):
    old = api.post(GANGS, a_gang(labels={"a": "b"})).ok
    watch = api.watch(GANGS, resourceVersion=old["metadata"]["resourceVersion"])
    api.delete(GANGS, "llm")
    ((kind, told),) = watch.events(1)
    version = told["metadata"].pop("resourceVersion")
    assert int(version) > int(old["metadata"].pop("resourceVersion"))
    assert (kind, told) == ("DELETED", old)
    after = api.post(GANGS, a_gang()).meta["resourceVersion"]
    assert int(after) > int(version)


def test_versions_only_grow_from_event_to_event(api: Api):
    watch = api.watch(PODS, resourceVersion=here(api))
    for name in "ba":
        api.post(PODS, a_pod(name, node="n"))
        label(api, name, x="y")
    api.delete(PODS, "b")
    versions = [int(body["metadata"]["resourceVersion"]) for _, body in watch.events(5)]
    assert versions == sorted(set(versions))


def test_a_deletion_with_grace_is_told_as_a_change_and_its_end_as_a_deletion(api: Api):
    old = api.post(PODS, a_pod(node="n")).meta
    watch = api.watch(PODS, resourceVersion=old["resourceVersion"])
    api.delete(PODS, "p", gracePeriodSeconds=9)
    ((kind, told),) = watch.events(1)
    assert (kind, told["metadata"]["deletionGracePeriodSeconds"]) == ("MODIFIED", 9)


@pytest.mark.parametrize("node", ["", "n"])
@pytest.mark.parametrize("terminates", [False, True])
def test_the_end_of_a_pod_is_told_twice_as_without_grace_and_as_gone(api: Api, node: str, terminates: bool):
    watch = api.watch(PODS, resourceVersion=here(api))
    api.post(PODS, a_pod(node=node, finalizers=["x.dev/y"] if terminates and not node else []))
    first = ["ADDED p"]
    if terminates:
        api.delete(PODS, "p")
        first.append("MODIFIED p")
    if terminates and not node:
        api.patch(PODS, "p", {"metadata": {"finalizers": None}})
    else:
        api.delete(PODS, "p", gracePeriodSeconds=0)
        first.append("MODIFIED p")
    assert watch.story(len(first)) == first
    ((kind, told),) = watch.events(1)
    assert (kind, told["metadata"]["deletionGracePeriodSeconds"]) == ("DELETED", 0)
    assert told["metadata"]["deletionTimestamp"]


def test_a_gang_that_was_kept_by_a_finalizer_is_told_gone_when_that_is_removed(api: Api):
    since = api.post(GANGS, a_gang(finalizers=["x.dev/y"])).meta["resourceVersion"]
    watch = api.watch(GANGS, resourceVersion=since)
    api.delete(GANGS, "llm")
    api.patch(GANGS, "llm", {"metadata": {"finalizers": None}})
    (_, marked), (kind, gone) = watch.events(2)
    assert kind == "DELETED"
    assert gone["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]


def test_what_enters_a_selection_is_added_and_what_leaves_it_deleted(api: Api):
    since = api.post(PODS, a_pod(labels={"app": "x"})).meta["resourceVersion"]
    watch = api.watch(PODS, resourceVersion=since, labelSelector="app=x")
    label(api, app="y")
    label(api, app="z")
    label(api, app="x")
    label(api, app="x", more="yes")
    api.delete(PODS, "p", gracePeriodSeconds=0)
    assert watch.story(3) == ["DELETED p", "ADDED p", "MODIFIED p"]


def test_what_leaves_a_selection_is_told_as_it_was_within_it(api: Api):
    since = api.post(PODS, a_pod(labels={"app": "x"})).meta["resourceVersion"]
    watch = api.watch(PODS, resourceVersion=since, labelSelector="app=x")
    label(api, app="y")
    ((_, told),) = watch.events(1)
    assert told["metadata"]["labels"] == {"app": "x"}
    assert told["metadata"]["resourceVersion"] == api.get(PODS, "p").meta["resourceVersion"]


def test_a_selection_holds_for_what_is_replayed_too(api: Api):
    since = here(api)
    api.post(PODS, a_pod("a", labels={"app": "x"}))
    api.post(PODS, a_pod("b"))
    label(api, "a", app="y")
    label(api, "b", app="x")
    watch = api.watch(PODS, resourceVersion=since, labelSelector="app=x")
    assert watch.story(3) == ["ADDED a", "DELETED a", "ADDED b"]


def test_a_watch_of_one_namespace_hears_of_no_other(api: Api):
    watch = api.watch(CONFIG_MAPS, resourceVersion=here(api))
    api.run(api.client.create(CONFIG_MAPS, "default", a_config_map(f"y-{api.namespace}")))
    api.post(CONFIG_MAPS, a_config_map("marker"))
    assert watch.story(1) == ["ADDED marker"]


@pytest.mark.parametrize("version", [{}, {"resourceVersion": "0"}])
def test_a_watch_without_a_version_is_told_first_what_is_there(api: Api, version: dict[str, str]):
    api.post(PODS, a_pod("b"))
    api.post(PODS, a_pod("a"))
    if version:
        here(api)
    watch = api.watch(PODS, **version)
    assert sorted(watch.story(2)) == ["ADDED a", "ADDED b"]
    label(api, "a", x="y")
    assert watch.story(1) == ["MODIFIED a"]


def test_a_watch_without_a_version_begins_by_name(api: Api):
    for name in "bca":
        api.post(PODS, a_pod(name))
    assert api.watch(PODS).story(3) == ["ADDED a", "ADDED b", "ADDED c"]


def test_a_watch_ends_when_its_time_is_up(api: Api):
    api.post(PODS, a_pod())
    assert [kind for kind, _ in api.watch(PODS, timeoutSeconds="1").rest()] == ["ADDED"]


def test_a_watch_that_asks_for_bookmarks_is_told_how_far_the_server_has_come(api: Api):
    since = here(api)
    seconds = "3" if api.real else "70"  # a real server tells it before the end too
    watch = api.watch(GANGS, resourceVersion=since, allowWatchBookmarks="true", timeoutSeconds=seconds)
    made = api.post(GANGS, a_gang()).meta["resourceVersion"]
    kinds = [(kind, body["kind"], int(body["metadata"]["resourceVersion"]) >= int(made)) for kind, body in watch.rest()]
    assert kinds[0] == ("ADDED", "Gang", True)
    assert set(kinds[1:]) == {("BOOKMARK", "Gang", True)}  # one or two, as the real server's moments fall


def test_a_version_that_is_forgotten_is_an_error_in_the_stream(api: Api):
    api.post(GANGS, a_gang())
    api.forget()
    ((kind, status),) = api.watch(GANGS, resourceVersion="1").rest()
    assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")


def test_the_client_is_told_that_a_version_is_forgotten(api: Api):
    api.post(GANGS, a_gang())
    api.forget()

    async def follow() -> None:
        async with aclosing(api.client.watch(GANGS, api.namespace, resource_version="1")) as events:
            async for _ in events:
                pass

    with pytest.raises(errors.Gone):
        api.run(follow())


def test_a_version_that_is_yet_to_come_is_waited_for_in_silence(api: Api):
    now = int(here(api))
    watch = api.watch(PODS, resourceVersion=str(now + 2), allowWatchBookmarks="true")
    for name in "abc":
        api.post(PODS, a_pod(name))
    assert watch.story(1) == ["ADDED c"]


def test_the_client_follows_from_a_list(api: Api):
    async def follow() -> list[tuple[str, str]]:
        api_, told = api.client, []
        await api_.create(PODS, api.namespace, a_pod("a"))
        listing = await api_.list(PODS, api.namespace)
        await api_.create(PODS, api.namespace, a_pod("b"))
        await api_.patch(PODS, api.namespace, "a", {"metadata": {"labels": {"x": "y"}}})
        await api_.delete(PODS, api.namespace, "b", grace_seconds=0)
        watch = api_.watch(PODS, api.namespace, resource_version=listing.resource_version, timeout_seconds=10)
        async with aclosing(watch) as events:
            event: WatchEvent
            async for event in events:
                assert event.object is not None
                told.append((event.type, event.object.metadata.name))
                if event.type == "DELETED":
                    break
        return told

    assert api.run(follow()) == [("ADDED", "b"), ("MODIFIED", "a"), ("MODIFIED", "b"), ("DELETED", "b")]
