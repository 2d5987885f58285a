"""What becomes of a controller's write when the real API server goes away in the middle of it."""

import random

import msgspec
import pytest

from fleetctl.apiserver.door import RealDoor
from fleetctl.apiserver.upstream import Unreachable
from fleetctl.sim.answers import Answer
from fleetctl.sim.journal import Journal
from fleetctl.sim.processes import Process
from fleetctl.sim.requests import Request, parse
from fleetctl.sim.troubles import Lost

from .test_replica import POD, PODS, Here


class Controller:
    name = "controller-0"
    process = Process("a", "control-plane")
    actor = "controller/a"


@pytest.mark.parametrize("happened", [True, False])
async def test_a_creation_without_an_answer_is_looked_for(happened: bool) -> None:
    here = Here()
    door = RealDoor(here.replica, Journal(), lambda: 0.0, random.Random(1))
    door.programs = {"token": Controller()}

    async def ask(actor: str, method: str, path: str, query: object, content_type: str, body: bytes) -> Answer:
        if happened:
            here.upstream.server.handle(actor, method, path, {}, content_type, body)
        raise Unreachable

    here.upstream.ask = ask  # type: ignore[attr-defined]
    request: Request = parse("controller/a", "POST", PODS, {}, "application/json", msgspec.json.encode(POD))
    assert await door.serve(request, lambda: True) == Lost("closed")
    await here.replica.settled()
    assert (here.replica.get("pods", "default", "p") is not None) == happened
    assert [(w.actor, w.verb) for w in here.told] == [("controller/a", "create")] * happened
