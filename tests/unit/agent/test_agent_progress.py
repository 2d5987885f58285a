import os

import pytest

from fleetctl.agent.progress import read_progress
from fleetctl.rendezvous.messages import Beat


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (b"7", 7), (b"7\n", 7), (b" 7 \r\n", 7), (b"0\n", 0), (b"007", 7), (b"7\nloss 0.3\n", 7),
        (b"9" * 15, 10**15 - 1),
        (b"", None), (b"\n7\n", None), (b"-1\n", None), (b"+1", None), (b"1.5", None), (b"1_000", None),
        (b"7 of 9", 7), (b"7/9", None),
        (b"9" * 16, None), (b"9" * 100, None), (b"step 7", None), ("٧".encode(), None), (b"\xff\x00", None),
        (b"paused", None),
        (b"7\n" + b"x" * 100_000, 7),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_the_first_line_begins_with_a_step_or_tells_nothing(tmp_path, content, step):
    (tmp_path / "step").write_bytes(content)
    assert repr(read_progress(str(tmp_path / "step"))) == repr(Beat(step))


@pytest.mark.parametrize(
    ("content", "work_s", "paused"),
    [
        (b"7 1.82\n", 1.82, False), (b"7 0", 0.0, False), (b"7 .5", 0.5, False), (b"7 12.\n", 12.0, False),
        (b"7 paused\n", None, True), (b"7 1.82 paused\n", 1.82, True), (b"7\t1.82\tpaused\r\n", 1.82, True),
        (b"7 fast paused", None, True),  # what it does on purpose must not be taken for a fault
        (b"7 1.82 1.9", 1.82, False), (b"7\n1.82 paused\n", None, False),
        (b"7 -1", None, False), (b"7 nan", None, False), (b"7 inf", None, False), (b"7 1e9", None, False),
        (b"7 1_0", None, False), (b"7 1.2.3", None, False), (b"7 .", None, False), (b"7 " + b"9" * 16, None, False),
        (b"7 PAUSED", None, False), (b"7 unpaused", None, False), (b"7 \xff\xfe", None, False),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_what_may_follow_the_step(tmp_path, content, work_s, paused):
    (tmp_path / "step").write_bytes(content)
    assert repr(read_progress(str(tmp_path / "step"))) == repr(Beat(7, work_s, paused))


def test_what_cannot_be_read_is_no_step(tmp_path):
    for path in (str(tmp_path / "absent"), str(tmp_path), "a\0b"):
        assert repr(read_progress(path)) == repr(Beat())


def test_a_pipe_does_not_hold_it_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert repr(read_progress(str(tmp_path / "pipe"))) == repr(Beat())
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    assert repr(read_progress(str(tmp_path / "pipe"))) == repr(Beat())
    os.close(writer)


def test_what_an_earlier_life_wrote_is_no_step_of_this_one(tmp_path):
    (tmp_path / "step").write_text("7")
    os.utime(tmp_path / "step", (500.0, 500.0))
    assert repr(read_progress(str(tmp_path / "step"), since=500.0)) == repr(Beat(7))
    assert repr(read_progress(str(tmp_path / "step"), since=500.1)) == repr(Beat())
