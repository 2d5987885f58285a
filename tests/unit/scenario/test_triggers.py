"""A fault begins when what it waits for happens for the n-th time, once."""

from typing import Any

import pytest

from fleetctl.scenario.faults import ContainerExit
from fleetctl.scenario.model import Step, When
from fleetctl.scenario.triggers import Triggers
from fleetctl.sim.journal import Calmed, Event, Faulted, Listed, Object, Restarting, TrainerEnded, TrainerStarted, Wrote

GANG = ("default", "g")


def step(kind: Any, value: int | str, occurrence: int = 1) -> Step:
    return Step(when=When(kind=kind, value=value, occurrence=occurrence), fault=ContainerExit())


def begun(steps: list[Step], events: list[Event]) -> tuple[list[int], list[Step]]:
    """After which events a step began (their indices), and the steps that never did."""
    after: list[int] = []
    told: list[Event] = []
    triggers = Triggers(tuple(steps), lambda step: after.append(len(told) - 1))
    for event in events:
        told.append(event)
        triggers(event)
    return after, triggers.missed()


def trainer(kind: type[Any], rank: int, **more: Any) -> Event:
    event: Event = kind(at=1.0, gang=GANG, rank=rank, attempt=1, uid="u", pod="p", node="n", **more)
    return event


def started(rank: int) -> Event:
    return trainer(TrainerStarted, rank, ticket="t")


def ended(rank: int) -> Event:
    return trainer(TrainerEnded, rank, exit_code=1, why="itself")


def restarting(rank: int) -> Event:
    return Restarting(at=1.0, gang=GANG, rank=rank, uid="u", node="n", by="trainer", exit_code=1)


def faulted(name: str, phase: Any = "begins") -> Event:
    return Faulted(at=1.0, fault=name, family="node", phase=phase, text="it happens")


def wrote(plural: str, before: Object | None, after: Object | None) -> Event:
    return Wrote(
        at=1.0, actor="a", verb="update", plural=plural, namespace="default", name="x", before=before, after=after
    )


def pod(rank: int | None, *, deleting: bool = False) -> Object:
    meta: Object = {"name": "p", "labels": {} if rank is None else {"fleetctl.dev/rank": str(rank)}}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta}


def gang(**status: Any) -> Object:
    return {"metadata": {"name": "g"}, "status": status}


def pod_goes(before: Object | None, after: Object | None) -> Event:
    return wrote("pods", before, after)


def gang_goes(before: Object | None, after: Object | None) -> Event:
    return wrote("gangs", before, after)


def attempt(**record: int) -> Object:
    return gang(attempt=record)


def condition(kind: str, status: str = "True") -> Object:
    return gang(conditions=[{"type": kind, "status": status}])


FIRST, SECOND = attempt(target=1), attempt(target=2)
HELD, NOT_HELD = condition("Held"), condition("Held", "False")


@pytest.mark.parametrize(
    ("waits_for", "nothing", "it"),
    [
        (("trainer_started", 3), started(2), started(3)),
        (("trainer_ended", 3), ended(2), ended(3)),
        (("restarting", 3), restarting(2), restarting(3)),
        (("fault", "node_dark"), faulted("node_dark", "ends"), faulted("node_dark")),
        (("fault", "node_dark"), faulted("node_killed"), faulted("node_dark")),
        (("pod_created", 3), pod_goes(pod(3), pod(3)), pod_goes(None, pod(3))),
        (("pod_created", 3), pod_goes(None, pod(2)), pod_goes(None, pod(3))),
        (("pod_created", 0), pod_goes(None, pod(None)), pod_goes(None, pod(0))),
        (("pod_deleted", 3), pod_goes(pod(3), pod(3)), pod_goes(pod(3), pod(3, deleting=True))),
        (("pod_deleted", 3), pod_goes(pod(2), None), pod_goes(pod(3), None)),
        (("pod_deleted", 3), pod_goes(pod(3, deleting=True), None), pod_goes(pod(3), None)),
        (("target", 2), gang_goes(gang(), FIRST), gang_goes(FIRST, SECOND)),
        (("target", 2), gang_goes(SECOND, attempt(target=2, released=2)), gang_goes(None, SECOND)),
        (("released", 1), gang_goes(gang(), FIRST), gang_goes(FIRST, attempt(target=1, released=1))),
        (("condition", "Held"), gang_goes(gang(), NOT_HELD), gang_goes(NOT_HELD, HELD)),
        (("condition", "Held"), gang_goes(HELD, condition("Held")), gang_goes(gang(), HELD)),
        (("condition", "Held"), gang_goes(gang(), condition("Running")), gang_goes(gang(), HELD)),
        (("target", 1), gang_goes(FIRST, None), gang_goes(gang(), FIRST)),
        (("target", 1), Listed(at=1.0, actor="a", plural="gangs"), gang_goes(gang(), FIRST)),
    ],
)
def test_a_step_begins_when_it_happens_and_not_when_something_like_it_does(
    waits_for: tuple[str, int | str], nothing: Event, it: Event
) -> None:
    assert begun([step(*waits_for)], [nothing, nothing, it, it]) == ([2], [])


def test_a_later_occurrence_is_counted_from_the_beginning() -> None:
    third, first = step("restarting", 3, 3), step("restarting", 3)
    assert begun([third, first], [restarting(3)] * 5) == ([0, 2], [])


def test_steps_that_wait_for_the_same_begin_together_in_their_order() -> None:
    order: list[Step] = []
    steps = [step("restarting", 3), step("restarting", 3, 2), step("restarting", 3)]
    triggers = Triggers(tuple(steps), order.append)
    triggers(restarting(3))
    assert len(order) == 2
    assert order[0] is steps[0]
    assert order[1] is steps[2]
    assert len(triggers.missed()) == 1
    assert triggers.missed()[0] is steps[1]


def test_a_deletion_is_one_deletion_however_long_it_takes() -> None:
    going = [pod_goes(pod(3), pod(3, deleting=True)), pod_goes(pod(3, deleting=True), None)]
    assert begun([step("pod_deleted", 3, 2)], [*going, *going]) == ([2], [])


def test_what_never_happens_is_told_in_the_end() -> None:
    late = step("released", 9)
    after, missed = begun([late, Step(at=1.0, fault=ContainerExit())], [started(1), faulted("node_dark")])
    assert after == []
    assert missed == [late]


def test_what_a_step_itself_brings_about_may_trigger_the_next() -> None:
    steps = (step("restarting", 3), step("fault", "container_exit"))
    order: list[Step] = []

    def begin(begins: Step) -> None:
        order.append(begins)
        if begins is steps[0]:
            triggers(faulted("container_exit"))

    triggers = Triggers(steps, begin)
    triggers(restarting(3))
    assert order == list(steps)
    assert triggers.missed() == []


def test_calm_after_so_many_faults() -> None:
    steps = [step("calm", 0), step("calm", 2)]
    events: list[Event] = [Calmed(at=1.0, faults=faults) for faults in (0, 1, 2)]
    assert begun(steps, events) == ([0, 2], [])


def test_it_knows_whether_anybody_waits_for_calm() -> None:
    triggers = Triggers((step("calm", 0), step("target", 2)), lambda _: None)
    assert triggers.waits_for_calm()
    triggers(Calmed(at=1.0, faults=0))
    assert not triggers.waits_for_calm()
