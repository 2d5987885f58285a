"""The cluster tests need `make cluster images`, and run inside it: tests/kind/enter pytest tests/cluster.

Tests marked `together` mostly wait, each for a gang of its own: those of one file run at the same time, a few at once.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from fleet import HERE, LONG, Gang, article_template, deploy, kubectl

MISSING = (
    "no test cluster here: run `make test`, or `make cluster images` and then `tests/kind/enter pytest tests/cluster`"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not LONG:
        items[:] = [item for item in items if item.get_closest_marker("long") is None]
    here = [item for item in items if item.path.is_relative_to(HERE)]
    for item in here:
        item.add_marker(pytest.mark.timeout(300))
    if "FLEETCTL_KIND_CLUSTER" in os.environ:
        return
    if os.environ.get("CI") == "true":
        pytest.exit(f"CI must run the cluster tests: {MISSING}", returncode=1)
    for item in here:
        item.add_marker(pytest.mark.skip(reason=MISSING))


POOL = ThreadPoolExecutor(4)
BEGUN: dict[str, Future[object]] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("together") is None:
        return None
    if pyfuncitem.nodeid not in BEGUN:
        for item in pyfuncitem.session.items:
            if (
                item.path == pyfuncitem.path
                and isinstance(item, pytest.Function)
                and item.get_closest_marker("together")
            ):
                BEGUN[item.nodeid] = POOL.submit(item.obj)
    BEGUN[pyfuncitem.nodeid].result()
    return True


@pytest.fixture(scope="session")
def fleet() -> None:
    """fleetctl as users deploy it, of the working tree."""
    deploy()


@pytest.fixture(autouse=True)
def no_strikes(request: pytest.FixtureRequest) -> None:
    """What trainers did in the tests before must not make a lemon of a node."""
    if "fleet" in request.fixturenames:
        kubectl("annotate", "nodes", "--all", "fleetctl.dev/strikes-")


@pytest.fixture(scope="module")
def gang(fleet: None) -> Iterator[Gang]:
    """Eight plain ranks on four workers."""
    with Gang("llm") as plain:
        plain.running(attempt=1)
        yield plain


@pytest.fixture(scope="module")
def article(fleet: None) -> Iterator[Gang]:
    """Eight ranks of the kind that users copy from articles."""
    with Gang("article", template=article_template("article")) as full:
        full.running(attempt=1, within_s=90)
        yield full
