"""Events on a Gang: one per decision that a person would want to be told of. Best effort, never an input."""

import logging
import random

from fleetctl.clock import Clock
from fleetctl.controller.resources import GangObject
from fleetctl.gang.actions import Notice
from fleetctl.gang.spec import API_VERSION, GROUP
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError
from fleetctl.kube.objects import EVENTS
from fleetctl.stamps import rfc3339_micro

log = logging.getLogger(__name__)
LONGEST_NOTE = 1000


async def emit(
    client: KubeClient, clock: Clock, gang: GangObject, notice: Notice, reporter: str, rng: random.Random
) -> None:
    """Tell it; a failure is logged and forgotten."""
    meta = gang.metadata
    event = {
        "metadata": {"name": f"{meta.name}.{rng.randbytes(8).hex()}", "namespace": meta.namespace},
        "eventTime": rfc3339_micro(clock.now()),
        "reportingController": f"{GROUP}/controller",
        "reportingInstance": reporter,
        "action": notice.action,
        "reason": notice.reason,
        "type": notice.kind,
        "note": notice.message[:LONGEST_NOTE],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "Gang",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        },
    }
    try:
        await client.create(EVENTS, meta.namespace, event)
    except ApiError as error:
        log.warning("event not written: %s", error, extra={"gang": f"{meta.namespace}/{meta.name}"})
