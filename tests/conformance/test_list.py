"""Lists: their order, their moment, their pages, and what a selector finds."""

import pytest

from fleetctl.controller.resources import GANGS
from fleetctl.kube import errors
from fleetctl.kube.objects import CONFIG_MAPS, PODS

from .api import Api
from .words import a_config_map, a_gang, a_pod


def make(api: Api, names: str) -> list[str]:
    """Their versions."""
    return [api.post(CONFIG_MAPS, a_config_map(name)).meta["resourceVersion"] for name in names]


def test_a_list_is_sorted_by_name(api: Api):
    make(api, "bca")
    assert api.list(CONFIG_MAPS).names == ["a", "b", "c"]


@pytest.mark.parametrize(("resource", "kind"), [(GANGS, "GangList"), (PODS, "PodList")])
def test_a_list_of_nothing_is_a_list(api: Api, resource: type, kind: str):
    empty = api.list(resource).ok
    assert (empty["kind"], empty["apiVersion"], empty["items"]) == (kind, resource.api_version, [])
    assert int(empty["metadata"]["resourceVersion"]) > 0
    assert not empty["metadata"].get("continue")
    assert "remainingItemCount" not in empty["metadata"]


def test_a_list_tells_a_version_that_is_not_older_than_any_write_before_it(api: Api):
    api.post(GANGS, a_gang("a"))
    api.patch(GANGS, "a", {"metadata": {"labels": {"a": "b"}}})
    api.post(GANGS, a_gang("b"))
    last = api.delete(GANGS, "b")
    assert last.status == 200
    listed = api.list(GANGS)
    assert listed.names == ["a"]
    assert int(listed.meta["resourceVersion"]) > int(listed.body["items"][0]["metadata"]["resourceVersion"])


def test_what_is_listed_is_what_is_there(api: Api):
    made = api.post(GANGS, a_gang()).ok
    assert api.list(GANGS).ok["items"] == [made]


def test_one_namespace_or_all(api: Api):
    api.post(GANGS, a_gang())
    everywhere = api.ask("GET", GANGS.collection())
    assert (api.namespace, "llm") in [
        (i["metadata"]["namespace"], i["metadata"]["name"]) for i in everywhere.ok["items"]
    ]
    assert api.ask("GET", GANGS.collection("nowhere")).names == []


def test_the_pages_of_a_list_are_of_one_moment(api: Api):
    for name in "abcde":
        api.post(GANGS, a_gang(name))
    first = api.list(GANGS, limit="2")
    api.patch(GANGS, "c", {"metadata": {"labels": {"late": "yes"}}})
    api.delete(GANGS, "d")
    api.post(GANGS, a_gang("bb"))
    second = api.list(GANGS, limit="2", **{"continue": first.meta["continue"]})
    third = api.list(GANGS, limit="2", **{"continue": second.meta["continue"]})
    assert [page.names for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert {page.meta["resourceVersion"] for page in (first, second, third)} == {first.meta["resourceVersion"]}
    assert [page.meta.get("remainingItemCount") for page in (first, second, third)] == [3, 1, None]
    assert "labels" not in second.ok["items"][0]["metadata"]
    assert not third.meta.get("continue")


def test_a_watch_goes_on_where_the_last_page_ends(api: Api):
    for name in "abc":
        api.post(GANGS, a_gang(name))
    first = api.list(GANGS, limit="2")
    api.delete(GANGS, "c")
    last = api.list(GANGS, limit="2", **{"continue": first.meta["continue"]})
    assert last.names == ["c"]
    assert api.watch(GANGS, resourceVersion=last.meta["resourceVersion"]).story(1) == ["DELETED c"]


def test_a_last_page_that_is_just_full_is_the_last(api: Api):
    for name in "ab":
        api.post(GANGS, a_gang(name))
    assert not api.list(GANGS, limit="2").meta.get("continue")


def test_what_remains_is_not_told_with_a_selector(api: Api):
    for name in "ab":
        api.post(GANGS, a_gang(name, labels={"a": "b"}))
    page = api.list(GANGS, limit="1", labelSelector="a=b")
    assert page.names == ["a"]
    assert page.meta["continue"]
    assert "remainingItemCount" not in page.meta
    assert api.list(GANGS, limit="1", labelSelector="a=b", **{"continue": page.meta["continue"]}).names == ["b"]


def test_a_page_whose_moment_is_forgotten_is_gone(api: Api):
    for name in "ab":
        api.post(GANGS, a_gang(name))
    token = api.list(GANGS, limit="1").meta["continue"]
    api.patch(GANGS, "b", {"metadata": {"labels": {"a": "b"}}})
    old = api.expired(token)
    assert api.list(GANGS, limit="1", **{"continue": old}).refusal == (410, "Expired")


@pytest.mark.parametrize("query", [{"continue": "nonsense"}, {"limit": "many"}])
def test_a_page_that_does_not_exist_is_a_bad_request(api: Api, query: dict[str, str]):
    assert api.list(GANGS, **query).refusal == (400, "BadRequest")


def test_the_client_reads_all_pages(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fleetctl.kube.client.PAGE", 2)
    for name in "abcde":
        api.post(GANGS, a_gang(name))
    listing = api.run(api.client.list(GANGS, api.namespace))
    assert [item.metadata.name for item in listing.items] == list("abcde")
    assert listing.resource_version == api.list(GANGS).meta["resourceVersion"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app", "ab"),
        ("!app", "c"),
        ("app=x", "a"),
        ("app==x", "a"),
        ("app!=x", "bc"),
        ("app=", ""),
        ("app=x,rank=0", "a"),
        ("app=x,rank=1", ""),
        ("app in (x, y)", "ab"),
        ("app in (y),rank", "b"),
        ("app notin (x)", "bc"),
        ("app,app notin (x,z)", "b"),
        ("fleetctl.dev/gang = llm", "c"),
        ("!app,fleetctl.dev/gang", "c"),
    ],
)
def test_labels_select(api: Api, selector: str, found: str):
    api.post(PODS, a_pod("a", labels={"app": "x", "rank": "0"}))
    api.post(PODS, a_pod("b", labels={"app": "y", "rank": "1"}))
    api.post(PODS, a_pod("c", labels={"fleetctl.dev/gang": "llm"}))
    assert api.list(PODS, labelSelector=selector).names == list(found)


@pytest.mark.parametrize(
    "selector", ["app in x", "a b", ",", "app=x,", "!app=x", "app=(x)", "=x", "app in (x", "!", "app!", "a=b=c"]
)
def test_a_selector_that_makes_no_sense_is_a_bad_request(api: Api, selector: str):
    assert api.list(PODS, labelSelector=selector).refusal == (400, "BadRequest")


def test_the_client_selects(api: Api):
    api.post(PODS, a_pod("a", labels={"fleetctl.dev/gang": "llm"}))
    api.post(PODS, a_pod("b", labels={"fleetctl.dev/gang": "other"}))
    listing = api.run(api.client.list(PODS, api.namespace, label_selector="fleetctl.dev/gang=llm"))
    assert [item.metadata.name for item in listing.items] == ["a"]
    with pytest.raises(errors.Refused):
        api.run(api.client.list(PODS, api.namespace, label_selector="a b"))
