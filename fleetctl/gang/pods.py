"""From a gang's template to the objects that exist for it: the pod of a rank, the Services, the CA ConfigMap.

Bodies are plain JSON values, ready for the API server; they depend on the gang and the rank only, never on the world,
so that creating one twice is the same as creating it once. What can be wrong with a template is `template.py`.

The order in a pod is the protocol (design: the rendezvous):
    the user's init containers and sidecars → images pulled → life id → agent (holds the gate) → the user's containers
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from fleetctl.gang import spec
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.placement import FURTHER

Body = dict[str, Any]

AGENT = "fleetctl-agent"
LIFE = "fleetctl-life"
RESERVED_PREFIX = "fleetctl-"
RESTART_EXIT_CODE = 88
PROBE_PORT = 28100
GATE_PORT = "fleetctl-gate"
AGENT_USER = 65532

AGENT_DIR = "/fleetctl/agent"
SHARED_DIR = "/fleetctl/shared"
PROGRESS_DIR = "/fleetctl/progress"
PROGRESS_FILE = f"{PROGRESS_DIR}/step"
CREDENTIALS_DIR = "/fleetctl/credentials"
AUDIENCE = "fleetctl"

LABEL_GANG = f"{spec.GROUP}/gang"
LABEL_RANK = f"{spec.GROUP}/rank"
LABEL_GROUP = f"{spec.GROUP}/group"
LABEL_ATTEMPT = f"{spec.GROUP}/attempt"
LABEL_ROLE = f"{spec.GROUP}/role"
"""`rank`, or `spare`."""
LABEL_BLOCK = f"{spec.GROUP}/block"
"""Which block the rank belongs to, where the scheduler is asked to keep blocks together."""
AVOIDS = f"{spec.GROUP}/avoids"
"""Annotation: the nodes that the pod must not go to."""

# builtins of the shell only: the trainer's image may hold nothing but /bin/sh
WRITE_LIFE_ID = f'read -r id </proc/sys/kernel/random/uuid && echo "$id" >{AGENT_DIR}/life'


def pod(
    gang: Gang,
    slot: Slot,
    attempt: int,
    *,
    agent_image: str,
    rendezvous: str,
    server_name: str,
    avoid: Collection[str] = (),
    node: str = "",
) -> Body:
    """The pod of one rank. `rendezvous` is host:port; `server_name` is the name in its certificate; `avoid` are names
    of nodes that it must not be placed on, `node` is the one where room was made for it."""
    template = slot.group.template
    user = template["spec"]
    containers = [_regular(gang, slot, c) for c in user["containers"]]
    trainer = next(c for c in containers if c["name"] == slot.trainer)
    guaranteed = _guaranteed(containers)
    body = {
        **user,
        "restartPolicy": "Never",
        "hostname": slot.pod_name,
        "subdomain": gang.name,
        "tolerations": [*(user.get("tolerations") or ()), *_TOLERATIONS],
        "volumes": [*(user.get("volumes") or ()), *_volumes(gang)],
        "initContainers": [
            *(_init(gang, slot, c) for c in (user.get("initContainers") or ())),
            *_pulls(slot, containers, trainer),
            _life(slot, trainer, guaranteed=guaranteed),
            _agent(gang, slot, agent_image, rendezvous, server_name, guaranteed=guaranteed),
        ],
        "containers": containers,
    }
    by_scheduler = needs_scheduler(slot.group)
    block, affinity = _block(gang, slot), user.get("affinity")
    if block:
        affinity = preferring(affinity, "podAffinity", _beside(gang, block))
    if avoid or (node and by_scheduler):
        affinity = _on_nodes(affinity, avoid, node if by_scheduler else "")
    if affinity is not None:
        body["affinity"] = affinity
    if node and not by_scheduler:
        body["nodeName"] = node
    if user.get("hostNetwork") and not user.get("dnsPolicy"):
        body["dnsPolicy"] = "ClusterFirstWithHostNet"  # else the agent cannot find the controller's Service
    metadata = template.get("metadata") or {}
    labels = {
        **(metadata.get("labels") or {}),
        **gang_labels(gang),
        LABEL_GROUP: slot.group.name,
        LABEL_RANK: str(slot.rank),
        LABEL_ATTEMPT: str(attempt),
        LABEL_ROLE: "rank",
        **block,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata_of(gang, slot.pod_name),
            "labels": labels,
            "annotations": {
                **(metadata.get("annotations") or {}),
                **({AVOIDS: ",".join(sorted(avoid))} if avoid else {}),
            },
        },
        "spec": body,
    }


def services(gang: Gang) -> list[Body]:
    """The headless Service that gives every rank a DNS name, and the coordinator's own stable address."""
    ranks = {LABEL_GANG: gang.name, LABEL_ROLE: "rank"}
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": ranks}
    coordinator = {
        "publishNotReadyAddresses": True,
        "selector": ranks | {LABEL_RANK: str(gang.coordinator.rank)},
        "ports": [
            {"name": "coordinator", "port": gang.spec.coordinator.port},
            {"name": GATE_PORT, "port": PROBE_PORT},
        ],
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": _companion(gang, gang.name), "spec": headless},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _companion(gang, coordinator_service(gang)),
            "spec": coordinator,
        },
    ]


