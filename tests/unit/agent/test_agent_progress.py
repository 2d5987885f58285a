import os

import pytest

from fleetctl.agent.progress import read_step


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (b"7", 7), (b"7\n", 7), (b" 7 \r\n", 7), (b"0\n", 0), (b"007", 7), (b"7\nloss 0.3\n", 7),
        (b"9" * 15, 10**15 - 1),
        (b"", None), (b"\n7\n", None), (b"-1\n", None), (b"+1", None), (b"1.5", None), (b"1_000", None),
        (b"7 of 9", None),
        (b"9" * 16, None), (b"9" * 100, None), (b"step 7", None), ("٧".encode(), None), (b"\xff\x00", None),
        (b"7\n" + b"x" * 100_000, 7),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_the_first_line_is_a_step_or_nothing(tmp_path, content, step):
    (tmp_path / "step").write_bytes(content)
    assert read_step(str(tmp_path / "step")) == step


def test_what_cannot_be_read_is_no_step(tmp_path):
    assert read_step(str(tmp_path / "absent")) is None
    assert read_step(str(tmp_path)) is None
    assert read_step("a\0b") is None


def test_a_pipe_does_not_hold_it_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_step(str(tmp_path / "pipe")) is None
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    assert read_step(str(tmp_path / "pipe")) is None
    os.close(writer)
