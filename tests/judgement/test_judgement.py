"""fleetctl judges as rightly as issue 8 asks for; and whoever judges worse is noticed, in each way to be wrong.

`python -m tests.judgement` tells the same of any number of seeds, in a table.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import pytest

from fleetctl.gang import breaker, diagnose, judgement, plan
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.state import Member, Seconds, Verdict
from tests.judgement.judge import HANG_FOUND_S, RIGHT_AT_LEAST, WRONG_NODE_AT_MOST, Total, judge
from tests.judgement.worlds import world

SEEDS = range(1, 61)
HEARD_TOO_LATE = (107, 109, 122, 157)
"""A program fails, and the abort of a peer is heard of first, or as soon."""
PROGRAM, HANG, UNHEALTHY_FOR_A_MOMENT, RACK_CUT_OFF = 33, 12, 145, 6


@pytest.mark.timeout(600)
def test_sixty_incidents_are_judged_as_rightly_as_was_asked_for() -> None:
    judged = [judge(seed) for seed in SEEDS]
    total, wrong = Total.of(judged), "\n".join(each.told for each in judged if not each.right or each.wrong_node)
    assert total.wrong_node <= WRONG_NODE_AT_MOST, wrong
    assert total.right >= RIGHT_AT_LEAST, wrong
    assert total.hang_p99_s <= HANG_FOUND_S, [each.told for each in judged if each.kind == "hang"]


Change = Callable[[Circumstances, tuple[Verdict, ...]], Iterable[Verdict]]


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Puts another diagnosis in the place of ours."""
    honest = judgement.diagnose

    def instead(change: Change) -> None:
        def changed(
            members: Sequence[Member], gang: Circumstances, missing_s: Mapping[int, Seconds] | None = None
        ) -> tuple[Verdict, ...]:
            return tuple(change(gang, honest(members, gang, missing_s)))

        monkeypatch.setattr(judgement, "diagnose", changed)

    return instead


def test_who_blames_the_rank_that_reports_first_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[int, int] = {}

    def by_arrival(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
        return tuple(sorted(verdicts, key=lambda verdict: heard.setdefault(verdict.rank, len(heard))))

    monkeypatch.setattr(diagnose, "likeliest_first", by_arrival)
    monkeypatch.setattr(plan, "likeliest_first", by_arrival)
    for seed in HEARD_TOO_LATE:
        heard.clear()
        judged = judge(seed)
        assert not judged.right, judged.told
        assert not judged.wrong_node


def test_who_blames_a_rank_that_lost_its_peers_to_the_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(RACK_CUT_OFF).right
    monkeypatch.setattr(judgement, "cut_off", lambda *_: None)
    assert not judge(RACK_CUT_OFF).right


def test_who_blames_machines_for_programs_is_noticed(judging: Callable[[Change], None]) -> None:
    def severe(_: Circumstances, found: tuple[Verdict, ...]) -> Iterable[Verdict]:
        for verdict in found:
            node = f"node-{verdict.rank}"
            yield replace(verdict, scope="Node", node=node) if verdict.scope == "Container" else verdict

    judging(severe)
    assert judge(PROGRAM).wrong_node


def test_who_takes_pods_from_healthy_nodes_is_noticed(judging: Callable[[Change], None]) -> None:
    def thorough(_: Circumstances, found: tuple[Verdict, ...]) -> Iterable[Verdict]:
        return [replace(verdict, rung="RecreatePod") for verdict in found]

    judging(thorough)
    judged = judge(PROGRAM)
    assert judged.wrong_node, judged.told
    assert "takes rank" in judged.told


def test_who_sees_no_hang_is_noticed(judging: Callable[[Change], None]) -> None:
    judging(lambda _, found: (verdict for verdict in found if verdict.rule != "hang"))
    judged = judge(HANG)
    assert (judged.right, judged.why, judged.detect_s) == (False, ("no answer",), None)
    assert Total.of([judged]).hang_p99_s > HANG_FOUND_S


def test_who_believes_at_once_what_is_taken_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "HEED_S", 0.0)
    assert judge(UNHEALTHY_FOR_A_MOMENT).wrong_node


def test_a_seed_is_one_world_and_noise_changes_nothing_of_the_incident() -> None:
    for seed in SEEDS:
        assert world(seed) == world(seed)
        (calm, truth), (noisy, with_noise) = world(seed), world(seed, "stress")
        assert msgspec.structs.replace(calm, timeline=()) == msgspec.structs.replace(noisy, timeline=())
        assert set(map(repr, calm.timeline[:1])) <= set(map(repr, noisy.timeline))
        assert (truth.kind, truth.rank, truth.after) == (with_noise.kind, with_noise.rank, with_noise.after)
