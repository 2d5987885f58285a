"""A crash around every write: the run ends as if it had not been, and nothing is made or deleted twice.

For every write of a controller, the controller that sends it is killed right before the API server sees it, and right
after it was committed and before it is answered. Three seconds later it starts again; the standby may be first. For
every file that an agent keeps, the agent is killed right before and right after, and between the two files of a
release; its kubelet starts it again alone, in the same life.

A run with a fault is hit from the fault on: until then it is `start`, which is hit from the beginning. Of many pods
that are created or deleted in a row, the first, one in the middle and the last are hit. Agents are alike: those of
every rank are hit in container-exit, elsewhere the coordinator's and one other; they do not know of a second
controller. All are hit with FLEETCTL_LONG_TESTS=1.

The life id is written before the agent runs, by a container of its own: a death there begins another life.
"""

from collections.abc import Callable
from typing import Literal

import pytest

from fleetctl.scenario.injector import Injector
from fleetctl.sim.containers import LocalPod
from fleetctl.sim.requests import Request
from tests.simulation.reference import (
    LONG,
    RESTART_AFTER_S,
    TEXTS,
    Kept,
    Write,
    assert_same,
    counts,
    kubelet_of,
    reference,
    run,
    run_with_agents,
    sampled,
)

Edge = Literal["before", "between", "after"]
WASTED = 10
"""Writes that may be sent for nothing after a crash: the next controller takes over, makes sure of Services, and tries
again what was under way. After the death of an agent there are none.
"""
SOME_RANKS = frozenset((0, 5))
"""The coordinator's, which node-killed replaces, and one that exit-then-node-killed replaces."""


def cells() -> list[object]:
    return [
        pytest.param(name, write, edge, id=f"{name}-{edge}-write-{write.sent}-{write.kind}")
        for name in (*TEXTS, "node-killed-with-spares")
        for write in sampled([w for w in reference(name).writes if w.at >= reference(name).begins])
        for edge in ("before", "after")
    ]


def agents_cells() -> list[object]:
    return [
        pytest.param(name, kept, edge, id=f"{name}-{edge}-{kept.what}-{kept.number}-of-rank-{kept.rank}")
        for name in TEXTS
        if LONG or name != "two-controllers"
        for kept in reference(name).kept
        if kept.at >= reference(name).begins and (LONG or name == "container-exit" or kept.rank in SOME_RANKS)
        for edge in (("before", "after") if kept.what == "promise" else ("before", "between", "after"))
    ]


@pytest.mark.parametrize(("name", "write", "edge"), cells())
def test_a_controller_may_crash_around_any_write(
    name: str, write: Write, edge: Literal["before", "after"], request: pytest.FixtureRequest
) -> None:
    number = write.sent if edge == "before" else write.committed
    crashed = Nth(number)
    hit = run(name, lambda injector: injector.crash_around_write(edge, crashed, RESTART_AFTER_S))
    assert crashed.found
    assert_same(name, hit, WASTED, request.node.nodeid)


class Nth:
    """Whether it is the write of that number."""

    def __init__(self, number: int) -> None:
        self.found = False
        self._left = number

    def __call__(self, request: Request) -> bool:
        if counts(request):
            self.found = self._left == 0
            self._left -= 1
        return counts(request) and self._left == -1


@pytest.mark.parametrize(("name", "kept", "edge"), agents_cells())
def test_an_agent_may_die_around_any_write(name: str, kept: Kept, edge: Edge, request: pytest.FixtureRequest) -> None:
    killed = []

    def keeps(injector: Injector, pod: LocalPod, what: str, number: int, write: Callable[[], None]) -> None:
        if (pod.rank, number) != (kept.rank, kept.number):
            write()
            return
        if edge == "after":
            write()
        if edge == "between":
            pod.volume.attempt = injector.world.api.get("gangs", *injector.gang)["status"]["attempt"]["target"]
        killed.append(pod)
        injector.last_at = injector.world.now()
        kubelet_of(injector, pod).agent_ended(pod, pod.agent_process, 137)
        raise ConnectionAbortedError("the agent was killed")  # it will not run again: this only ends its step

    hit = run_with_agents(name, keeps)
    assert killed
    assert_same(name, hit, 0, request.node.nodeid)
