"""A pod as it really is on its node: containers, volumes, the agent's process, the trainer.

What runs here is the ground truth of a simulated world; what the API server is told of it, and when, is the kubelet's
affair (kubelet.py). The agent is the real one (agents.py); the trainer only runs, ends and is stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from fleetctl.agent.files import Memory
from fleetctl.gang.pods import AGENT, LABEL_GANG, LABEL_RANK, LABEL_ROLE, LIFE
from fleetctl.rendezvous.messages import HARDWARE_KEPT, Hardware, Promised
from fleetctl.sim.journal import Key, Object

DEVICES = "nvidia.com/gpu"
OVER = ("Succeeded", "Failed")
"""Phases of pods that will not run again."""


class Volume:
    """The agent's directory and those it shares with the trainer: the facts that agent/files.py keeps, and those that
    agent/hardware.py reads."""

    def __init__(self) -> None:
        self.life_id = ""
        self.started_at = 0.0
        self.attempt = 0
        """What the trainer reads."""
        self.ticket = ""
        """Of the last promise, whoever made it."""
        self.hardware: tuple[Hardware, ...] = ()
        """What was reported of the node's devices."""
        self._promise: tuple[str, Promised] | None = None
        self._released: tuple[str, int] | None = None

    def begin_life(self, life_id: str, at: float) -> None:
        self.life_id, self.started_at = life_id, at

    def report(self, hardware: Hardware) -> None:
        self.hardware = (*self.hardware, hardware)[-HARDWARE_KEPT:]

    def load(self) -> Memory:
        promise, released = self._promise, self._released
        return Memory(
            life_id=self.life_id,
            started_at=self.started_at,
            promise=promise[1] if promise and promise[0] == self.life_id else None,
            released_attempt=released[1] if released and released[0] == self.life_id else 0,
            floor=promise[1].attempt if promise else 0,
        )

    def keep_promise(self, attempt: int, ticket: str) -> None:
        self._promise, self.ticket = (self.life_id, Promised(attempt, ticket)), ticket

    def keep_release(self, attempt: int) -> None:
        self.attempt = attempt
        self._released = (self.life_id, attempt)


@dataclass(slots=True)
class Container:
    """One container, and the `state` of it that a kubelet would report."""

    name: str
    rules: list[Object] = field(default_factory=list)
    state: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = "PodInitializing"
    exit_code: int = 0
    signal: int = 0
    started_at: str = ""
    finished_at: str = ""
    restarts: int = 0
    started: bool = False
    last: Object | None = None
    unhealthy: tuple[str, ...] = ()
    """Devices of it (GPU-3) that the kubelet calls so."""

    def asks_for_restart_of_all(self) -> bool:
        """Whether its rules answer its exit code with RestartAllContainers."""
        for rule in self.rules:
            codes = rule["exitCodes"]
            if (self.exit_code in codes["values"]) == (codes["operator"] == "In"):
                return bool(rule["action"] == "RestartAllContainers")
        return False

    def run(self, stamp: str) -> None:
        self.state, self.reason, self.exit_code, self.signal = "running", "", 0, 0
        self.started_at, self.finished_at = stamp, ""

    def end(self, exit_code: int, stamp: str, reason: str = "", signal: int = 0) -> None:
        self.state, self.started = "terminated", False
        self.reason = reason or ("Completed" if exit_code == 0 else "Error")
        self.exit_code, self.signal, self.finished_at = exit_code, signal, stamp

    def restarted(self, stamp: str) -> None:
        """Restarted with all others: what it had left is overwritten, as the real kubelet does."""
        ended = {
            "exitCode": 137,
            "reason": "RestartingAllContainers",
            "startedAt": self.started_at,
            "finishedAt": stamp,
        }
        self.last = {"terminated": ended}
        self.restarts += 1
        self.state, self.reason, self.started = "waiting", "RestartingAllContainers", False

    def backs_off(self) -> None:
        """It has ended, and will be started again alone, later."""
        ended: Object = {"exitCode": self.exit_code, "reason": self.reason, "finishedAt": self.finished_at}
        self.last = {"terminated": ended}
        self.restarts += 1
        self.state, self.reason = "waiting", "CrashLoopBackOff"

    def status(self) -> Object:
        out: Object = {"name": self.name, "restartCount": self.restarts, "ready": self.state == "running"}
        match self.state:
            case "waiting":
                out["state"] = {"waiting": {"reason": self.reason}}
            case "running":
                out["state"] = {"running": {"startedAt": self.started_at}}
            case "terminated":
                ended: Object = {"exitCode": self.exit_code, "reason": self.reason, "finishedAt": self.finished_at}
                if self.signal:
                    ended["signal"] = self.signal
                out["state"] = {"terminated": ended}
        if self.started:
            out["started"] = True
        if self.last:
            out["lastState"] = self.last
        if self.unhealthy:
            devices = [{"resourceID": device, "health": "Unhealthy"} for device in self.unhealthy]
            out["allocatedResourcesStatus"] = [{"name": DEVICES, "resources": devices}]
        return out


