"""What the judges found, and how often each of them really looked: a check that never ran is no check.

Knows no invariant.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

KEPT = 20
"""Violations of one invariant that are kept in words; all are counted."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`text` is one sentence that a person can check; `at` seconds since the world began."""

    invariant: str
    at: float
    text: str


class Findings:
    """`violations` are the first few of each invariant, `counts` all of them, `evaluated` how often it was checked."""

    def __init__(self, not_judged: Collection[str] = ()) -> None:
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.evaluated: Counter[str] = Counter()
        self._not_judged = frozenset(not_judged)

    def looked(self, invariant: str) -> None:
        """It was checked once more."""
        if invariant not in self._not_judged:
            self.evaluated[invariant] += 1

    def broken(self, invariant: str, at: float, text: str) -> None:
        """It does not hold."""
        if invariant in self._not_judged:
            return
        self.counts[invariant] += 1
        if self.counts[invariant] <= KEPT:
            self.violations.append(Violation(invariant, at, text))
