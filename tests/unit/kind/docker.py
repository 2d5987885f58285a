"""A stand-in for fleetctl.kind.shell.run: Docker, kind and kubectl of a small cluster that a test describes.

A command that only reads is answered from the description. Every other one is kept in `changes`, as somebody would type
it, and does as much as the tests need: clusters are made and deleted, fleetctl is deployed and taken away.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleetctl.gang.pods import LABEL_GANG, LABEL_RANK
from fleetctl.kind import cluster, install
from fleetctl.kind.cluster import AUDIT, RECORDS
from fleetctl.kind.install import default_image
from fleetctl.kind.shell import CommandFailed

KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
IMAGE = default_image()


@dataclass
class Node:
    """A container of a kind cluster. `mounts`: what is where in it of this machine."""

    name: str
    role: str
    state: str = "running"
    ready: bool = True
    mounts: dict[str, Path] = field(default_factory=dict)


class Docker:
    """`fails`: what is raised for a command in which these words are. `calls`: every command, with its stdin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = {"docker", "kind"}
        self.images = {IMAGE}
        self.clusters: dict[str, list[Node]] = {}
        self.strangers: list[str] = []
        """Nodes of the API that are no containers."""
        self.version = ("36", "v1.36.4")
        self.restarts_all = True
        self.renewed = "2999-01-01T00:00:00.000000Z"
        """When the nodes have renewed their Leases."""
        self.node_pods: list[Any] = [{}]
        """What a kubelet tells when it is asked."""
        self.knows_gangs = False
        self.gangs: list[str] = []
        self.deployed = ""
        """The image of the controller that is deployed."""
        self.pods: dict[str, list[Any]] = {}
        """By namespace."""
        self.fails: dict[str, BaseException] = {}
        self.calls: list[tuple[str, str]] = []
        self.changes: list[str] = []

    def runs(self, name: str, workers: int) -> list[Node]:
        """A kind cluster is there, with the shared folders; its nodes, the control plane first."""
        names = [f"{name}-worker{number if number > 1 else ''}" for number in range(1, workers + 1)]
        audit, records = self.folder / "audit", self.folder / "records"
        for shared in (audit, records):
            shared.mkdir(exist_ok=True)
        self.clusters[name] = [
            Node(f"{name}-control-plane", "control-plane", mounts={AUDIT: audit}),
            *(Node(each, "worker", mounts={RECORDS: records}) for each in names),
        ]
        return self.clusters[name]

    def has_pod(self, namespace: str, name: str, node: str, *, rank: int | None = None) -> Any:
        """A pod runs there: of the gang "g" if it has a rank."""
        labels = {} if rank is None else {LABEL_GANG: "g", LABEL_RANK: str(rank)}
        pod = {
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels},
            "spec": {
                "nodeName": node,
                "initContainers": [{"name": "agent", "image": IMAGE}],
                "containers": [{"name": "trainer", "image": "trainer:1"}],
            },
            "status": {"podIP": f"10.244.0.{len(self.pods.get(namespace, ())) + 1}"},
        }
        self.pods.setdefault(namespace, []).append(pod)
        return pod

    def stands_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """fleetctl.kind runs its commands here from now on."""
        for module in (cluster, install):
            monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(cluster, "is_there", lambda program: program in self.programs)

    async def run(self, *command: str, stdin: str = "", timeout_s: float = 60.0, check: bool = True) -> str:
        shown = _shown(command)
        self.calls.append((shown, stdin))
        answer = self._read(shown, command)
        if answer is None:
            self._note(shown, stdin)
        for words, error in self.fails.items():
            if words in f"{shown} {stdin}":
                if check or not isinstance(error, CommandFailed):
                    raise error
                return ""
        return self._change(shown, stdin) if answer is None else answer

    # What only reads

    def _read(self, shown: str, command: tuple[str, ...]) -> str | None:
        """None if it changes something."""
        if "kubectl" in command:
            return self._kubectl(shown.split(), command)
        match shown.split():
            case ["docker", "version"]:
                return "29.1"
            case ["docker", "ps", "--all", "--filter", of, *_]:
                name = of.removeprefix("label=io.x-k8s.kind.cluster=")
                return "".join(f"{n.name}\t{n.role}\t{n.state}\n" for n in self.clusters.get(name, ()))
            case ["docker", "inspect", *_, node]:
                mounts = self._node(node).mounts
                return json.dumps([{"Source": str(path), "Destination": at} for at, path in mounts.items()])
            case ["docker", "image", "inspect", image]:
                if image not in self.images:
                    raise CommandFailed(f"docker image inspect {image}: exit 1: No such image")
                return "[]"
            case ["kind", "get", "clusters"]:
                return "".join(f"{name}\n" for name in self.clusters)
        return None

    def _kubectl(self, words: list[str], command: tuple[str, ...]) -> str | None:
        match words[1:]:
            case ["version", *_]:
                minor, git = self.version
                return json.dumps({"serverVersion": {"minor": minor, "gitVersion": git}})
            case ["get", "nodes", *_]:
                nodes = [_node(n.name, n.ready) for n in self.clusters[self._cluster_of(command[3])]]
                return json.dumps({"items": [*nodes, *(_node(name, True) for name in self.strangers)]})
            case ["get", "node", name, *_]:
                return json.dumps(_node(name, self._node(name).ready))
            case ["get", "lease", *_]:
                return json.dumps({"spec": {"renewTime": self.renewed}})
            case ["get", "--raw", path]:
                return json.dumps({"items": self.node_pods}) if path.endswith("/proxy/pods") else None
            case ["create", "--dry-run=server", *_]:
                return json.dumps({"action": "RestartAllContainers"} if self.restarts_all else {})
            case ["get", "crd", *_]:
                return "customresourcedefinition.apiextensions.k8s.io/gangs.fleetctl.dev" if self.knows_gangs else ""
            case ["get", "gangs", *_]:
                if not self.knows_gangs:
                    raise CommandFailed('the server doesn\'t have a resource type "gangs"')
                return "".join(f"gang.fleetctl.dev/{name}\n" for name in self.gangs)
            case ["get", "deployment", *_]:
                container = {"image": self.deployed}
                deployment = {"spec": {"template": {"spec": {"containers": [container]}}}}
                return json.dumps(deployment) if self.deployed else ""
            case ["get", "pods", "-n", namespace, *_]:
                return json.dumps({"items": self.pods.get(namespace, [])})
            case ["get", "pod", name, "-n", namespace, *_]:
                found = [pod for pod in self.pods.get(namespace, ()) if pod["metadata"]["name"] == name]
                return json.dumps(found[0]) if found else ""
            case ["-n", _, "rollout", "status", *_]:
                return "rolled out"
        return None

    def _node(self, name: str) -> Node:
        return next(node for nodes in self.clusters.values() for node in nodes if node.name == name)

    def _cluster_of(self, node: str) -> str:
        return next(name for name, nodes in self.clusters.items() if any(each.name == node for each in nodes))

    # What changes something

    def _note(self, shown: str, stdin: str) -> None:
        self.changes.append(f"{shown} < {stdin}" if stdin and not shown.startswith("kind create") else shown)

    def _change(self, shown: str, stdin: str) -> str:
        match shown.split():
            case ["kind", "create", "cluster", "--name", name, *_]:
                roles = [node["role"] for node in json.loads(stdin)["nodes"]]
                made = self.runs(name, roles.count("worker"))
                for node, config in zip(made, json.loads(stdin)["nodes"], strict=True):
                    node.mounts = {m["containerPath"]: Path(m["hostPath"]) for m in config["extraMounts"]}
            case ["kind", "delete", "cluster", "--name", name]:
                self.clusters.pop(name, None)
            case ["kubectl", "apply", "-k", *_]:
                self.deployed = IMAGE
            case ["kubectl", "delete", "-k", *_]:
                self.deployed = ""
        return ""


def _shown(command: tuple[str, ...]) -> str:
    """`kubectl …` and `NODE: sh -s` instead of how they are reached."""
    match command:
        case ("docker", "exec", "-i", _, *rest) if tuple(rest[: len(KUBECTL)]) == KUBECTL:
            return " ".join(["kubectl", *rest[len(KUBECTL) :]])
        case ("docker", "exec", "-i", node, "sh", "-s"):
            return f"{node}: sh -s"
    return " ".join(command)


def _node(name: str, ready: bool) -> Any:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}
