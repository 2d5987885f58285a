"""fleetctl on the cluster: what is deployed there already is tried as it is; where nothing is, it is deployed and taken
away again.

The controller runs on the control plane's node: the faults of a scenario hit workers.
"""

import contextlib
import importlib.metadata
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import fleetctl
from fleetctl.kind.cluster import Cluster, Unsuitable
from fleetctl.kind.shell import CommandFailed, run

NAMESPACE, DEPLOYMENT = "fleetctl-system", "fleetctl-controller"
MANIFESTS = Path(fleetctl.__file__).parents[1] / "manifests"
PLACE = "/kind/fleetctl"
"""Where the control plane's container gets the manifests."""
READY_S = 90


def default_image() -> str:
    """What `make image` builds."""
    return f"fleetctl:{importlib.metadata.version('fleetctl')}"


@contextlib.asynccontextmanager
async def deployed(cluster: Cluster, image: str | None) -> AsyncIterator[str]:
    """fleetctl runs on the cluster; its image. `image` is for one that has to be deployed."""
    there = await image_there(cluster)
    if there is not None:
        if image not in (None, there):
            raise Unsuitable(
                f"fleetctl is deployed there as {there}: leave --image out, or delete it: kubectl delete -k manifests"
            )
        await _ready(cluster)
        yield there
        return
    wanted = image or default_image()
    await check(wanted)
    try:
        for node in (cluster.control_plane, *cluster.workers):
            pipe = f"docker save {shlex.quote(wanted)} | docker exec -i {node} ctr -n k8s.io images import -"
            await run("sh", "-c", pipe, timeout_s=180.0)
        await _apply(cluster, wanted)
        await _ready(cluster)
        yield wanted
    finally:
        await cluster.kubectl("delete", "-k", f"{PLACE}/overlay", "--ignore-not-found", check=False, timeout_s=90.0)


async def image_there(cluster: Cluster) -> str | None:
    """The image of the controller that is deployed, if one is."""
    deployment = await cluster.get("deployment", DEPLOYMENT, "-n", NAMESPACE)
    if deployment is None:
        return None
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


async def check(image: str) -> None:
    """It can be deployed from here. Raises Unsuitable."""
    try:
        await run("docker", "image", "inspect", image)
    except CommandFailed as error:
        raise Unsuitable(f"Docker has no image {image}: make image, or name another with --image") from error
    if not (MANIFESTS / "kustomization.yaml").exists():
        raise Unsuitable(
            f"there are no manifests at {MANIFESTS}: run fleetctl from a checkout, or deploy it yourself first"
        )


async def _apply(cluster: Cluster, image: str) -> None:
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag:  # what follows the colon is the port of a registry
        name, tag = image, "latest"
    placed = [
        {
            "op": "add",
            "path": "/spec/template/spec/nodeSelector",
            "value": {"node-role.kubernetes.io/control-plane": ""},
        },
        {
            "op": "add",
            "path": "/spec/template/spec/tolerations",
            "value": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        },
        {"op": "replace", "path": "/spec/replicas", "value": 1},  # a fault of the controller is one of all there are
    ]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../manifests"],
        "images": [{"name": "fleetctl", "newName": name, "newTag": tag}],
        "patches": [{"target": {"kind": "Deployment", "name": DEPLOYMENT}, "patch": json.dumps(placed)}],
    }
    await cluster.on_node(cluster.control_plane, f"rm -rf {PLACE} && mkdir -p {PLACE}/overlay")
    await cluster.docker("cp", str(MANIFESTS), f"{cluster.control_plane}:{PLACE}/manifests")
    await cluster.on_node(
        cluster.control_plane, f"cat >{PLACE}/overlay/kustomization.yaml <<'END'\n{json.dumps(overlay)}\nEND\n"
    )
    await cluster.kubectl("apply", "-k", f"{PLACE}/overlay")


async def _ready(cluster: Cluster) -> None:
    rollout = ("rollout", "status", f"deployment/{DEPLOYMENT}", f"--timeout={READY_S}s")
    await cluster.kubectl("-n", NAMESPACE, *rollout, timeout_s=READY_S + 10.0)
