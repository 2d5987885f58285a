"""How long it takes to place lost ranks on spares, beside the naive flow with an edge from each rank to each spare.

python tests/simulation/bench_placement.py [LOST SPARES]: milliseconds, the least, the median and the worst of nine,
and the ratio to ours, for a gang of 10,240 ranks on 1,280 nodes: sixteen to a rack, four racks to a block, five blocks
to a zone. Both must come to the same cost. The bar of 50 ms is for 64 lost ranks and 256 spares.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

import networkx

from fleetctl.gang.placement import FURTHER, SUSPECT, Placement, assign
from fleetctl.gang.state import Node
from fleetctl.gang.topology import Domain, depth_of, domain_of, tree_of

RUNS = 9
RANKS, A_NODE, A_RACK, A_BLOCK, A_ZONE = 10_240, 8, 16, 64, 320  # of ranks, and of nodes
BLOCK_SIZE = 64
BAR_MS = 50.0


def fleet() -> list[Node]:
    return [
        Node(
            name=f"node-{n:04}",
            domains=(f"zone={n // A_ZONE}", f"block={n // A_BLOCK}", f"rack={n // A_RACK}"),
        )
        for n in range(RANKS // A_NODE)
    ]


class Incident:
    """Nodes of four racks are lost; the spares are anywhere else, and some racks of them are suspect."""

    def __init__(self, lost: int, spares: int) -> None:
        chance = random.Random(7)
        self.fleet = fleet()
        self.tree = tree_of(self.fleet)
        self.nodes = {rank: self.fleet[rank // A_NODE].name for rank in range(RANKS)}
        racks = chance.sample(range(len(self.fleet) // A_RACK), 4)
        bad = chance.sample(
            [n for rack in racks for n in range(rack * A_RACK, (rack + 1) * A_RACK)], -(-lost // A_NODE)
        )
        self.lost = sorted(rank for n in bad for rank in range(n * A_NODE, (n + 1) * A_NODE))[:lost]
        good = [node.name for n, node in enumerate(self.fleet) if n not in bad]
        self.spares = {f"spare-{n}": chance.choice(good) for n in range(spares)}
        self.suspect = {node.domains for node in chance.sample(self.fleet, 12)}

    def ours(self) -> Placement:
        return assign(self.lost, self.spares, self.tree, nodes=self.nodes, block_size=BLOCK_SIZE, suspect=self.suspect)

    def naive(self, prices: Mapping[tuple[int, str], int]) -> int:
        """The least cost, by a flow that names every rank and every spare."""
        flow = networkx.DiGraph()
        for rank in self.lost:
            flow.add_node(rank, demand=-1)
        for (rank, spare), price in prices.items():
            flow.add_edge(rank, spare, weight=price, capacity=1)
        for spare in self.spares:
            flow.add_edge(spare, "placed", capacity=1, weight=0)
        flow.add_node("placed", demand=len(self.lost))
        return networkx.network_simplex(flow)[0]

    def prices(self) -> Mapping[tuple[int, str], int]:
        """What each rank would pay for each spare. No block is lost whole here: its home is where its rank was."""
        depth = depth_of(self.tree)
        return {
            (rank, spare): _price(domain_of(self.nodes[rank], self.tree), at, depth) + SUSPECT * (at in self.suspect)
            for spare, at in ((name, domain_of(node, self.tree)) for name, node in self.spares.items())
            for rank in self.lost
        }


def _price(home: Domain, at: Domain, depth: int) -> int:
    return sum(FURTHER ** (depth - n) for n in range(1, len(home) + 1) if home[:n] != at[:n])


def timed(run: Callable[[], object]) -> list[float]:
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        took.append((time.perf_counter() - began) * 1000)
    return took


def main(lost: int, spares: int) -> None:
    """Print one line for each way."""
    incident = Incident(lost, spares)
    prices = incident.prices()
    ours = sum(prices[pair] for pair in incident.ours().takes.items())
    naive = incident.naive(prices)
    assert ours == naive, f"ours costs {ours}, the naive flow {naive}"

    ways: dict[str, Callable[[], object]] = {
        "ours": incident.ours,
        "the tree that ours needs": lambda: tree_of(incident.fleet),
        "naive flow": lambda: incident.naive(prices),
    }
    took = {name: timed(run) for name, run in ways.items()}
    baseline = median(took["ours"])
    for name, ms in took.items():
        middle = median(ms)
        print(
            f"{name:26} least {min(ms):7.1f} ms  median {middle:7.1f} ms  worst {max(ms):7.1f} ms"
            f"  x{middle / baseline:.1f}"
        )
    print(f"lost={lost} spares={spares} cost={ours} placement_ms={baseline:.1f} bar_ms={BAR_MS:.0f}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:] or ("64", "256")))
