"""The proof that a node's Lease stands still while others move."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from fleetctl.controller.witness import READS_A_LOOK, LeaseWitness
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError, Forbidden, NotFound, Throttled, Unavailable
from fleetctl.kube.objects import LEASES, Lease, LeaseSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time, now

DEAD_AFTER_S = 20.0
NO_LEASE = NotFound("GET", "leases not found", status=404, reason="NotFound")
LOAD_BALANCERS_PAGE = NotFound("GET", "HTTP 404 with 90 bytes of text/html", status=404)
AWAY = Unavailable("GET", "no connection", unsent=True)


class Cluster:
    """Kubelets that renew their Leases every ten seconds, an API server, and a witness that looks at both.

    The kubelet of a node renews at `phase`, `phase` + 10 … seconds after the start, but not while it is in `dead`.
    """

    def __init__(self, *, silent: tuple[str, ...] = ("bad",), **kubelets: float) -> None:
        self.started = now()
        self.phases = kubelets
        self.dead: dict[str, str] = {}
        self.watched = set(silent)
        self.references = [node for node in kubelets if node not in silent]
        self.progress: dict[str, float] = {}
        self.error: ApiError | None = None
        self.errors: dict[str, ApiError] = {}
        self.takes_s = 0.0
        self.reads: list[tuple[float, str]] = []
        self.under_way = 0
        self.most_at_once = 0
        self.told: list[tuple[float, str]] = []
        self.witness = LeaseWitness(
            cast(KubeClient, self),
            watched=lambda: self.watched,
            references=lambda: self.references,
            progressed_at=lambda node: self.progress.get(node, 0.0),
            changed=lambda node: self.told.append((self.now, node)),
        )

    @asynccontextmanager
    async def looked_at(self) -> AsyncIterator["Cluster"]:
        task = asyncio.create_task(self.witness.run())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises what ended it, if anything did

    @property
    def now(self) -> float:
        return now() - self.started

    def dies(self, *nodes: str) -> None:
        """Their Leases stay as they are."""
        self.dead |= {node: self.renew_time(node) for node in nodes}

    def lives(self, *nodes: str) -> None:
        for node in nodes:
            del self.dead[node]

    def renew_time(self, node: str) -> str:
        return self.dead.get(node) or f"renewal {(self.now - self.phases[node]) // 10:.0f}"

    async def get(self, resource: object, namespace: str | None, name: str, *, timeout: float) -> Lease:
        assert (resource, namespace) == (LEASES, "kube-node-lease")
        self.reads.append((self.now, name))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self.takes_s)
        except TimeoutError:
            raise Unavailable("GET", "no answer") from None
        finally:
            self.under_way -= 1
        if error := self.error or self.errors.get(name):
            raise error.with_traceback(None)
        return Lease(spec=LeaseSpec(renew_time=self.renew_time(name)))

    def still_s(self, node: str = "bad") -> float:
        return self.witness.still_s(node)

    async def proven_after(self, seconds: float, node: str = "bad") -> float | None:
        """How many seconds from the start it took to prove the node dead, None if that is later than `seconds`."""
        while self.now < seconds:
            if self.still_s(node) >= DEAD_AFTER_S:
                return self.now
            await asyncio.sleep(0.25)
        return None

    async def most_still_s(self, seconds: float, node: str = "bad") -> float:
        """The best proof there was until that many seconds from the start."""
        most = 0.0
        while self.now < seconds:
            most = max(most, self.still_s(node))
            await asyncio.sleep(0.25)
        return most

    async def until(self, seconds: float) -> None:
        await asyncio.sleep(self.started + seconds + 0.01 - now())


@asynccontextmanager
async def dead_node(**kubelets: float) -> AsyncIterator[Cluster]:
    """A cluster whose node "bad" has just died."""
    cluster = Cluster(**{"bad": 9.0, "one": 1.0, "two": 6.0} | kubelets)
    cluster.dies("bad")
    async with cluster.looked_at():
        yield cluster


@in_virtual_time
async def test_a_lease_that_stands_still_while_others_move_is_proof_after_twenty_seconds() -> None:
    async with dead_node() as cluster:
        proven = await cluster.proven_after(30)
        assert proven is not None
        assert 20 <= proven <= 22.5


@in_virtual_time
async def test_one_other_node_is_enough() -> None:
    for phase in (0.1, 1.9, 5.0, 9.9):
        cluster = Cluster(bad=9.0, one=phase)
        cluster.dies("bad")
        async with cluster.looked_at():
            proven = await cluster.proven_after(30)
        assert proven is not None
        assert 20 <= proven <= 24


@in_virtual_time
async def test_the_proof_grows_as_long_as_others_move() -> None:
    async with dead_node() as cluster:
        await cluster.until(120)
        assert 110 <= cluster.still_s() <= 120


@in_virtual_time
async def test_the_proof_ends_ten_seconds_after_the_others_stopped() -> None:
    async with dead_node() as cluster:
        await cluster.until(3)
        cluster.dies("one", "two")
        assert 8 <= await cluster.most_still_s(200) <= 11


@in_virtual_time
async def test_others_that_never_moved_prove_nothing() -> None:
    cluster = Cluster(bad=1.0, one=1.0, two=1.0)
    cluster.dies("bad", "one", "two")
    async with cluster.looked_at():
        assert await cluster.most_still_s(200) == 0.0


@pytest.mark.parametrize("away_s", [20, 60])
@in_virtual_time
async def test_kubelets_that_could_not_renew_have_twenty_seconds_from_when_the_first_one_can(away_s: int) -> None:
    async with dead_node() as cluster:
        await cluster.until(5)
        cluster.dies("one", "two")
        await cluster.until(5 + away_s)
        cluster.lives("one", "two")
        proven = await cluster.proven_after(120)
        assert proven is not None
        assert proven >= 5 + away_s + DEAD_AFTER_S


@in_virtual_time
async def test_an_api_server_that_was_away_proves_nothing_by_coming_back() -> None:
    async with dead_node() as cluster:
        await cluster.until(5)
        cluster.error = AWAY
        assert await cluster.most_still_s(65) <= 5
        cluster.error = None
        proven = await cluster.proven_after(120)
        assert proven is not None
        assert proven >= 65 + DEAD_AFTER_S


@in_virtual_time
async def test_a_movement_counts_from_the_read_before_it() -> None:
    async with dead_node() as cluster:
        await cluster.until(5)
        cluster.dies("two")  # at 1 and at 11 "one" moves, at 11 for the last time
        await cluster.until(8)
        cluster.error = AWAY
        await cluster.until(15)
        cluster.dies("one")
        cluster.error = None
        assert await cluster.most_still_s(100) == pytest.approx(8 + 10)


@in_virtual_time
async def test_a_movement_that_was_noticed_late_does_not_shorten_a_lull() -> None:
    cluster = Cluster(bad=9.0, one=1.0)
    cluster.dies("bad")
    async with cluster.looked_at():
        await cluster.until(5)
        cluster.error = AWAY
        await cluster.until(13)
        cluster.error = None  # at 14 a movement is seen that may have been at 4
        await cluster.until(15)
        cluster.dies("one")
        await cluster.until(27)
        cluster.lives("one")
        proven = await cluster.proven_after(80)
        assert proven is not None
        assert proven >= 28 + DEAD_AFTER_S


@pytest.mark.parametrize("error", [AWAY, Forbidden("GET", "a role is missing", status=403), Throttled("GET", "busy")])
@in_virtual_time
async def test_a_lease_that_cannot_be_read_proves_nothing(error: ApiError) -> None:
    async with dead_node() as cluster:
        await cluster.until(6)
        cluster.errors["bad"] = error
        before = cluster.still_s()
        assert before > 0
        assert await cluster.most_still_s(100) == before


@in_virtual_time
async def test_one_failed_read_takes_nothing_away() -> None:
    async with dead_node() as cluster:
        await cluster.until(9)
        cluster.errors["bad"] = AWAY
        await cluster.until(11)
        cluster.errors.clear()
        proven = await cluster.proven_after(30)
        assert proven is not None
        assert proven <= 22.5


@in_virtual_time
async def test_a_lease_that_moves_after_all_starts_anew() -> None:
    async with dead_node() as cluster:
        await cluster.until(19)
        cluster.dead["bad"] = "late, but there"
        await cluster.until(20)
        assert cluster.still_s() == 0.0
        proven = await cluster.proven_after(60)
        assert proven is not None
        assert 40 <= proven <= 43


@in_virtual_time
async def test_progress_of_the_gang_starts_anew() -> None:
    async with dead_node() as cluster:
        await cluster.until(19)
        cluster.progress["bad"] = cluster.started + 15
        assert cluster.still_s() <= 4
        proven = await cluster.proven_after(60)
        assert proven is not None
        assert 35 <= proven <= 38


@in_virtual_time
async def test_nothing_is_read_while_nothing_is_silent() -> None:
    cluster = Cluster(silent=(), one=1.0, two=2.0)
    async with cluster.looked_at():
        await cluster.until(60)
        assert cluster.reads == []
        cluster.watched = {"one"}
        await cluster.until(70)
        cluster.watched = set()
        await cluster.until(73)
        before = list(cluster.reads)
        assert before
        await cluster.until(100)
        assert cluster.reads == before


@in_virtual_time
async def test_only_silent_nodes_and_the_first_two_others_are_read() -> None:
    cluster = Cluster(silent=("bad",), bad=0.0, one=1.0, two=2.0, three=3.0)
    cluster.references = ["bad", "three", "one", "two"]
    async with cluster.looked_at():
        await cluster.until(30)
        assert {node for _, node in cluster.reads} == {"bad", "three", "one"}


@in_virtual_time
async def test_no_more_references_are_thought_of_than_are_read() -> None:
    def names() -> Iterator[str]:
        yield from ("bad", "one", "two")
        raise AssertionError("two are enough")

    cluster = Cluster(silent=("bad",), bad=0.0, one=1.0, two=2.0)
    cluster.references = cast(Any, names())
    async with cluster.looked_at():
        await cluster.until(1)
        assert len(cluster.reads) == 3


@in_virtual_time
async def test_silent_nodes_are_read_every_two_seconds() -> None:
    async with dead_node() as cluster:
        await cluster.until(10)
        assert [at for at, node in cluster.reads if node == "bad"] == pytest.approx([0, 2, 4, 6, 8, 10])


@in_virtual_time
async def test_a_node_without_others_is_never_proven_dead() -> None:
    cluster = Cluster(silent=("bad",), bad=5.0)
    async with cluster.looked_at():
        await cluster.until(6)  # its own last movement does not speak against it either
        cluster.dies("bad")
        assert await cluster.most_still_s(200) == 0.0


@in_virtual_time
async def test_two_dead_nodes_prove_nothing_about_each_other() -> None:
    cluster = Cluster(silent=("bad", "worse"), bad=1.0, worse=1.0)
    cluster.dies("bad", "worse")
    async with cluster.looked_at():
        assert await cluster.most_still_s(200) == 0.0
        assert await cluster.most_still_s(400, "worse") == 0.0


@in_virtual_time
async def test_a_third_that_moves_proves_both_dead() -> None:
    cluster = Cluster(silent=("bad", "worse"), bad=1.0, worse=1.0, one=1.0)
    cluster.dies("bad", "worse")
    async with cluster.looked_at():
        assert await cluster.proven_after(23, "bad") is not None
        assert await cluster.proven_after(23, "worse") is not None


@in_virtual_time
async def test_a_silent_node_whose_lease_moves_is_a_witness_too() -> None:
    cluster = Cluster(silent=("bad", "quiet"), bad=1.0, quiet=3.0)
    cluster.dies("bad")
    async with cluster.looked_at():
        assert await cluster.proven_after(24, "bad") is not None
        assert await cluster.most_still_s(60, "quiet") == 0.0


@in_virtual_time
async def test_the_latest_mover_does_not_hide_that_another_moved_before() -> None:
    async with dead_node() as cluster:
        await cluster.until(17)  # "two" was seen to move at 16
        cluster.dead["bad"] = "late, but there"
        await cluster.until(18)
        cluster.dies("one", "two")
        assert await cluster.most_still_s(60) == pytest.approx(14 + 10 - 18)


@in_virtual_time
async def test_somebody_who_falls_silent_need_not_wait_for_the_next_look() -> None:
    cluster = Cluster(silent=(), bad=1.0, one=2.0)
    async with cluster.looked_at():
        await cluster.until(1)
        cluster.watched = {"bad"}
        assert not cluster.witness.is_watched("bad")
        cluster.witness.look_now()
        await cluster.until(1.1)
        assert cluster.witness.is_watched("bad")
        assert cluster.reads == [(pytest.approx(1.01), "one"), (pytest.approx(1.01), "bad")]


@in_virtual_time
async def test_there_are_no_more_than_two_looks_a_second() -> None:
    async with dead_node() as cluster:
        while cluster.now < 2.2:
            cluster.witness.look_now()
            await asyncio.sleep(0.01)
        assert [at for at, node in cluster.reads if node == "bad"] == pytest.approx([0, 0.5, 1, 1.5, 2])


@in_virtual_time
async def test_after_an_early_look_the_next_one_is_in_its_time() -> None:
    async with dead_node() as cluster:
        await cluster.until(1)
        cluster.witness.look_now()
        await cluster.until(6)
        assert [at for at, node in cluster.reads if node == "bad"] == pytest.approx([0, 1.01, 3.01, 5.01])


@in_virtual_time
async def test_a_request_during_a_look_is_not_forgotten() -> None:
    async with dead_node() as cluster:
        cluster.takes_s = 0.2
        await cluster.until(2.1)
        cluster.witness.look_now()
        await cluster.until(2.6)
        assert [at for at, node in cluster.reads if node == "bad"] == pytest.approx([0, 2, 2.5])


@in_virtual_time
async def test_a_lease_that_is_deleted_has_changed_once() -> None:
    async with dead_node() as cluster:
        await cluster.until(9)
        cluster.errors["bad"] = NO_LEASE
        await cluster.until(10)
        assert cluster.still_s() == 0.0
        proven = await cluster.proven_after(60)
        assert proven is not None
        assert 30 <= proven <= 33


@in_virtual_time
async def test_leases_that_are_deleted_are_no_sign_of_life_of_others() -> None:
    cluster = Cluster(bad=1.0, one=1.0, two=1.0)
    cluster.dies("bad", "one", "two")
    async with cluster.looked_at():
        await cluster.until(7)
        cluster.errors["one"] = NO_LEASE
        await cluster.until(15)
        cluster.errors["two"] = NO_LEASE
        assert await cluster.most_still_s(60) == 0.0


@in_virtual_time
async def test_a_load_balancers_404_is_no_answer() -> None:
    async with dead_node() as cluster:
        await cluster.until(9)
        cluster.errors["bad"] = LOAD_BALANCERS_PAGE
        assert await cluster.most_still_s(100) <= 9
        cluster.errors.clear()
        await cluster.until(103)
        assert cluster.still_s() >= DEAD_AFTER_S


@in_virtual_time
async def test_every_silent_node_is_told_of_after_each_look_and_once_when_it_speaks_again() -> None:
    async with dead_node() as cluster:
        await cluster.until(3)
        cluster.watched = set()
        await cluster.until(20)
        assert cluster.told == [(pytest.approx(at), "bad") for at in (0, 2, 4)]


@in_virtual_time
async def test_who_is_told_of_a_look_sees_what_it_found() -> None:
    async with dead_node() as cluster:
        seen: list[tuple[bool, float]] = []
        cluster.witness._changed = lambda node: seen.append((cluster.witness.is_watched(node), cluster.still_s(node)))
        await cluster.until(4)
        cluster.watched = set()
        await cluster.until(8)
        assert seen == [(True, 0.0), (True, pytest.approx(2.0)), (True, pytest.approx(4.0)), (False, 0.0)]


@in_virtual_time
async def test_a_node_that_spoke_again_is_forgotten() -> None:
    async with dead_node() as cluster:
        await cluster.until(15)
        cluster.watched = set()
        await cluster.until(17)
        assert not cluster.witness.is_watched("bad")
        assert cluster.still_s() == 0.0
        cluster.watched = {"bad"}
        proven = await cluster.proven_after(60)
        assert proven is not None
        assert proven >= 17 + DEAD_AFTER_S


@in_virtual_time
async def test_a_forgotten_node_is_forgotten_while_others_are_watched() -> None:
    cluster = Cluster(silent=("bad", "worse"), bad=1.0, worse=1.0, one=1.0)
    cluster.dies("bad", "worse")
    async with cluster.looked_at():
        await cluster.until(15)
        cluster.watched = {"worse"}
        cluster.references = ["bad", "one"]
        await cluster.until(17)
        assert (cluster.still_s(), cluster.witness.is_watched("bad")) == (0.0, False)
        cluster.watched = {"bad", "worse"}
        await cluster.until(21)
        assert cluster.still_s("bad") <= 4
        assert cluster.still_s("worse") >= DEAD_AFTER_S


@in_virtual_time
async def test_what_moved_while_nobody_looked_proves_nothing() -> None:
    async with dead_node() as cluster:
        await cluster.until(5)
        cluster.watched = set()
        await cluster.until(59)
        cluster.dies("one", "two")
        cluster.watched = {"bad"}
        assert await cluster.most_still_s(100) == 0.0


@in_virtual_time
async def test_a_watch_that_begins_late_takes_no_longer() -> None:
    async with dead_node() as cluster:
        cluster.watched = set()
        await cluster.until(101)
        cluster.watched = {"bad"}
        proven = await cluster.proven_after(140)
        assert proven is not None
        assert 122 <= proven <= 125


@in_virtual_time
async def test_a_reference_that_falls_silent_is_replaced_and_begins_anew() -> None:
    async with dead_node(three=3.0) as cluster:
        await cluster.until(15)
        cluster.dies("one")
        cluster.watched = {"bad", "one"}
        assert cluster.still_s("one") == 0.0
        await cluster.until(17)
        assert {node for at, node in cluster.reads if at > 15} == {"bad", "one", "two", "three"}
        proven = await cluster.proven_after(60, "one")
        assert proven is not None
        assert proven >= 16 + DEAD_AFTER_S


@in_virtual_time
async def test_a_slow_answer_proves_the_time_before_its_question_and_after_the_first_answer() -> None:
    cluster = Cluster(bad=9.0, one=1.0, two=6.0)
    cluster.dies("bad")
    cluster.takes_s = 1.0
    async with cluster.looked_at():
        await cluster.until(21.5)  # the first answer came at 1, the last one was asked for at 20
        assert cluster.still_s() == pytest.approx(19)


@in_virtual_time
async def test_looks_do_not_overlap_and_do_not_take_long() -> None:
    async with dead_node() as cluster:
        cluster.takes_s = 1000
        await cluster.until(30)
        times = [at for at, node in cluster.reads if node == "bad"]
        assert times == pytest.approx(list(range(0, 31, 3)))
        assert cluster.most_at_once == 3


@in_virtual_time
async def test_at_most_twenty_reads_are_under_way() -> None:
    many = tuple(f"n{i}" for i in range(50))
    cluster = Cluster(silent=many, **dict.fromkeys(many, 1.0), one=1.0)
    cluster.takes_s = 0.1
    async with cluster.looked_at():
        await cluster.until(1)
        assert cluster.most_at_once == 20
        assert len(cluster.reads) == 51


@in_virtual_time
async def test_of_very_many_silent_nodes_some_wait_for_the_next_look() -> None:
    many = tuple(f"n{i}" for i in range(250))
    cluster = Cluster(silent=many, **dict.fromkeys(many, 1.0), one=1.0)
    async with cluster.looked_at():
        await cluster.until(1)
        assert len(cluster.reads) == READS_A_LOOK + 1
        await cluster.until(5)
        assert {node for _, node in cluster.reads} == {*many, "one"}


@in_virtual_time
async def test_where_a_look_cannot_reach_every_node_the_next_one_begins_with_the_rest() -> None:
    many = tuple(f"n{i}" for i in range(100))
    cluster = Cluster(silent=many, **dict.fromkeys(many, 1.0), one=1.0, two=6.0)
    cluster.dies(*many)
    cluster.takes_s = 0.9
    async with cluster.looked_at():
        await cluster.until(5.9)
        assert {node for _, node in cluster.reads} == {*many, "one", "two"}
        for reference in ("one", "two"):
            assert [at for at, node in cluster.reads if node == reference] == pytest.approx([0, 3])
        await cluster.until(40)
        assert all(cluster.still_s(node) >= DEAD_AFTER_S for node in many)
