import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from fleetctl.kube.auth import Endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.kube.connect import connect

from .fake_api import FakeApi
from .virtual_loop import VirtualLoop

STARTS_PROGRAMS = {"test_auth.py"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in STARTS_PROGRAMS:
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualLoop}


class Longest(random.Random):
    """Draws the longest pause there is, so that tests can say what it is."""

    def random(self) -> float:
        return 1.0


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[KubeClient]:
    async with connect(Endpoint(server=api.url), "test", rng=Longest()) as client:
        yield client
