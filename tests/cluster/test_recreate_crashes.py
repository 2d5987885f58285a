"""A controller may die anywhere while pods are replaced: the next one goes on; nobody is replaced or restarted twice.

The node is left because of a taint, which needs no proof: each point costs a take-over, not twenty seconds of silence.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fleet import LONG, Gang, Json, kubectl
from holding_proxy import HoldingProxy, Request, controller_behind, kill_controller, writes_record
from test_node_faults import recovered

pytestmark = pytest.mark.timeout(600)
TAINT = "karpenter.sh/disrupted"


@pytest.fixture(scope="module")
def held(fleet: None) -> Iterator[tuple[Gang, HoldingProxy]]:
    """A gang, and a controller whose writes can be held."""
    with HoldingProxy() as proxy, controller_behind(proxy), Gang("replaced") as gang:
        gang.running(attempt=1, within_s=90)
        yield gang, proxy


@contextmanager
def tainted(node: str) -> Iterator[None]:
    kubectl("taint", "node", node, f"{TAINT}=:NoSchedule")
    try:
        yield
    finally:
        kubectl("taint", "node", node, f"{TAINT}-", check=False)


def naming(record: Json) -> bool:
    return bool(record.get("replacing"))


def releasing(record: Json) -> bool:
    return record.get("released") == record.get("target") != 1


def deletes(request: Request) -> bool:
    return request.method == "DELETE" and "/pods/replaced-" in request.path


def creates(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/namespaces/default/pods")


POINTS: list[tuple[str, Callable[[Request], bool], bool, bool]] = [
    # name, the write, killed before it reaches the API server, in CI too
    ("before-naming", writes_record(naming), True, False),
    ("after-naming", writes_record(naming), False, False),
    ("before-a-deletion", deletes, True, False),
    ("after-a-deletion", deletes, False, True),
    ("before-a-creation", creates, True, False),
    ("after-a-creation", creates, False, False),
    ("before-the-release", writes_record(releasing), True, False),
    ("after-the-release", writes_record(releasing), False, False),
]


@pytest.mark.parametrize(
    ("write", "before"), [pytest.param(w, b, id=name) for name, w, b, always in POINTS if LONG or always]
)
def test_killed(held: tuple[Gang, HoldingProxy], write: Callable[[Request], bool], before: bool) -> None:
    gang, proxy = held
    attempt, seen, node = gang.attempt()["released"] + 1, gang.seen(), gang.nodes()[0]
    lost = {rank for rank, where in gang.nodes().items() if where == node}
    gang.moved |= lost
    with tainted(node):
        with proxy.holding(write, before=before) as hold:
            assert hold.reached.wait(60)
            kill_controller()
        recovered(gang, attempt, seen, lost, within_s=120)
        time.sleep(2)
        assert gang.attempt()["target"] == attempt
