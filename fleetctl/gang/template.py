"""What is wrong with a user's pod template, said with the field and the fix.

Looks only for what the API server's own check (a strict dry run of the pod that `pods.py` makes) cannot know or would
name badly: our own conventions, and the spellings that articles and KEPs got wrong. Anything else is left to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.pods import PROBE_PORT, RESERVED_PREFIX, RESTART_EXIT_CODE

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A field of the Gang and what to do about it."""

    field: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.fix}"


def problems(gang: Gang) -> list[Problem]:
    """Why pods cannot be made from this gang's templates; empty if they can."""
    found = [p for number, slot in _groups(gang) for p in _of_group(gang, slot, f"spec.groups[{number}].template.spec")]
    if gang.spec.coordinator.port == PROBE_PORT:
        found.append(
            Problem("spec.coordinator.port", f"fleetctl's agent listens on port {PROBE_PORT}: use another one")
        )
    return found


def warnings(gang: Gang) -> list[Problem]:
    """What works, but not as its author may think."""
    return [w for number, slot in _groups(gang) for w in _doubts(slot, f"spec.groups[{number}].template.spec")]


def _groups(gang: Gang) -> Iterator[tuple[int, Slot]]:
    first_slots = [slot for slot in gang.slots if slot.index == 0]
    return enumerate(first_slots)


def _of_group(gang: Gang, slot: Slot, path: str) -> Iterator[Problem]:
    pod = slot.group.template.get("spec") or {}
    containers = pod.get("containers") if isinstance(pod, dict) else None
    if not isinstance(containers, list) or not containers or not all(_well_formed(c) for c in containers):
        yield Problem(f"{path}.containers", "needs at least one container, each with a name and an image")
        return
    misshapen = list(_misshapen(slot, path))
    yield from misshapen
    if misshapen:
        return
    if pod.get("restartPolicy", "Never") != "Never":
        yield Problem(
            f"{path}.restartPolicy",
            "must be Never (or left out): fleetctl restarts all containers of a gang together. An init container that "
            "should be retried alone may set restartPolicy: OnFailure itself",
        )
    names = [c["name"] for c in containers]
    if slot.trainer not in names:
        yield Problem(
            f"{path.removesuffix('.template.spec')}.trainer",
            f'no container is named "{slot.trainer}"; there are {", ".join(names)}',
        )
    for field, container in _containers(slot, path):
        is_trainer = container.get("name") == slot.trainer
        yield from _of_container(gang, slot.group.name, field, container, is_trainer=is_trainer)


def _misshapen(slot: Slot, path: str) -> Iterator[Problem]:
    """Fields that we read or extend and that are not even the right kind of value."""
    metadata = slot.group.template.get("metadata") or {}
    places: list[tuple[str, Any, dict[str, type]]] = [
        (path.removesuffix(".spec") + ".metadata", metadata, _METADATA),
        (path, slot.group.template["spec"], _POD),
    ]
    places += [(field, container, _CONTAINER) for field, container in _containers(slot, path)]
    for field, value, shapes in places:
        for name, shape in shapes.items():
            found = value.get(name) if isinstance(value, dict) else value
            if found is not None and not _has_shape(found, shape):
                yield Problem(f"{field}.{name}", f"must be {_SHAPES[shape]}")


_METADATA: dict[str, type] = {"labels": dict, "annotations": dict}
_POD: dict[str, type] = {"initContainers": list, "volumes": list, "tolerations": list}
_CONTAINER: dict[str, type] = {
    "env": list,
    "volumeMounts": list,
    "restartPolicyRules": list,
    "resources": dict,
    "lifecycle": dict,
}
_SHAPES: dict[type, str] = {dict: "a map", list: "a list of maps"}


def _has_shape(found: Any, shape: type) -> bool:
    if isinstance(found, list):
        return shape is list and all(isinstance(item, dict) for item in found)
    return isinstance(found, shape)


def _well_formed(container: Any) -> bool:
    return isinstance(container, dict) and bool(container.get("name")) and bool(container.get("image"))


def _containers(slot: Slot, path: str) -> Iterator[tuple[str, Body]]:
    pod = slot.group.template["spec"]
    for kind in ("initContainers", "containers"):
        containers = pod.get(kind) or ()
        for index, container in enumerate(containers if isinstance(containers, list) else ()):
            if isinstance(container, dict):
                yield f"{path}.{kind}[{index}]", container


def _of_container(gang: Gang, group: str, path: str, container: Body, *, is_trainer: bool) -> Iterator[Problem]:
    if str(container.get("name", "")).startswith(RESERVED_PREFIX):
        yield Problem(f"{path}.name", f'names that begin with "{RESERVED_PREFIX}" are fleetctl\'s own: rename it')
    if "containerRestartPolicy" in container:
        yield Problem(
            f"{path}.containerRestartPolicy",
            "Kubernetes has no such field: use restartPolicy with restartPolicyRules[].exitCodes on the container",
        )
    rules = container.get("restartPolicyRules") or []
    fatal = gang.spec.recovery.fatal_codes(group) if is_trainer else frozenset[int]()
    for index, rule in enumerate(rules):
        yield from _of_rule(fatal, f"{path}.restartPolicyRules[{index}]", rule)
    if is_trainer and container.get("restartPolicy", "Never") != "Never":
        yield Problem(
            f"{path}.restartPolicy",
            "would restart one trainer alone while the others wait for it: leave it out, fleetctl restarts the gang",
        )
    if is_trainer and any(r.get("action") == "Restart" for r in rules):
        yield Problem(
            f"{path}.restartPolicyRules",
            "the action Restart would restart one trainer alone: use RestartAllContainers, or leave the rule out",
        )


def _of_rule(fatal: frozenset[int], path: str, rule: Body) -> Iterator[Problem]:
    for wrong in ("onExit", "when"):
        if wrong in rule:
            yield Problem(
                f"{path}.{wrong}",
                "Kubernetes has no such field: write the condition directly as "
                "restartPolicyRules[].exitCodes: {operator: In, values: [...]}",
            )
    condition = rule.get("exitCodes")
    if not isinstance(condition, dict):
        return
    codes = condition.get("values")
    if not isinstance(codes, list):
        return
    if condition.get("operator") == "In" and RESTART_EXIT_CODE in codes:
        yield Problem(
            f"{path}.exitCodes.values",
            f"{RESTART_EXIT_CODE} is the code by which fleetctl's agent restarts a pod: use another one",
        )
    if rule.get("action") == "RestartAllContainers":
        within = condition.get("operator") == "In"
        both = sorted(code for code in fatal if (code in codes) == within)
        if both:
            yield Problem(
                f"{path}.exitCodes.values",
                f"restarts on exit code {both[0]}, which spec.recovery.rules wants to end the gang: "
                "take the code out of one of them",
            )


def _doubts(slot: Slot, path: str) -> Iterator[Problem]:
    if slot.group.template["spec"].get("hostNetwork"):
        yield Problem(
            f"{path}.hostNetwork",
            f"one rank a node: fleetctl's agent listens on port {PROBE_PORT} of the node's network",
        )
    for field, container in _containers(slot, path):
        yield from _doubts_about(field, container)


def _doubts_about(path: str, container: Body) -> Iterator[Problem]:
    if (container.get("lifecycle") or {}).get("preStop"):
        yield Problem(f"{path}.lifecycle.preStop", "is not run when a pod restarts in place (RestartAllContainers)")
    if container.get("imagePullPolicy") == "Always":
        yield Problem(
            f"{path}.imagePullPolicy",
            "Always asks the registry at every restart in place: IfNotPresent restarts faster",
        )
