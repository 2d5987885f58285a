"""The loop of one gang: what it does when acting fails."""

import asyncio
import logging
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from fleetctl.clock import SystemClock
from fleetctl.controller import loop as module
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import Executor, NameTaken
from fleetctl.controller.loop import AGAIN_AFTER_ERROR_S, AGAIN_AFTER_REFUSAL_S, REFUSED_BEFORE_TOLD_S, GangLoop
from fleetctl.controller.resources import GangObject
from fleetctl.gang.actions import Action, Notice, Ping, Plan, Reset, WriteStatus
from fleetctl.gang.snapshot import Memory, Snapshot
from fleetctl.gang.spec import AttemptRecord, GangSpec, GangStatus, Group
from fleetctl.gang.state import Life, Node, Promise, Zombie
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import Conflict, Refused
from fleetctl.kube.objects import ObjectMeta, Pod, PodSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time, now

KEY = ("default", "llm")
TEMPLATE = {"spec": {"containers": [{"name": "t", "image": "i"}]}}


class Stage:
    """A gang that waits for its two pods, and an executor whose every act is `act`."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act = act
        self.acts = 0
        self.notices: list[Notice] = []
        self.leads = True
        self.exists = True
        self.uid, self.writer = "u", "me/1"
        self.pods_there: dict[str, Pod] = {}
        self.zombies: tuple[Zombie, ...] = ()
        self.acted_at: list[float] = []

    def gang(self, _: object) -> GangObject | None:
        if not self.exists:
            return None
        status = GangStatus(attempt=AttemptRecord(target=1, writer="me/1"))
        spec = GangSpec(groups=[Group(name="worker", size=2, template=TEMPLATE)])
        return GangObject(metadata=ObjectMeta(namespace="default", name="llm", uid=self.uid), spec=spec, status=status)

    def pods(self, _: object) -> dict[str, Pod]:
        return self.pods_there

    async def carry_out(self, plan: Plan, *_: object) -> None:
        self.acts += 1
        self.acted_at.append(asyncio.get_running_loop().time())
        self.act(self.acts)

    async def notify(self, _: object, notice: Notice) -> None:
        self.notices.append(notice)

    def loop(self) -> GangLoop:
        return GangLoop(
            KEY,
            cast(KubeClient, None),
            cast(Cache, self),
            cast(Executor, self),
            SystemClock(),
            life=lambda _: None,
            steps=lambda _: None,
            node=lambda name: Node(name=name),
            zombies=lambda _: self.zombies,
            writer=lambda: self.writer if self.leads else None,
            rng=random.Random(1),
        )

    async def turns(self, count: int) -> list[float | None]:
        turn: Callable[[], Awaitable[float | None]] = self.loop()._turn
        return [await turn() for _ in range(count)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[GangLoop]:
        loop = self.loop()
        task = asyncio.create_task(loop.run())
        try:
            yield loop
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises what ended it, if anything did


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


REFUSED = Refused("POST pods", "exceeded quota: gpus", status=403)
TOLD = "POST pods: exceeded quota: gpus"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What each look at the gang was told to be refused, and when. Looks again at the latest after half a second."""
    looks: list[tuple[float, str]] = []

    def planned(snapshot: Snapshot, memory: Memory) -> Plan:
        looks.append((snapshot.monotonic, snapshot.refused))
        return Plan(wake_in=0.5, memory=memory)

    monkeypatch.setattr(module, "plan", planned)
    return looks


async def poked(loop: GangLoop, for_s: float) -> None:
    """Something about the gang changes all the time."""
    until = now() + for_s
    while now() < until:
        loop.changed()
        await asyncio.sleep(0.05)


@in_virtual_time
async def test_a_refusal_is_told_to_the_planner_when_it_has_lasted(told: list[tuple[float, str]]) -> None:
    stage, started = Stage(raising(REFUSED)), now()
    async with stage.running() as loop:
        await poked(loop, 10)
    early = [refused for at, refused in told if at < started + REFUSED_BEFORE_TOLD_S]
    late = [refused for at, refused in told if at >= started + REFUSED_BEFORE_TOLD_S + 0.1]
    assert len(early) >= 3
    assert set(early) == {""}
    assert len(late) >= 5
    assert set(late) == {TOLD}
    assert [n.message for n in stage.notices] == [TOLD]


@in_virtual_time
async def test_what_is_refused_for_a_moment_only_is_not_told(told: list[tuple[float, str]]) -> None:
    stage = Stage(raising(REFUSED, None))
    async with stage.running() as loop:
        await poked(loop, 10)
    assert {refused for _, refused in told} == {""}


@in_virtual_time
async def test_a_success_ends_the_refusal(told: list[tuple[float, str]]) -> None:
    refusals = [REFUSED] * 5  # one look each second
    stage, started = Stage(raising(*refusals, None, REFUSED)), now()
    async with stage.running() as loop:
        await poked(loop, 20)
    heard = [refused for _, refused in told]
    assert heard[4:8] == [TOLD, TOLD, "", ""]
    again = next(at for at, refused in told[6:] if refused) - told[6][0]
    assert again >= REFUSED_BEFORE_TOLD_S  # it began anew
    assert [n.message for n in stage.notices] == [TOLD, TOLD]
    assert stage.acted_at[6] - started < 6


@in_virtual_time
async def test_what_was_refused_is_not_tried_again_at_every_change(told: list[tuple[float, str]]) -> None:
    stage, started = Stage(raising(REFUSED)), now()
    async with stage.running() as loop:
        await poked(loop, AGAIN_AFTER_ERROR_S - 0.1)
        assert stage.acts == 1
        await poked(loop, 10 - AGAIN_AFTER_ERROR_S + 0.1)
    pauses = [b - a for a, b in zip(stage.acted_at, stage.acted_at[1:], strict=False)]
    assert min(pauses) >= AGAIN_AFTER_ERROR_S
    assert stage.acts >= 8  # though a change ends the wait for the next try
    assert stage.acted_at[0] - started < 0.1


