"""Where lost ranks go: whose room they take, and what is left alone."""

from fleetctl.scenario.load import parse
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.simulate import simulate
from fleetctl.sim.journal import Event, Wrote

WORLD = """
version: 1
name: spares
why: Two racks of four have the ranks, and two of the three spares are in the second.
world:
  gang: {{name: g, ranks: 6, spares: 3, spec: {{placement: {{blockSize: {block}}}}}}}
  ranks_per_node: 1
  nodes_per_rack: 4
  nodes: 12
policy: {{unhealthyCeiling: 50%}}
timeline:
- {{at: 60s, fault: node_power_loss, select: {{nodes: "{nodes}"}}}}
expect:
- running: {{attempt: 2, within: 220s}}
- quiet: {{for: 30s}}
- spares: {{ready: 3}}
"""


class Rooms:
    """Where controllers put ranks. A journal listener."""

    def __init__(self) -> None:
        self.taken: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Wrote) and event.plural == "pods" and event.before is None:
            node = (event.after or {"spec": {}})["spec"].get("nodeName")
            self.taken |= {event.name.removeprefix("g-worker-"): node} if node else {}


def run(nodes: str, block: int = 1) -> tuple[Outcome, dict[str, str]]:
    rooms = Rooms()
    outcome = simulate(parse(WORLD.format(nodes=nodes, block=block), "spares.yaml"), 1, watch=rooms)
    assert (outcome.broken, outcome.unmet, outcome.violations) == ("", [], [])
    return outcome, rooms.taken


def test_a_rank_takes_a_spare_of_the_rack_that_it_was_in() -> None:
    for node in ("4", "5"):
        assert run(node)[1][node] in ("node-6", "node-7")


def test_ranks_that_are_lost_together_stay_in_their_rack_while_there_are_spares() -> None:
    taken = run("4,5")[1]
    assert {taken["4"], taken["5"]} == {"node-6", "node-7"}


def test_a_rank_goes_to_the_rack_of_what_is_left_of_its_block() -> None:
    """Rank 3 was in the first rack, the rest of its block is in the second: ranks 3 to 5."""
    assert run("3", block=3)[1]["3"] in ("node-6", "node-7")


def test_nobody_is_bound_and_the_spares_are_made_anew() -> None:
    outcome, taken = run("0,1")
    assert outcome.figures["bindings_after_start"] == 0
    assert outcome.figures["spares_taken"] == len(taken) == 2
