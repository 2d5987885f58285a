"""The cache: what the watch shows, and our own writes that it has not shown yet."""

from typing import Any, cast

import msgspec
import pytest

from fleetctl.controller.cache import Cache
from fleetctl.controller.resources import GangObject
from fleetctl.gang.pods import LABEL_GANG
from fleetctl.gang.spec import AttemptRecord, GangSpec, GangStatus
from fleetctl.kube.client import KubeClient
from fleetctl.kube.objects import Condition, Node, NodeSpec, NodeStatus, ObjectMeta, OwnerReference, Pod, PodSpec, Taint

KEY = ("default", "llm")
OTHER = ("default", "vision")
NAME = "llm-worker-0"


def gang(version: str, target: int, uid: str = "g") -> GangObject:
    meta = ObjectMeta(namespace="default", name="llm", uid=uid, resource_version=version)
    return GangObject(metadata=meta, spec=GangSpec(groups=[]), status=GangStatus(attempt=AttemptRecord(target=target)))


def pod(
    uid: str = "p",
    version: str = "1",
    name: str = NAME,
    *,
    of: tuple[str, str] = KEY,
    node: str = "",
    owner: OwnerReference | None = None,
    deleted: bool = False,
) -> Pod:
    meta = ObjectMeta(
        namespace=of[0],
        name=name,
        uid=uid,
        resource_version=version,
        labels={LABEL_GANG: of[1]},
        owner_references=(owner,) if owner else (),
        deletion_timestamp="2026-11-21T06:00:00Z" if deleted else None,
    )
    return Pod(metadata=meta, spec=PodSpec(node_name=node))


def node(
    version: str,
    ready: str = "True",
    *,
    name: str = "n1",
    taints: tuple[str, ...] = (),
    beat: str = "",
    sick: str = "False",
    **annotations: str,
) -> Node:
    conditions = (
        Condition(type="GpuUnhealthy", status=sick, last_heartbeat_time=beat),
        Condition(type="MemoryPressure", status="False", last_heartbeat_time=beat),
        Condition(type="Ready", status=ready, last_heartbeat_time=beat),
    )
    return Node(
        metadata=ObjectMeta(
            name=name,
            resource_version=version,
            annotations={f"fleetctl.dev/{key}": value for key, value in annotations.items()},
        ),
        spec=NodeSpec(taints=tuple(Taint(key=key, effect="NoSchedule") for key in taints)),
        status=NodeStatus(conditions=conditions),
    )


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
        reflector._newest = seen.metadata.resource_version
        reflector._put(seen)

    def loses_pod(self, name: str) -> None:
        reflector: Any = self.cache._pods
        reflector._remove(("default", name))

    def shows_node(self, seen: Node) -> None:
        reflector: Any = self.cache._nodes
        reflector._put(seen)

    def loses_node(self, name: str) -> None:
        reflector: Any = self.cache._nodes
        reflector._remove(("", name))

    def dirtied(self) -> list[tuple[str, str]]:
        """The gangs of which something changed since the last question, each as often as it was said."""
        out, self.dirty[:] = sorted(self.dirty), []
        return out

    def uids(self, key: tuple[str, str] = KEY) -> set[str]:
        return {pod.metadata.uid for pod in self.cache.pods(key).values()}

    def terminating(self) -> set[str]:
        return {p.metadata.uid for p in self.cache.pods(KEY).values() if p.metadata.deletion_timestamp}

    def on(self, node: str) -> set[str]:
        return {pod.metadata.uid for pod in self.cache.pods_on(node)}


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


async def test_a_live_read_takes_the_place_of_our_own_write(watched: Watched) -> None:
    watched.shows_gang(gang("5", target=1))
    watched.cache.wrote_gang(gang("7", target=2))
    watched.cache.wrote_gang(gang("5", target=1))  # restored from a backup
    assert target(watched) == 1


async def test_the_answer_to_our_write_that_comes_after_the_watch_is_old_news(watched: Watched) -> None:
    watched.shows_gang(gang("9", target=1))
    watched.cache.wrote_gang(gang("9", target=1))
    watched.shows_gang(
        gang("10", target=2)
    )  # somebody edits it; if this were overlooked, nothing would make us look again
    assert target(watched) == 2


