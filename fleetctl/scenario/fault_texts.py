"""What a fault is called when it begins and when it is over: one sentence, the same whoever does it.

Knows nothing of how a fault is done.
"""

import signal
from collections.abc import Callable
from typing import Any

from fleetctl.scenario import faults as f
from fleetctl.scenario.durations import indices_text, seconds_text


def begins(fault: f.Fault, ranks: tuple[int, ...], nodes: tuple[str, ...], lasts: float | None) -> str:
    """`rank 3: the trainer hangs, for 20s`."""
    text = _TEXT[type(fault)](fault, _who(ranks, nodes))
    return text if lasts is None else f"{text}, for {seconds_text(lasts)}"


def ends(fault: f.Fault, ranks: tuple[int, ...], nodes: tuple[str, ...]) -> str:
    """`trainer_hangs is over for rank 3`."""
    who = _who(ranks, nodes)
    return f"{fault.name} is over{f' for {who}' if who else ''}"


def _who(ranks: tuple[int, ...], nodes: tuple[str, ...]) -> str:
    if ranks:
        return f"rank {indices_text(ranks)}"
    return ", ".join(nodes) if len(nodes) <= 3 else f"{len(nodes)} nodes ({nodes[0]}, {nodes[1]} …)"


def _code(code: int) -> str:
    names = {s.value: s.name for s in signal.Signals}
    return f"{names[code - 128]}, exit {code}" if code - 128 in names else f"exit {code}"


