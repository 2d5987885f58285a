"""Hangs: nobody makes a step, and who is behind."""

from dataclasses import replace

import pytest
from evidence import calm, ended, gathering, life, member, only, steps, trains, verdicts

from fleetctl.gang.diagnose.progress import stragglers
from fleetctl.gang.spec import Progress
from fleetctl.gang.state import Node, Steps

LAGS = {0: 9, 1: 8, 2: 9, 3: 9}
STILL = calm(steps=steps(LAGS, at=100), monotonic=160.0)
FOUR = trains(0, 1, 2, 3)
MEAN_S = 30.0


def test_who_lags_behind_hangs() -> None:
    verdict = only(FOUR, STILL)
    assert (verdict.scope, verdict.rule, verdict.rank, verdict.rung) == ("Unknown", "hang", 1, "InPlace")
    assert verdict.because == "rank 1 made no step after 8 for 60 s, while the others reached 9"
    assert verdict.strikes == "n1"


def test_several_on_one_machine_hang_together() -> None:
    members = [*trains(0, 1), *(member(r, node=Node(name="shared")) for r in (2, 3)), *trains(4)]
    told = steps({0: 9, 1: 9, 2: 8, 3: 8, 4: 9}, at=100)
    assert [(v.rank, v.strikes) for v in verdicts(members, replace(STILL, steps=told))] == [
        (2, "shared"),
        (3, "shared"),
    ]
    apart = verdicts(trains(0, 1, 2, 3, 4), replace(STILL, steps=told))
    assert [(v.rank, v.strikes) for v in apart] == [(2, ""), (3, "")]


@pytest.mark.parametrize(
    ("told", "rank", "because"),
    [
        ({0: 9, 1: 9, 2: 9, 3: 9}, 0, "no rank made a step after 9 for 60 s, and none of them stands out"),
        ({0: 9, 1: 8, 2: 8, 3: 9}, 1, "rank 1-2 made no step after 8 for 60 s: too many to tell who hangs"),
    ],
)
def test_if_nobody_stands_out_the_sentence_says_so(told: dict[int, int], rank: int, because: str) -> None:
    verdict = only(FOUR, replace(STILL, steps=steps(told, at=100)))
    assert (verdict.rank, verdict.because, verdict.strikes) == (rank, because, "")


@pytest.mark.parametrize(
    "gang",
    [
        replace(STILL, monotonic=159.9),
        replace(STILL, steps=steps(LAGS, at=100, mean_s=MEAN_S), monotonic=189.9),  # three mean steps
        replace(STILL, steps=steps(LAGS, at=100) | {2: Steps(step=9, at=100.1)}),
        replace(STILL, steps=steps(LAGS, at=100) | {2: Steps(step=9, at=100, paused=True)}),
        replace(STILL, steps={rank: told for rank, told in STILL.steps.items() if rank != 3}),  # one tells nothing
        replace(STILL, steps={}),
        replace(STILL, target=3),
        replace(STILL, progress=Progress(hang_seconds=61)),
    ],
)
def test_what_is_no_hang(gang: object) -> None:
    assert verdicts(FOUR, gang) == ()  # type: ignore[arg-type]


def test_three_mean_steps_are_a_hang() -> None:
    slow = replace(STILL, steps=steps(LAGS, at=100, mean_s=MEAN_S), monotonic=190.0)
    assert "for 90 s" in only(FOUR, slow).because
    odd = replace(slow, steps={**slow.steps, 2: Steps(step=9, at=100, mean_s=10_000)})  # the usual step counts
    assert "for 90 s" in only(FOUR, odd).because


def test_the_sentence_does_not_change_while_it_lasts() -> None:
    assert only(FOUR, replace(STILL, monotonic=999.0)) == only(FOUR, STILL)


def test_a_machine_that_cannot_be_heard_explains_a_standstill() -> None:
    silent = member(3, node=Node(name="n3", silent=True))
    assert verdicts([*FOUR[:3], silent], STILL) == ()


def test_who_ended_is_no_hang() -> None:
    [first, second] = verdicts([*FOUR[:3], member(3, exits=ended(3))], STILL)
    assert [(first.rank, first.rule), (second.rank, second.rule)] == [(3, "container-exit"), (1, "hang")]


# the first step

BEGINS = calm(steps_before=True, released_s=1801)


def test_if_nobody_makes_a_first_step_the_lowest_rank_stands_for_all() -> None:
    verdict = only(FOUR, BEGINS)
    assert (verdict.rank, verdict.rule, verdict.scope, verdict.strikes) == (0, "no-first-step", "Unknown", "")


@pytest.mark.parametrize(
    "gang",
    [
        replace(BEGINS, released_s=1800),
        replace(BEGINS, steps_before=False),
        replace(BEGINS, steps=steps({2: 1})),
        replace(BEGINS, target=3),
        replace(BEGINS, progress=Progress(first_step_seconds=1801)),
    ],
)
def test_what_is_no_late_first_step(gang: object) -> None:
    assert verdicts(FOUR, gang) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        member(3, heard=False),
        member(3, alive=life(3, connected=False)),
        member(3, alive=life(3, attempt=0)),
        member(3, node=Node(name="n3", silent=True)),
        member(3, pod={"phase": "Succeeded"}, heard=False),
    ],
)
def test_nobody_is_blamed_for_a_first_step_unless_all_can_be_heard(other: object) -> None:
    assert "no-first-step" not in [v.rule for v in verdicts([*FOUR[:3], other], BEGINS)]  # type: ignore[list-item]


def test_deadlines_are_the_users() -> None:
    hasty = Progress(hang_seconds=10, first_step_seconds=20)
    assert "for 10 s" in only(FOUR, replace(STILL, progress=hasty, monotonic=110.0)).because
    assert "within 20 s" in only(FOUR, replace(BEGINS, progress=hasty, released_s=21)).because
    assert verdicts(FOUR, gathering(progress=hasty, steps=STILL.steps, monotonic=1e6)) == ()


# stragglers: a report only


@pytest.mark.parametrize(
    ("work_s", "slow"),
    [
        ({0: 2.0, 1: 2.0, 2: 2.5, 3: 2.0}, (2,)),
        ({0: 2.0, 1: 2.0, 2: 2.49, 3: 2.0}, ()),
        ({0: 4.0, 1: 2.0, 2: 2.5, 3: 2.0, 4: 2.0}, (0, 2)),
        ({0: 2.0, 1: 2.0, 2: 4.0}, (2,)),
        ({0: 0.5, 1: 0.5, 2: 0.9}, (2,)),
        ({0: 2.0, 1: 4.0}, ()),  # which of the two?
        ({0: 2.0, 1: 4.0, 2: 0.0}, ()),  # says nothing of its work
        ({}, ()),
    ],
)
def test_who_works_longer_than_most(work_s: dict[int, float], slow: tuple[int, ...]) -> None:
    assert stragglers({rank: Steps(step=1, at=0, work_s=work) for rank, work in work_s.items()}) == slow
