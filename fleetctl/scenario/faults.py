"""Every fault a scenario can name: its parameters, what it is done to, whether it lasts, and who can do it.

Knows nothing of how a fault is done: backends look at the type and read its fields. `FAULTS` is the registry, in the
order of the reference; a type's docstring is its description there.

Add a fault: write its type, list it in FAULTS, teach a backend to do it, run `make manifests` for the schema and
the tables of scenarios/README.md. A backend that can do only a part of it says so in `problem_on`.
"""

import signal as signals
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from fleetctl.scenario.durations import Duration, DurationRange, Percent, PositiveDuration, Range, SignedDuration

Family = Literal["pod", "agent", "node", "process", "api", "stale", "people"]
Target = Literal["ranks", "nodes", "none"]
Backend = Literal["sim", "kind"]

SIM: tuple[Backend, ...] = ("sim",)
EVERYWHERE: tuple[Backend, ...] = ("sim", "kind")

ON_KIND = "on kind, one of this scenario's backends"

ExitCode = Annotated[int, Meta(ge=0, le=255)]
Signal = Literal[
    "", "SIGABRT", "SIGBUS", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSEGV", "SIGTERM"
]
ContainerName = Literal["trainer", "agent"]
Plural = Literal["pods", "nodes", "gangs", "leases", "events", "services", "configmaps", "secrets"]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that goes wrong. `lasts`: it goes on until its `for` has passed, or until the end."""

    name: ClassVar[str]
    family: ClassVar[Family]
    target: ClassVar[Target] = "none"
    lasts: ClassVar[bool] = False
    backends: ClassVar[tuple[Backend, ...]] = SIM

    def problem(self) -> str:
        """Why these parameters do not go together, and the fix; empty if they do."""
        return ""

    def problem_on(self, backend: Backend) -> str:
        """Why this backend cannot do it with these parameters, and the fix; empty if it can."""
        return ""


def _agent_on_kind(container: ContainerName, backend: Backend) -> bool:
    return backend == "kind" and container == "agent"


# pod


class PodFault(Fault, frozen=True):
    family = "pod"
    target = "ranks"
    backends = EVERYWHERE


class ContainerExit(PodFault, frozen=True):
    """The container's process ends with this exit code, or by this signal. On kind: the trainer's only."""

    name = "container_exit"
    exit_code: ExitCode = 1
    signal: Annotated[Signal, Meta(description="instead of exit_code: SIGSEGV exits 139")] = ""
    container: ContainerName = "trainer"

    @property
    def code(self) -> int:
        """The exit code that the kubelet sees."""
        return 128 + signals.Signals[self.signal] if self.signal else self.exit_code

    def problem(self) -> str:
        return "it has both exit_code and signal; leave one of them out" if self.signal and self.exit_code != 1 else ""

    def problem_on(self, backend: Backend) -> str:
        return f"an agent cannot exit so {ON_KIND}; use agent_exits" if _agent_on_kind(self.container, backend) else ""


class OutOfMemory(PodFault, frozen=True):
    """The kernel kills the container for its memory limit. On kind: the trainer only."""

    name = "out_of_memory"
    container: ContainerName = "trainer"

    def problem_on(self, backend: Backend) -> str:
        if not _agent_on_kind(self.container, backend):
            return ""
        return f"an agent cannot be brought to its memory limit {ON_KIND}; write container: trainer, or use agent_exits"


class CrashLoop(PodFault, frozen=True):
    """Every trainer of these ranks exits so long after it starts."""

    name = "crash_loop"
    lasts = True
    exit_code: ExitCode = 1
    after: Duration = 1.0


class TrainerHangs(PodFault, frozen=True):
    """The trainer makes no more progress, and does not end."""

    name = "trainer_hangs"
    lasts = True


class TrainerSlow(PodFault, frozen=True):
    """The trainer's own work takes so many times as long; all wait for it in each step."""

    name = "trainer_slow"
    lasts = True
    backends = SIM
    factor: Annotated[float, Meta(gt=1)] = 1.5


class HardwareReport(PodFault, frozen=True):
    """A health check of the node writes this line about a device to the pod's volume."""

    name = "hardware_report"
    code: Annotated[str, Meta(pattern=r"^\S+$", max_length=63)] = "xid-79"
    device: Annotated[str, Meta(pattern=r"^\S+$", max_length=63)] = "GPU-0"
    text: Annotated[str, Meta(max_length=200)] = ""


class DeviceUnhealthy(PodFault, frozen=True):
    """The kubelet calls a device of the trainer's unhealthy."""

    name = "device_unhealthy"
    lasts = True
    backends = SIM
    device: Annotated[str, Meta(min_length=1, max_length=63)] = "GPU-0"


class ImagePullFails(PodFault, frozen=True):
    """Pods of these ranks that are created from now on cannot pull their image."""

    name = "image_pull_fails"
    lasts = True


