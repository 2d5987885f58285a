"""Which spare a lost rank takes. A gang's ranks are eight to a node, in the order of FLEET."""

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetctl.gang.placement import Placement, assign
from fleetctl.gang.spec import PlacementSpec
from fleetctl.gang.state import Node
from fleetctl.gang.topology import CLUSTER, Domain, depth_of, domain_of, tree_of


def node(name: str) -> Node:
    """`a1-3` is node 3 of rack 1 in zone a; `a-3` is in no rack, `-3` in no zone either."""
    zone, rack = name.split("-")[0][:1], name.split("-")[0][1:]
    return Node(name=name, domains=(f"zone={zone}",) * bool(zone) + (f"rack={rack}",) * bool(rack))


FLEET = [node(f"{zone}{rack}-{n}") for zone in "ab" for rack in "1234" for n in range(4)]
RANKS = {rank: FLEET[rank // 8].name for rank in range(8 * len(FLEET))}
TREE = tree_of(FLEET)
A1, A2 = ("zone=a", "rack=1"), ("zone=a", "rack=2")


def place(
    lost: Collection[int], spares: str, *, block_size: int = 1, suspect: Collection[Domain | str] = ()
) -> Placement:
    """`spares`: their nodes, `a1-3*8` for eight on one; their names are `a1-3/0` to `a1-3/7`."""
    on = [(name, int(many or 1)) for name, _, many in (word.partition("*") for word in spares.split())]
    named = {f"{name}/{n}": name for name, many in on for n in range(many)}
    return assign(lost, named, TREE, nodes=RANKS, block_size=block_size, suspect=suspect)


def nodes_of(placement: Placement) -> dict[int, str]:
    return {rank: spare.split("/")[0] for rank, spare in placement.takes.items()}


# -- the tree


def test_racks_of_one_name_in_two_zones_are_two_domains() -> None:
    assert domain_of("a1-0", TREE) == A1
    assert domain_of("b1-0", TREE) == ("zone=b", "rack=1")
    assert set(TREE.successors(A1)) == {"a1-0", "a1-1", "a1-2", "a1-3"}
    assert set(TREE.successors(CLUSTER)) == {("zone=a",), ("zone=b",)}
    assert depth_of(TREE) == 2


def test_a_node_that_lacks_a_label_hangs_in_the_narrowest_domain_it_names() -> None:
    tree = tree_of([*FLEET, node("a-0"), node("-0")])
    assert domain_of("a-0", tree) == ("zone=a",)
    assert domain_of("-0", tree) == CLUSTER
    assert domain_of("nobody-knows-it", tree) == CLUSTER
    assert depth_of(tree_of([node("-0")])) == depth_of(tree_of([])) == 0


@pytest.mark.parametrize(
    ("keys", "domain"),
    [
        ([], A1),
        (["zone", "rack"], A1),
        (["rack"], ("rack=1",)),
        (["rack", "zone"], ("rack=1", "zone=a")),
        (["zone", "block", "rack"], A1),
        (["block"], CLUSTER),
        (["rac"], CLUSTER),
    ],
)
def test_the_levels_of_the_tree_are_the_labels_that_the_spec_names(keys: list[str], domain: Domain) -> None:
    assert domain_of("a1-0", tree_of(FLEET, keys)) == domain


# -- one rank


@pytest.mark.parametrize(
    ("spares", "suspect", "taken"),
    [
        ("a1-3 a2-0 b1-0", [], "a1-3"),
        ("b1-0 a2-0", [], "a2-0"),
        ("b1-0", [], "b1-0"),
        ("b2-0 b1-0", [], "b1-0"),  # as good as each other: the first by name
        ("a3-0 a2-0*2", [], "a2-0"),  # where there is more room
        # rather another rack than a suspect one, rather a suspect one than another zone
        ("a1-3 a2-0", [A1], "a2-0"),
        ("a1-3 a2-0", ["a1-3"], "a2-0"),
        ("a1-3 b1-0", [A1], "a1-3"),
        ("a2-0 a3-0 b1-0", [A2], "a3-0"),
        ("a2-0 b1-0", [A2], "a2-0"),
        ("a1-3 a2-0", [A1, A2], "a1-3"),
        ("a1-3 a2-0", [("zone=a",)], "a1-3"),
        # near misses: the rack of that name in the other zone, another node, the label alone
        ("a1-3 a2-0", [("zone=b", "rack=1")], "a1-3"),
        ("a1-3 a2-0", ["a1-2"], "a1-3"),
        ("a1-3 a2-0", ["rack=1"], "a1-3"),
    ],
)
def test_a_rank_takes_the_nearest_spare_that_is_not_suspect(
    spares: str, suspect: list[Domain | str], taken: str
) -> None:
    assert nodes_of(place([0], spares, suspect=suspect)) == {0: taken}


def test_where_racks_are_all_there_is_a_suspect_one_is_left_for_another() -> None:
    tree = tree_of(FLEET, ["rack"])
    spares = {"s1": "a1-3", "s2": "a2-0"}
    assert assign([0], spares, tree, nodes=RANKS, suspect=[("rack=1",)]).takes == {0: "s2"}


def test_rather_a_suspect_spare_than_another_zone_for_a_rank_that_was_in_no_rack() -> None:
    spares = {"s1": "a-1", "s2": "b1-0", "s3": "b1-0"}
    tree = tree_of([*FLEET, node("a-0"), node("a-1")])
    assert assign([0], spares, tree, nodes={0: "a-0"}, suspect=["a-1"]).takes == {0: "s1"}


# -- blocks


def test_a_rank_goes_to_where_the_most_of_its_block_is_and_not_to_where_it_was() -> None:
    ranks = {0: "a2-0", 1: "a1-0", 2: "a1-1", 3: "a2-1"}
    spares = {"s1": "a1-3", "s2": "a2-3"}

    def taken(lost: list[int], block_size: int) -> dict[int, str]:
        return dict(assign(lost, spares, TREE, nodes=ranks, block_size=block_size).takes)

    assert taken([0], 4) == {0: "s1"}
    assert taken([0], 2) == {0: "s1"}
    assert taken([0], 1) == {0: "s2"}
    assert taken([3], 4) == {3: "s1"}
    assert taken([3], 2) == {3: "s1"}  # with rank 2 alone
    assert taken([2, 3], 2) == {2: "s1", 3: "s2"}  # nothing is left of it: where most of it was, the first by name
    assert taken([1], 4) == {1: "s2"}  # two of the three that are left


def test_a_node_of_which_nothing_is_known_any_more_does_not_say_where_a_block_is() -> None:
    ranks = {0: "gone", 1: "gone", 2: "b1-0"}
    spares = {"s1": "a1-0", "s2": "b1-1", "s3": "b1-1", "s4": "b1-1"}
    assert assign([0, 1, 2], spares, TREE, nodes=ranks, block_size=3).takes == {0: "s2", 1: "s3", 2: "s4"}
    assert assign([0], {"s1": "a1-0"}, TREE, nodes={}, block_size=3).takes == {0: "s1"}


def test_a_block_that_must_move_moves_together() -> None:
    moved = place(range(8), "a2-0*3 a3-0*8 a4-0*5", block_size=8)
    assert set(nodes_of(moved).values()) == {"a3-0"}


@pytest.mark.parametrize(
    ("lost", "spares", "moved"),
    [
        ([0, 1, 8, 9, 10], "a2-0*3 a3-0*2", {0: "a3-0", 1: "a3-0", 8: "a2-0", 9: "a2-0", 10: "a2-0"}),
        ([3, 8, 9, 17, 18], "a2-0*3 a3-0*2", {3: "a2-0", 8: "a3-0", 9: "a3-0", 17: "a2-0", 18: "a2-0"}),
        ([0, 1, 8, 9], "a2-0*3 a3-0", {0: "a2-0", 1: "a2-0", 8: "a2-0", 9: "a3-0"}),  # one must part
    ],
)
def test_blocks_that_must_move_part_only_if_they_must(lost: list[int], spares: str, moved: dict[int, str]) -> None:
    assert nodes_of(place(lost, spares, block_size=8)) == moved


def test_ranks_that_come_from_several_racks_take_the_spares_in_order() -> None:
    ranks = {0: "a1-0", 1: "a2-0", 2: "a1-1", 3: "a2-1"}
    spares = {f"s{n}": "a3-0" for n in range(4)}
    assert assign(ranks, spares, TREE, nodes=ranks).takes == {0: "s0", 1: "s1", 2: "s2", 3: "s3"}


def test_if_there_are_too_few_spares_the_last_ranks_get_none() -> None:
    placement = place([0, 1, 2, 3], "a1-3*3")
    assert (list(placement.takes), placement.unplaced) == ([0, 1, 2], (3,))


def test_the_whole_of_lost_ranks_decides_and_not_the_first_of_them() -> None:
    """Rank 0 could take the spare of zone a, which its own rack has not; then rank 32 would have to leave the zone."""
    lost = [0, 32]  # of racks a1 and a2
    assert nodes_of(place(lost, "a2-3 b1-0")) == {0: "b1-0", 32: "a2-3"}


def test_two_racks_lose_nodes_and_the_spares_are_in_one() -> None:
    """Racks a1 and b2 lose a node each; the spares: twelve in a1, and two in b3."""
    lost = [*range(8), *range(160, 168)]
    placement = place(lost, "a1-2*8 a1-3*4 b3-0*2", block_size=16)
    on = nodes_of(placement)
    assert [on[rank] for rank in range(8)] == ["a1-2"] * 8
    assert Counter(on[rank] for rank in range(160, 168) if rank in on) == {"b3-0": 2, "a1-3": 4}
    assert placement.unplaced == (166, 167)
    assert placement.because == (
        "ranks 0-7 take spares in rack=1, the domain of their block; ranks 160-163 take spares in rack=1, the nearest "
        "with any left; ranks 164-165 take spares in rack=3, the nearest with any left; "
        "no spare is left for ranks 166-167"
    )


# -- the sentence


@pytest.mark.parametrize(
    ("lost", "spares", "block_size", "because"),
    [
        ([], "a1-0", 1, ""),
        ([0], "a1-3", 1, "rank 0 takes a spare in rack=1, where it was"),
        ([0], "a1-3", 16, "rank 0 takes a spare in rack=1, the domain of its block"),
        ([0, 1, 3], "a1-3*3", 1, "ranks 0-1,3 take spares in rack=1, where they were"),
        ([0], "b3-0", 16, "rank 0 takes a spare in rack=3, the nearest with any left"),
        ([0], "", 16, "no spare is left for rank 0"),
    ],
)
def test_one_sentence_says_why(lost: list[int], spares: str, block_size: int, because: str) -> None:
    assert place(lost, spares, block_size=block_size).because == because


def test_the_sentence_says_that_a_suspect_spare_was_taken() -> None:
    assert place([0], "a1-3 b1-0", suspect=[A1]).because == (
        "rank 0 takes a spare in rack=1, where it was, though that is suspect: no better one was left"
    )


def test_the_sentence_calls_a_suspect_spare_the_nearest_if_it_is() -> None:
    assert place([0], "a2-0", suspect=[A2]).because == (
        "rank 0 takes a spare in rack=2, the nearest with any left, though that is suspect: no better one was left"
    )


def test_the_sentence_says_that_a_nearer_spare_was_suspect() -> None:
    assert place([0], "a1-3 a2-0", suspect=[A1]).because == (
        "rank 0 takes a spare in rack=2, the nearest not suspect with any left"
    )


def test_where_nothing_is_known_of_a_rank_nothing_is_called_near() -> None:
    assert assign([0], {"s": "a1-0"}, TREE, nodes={}).because == "rank 0 takes a spare in rack=1"


def test_where_no_domains_are_known_the_sentence_names_none() -> None:
    placement = assign([4, 5], {"s1": "x", "s2": "y"}, tree_of([]), nodes={4: "u", 5: "v"})
    assert placement.because == "ranks 4-5 take spares"


def test_the_sentence_stays_short_when_ranks_go_everywhere() -> None:
    spares = " ".join(f"{zone}{rack}-0" for zone in "ab" for rack in "1234")
    assert place(range(0, 256, 32), spares).because.endswith(
        "rank 160 takes a spare in rack=2, where it was; ranks 192,224 take others"
    )


# -- what holds of every placement

NAMES = ("a1-0", "a1-1", "a2-0", "a2-1", "a-0", "b1-0", "b2-0", "-0")
PLACES = [*NAMES, A1, A2, ("zone=a",), ("zone=b",), ("zone=b", "rack=1")]
SMALL = [node(name) for name in NAMES]


def home_of(rank: int, lost: Collection[int], ranks: Mapping[int, str], block_size: int) -> Domain:
    known = {n.name: n.domains for n in SMALL}
    block = [r for r in ranks if r // block_size == rank // block_size]
    there = [known.get(ranks[r], ()) for r in block if r not in lost] or [known.get(ranks[r], ()) for r in block]
    return min(there, key=lambda d: (d == (), -there.count(d), d))


def cost(home: Domain, spare: str, suspect: Collection[Domain | str]) -> int:
    """What a rank of that home pays for a spare on that node: 1 to leave a rack, 4 to leave a zone, 2 for a suspect."""
    at = next(n.domains for n in SMALL if n.name == spare)
    shared = next((i for i, (a, b) in enumerate(zip(home, at, strict=False)) if a != b), min(len(home), len(at)))
    doubt = spare in suspect or any(at[: i + 1] in suspect for i in range(len(at)))
    return sum((4, 1)[level] for level in range(shared, len(home))) + 2 * doubt


@settings(max_examples=150, deadline=None)
@given(
    ranks=st.lists(st.sampled_from([*NAMES, "gone"]), min_size=1, max_size=10),
    lost=st.sets(st.integers(0, 9), max_size=4),
    spares=st.lists(st.sampled_from(NAMES), max_size=5),
    suspect=st.sets(st.sampled_from(PLACES), max_size=3),
    block_size=st.integers(1, 4),
    shuffled=st.randoms(use_true_random=False),
)
def test_no_other_placement_is_cheaper_and_the_order_of_what_is_given_does_not_matter(
    ranks: list[str], lost: set[int], spares: list[str], suspect: set[Domain | str], block_size: int, shuffled
) -> None:
    nodes = dict(enumerate(ranks))
    lost &= nodes.keys()
    named = {f"s{i}": name for i, name in enumerate(spares)}
    placement = assign(lost, named, tree_of(SMALL), nodes=nodes, block_size=block_size, suspect=suspect)

    assert sorted([*placement.takes, *placement.unplaced]) == sorted(lost)
    assert list(placement.takes) == sorted(placement.takes)
    assert len(set(placement.takes.values())) == len(placement.takes)
    assert len(placement.unplaced) == max(0, len(lost) - len(spares))

    price = {
        (rank, spare): cost(home_of(rank, lost, nodes, block_size), named[spare], suspect)
        for rank in lost
        for spare in named
    }
    many = len(placement.takes)
    best = min(
        sum(price[pair] for pair in zip(some, order, strict=True))
        for some in itertools.combinations(lost, many)
        for order in itertools.permutations(named, many)
    )
    assert sum(price[pair] for pair in placement.takes.items()) == best

    def mixed(things):
        return shuffled.sample(list(things), len(things))

    again = assign(
        mixed(lost),
        dict(mixed(named.items())),
        tree_of(mixed(SMALL)),
        nodes=dict(mixed(nodes.items())),
        block_size=block_size,
        suspect=mixed(suspect),
    )
    assert again == placement
    assert list(again.takes) == list(placement.takes)


# -- the spec


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, PlacementSpec()),
        (
            {"topologyKeys": ["topology.kubernetes.io/zone", "rack"], "blockSize": 64},
            PlacementSpec(topology_keys=["topology.kubernetes.io/zone", "rack"], block_size=64),
        ),
    ],
)
def test_the_spec_is_read(written: dict[str, object], read: PlacementSpec) -> None:
    assert msgspec.convert(written, PlacementSpec) == read


@pytest.mark.parametrize(
    "written",
    [
        {"blockSize": 0},
        {"blockSize": 1.5},
        {"topologyKeys": []},
        {"topologyKeys": ["zone="]},
        {"topologyKeys": ["Zone.example/zone"]},
        {"topologyKeys": ["a/b/c"]},
        {"topologyKeys": [f"level-{n}" for n in range(9)]},
    ],
)
def test_what_the_spec_refuses(written: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(written, PlacementSpec)


def test_networkx_is_not_loaded_before_a_rank_is_placed() -> None:
    program = "import sys, fleetctl.gang.placement, fleetctl.gang.topology; print('networkx' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
