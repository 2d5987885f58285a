"""Durations, ranges, shares and lists of numbers, as they are written in scenario files."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetctl.scenario import durations
from fleetctl.scenario.durations import Range, duration, duration_range, percent, signed_duration, spans


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("250ms", 0.25), ("0.2ms", 0.0002), ("1.5s", 1.5), ("2m", 120), ("1.5m", 90), ("1h", 3600)],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("30", '"30" has no unit; write 30s if you mean seconds (units are ms, s, m, h)'),
        ("30 sec", '"30 sec" is not how durations are written; write 30s'),
        ("2 minutes", '"2 minutes" is not how durations are written; write 2m'),
        ("5S", '"5S" is not how durations are written; write 5s'),
        ("-3s", '"-3s" is negative; write a duration of 0s or more'),
        ("3d", '"3d" is no duration; write a number and one of the units ms, s, m, h, such as 1.5s'),
        ("1m30s", '"1m30s" is no duration; write a number and one of the units ms, s, m, h, such as 1.5s'),
        ("soon", '"soon" is no duration; write a number and a unit, such as 250ms, 1.5s, 2m or 1h'),
        ("", '"" is no duration; write a number and a unit, such as 250ms, 1.5s, 2m or 1h'),
        (".5s", '".5s" is no duration; write a number and one of the units ms, s, m, h, such as 1.5s'),
    ],
)
def test_what_is_no_duration_is_told_how_to_write_it(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        duration(text)
    assert str(refused.value) == sentence


def test_a_duration_that_must_be_something_is_not_zero() -> None:
    with pytest.raises(ValueError, match="no time at all; write more than 0s"):
        durations.positive_duration("0ms")


def test_a_jump_may_go_back() -> None:
    assert (signed_duration("-1h"), signed_duration("90s")) == (-3600, 90)


def test_a_single_duration_is_a_range_of_itself() -> None:
    assert duration_range("5ms..80ms") == Range(0.005, 0.08)
    assert duration_range("5ms") == Range(0.005, 0.005)


def test_a_range_upside_down_is_turned_for_the_user() -> None:
    with pytest.raises(ValueError, match=r'"2s..50ms" is upside down; write 50ms..2s'):
        duration_range("2s..50ms")


@pytest.mark.parametrize("text", ["10", "0%", "101%", "-5%", "ten%"])
def test_a_share_is_more_than_0_and_at_most_100_percent(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        percent(text)
    assert (percent("0.5%"), percent("100%")) == (0.005, 1)


def test_numbers_and_ranges() -> None:
    assert spans("3, 17-24") == ((3, 3), (17, 24))
    with pytest.raises(ValueError, match='the range "24-17" is upside down; write 17-24'):
        spans("24-17")
    with pytest.raises(ValueError, match='write numbers and ranges with commas, such as "3,17-24"'):
        spans("3;4")


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000))
def test_what_is_shown_can_be_written(seconds: float) -> None:
    assert signed_duration(durations.seconds_text(seconds)) == seconds


@settings(deadline=None)
@given(st.sets(st.integers(0, 200), min_size=1))
def test_numbers_that_are_shown_can_be_written(numbers: set[int]) -> None:
    read = spans(durations.indices_text(numbers))
    assert {n for low, high in read for n in range(low, high + 1)} == numbers


@pytest.mark.parametrize(
    "parse", [duration, durations.positive_duration, signed_duration, duration_range, percent, spans]
)
@settings(deadline=None)
@given(text=st.text() | st.from_regex(r"[-0-9.,%mshd ]{0,12}"))
def test_any_text_is_read_or_refused_with_a_fix(parse: Callable[[str], object], text: str) -> None:
    refused = ""
    try:
        parse(text)
    except ValueError as error:
        refused = str(error)
    assert not refused or "; write " in refused