_TEXT: dict[type[f.Fault], Callable[[Any, str], str]] = {
    f.ContainerExit: lambda fault, who: f"{who}: the {fault.container} dies ({_code(fault.code)})",
    f.OutOfMemory: lambda fault, who: f"{who}: the {fault.container} meets its memory limit (OOMKilled)",
    f.CrashLoop: lambda fault, who: f"{who}: every trainer exits {fault.exit_code} after {seconds_text(fault.after)}",
    f.TrainerHangs: lambda fault, who: f"{who}: the trainer hangs",
    f.TrainerSlow: lambda fault, who: f"{who}: the trainer's own work takes {fault.factor:g} times as long",
    f.HardwareReport: lambda fault, who: (
        f"{who}: {fault.code} on {fault.device} is reported" + (f" ({fault.text})" if fault.text else "")
    ),
    f.DeviceUnhealthy: lambda fault, who: f"{who}: the kubelet calls {fault.device} unhealthy",
    f.ImagePullFails: lambda fault, who: f"{who}: the image of new pods cannot be pulled",
    f.ImagePullSlow: lambda fault, who: f"{who}: an image that is not there takes {seconds_text(fault.takes)} to pull",
    f.PodsStartSlowly: lambda fault, who: f"{who}: new pods start {seconds_text(fault.takes)} late",
    f.NodeRejectsPods: lambda fault, who: f"{who}: new pods are turned away ({fault.reason})",
    f.SparesCrash: lambda fault, who: f"{who}: the containers of spares crash",
    f.ContainerNeverReturns: lambda fault, who: f"{who}: a restart in place would never be completed",
    f.PodEvicted: lambda fault, who: f"{who}: the pod is evicted ({fault.reason})",
    f.AgentExits: lambda fault, who: f"{who}: the agent exits {fault.exit_code}",
    f.AgentHangs: lambda fault, who: f"{who}: the agent hangs",
    f.AgentUnreachable: lambda fault, who: f"{who}: the agent's network is cut",
    f.AgentNeverStarts: lambda fault, who: f"{who}: agents started from now on do not come up",
    f.AgentToldNothing: lambda fault, who: f"{who}: the stream breaks whenever a release arrives",
    f.NodeKilled: lambda fault, who: f"{who}: killed, all its processes end",
    f.NodePowerLoss: lambda fault, who: f"{who}: loses power; nobody closes its connections",
    f.NodeRebooted: lambda fault, who: f"{who}: reboots in {seconds_text(fault.down)}",
    f.NodeDark: lambda fault, who: f"{who}: goes dark; what runs there runs on",
    f.NodeFrozen: lambda fault, who: f"{who}: freezes",
    f.NodeFlapping: lambda fault, who: (
        f"{who}: dark for {seconds_text(fault.down)} in every {seconds_text(fault.every)}"
    ),
    f.KubeletStopped: lambda fault, who: f"{who}: the kubelet stops; containers run on",
    f.KubeletSlow: lambda fault, who: f"{who}: the kubelet's statuses are {seconds_text(fault.lag)} late",
    f.KubeletForgets: lambda fault, who: f"{who}: the kubelet posts an old status again",
    f.NodeTainted: lambda fault, who: f"{who}: tainted {fault.key}:{fault.effect}",
    f.NodeCondition: lambda fault, who: f"{who}: its condition {fault.type} becomes True",
    f.NodeDeleted: lambda fault, who: f"{who}: the Node object is deleted",
    f.NodeReplaced: lambda fault, who: f"{who}: another machine takes the name",
    f.NoCapacity: lambda fault, who: "all nodes are cordoned",
    f.ControllerCrash: lambda fault, who: (
        "the leading controller crashes"
        + ("" if fault.edge == "at_once" else f" {fault.edge} its next write ({fault.write})")
    ),
    f.ControllerFrozen: lambda fault, who: "the leading controller freezes",
    f.ControllerGone: lambda fault, who: "all controllers are stopped",
    f.LeaseUnreachable: lambda fault, who: "the leading controller cannot reach its Lease",
    f.ClockJump: lambda fault, who: f"the controllers' wall clocks jump by {seconds_text(fault.by)}",
    f.ApiThrottled: lambda fault, who: f"{fault.share:.0%} of requests are answered 429",
    f.ApiErrors: lambda fault, who: f"{fault.share:.0%} of requests are answered {fault.status}",
    f.AnswersLost: lambda fault, who: (
        f"{fault.share:.0%} of writes get no answer ({'applied' if fault.applied else 'lost'})"
    ),
    f.ConnectionsReset: lambda fault, who: f"{fault.share:.0%} of connections to the API server are reset",
    f.TokenRejected: lambda fault, who: f"{fault.share:.0%} of requests are answered 401",
    f.WritesRefused: lambda fault, who: f"{fault.verb} of {fault.resource} is refused: {fault.message}",
    f.Conflicts: lambda fault, who: f"somebody writes {fault.resource} just before we do",
    f.ApiSlow: lambda fault, who: "the API server is slow",
    f.ApiOutage: lambda fault, who: "the API server is away",
    f.WatchStalled: lambda fault, who: f"watches of {fault.resource} say nothing",
    f.WatchesClosed: lambda fault, who: f"watches are closed every {seconds_text(fault.every)}",
    f.HistoryLost: lambda fault, who: "the API server forgets its history",
    f.StaleLists: lambda fault, who: "lists are answered from an old cache",
    f.EventsDuplicated: lambda fault, who: "watches say everything twice",
    f.WatchDelayed: lambda fault, who: f"watches of {fault.resource} are {seconds_text(fault.by)} late",
    f.EventsCoalesced: lambda fault, who: f"watches of {fault.resource} tell only the newest state",
    f.GangEdited: lambda fault, who: f"somebody edits the gang: {fault.spec}",
    f.GangDeleted: lambda fault, who: "somebody deletes the gang",
    f.GangCreatedAgain: lambda fault, who: "somebody creates the gang again",
    f.StatusWiped: lambda fault, who: "somebody empties the gang's status",
    f.PodDeleted: lambda fault, who: f"{who}: somebody deletes the pod{' by force' if fault.force else ''}",
    f.PodEdited: lambda fault, who: f"{who}: somebody edits the pod",
    f.StuckTerminating: lambda fault, who: f"{who}: the pod carries a foreign finalizer",
    f.ForeignPod: lambda fault, who: f"{who}: somebody else's pod takes the name",
}
