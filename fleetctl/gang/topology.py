"""The tree of failure domains: zones, blocks, racks, and the nodes that hang in them.

A domain is the labels on the way to it, the widest first, so two racks of one name in two zones are two domains. Knows
nothing of ranks and spares (placement.py). Who only asks what a few nodes have in common needs no tree (domains.py).

networkx is imported where it is used: it takes longer than any command line may take to start.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct, field

from fleetctl.gang.state import Node

if TYPE_CHECKING:
    from networkx import DiGraph

    Tree = DiGraph["Domain | str"]  # from each domain to those within it and to the nodes in none of these, by name

Domain = tuple[str, ...]
CLUSTER: Domain = ()

LabelKey = Annotated[
    str, Meta(pattern="^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=317)
]


class PlacementSpec(Struct, rename="camel", omit_defaults=True, frozen=True):
    """Which nodes lost ranks had better go to."""

    RULES: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            ("!has(self.topologyKeys) || self.topologyKeys.all(k, self.topologyKeys.exists_one(other, other == k))"),
            "placement.topologyKeys names a label twice: each is one level of the tree, name it once",
        ),
    )

    topology_keys: Annotated[
        list[LabelKey],
        Meta(
            min_length=1,
            max_length=8,
            description="Labels of nodes that name their failure domains, the widest first. Default: the well-known "
            "labels of zones, blocks and racks.",
        ),
    ] = field(default_factory=list)
    block_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="So many consecutive ranks, counted from rank 0, belong together: a lost one goes to where the "
            "others of its block are. Default: each rank for itself, near where it was.",
        ),
    ] = 1


def tree_of(nodes: Iterable[Node], keys: Sequence[str] = ()) -> "Tree":
    """The failure domains of those nodes by those labels, by all they have if none are named. A node that lacks a label
    hangs in the narrowest domain that it names."""
    from networkx import DiGraph

    out: Tree = DiGraph()
    out.add_node(CLUSTER)
    for node in nodes:
        domain = _domain_by(keys, node) if keys else node.domains
        out.add_edge(domain, node.name)
        while domain and not out.pred[domain]:
            out.add_edge(domain[:-1], domain)
            domain = domain[:-1]
    return out


def domain_of(node: str, tree: "Tree") -> Domain:
    """The narrowest domain that the node is in; the whole cluster if the tree does not know it."""
    return next((d for d in tree.pred.get(node, ()) if isinstance(d, tuple)), CLUSTER)


def depth_of(tree: "Tree") -> int:
    """How many domains, one in the other, the narrowest node is in."""
    return max(len(domain) for domain in tree if isinstance(domain, tuple))


def way_out(domain: Domain) -> list[Domain]:
    """The domain and all that it is in, the narrowest first, without the whole cluster."""
    return [domain[:length] for length in range(len(domain), 0, -1)]


def _domain_by(keys: Sequence[str], node: Node) -> Domain:
    labels = {label.partition("=")[0]: label for label in node.domains}
    return tuple(labels[key] for key in keys if key in labels)
