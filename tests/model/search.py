"""Looks for a way in which the protocol breaks an invariant: everywhere, or along random walks.

A way that is found is told move by move.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from tests.model.protocol import Protocol, State, Violation, canonical


@dataclass
class Found:
    """`states` different ones were reached, by `moves`, the furthest after `depth` of them; `complete`: these are all.
    In `all_run` of them all ranks run the last attempt. `violation`: what was broken; `way` to it, move by move."""

    states: int = 0
    moves: int = 0
    depth: int = 0
    all_run: int = 0
    complete: bool = False
    violation: str = ""
    way: list[str] = field(default_factory=list)


def everything(protocol: Protocol, begin: State, most_states: int = 10_000_000) -> Found:
    """Every state that can be reached, the nearest first.

    States are remembered by a hash of 64 bits: with a million of them, the chance that one was taken for another is
    one in thirty million.
    """
    found, begin = Found(), canonical(begin, protocol)
    came = {hash(begin): 0}
    waiting = deque([(begin, 0)])
    while waiting:
        state, found.depth = waiting.popleft()
        here = hash(state)
        found.all_run += protocol.all_run(state)
        try:
            for _, after in protocol.moves(state):
                found.moves += 1
                after = canonical(after, protocol)
                key = hash(after)
                if key not in came:
                    came[key] = here
                    waiting.append((after, found.depth + 1))
        except Violation as violation:
            found.states, found.violation, found.way = len(came), str(violation), _way(protocol, begin, came, here)
            return found
        if len(came) > most_states:
            found.states = len(came)
            return found
    found.states, found.complete = len(came), True
    return found


def _way(protocol: Protocol, begin: State, came: dict[int, int], there: int) -> list[str]:
    """Gone once more, to put each move into words."""
    stations = [there]
    while came[stations[-1]]:
        stations.append(came[stations[-1]])
    state, way = begin, []
    for station in stations[-2::-1]:
        label, state = next(
            (la, st) for la, after in protocol.moves(state) if hash(st := canonical(after, protocol)) == station
        )
        way.append(" ".join(map(str, label)))
    return way


def walks(protocol: Protocol, begin: State, seed: int, walks: int, longest: int) -> Found:
    """Random walks, each from the beginning."""
    rng, found, begin = random.Random(seed), Found(), canonical(begin, protocol)
    for _ in range(walks):
        state, way = begin, []
        for _ in range(longest):
            try:
                moves = list(protocol.moves(state))
            except Violation as violation:
                found.violation, found.way = str(violation), way
                return found
            if not moves:
                break
            label, state = rng.choice(moves)
            state = canonical(state, protocol)
            way.append(label)
            found.moves += 1
        found.depth = max(found.depth, len(way))
    return found
