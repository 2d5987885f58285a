"""Strikes, as they are written on a Node."""

import pytest

from fleetctl.gang import strikes
from fleetctl.gang.state import Strike

ONE = Strike(at=1732233600.0, rule="fatal-signal", who="team-a/llm/7")
TWO = Strike(at=1732233700.0, rule="hang", who="team-b/vision-2/0")
TEXT = "1732233600/fatal-signal/team-a/llm/7,1732233700/hang/team-b/vision-2/0"


def test_what_is_written_is_read_again() -> None:
    assert strikes.format((ONE, TWO)) == TEXT
    assert strikes.parse(TEXT) == (ONE, TWO)
    assert strikes.format(()) == ""
    assert strikes.parse("") == ()


@pytest.mark.parametrize(
    "word",
    [
        "hello", "1/hang/a/b", "1/hang/a/b/1/2", "/hang/a/b/1", "1//a/b/1", "1/hang//b/1", "1/hang/a/b/",
        "x/hang/a/b/1", "1/hang/a/b/x", "-1/hang/a/b/1", "1.5/hang/a/b/1", "nan/hang/a/b/1", "²/hang/a/b/1",
        "٧/hang/a/b/1", "1/hang/a/b/-1", "9999999999999999/hang/a/b/1",
    ],
)  # fmt: skip
def test_what_is_no_strike_is_passed_over(word: str) -> None:
    assert strikes.parse(f"{word},{TEXT}, ,{word}") == (ONE, TWO)


def test_blanks_do_no_harm() -> None:
    assert strikes.parse(f" {TEXT.replace(',', ' ,  ')}\n") == (ONE, TWO)


def test_only_the_latest_are_kept() -> None:
    many = [Strike(at=float(n), rule="hang", who="a/b/1") for n in range(20)]
    assert strikes.parse(strikes.format(many)) == tuple(many[-8:])
    assert strikes.parse(",".join(f"{n}/hang/a/b/1" for n in range(20))) == tuple(many[-8:])


def test_it_is_kept_in_whole_seconds() -> None:
    assert strikes.format([Strike(at=7.6, rule="hang", who="a/b/1")]) == "8/hang/a/b/1"
