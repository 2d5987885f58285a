"""Quarantine: which machines new pods are kept off, how that stands on the Node, how many there may be, when it ends.

On the Node are a taint, a label of the same name to select by, and an annotation that says why:

    {"rule": "lemon", "evidence": "…", "gangs": ["research/llm"], "at": "2026-11-21T06:13:47Z", "uid": "…"}

Anybody may edit it: what cannot be read is nobody's, and stays until somebody lifts it by hand. Only a machine that
lives and is at fault itself is quarantined: one that is dead or about to go has taints already, from those who know.
Whatever runs there is left alone.

Knows nothing of how it is written (controller/quarantine.py), nor of what else follows from a verdict (plan.py).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from fleetctl.gang import spec
from fleetctl.gang.state import Seconds, Strike, Verdict
from fleetctl.stamps import unix_seconds

QUARANTINE = f"{spec.GROUP}/quarantine"
"""Name of the label, of the taint and of the annotation."""
RULES = frozenset({"device-unhealthy", "hardware-report", "lemon", "node-condition"})
"""Verdicts that are about the machine itself. A user's rule asks for what it says, and for no more."""
PASSING = frozenset({"device-unhealthy", "node-condition"})
"""Those of them that whoever says so takes back when it is over."""
PASSED_S = 600.0
"""And if it is not said again for so long, the machine is let out."""
AGAIN_S = 5.0
"""A Node that does not show it is asked for once more after so many seconds."""
EVIDENCE_MAX = 500


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotation says. `at` is of the controller's clock, `uid` the Node's; `gangs` those that judged it."""

    rule: str = ""
    evidence: str = ""
    gangs: tuple[str, ...] = ()
    at: str = ""
    uid: str = ""

    @property
    def since(self) -> Seconds:
        """`at` in Unix time, 0 if it is none."""
        try:
            return unix_seconds(self.at)
        except ValueError:
            return 0.0

    def wanted_by(self, gang: str) -> "Mark":
        """The same, wanted by that gang too."""
        return msgspec.structs.replace(self, gangs=tuple(sorted({*self.gangs, gang})))

    def without(self, gone: Collection[str]) -> "Mark":
        """The same, of the gangs that are left."""
        return msgspec.structs.replace(self, gangs=tuple(gang for gang in self.gangs if gang not in gone))


@dataclass(frozen=True, slots=True)
class Accused:
    """A machine that was judged bad, by which rule and on what evidence."""

    node: str
    rule: str
    evidence: str


def parse(annotation: str) -> Mark | None:
    """What the annotation says, None if that cannot be read."""
    try:
        return msgspec.json.decode(annotation, type=Mark)
    except msgspec.MsgspecError:
        return None


def format(mark: Mark) -> str:  # noqa: A001  (read as quarantine.format)
    """The annotation that says so."""
    return msgspec.json.encode(mark).decode()


def accused(verdicts: Iterable[Verdict]) -> tuple[Accused, ...]:
    """The machines that these verdicts are about, each once, with the likeliest of them."""
    found: dict[str, Accused] = {}
    for verdict in verdicts:
        if verdict.scope == "Node" and verdict.node and not verdict.dead and verdict.rule in RULES:
            found.setdefault(verdict.node, Accused(verdict.node, verdict.rule, verdict.because[:EVIDENCE_MAX]))
    return tuple(found.values())


def is_selected(labels: Mapping[str, str], groups: Iterable[spec.Group]) -> bool:
    """Whether pods of one of these groups may go to a node with these labels, as far as their nodeSelectors tell."""
    selectors = (group.template.get("spec", {}).get("nodeSelector") or {} for group in groups)
    return any(all(labels.get(key) == value for key, value in selector.items()) for selector in selectors)


class Room:
    """How many more machines may be quarantined, in the cluster and in each failure domain.

    `fleet`: all nodes, with the domains that each is in, the widest first. `quarantined`: those of them that are.
    """

    def __init__(self, fleet: Mapping[str, tuple[str, ...]], quarantined: Iterable[str]) -> None:
        self._fleet = fleet
        self._size = _counted(fleet.values())
        self._taken = _counted(fleet[name] for name in quarantined if name in fleet)

    def why_not(self, node: str, policy: spec.Quarantine) -> str:
        """What forbids one more; "" if nothing does."""
        for within in _paths(self._fleet[node]):
            size, taken = self._size[within], self._taken[within]
            allowed = policy.allows_in_domain(size) if within else policy.allows(size)
            if taken >= allowed:
                where, setting = (within[-1], "perDomain") if within else ("the cluster", "nodes")
                limit = f"the {allowed} that spec.recovery.quarantine.{setting} allows"
                return f"{taken} of the {size} nodes of {where} are in quarantine, no less than {limit}"
        return ""

    def take(self, node: str) -> None:
        """One more is quarantined."""
        self._taken.update(_paths(self._fleet[node]))


def clean_s(mark: Mark, strikes: Iterable[Strike], bad_until: Seconds, now: Seconds) -> Seconds:
    """For how long nothing has spoken against a machine that nothing speaks against now; 0 if nobody knows.
    `bad_until`: when the last of its bad conditions was over."""
    if not mark.since:
        return 0.0
    return now - max(mark.since, bad_until, *(strike.at for strike in strikes))


def lift_after_hours(policies: Collection[spec.Quarantine]) -> int:
    """After how many clean hours gangs with these policies let a machine out; 0: never."""
    hours = [policy.lift_after_hours for policy in policies]
    return 0 if 0 in hours else max(hours, default=0)


def why_over(mark: Mark, *, uid: str, gone: Collection[str], clean_s: Seconds, after_hours: int) -> str:
    """Why a quarantine ends, "" if it does not. `uid` is that of the Node as it is now, `gone` the gangs that are no
    more; `clean_s`: for how long nothing has spoken against the machine."""
    if mark.uid and mark.uid != uid:
        return "the Node was replaced"
    if mark.gangs and set(mark.gangs) <= set(gone):
        return f"no gang is left that wanted it ({', '.join(mark.gangs)})"
    if mark.rule in PASSING and clean_s >= PASSED_S:
        return f"what spoke against it ({mark.rule}) has been over for {PASSED_S / 60:.0f} min"
    if after_hours and clean_s >= 3600 * after_hours:
        return f"nothing has spoken against it for {after_hours} h"
    return ""


def _counted(nodes: Iterable[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    """How many of them are in the cluster, and in each failure domain."""
    total: Counter[tuple[str, ...]] = Counter()
    for domains, count in Counter(nodes).items():  # ten thousand nodes are in a few hundred racks
        for within in _paths(domains):
            total[within] += count
    return total


def _paths(domains: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The cluster, and each failure domain: two racks of one name in two zones are two."""
    return (domains[:depth] for depth in range(len(domains) + 1))
