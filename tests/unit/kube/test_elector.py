"""At most one leader, by a Lease."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetctl.kube.client import KubeClient
from fleetctl.kube.elector import LeaseElector

from .conftest import Longest
from .fake_api import FakeApi, LeaseOnServer


class LoopClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 21, 6, 13, 47, 123456, UTC) + timedelta(seconds=round(now()))


class Candidates:
    """Electors by name, each with the story of its leadership: (loop time, leads or not)."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.electors: dict[str, LeaseElector] = {}
        self.stories: dict[str, list[tuple[float, bool]]] = {}
        self.calls = Counter[str]()

    def enter(self, name: str, address: str = "") -> LeaseElector:
        story = self.stories[name] = []

        def note() -> None:
            self.calls[name] += 1
            if (story[-1][1] if story else False) != elector.leading:
                story.append((now(), elector.leading))

        elector = self.electors[name] = LeaseElector(
            self._client, "fleet", "controller", name, LoopClock(), address=address, changed=note, rng=Longest()
        )
        self._tasks[name] = asyncio.create_task(elector.run())
        return elector

    async def stop(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop_all(self) -> None:
        for name in list(self._tasks):
            await self.stop(name)

    def leaders(self) -> list[str]:
        return [name for name, elector in self.electors.items() if elector.leading]


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def lease(api: FakeApi) -> LeaseOnServer:
    return LeaseOnServer(api)


@pytest.fixture
async def candidates(client: KubeClient, lease: LeaseOnServer) -> AsyncIterator[Candidates]:
    candidates = Candidates(client)
    yield candidates
    lease.frozen = False
    await candidates.stop_all()


async def test_the_first_candidate_creates_the_lease_and_leads(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a")
    assert not a.leading
    await asyncio.sleep(0.1)
    assert (a.leading, a.holder, a.transitions) == (True, "a", 0)
    assert lease.spec == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-11-21T06:13:47.123456Z",
        "renewTime": "2026-11-21T06:13:47.123456Z",
    }


async def test_a_leader_renews_every_two_seconds_and_keeps_its_term(api: FakeApi, lease, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(61)
    assert (a.leading, a.transitions) == (True, 0)
    renewals = api.pauses(f"PUT {lease.path}/controller")
    assert renewals == pytest.approx([2.0] * 29)


async def test_a_second_candidate_waits_as_long_as_the_first_renews(lease: LeaseOnServer, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(1)
    b = candidates.enter("b")
    await asyncio.sleep(300)
    assert candidates.leaders() == ["a"]
    assert (b.leading, b.holder) == (False, "a")


async def test_who_waits_knows_where_the_leader_is_reached(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a", "10.0.0.1:8443")
    await asyncio.sleep(1)
    b = candidates.enter("b", "10.0.0.2:8443")
    await asyncio.sleep(1)
    assert b.holders_address == "10.0.0.1:8443"
    await candidates.stop("a")
    await asyncio.sleep(10)
    assert (b.leading, b.holders_address, a.holders_address) == (True, "10.0.0.2:8443", "")


async def test_terms_go_on_from_a_number_that_others_have_seen(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(1)
    a.count_from(7)
    await asyncio.sleep(2)
    assert (a.leading, a.transitions, lease.spec["leaseTransitions"]) == (True, 7, 7)
    await asyncio.sleep(4)
    assert a.transitions == 7
    await candidates.stop("a")
    b = candidates.enter("b")
    await asyncio.sleep(10)
    assert (b.leading, b.transitions) == (True, 8)


async def test_a_leader_that_hangs_stops_before_anybody_else_may_start(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(10.5)
    last_renewal, lease.frozen = 10.0, True
    await asyncio.sleep(9.4)
    assert a.leading
    await asyncio.sleep(0.2)
    assert not a.leading
    assert candidates.stories["a"][-1] == (pytest.approx(last_renewal + 10, abs=0.05), False)


async def test_for_five_seconds_after_it_stopped_nobody_else_can_lead(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a")
    b = candidates.enter("b")
    await asyncio.sleep(10.5)
    last_renewal, lease.frozen = 10.0, True
    assert (a.lapsed, b.lapsed) == (False, False)
    await asyncio.sleep(last_renewal + 10.1 - now())
    assert (a.leading, a.lapsed, b.lapsed) == (False, True, False)
    told = candidates.calls["a"]
    await asyncio.sleep(last_renewal + 14.9 - now())
    assert (a.lapsed, b.leading) == (True, False)
    await asyncio.sleep(last_renewal + 15.1 - now())
    assert not a.lapsed
    assert candidates.calls["a"] == told + 1


async def test_who_let_go_has_not_lapsed(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(1)
    lease.frozen = True
    await candidates.stop("a")
    assert (a.leading, a.holder, a.lapsed) == (False, "a", False)


async def test_leadership_ends_by_the_clock_even_if_nobody_asks_the_elector_to_run(lease, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(0.1)
    loop: Any = asyncio.get_running_loop()
    loop.jump(9.8)
    assert a.leading
    loop.jump(0.2)
    assert not a.leading


async def test_a_slow_renewal_counts_from_when_it_was_sent(api: FakeApi, lease, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(1)
    fast = lease._replace

    async def slow(request: Any) -> Any:
        await asyncio.sleep(4.9)
        return await fast(request)

    api.says(f"PUT {lease.path}/controller", slow)
    await asyncio.sleep(1 + 4.95)
    lease.frozen = True
    assert len(api.asked(f"PUT {lease.path}/controller")) == 1
    await asyncio.sleep(12.1 - now())
    assert not a.leading


async def test_a_leader_that_lost_the_server_leads_again_when_it_is_back(lease, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(5)
    lease.frozen = True
    await asyncio.sleep(60)
    assert not a.leading
    lease.frozen = False
    await asyncio.sleep(10)
    assert (a.leading, a.transitions) == (True, 0)


async def test_another_takes_over_fifteen_seconds_after_the_last_change_and_counts_a_term(lease, candidates):
    lease.write(holderIdentity="dead", leaseDurationSeconds=15, leaseTransitions=6, renewTime="2099-01-01T00:00:00Z")
    b = candidates.enter("b")
    await asyncio.sleep(14.9)
    assert not b.leading
    await asyncio.sleep(4.5)
    assert (b.leading, b.transitions, lease.spec["leaseTransitions"]) == (True, 7, 7)


async def test_two_candidates_for_a_dead_leaders_lease_make_one_leader(lease, candidates: Candidates):
    lease.write(holderIdentity="dead", leaseDurationSeconds=15)
    candidates.enter("b")
    candidates.enter("c")
    for _ in range(400):
        await asyncio.sleep(0.1)
        assert len(candidates.leaders()) <= 1
    assert len(candidates.leaders()) == 1
    assert lease.spec["leaseTransitions"] == 1


async def test_a_leader_that_sees_another_holder_stops_at_once(lease: LeaseOnServer, candidates: Candidates):
    a = candidates.enter("a")
    await asyncio.sleep(5)
    lease.write(holderIdentity="usurper", leaseDurationSeconds=15, leaseTransitions=1)
    await asyncio.sleep(2.1)
    assert (a.leading, a.holder, a.transitions) == (False, "usurper", 1)


async def test_a_stopped_leader_releases_and_the_next_one_starts_without_waiting(lease, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(1)
    b = candidates.enter("b")
    await asyncio.sleep(1)
    await candidates.stop("a")
    assert lease.holder == ""
    assert candidates.leaders() == []
    await asyncio.sleep(4.5)
    assert (b.leading, b.transitions) == (True, 1)


async def test_a_leader_lets_go_with_one_request(api: FakeApi, lease, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(5)
    before = len(api.seen)
    await candidates.stop("a")
    assert lease.holder == ""
    assert [seen.line for seen in api.seen[before:]] == [f"PUT {lease.path}/controller"]


async def test_a_leader_lets_go_of_a_lease_that_somebody_touched(lease: LeaseOnServer, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(5)
    lease.write(**lease.spec)
    await candidates.stop("a")
    assert lease.holder == ""


async def test_a_leader_that_was_robbed_without_knowing_lets_the_robber_be(lease, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(5)
    lease.write(holderIdentity="usurper", leaseDurationSeconds=15, leaseTransitions=1)
    await candidates.stop("a")
    assert lease.holder == "usurper"


@pytest.mark.parametrize("later", [0.0, 0.7, 1.4, 2.1, 2.8, 3.5, 4.2])
async def test_a_stopped_leader_is_followed_within_two_seconds(lease, candidates: Candidates, later: float):
    candidates.enter("a")
    await asyncio.sleep(1)
    b = candidates.enter("b")
    await asyncio.sleep(30 + later)
    await candidates.stop("a")
    await asyncio.sleep(2)
    assert (b.leading, b.transitions) == (True, 1)


@pytest.mark.parametrize("later", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
async def test_a_killed_leader_is_followed_within_seventeen_seconds(lease, candidates: Candidates, later: float):
    """Wherever its last renewal falls between two looks of the other."""
    for second in range(10, 30, 2):
        lease.write(holderIdentity="a", leaseDurationSeconds=15, renewTime=f"2026-11-21T06:14:{second}.000000Z")
        if second == 10:
            candidates.enter("b")
        await asyncio.sleep(2)
    await asyncio.sleep(later)
    lease.write(holderIdentity="a", leaseDurationSeconds=15, renewTime="2026-11-21T06:15:00.000000Z")
    await asyncio.sleep(14.9)
    assert candidates.leaders() == []
    await asyncio.sleep(2.0)
    assert candidates.leaders() == ["b"]


async def test_a_stopped_candidate_leaves_the_lease_alone(lease: LeaseOnServer, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(1)
    candidates.enter("b")
    await asyncio.sleep(1)
    await candidates.stop("b")
    assert lease.holder == "a"


async def test_stopping_does_not_wait_for_a_server_that_hangs(lease: LeaseOnServer, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(5)
    lease.frozen = True
    began = now()
    await candidates.stop("a")
    assert now() - began <= 2.1


async def test_a_deleted_lease_does_not_let_a_second_leader_in(lease: LeaseOnServer, candidates: Candidates):
    candidates.enter("a")
    await asyncio.sleep(1)
    candidates.enter("b")
    await asyncio.sleep(1)
    lease.stored = None
    await asyncio.sleep(20)
    assert (lease.holder, candidates.leaders()) == ("a", ["a"])


@pytest.mark.parametrize("seconds", [(10, 10.0, 2.0), (15, 2.0, 2.0)])
def test_deadlines_that_could_make_two_leaders_are_refused(seconds):
    duration, renew_for, retry = seconds
    client: Any = None
    with pytest.raises(ValueError, match="duration > renew_for"):
        LeaseElector(client, "x", "y", "z", LoopClock(), duration=duration, renew_for=renew_for, retry=retry)
