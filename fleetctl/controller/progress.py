"""How far the trainers of a gang are, as their agents tell, for decisions to read. What follows from it is judged in
gang/diagnose/progress.py."""

from collections.abc import Callable, Iterable

from fleetctl.gang import state


def steps(
    members: Iterable[state.Member], told: Callable[[str], state.Steps | None], attempt: int
) -> dict[int, state.Steps]:
    """By rank, of the members whose trainers run this attempt and tell. `told` is the rendezvous', by pod uid."""
    return {
        member.rank: found
        for member in members
        if (life := member.life) is not None and life.attempt == attempt and (found := told(life.uid)) is not None
    }
