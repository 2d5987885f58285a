"""The Gang as an API resource, and the pods as they came."""

from fleetctl.gang.spec import GROUP, VERSION, GangSpec, GangStatus
from fleetctl.kube.objects import ObjectMeta, Raw, Resource, Struct


class GangObject(Struct, frozen=True):
    """A whole Gang: it may be written back."""

    metadata: ObjectMeta
    spec: GangSpec
    status: GangStatus = GangStatus()


GANGS = Resource(group=GROUP, version=VERSION, plural="gangs", kind="Gang", type=GangObject)
WHOLE_PODS = Resource(group="", version="v1", plural="pods", kind="Pod", type=Raw)
