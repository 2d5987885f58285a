"""What each rank is doing, in a few words, from its pod alone.

For people who ask without being the controller: agents' streams are not visible here, so "at the barrier" means that
everything before the gate has run and the trainer has not.
"""

from collections import defaultdict
from collections.abc import Iterable

from fleetctl.gang.state import Container, Member, ranges


def activity(member: Member) -> str:
    """Such as `training`, `at the barrier`, `restarting in place`, `init container prepare: ErrImagePull`."""
    pod = member.pod
    if pod is None:
        return "no pod"
    if pod.deleting:
        return "terminating"
    if pod.phase == "Succeeded":
        return "succeeded"
    if pod.phase == "Failed":
        return f"failed{_why(pod.reason)}"
    if pod.restarting_since is not None or any(c.waiting_reason == "RestartingAllContainers" for c in pod.containers):
        return "restarting in place"
    trainer = next((c for c in pod.containers if c.name == member.trainer), None)
    if trainer is not None and trainer.running:
        return "training"
    if trainer is not None and trainer.ended is not None:
        return f"trainer exited {trainer.ended.exit_code}"
    if not pod.node:
        return "waiting for a node"
    if pod.preparing is not None:
        return _preparing(pod.preparing)
    if trainer is not None and trainer.waiting_reason not in ("", "PodInitializing", "ContainerCreating"):
        return f"trainer waits: {trainer.waiting_reason}"
    return "at the barrier" if trainer is not None else "starting"


def by_activity(members: Iterable[Member]) -> dict[str, str]:
    """Activity → the ranks that are at it (`0-2,5`), the most frequent first."""
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    for member in members:
        ranks[activity(member)].append(member.rank)
    return {what: ranges(of) for what, of in sorted(ranks.items(), key=lambda item: -len(item[1]))}


def _preparing(init: Container) -> str:
    if init.running:
        return f"runs init container {init.name}"
    return f"init container {init.name}{_why(init.waiting_reason)}"


def _why(reason: str) -> str:
    return f": {reason}" if reason and reason != "PodInitializing" else ""