def authority(gang: Gang, bundle: str) -> Body:
    """The ConfigMap with the certificates that agents trust (PEM)."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _companion(gang, authority_name(gang)),
        "data": {"ca.crt": bundle},
    }


def authority_name(gang: Gang) -> str:
    return f"{gang.name}-fleetctl-ca"


def coordinator_service(gang: Gang) -> str:
    return f"{gang.name}-coordinator"


def gang_labels(gang: Gang) -> dict[str, str]:
    """The labels that all objects of a gang carry."""
    return {LABEL_GANG: gang.name, "app.kubernetes.io/managed-by": "fleetctl"}


def environment(gang: Gang, slot: Slot) -> dict[str, str]:
    """What every container of a rank is told: our names, and those that torchrun reads."""
    address = coordinator_service(gang)
    port = str(gang.spec.coordinator.port)
    return {
        "FLEETCTL_GANG": gang.name,
        "FLEETCTL_RANK": str(slot.rank),
        "FLEETCTL_SIZE": str(gang.spec.size),
        "FLEETCTL_COORDINATOR": f"{address}:{port}",
        "FLEETCTL_ATTEMPT_FILE": f"{SHARED_DIR}/attempt",
        "FLEETCTL_PROGRESS_FILE": PROGRESS_FILE,
        "PET_NNODES": str(gang.spec.size),
        "PET_NODE_RANK": str(slot.rank),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": port,
    }


def needs_scheduler(group: spec.Group) -> bool:
    """Whether only the scheduler can bind its pods: it chooses the volumes and devices that are bound with them."""
    user = group.template["spec"]
    late = any("persistentVolumeClaim" in v or "ephemeral" in v for v in user.get("volumes") or ())
    return late or bool(user.get("resourceClaims"))


def preferring(affinity: Any, kind: Literal["podAffinity", "podAntiAffinity"], wishes: Collection[Body]) -> Any:
    """The user's affinity, and what we wish. A misshapen one stays as it is: the API server names it better."""
    try:
        own = affinity or {}
        of_pods = own.get(kind) or {}
        return {**own, kind: {**of_pods, _PREFERRED: [*(of_pods.get(_PREFERRED) or ()), *wishes]}}
    except (AttributeError, TypeError):
        return affinity