class LocalPod:
    """A pod that a kubelet runs. `body` is the object as that kubelet last saw it."""

    def __init__(self, body: Object, ip: str) -> None:
        meta, spec = body["metadata"], body["spec"]
        labels: dict[str, str] = meta.get("labels") or {}
        self.body = body
        self.uid: str = meta["uid"]
        self.key: Key = (meta["namespace"], meta["name"])
        self.gang: Key = (meta["namespace"], labels.get(LABEL_GANG, ""))
        self.rank = int(labels.get(LABEL_RANK, "-1"))
        self.ip = ip
        self.volume = Volume()
        self.phase = "Pending"
        self.reason = ""
        self.restarting_since: str | None = None
        self.restarted_at: str | None = None
        self.deleting = False
        self.gone = False
        """Its object is, though it may still run here."""
        self.grace_s = 0.0
        self.life = Container(LIFE)
        agents = [c for c in spec.get("initContainers") or () if c["name"] == AGENT]
        self.agent = Container(AGENT, agents[0]["restartPolicyRules"] if agents else [])
        self.regular = [Container(c["name"], c.get("restartPolicyRules") or []) for c in spec["containers"]]
        self.images = {c.get("image", "") for c in (*spec["containers"], *(spec.get("initContainers") or ()))}
        self.has_agent = bool(agents)
        self.is_spare = labels.get(LABEL_ROLE) == "spare"
        self.environment = {e["name"]: e.get("value", "") for e in agents[0]["env"]} if agents else {}
        self.agent_process: Any = None
        self.stop_agent: Callable[[], None] = lambda: None
        self.tell_hardware: Callable[[], None] = lambda: None

    @property
    def trainer(self) -> Container:
        return self.regular[0]

    @property
    def trains(self) -> bool:
        return self.trainer.state == "running" and not self.is_spare

    @property
    def takes_room(self) -> bool:
        return not self.gone and self.phase not in OVER

    def container(self, name: str) -> Container:
        """By its name, or by what it is: `trainer`, `agent`."""
        known = {"trainer": self.trainer, "agent": self.agent}
        return known.get(name) or next(c for c in (*self.regular, self.agent) if c.name == name)

    def last_phase(self) -> Literal["Succeeded", "Failed"]:
        """Of a pod whose containers will not run again: those that never ran have not succeeded."""
        good = all(c.state == "terminated" and c.exit_code == 0 for c in self.regular)
        return "Succeeded" if good else "Failed"

    def status(self, scheduled_at: str) -> Object:
        """`status` as the kubelet would post it now."""
        conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled_at}]
        if self.restarting_since:
            conditions.append(_restarting("True", "RestartAllContainersStarted", self.restarting_since))
        elif self.restarted_at:
            conditions.append(_restarting("False", "RestartAllContainersCompleted", self.restarted_at))
        status: Object = {
            "phase": self.phase,
            "podIP": self.ip,
            "conditions": conditions,
            "containerStatuses": [c.status() for c in self.regular],
        }
        if self.has_agent:
            status["initContainerStatuses"] = [self.life.status(), self.agent.status()]
        if self.reason:
            status["reason"] = self.reason
        return status


def _restarting(status: str, reason: str, since: str) -> dict[str, str]:
    return {"type": "AllContainersRestarting", "status": status, "reason": reason, "lastTransitionTime": since}
