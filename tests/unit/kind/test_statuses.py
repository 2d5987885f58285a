"""Statuses as a kubelet 1.36 posts them (tests/simulation/recorded/restart_in_place.json), and what they tell."""

from typing import Any, Self

import pytest

from fleetctl.kind.statuses import Statuses
from fleetctl.sim.journal import Event, Object, Restarting, TrainerEnded, TrainerStarted, Wrote

GANG = ("default", "llm")
ALL = "RestartingAllContainers"


def runs(since: str = "T1") -> Object:
    return {"running": {"startedAt": since}}


def waits(reason: str = ALL) -> Object:
    return {"waiting": {"reason": reason}}


def ended(code: int, since: str | None = "T1", reason: str = "Error") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": since}}


class Kubelet:
    """Tells of one pod; `said` gathers what is made of it."""

    def __init__(self) -> None:
        self.statuses = Statuses(GANG)
        self.said: list[Event] = []
        self.at = 0.0
        self.pod: Object = {
            "metadata": {
                "name": "llm-3",
                "namespace": "default",
                "uid": "u",
                "labels": {"fleetctl.dev/gang": "llm", "fleetctl.dev/rank": "3"},
            },
            "spec": {"nodeName": "worker"},
        }
        self._wrote(self.pod, None)

    def started(self, attempt: int, **other: Any) -> Self:
        self.at += 1
        facts = {"gang": GANG, "rank": 3, "uid": "u", "pod": "llm-3", "node": "worker", "ticket": ""} | other
        self.said += self.statuses.started(TrainerStarted(at=self.at, attempt=attempt, **facts))
        return self

    def posts(self, trainer: Object, agent: Object | None = None, *, restarting: bool = False) -> Self:
        condition = {"type": "AllContainersRestarting", "status": str(restarting)}
        status = {
            "conditions": [condition],
            "containerStatuses": [{"name": "trainer", "state": trainer}],
            "initContainerStatuses": [{"name": "fleetctl-agent", "state": agent or runs("T0")}],
        }
        return self._wrote({**self.pod, "status": status}, self.pod)

    def deleted(self) -> Self:
        meta = {**self.pod["metadata"], "deletionTimestamp": "t"}
        return self._wrote({**self.pod, "metadata": meta}, self.pod)

    def gone(self) -> Self:
        return self._wrote(None, self.pod)

    def node_lost(self, node: str = "worker") -> Self:
        self.at += 1
        self.said += self.statuses.node_lost(node, self.at)
        return self

    def _wrote(self, after: Object | None, before: Object | None) -> Self:
        self.at += 1
        self.said += self.statuses.events(
            Wrote(
                at=self.at,
                actor="kubelet/worker",
                verb="patch" if after else "delete",
                plural="pods",
                namespace="default",
                name="llm-3",
                subresource="status",
                before=before,
                after=after,
            )
        )
        self.pod = after or {}
        return self

    def heard(self) -> list[tuple[Any, ...]]:
        """In short, without times: attempt, exit code and why of ends; by and exit code of restarts."""
        return [_short(event) for event in self.said]


def _short(event: Event) -> tuple[Any, ...]:
    if isinstance(event, TrainerEnded):
        return (event.attempt, event.exit_code, event.why)
    assert isinstance(event, Restarting)
    return (event.by, event.exit_code)


@pytest.fixture
def kubelet() -> Kubelet:
    return Kubelet()


@pytest.fixture
def training() -> Kubelet:
    """Its trainer runs attempt 1, and it has said so."""
    return Kubelet().started(1).posts(runs())


def test_a_trainer_that_crashes_ends_and_its_pod_restarts(training):
    training.posts(ended(139), restarting=True).posts(ended(139), restarting=True)
    training.posts(waits(), waits()).posts(waits("PodInitializing"), waits("PodInitializing"))
    assert training.said == [
        TrainerEnded(
            at=4, gang=GANG, rank=3, attempt=1, uid="u", pod="llm-3", node="worker", exit_code=139, why="itself"
        ),
        Restarting(at=4, gang=GANG, rank=3, uid="u", node="worker", by="trainer", exit_code=139),
    ]


def test_a_trainer_that_is_told_to_restart_ends_when_it_is_stopped(training):
    training.posts(runs(), ended(88), restarting=True)
    assert training.heard() == [("fleetctl-agent", 88)]
    training.posts(waits(), waits()).posts(waits("PodInitializing"), waits("PodInitializing"))
    assert training.heard() == [("fleetctl-agent", 88), (1, 137, "restart")]
    assert training.said[1].at == 5


def test_every_cycle_is_told(training):
    training.posts(runs(), ended(88), restarting=True).posts(waits(), waits()).posts(waits("PodInitializing"))
    training.started(2).posts(waits("PodInitializing")).posts(runs("T2"))
    assert len(training.said) == 2
    training.posts(ended(1, "T2"), restarting=True)
    assert training.heard()[2:] == [(2, 1, "itself"), ("trainer", 1)]