def metadata_of(gang: Gang, name: str) -> Body:
    """The metadata of an object that goes with the gang."""
    owner = {
        "apiVersion": spec.API_VERSION,
        "kind": "Gang",
        "name": gang.name,
        "uid": gang.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": name, "namespace": gang.namespace, "ownerReferences": [owner]}


def _companion(gang: Gang, name: str) -> Body:
    return {**metadata_of(gang, name), "labels": gang_labels(gang)}


# Kubernetes' own eviction must not act behind our back: what a silent node means is ours to judge.
_TOLERATIONS: tuple[Body, ...] = tuple(
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
    for key in ("not-ready", "unreachable")
)


_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _block(gang: Gang, slot: Slot) -> dict[str, str]:
    """The label of the rank's block, if blocks are to be kept together and it is known within what."""
    placement = gang.spec.placement
    guided = placement.block_size > 1 and placement.topology_keys
    return {LABEL_BLOCK: str(slot.rank // placement.block_size)} if guided else {}


def _beside(gang: Gang, block: Mapping[str, str]) -> list[Body]:
    """The wish to be where the block is: most of all in the narrowest domain, and near it rather than far."""
    there = {"matchLabels": {LABEL_GANG: gang.name, **block}}
    narrowest_first = enumerate(reversed(gang.spec.placement.topology_keys))
    return [
        {
            "weight": max(1, 100 // FURTHER**level),
            "podAffinityTerm": {"labelSelector": there, "topologyKey": key},
        }
        for level, key in narrowest_first
    ]


def _on_nodes(affinity: Any, avoid: Collection[str], node: str) -> Any:
    """The user's affinity, none of the nodes to avoid, and that node if one is named. A misshapen one stays as it is:
    the API server names it better."""
    # the API takes one value per requirement on a field
    ours = [{"key": "metadata.name", "operator": "NotIn", "values": [each]} for each in sorted(avoid)]
    if node:
        ours.append({"key": "metadata.name", "operator": "In", "values": [node]})
    try:
        own = affinity or {}
        of_nodes = own.get("nodeAffinity") or {}
        required = of_nodes.get(_REQUIRED) or {}
        terms = [_narrowed(term or {}, ours) for term in required.get("nodeSelectorTerms") or ()]
    except (AttributeError, TypeError):
        return affinity
    required = {**required, "nodeSelectorTerms": terms or [{"matchFields": ours}]}
    return {**own, "nodeAffinity": {**of_nodes, _REQUIRED: required}}


def _narrowed(term: Body, fields: list[Body]) -> Body:
    if not (term.get("matchFields") or term.get("matchExpressions")):
        return term  # an empty term matches no node, and must not begin to
    return {**term, "matchFields": [*(term.get("matchFields") or ()), *fields]}


def _volumes(gang: Gang) -> list[Body]:
    token = {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
    bundle = {"configMap": {"name": authority_name(gang), "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    return [
        {"name": "fleetctl-agent", "emptyDir": {}},
        {"name": "fleetctl-shared", "emptyDir": {}},
        {"name": "fleetctl-progress", "emptyDir": {}},
        {"name": "fleetctl-credentials", "projected": {"sources": [token, bundle], "defaultMode": 0o444}},
    ]


_SHARED_MOUNT = {"name": "fleetctl-shared", "mountPath": SHARED_DIR}
_PROGRESS_MOUNT = {"name": "fleetctl-progress", "mountPath": PROGRESS_DIR}


def _regular(gang: Gang, slot: Slot, container: Body) -> Body:
    """A regular container of the user's: the rank's environment, and restart rules unless it has its own."""
    out = _as_member(gang, slot, container)
    ours = [{**_SHARED_MOUNT, "readOnly": True}, _PROGRESS_MOUNT]
    out["volumeMounts"] = [*(container.get("volumeMounts") or ()), *ours]
    declared = container.get("restartPolicyRules") or []
    is_trainer = container["name"] == slot.trainer
    if is_trainer or not (declared or container.get("restartPolicy")):
        fatal = gang.spec.recovery.fatal_codes(slot.group.name) if is_trainer else ()
        out["restartPolicy"] = "Never"
        out["restartPolicyRules"] = [*declared, *_restart_on_failure(fatal)]
    return out


def _init(gang: Gang, slot: Slot, container: Body) -> Body:
    """An init container or sidecar of the user's. A sidecar without rules restarts the gang, like a container."""
    out = _as_member(gang, slot, container)
    if container.get("restartPolicy") == "Always" and not container.get("restartPolicyRules"):
        out["restartPolicyRules"] = _restart_on_failure()
    return out


def _restart_on_failure(fatal: Collection[int] = ()) -> list[Body]:
    """The rule that makes a container's failure the whole pod's, but for codes that must leave a Failed pod: in the
    shorter of the two ways to say it, which Kubernetes' 255 codes always suffice for. No rule if all codes must."""
    restarting = [code for code in range(1, 256) if code not in fatal]
    if not restarting:
        return []
    if len(restarting) < len(fatal):
        return [_restart_all("In", restarting)]
    return [_restart_all("NotIn", [0, *sorted(fatal)])]


def _restart_all(operator: str, codes: list[int]) -> Body:
    return {"action": "RestartAllContainers", "exitCodes": {"operator": operator, "values": codes}}


def _as_member(gang: Gang, slot: Slot, container: Body) -> Body:
    """A container of the user's that is told its rank, and asks no registry for an image that the node has."""
    own = container.get("env") or []
    names = {e.get("name") for e in own}
    ours = [{"name": k, "value": v} for k, v in environment(gang, slot).items() if k not in names]
    env = [*ours, *own]  # ours first: $(FLEETCTL_RANK) may be used in the user's
    return {"imagePullPolicy": "IfNotPresent", **container, "env": env}


def _pulls(slot: Slot, containers: list[Body], trainer: Body) -> list[Body]:
    """A container that does nothing for every image but the trainer's: all images are there before the barrier."""
    if slot.group.life_image:
        return []
    first_with: dict[str, Body] = {}
    for container in containers:
        first_with.setdefault(container["image"], container)
    others = [c for image, c in first_with.items() if image != trainer["image"]]
    return [_helper(f"{RESERVED_PREFIX}pull-{i}", c, ["/bin/sh", "-c", ":"]) for i, c in enumerate(others)]


def _life(slot: Slot, trainer: Body, *, guaranteed: bool) -> Body:
    """Writes a new life id. In the trainer's image, which is so on the node before the barrier."""
    out = _helper(LIFE, trainer, ["/bin/sh", "-c", WRITE_LIFE_ID])
    if slot.group.life_image:
        out["image"] = slot.group.life_image
    out["volumeMounts"] = [{"name": "fleetctl-agent", "mountPath": AGENT_DIR}]
    return out | ({"resources": _AGENT_RESOURCES_GUARANTEED} if guaranteed else {})


def _helper(name: str, model: Body, command: list[str]) -> Body:
    """A container that runs in the image and with the permissions of another, but none of its resources."""
    kept: Body = {k: model[k] for k in ("image", "imagePullPolicy", "securityContext") if k in model}
    return {"name": name, **kept, "command": command}


def agent_resources(containers: Collection[Body]) -> Body:
    """What the agent beside those containers asks for."""
    return _AGENT_RESOURCES_GUARANTEED if _guaranteed(containers) else _AGENT_RESOURCES


_AGENT_RESOURCES = {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}}
# A limit on CPU slows the agent's start, so there is one only where the pod would else lose its Guaranteed class.
_AGENT_RESOURCES_GUARANTEED = {
    "requests": {"cpu": "200m", "memory": "64Mi"},
    "limits": {"cpu": "200m", "memory": "64Mi"},
}


def _agent(gang: Gang, slot: Slot, image: str, rendezvous: str, server_name: str, *, guaranteed: bool) -> Body:
    settings: Mapping[str, str] = {
        "FLEETCTL_RENDEZVOUS": rendezvous,
        "FLEETCTL_SERVER_NAME": server_name,
        "FLEETCTL_NAMESPACE": gang.namespace,
        "FLEETCTL_POD": slot.pod_name,
        "FLEETCTL_PROBE_PORT": str(PROBE_PORT),
        "FLEETCTL_STATE_DIR": AGENT_DIR,
        "FLEETCTL_SHARED_DIR": SHARED_DIR,
        "FLEETCTL_CREDENTIALS_DIR": CREDENTIALS_DIR,
        "FLEETCTL_PROGRESS_FILE": PROGRESS_FILE,
        "FLEETCTL_COORDINATOR_GATE": f"{coordinator_service(gang)}:{PROBE_PORT}",
        "FLEETCTL_COORDINATOR_POD": gang.coordinator.pod_name,
    }
    return {
        "name": AGENT,
        "image": image,
        "args": ["agent"],
        "restartPolicy": "Always",
        "restartPolicyRules": [_restart_all("In", [RESTART_EXIT_CODE])],
        "env": [{"name": k, "value": v} for k, v in settings.items()],
        "ports": [{"name": GATE_PORT, "containerPort": PROBE_PORT}],
        # The agent holds its answer until the release, so this does not wait for the probe's next tick. The threshold
        # never trips: a rank may wait at the barrier for as long as it takes.
        "startupProbe": {
            "httpGet": {"path": f"/released/{gang.namespace}/{slot.pod_name}", "port": PROBE_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 30,
            "failureThreshold": 2**31 - 1,
        },
        "resources": _AGENT_RESOURCES_GUARANTEED if guaranteed else _AGENT_RESOURCES,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": AGENT_USER,
            "runAsGroup": AGENT_USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "fleetctl-agent", "mountPath": AGENT_DIR},
            _SHARED_MOUNT,
            {**_PROGRESS_MOUNT, "readOnly": True},
            {"name": "fleetctl-credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True},
        ],
    }


def _guaranteed(containers: Collection[Body]) -> bool:
    return all(_limits_are_requests(c) for c in containers)


def _limits_are_requests(container: Body) -> bool:
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or limits
    return {"cpu", "memory"} <= limits.keys() and all(requests.get(k, v) == v for k, v in limits.items())