class PodsOnNodesFault(Fault, frozen=True):
    """Of the pods of these nodes, while the nodes themselves are well."""

    family = "pod"
    target = "nodes"
    lasts = True
    backends = SIM


class ImagePullSlow(PodsOnNodesFault, frozen=True):
    """Images that these nodes have not got take so long to pull, from now on."""

    name = "image_pull_slow"
    takes: PositiveDuration = 840.0


class PodsStartSlowly(PodsOnNodesFault, frozen=True):
    """Pods that come to these nodes from now on start so much later, whatever images are there."""

    name = "pods_start_slowly"
    takes: PositiveDuration = 840.0


class NodeRejectsPods(PodsOnNodesFault, frozen=True):
    """The kubelets of these nodes turn new pods away: the pods are Failed and never ran."""

    name = "node_rejects_pods"
    reason: Literal["OutOfcpu", "OutOfmemory", "OutOfpods", "UnexpectedAdmissionError"] = "OutOfcpu"


class SparesCrash(PodsOnNodesFault, frozen=True):
    """Containers of spares on these nodes exit soon after they start."""

    name = "spares_crash"


class ContainerNeverReturns(PodFault, frozen=True):
    """The kubelet begins an in-place restart and never completes it."""

    name = "container_never_returns"
    lasts = True
    backends = SIM


class PodEvicted(PodFault, frozen=True):
    """The pod is marked as disrupted, and ended by Kubernetes. On kind: by EvictionByEvictionAPI only."""

    name = "pod_evicted"
    reason: Literal[
        "EvictionByEvictionAPI",
        "PreemptionByScheduler",
        "DeletionByTaintManager",
        "DeletionByPodGC",
        "TerminationByKubelet",
    ] = "EvictionByEvictionAPI"

    def problem_on(self, backend: Backend) -> str:
        if backend != "kind" or self.reason == "EvictionByEvictionAPI":
            return ""
        return f"{self.reason} cannot be had {ON_KIND}; leave reason out, it is EvictionByEvictionAPI then"


# agent


class AgentFault(Fault, frozen=True):
    family = "agent"
    target = "ranks"
    backends = EVERYWHERE


class AgentExits(AgentFault, frozen=True):
    """The agent's process ends with this exit code. On kind it is killed and exits 137."""

    name = "agent_exits"
    exit_code: ExitCode = 1


class AgentHangs(AgentFault, frozen=True):
    """The agent's process is stopped (SIGSTOP); its connections stay open."""

    name = "agent_hangs"
    lasts = True


class AgentUnreachable(AgentFault, frozen=True):
    """The agent's own network is cut; the node's and the trainer's are not."""

    name = "agent_unreachable"
    lasts = True


class AgentNeverStarts(AgentFault, frozen=True):
    """Agents of these ranks that are started from now on do not come up."""

    name = "agent_never_starts"
    lasts = True
    backends = SIM


class AgentToldNothing(AgentFault, frozen=True):
    """The agent's stream is cut whenever a Release would arrive."""

    name = "agent_told_nothing"
    lasts = True
    backends = SIM


# node


class NodeFault(Fault, frozen=True):
    family = "node"
    target = "nodes"
    backends = EVERYWHERE


class NodeKilled(NodeFault, frozen=True):
    """All processes of the node end and their connections close; it does not come back."""

    name = "node_killed"


class NodePowerLoss(NodeFault, frozen=True):
    """The node is gone and nobody closes its connections; it does not come back."""

    name = "node_power_loss"


class NodeRebooted(NodeFault, frozen=True):
    """The node goes down and comes back; nothing that ran on it survives."""

    name = "node_rebooted"
    down: Duration = 5.0


class NodeDark(NodeFault, frozen=True):
    """The node's network is cut; everything on it runs on."""

    name = "node_dark"
    lasts = True


class NodeFrozen(NodeFault, frozen=True):
    """All processes of the node stand still (docker pause); its connections stay open."""

    name = "node_frozen"
    lasts = True


class NodeFlapping(NodeFault, frozen=True):
    """The node goes dark for a moment, again and again."""

    name = "node_flapping"
    lasts = True
    every: Annotated[PositiveDuration, Meta(description="from one darkness to the next")] = 60.0
    down: Annotated[PositiveDuration, Meta(description="how long each is")] = 3.0

    def problem(self) -> str:
        return "" if self.down < self.every else "it is never up; make down shorter than every"


class KubeletStopped(NodeFault, frozen=True):
    """The kubelet does not run; containers and agents do."""

    name = "kubelet_stopped"
    lasts = True


class KubeletSlow(NodeFault, frozen=True):
    """The statuses that the kubelet posts arrive so late."""

    name = "kubelet_slow"
    lasts = True
    backends = SIM
    lag: PositiveDuration = 120.0


