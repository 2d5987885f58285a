"""The cache: what the watch shows, and our own writes that it has not shown yet."""

import asyncio
from typing import Any, cast

import pytest

from fleetctl.controller.cache import OWN_WRITE_COUNTS_S, Cache
from fleetctl.controller.resources import GangObject
from fleetctl.gang.pods import LABEL_GANG
from fleetctl.gang.spec import AttemptRecord, GangSpec, GangStatus
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import ObjectMeta, Pod

KEY = ("default", "llm")


def gang(version: str, target: int, uid: str = "g") -> GangObject:
    meta = ObjectMeta(namespace="default", name="llm", uid=uid, resource_version=version)
    return GangObject(metadata=meta, spec=GangSpec(groups=[]), status=GangStatus(attempt=AttemptRecord(target=target)))


def pod(uid: str = "p", version: str = "1", name: str = "llm-worker-0") -> Pod:
    labels = {LABEL_GANG: "llm"}
    return Pod(metadata=ObjectMeta(namespace="default", name=name, uid=uid, resource_version=version, labels=labels))


class Watched:
    """A cache and the hand that plays the watch."""

    def __init__(self) -> None:
        self.dirty: list[tuple[str, str]] = []
        self.gone: list[str] = []
        nobody = cast(KubeClient, None)
        self.cache = Cache(nobody, self.dirty.append, pod_gone=self.gone.append)

    def shows_gang(self, seen: GangObject) -> None:
        reflector: Any = self.cache._gangs
        reflector._put(seen)

    def shows_pod(self, seen: Pod) -> None:
        reflector: Any = self.cache._pods
        reflector._put(seen)

    def loses_pod(self, name: str) -> None:
        reflector: Any = self.cache._pods
        reflector._remove(("default", name))


@pytest.fixture
async def watched() -> Watched:
    return Watched()


def target(watched: Watched) -> int | None:
    found = watched.cache.gang(KEY)
    return found.status.attempt.target if found else None


async def test_our_own_write_counts_until_the_watch_shows_it(watched: Watched) -> None:
    watched.shows_gang(gang("5", target=1))
    watched.cache.wrote_gang(gang("7", target=2))
    assert target(watched) == 2
    watched.shows_gang(gang("6", target=1))  # an older event that was still on its way
    assert target(watched) == 2
    watched.shows_gang(gang("7", target=2))
    watched.shows_gang(gang("9", target=3))  # somebody else's, later
    assert target(watched) == 3


async def test_our_own_write_is_not_believed_for_ever(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.shows_gang(gang("5", target=1))
    watched.cache.wrote_gang(gang("7", target=2))
    later = asyncio.get_running_loop().time() + OWN_WRITE_COUNTS_S
    monkeypatch.setattr("fleetctl.controller.cache._now", lambda: later)
    assert target(watched) == 1


async def test_a_write_to_a_gang_that_was_made_anew_does_not_count(watched: Watched) -> None:
    watched.shows_gang(gang("5", target=1, uid="old"))
    watched.cache.wrote_gang(gang("7", target=2, uid="old"))
    watched.shows_gang(gang("8", target=0, uid="new"))
    assert target(watched) == 0


async def test_a_pod_we_made_is_there_before_the_watch_shows_it(watched: Watched) -> None:
    watched.cache.wrote_pod(pod())
    assert set(watched.cache.pods(KEY)) == {"llm-worker-0"}
    assert watched.cache.gang_of("p") == KEY
    watched.shows_pod(pod(version="2"))
    assert watched.cache.pods(KEY)["llm-worker-0"].metadata.resource_version == "2"


async def test_a_pod_that_was_deleted_is_gone_and_said_so(watched: Watched) -> None:
    watched.cache.wrote_pod(pod())
    watched.shows_pod(pod())
    watched.loses_pod("llm-worker-0")
    assert watched.cache.pods(KEY) == {}
    assert watched.gone == ["p"]
    assert watched.cache.gang_of("p") is None
    assert watched.dirty[-1] == KEY


async def test_a_pod_replaced_under_its_name_is_one_gone_and_one_new(watched: Watched) -> None:
    watched.shows_pod(pod(uid="old"))
    watched.shows_pod(pod(uid="new", version="2"))
    assert watched.gone == ["old"]
    assert watched.cache.pods(KEY)["llm-worker-0"].metadata.uid == "new"