async def test_what_others_wrote_after_us_counts_even_if_the_watch_skips_our_own_write(watched: Watched) -> None:
    watched.shows_gang(gang("8", target=0))
    watched.cache.wrote_gang(gang("9", target=1))
    watched.shows_gang(gang("10", target=2))
    assert target(watched) == 2


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


async def test_a_pod_we_made_is_believed_in_until_the_watch_has_got_there(watched: Watched) -> None:
    watched.cache.wrote_pod(pod(version="7"))
    watched.shows_pod(pod("other", name="llm-worker-1", version="6"))
    assert watched.uids() == {"p", "other"}
    assert watched.cache.pod("default", NAME) is not None
    watched.shows_pod(pod("other", name="llm-worker-1", version="8"))
    assert watched.uids() == {"other"}  # so it was deleted since
    assert watched.cache.pod("default", NAME) is None


async def test_the_answer_to_a_creation_that_comes_after_the_watch_is_old_news(watched: Watched) -> None:
    watched.shows_pod(pod(version="2", node="n1"))
    watched.cache.wrote_pod(pod(version="1"))
    assert watched.cache.pods(KEY)[NAME].spec.node_name == "n1"


async def test_a_pod_we_made_is_in_its_own_gang_and_namespace_only(watched: Watched) -> None:
    watched.cache.wrote_pod(pod("a"))
    watched.cache.wrote_pod(pod("b", name="vision-worker-0", of=OTHER))
    watched.cache.wrote_pod(pod("c", of=("research", "llm")))
    assert watched.uids() == {"a"}
    assert watched.uids(OTHER) == {"b"}
    assert watched.uids(("research", "llm")) == {"c"}


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_pod_we_deleted_is_gone_or_going_whatever_older_events_say(watched: Watched, at_once: bool) -> None:
    watched.shows_pod(pod())
    watched.cache.deleted_pod("default", NAME, "p", at_once=at_once)
    watched.shows_pod(pod(version="2", node="n1"))  # an event that was still on its way
    watched.shows_pod(pod("other", name="llm-worker-1", version="9"))
    assert watched.uids() == ({"other"} if at_once else {"p", "other"})
    assert watched.terminating() == (set() if at_once else {"p"})


async def test_a_pod_that_came_and_went_before_the_watch_got_there_leaves_no_trace(watched: Watched) -> None:
    watched.cache.wrote_pod(pod(version="7"))
    watched.cache.deleted_pod("default", NAME, "p", at_once=False)
    assert watched.terminating() == {"p"}
    watched.shows_pod(pod("other", name="llm-worker-1", version="9"))
    assert watched.uids() == {"other"}


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_deletion_of_ours_ends_with_what_the_watch_shows(watched: Watched, at_once: bool) -> None:
    watched.shows_pod(pod())
    watched.cache.deleted_pod("default", NAME, "p", at_once=at_once)
    watched.shows_pod(pod(version="2", deleted=True))
    assert watched.cache.pods(KEY)[NAME].metadata.resource_version == "2"
    watched.loses_pod(NAME)
    assert watched.uids() == set()


@pytest.mark.parametrize("at_once", [True, False])
async def test_only_the_pod_with_that_uid_was_deleted(watched: Watched, at_once: bool) -> None:
    watched.shows_pod(pod("new"))
    watched.shows_pod(pod("elsewhere", of=("research", "llm")))
    watched.cache.deleted_pod("default", NAME, "old", at_once=at_once)
    assert watched.uids() == {"new"}
    assert watched.terminating() == set()
    watched.cache.deleted_pod("default", NAME, "new", at_once=True)
    assert watched.uids(("research", "llm")) == {"elsewhere"}


async def test_the_end_of_the_old_pod_does_not_hide_the_new_one_of_its_name(watched: Watched) -> None:
    watched.shows_pod(pod("old"))
    watched.cache.deleted_pod("default", NAME, "old", at_once=True)
    watched.cache.wrote_pod(pod("new", version="3"))
    assert watched.uids() == {"new"}
    watched.loses_pod(NAME)  # the DELETED event of the old one
    assert watched.uids() == {"new"}
    assert watched.gone == ["old"]
    assert (watched.cache.gang_of("old"), watched.cache.gang_of("new")) == (None, KEY)
    found = watched.cache.pod("default", NAME)
    assert found is not None
    assert found.metadata.uid == "new"
    watched.shows_pod(pod("new", version="2", node="n1"))
    assert watched.cache.pods(KEY)[NAME].spec.node_name == "n1"
    assert watched.gone == ["old"]


