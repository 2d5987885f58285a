"""One vocabulary for the tests on a real cluster: a fleet (the cluster with fleetctl on it) and gangs under test.

What happened is read from where the kubelets keep it, the trainers' own records in their volumes, not from API objects.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
TRAINER = (HERE / "trainer.py").read_text()
RECORDS = "/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/records"
CONTROLLER = "system:serviceaccount:fleetctl-system:fleetctl-controller"
WORKERS = ("fleetctl-worker", "fleetctl-worker2", "fleetctl-worker3", "fleetctl-worker4")
WRITES = ("create", "update", "patch", "delete", "deletecollection")

Json = dict[str, Any]


def run(*command: str, stdin: str = "", check: bool = True, timeout: float = 120) -> str:
    """What the command prints."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)[:200]}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*arguments: str, stdin: str = "", check: bool = True, timeout: float = 120) -> str:
    return run("kubectl", *arguments, stdin=stdin, check=check, timeout=timeout)


def get(*arguments: str) -> Json:
    found: Json = json.loads(kubectl("get", *arguments, "-o", "json"))
    return found


def on_node(node: str, script: str, check: bool = True) -> str:
    """Runs a shell script in a node's container."""
    return run("docker", "exec", "-i", node, "sh", "-s", stdin=script, check=check)


def until(what: str, holds: Callable[[], Any], within_s: float = 60, every_s: float = 0.25) -> Any:
    """Waits until `holds` returns something true, and returns it."""
    deadline = time.monotonic() + within_s
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}\n{_situation()}")
        time.sleep(every_s)


def _situation() -> str:
    parts = (
        kubectl("get", "gangs,pods", "-o", "wide", check=False),
        kubectl("-n", "fleetctl-system", "logs", "deploy/fleetctl-controller", "--tail=25", check=False),
    )
    return "\n".join(parts)


def together(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Runs all calls at once and waits for them."""
    with ThreadPoolExecutor(16) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def deploy() -> None:
    """fleetctl as users deploy it, nothing of an earlier deployment left."""
    kubectl("-n", "fleetctl-system", "delete", "deployment", "fleetctl-controller", "--ignore-not-found")
    kubectl("apply", "-k", str(HERE / "manifests"))
    controller_ready()


def controller_ready() -> None:
    kubectl("-n", "fleetctl-system", "rollout", "status", "deployment/fleetctl-controller", "--timeout=90s")


@dataclass(frozen=True)
class Seen:
    """A member as Kubernetes tells it."""

    uid: str
    node: str
    ip: str
    restarts: dict[str, int]


class Gang:
    """A gang under test. Every pod records what its trainer does."""

    def __init__(self, name: str, ranks: int = 8, *, spec: Json | None = None, template: Json | None = None) -> None:
        self.name = name
        self.ranks = ranks
        self.manifest = {
            "apiVersion": "fleetctl.dev/v1alpha1",
            "kind": "Gang",
            "metadata": {"name": name},
            "spec": {
                "groups": [{"name": "worker", "size": ranks, "template": template or plain_template(name)}],
                "recovery": {"budgets": {"application": {"restarts": 1000, "withoutProgress": 1000}}},
                **(spec or {}),
            },
        }
        self._where: dict[int, tuple[str, str]] = {}

    def __enter__(self) -> "Gang":
        self.create()
        return self

    def __exit__(self, *_: object) -> None:
        kubectl("delete", "gang", self.name, "--ignore-not-found", "--wait=false")
        until(f"the pods of {self.name} are gone", lambda: not self.pods(), 120)

    def create(self) -> None:
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(self.manifest))

    def object(self) -> Json:
        return get("gang", self.name)

    def status(self) -> Json:
        found: Json = self.object().get("status", {})
        return found

    def attempt(self) -> Json:
        found: Json = self.status().get("attempt", {})
        return found

    def condition(self, kind: str) -> Json | None:
        return next((c for c in self.status().get("conditions", []) if c["type"] == kind), None)

    def holds(self, kind: str) -> Json | None:
        condition = self.condition(kind)
        return condition if condition and condition["status"] == "True" else None

    def pod(self, rank: int) -> str:
        return f"{self.name}-worker-{rank}"

    def pods(self) -> list[Json]:
        return list(get("pods", "-l", f"fleetctl.dev/gang={self.name}")["items"])

    def seen(self) -> dict[int, Seen]:
        """Every rank's pod."""
        out = {}
        for pod in self.pods():
            status = pod["status"]
            counts = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
            rank = int(pod["metadata"]["labels"]["fleetctl.dev/rank"])
            out[rank] = Seen(
                uid=pod["metadata"]["uid"],
                node=pod["spec"].get("nodeName", ""),
                ip=status.get("podIP", ""),
                restarts={c["name"]: c["restartCount"] for c in counts},
            )
            if out[rank].node:
                self._where[rank] = (out[rank].node, out[rank].uid)
        return out

    def records(self, file: str = "starts") -> list[Json]:
        """What the trainers wrote, all ranks, in order of time."""
        if len(self._where) < self.ranks:
            self.seen()
        by_node: dict[str, list[str]] = {}
        for node, uid in self._where.values():
            by_node.setdefault(node, []).append(f"{RECORDS.format(uid=uid)}/{file}")
        told = together(
            lambda node=node, files=files: on_node(node, f"cat {' '.join(files)} 2>/dev/null; true")
            for node, files in by_node.items()
        )
        lines = [json.loads(line) for text in told for line in text.splitlines()]
        return sorted(lines, key=lambda line: line["at"])

    def starts(self, attempt: int) -> dict[int, float]:
        """When each rank started its trainer for that attempt; asserts that none did so twice."""
        found = [line for line in self.records() if line["attempt"] == attempt]
        ranks = [line["rank"] for line in found]
        assert len(ranks) == len(set(ranks)), f"a rank started twice in attempt {attempt}: {sorted(ranks)}"
        return {line["rank"]: line["at"] for line in found}

    def running(self, attempt: int, within_s: float = 60) -> dict[int, float]:
        """Waits until all ranks run that attempt, and the record says so; when each started."""
        until(f"attempt {attempt} is released", lambda: self.attempt().get("released") == attempt, within_s)
        return until(
            f"all trainers of attempt {attempt} started",
            lambda: (started := self.starts(attempt)) and len(started) == self.ranks and started,
            within_s,
        )

    def tell(self, rank: int, command: str, file: str = "command") -> None:
        """Gives a trainer (or, by another file, another container) its orders."""
        if rank not in self._where:
            self.seen()
        node, uid = self._where[rank]
        path = f"{RECORDS.format(uid=uid)}/{file}"
        on_node(node, f"echo '{command}' >{path}.new && mv {path}.new {path}")

    def agent_pid(self, rank: int) -> tuple[str, int]:
        """The node, and there the process id, of the rank's agent."""
        node = self.seen()[rank].node
        pid = on_node(
            node,
            "for p in /proc/[0-9]*; do "
            f"if tr '\\0' '\\n' 2>/dev/null <$p/environ | grep -qx FLEETCTL_POD={self.pod(rank)} && "
            "tr '\\0' ' ' <$p/cmdline | grep -q 'fleetctl agent'; then echo ${p#/proc/}; fi; done",
        )
        return node, int(pid.split()[0])

    def kill_agent(self, rank: int) -> None:
        node, pid = self.agent_pid(rank)
        on_node(node, f"kill -9 {pid}")


def plain_template(name: str, **trainer: Any) -> Json:
    """One trainer a pod, two pods a node; further keys go into the trainer's container."""
    return {
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "containers": [
                {
                    "name": "trainer",
                    "image": "trainer:test",
                    "command": ["python3", "-c", TRAINER],
                    "volumeMounts": [{"name": "records", "mountPath": "/records"}],
                    **trainer,
                }
            ],
            "volumes": [{"name": "records", "emptyDir": {}}],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "nodeTaintsPolicy": "Honor",
                    "labelSelector": {"matchLabels": {"fleetctl.dev/gang": name}},
                }
            ],
        }
    }


