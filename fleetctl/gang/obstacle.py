"""What a gathering waits for that somebody else must bring about, in words: the reason why a gang is Held while it goes
on trying.

Decides nothing. Each sentence says who waits, for what, and what ends it; sentences do not change while the obstacle
does not, because each change is a write.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fleetctl.gang.diagnose.pod_state import CREATING, why_stuck
from fleetctl.gang.state import Container, Member, Seconds, Zombie, ranges

SOON_S = 10.0
"""What passes by itself within so many seconds is not worth telling."""
UNHEARD_S = 30.0
"""Containers that take their time to stop keep all agents of a node away for longer than two beats, seconds."""
TERMINATING_S = 60.0
"""A pod that terminates for longer is stuck, seconds."""
IMAGE_REASONS = frozenset(
    {"CreateContainerConfigError", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"}
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A member that is not there yet. `coordinator` is the Service through which it must reach the others' meeting
    point. `out_of_spares`: its group has spares, and none is ready. `quiet_s`: for how long nothing has been heard of
    its node."""

    member: Member
    for_s: Seconds
    coordinator: str
    out_of_spares: bool = False
    quiet_s: Seconds = 0.0


def obstacles(waiting: Iterable[Waiting], zombies: Sequence[Zombie]) -> tuple[str, ...]:
    """One sentence for each kind of obstacle, with the ranks it holds up."""
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    for case in waiting:
        if sentence := next((found for rule in RULES if (found := rule(case))), None):
            ranks[sentence].append(case.member.rank)
    for zombie in zombies:
        if zombie.runs:
            ranks["its former pod, which was deleted, still runs; it goes on when that has stopped"].append(zombie.rank)
    return tuple(f"rank {ranges(of)}: {sentence}" for sentence, of in ranks.items())


def stays_terminating(case: Waiting) -> str | None:
    """A pod that was told to go and does not."""
    pod = case.member.pod
    if pod is None or not pod.deleting or case.for_s < TERMINATING_S:
        return None
    if pod.finalizers:
        return f"the pod stays Terminating: finalizer {', '.join(pod.finalizers)}; whoever set it must remove it"
    return f"the pod stays Terminating on node {pod.node}; it is not force-deleted while that node may be alive"


def no_room(case: Waiting) -> str | None:
    """A pod that the scheduler finds no node for."""
    pod = case.member.pod
    if pod is None or pod.node or not pod.unschedulable or case.for_s < SOON_S:
        return None
    spares = ", and no spare is ready" if case.out_of_spares else ""
    return f"no node has room for the pod{spares} (kubectl describe pod says why); it goes on when one has"


def image(case: Waiting) -> str | None:
    """A container whose image or settings the kubelet cannot get."""
    pod = case.member.pod
    if pod is None or case.for_s < SOON_S:
        return None
    containers: tuple[Container, ...] = (*([pod.preparing] if pod.preparing else ()), *pod.containers)
    stuck = next((c for c in containers if c.waiting_reason in IMAGE_REASONS), None)
    if stuck is None:
        return None
    pulls = stuck.waiting_reason in ("ErrImagePull", "ImagePullBackOff")  # the kubelet alternates between the two
    what = "cannot pull its image" if pulls else f"cannot be created: {stuck.waiting_reason}"
    return f"container {stuck.name} {what}; the kubelet keeps trying"


def does_not_start(case: Waiting) -> str | None:
    """A container that the kubelet cannot start, whoever is to blame."""
    pod = case.member.pod
    reason = why_stuck(pod) if pod is not None and not pod.terminal and case.for_s >= UNHEARD_S else ""
    if reason in ("", CREATING):
        return None
    return f"a container does not start: {reason} (kubectl describe pod says why); the kubelet keeps trying"


def not_heard(case: Waiting) -> str | None:
    """A node from which nothing is heard, and that is not proven dead."""
    node = case.member.node
    # an agent that is about to say hello for the first time is not missed
    if node is None or not node.silent or case.for_s < UNHEARD_S or case.quiet_s < SOON_S:
        return None
    return f"nothing is heard from node {node.name}, which is not proven dead"


def no_path(case: Waiting) -> str | None:
    """A rank at the barrier that does not reach the coordinator."""
    if not case.member.at_barrier or case.for_s < SOON_S:
        return None
    return f"cannot reach the coordinator through {case.coordinator}; does a NetworkPolicy forbid it?"


Rule = Callable[[Waiting], str | None]
RULES: tuple[Rule, ...] = (stays_terminating, no_room, image, does_not_start, not_heard, no_path)
