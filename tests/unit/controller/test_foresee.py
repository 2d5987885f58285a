"""What is worked out of a member before the gang is looked at is what a look at the gang would find."""

from dataclasses import replace

import pytest

from fleetctl.gang.diagnose import diagnose, foresee
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.spec import Match, UserRule
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise, Report

HELD = Promise(attempt=2, ticket="t")
RUNS = Circumstances(released=HELD, target=2)
GANGS = {
    "it runs": RUNS,
    "it gathers": replace(RUNS, target=3),
    "another ticket": replace(RUNS, released=Promise(attempt=2, ticket="u")),
    "a domain is silent": replace(RUNS, silent_domain="zone=a"),
    "a rule is about it": replace(RUNS, rules=(UserRule(match=Match(exit_codes=[134]), action="RecreatePod"),)),
    "another rule is": replace(RUNS, rules=(UserRule(match=Match(exit_codes=[134]), action="FailGang"),)),
}
PLAIN = Life(uid="u", life_id="l", started_at=10, attempt=2, promise=HELD)
LIVES = {
    "runs": PLAIN,
    "waits": replace(PLAIN, attempt=0),
    "is not heard": None,
    "reports its device": replace(PLAIN, hardware=(Report(code="xid-31", device="GPU-3", at=20),)),
}
ENDS = {
    "aborted": Ended(exit_code=134, finished_at=20),
    "exited": Ended(exit_code=1, finished_at=20),
    "of an earlier life": Ended(exit_code=139, finished_at=9),
    "succeeded": Ended(exit_code=0, finished_at=20),
    "runs": None,
}


@pytest.mark.parametrize("gang", GANGS)
@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("restarts", [False, True])
def test_what_is_foreseen_is_what_is_found(gang: str, life: str, end: str, restarts: bool) -> None:
    member = a_member(0, LIVES[life], ENDS[end], restarts=restarts)
    before = replace(member)
    foresee(before)
    for other in GANGS.values():
        diagnose([before], other)
    assert diagnose([before], GANGS[gang]) == diagnose([member], GANGS[gang])


def test_a_report_that_others_come_to_share_is_seen_anew() -> None:
    life = LIVES["reports its device"]
    first, *others = [a_member(rank, life, ENDS["exited"]) for rank in range(3)]
    assert "; xid-31 on GPU-3" in diagnose([first], RUNS)[0].because
    assert "it is the program" in diagnose([first, *others], RUNS)[0].because


def a_member(rank: int, life: Life | None, end: Ended | None, *, restarts: bool = True) -> Member:
    return Member(
        rank=rank,
        pod_name="p",
        trainer="trainer",
        life=life,
        node=Node(name=f"n{rank}"),
        pod=Pod(
            name="p",
            uid="u",
            attempt=2,
            node=f"n{rank}",
            phase="Running",
            restarting_since=20 if restarts else None,
            containers=(Container(name="trainer", ended=end, running=end is None),),
        ),
    )
