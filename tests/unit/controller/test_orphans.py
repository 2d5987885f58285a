"""Pods of gangs that are no more: what is removed, and what stays although it is in the way."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

from fleetctl.controller import orphans
from fleetctl.controller.cache import Cache
from fleetctl.controller.nodes import Nodes
from fleetctl.gang.state import Node
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError, Conflict, Unavailable
from fleetctl.kube.objects import PODS, ObjectMeta, Pod, PodSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time

DEAD = Node(name="dead", silent=True, still_s=20.0)


class Graveyard:
    """Orphans on nodes, and an API server that removes them."""

    def __init__(self, *nodes: Node) -> None:
        self.machines = {node.name: node for node in nodes}
        self.pods: list[Pod] = []
        self.leads = True
        self.errors: dict[str, ApiError] = {}
        self.asked: list[str] = []
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def pod(self, name: str, on: str, finalizers: tuple[str, ...] = ()) -> "Graveyard":
        meta = ObjectMeta(
            namespace="default",
            name=name,
            uid=f"uid-{name}",
            resource_version=f"rv-{name}",
            finalizers=finalizers,
        )
        self.pods.append(Pod(metadata=meta, spec=PodSpec(node_name=on)))
        return self

    def orphans(self) -> list[Pod]:
        return list(self.pods)

    def view(self, name: str) -> Node:
        return self.machines[name]

    def silent(self) -> set[str]:
        return {name for name, node in self.machines.items() if node.silent}

    async def delete(self, resource: object, namespace: str, name: str, **options: Any) -> bool:
        assert resource is PODS
        self.asked.append(name)
        if error := self.errors.get(name):
            raise error.with_traceback(None)
        self.calls.append((namespace, name, options))
        self.pods = [pod for pod in self.pods if pod.metadata.name != name]
        return True

    @property
    def removed(self) -> list[str]:
        return [name for _, name, _ in self.calls]

    @asynccontextmanager
    async def cleared(self) -> AsyncIterator[None]:
        client, cache, nodes = cast(KubeClient, self), cast(Cache, self), cast(Nodes, self)
        task = asyncio.create_task(orphans.clear(client, cache, nodes, lambda: self.leads))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises what ended it, if anything did


async def a_look() -> None:
    await asyncio.sleep(orphans.LOOK_EVERY_S + 0.01)


@in_virtual_time
async def test_a_pod_on_a_node_that_is_proven_dead_is_removed_exactly_as_it_was_seen() -> None:
    yard = Graveyard(DEAD, Node(name="alive")).pod("a", "dead").pod("b", "alive")
    async with yard.cleared():
        await a_look()
    options = {"uid": "uid-a", "resource_version": "rv-a", "grace_seconds": 0}
    assert yard.calls == [("default", "a", options)]


@in_virtual_time
async def test_nothing_is_removed_without_proof() -> None:
    yard = Graveyard(
        Node(name="not yet", silent=True, still_s=19.9),
        Node(name="speaks", still_s=100.0),
        Node(name="unready", ready="Unknown"),
        Node(name="no object, yet speaks", exists=False),
        Node(name="vouched for, yet speaks", taints=frozenset({"node.kubernetes.io/out-of-service"})),
    )
    for name in yard.machines:
        yard.pod(f"pod on {name}", name)
    async with yard.cleared():
        await asyncio.sleep(60)
    assert yard.asked == []


@in_virtual_time
async def test_a_node_that_is_deleted_or_vouched_for_is_proven_dead_when_it_is_silent() -> None:
    out_of_service = frozenset({"node.kubernetes.io/out-of-service"})
    yard = Graveyard(
        Node(name="deleted", exists=False, silent=True), Node(name="out", taints=out_of_service, silent=True)
    )
    yard.pod("a", "deleted").pod("b", "out")
    async with yard.cleared():
        await a_look()
    assert yard.removed == ["a", "b"]


@in_virtual_time
async def test_while_several_nodes_are_silent_the_proof_takes_longer() -> None:
    yard = Graveyard(Node(name="dead", silent=True, still_s=39.9), Node(name="another", silent=True))
    yard.pod("a", "dead")
    async with yard.cleared():
        await a_look()
        assert yard.asked == []
        yard.machines["dead"] = Node(name="dead", silent=True, still_s=40.0)
        await a_look()
        assert yard.removed == ["a"]


@in_virtual_time
async def test_the_proof_may_come_later() -> None:
    yard = Graveyard(Node(name="dead", silent=True, still_s=10.0)).pod("a", "dead")
    async with yard.cleared():
        await a_look()
        assert yard.asked == []
        yard.machines["dead"] = DEAD
        await a_look()
        assert yard.removed == ["a"]


@in_virtual_time
async def test_who_does_not_lead_removes_nothing() -> None:
    yard = Graveyard(DEAD).pod("a", "dead")
    yard.leads = False
    async with yard.cleared():
        await asyncio.sleep(60)
        assert yard.asked == []
        yard.leads = True
        await a_look()
        assert yard.removed == ["a"]


@in_virtual_time
async def test_an_error_stops_neither_the_others_nor_the_next_look() -> None:
    yard = Graveyard(DEAD).pod("changed", "dead").pod("unlucky", "dead").pod("c", "dead")
    yard.errors = {
        "changed": Conflict("DELETE", "the precondition does not hold", status=409),
        "unlucky": Unavailable("DELETE", "no answer"),
    }
    async with yard.cleared():
        await a_look()
        assert yard.removed == ["c"]
        del yard.errors["unlucky"]
        await a_look()
        assert yard.removed == ["c", "unlucky"]


@in_virtual_time
async def test_it_looks_again_only_after_a_while() -> None:
    yard = Graveyard(DEAD).pod("a", "dead")
    yard.errors = {"a": Conflict("DELETE", "changed", status=409)}
    async with yard.cleared():
        await asyncio.sleep(4 * orphans.LOOK_EVERY_S + 0.01)
    assert yard.asked == ["a"] * 4


@in_virtual_time
async def test_what_the_api_server_or_a_finalizers_owner_must_remove_is_left_to_them() -> None:
    yard = Graveyard(DEAD, Node(name="", exists=False, silent=True))
    yard.pod("unbound", "").pod("kept", "dead", finalizers=("example.com/keep",))
    async with yard.cleared():
        await a_look()
    assert yard.asked == []
