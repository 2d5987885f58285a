import os

import pytest

from fleetctl.agent.hardware import HardwareFile
from fleetctl.rendezvous.messages import HARDWARE_KEPT, Hardware, decode, encode

LOST = b"1732233600.5 xid-79 GPU-3 has fallen off the bus\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hardware"


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (LOST, Hardware("xid-79", "GPU-3", "has fallen off the bus", 1732233600.5)),
        (b"7 xid-79 GPU-3\n", Hardware("xid-79", "GPU-3", "", 7.0)),
        (b"7 nvlink-down\n", Hardware("nvlink-down", "", "", 7.0)),
        (b"  7\txid-79  GPU-3   two  blanks \r\n", Hardware("xid-79", "GPU-3", "two  blanks", 7.0)),
        (b"1732233600.123456789 xid-79 GPU-3\n", Hardware("xid-79", "GPU-3", "", 1732233600.123456789)),
        (b"7 a b \x1b[31mred\x00\xff\n", Hardware("a", "b", " [31mred \ufffd", 7.0)),
        (b"7 a b " + b"x" * 500 + b"\n", Hardware("a", "b", "x" * 200, 7.0)),
        (b"7 " + b"x" * 63 + b"\n", Hardware("x" * 63, "", "", 7.0)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_line_is_a_report(path, line, report):
    path.write_bytes(line)
    assert HardwareFile(str(path)).read() == (report,)
    assert decode(encode(report)) == report


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"7\n", b"xid-79 GPU-3\n", b"-7 xid-79\n", b"7e9 xid-79\n", b"nan xid-79\n", b"9999999999999999 a\n",
        b"7 \x00 GPU-3\n", b"7 a \x01b\n", b"7 " + b"x" * 64 + b"\n", b"\xff\xfe\n", b"7 unfinished",
    ],
    ids=lambda line: repr(line)[:30],
)  # fmt: skip
def test_anything_else_is_passed_over(path, line):
    path.write_bytes(LOST + line)
    assert [report.code for report in HardwareFile(str(path)).read()] == ["xid-79"]


def test_new_lines_are_added_and_nothing_new_is_the_same_object(path):
    file = HardwareFile(str(path))
    assert file.read() == ()
    path.write_bytes(b"1 a\n2 b\n3 unfin")
    assert [report.code for report in file.read()] == ["a", "b"]
    assert file.read() is file.read()
    with path.open("ab") as more:
        more.write(b"ished\n4 d\n")
    assert [report.code for report in file.read()] == ["a", "b", "unfinished", "d"]
    with path.open("ab") as more:
        more.write(b"this is nothing\n")
    assert file.read() is file.read()


def test_a_file_that_was_emptied_or_replaced_begins_anew_and_what_it_said_stays(path):
    file = HardwareFile(str(path))
    path.write_bytes(b"1 first\n2 second\n")
    file.read()
    path.write_bytes(b"3 third\n")
    assert [report.code for report in file.read()] == ["first", "second", "third"]
    other = path.with_name("other")
    other.write_bytes(b"4 later\n")  # as long as the one it replaces
    other.replace(path)
    assert [report.code for report in file.read()] == ["first", "second", "third", "later"]
    path.unlink()
    assert [report.code for report in file.read()] == ["first", "second", "third", "later"]


def test_only_the_latest_are_kept(path):
    path.write_bytes(b"".join(b"%d code-%d\n" % (n, n) for n in range(100)))
    assert [report.at for report in HardwareFile(str(path)).read()] == list(range(100 - HARDWARE_KEPT, 100))


def test_of_a_flood_only_the_end_is_read_and_no_line_without_its_beginning(path):
    path.write_bytes(b"1 no-end " + b"5 " * 70_000 + b"code\n2 last\n")
    assert [report.code for report in HardwareFile(str(path)).read()] == ["last"]
    path.write_bytes(b"x" * 200_000)
    file = HardwareFile(str(path))
    assert file.read() == ()
    with path.open("ab") as more:
        more.write(b"\n3 after\n")
    assert [report.code for report in file.read()] == ["after"]


def test_what_cannot_be_read_reports_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path), str(tmp_path / "absent"), "a\0b", str(tmp_path / "pipe")):
        assert HardwareFile(path).read() == ()
