"""Which spare a lost rank takes.

A rank goes to where the rest of its block is: the same failure domain, else the nearest that has a spare; rather to
another rack than to a suspect one, rather to a suspect one than further away. What is cheapest for all lost ranks
together is a flow of least cost. It runs along the tree of domains, out of the narrow ones into the wide ones and down
again, and so has some hundred edges where one from each rank to each spare would be ten thousands.

Knows nothing of pods, nor of when a spare may be taken. The first placement of a gang is the scheduler's, who is told
by the pods' affinity what they wish (pods.py).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from fleetctl.gang.state import ranges
from fleetctl.gang.topology import CLUSTER, Domain, depth_of, domain_of, way_out

if TYPE_CHECKING:
    from fleetctl.gang.topology import Tree

FURTHER = 4  # to leave a domain costs so many times what it costs to leave one within it; the narrowest cost 1
SUSPECT = 2  # to take a spare in a suspect domain, or on a suspect node
TOLD = 6  # clauses of the sentence, before it says only who takes the other spares


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The spare that each lost rank takes, by name; the ranks for which none is left; why, in one sentence."""

    takes: Mapping[int, str]
    unplaced: tuple[int, ...]
    because: str


class Kind(NamedTuple):
    """Spares that are as good as each other."""

    domain: Domain
    suspect: bool


Place = Domain | Kind | str  # what ranks start from, pass through and end at
PLACED, UNPLACED = "placed", "unplaced"


def assign(
    lost: Collection[int],
    spares: Mapping[str, str],
    tree: "Tree",
    *,
    nodes: Mapping[int, str],
    block_size: int = 1,
    suspect: Collection[Domain | str] = (),
) -> Placement:
    """The cheapest placement of those ranks on those spares (name: node), of equal ones always the same.

    `nodes`: where the gang's ranks are, the lost ones where they last were. `suspect`: domains, and nodes by name, that
    are taken only if all else is far. A spare that must not be taken at all is not to be among `spares`.
    """
    homes = _homes(frozenset(lost), tree, nodes, block_size)
    kinds = _kinds(spares, tree, suspect)
    flow = _cheapest(Counter(homes.values()), {kind: len(names) for kind, names in kinds.items()}, depth_of(tree))
    ends = _deal(homes, flow, block_size)
    takes = {rank: name for kind in kinds for rank, name in zip(ends[kind], kinds[kind], strict=False)}
    taken = {rank: kind for kind in kinds for rank in ends[kind]}
    doubt = any(kind.suspect for kind in kinds)
    return Placement(
        takes=dict(sorted(takes.items())),
        unplaced=tuple(ends[UNPLACED]),
        because=_sentence(homes, taken, ends[UNPLACED], block_size, doubt),
    )


