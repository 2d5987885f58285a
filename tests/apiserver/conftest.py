"""Every test here starts a real kube-apiserver of its own, and real controllers, in real time."""

import os
import subprocess
from pathlib import Path

import pytest

from fleetctl.apiserver.server import ASSETS, NoServer, programs

HERE = Path(__file__).parent
BUILDS = HERE.parent / "conformance" / "programs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(300, func_only=True))  # building the servers may take minutes


@pytest.fixture(scope="session", autouse=True)
def servers() -> None:
    """Built if nobody says where they are; CI must have them."""
    if not os.environ.get(ASSETS):
        built = subprocess.run([BUILDS], capture_output=True, text=True)
        if built.returncode == 0:
            os.environ[ASSETS] = built.stdout.splitlines()[-1]  # before it, perhaps, that it waits for another
    try:
        programs()
    except NoServer as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a real API server: {missing}")
        pytest.skip(f"no real API server: {missing}")
