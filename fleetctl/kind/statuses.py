"""What the kubelets' statuses tell of a gang's trainers: their ends, and restarts of their pods in place.

That a trainer started, and in which attempt, only its own records say (they come first); that it ended, only these
statuses. A run of a trainer is known by the second at which its kubelet says that it began. Knows nothing of the audit
log, and not why a trainer ended as it did.
"""

from dataclasses import dataclass
from typing import Literal

from fleetctl.gang.pods import AGENT, LABEL_GANG, RESTART_EXIT_CODE
from fleetctl.scenario.facts import conditions_of, holds, is_terminating, rank_of
from fleetctl.sim.journal import Event, Key, Object, Restarting, TrainerEnded, TrainerStarted, Wrote

TRAINER = "trainer"
RESTARTING = "RestartingAllContainers"
KILLED = 137
STOPPED = (137, 143)
"""How a trainer ends that its kubelet stops."""

Why = Literal["itself", "restart", "pod", "node"]


@dataclass(slots=True)
class _Pod:
    start: TrainerStarted | None = None
    """The trainer that runs, if its start is known."""
    run: str = ""
    """When it began, once the kubelet says that it runs."""
    over: str = ""
    """When the run before it began."""
    by: str = ""
    """The container that asked for the last restart."""


class Statuses:
    """What kubelets told of trainers: their ends, and restarts in place. From Wrote events of a gang's pods.

    Feed it starts and writes in the order of their times.
    """

    def __init__(self, gang: Key) -> None:
        self._gang = gang
        self._pods: dict[str, _Pod] = {}
        """By uid."""

    def started(self, event: TrainerStarted) -> list[TrainerEnded]:
        """A trainer began. Tells the end of the one before it in that pod, if no status did."""
        if event.gang != self._gang:
            return []
        pod = self._pods.setdefault(event.uid, _Pod())
        ended = _end(pod, event.at, KILLED, "restart") if pod.start else []
        pod.start = event
        return ended

    def node_lost(self, node: str, at: float) -> list[TrainerEnded]:
        """All that ran on this node is gone."""
        lost = [pod for pod in self._pods.values() if pod.start and pod.start.node == node]
        return [ended for pod in lost for ended in _end(pod, at, KILLED, "node")]

    def events(self, wrote: Wrote) -> list[Event]:
        body = wrote.after or wrote.before or {}
        if wrote.plural != "pods" or not self._is_ours(body):
            return []
        uid = body["metadata"]["uid"]
        if wrote.after is None:
            return [*_end(self._pods.pop(uid, _Pod()), wrote.at, KILLED, "pod")]
        pod = self._pods.setdefault(uid, _Pod())
        restarting: list[Event] = []
        if _restarts(body) and not _restarts(wrote.before or {}):
            pod.by, exit_code = _who_asked(body)
            restarting = [self._restarting(wrote.at, body, pod.by, exit_code)]
        ended = _look(pod, body, wrote.at)
        return [*ended, *restarting] if pod.by == TRAINER else [*restarting, *ended]

    def _is_ours(self, pod: Object) -> bool:
        meta = pod["metadata"]
        return (meta.get("namespace", ""), (meta.get("labels") or {}).get(LABEL_GANG, "")) == self._gang

    def _restarting(self, at: float, pod: Object, by: str, exit_code: int) -> Restarting:
        return Restarting(
            at=at,
            gang=self._gang,
            rank=rank_of(pod),
            uid=pod["metadata"]["uid"],
            node=pod["spec"].get("nodeName", ""),
            by=by,
            exit_code=exit_code,
        )


def _look(pod: _Pod, body: Object, at: float) -> list[TrainerEnded]:
    """The end of the trainer, if this status is the first to tell it."""
    state = _state(body, TRAINER)
    if running := state.get("running"):
        since = running["startedAt"]
        if since == pod.over:
            return []  # written before the end that is told already
        ended = _end(pod, at, KILLED, "restart") if pod.run not in ("", since) else []
        pod.run = since
        return ended
    if terminated := state.get("terminated"):
        return _terminated(pod, body, terminated, at)
    # a status that was written before this trainer began also says that it waits
    return _end(pod, at, KILLED, "restart") if state and pod.run else []


def _terminated(pod: _Pod, body: Object, terminated: Object, at: float) -> list[TrainerEnded]:
    since, reason = terminated.get("startedAt") or "", terminated.get("reason", "")
    if (since and since == pod.over) or (reason == RESTARTING and not pod.run):
        return []
    why: Why = "itself"
    if reason == RESTARTING or (_restarts(body) and pod.by != TRAINER):
        why = "restart"
    elif is_terminating(body):
        why = "pod"
    pod.run = since or pod.run
    return _end(pod, at, terminated["exitCode"], why)


def _end(pod: _Pod, at: float, exit_code: int, why: Why) -> list[TrainerEnded]:
    """Nothing if it is not known which trainer ran."""
    start, pod.start = pod.start, None
    pod.over, pod.run = pod.run or pod.over, ""
    if start is None:
        return []
    return [
        TrainerEnded(
            at=at,
            gang=start.gang,
            rank=start.rank,
            attempt=start.attempt,
            uid=start.uid,
            pod=start.pod,
            node=start.node,
            exit_code=exit_code,
            why=why,
        )
    ]


def _restarts(pod: Object) -> bool:
    """Whether its status shows a restart in place: it has begun, or has just stopped all containers.

    A kubelet that is fast tells the second only.
    """
    waits = _state(pod, TRAINER).get("waiting") or {}
    return holds(conditions_of(pod), "AllContainersRestarting") or waits.get("reason") == RESTARTING


def _who_asked(pod: Object) -> tuple[str, int]:
    """The container whose exit began the restart, and its exit code; "" and -1 if the status does not show it."""
    codes = [(_state(pod, name).get("terminated") or {}).get("exitCode", 0) for name in (TRAINER, AGENT)]
    trainer, agent = codes
    asked = agent == RESTART_EXIT_CODE
    if trainer and not (asked and trainer in STOPPED):
        return TRAINER, trainer
    return (AGENT, agent) if asked else ("", -1)


def _state(pod: Object, container: str) -> Object:
    """What its kubelet says of a container last; empty if nothing."""
    status = pod.get("status") or {}
    for told in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
        if told["name"] == container:
            return told.get("state") or {}
    return {}