def _homes(lost: frozenset[int], tree: "Tree", nodes: Mapping[int, str], block_size: int) -> dict[int, Domain]:
    """For each rank the domain that most of its block is in, or was in if nothing is left of it."""

    def home(block: int) -> Domain:
        ranks = [rank for rank in range(block * block_size, (block + 1) * block_size) if rank in nodes]
        there = [rank for rank in ranks if rank not in lost] or ranks
        count = Counter(domain_of(nodes[rank], tree) for rank in there)
        # that a Node object is gone, and with it its labels, says nothing of where the block is
        return min(count, key=lambda domain: (domain == CLUSTER, -count[domain], domain), default=CLUSTER)

    blocks = {block: home(block) for block in {rank // block_size for rank in lost}}
    return {rank: blocks[rank // block_size] for rank in lost}


def _kinds(spares: Mapping[str, str], tree: "Tree", suspect: Collection[Domain | str]) -> dict[Kind, list[str]]:
    """The spares by kind; those of one node beside each other."""
    kinds: dict[Kind, list[str]] = defaultdict(list)
    for node, name in sorted((node, name) for name, node in spares.items()):
        domain = domain_of(node, tree)
        kinds[Kind(domain, any(place in suspect for place in (node, *way_out(domain))))].append(name)
    return kinds


def _cheapest(lost: Counter[Domain], spares: Mapping[Kind, int], depth: int) -> dict[Place, dict[Place, int]]:
    """How many ranks go from each place to each next one: from their homes to kinds of spares, to PLACED or UNPLACED.

    Among equal costs the kind with the most spares fills up first, so that a block that must move moves together.
    """
    from networkx import DiGraph, network_simplex

    domains = sorted({d for end in (*lost, *(kind.domain for kind in spares)) for d in (CLUSTER, *way_out(end))})
    unit = 1 + lost.total() * len(spares)  # more than all preferences among equals together
    placed = min(lost.total(), sum(spares.values()))
    flow: DiGraph[Place] = DiGraph()
    flow.add_node(PLACED, demand=placed)
    flow.add_node(UNPLACED, demand=lost.total() - placed)
    for order, kind in enumerate(sorted(spares, key=lambda kind: -spares[kind])):
        flow.add_edge(kind.domain, kind, weight=order + unit * SUSPECT * kind.suspect, capacity=spares[kind])
        flow.add_edge(kind, PLACED, weight=0)
    for domain in domains:
        flow.add_node(domain, demand=-lost[domain])
        if domain:
            flow.add_edge(domain, domain[:-1], weight=unit * FURTHER ** (depth - len(domain)))
            flow.add_edge(domain[:-1], domain, weight=0)
        if lost[domain] and placed < lost.total():
            flow.add_edge(domain, UNPLACED, weight=0)
    return network_simplex(flow)[1]


def _deal(
    homes: Mapping[int, Domain], flow: Mapping[Place, Mapping[Place, int]], block_size: int
) -> dict[Place, list[int]]:
    """The ranks that come to each place, in order: whole blocks go the same way where they can."""
    from networkx import DiGraph, topological_sort

    onward: DiGraph[Place] = DiGraph()
    onward.add_edges_from((a, b) for a, ways in flow.items() for b, ranks in ways.items() if ranks and b != PLACED)
    dealt: dict[Place, list[int]] = defaultdict(list)
    for rank, home in homes.items():
        dealt[home].append(rank)
    for place in topological_sort(onward):  # no circles: to go up and down again would cost for nothing
        dealt[place].sort()
        room = {way: flow[place][way] for way in onward.successors(place)}
        for ranks in _blocks(dealt[place], block_size) if room else ():
            rest = ranks
            while rest:
                way = _fitting(room, len(rest))
                dealt[way] += rest[: room[way]]
                rest, room[way] = rest[room[way] :], max(0, room[way] - len(rest))
    return dealt


def _blocks(ranks: Iterable[int], block_size: int) -> list[list[int]]:
    """The ranks by block, most first."""
    return sorted((list(block) for _, block in groupby(ranks, lambda rank: rank // block_size)), key=len, reverse=True)


def _fitting(room: Mapping[Place, int], ranks: int) -> Place:
    """The way with the least room that all of the ranks can go together, else the one with the most."""
    return min(room, key=lambda way: (not room[way], way == UNPLACED, room[way] < ranks, abs(room[way] - ranks)))


def _sentence(
    homes: Mapping[int, Domain], kinds: Mapping[int, Kind], unplaced: Collection[int], block_size: int, doubt: bool
) -> str:
    """`doubt`: some of the spares are suspect, so that a near one may have been left alone."""
    alike: dict[tuple[Kind, bool, bool], list[int]] = defaultdict(list)
    for rank in sorted(kinds):
        alike[kinds[rank], bool(homes[rank]), homes[rank] == kinds[rank].domain].append(rank)
    told = []
    for (kind, home_known, at_home), ranks in alike.items():
        one = len(ranks) == 1
        told.append(f"{_ranks(ranks)} {'takes a spare' if one else 'take spares'}")
        if kind.domain:
            told[-1] += f" in {kind.domain[-1]}"
        if home_known and not at_home:
            told[-1] += f", the nearest{' not suspect' * (doubt and not kind.suspect)} with any left"
        elif home_known and block_size > 1:
            told[-1] += f", the domain of {'its' if one else 'their'} block"
        elif home_known:
            told[-1] += f", where {'it was' if one else 'they were'}"
        if kind.suspect:
            told[-1] += ", though that is suspect: no better one was left"
    if len(told) > TOLD:
        others = [rank for ranks in list(alike.values())[TOLD:] for rank in ranks]
        told[TOLD:] = [f"{_ranks(others)} {'takes another' if len(others) == 1 else 'take others'}"]
    if unplaced:
        told.append(f"no spare is left for {_ranks(unplaced)}")
    return "; ".join(told)


def _ranks(ranks: Collection[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {ranges(ranks)}"
