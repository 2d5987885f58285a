"""`python -m tests.model.explore [NAME...]`: how large the scopes are, those of the tests and larger ones, a line each.

Minutes to hours; a scope that is larger than `--states` (ten million) is told as not complete, with how far it got.
"""

import argparse
import resource
import sys
import time

from tests.model.protocol import Bounds, Protocol, State
from tests.model.search import everything, walks
from tests.model.test_small_scope import DEEP, SCOPES

LARGER = {
    "three faults": (2, "running", 4, Bounds(exits=3)),
    "two faults and a new leader": (2, "running", 2, Bounds(exits=2, terms=1, rounds=2)),
    "a pod is deleted under a new leader": (2, "running", 2, Bounds(deletes=1, terms=1, rounds=1)),
    "a fault and two new leaders": (2, "running", 2, Bounds(exits=1, terms=2, rounds=2)),
    "a node goes dark, a fault and a new leader": (2, "running", 2, Bounds(exits=1, dark=1, terms=1, rounds=2)),
    "three ranks start": (3, "empty", 1, Bounds(rounds=2)),
    "three ranks, a fault": (3, "running", 2, Bounds(exits=1)),
    "three ranks, two faults": (3, "running", 2, Bounds(exits=2, rounds=2)),
    "three ranks, a fault and a node dies": (3, "running", 2, Bounds(exits=1, deaths=1, rounds=2)),
    "three ranks, a fault and a pod is deleted": (3, "running", 2, Bounds(exits=1, deletes=1, rounds=2)),
    "three ranks, a new leader": (3, "running", 2, Bounds(terms=1)),
    "three ranks, a fault and a new leader": (3, "running", 2, Bounds(exits=1, terms=1, rounds=1)),
}


def main() -> int:
    scopes = {name: (2, *scope) for name, scope in SCOPES.items()} | LARGER
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(scopes)}")
    parser.add_argument("--states", type=int, default=10_000_000)
    parser.add_argument("--walks", type=int, default=0, help="instead: so many random walks of 100 moves")
    options = parser.parse_args()
    broken = 0
    if options.walks:
        protocol = Protocol(*DEEP[:2])
        found = walks(protocol, protocol.running(DEEP[2]), 0, options.walks, longest=100)
        print("\n".join((f"{found.moves:,} moves: {found.violation or 'no violation'}", *found.way)))
        return 1 if found.violation else 0
    for name in options.names or scopes:
        ranks, begin, last_attempt, bounds = scopes[name]
        protocol, began = Protocol(ranks, last_attempt), time.process_time()
        state: State = getattr(protocol, begin)(bounds)
        found = everything(protocol, state, options.states)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"{name}: {ranks} ranks, attempt {last_attempt}, {_told(bounds)}: {found.states:,} states, "
            f"{found.moves:,} moves, depth {found.depth}, {'complete' if found.complete else 'NOT COMPLETE'}, "
            f"{found.violation or 'no violation'}, {time.process_time() - began:.0f} s, {memory} MiB",
            flush=True,
        )
        print("\n".join(found.way), end="")
        broken += bool(found.violation)
    return 1 if broken else 0


def _told(bounds: Bounds) -> str:
    return " ".join(f"{name}={value}" for name, value in bounds._asdict().items() if value)


if __name__ == "__main__":
    sys.exit(main())