async def test_a_pod_is_on_its_node_from_when_it_is_bound_until_it_is_gone(watched: Watched) -> None:
    watched.shows_pod(pod())
    assert watched.on("n1") == set()
    assert set(watched.cache.nodes_in_use()) == set()
    watched.shows_pod(pod(version="2", node="n1"))
    watched.shows_pod(pod("q", name="llm-worker-1", node="n1"))
    assert watched.on("n1") == {"p", "q"}
    assert set(watched.cache.nodes_in_use()) == {"n1"}
    watched.loses_pod(NAME)
    assert watched.on("n1") == {"q"}
    watched.loses_pod("llm-worker-1")
    assert watched.on("n1") == set()
    assert set(watched.cache.nodes_in_use()) == set()


async def test_what_is_on_a_node_is_the_pod_as_it_is_now(watched: Watched) -> None:
    watched.shows_pod(pod(node="n1"))
    watched.shows_pod(pod(version="2", node="n1", deleted=True))
    assert [p.metadata.resource_version for p in watched.cache.pods_on("n1")] == ["2"]


async def test_a_pod_replaced_under_its_name_leaves_the_old_node(watched: Watched) -> None:
    watched.shows_pod(pod("old", node="n1"))
    watched.shows_pod(pod("new", version="2", node="n2"))
    assert (watched.on("n1"), watched.on("n2")) == (set(), {"new"})


async def test_asking_for_the_pods_of_a_node_does_not_make_it_one_in_use(watched: Watched) -> None:
    watched.shows_pod(pod(node="n1"))
    watched.shows_pod(pod("q", name="llm-worker-1", node="n2"))
    assert [(name, watched.on(f"not {name}")) for name in watched.cache.nodes_in_use()] == [
        ("n1", set()),
        ("n2", set()),
    ]


@pytest.fixture
async def two_nodes(watched: Watched) -> Watched:
    """Two gangs on n1 (one with two pods), one of them on n2 too, a third gang nowhere."""
    for name in ("n1", "n2", "n3"):
        watched.shows_node(node("1", name=name))
    watched.shows_pod(pod("a", node="n1"))
    watched.shows_pod(pod("b", name="llm-worker-1", node="n1"))
    watched.shows_pod(pod("c", name="llm-worker-2", node="n2"))
    watched.shows_pod(pod("d", name="vision-worker-0", of=OTHER, node="n1"))
    watched.shows_pod(pod("e", name="idle-worker-0", of=("default", "idle")))
    watched.dirtied()
    return watched


@pytest.mark.parametrize(
    "change",
    [
        node("2", ready="False"),
        node("2", ready="Unknown"),
        node("2", taints=("node.kubernetes.io/out-of-service",)),
        node("2", sick="True"),
        node("2", strikes="1732233600/hang/default/llm/3"),
    ],
)
async def test_a_node_that_changes_concerns_the_gangs_on_it(two_nodes: Watched, change: Node) -> None:
    two_nodes.shows_node(change)
    assert two_nodes.dirtied() == [KEY, OTHER]


async def test_a_node_that_goes_and_comes_concerns_the_gangs_on_it(two_nodes: Watched) -> None:
    two_nodes.loses_node("n2")
    assert two_nodes.dirtied() == [KEY]
    assert two_nodes.cache.node("n2") is None
    two_nodes.shows_node(node("3", name="n2"))
    assert two_nodes.dirtied() == [KEY]


async def test_a_heartbeat_concerns_nobody(two_nodes: Watched) -> None:
    two_nodes.shows_node(node("2", beat="2026-11-21T06:05:00Z", note="somebody was here"))
    assert two_nodes.dirtied() == []
    seen = two_nodes.cache.node("n1")
    assert seen is not None
    assert seen.metadata.resource_version == "2"


