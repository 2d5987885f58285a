"""The simulated kubelet tells the API server of a restart in place what a real one told (cluster/record_restart.py).

States and their order must be equal. A real kubelet's phase flickers between Pending and Running while init containers
run, which nobody reads, and it posts some states twice; times are those of two cores that run a whole cluster.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fleetctl.scenario.load import parse
from fleetctl.scenario.simulate import simulate
from fleetctl.sim.journal import Event, Faulted, Object, Wrote

RECORDED = json.loads((Path(__file__).parent / "recorded/restart_in_place.json").read_text())
SCENARIO = """
version: 1
name: recorded
why: the story of tests/cluster/record_restart.py
world:
  gang: {name: recorded, ranks: 8}
  ranks_per_node: 2
  nodes: 4
timeline:
- at: 15s
  fault: container_exit
  select: {rank: 3}
  with: {exit_code: 3}
expect:
- running: {attempt: 2}
"""
State = tuple[Any, ...]


class Recorder:
    """What kubelets post of one rank from the fault on, and when."""

    def __init__(self, rank: int) -> None:
        self._pod = f"recorded-worker-{rank}"
        self._began = 0.0
        self.posts: list[tuple[float, State, str]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Faulted):
            self._began = event.at
            self.posts = self.posts[-1:]
        elif isinstance(event, Wrote) and event.plural == "pods" and event.name == self._pod and event.after:
            status = event.after.get("status") or {}
            if "containerStatuses" in status:
                self.posts.append((event.at - self._began, seen(status), status["phase"]))


def state_of(status: Object) -> str:
    (kind, facts), *_ = status["state"].items()
    detail = facts.get("reason", "") if kind == "waiting" else facts.get("exitCode", "") if kind == "terminated" else ""
    return f"{kind} {detail}".strip()


def seen(status: Object) -> State:
    agent = next(s for s in status["initContainerStatuses"] if s["name"] == "fleetctl-agent")
    (trainer,) = status["containerStatuses"]
    restarting = any(c["type"] == "AllContainersRestarting" and c["status"] == "True" for c in status["conditions"])
    return restarting, state_of(agent), state_of(trainer), trainer["restartCount"]


def without_repetitions(states: list[State]) -> list[State]:
    return [state for before, state in zip([None, *states], states, strict=False) if state != before]


@pytest.mark.parametrize(("who", "rank"), [("trigger", 3), ("told", 5)])
def test_a_restart_in_place_looks_from_outside_like_a_real_one(who: str, rank: int) -> None:
    recorder = Recorder(rank)
    assert simulate(parse(SCENARIO, "recorded.yaml"), 1, watch=recorder).verdict == "pass"
    real = [(r["restarting"], r["agent"], r["trainer"], r["restarts"]) for r in RECORDED[who]]
    assert without_repetitions([state for _, state, _ in recorder.posts]) == without_repetitions(real)
    assert {"Pending", "Running"} == {phase for _, _, phase in recorder.posts} == {r["phase"] for r in RECORDED[who]}


@pytest.mark.parametrize(("who", "rank"), [("trigger", 3), ("told", 5)])
def test_no_step_takes_longer_than_on_a_real_machine_that_has_too_much_to_do(who: str, rank: int) -> None:
    recorder = Recorder(rank)
    simulate(parse(SCENARIO, "recorded.yaml"), 1, watch=recorder)
    last = max(at for at, *_ in recorder.posts)
    assert 1.0 < last < RECORDED[who][-1]["at"]
