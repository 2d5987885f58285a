"""A kind cluster: found, looked at before anything is touched, or made; and its nodes, which are Docker containers.

Everything goes through Docker: kubectl is the one in the control plane's container, so nothing else is needed here,
and no kubeconfig can point somewhere else than at these containers.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetctl.errors import GiveUp
from fleetctl.kind.shell import CommandFailed, is_there, run
from fleetctl.stamps import unix_seconds

MINOR = 36
"""Of Kubernetes 1: the first in which RestartAllContainers is on unless somebody turns it off."""
PREFIX = "kind-"
"""What kind puts before a cluster's name to name its context."""
RECORDS, AUDIT = "/records", "/kind/audit"
AUDIT_LOG = "audit.log"
BACK_S = 90.0
AGAIN_S = 0.5

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - {group: "", resources: [pods, pods/status, pods/binding, pods/eviction, nodes, nodes/status, events]}
  - {group: events.k8s.io, resources: [events]}
  - {group: fleetctl.dev, resources: [gangs, gangs/status]}
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
"""

_RESTARTS_ALL = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "fleetctl-asks", "namespace": "default"},
    "spec": {
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "asks",
                "image": "none",
                "restartPolicy": "Never",
                "restartPolicyRules": [
                    {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
                ],
            }
        ],
    },
}


class Unsuitable(GiveUp):
    """No scenario runs here; the message says why, and what to do. Nothing has been touched."""


@dataclass(frozen=True)
class Cluster:
    """`records`: the folder of this machine that is /records in every worker; `audit_log`: the API server's, here."""

    name: str
    control_plane: str
    workers: tuple[str, ...]
    records: Path
    audit_log: Path

    async def kubectl(self, *arguments: str, stdin: str = "", check: bool = True, timeout_s: float = 60.0) -> str:
        """As the cluster's administrator."""
        return await _kubectl(self.control_plane, *arguments, stdin=stdin, check=check, timeout_s=timeout_s)

    async def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`; None if there is no such object."""
        found = await self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found.strip() else None

    async def apply(self, *objects: Any) -> None:
        """Create these objects, or change them."""
        await self.kubectl("apply", "-f", "-", stdin=listed(*objects))

    async def delete(self, *objects: Any) -> None:
        """Delete these objects, as far as they are there."""
        await self.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=listed(*objects))

    async def on_node(self, node: str, script: str, *, check: bool = True) -> str:
        """Run a shell script in a node's container."""
        return await run("docker", "exec", "-i", node, "sh", "-s", stdin=script, check=check)

    async def docker(self, *arguments: str, check: bool = True) -> str:
        """`docker …`."""
        return await run("docker", *arguments, check=check)

    async def back(self, node: str, since: float) -> None:
        """Return once a node is of use again: its kubelet has renewed its Lease since that Unix time, and knows its
        pods."""
        until = time.monotonic() + BACK_S
        while not await self._is_back(node, since):
            if time.monotonic() > until:
                raise CommandFailed(f"{node} is not Ready again within {BACK_S:g} s")
            await asyncio.sleep(AGAIN_S)

    async def _is_back(self, node: str, since: float) -> bool:
        with contextlib.suppress(CommandFailed):
            lease = await self.get("lease", node, "-n", "kube-node-lease")
            if lease is None or unix_seconds(lease["spec"]["renewTime"]) < since:
                return False
            there = await self.get("node", node)
            if there is None or not _ready(there):
                return False
            pods = await self.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/pods", check=False)
            return bool(pods and json.loads(pods)["items"])
        return False


def listed(*objects: Any) -> str:
    """One document for kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


async def find(context: str, workers: int) -> Cluster:
    """The kind cluster of that context, if a scenario for so many workers may run there. Raises Unsuitable."""
    await need_docker()
    if not context.startswith(PREFIX):
        raise Unsuitable(
            f'context "{context}" is not one of kind (they are called {PREFIX}NAME), and may be a cluster that '
            "somebody needs: leave --context out, and one is made"
        )
    name = context.removeprefix(PREFIX)
    listed = await run(
        "docker", "ps", "--all", "--filter", f"label=io.x-k8s.kind.cluster={name}",
        "--format", '{{.Names}}\t{{.Label "io.x-k8s.kind.role"}}\t{{.State}}',
    )  # fmt: skip
    nodes = [line.split("\t") for line in listed.splitlines()]
    planes = [node for node, role, _ in nodes if role == "control-plane"]
    found = sorted((node for node, role, _ in nodes if role == "worker"), key=lambda node: (len(node), node))
    if not nodes:
        raise Unsuitable(f'Docker has no nodes of a kind cluster "{name}": see kind get clusters')
    if len(planes) != 1 or len(found) != workers:
        raise Unsuitable(
            f'kind cluster "{name}" has {len(planes)} control planes and {len(found)} workers; the scenario is for 1 '
            f"and {workers}: use another cluster, or another kind: {{workers: …}} in its file"
        )
    if stopped := [node for node, _, state in nodes if state != "running"]:
        raise Unsuitable(f"nodes are not running: {', '.join(stopped)}: docker start (or unpause) them")
    await _may_be_used(planes[0], [node for node, *_ in nodes])
    records, audit = await _shared(found[0], RECORDS), await _shared(planes[0], AUDIT)
    if records is None or audit is None:
        raise Unsuitable(
            f'kind cluster "{name}" shares no {AUDIT if records else RECORDS} with this machine, from which a run is '
            "judged; leave --context out and one is made that does (--keep keeps it)"
        )
    return Cluster(name, planes[0], tuple(found), records, audit / AUDIT_LOG)


async def need_docker() -> None:
    """Raises Unsuitable if there is none."""
    if not is_there("docker"):
        raise Unsuitable("there is no docker here: install Docker, or use --backend sim")
    try:
        await run("docker", "version")
    except CommandFailed as error:
        raise Unsuitable(f"Docker does not answer: start it, or use --backend sim ({error})") from error


async def _may_be_used(control_plane: str, containers: Sequence[str]) -> None:
    """Nobody else's work is here, and Kubernetes can do what we need."""
    try:
        version = json.loads(await _kubectl(control_plane, "version", "-o", "json"))["serverVersion"]
        nodes = json.loads(await _kubectl(control_plane, "get", "nodes", "-o", "json"))["items"]
    except CommandFailed as error:
        raise Unsuitable(f"the API server does not answer: {error}") from error
    if int(version["minor"].rstrip("+")) < MINOR:
        raise Unsuitable(
            f"this is Kubernetes {version['gitVersion']}; restarts in place need 1.{MINOR}: "
            f"kind create cluster --image kindest/node:v1.{MINOR}.4"
        )
    if foreign := sorted({node["metadata"]["name"] for node in nodes} - set(containers)):
        raise Unsuitable(f"nodes that are no containers of this kind cluster: {', '.join(foreign)}: nothing is touched")
    if absent := [node["metadata"]["name"] for node in nodes if not _ready(node)]:
        raise Unsuitable(f"nodes are not Ready: {', '.join(absent)}: wait, or make another cluster")
    kept = await _kubectl(
        control_plane,
        "create",
        "--dry-run=server",
        "-o",
        "json",
        "-f",
        "-",
        stdin=json.dumps(_RESTARTS_ALL),
        check=False,
    )
    if "RestartAllContainers" not in kept:
        raise Unsuitable(
            "the API server knows no RestartAllContainers: its feature gate RestartAllContainersOnContainerExits is off"
        )
    known = await _kubectl(control_plane, "get", "crd", "gangs.fleetctl.dev", "-o", "name", "--ignore-not-found")
    gangs = (await _kubectl(control_plane, "get", "gangs", "-A", "-o", "name")).split() if known.strip() else []
    if gangs:
        raise Unsuitable(f"gangs are there already ({', '.join(gangs[:5])}): delete them, or use another cluster")


async def _shared(node: str, inside: str) -> Path | None:
    """The folder of this machine that is mounted there."""
    mounts = json.loads(await run("docker", "inspect", "--format", "{{json .Mounts}}", node))
    found = next((Path(mount["Source"]) for mount in mounts if mount["Destination"] == inside), None)
    return found if found and found.is_dir() else None


@contextlib.asynccontextmanager
async def made(name: str, workers: int, shared: Path, *, keep: bool) -> AsyncIterator[str]:
    """A new cluster, gone again in the end unless it is to be kept; its context. `shared`: for records and log."""
    await need_docker()
    if not is_there("kind"):
        raise Unsuitable("there is no kind here: install it (kind.sigs.k8s.io), or name a cluster with --context")
    if name in (await run("kind", "get", "clusters")).split():
        raise Unsuitable(
            f'a kind cluster "{name}" is there already: use it with --context {PREFIX}{name}, or delete it'
        )
    audit, records = shared / "audit", shared / "records"
    for folder in (audit, records):
        folder.mkdir(parents=True, exist_ok=True)
    records.chmod(0o777)  # kubelets give the pods' folders in it the same mode
    (audit / "policy.yaml").write_text(AUDIT_POLICY)
    (audit / AUDIT_LOG).touch()  # the API server would make it unreadable for all but root
    try:
        await run(
            "kind", "create", "cluster", "--name", name, "--wait", "120s", "--config", "-",
            stdin=json.dumps(_config(workers, audit, records)), timeout_s=600.0,
        )  # fmt: skip
        yield f"{PREFIX}{name}"
    finally:
        if not keep:
            await run("kind", "delete", "cluster", "--name", name, timeout_s=120.0)


def _config(workers: int, audit: Path, records: Path) -> Any:
    api_server = {
        "extraArgs": [
            {"name": "audit-policy-file", "value": f"{AUDIT}/policy.yaml"},
            {"name": "audit-log-path", "value": f"{AUDIT}/{AUDIT_LOG}"},
        ],
        "extraVolumes": [{"name": "audit", "hostPath": AUDIT, "mountPath": AUDIT, "pathType": "Directory"}],
    }
    patch = json.dumps({"kind": "ClusterConfiguration", "apiServer": api_server})
    plane = {"role": "control-plane", "extraMounts": [{"hostPath": str(audit), "containerPath": AUDIT}]}
    worker = {"role": "worker", "extraMounts": [{"hostPath": str(records), "containerPath": RECORDS}]}
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "kubeadmConfigPatches": [patch],
        "nodes": [plane, *[worker] * workers],
    }


async def _kubectl(
    control_plane: str, *arguments: str, stdin: str = "", check: bool = True, timeout_s: float = 60.0
) -> str:
    command = ("docker", "exec", "-i", control_plane, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
    return await run(*command, *arguments, stdin=stdin, check=check, timeout_s=timeout_s)


def _ready(node: Any) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions") or ())
