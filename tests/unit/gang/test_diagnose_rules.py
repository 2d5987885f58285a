"""Every rule has rows that it alone makes true, and near misses; and whoever takes a rule out hears of it."""

import pytest
from rule_rows import ROWS, Row

from fleetctl.gang import diagnose as diagnosing
from fleetctl.gang.diagnose import strikes

LEMON = strikes.lemon
EVERY_RULE = (*diagnosing.RULES, LEMON)


def told(row: Row) -> tuple[str, str] | None:
    found = diagnosing.diagnose(row.members, row.gang, row.waited)
    return (found[0].rule, found[0].because) if found else None


@pytest.mark.parametrize("name", ROWS)
def test_what_is_seen_is_told(name: str) -> None:
    assert told(ROWS[name]) == ROWS[name].told


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: str(rule.__name__))
def test_taking_a_rule_out_changes_its_rows(rule: diagnosing.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in ROWS.values() if row.by == rule]
    if rule is LEMON:
        monkeypatch.setattr(strikes, "lemon", lambda case, verdict: None)
    else:
        monkeypatch.setattr(diagnosing, "RULES", tuple(r for r in diagnosing.RULES if r is not rule))
    assert any(told(row) != row.told for row in rows), "no row needs this rule"
    assert any(told(row) == row.told for row in rows), "no row is a near miss of this rule"