def article_template(name: str) -> Json:
    """The kind that users copy from articles: an init container, a sidecar with a restart rule of its own, two regular
    containers. Containers but the trainer exit with what is written to /records/<name>."""
    template = plain_template(name, resources={"limits": {"memory": "64Mi"}})
    waits = (
        "while [ ! -e /records/{0} ]; do usleep 100000; done; read -r code </records/{0}; rm /records/{0}; exit $code"
    )
    mounts = [{"name": "records", "mountPath": "/records"}]

    def helper(helper_name: str, **more: Any) -> Json:
        command = ["sh", "-c", waits.format(helper_name)]
        return {"name": helper_name, "image": "busybox:test", "command": command, "volumeMounts": mounts, **more}

    note = 'echo "{\\"rank\\": $FLEETCTL_RANK, \\"at\\": $(date +%s)}" >>/records/prepared'
    template["spec"]["initContainers"] = [
        {"name": "prepare", "image": "busybox:test", "command": ["sh", "-c", note], "volumeMounts": mounts},
        helper(
            "logs",
            restartPolicy="Always",
            restartPolicyRules=[{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}],
        ),
    ]
    template["spec"]["containers"].append(helper("nccl-healthcheck"))
    return template


@contextlib.contextmanager
def agents_out_of_reach(nodes: tuple[str, ...]) -> Iterator[None]:
    """Drops everything between the agents on these nodes and the controller."""
    for node in nodes:
        on_node(node, "iptables -I FORWARD -p tcp --sport 8443 -j DROP")
    try:
        yield
    finally:
        for node in nodes:
            on_node(node, "iptables -D FORWARD -p tcp --sport 8443 -j DROP")


class Audit:
    """What the API server's audit log says from now on."""

    def __init__(self) -> None:
        self._path = Path(os.environ["FLEETCTL_KIND_AUDIT_LOG"])
        self._from = self._path.stat().st_size

    def lines(self) -> list[Json]:
        with self._path.open("rb") as log:
            log.seek(self._from)
            return [json.loads(line) for line in log if line.endswith(b"\n")]

    def writes_of_controller(self) -> list[str]:
        """Verb and resource of every write of the controller; Lease renewals not counted."""
        return [
            f"{line['verb']} {_resource(line)}"
            for line in self.lines()
            if line["user"]["username"] == CONTROLLER
            and line["verb"] in WRITES
            and line["objectRef"]["resource"] != "leases"
        ]

    def calls_of_agents(self) -> list[str]:
        """All requests made with the ServiceAccount that the gangs' pods run as."""
        return [
            f"{line['verb']} {_resource(line)}"
            for line in self.lines()
            if line["user"]["username"].startswith("system:serviceaccount:default:")
        ]

    def pod_changes(self) -> list[str]:
        """Deletions, evictions, bindings and creations of pods by anybody."""
        return [
            f"{line['verb']} {_resource(line)} {line['objectRef'].get('name', '')}"
            for line in self.lines()
            if _resource(line) in ("pods", "pods/binding", "pods/eviction")
            and line["verb"] in ("create", "delete", "deletecollection")
            and line["objectRef"].get("namespace") == "default"
            and "dryRun" not in line["requestURI"]
        ]


def _resource(line: Json) -> str:
    ref = line.get("objectRef") or {}
    return ref.get("resource", "") + (f"/{ref['subresource']}" if ref.get("subresource") else "")
