"""The pod that keeps a rank's room: a spare. It asks for what a rank's pod asks for and does nothing.

Its containers are the rank's, by name, image, resources and ports, so that whatever finds room here is there for the
rank that takes it, and its images are on the node. Each waits on its standard input for something that never comes,
which a shell can do without any program. Knows nothing of who takes a spare, or when (spares.py).
"""

from collections.abc import Mapping
from typing import Any

from fleetctl.gang import pods
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import Group

Body = dict[str, Any]

HOLD = "fleetctl-hold"
"""The container that asks for what the agent asks for."""
PRIORITY = "fleetctl-spare"
WAIT = "trap 'exit 0' TERM; read _"
KEPT = ("image", "imagePullPolicy", "securityContext", "resources", "ports")
OWN = frozenset(
    {"initContainers", "containers", "volumes", "restartPolicy", "hostname", "subdomain"}
    | {"terminationGracePeriodSeconds", "priority", "preemptionPolicy"}
)
"""Of a template's spec, what a spare has otherwise, or not at all."""


def name(gang: Gang, group: Group, index: int) -> str:
    return f"{gang.name}-{group.name}-spare-{index}"


def pod(gang: Gang, group: Group, index: int, *, agent_image: str) -> Body:
    """A spare of that group, on a node where no rank of the gang is if there is one."""
    user = group.template["spec"]
    agent = {
        "name": HOLD,
        "image": agent_image,
        "resources": pods.agent_resources(user["containers"]),
        "ports": [{"containerPort": pods.PROBE_PORT}],  # with hostNetwork a node has it once
    }
    sidecars = [c for c in user.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    held = [{**each, "image": agent_image} for each in sidecars]  # nobody says that they have a shell
    if group.life_image:
        held += [{**each, "image": group.life_image} for each in user["containers"]]
    else:
        held += user["containers"]
    spec = {key: value for key, value in user.items() if key not in OWN}
    metadata = group.template.get("metadata") or {}
    labels = {
        **(metadata.get("labels") or {}),
        **pods.gang_labels(gang),
        pods.LABEL_GROUP: group.name,
        pods.LABEL_ROLE: "spare",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **pods.metadata_of(gang, name(gang, group, index)),
            "labels": labels,
            "annotations": metadata.get("annotations") or {},
        },
        "spec": {
            **spec,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "priorityClassName": PRIORITY,
            "affinity": _apart(gang, user.get("affinity")),
            "containers": [_waiting(c) for c in (*held, agent)],
        },
    }


def _waiting(container: Mapping[str, Any]) -> Body:
    kept = {key: container[key] for key in KEPT if key in container}
    return {
        "imagePullPolicy": "IfNotPresent",
        **kept,
        "name": container["name"],
        "command": ["/bin/sh", "-c", WAIT],
        "stdin": True,
    }


def _apart(gang: Gang, affinity: Any) -> Any:
    """The user's affinity, and rather not beside ranks: who loses a node must not lose its spares with it."""
    ranks = {"matchLabels": {pods.LABEL_GANG: gang.name, pods.LABEL_ROLE: "rank"}}
    ours = {
        "weight": 100,
        "podAffinityTerm": {"labelSelector": ranks, "topologyKey": "kubernetes.io/hostname"},
    }
    return pods.preferring(affinity, "podAntiAffinity", [ours])
