"""Where the certificate authority lives, and that every gang's agents hear of a new one."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from fleetctl.controller.authority import SECRET, AuthorityKeeper
from fleetctl.controller.resources import GangObject
from fleetctl.gang.spec import GangSpec
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import AlreadyExists, NotFound, Unavailable
from fleetctl.kube.objects import ObjectMeta, Raw, Resource


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


class Cluster:
    """Secrets and ConfigMaps by name; a name in `away` cannot be reached."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {}
        self.away: set[str] = set()

    async def get(self, _: Resource[Raw], __: str, name: str) -> Raw:
        if name not in self.data:
            raise NotFound("GET", "none", status=404)
        return Raw({"data": self.data[name]})

    async def create(self, _: Resource[Raw], __: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name in self.data:
            raise AlreadyExists("POST", "there", status=409)
        self.data[name] = dict(body["data"])

    async def patch(self, _: Resource[Raw], __: str, name: str, body: dict[str, Any]) -> None:
        if name in self.away:
            raise Unavailable("PATCH", "away")
        if name not in self.data:
            raise NotFound("PATCH", "none", status=404)
        self.data[name] |= body["data"]


def gang(name: str) -> GangObject:
    return GangObject(metadata=ObjectMeta(namespace="default", name=name), spec=GangSpec(groups=[]))


async def opened(cluster: Cluster, clock: Clock) -> AuthorityKeeper:
    return await AuthorityKeeper.open(cast(KubeClient, cluster), clock, "fleetctl-system", "r.svc")


async def test_the_second_controller_takes_the_authority_of_the_first() -> None:
    cluster, clock = Cluster(), Clock()
    first, second = await opened(cluster, clock), await opened(cluster, clock)
    assert first.bundle == second.bundle
    assert set(cluster.data) == {SECRET}


async def test_every_started_gang_hears_of_a_new_authority_even_if_one_was_out_of_reach() -> None:
    cluster, clock = Cluster(), Clock()
    keeper = await opened(cluster, clock)
    cluster.data |= {f"{name}-fleetctl-ca": {"ca.crt": keeper.bundle} for name in ("b", "c")}
    gangs = [gang("not-started"), gang("b"), gang("c")]
    clock.moment += timedelta(days=600)
    cluster.away = {"b-fleetctl-ca"}
    await keeper._refresh(True, gangs)
    assert keeper.bundle.count("BEGIN CERTIFICATE") == 2
    assert cluster.data["c-fleetctl-ca"]["ca.crt"] == keeper.bundle
    cluster.away = set()
    await keeper._refresh(True, gangs)
    assert cluster.data["b-fleetctl-ca"]["ca.crt"] == keeper.bundle


@pytest.mark.parametrize("lead", [True, False])
async def test_only_the_leader_rotates(lead: bool) -> None:
    cluster, clock = Cluster(), Clock()
    keeper = await opened(cluster, clock)
    before = dict(cluster.data[SECRET])
    clock.moment += timedelta(days=600)
    await keeper._refresh(lead, [])
    assert (cluster.data[SECRET] != before) == lead
