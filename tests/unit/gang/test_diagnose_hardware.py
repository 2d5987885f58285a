"""Reports of hardware: which code means what, when it counts, and what it adds to an exit."""

import pytest
from evidence import BORN, calm, ended, gathering, life, member, only, report, rule, verdicts

from fleetctl.gang.diagnose.hardware import NODE_CODES, PROGRAM_CODES
from fleetctl.gang.state import Member, Report, ranges

IGNORED = {f"xid-{n}" for n in (14, 37, 38, 43, 44, 45, 63, 66, 67, 92, 106, 107, 108, 121, 137, 141, 157, 160, 161)}


def reporting(*told: Report, rank: int = 1, code: int | None = None) -> Member:
    exits = None if code is None else ended(code)
    return member(rank, alive=life(rank, hardware=told), exits=exits)


def test_the_classes_of_codes_are_apart() -> None:
    assert not NODE_CODES & PROGRAM_CODES
    assert not IGNORED & (NODE_CODES | PROGRAM_CODES)


def numbers(codes: frozenset[str]) -> str:
    return ranges(int(code.removeprefix("xid-")) for code in codes)


def test_the_classes_are_those_of_the_catalogue() -> None:
    assert numbers(NODE_CODES) == "46,48,54,62,64,74,78-79,95,109-110,119-120,136,140,143-151,155-156,158,167"
    assert numbers(PROGRAM_CODES) == ("8,11,13,25,31-32,39-41,60,68-72,75-77,80,82-86,88-89,94,96-105,126-135,139")


def test_a_pod_that_is_done_minds_no_report() -> None:
    done = member(alive=life(hardware=(report("xid-79"),)), pod={"phase": "Succeeded"})
    assert verdicts([done], calm()) == ()


@pytest.mark.parametrize("code", ["xid-48", "xid-62", "xid-64", "xid-74", "xid-79", "xid-95", "xid-119", "xid-144"])
def test_a_device_that_needs_a_reset_condemns_its_node(code: str) -> None:
    verdict = only([reporting(report(code))], calm())
    assert (verdict.scope, verdict.rule, verdict.rung) == ("Node", "hardware-report", "RecreatePod")
    assert (verdict.node, verdict.since, verdict.strikes) == ("n1", 1100.5, "n1")


@pytest.mark.parametrize("code", ["xid-13", "xid-31", "xid-94", "xid-63", "xid-45", "xid-43", "nic-flap", "xid-9999"])
def test_other_codes_are_no_cause(code: str) -> None:
    assert verdicts([reporting(report(code))], calm()) == ()
    assert verdicts([reporting(report(code))], gathering()) == ()


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", True),
        ("GPU Reset Required", True),
        ("Drain and Reset", True),
        ("Drain P2P", True),
        ("None", False),
        ("", False),
    ],
)
def test_the_summary_decides_by_its_words(text: str, bad: bool) -> None:
    assert bool(verdicts([reporting(report("xid-154", text=text))], calm())) is bad


def test_the_summary_is_quoted_before_what_it_sums_up() -> None:
    told = report("xid-79", at=1100), report("xid-154", text="Node Reboot Required", at=1101)
    assert "xid-154 on GPU-3 (Node Reboot Required)" in only([reporting(*told)], calm()).because


@pytest.mark.parametrize(("at", "counts"), [(BORN - 600, True), (BORN - 600.1, False), (BORN + 1e6, True)])
def test_what_was_reported_long_before_this_life_is_about_something_else(at: float, counts: bool) -> None:
    assert bool(verdicts([reporting(report("xid-79", at=at))], calm())) is counts


def test_a_report_comes_before_what_the_trainer_ended_with() -> None:
    assert only([reporting(report("xid-79"), code=134)], calm()).rule == "hardware-report"


def test_a_report_in_an_open_barrier_upgrades_the_verdict() -> None:
    assert only([reporting(report("xid-95"))], gathering()).rung == "RecreatePod"


def test_nothing_is_known_of_a_pod_whose_agent_is_not() -> None:
    assert verdicts([member(heard=False)], calm()) == ()


def test_without_device_or_words_the_sentence_is_shorter() -> None:
    verdict = only([reporting(Report(code="xid-79", at=1100))], calm())
    assert verdict.because == "node n1: xid-79, reported by rank 1's pod"


def test_a_rule_of_the_users_may_tolerate_a_code() -> None:
    tolerant = calm(rules=[rule("RestartInPlace", hardware=["xid-109"])])
    assert verdicts([reporting(report("xid-109"))], tolerant) == ()
    assert "xid-79" in only([reporting(report("xid-109"), report("xid-79"))], tolerant).because
    elsewhere = calm(rules=[rule("RestartInPlace", hardware=["xid-109"], groups=["others"])])
    assert verdicts([reporting(report("xid-109"))], elsewhere)


# what a report of the program's kind adds to an exit


@pytest.mark.parametrize(
    ("at", "more"), [(505, "; xid-31 on GPU-3"), (504, ""), (1405, "; xid-31 on GPU-3"), (1406, "")]
)
def test_a_report_near_an_exit_explains_it(at: float, more: str) -> None:
    seen = member(alive=life(started_at=900, hardware=(report("xid-31", at=at),)), exits=ended(1, at=1105))
    assert only([seen], calm()).because == f"rank 1 exited 1{more}"


def test_the_same_device_again_counts_against_the_machine() -> None:
    again = report("xid-31", at=900), report("xid-31", at=1100)
    verdict = only([reporting(*again, code=1)], calm())
    assert (verdict.because, verdict.strikes) == ("rank 1 exited 1; xid-31 on GPU-3, not for the first time", "n1")


@pytest.mark.parametrize(
    "before",
    [
        report("xid-31", at=930),  # one burst
        report("xid-31", device="GPU-4", at=900),
        report("xid-13", at=900),
    ],
)
def test_another_device_code_or_the_same_burst_does_not(before: Report) -> None:
    assert only([reporting(before, report("xid-31", at=1100), code=1)], calm()).strikes == ""


def test_a_code_on_many_nodes_is_the_programs() -> None:
    again = report("xid-31", at=900), report("xid-31", at=1100)
    crowd = [reporting(report("xid-31"), rank=rank) for rank in (2, 3)]
    verdict = only([reporting(*again, code=1), *crowd], calm())
    assert (verdict.because, verdict.strikes) == ("rank 1 exited 1; xid-31 on many nodes: it is the program", "")
    assert only([reporting(*again, code=1), *crowd[:1]], calm()).strikes == "n1"
