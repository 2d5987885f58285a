"""Which lost rank takes the room of which spare, and which spares must be made or go.

A rank takes a spare in two steps, each safe alone: the spare is deleted; once its object is gone, the rank's pod is
made on its node. Should the controller end in between, the next one takes another spare, and the room is filled again.

Where a rank had better go is placement.py's.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fleetctl.gang import spare_pods
from fleetctl.gang.diagnose.node_state import is_suspect
from fleetctl.gang.identity import Gang
from fleetctl.gang.placement import assign
from fleetctl.gang.spec import Group
from fleetctl.gang.state import Member, Node, Spare
from fleetctl.gang.topology import tree_of

SPARES_TOLD = 1000
"""So long may the sentence be that tells of them, characters."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A spare that is to be made."""

    group: Group
    index: int


@dataclass(frozen=True, slots=True)
class Taken:
    """By rank, the spares whose room is taken in this recovery, and why those."""

    by: Mapping[int, Spare] = field(default_factory=dict)
    because: str = ""


NONE_TAKEN = Taken()


def usable(spares: Sequence[Spare], avoid: Collection[str] = ()) -> list[Spare]:
    """Those that a rank could take now."""
    return [
        s for s in spares
        if s.ready and not s.deleting and not s.over and s.on and s.on.name not in avoid and not is_suspect(s.on)
    ]  # fmt: skip


def take(
    lost: Sequence[int],
    gang: Gang,
    members: Sequence[Member],
    spares: Sequence[Spare],
    *,
    left: Mapping[int, Node],
    avoid: Collection[str],
    before: Taken,
) -> Taken:
    """The spares for the ranks that have no pod: those that were given one before keep it, unless its node has become
    one to avoid. `left`: the nodes that ranks were on, as far as we remember."""
    kept = {rank: spare for rank, spare in before.by.items() if rank in lost and _still(spare, avoid)}
    uids = {spare.uid for spare in before.by.values()}
    free: defaultdict[str, dict[str, Spare]] = defaultdict(dict)
    for spare in usable(spares, avoid):
        if spare.uid not in uids:
            free[spare.group][spare.name] = spare
    wanting: defaultdict[str, list[int]] = defaultdict(list)
    for rank in lost:
        if rank not in kept and (group := members[rank].group) in free:
            wanting[group].append(rank)
    if not wanting:
        return Taken(kept, before.because)
    nodes = [m.node for m in members if m.node] + [s.on for s in spares if s.on] + list(left.values())
    tree = tree_of({node.name: node for node in nodes}.values(), gang.spec.placement.topology_keys)
    where = {m.rank: m.node.name for m in members if m.node} | {rank: node.name for rank, node in left.items()}
    told = [before.because] if before.because else []
    for group, ranks in wanting.items():
        names = {name: spare.on.name for name, spare in free[group].items() if spare.on}
        placed = assign(ranks, names, tree, nodes=where, block_size=gang.spec.placement.block_size)
        kept |= {rank: free[group][name] for rank, name in placed.takes.items()}
        told.append(placed.because)
    return Taken(kept, "; ".join(told)[:SPARES_TOLD])


def _still(spare: Spare, avoid: Collection[str]) -> bool:
    return spare.on is not None and spare.on.name not in avoid


def missing(gang: Gang, spares: Sequence[Spare]) -> tuple[Wanted, ...]:
    """The spares that are asked for and have no pod."""
    there = {spare.name for spare in spares}
    return tuple(
        Wanted(group, index)
        for group in gang.spec.groups
        for index in range(group.spares)
        if spare_pods.name(gang, group, index) not in there
    )


def useless(gang: Gang, spares: Sequence[Spare], *, wanted: bool) -> tuple[Spare, ...]:
    """The spares that must go: they have ended, or nobody could take them where they are, or there are too many. None
    is `wanted` if the gang does not run."""
    names = {
        spare_pods.name(gang, group, index) for group in gang.spec.groups for index in range(group.spares) if wanted
    }
    return tuple(spare for spare in spares if (spare.name not in names and not spare.deleting) or _is_lost(spare))


def _is_lost(spare: Spare) -> bool:
    """Also one that is being deleted, if nobody is there to confirm it."""
    on = spare.on
    if on is not None and (not on.exists or on.ready != "True"):
        return True
    return not spare.deleting and (spare.over or (on is not None and is_suspect(on)))
