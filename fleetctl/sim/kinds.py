"""The resources that the simulated API server serves, and how they differ from each other."""

from dataclasses import dataclass
from typing import Any

from fleetctl.controller.resources import GANGS
from fleetctl.kube.objects import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS, SECRETS, SERVICES, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A resource that is served. `status`: its status is written at a path of its own; `counted`: it has a generation;
    `graceful`: its deletion waits for somebody."""

    resource: Resource[Any]
    status: bool = False
    counted: bool = False
    graceful: bool = False


KINDS: dict[str, Kind] = {
    kind.resource.plural: kind
    for kind in (
        Kind(resource=GANGS, status=True, counted=True),
        Kind(resource=PODS, status=True, counted=True, graceful=True),
        Kind(resource=NODES, status=True),
        *(Kind(resource=r) for r in (LEASES, SERVICES, CONFIG_MAPS, SECRETS, EVENTS)),
    )
}


def full_name(plural: str) -> str:
    """As messages have it: gangs.fleetctl.dev."""
    group = KINDS[plural].resource.group
    return f"{plural}.{group}" if group else plural
