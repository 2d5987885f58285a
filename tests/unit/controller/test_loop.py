"""The loop of one gang: what it does when acting fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from fleetctl.clock import SystemClock
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import Executor, NameTaken
from fleetctl.controller.loop import GangLoop
from fleetctl.controller.resources import GangObject
from fleetctl.gang.plan import Notice, Plan
from fleetctl.gang.spec import AttemptRecord, GangSpec, GangStatus, Group
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import Conflict
from fleetctl.kube.objects import ObjectMeta

KEY = ("default", "llm")
TEMPLATE = {"spec": {"containers": [{"name": "t", "image": "i"}]}}


class Stage:
    """A gang that waits for its two pods, and an executor whose every act is `act`."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act = act
        self.acts = 0
        self.notices: list[Notice] = []
        self.leads = True

    def gang(self, _: object) -> GangObject | None:
        status = GangStatus(attempt=AttemptRecord(target=1, writer="me/1"))
        spec = GangSpec(groups=[Group(name="worker", size=2, template=TEMPLATE)])
        return GangObject(metadata=ObjectMeta(namespace="default", name="llm", uid="u"), spec=spec, status=status)

    def pods(self, _: object) -> dict[str, Any]:
        return {}

    async def carry_out(self, plan: Plan, *_: object) -> None:
        self.acts += 1
        self.act(self.acts)

    async def notify(self, _: object, notice: Notice) -> None:
        self.notices.append(notice)

    async def turns(self, count: int) -> list[float | None]:
        loop = GangLoop(
            KEY,
            cast(KubeClient, None),
            cast(Cache, self),
            cast(Executor, self),
            SystemClock(),
            life=lambda _: None,
            writer=lambda: "me/1" if self.leads else None,
        )
        turn: Callable[[], Awaitable[float | None]] = loop._turn
        return [await turn() for _ in range(count)]


def raising(*errors: Exception | None) -> Callable[[int], None]:
    def act(number: int) -> None:
        error = errors[min(number, len(errors)) - 1]
        if error:
            raise error

    return act


async def test_what_keeps_us_from_acting_is_told_once() -> None:
    stage = Stage(raising(NameTaken("Service llm exists"), NameTaken("Service llm exists"), None))
    assert await stage.turns(3) == [5.0, 5.0, 1.0]
    assert [(n.reason, n.message) for n in stage.notices] == [("CannotAct", "Service llm exists")]


async def test_a_conflict_is_nobodys_business() -> None:
    stage = Stage(raising(Conflict("PUT", "changed", status=409)))
    assert await stage.turns(1) == [1.0]
    assert stage.notices == []


async def test_a_mistake_of_ours_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(raising(ZeroDivisionError("oops"), None))
    with caplog.at_level(logging.ERROR):
        assert await stage.turns(2) == [5.0, 1.0]
    assert "oops" in caplog.text


async def test_who_does_not_lead_does_nothing() -> None:
    stage = Stage(raising(None))
    stage.leads = False
    assert await stage.turns(1) == [None]
    assert stage.acts == 0


async def test_cancelling_is_not_a_mistake() -> None:
    stage = Stage(raising(cast(Exception, asyncio.CancelledError())))
    with pytest.raises(asyncio.CancelledError):
        await stage.turns(1)