def test_how_a_trainer_ends_that_its_kubelet_stops_is_not_its_own_doing(training):
    training.posts(runs(), ended(88), restarting=True).posts(ended(0), ended(88), restarting=True)
    assert training.heard() == [("fleetctl-agent", 88), (1, 0, "restart")]


@pytest.mark.parametrize(
    ("trainer", "asked"),
    [(ended(143), ("fleetctl-agent", 88)), (ended(139), ("trainer", 139)), (runs(), ("fleetctl-agent", 88))],
)
def test_who_asked_when_both_have_ended(training, trainer, asked):
    assert asked in training.posts(trainer, ended(88), restarting=True).heard()


def test_a_restart_that_nobody_seems_to_have_asked_for_is_told_all_the_same(training):
    assert training.posts(runs(), restarting=True).heard() == [("", -1)]


def test_a_restart_whose_begin_was_not_posted_is_told(training):
    training.posts(waits(), waits()).posts(waits("PodInitializing"))
    assert training.heard() == [("", -1), (1, 137, "restart")]


def test_a_restart_that_was_not_posted_at_all_shows_in_the_next_run(training):
    assert training.posts(runs("T2")).heard() == [(1, 137, "restart")]
    training.started(2).posts(waits())
    assert training.heard() == [(1, 137, "restart"), ("", -1), (2, 137, "restart")]


def test_a_start_ends_the_trainer_before_it(training):
    assert training.started(2).heard() == [(1, 137, "restart")]
    training.posts(runs()).posts(runs("T2"))
    assert len(training.said) == 1
    assert training.posts(ended(1, "T2")).heard()[1:] == [(2, 1, "itself")]


def test_a_trainer_that_finishes_ends_once(training):
    training.posts(ended(0, reason="Completed")).posts(ended(0, reason="Completed")).deleted().gone()
    assert training.heard() == [(1, 0, "itself")]


def test_a_trainer_may_end_before_its_kubelet_said_that_it_runs(kubelet):
    assert kubelet.started(1).posts(ended(1)).heard() == [(1, 1, "itself")]


def test_statuses_from_before_its_start_do_not_end_a_trainer(training):
    training.posts(ended(1), restarting=True).posts(waits()).started(2)
    told = len(training.said)
    training.posts(ended(1)).posts(runs()).posts(waits("PodInitializing"))
    training.posts(ended(137, None, ALL))
    assert len(training.said) == told


def test_the_status_of_a_run_that_nobody_said_to_run_ends_only_that(kubelet):
    kubelet.started(1).posts(ended(1)).started(2).posts(ended(1)).started(3).posts(ended(1))
    assert kubelet.heard() == [(1, 1, "itself"), (2, 137, "restart")]


def test_a_status_without_containers_ends_nothing(training):
    training._wrote({**training.pod, "status": {"phase": "Running"}}, training.pod)
    assert training.said == []


def test_a_container_that_was_lost_in_a_restart_ends_by_it(training):
    assert training.posts(ended(137, None, ALL)).heard() == [(1, 137, "restart")]


def test_without_a_known_attempt_no_end_is_told(kubelet):
    assert kubelet.posts(runs()).posts(ended(1)).gone().heard() == []


def test_a_trainer_that_ends_with_its_pod_was_stopped(training):
    assert training.deleted().posts(ended(0)).gone().heard() == [(1, 0, "pod")]


def test_a_trainer_ends_with_its_pods_object(training):
    assert training.gone().heard() == [(1, 137, "pod")]


def test_a_lost_node_takes_its_trainers_once(training):
    training.node_lost("worker2")
    assert training.said == []
    training.node_lost().node_lost()
    assert training.heard() == [(1, 137, "node")]
    assert training.said[0].at == 5
    training.posts(runs()).posts(ended(255), restarting=True).posts(waits())
    assert training.heard()[1:] == [("trainer", 255)]
    training.started(2).posts(runs("T2")).gone()
    assert training.heard()[2:] == [(2, 137, "pod")]


@pytest.mark.parametrize("gang", [("default", "other"), ("elsewhere", "llm")])
def test_other_gangs_are_not_told_of(kubelet, gang):
    kubelet.pod["metadata"]["namespace"], kubelet.pod["metadata"]["labels"]["fleetctl.dev/gang"] = gang
    kubelet.started(1, gang=gang).posts(runs()).posts(ended(1), restarting=True).node_lost()
    assert kubelet.said == []


def test_writes_of_other_objects_tell_nothing():
    node = Wrote(at=1, actor="a", verb="create", plural="nodes", namespace="", name="n", before=None, after={})
    assert Statuses(GANG).events(node) == []
