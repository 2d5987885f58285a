"""Was it judged right? What fleetctl wrote down about an incident, and what it did, compared with what really happened.

Evidence may come a minute late, when the gang runs again. So an answer is **right** if the last cause in the history,
and its incident's culprits, are the true rank, or on the true node, and if it blames the node where there is evidence
against it; right **at once** if all causes are those. An incident of the network, which heals by itself, is also
answered rightly by doing nothing. A verdict against a node is **wrong** if the node is healthy: a cause that says so,
whenever, or a pod that was taken from it. What follows from a false report about a healthy node is told apart
(`misled`): nobody could have known. So is a strike against one (`struck`): it proves nothing alone, and is remembered
for two days.

How right one can be is bounded by the noise: statuses tell whole seconds, and who ends within the same second as its
culprit, and as peers usually do, is told from it by luck. `knowable` says what that leaves. (A little more can be had:
peers end alike, and the culprit may not.)

Knows nothing of how incidents are drawn (worlds.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, nan
from statistics import fmean, median

from fleetctl.scenario.facts import CONTROLLER, is_terminating, rank_of, record_of
from fleetctl.scenario.simulate import simulate
from fleetctl.sim.journal import Event, Object, TrainerEnded, TrainerStarted, Wrote
from tests.judgement.worlds import Profile, Truth, world

RIGHT_AT_LEAST, WRONG_NODE_AT_MOST, HANG_FOUND_S = 0.95, 0.02, 90.0
"""What issue 8 asks for."""
PEERS_END = (1, 134)
"""How a rank ends because another one has."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One seed, in the words above. `knowable`: how likely the culprit is found, if by luck. `cycles`: how
    often the gang began anew; `detect_s`: from the incident until it did first, None if it never did. `why`: a sentence
    for each thing that was wrong; `answers`: the causes as they were written down.
    """

    seed: int
    kind: str
    right: bool
    at_once: bool
    wrong_node: bool
    misled: bool
    struck: bool
    knowable: float
    cycles: int
    detect_s: float | None
    why: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """Why it is wrong, and how to see it."""
        answers = "; ".join(self.answers) or "nothing was decided"
        return f"seed {self.seed} ({self.kind}): {', '.join(self.why)}. Answers: {answers}"


class _Watch:
    """A journal listener: what fleetctl wrote down and whom it touched."""

    def __init__(self) -> None:
        self.gang: Object = {}
        self.released_at = 0.0
        self.raised: list[float] = []
        self.nodes: dict[int, str] = {}
        """By rank, where it was in the first attempt."""
        self.ends: dict[int, tuple[int, int]] = {}
        """By rank, in which second its first trainer ended by itself, and how."""
        self.struck: set[str] = set()
        """Nodes that a controller wrote to."""
        self.taken: dict[str, tuple[int, str]] = {}
        """By uid, the rank and the node of pods that a controller deleted."""

    def __call__(self, event: Event) -> None:
        match event:
            case TrainerStarted(attempt=1):
                self.nodes[event.rank] = event.node
            case TrainerEnded(attempt=1, why="itself"):
                self.ends[event.rank] = int(event.at), event.exit_code
            case Wrote(plural="gangs", after=dict() as gang):
                before, after = record_of(event.before), record_of(gang)
                if after.get("target", 0) > max(1, before.get("target", 0)):
                    self.raised.append(event.at)
                if after.get("released", 0) == 1 and not self.released_at:
                    self.released_at = event.at
                self.gang = gang
            case Wrote(plural="nodes", verb="patch" | "update") if event.actor.startswith(CONTROLLER):
                self.struck.add(event.name)
            case Wrote(plural="pods", before=dict() as pod) if event.actor.startswith(CONTROLLER):
                if rank_of(pod) >= 0 and (event.after is None or is_terminating(event.after)):
                    self.taken[pod["metadata"]["uid"]] = rank_of(pod), pod["spec"].get("nodeName", "")


def judge(seed: int, profile: Profile = "default") -> Judged:
    """Simulate the world of this seed, and compare."""
    scenario, truth = world(seed, profile)
    watch = _Watch()
    outcome = simulate(scenario, seed, watch=watch)
    if outcome.broken:
        raise RuntimeError(f"seed {seed}: the run broke: {outcome.broken}")
    return _Comparison(seed, truth, watch).made()


class _Comparison:
    """`ranks` and `nodes` are those to blame, `accused` healthy nodes about which a false report was made."""

    def __init__(self, seed: int, truth: Truth, watch: _Watch) -> None:
        self.seed, self.truth, self.watch = seed, truth, watch
        placed = watch.nodes
        self.nodes = {placed[truth.rank]} if truth.machine else set[str]()
        self.ranks = {rank for rank, node in placed.items() if node in self.nodes | truth.dark} | {truth.rank}
        self.accused = {placed[rank] for rank in truth.accused} - self.nodes
        self.culprit_on = {placed[truth.rank]} if truth.rank in placed else set[str]()
        self.why: list[str] = []
        self.wrong_node = self.misled = False

    def made(self) -> Judged:
        recoveries = _recoveries(self.watch.gang)
        own = [each for each in recoveries if not self._is_misled(each["cause"])]
        wrong = [self._what_is_wrong(each) for each in own]
        if not own and self.truth.kind != "network":
            wrong.append("no answer")
        if own and self.nodes and self.truth.kind != "no evidence" and own[-1]["cause"]["scope"] != "Node":
            wrong.append("does not blame the machine")
        self.why += filter(None, wrong)
        for each in own:
            cause = each["cause"]
            if cause["scope"] == "Node" and self._node(cause) not in self.nodes:
                self._wrong_node(f"calls {self._node(cause)} bad")
        for rank, node in self.watch.taken.values():
            if node in self.accused:
                self.misled = True
            elif node and node not in self.nodes:
                self._wrong_node(f"takes rank {rank} from {node}")
        began = self.watch.released_at + self.truth.after
        return Judged(
            seed=self.seed,
            kind=self.truth.kind,
            right=not wrong or not wrong[-1],
            at_once=not any(wrong),
            wrong_node=self.wrong_node,
            misled=self.misled,
            struck=bool(self.watch.struck - self.nodes - self.culprit_on),
            knowable=self._knowable(),
            cycles=len(self.watch.raised),
            detect_s=next((at - began for at in self.watch.raised if at >= began), None),
            why=tuple(self.why),
            answers=tuple(f"{r['cause']['scope']} {r['cause']['rule']}: {r['cause']['message']}" for r in recoveries),
        )

    def _what_is_wrong(self, recovery: Object) -> str:
        rank = recovery["cause"].get("rank", -1)
        if rank not in self.ranks:
            return f"names rank {rank}"
        blamed = _numbers((recovery.get("incident") or {}).get("culprits", ""))
        others = sorted(r for r in blamed - self.ranks if self.watch.nodes[r] not in self.accused)
        return f"counts rank {others} among the culprits" if others else ""

    def _knowable(self) -> float:
        ends = self.watch.ends
        second, code = ends.get(self.truth.rank, (0, 0))
        if self.truth.kind not in ("software", "no evidence") or code not in PEERS_END:
            return 1.0
        return 1.0 / sum(end[0] == second for end in ends.values())

    def _is_misled(self, cause: Object) -> bool:
        if cause["scope"] != "Node" or self._node(cause) not in self.accused:
            return False
        self.misled = True
        return True

    def _node(self, cause: Object) -> str:
        return str(cause.get("node") or self.watch.nodes[cause["rank"]])

    def _wrong_node(self, what: str) -> None:
        self.wrong_node = True
        self.why.append(what)


def _recoveries(gang: Object) -> list[Object]:
    """The first one first, and the one that is under way; not the start."""
    status, record = gang.get("status") or {}, record_of(gang)
    found = list(reversed(status.get("history") or ()))
    if record.get("target", 0) > record.get("released", 0):
        found.append(record)
    return [each for each in found if (each.get("cause") or {}).get("scope", "Start") not in ("Start", "Resume")]


def _numbers(ranges: str) -> set[int]:
    """`3,17-19` as numbers; a list that was cut short ends where it was cut."""
    parts = [part.split("-") for part in ranges.removesuffix("…").split(",") if part.strip("-")]
    return {number for part in parts for number in range(int(part[0]), int(part[-1] or part[0]) + 1)}


# All together

HEAD = (
    "   incident",
    "runs",
    " right",
    "knowable",
    "at once",
    "wrong node",
    "misled",
    "struck",
    "T_det p50",
    "   p99",
    "cycles p50",
    "max",
)


@dataclass(frozen=True, slots=True)
class Total:
    """What many seeds add up to; shares from 0 to 1, seconds."""

    seeds: int
    right: float
    at_once: float
    knowable: float
    wrong_node: float
    misled: float
    struck: float
    hang_p99_s: float

    @staticmethod
    def of(judged: Sequence[Judged]) -> "Total":
        hangs = [each.detect_s for each in judged if each.kind == "hang"]
        found = [inf if s is None else s for s in hangs]
        return Total(
            seeds=len(judged),
            right=_share(each.right for each in judged),
            at_once=_share(each.at_once for each in judged),
            knowable=fmean(each.knowable for each in judged),
            wrong_node=_share(each.wrong_node for each in judged),
            misled=_share(each.misled for each in judged),
            struck=_share(each.struck for each in judged),
            hang_p99_s=_p99(found) if found else 0.0,
        )

    @property
    def good_enough(self) -> bool:
        return (
            self.right >= RIGHT_AT_LEAST and self.wrong_node <= WRONG_NODE_AT_MOST and self.hang_p99_s <= HANG_FOUND_S
        )

    def line(self) -> str:
        return (
            f"judgement seeds={self.seeds} right_culprit={self.right:.1%} wrong_node={self.wrong_node:.1%} "
            f"hang_p99_s={self.hang_p99_s:.1f}"
        )


def table(judged: Sequence[Judged]) -> list[str]:
    """A line for each kind of incident, and one for all."""
    counts = Counter(each.kind for each in judged)
    groups = [(kind, [each for each in judged if each.kind == kind]) for kind, _ in counts.most_common()]
    lines = []
    for kind, group in [*groups, ("all", list(judged))]:
        total, cycles = Total.of(group), [each.cycles for each in group]
        shares = (total.right, total.knowable, total.at_once, total.wrong_node, total.misled, total.struck)
        times = [each.detect_s for each in group if each.detect_s is not None] or [nan]
        cells = [f"{share:.1%}" for share in shares] + [f"{s:.1f} s" for s in (median(times), _p99(times))]
        lines.append([kind, str(len(group)), *cells, f"{median(cycles):.0f}", str(max(cycles))])
    return ["  ".join(cell.rjust(len(name)) for cell, name in zip(line, HEAD, strict=True)) for line in [HEAD, *lines]]


def _share(held: Iterable[bool]) -> float:
    each = list(held)
    return sum(each) / max(1, len(each))


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-99 * len(ordered) // 100) - 1)]
