"""The tree of failure domains: zones, blocks, racks, and the nodes that hang in them.

A domain is the labels on the way to it, the widest first, so two racks of one name in two zones are two domains. Knows
nothing of ranks and spares (placement.py). Who only asks what a few nodes have in common needs no tree (domains.py).

networkx is imported where it is used: it takes longer than any command line may take to start.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fleetctl.gang.state import Node

if TYPE_CHECKING:
    from networkx import DiGraph

    Tree = DiGraph["Domain | str"]  # from each domain to those within it and to the nodes in none of these, by name

Domain = tuple[str, ...]
CLUSTER: Domain = ()


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
