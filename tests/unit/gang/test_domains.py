"""Which failure domain it is that has failed."""

import pytest

from fleetctl.gang.domains import common
from fleetctl.gang.state import Node


def node(name: str) -> Node:
    """`a1-3` is node 3 of rack 1 in zone a."""
    zone, rack = name[0], name.split("-")[0][1:]
    return Node(name=name, domains=(f"zone={zone}", f"rack={rack}") if rack else (f"zone={zone}",))


FLEET = [node(f"{zone}{rack}-{n}") for zone in "ab" for rack in "12" for n in range(4)]


@pytest.mark.parametrize(
    ("silent", "domain"),
    [
        ("a1-0 a1-1", "rack=1"),
        ("a1-0 a1-1 a1-2 a1-3", "rack=1"),
        ("a1-0 a1-1 a2-0 a2-1", "zone=a"),
        # near misses
        ("", ""),
        ("a1-0", ""),  # one node is no domain
        ("a1-0 a2-0", ""),  # of eight
        ("a1-0 b1-0", ""),  # the rack of another zone that has the same name
        ("a1-0 a1-1 b1-0 b1-1", ""),
        ("a1-0 a1-1 a2-0", ""),  # three of eight
    ],
)
def test_the_narrowest_domain_of_which_half_is_silent(silent: str, domain: str) -> None:
    assert common(FLEET, silent.split()) == domain


def test_a_domain_that_holds_the_whole_gang_says_nothing() -> None:
    rack = [n for n in FLEET if n.name.startswith("a1")]
    assert common(rack, ["a1-0", "a1-1"]) == ""
    assert common([*rack, node("a2-0")], ["a1-0", "a1-1"]) == "rack=1"


def test_a_node_without_domains_is_in_none() -> None:
    assert common([*FLEET, Node(name="x")], ["a1-0", "a1-1", "x"]) == ""
    assert common([*FLEET, Node(name="x")], ["a1-0", "a1-1"]) == "rack=1"
    assert common([node("a-0"), node("a-1"), *FLEET], ["a-0", "a1-0", "a1-1", "a2-0", "a2-1", "a-1"]) == "zone=a"