async def test_a_node_without_pods_concerns_nobody(two_nodes: Watched) -> None:
    two_nodes.shows_node(node("2", ready="False", name="n3"))
    two_nodes.loses_pod("llm-worker-2")
    two_nodes.dirtied()
    two_nodes.shows_node(node("2", ready="False", name="n2"))
    assert two_nodes.dirtied() == []


async def test_a_pod_that_changes_concerns_its_gang(two_nodes: Watched) -> None:
    two_nodes.shows_pod(pod("d", version="2", name="vision-worker-0", of=OTHER, node="n1"))
    assert set(two_nodes.dirtied()) == {OTHER}


def owner(uid: str, kind: str = "Gang", api: str = "fleetctl.dev/v1alpha1") -> OwnerReference:
    return OwnerReference(api_version=api, kind=kind, name="llm", uid=uid)


@pytest.mark.parametrize(
    ("seen", "orphan"),
    [
        (pod(owner=owner("gone"), deleted=True), True),
        (pod(owner=owner("gone", api="fleetctl.dev/v1"), deleted=True), True),
        # near misses
        (pod(owner=owner("gone")), False),  # nobody deleted it
        (pod(owner=owner("g"), deleted=True), False),  # its gang is there
        (pod(deleted=True), False),
        (pod(owner=owner("gone", kind="Job", api="batch/v1"), deleted=True), False),
        (pod(owner=owner("gone", kind="PodSet"), deleted=True), False),
        (pod(owner=owner("gone", api="example.com/v1"), deleted=True), False),  # somebody else's Gang
        (pod(owner=owner("gone", api="fleetctl.dev.example.com/v1"), deleted=True), False),
    ],
)
async def test_an_orphan_is_a_deleted_pod_of_a_gang_that_is_no_more(watched: Watched, seen: Pod, orphan: bool) -> None:
    watched.shows_gang(gang("5", target=1))
    watched.shows_pod(seen)
    assert watched.cache.orphans() == ([seen] if orphan else [])


async def test_a_pod_is_an_orphan_when_its_gang_waits_for_it_to_go(watched: Watched) -> None:
    going = gang("5", target=1, uid="g")
    meta = msgspec.structs.replace(going.metadata, deletion_timestamp="2026-11-21T06:00:00Z")
    watched.shows_gang(msgspec.structs.replace(going, metadata=meta))
    watched.shows_pod(pod(owner=owner("g"), deleted=True))
    assert [p.metadata.uid for p in watched.cache.orphans()] == ["p"]


async def test_a_pod_is_an_orphan_when_its_gang_is_made_anew(watched: Watched) -> None:
    watched.shows_gang(gang("5", target=1, uid="g"))
    watched.shows_pod(pod(owner=owner("g"), deleted=True))
    watched.shows_gang(gang("6", target=0, uid="another"))
    assert [p.metadata.uid for p in watched.cache.orphans()] == ["p"]


async def test_a_pod_we_made_and_deleted_before_the_watch_showed_it_is_hidden(watched: Watched) -> None:
    watched.cache.wrote_pod(pod())
    watched.cache.deleted_pod("default", NAME, "p", at_once=True)
    assert watched.uids() == set()


async def test_a_pod_deleted_at_once_is_nobodys_pod(watched: Watched) -> None:
    watched.shows_pod(pod())
    watched.cache.deleted_pod("default", NAME, "p", at_once=True)
    assert watched.cache.pod("default", NAME) is None


async def test_a_pod_that_changes_its_gang_is_not_gone(watched: Watched) -> None:
    watched.shows_pod(pod())
    watched.shows_pod(pod(version="2", of=("default", "vision")))
    assert watched.gone == []


async def test_only_a_node_seen_to_be_deleted_is_gone_and_only_until_it_is_back(watched: Watched) -> None:
    assert not watched.cache.node_is_gone("n1")
    reflector: Any = watched.cache._nodes
    node = Node(metadata=ObjectMeta(name="n1", uid="n", resource_version="1"))
    reflector._put(node)
    watched.shows_pod(pod(node="n1"))
    reflector._remove(("", "n1"))
    assert watched.cache.node_is_gone("n1")
    reflector._put(node)
    assert not watched.cache.node_is_gone("n1")