class KubeletForgets(NodeFault, frozen=True):
    """The kubelet restarts, and posts an old status of its pods before the true one."""

    name = "kubelet_forgets"
    backends = SIM


class NodeTainted(NodeFault, frozen=True):
    """Somebody taints the node."""

    name = "node_tainted"
    lasts = True
    key: Annotated[str, Meta(min_length=1, max_length=253)]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class NodeCondition(NodeFault, frozen=True):
    """Somebody, such as node-problem-detector, sets a condition of the node to True; in the end to False."""

    name = "node_condition"
    lasts = True
    backends = SIM
    type: Annotated[str, Meta(pattern="^[A-Za-z][-A-Za-z0-9_./]*$", max_length=253)]


class NodeDeleted(NodeFault, frozen=True):
    """The Node object is deleted."""

    name = "node_deleted"


class NodeReplaced(NodeFault, frozen=True):
    """Another machine takes the node's name: a new Node object, and nothing on its disk."""

    name = "node_replaced"
    backends = SIM


class NoCapacity(Fault, frozen=True):
    """All nodes are cordoned: what runs stays, a new pod finds no place."""

    name = "no_capacity"
    family = "node"
    lasts = True
    backends = EVERYWHERE


# process


class ProcessFault(Fault, frozen=True):
    family = "process"


class ControllerCrash(ProcessFault, frozen=True):
    """The leading controller ends without a word, at once or around its next write of that kind, and starts again. On
    kind: at once only, and its Deployment makes another.
    """

    name = "controller_crash"
    backends = EVERYWHERE
    edge: Annotated[
        Literal["at_once", "before", "after"], Meta(description="before or after: of its next write, or at once")
    ] = "at_once"
    write: Annotated[
        Literal["status", "create", "delete", "any"], Meta(description="the write that before and after speak of")
    ] = "status"
    restart_after: Duration = 3.0

    def problem_on(self, backend: Backend) -> str:
        if backend != "kind" or self.edge == "at_once":
            return ""
        return f"it cannot be {self.edge} a write {ON_KIND}; leave edge and write out, it is at once then"


class ControllerFrozen(ProcessFault, frozen=True):
    """The leading controller stands still; its connections stay open."""

    name = "controller_frozen"
    lasts = True
    backends = EVERYWHERE


class ControllerGone(ProcessFault, frozen=True):
    """All controllers are stopped properly, and nobody starts another."""

    name = "controller_gone"
    lasts = True
    backends = EVERYWHERE


class LeaseUnreachable(ProcessFault, frozen=True):
    """The leader cannot reach its Lease; its other requests go through."""

    name = "lease_unreachable"
    lasts = True


class ClockJump(ProcessFault, frozen=True):
    """The wall clock of the controllers jumps; the monotonic clock does not."""

    name = "clock_jump"
    by: Annotated[SignedDuration, Meta(description='may be negative: "-1h"')] = 3600.0

    def problem(self) -> str:
        return "" if self.by else "it jumps by nothing; write another by, such as 1h or -1h"


# api


class ApiFault(Fault, frozen=True):
    family = "api"
    lasts = True


class ApiThrottled(ApiFault, frozen=True):
    """So many of the controllers' requests are answered 429 with a Retry-After."""

    name = "api_throttled"
    retry_after: Duration = 2.0
    share: Percent = 0.1


class ApiErrors(ApiFault, frozen=True):
    """So many of the controllers' requests are answered with this error of the server."""

    name = "api_errors"
    status: Annotated[int, Meta(ge=500, le=599)] = 503
    share: Percent = 0.1


class AnswersLost(ApiFault, frozen=True):
    """So many of the controllers' writes get no answer."""

    name = "answers_lost"
    share: Percent = 0.1
    applied: Annotated[bool, Meta(description="whether the lost write was carried out")] = True


class ConnectionsReset(ApiFault, frozen=True):
    """So many of the controllers' requests and watches end in a reset connection."""

    name = "connections_reset"
    share: Percent = 0.1


class TokenRejected(ApiFault, frozen=True):
    """So many of the controllers' requests are answered 401."""

    name = "token_rejected"
    share: Percent = 0.1


class WritesRefused(ApiFault, frozen=True):
    """The controllers' writes of this kind are refused."""

    name = "writes_refused"
    resource: Plural = "pods"
    verb: Literal["create", "update", "patch", "delete"] = "create"
    status: Annotated[int, Meta(ge=400, le=499)] = 403
    message: str = "exceeded quota"


class Conflicts(ApiFault, frozen=True):
    """So many of the controllers' writes meet a conflict (409): somebody wrote first."""

    name = "conflicts"
    resource: Plural = "gangs"
    share: Percent = 0.5


