"""Every test runs twice: against the simulated API server and against a real one, with the same assertions."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .api import Api, Connection, connected, simulated
from .realserver import Missing, running

HERE = Path(__file__).parent
NAMESPACES = (f"t{number}" for number in itertools.count(1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(60, func_only=True))  # building the servers may take minutes


@pytest.fixture(scope="session")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """To one real server for all tests."""
    try:
        with running(tmp_path_factory.mktemp("kubernetes")) as server, connected(server) as ready:
            yield ready
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a real API server: {missing}")
        pytest.skip(f"no real API server: {missing}")


@pytest.fixture(params=["sim", "real"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    if request.param == "sim":
        with simulated() as ready:
            yield ready
    else:
        connection: Connection = request.getfixturevalue("connection")
        with connection.api(next(NAMESPACES)) as ready:
            yield ready
