"""Failure domains: what nodes have in common that may fail at once, a rack, a switch, a zone.

Each node names its own, the widest first (`Node.domains`), so the tree is their common beginnings: two racks of one
name in two zones are two domains. Knows nothing of what follows from a domain's failure (diagnose/node_state.py).
"""

from collections.abc import Collection

from fleetctl.gang.state import Node


def common(nodes: Collection[Node], silent: Collection[str]) -> str:
    """The narrowest domain that holds all of those nodes, by name, if at least half of its own are among them; "" if
    there is none. `nodes` are the gang's: a domain that holds them all says nothing, and one node is no domain."""
    hit = [node.domains for node in nodes if node.name in silent]
    if len(hit) < 2:
        return ""
    shared = _common_beginning(hit)
    within = sum(node.domains[: len(shared)] == shared for node in nodes)  # all, if they share nothing
    return shared[-1] if within < len(nodes) and 2 * len(hit) >= within else ""


def _common_beginning(paths: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    least, most = min(paths), max(paths)  # whatever these two share, all between them share
    length = next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), min(len(least), len(most)))
    return least[:length]
