"""The objects fleetctl reads, as structs with the fields that somebody uses and no others.

JSON decodes straight into them, unknown fields are skipped, and every field has a default, so that partial objects
decode too. `gc=False`: thousands of pods are held, and none of these can be part of a cycle. Timestamps stay the
strings that the server sent; whoever needs a number knows whose clock it comes from.

Because fields are missing, writing one of these structs back would erase what it does not carry. Only a struct that
holds the whole object (Lease, Gang) may be replaced; everything else is patched or written as a dict.

Add a resource: construct a `Resource` wherever its type is at home. The type needs `metadata` and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec


class Struct(msgspec.Struct, gc=False, rename="camel", frozen=True, kw_only=True, omit_defaults=True):
    """Camel case on the wire; defaults are not written."""


class OwnerReference(Struct, frozen=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Metadata(Protocol):
    """What the client needs to know of an object's metadata."""

    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class HasMetadata(Protocol):
    """Any object of the API."""

    @property
    def metadata(self) -> Metadata: ...


T = TypeVar("T", bound=HasMetadata)


class Raw:
    """An object of which nobody needs more than its metadata; all of it, as it came, is in `body`."""

    __slots__ = ("body", "metadata")

    def __init__(self, body: Mapping[str, object]) -> None:
        self.body = body
        self.metadata = msgspec.convert(body.get("metadata", {}), ObjectMeta)


class Condition(Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_heartbeat_time: str | None = None
    """Nodes only."""


class Running(Struct, frozen=True):
    started_at: str | None = None


class Waiting(Struct, frozen=True):
    reason: str = ""
    message: str = ""


class Terminated(Struct, frozen=True):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(Struct, frozen=True):
    """At most one of the three; none at all means waiting."""

    running: Running | None = None
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class DeviceHealth(Struct, frozen=True):
    resource_id: str = msgspec.field(default="", name="resourceID")
    health: str = ""
    """Healthy, Unhealthy or Unknown."""


class AllocatedResource(Struct, frozen=True):
    """Devices of one kind (`nvidia.com/gpu`) that a container has."""

    name: str = ""
    resources: tuple[DeviceHealth, ...] = ()


class ContainerStatus(Struct, frozen=True):
    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    container_id: str = msgspec.field(default="", name="containerID")
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    allocated_resources_status: tuple[AllocatedResource, ...] = ()


class Container(Struct, frozen=True):
    name: str = ""
    image: str = ""
    restart_policy: str = ""


class PodSpec(Struct, frozen=True):
    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodStatus(Struct, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Taint(Struct, frozen=True):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str | None = None


class NodeSpec(Struct, frozen=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeInfo(Struct, frozen=True):
    kubelet_version: str = ""


class NodeStatus(Struct, frozen=True):
    conditions: tuple[Condition, ...] = ()
    node_info: NodeInfo = NodeInfo()
    declared_features: tuple[str, ...] = ()


class Node(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LeaseSpec(Struct, frozen=True):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[T]):
    """A kind of object: where the API server keeps it, and the type it decodes into. The core group is ""."""

    group: str
    version: str
    plural: str
    kind: str
    type: type[T]
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def collection(self, namespace: str | None = None) -> str:
        """The path of all objects, in one namespace or (None) everywhere."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            root += f"/namespaces/{_segment(namespace)}"
        return f"{root}/{self.plural}"

    def item(self, namespace: str | None, name: str, subresource: str = "") -> str:
        """The path of one object. Raises ValueError if that would not be *one* object."""
        if self.namespaced and not namespace:
            raise ValueError(f"{self.plural} {name!r}: needs a namespace")
        path = f"{self.collection(namespace)}/{_segment(name)}"
        return f"{path}/{subresource}" if subresource else path


def _segment(name: str) -> str:
    """An empty name would address the whole collection, and DELETE would empty it."""
    if name.strip(".") == "":
        raise ValueError(f"{name!r} is not the name of an object")
    return quote(name, safe="")


PODS = Resource(group="", version="v1", plural="pods", kind="Pod", type=Pod)
NODES = Resource(group="", version="v1", plural="nodes", kind="Node", type=Node, namespaced=False)
LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease", type=Lease)
SERVICES = Resource(group="", version="v1", plural="services", kind="Service", type=Raw)
CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap", type=Raw)
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret", type=Raw)
EVENTS = Resource(group="events.k8s.io", version="v1", plural="events", kind="Event", type=Raw)