@in_virtual_time
async def test_what_was_refused_is_tried_again_although_nothing_changes(told: list[tuple[float, str]]) -> None:
    stage, started = Stage(raising(REFUSED)), now()
    async with stage.running():
        await asyncio.sleep(3 * (AGAIN_AFTER_REFUSAL_S + AGAIN_AFTER_ERROR_S) + 0.1)
    assert 3 <= stage.acts <= 4
    assert all(at >= started for at in stage.acted_at)


@in_virtual_time
async def test_a_change_is_looked_at_at_once_and_many_together(told: list[tuple[float, str]]) -> None:
    stage = Stage(raising(None))
    async with stage.running() as loop:
        await asyncio.sleep(0.1)
        before = stage.acts
        for _ in range(1000):
            loop.changed()
        await asyncio.sleep(0.1)
        assert stage.acts == before + 1


@in_virtual_time
async def test_after_a_conflict_a_change_is_looked_at_at_once(told: list[tuple[float, str]]) -> None:
    stage = Stage(raising(Conflict("PUT", "changed", status=409)))
    async with stage.running() as loop:
        await poked(loop, AGAIN_AFTER_ERROR_S - 0.1)
    assert stage.acts > 5


@in_virtual_time
async def test_the_loop_ends_with_its_gang() -> None:
    stage = Stage(raising(None))
    task = asyncio.create_task(stage.loop().run())
    await asyncio.sleep(0.1)
    stage.exists = False
    async with asyncio.timeout(10):
        await task


@pytest.mark.parametrize(("uid", "writer", "kept"), [("u", "me/1", True), ("v", "me/1", False), ("u", "me/2", False)])
async def test_what_the_planner_remembers_is_of_one_gang_and_one_term(
    monkeypatch: pytest.MonkeyPatch, uid: str, writer: str, kept: bool
) -> None:
    mine, seen = Memory(waiting={0: (("p", False), 1.0)}), []

    def planned(snapshot: Snapshot, memory: Memory) -> Plan:
        seen.append(memory)
        return Plan(memory=mine)

    monkeypatch.setattr(module, "plan", planned)
    stage = Stage(raising(None))
    turn: Callable[[], Awaitable[float | None]] = stage.loop()._turn
    await turn()
    stage.uid, stage.writer = uid, writer
    await turn()
    assert seen == [Memory(), mine if kept else Memory()]


@in_virtual_time
async def test_the_planner_is_shown_nodes_and_zombies(monkeypatch: pytest.MonkeyPatch) -> None:
    zombie = Zombie(rank=1, life=Life(uid="z", life_id="x", started_at=1, attempt=1))
    seen: list[Snapshot] = []

    def planned(snapshot: Snapshot, _: Memory) -> Plan:
        seen.append(snapshot)
        return Plan()

    monkeypatch.setattr(module, "plan", planned)
    stage = Stage(raising(None))
    stage.zombies = (zombie,)
    stage.pods_there = {"llm-worker-1": Pod(metadata=ObjectMeta(uid="p"), spec=PodSpec(node_name="n1"))}
    await stage.turns(1)
    assert seen[0].zombies == (zombie,)
    assert [m.node for m in seen[0].members] == [None, Node(name="n1")]
    assert seen[0].monotonic == now()


@in_virtual_time
async def test_a_refusal_whose_words_change_is_told_once_and_reaches_the_status(told: list[tuple[float, str]]) -> None:
    refusals = [Refused("POST", f"exceeded quota: used: pods={n}", status=403) for n in range(100)]
    stage = Stage(raising(*refusals))
    async with stage.running() as loop:
        await poked(loop, 30)
    assert len(stage.notices) == 1
    assert any("used: pods=0" in refused for _, refused in told)


@in_virtual_time
async def test_once_the_target_is_raised_or_released_the_next_look_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def written(**record: int) -> Plan:
        return Plan((WriteStatus(GangStatus(attempt=AttemptRecord(writer="me/1", **record))),))

    plans = iter((written(target=2), written(target=1), written(target=1, released=1)))
    monkeypatch.setattr(module, "plan", lambda *_: next(plans, Plan()))
    monkeypatch.setattr(module, "DEBOUNCE_S", 0.2)
    stage = Stage(raising(None))
    async with stage.running() as loop:
        await poked(loop, 1.0)
    raised, told, released, after = stage.acted_at[:4]
    assert told - raised < 0.01
    assert released - told >= 0.2  # a status that says no more than before
    assert after - released < 0.01


@in_virtual_time
async def test_ranks_that_answer_one_after_the_other_are_a_line_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    began = now()

    def planned(snapshot: Snapshot, memory: Memory) -> Plan:
        passed = round(snapshot.monotonic - began, 2)
        action: Action = Reset(("u",), 2) if passed < 1.5 else Ping(("u",), Promise(attempt=2, ticket="t"))
        return Plan((action,), reasons=(f"{type(action).__name__} at {passed}",), memory=memory)

    monkeypatch.setattr(module, "plan", planned)
    with caplog.at_level(logging.INFO):
        async with Stage(raising(None)).running() as loop:
            await poked(loop, 3.0)
    lines = [(kind, float(at)) for kind, _, at in (line.split() for line in caplog.messages)]
    assert [kind for kind, _ in lines] == ["Reset", "Reset", "Ping", "Ping"]
    (_, first), (_, second), (_, third), (_, fourth) = lines
    assert 1.0 <= second - first < 1.2
    assert 1.5 <= third < 1.7  # at once: it is another thing that is done
    assert 1.0 <= fourth - third < 1.2
