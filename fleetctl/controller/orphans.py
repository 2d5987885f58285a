"""Pods of gangs that are no more, on machines that are no more.

When a gang is deleted, Kubernetes' garbage collector deletes its pods, and those on a dead node stay Terminating for as
long as that Node object exists: they would be in the way of the next gang of that name. Only pods that somebody has
deleted already, whose gang is gone or waits only for them, on a node that is proven dead, are removed.
"""

import asyncio
import logging
from collections.abc import Callable

from fleetctl.controller.cache import Cache
from fleetctl.controller.nodes import Nodes
from fleetctl.gang.diagnose.node_state import proof_needed_s, why_dead
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError
from fleetctl.kube.objects import PODS, Pod

log = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0


async def clear(client: KubeClient, cache: Cache, nodes: Nodes, leading: Callable[[], bool]) -> None:
    """Remove them as they appear, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for pod in cache.orphans():
            removable = pod.spec.node_name and not pod.metadata.finalizers
            if leading() and removable and (why := _proof(nodes, pod.spec.node_name)):
                await _remove(client, pod, why)


def _proof(nodes: Nodes, name: str) -> str:
    """Why its node is dead, or nothing."""
    found = why_dead(nodes.view(name), proof_needed_s(len(nodes.silent())))
    return found[1] if found else ""


async def _remove(client: KubeClient, pod: Pod, why: str) -> None:
    meta = pod.metadata
    try:
        await client.delete(
            PODS, meta.namespace, meta.name, uid=meta.uid, resource_version=meta.resource_version, grace_seconds=0
        )
    except ApiError as error:
        log.warning("pod %s/%s of a deleted gang: %s", meta.namespace, meta.name, error)
    else:
        log.info("pod %s/%s of a deleted gang is removed: %s", meta.namespace, meta.name, why)
