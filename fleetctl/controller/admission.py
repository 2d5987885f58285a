"""Whether a gang can be started here: its template, and what this cluster can do.

The API server's own strict dry run of a real pod is the judge, so that quotas, pod security and webhooks speak before
anything is created; the answer must still contain the restart rules, because an older server drops them silently.
Reads and dry runs only.
"""

from collections.abc import Callable
from typing import Any

from fleetctl.controller.resources import WHOLE_PODS
from fleetctl.errors import GiveUp
from fleetctl.gang import template
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.snapshot import Acceptance
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import Refused
from fleetctl.kube.objects import NODES, Raw

FEATURE = "RestartAllContainersOnContainerExits"
NEEDS = (
    "fleetctl needs Kubernetes 1.36 or newer with the feature gates ContainerRestartRules, NodeDeclaredFeatures and "
    f"{FEATURE} (on by default)"
)


async def check(client: KubeClient, gang: Gang, make_pod: Callable[[Slot], dict[str, Any]]) -> Acceptance:
    """What is wrong with the gang, each problem with its fix. Raises Retry errors of the API server."""
    problems = [str(p) for p in template.problems(gang)]
    if not problems:
        problems = await _dry_run(client, gang, make_pod)
    if not problems and not await _some_node_can(client):
        problems = [f"no node of the cluster declares {FEATURE}: {NEEDS}"]
    return Acceptance(tuple(problems), () if problems else tuple(str(w) for w in template.warnings(gang)))


async def _dry_run(client: KubeClient, gang: Gang, make_pod: Callable[[Slot], dict[str, Any]]) -> list[str]:
    for number, slot in enumerate(s for s in gang.slots if s.index == 0):
        path, body = f"spec.groups[{number}].template", make_pod(slot)
        meta = {**body["metadata"], "generateName": f"{slot.pod_name}-"}
        del meta["name"]  # it may still be that of an earlier gang's pod
        try:
            pod = await client.create(WHOLE_PODS, gang.namespace, {**body, "metadata": meta}, dry_run=True, strict=True)
        except Refused as refused:
            return [_explain(path, refused)]
        except GiveUp as error:
            return [f"{path}: {error}"]
        if not _restart_rules_kept(pod):
            return [f"the API server dropped the action RestartAllContainers: {NEEDS}"]
    return []


def _explain(path: str, refused: Refused) -> str:
    if any("restartPolicyRules" in c.field and c.field.endswith("action") for c in refused.causes):
        return f"the API server does not know the action RestartAllContainers: {NEEDS}"
    if refused.causes:
        return "; ".join(f"{path}.{c.field}: {c.message}" for c in refused.causes)
    return f"{path}: {refused.message}"


def _restart_rules_kept(pod: Raw) -> bool:
    spec = pod.body.get("spec")
    containers = spec.get("initContainers", []) if isinstance(spec, dict) else []
    return any(
        rule.get("action") == "RestartAllContainers"
        for container in containers
        for rule in container.get("restartPolicyRules", ())
    )


async def _some_node_can(client: KubeClient) -> bool:
    nodes = (await client.list(NODES)).items
    return any(FEATURE in node.status.declared_features for node in nodes)