class ApiSlow(ApiFault, frozen=True):
    """Every answer of the API server takes so long."""

    name = "api_slow"
    latency: DurationRange = Range(1.0, 5.0)


class ApiOutage(ApiFault, frozen=True):
    """Nobody reaches the API server."""

    name = "api_outage"
    backends = EVERYWHERE


# stale


class StaleFault(Fault, frozen=True):
    family = "stale"


class WatchStalled(StaleFault, frozen=True):
    """The controllers' watches of this resource stay open and tell nothing."""

    name = "watch_stalled"
    lasts = True
    resource: Plural = "pods"


class WatchesClosed(StaleFault, frozen=True):
    """The API server closes all watches of the controllers, again and again."""

    name = "watches_closed"
    lasts = True
    every: PositiveDuration = 1.0


class HistoryLost(StaleFault, frozen=True):
    """The API server forgets its history: the next watch that resumes is answered 410."""

    name = "history_lost"


class StaleLists(StaleFault, frozen=True):
    """Lists are answered from a cache that stood still when the fault began."""

    name = "stale_lists"
    lasts = True


class EventsDuplicated(StaleFault, frozen=True):
    """Watches tell everything twice."""

    name = "events_duplicated"
    lasts = True


class WatchDelayed(StaleFault, frozen=True):
    """Watches of this resource tell everything so late."""

    name = "watch_delayed"
    lasts = True
    resource: Plural = "pods"
    by: PositiveDuration = 5.0


class EventsCoalesced(StaleFault, frozen=True):
    """Watches of this resource tell only the last state of each object within a window."""

    name = "events_coalesced"
    lasts = True
    resource: Plural = "pods"
    window: PositiveDuration = 2.0


# people


class PeopleFault(Fault, frozen=True):
    family = "people"
    backends = EVERYWHERE


class GangEdited(PeopleFault, frozen=True):
    """Somebody edits the Gang."""

    name = "gang_edited"
    spec: Annotated[dict[str, Any], Meta(description="merge patch of the Gang's spec", extra={"reads": "patch"})]


class GangDeleted(PeopleFault, frozen=True):
    """Somebody deletes the Gang."""

    name = "gang_deleted"


class GangCreatedAgain(PeopleFault, frozen=True):
    """Somebody creates the Gang again under the same name, as it was at first."""

    name = "gang_created_again"


class StatusWiped(PeopleFault, frozen=True):
    """Somebody empties the Gang's status."""

    name = "status_wiped"


class PodDeleted(PeopleFault, frozen=True):
    """Somebody deletes the pod."""

    name = "pod_deleted"
    target = "ranks"
    grace: Duration = 30.0
    force: Annotated[bool, Meta(description="at once, without waiting for the kubelet; grace does not count")] = False


class PodEdited(PeopleFault, frozen=True):
    """Somebody edits labels and annotations of the pod."""

    name = "pod_edited"
    target = "ranks"


class StuckTerminating(PeopleFault, frozen=True):
    """The pod carries a foreign finalizer: deleted, it stays Terminating."""

    name = "stuck_terminating"
    target = "ranks"
    lasts = True


class ForeignPod(PeopleFault, frozen=True):
    """Somebody else's pod takes the name of the rank's pod as soon as it is free."""

    name = "foreign_pod"
    target = "ranks"


FAULTS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        ContainerExit,
        OutOfMemory,
        CrashLoop,
        TrainerHangs,
        TrainerSlow,
        HardwareReport,
        DeviceUnhealthy,
        ImagePullFails,
        ImagePullSlow,
        PodsStartSlowly,
        NodeRejectsPods,
        SparesCrash,
        ContainerNeverReturns,
        PodEvicted,
        AgentExits,
        AgentHangs,
        AgentUnreachable,
        AgentNeverStarts,
        AgentToldNothing,
        NodeKilled,
        NodePowerLoss,
        NodeRebooted,
        NodeDark,
        NodeFrozen,
        NodeFlapping,
        KubeletStopped,
        KubeletSlow,
        KubeletForgets,
        NodeTainted,
        NodeCondition,
        NodeDeleted,
        NodeReplaced,
        NoCapacity,
        ControllerCrash,
        ControllerFrozen,
        ControllerGone,
        LeaseUnreachable,
        ClockJump,
        ApiThrottled,
        ApiErrors,
        AnswersLost,
        ConnectionsReset,
        TokenRejected,
        WritesRefused,
        Conflicts,
        ApiSlow,
        ApiOutage,
        WatchStalled,
        WatchesClosed,
        HistoryLost,
        StaleLists,
        EventsDuplicated,
        WatchDelayed,
        EventsCoalesced,
        GangEdited,
        GangDeleted,
        GangCreatedAgain,
        StatusWiped,
        PodDeleted,
        PodEdited,
        StuckTerminating,
        ForeignPod,
    )
}
