"""What may be seen of a gang, in short, for the tests of diagnosis: rank r is on node `n<r>` unless told otherwise."""

from collections.abc import Iterable, Mapping
from typing import Any

from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.spec import Match, RuleAction, UserRule
from fleetctl.gang.state import Container, Ended, Life, Member, Node, Pod, Promise, Report, Steps, Verdict

RELEASED = Promise(attempt=2, ticket="t")
NOW = 2_000_000_000.0
BORN = 1000.7
"""When the current lives began, by the clocks of their nodes."""


def calm(**more: Any) -> Circumstances:
    return Circumstances(released=RELEASED, target=2, now=NOW, **more)


def gathering(**more: Any) -> Circumstances:
    return Circumstances(released=RELEASED, target=3, now=NOW, **more)


def rule(action: RuleAction, **match: Any) -> UserRule:
    return UserRule(match=Match(**match), action=action)


def ended(code: int, at: float = 1105, **more: Any) -> Ended:
    return Ended(exit_code=code, finished_at=at, **more)


def life(rank: int = 1, **more: Any) -> Life:
    return Life(**{"uid": f"u{rank}", "life_id": "x", "started_at": BORN, "attempt": 2, "promise": RELEASED, **more})


def report(code: str, device: str = "GPU-3", text: str = "", at: float = 1100.5) -> Report:
    return Report(code=code, device=device, text=text, at=at)


def member(
    rank: int = 1, *, exits: Ended | None = None, container: Mapping[str, Any] | None = None, node: Node | None = None,
    alive: Life | None = None, heard: bool = True, pod: Mapping[str, Any] | None = None, **more: Any,
) -> Member:  # fmt: skip
    """One that trains, but for what is told of it. `heard` false: nothing is known of its agent."""
    node = node or Node(name=f"n{rank}")
    running: dict[str, Any] = {"name": "trainer", "running": exits is None, "ended": exits}
    containers = (Container(**{**running, **(container or {})}),)
    seen = {"name": f"p-{rank}", "uid": f"u{rank}", "node": node.name, "phase": "Running", "containers": containers}
    return Member(
        **{
            "rank": rank, "pod_name": f"p-{rank}", "trainer": "trainer", "group": "workers", "node": node,
            "pod": Pod(**{**seen, **(pod or {})}), "life": (alive or life(rank)) if heard else None, **more,
        }
    )  # fmt: skip


def at_barrier(rank: int, **more: Any) -> Member:
    return member(rank, alive=life(rank, attempt=0), **more)


def trains(*ranks: int) -> list[Member]:
    return [member(rank) for rank in ranks]


def steps(told: Mapping[int, int], at: float = 0.0, **more: Any) -> dict[int, Steps]:
    return {rank: Steps(step=step, at=at, **more) for rank, step in told.items()}


def verdicts(
    members: Iterable[Member], gang: Circumstances, waited: Mapping[int, float] | None = None
) -> tuple[Verdict, ...]:
    return diagnose(sorted(members, key=lambda m: m.rank), gang, waited)


def only(members: Iterable[Member], gang: Circumstances, waited: Mapping[int, float] | None = None) -> Verdict:
    [verdict] = verdicts(members, gang, waited)
    return verdict
