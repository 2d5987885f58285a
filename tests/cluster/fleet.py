"""One vocabulary for the tests on a real cluster: a fleet (the cluster with fleetctl on it) and gangs under test.

What happened is read from the trainers' own records, not from API objects. They are on the host, a folder per pod
($FLEETCTL_KIND_RECORDS/<gang>/<pod uid>, /records in the pod): there they outlive pods, and nodes that die or freeze.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from fleetctl.kind.judge import judge
from fleetctl.kind.records import PROGRAM, Records

HERE = Path(__file__).parent
FLEETCTL = str(Path(sys.executable).with_name("fleetctl"))
CONTROLLER = "system:serviceaccount:fleetctl-system:fleetctl-controller"
CONTROL_PLANE = "fleetctl-control-plane"
WORKERS = ("fleetctl-worker", "fleetctl-worker2", "fleetctl-worker3", "fleetctl-worker4")
WRITES = ("create", "update", "patch", "delete", "deletecollection")
LONG = "FLEETCTL_LONG_TESTS" in os.environ
"""Whether there is time for the long forms of tests: minutes instead of half ones, every point instead of some."""

Json = dict[str, Any]

SERVICE_RULES = "iptables -t nat -S KUBE-SERVICES"

RECORDS_MOUNT: Json = {"name": "records", "mountPath": "/records", "subPathExpr": "$(FLEETCTL_GANG)/$(POD_UID)"}
RECORDS_VOLUME: Json = {"name": "records", "hostPath": {"path": "/records", "type": "Directory"}}
RECORDS_ENV: list[Json] = [
    {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    for name, path in (("POD_UID", "metadata.uid"), ("NODE", "spec.nodeName"), ("POD", "metadata.name"))
]


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


def folder_of(gang: str) -> Path:
    """Where the pods of a gang of that name keep their records, one folder per pod uid."""
    return Path(os.environ["FLEETCTL_KIND_RECORDS"]) / gang


def clear_records(gang: str) -> None:
    """Forgets an earlier gang of that name. Nothing of it may run any more."""
    records_of(gang).clear()


def records_of(gang: str) -> Records:
    """For the judge: times are Unix times."""
    return Records(folder_of(gang), ("default", gang), began=0.0)


def read_records(gang: str, file: str) -> list[Json]:
    """What all pods of a gang wrote into their files of that name, in order of time."""
    texts = [path.read_text() for path in folder_of(gang).glob(f"*/{file}")]
    lines = [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return sorted(lines, key=lambda line: line["at"])


def fleetctl_status(gang: "Gang", *arguments: str) -> str:
    """`fleetctl status`, as an engineer would type it."""
    return run(FLEETCTL, "status", gang.name, *arguments)


@dataclass(frozen=True)
class Seen:
    """A member as Kubernetes tells it.

    `restarts`: of the containers that stay. How often those ran that prepare the others, only their own records tell:
    the kubelet (1.36.3) may count one run of `fleetctl-life` twice when a container ends by itself while the agent is
    told to restart all (once in 45 tries on a busy machine; containerd had made that container once).
    """

    uid: str
    node: str
    ip: str
    restarts: dict[str, int]


class Gang:
    """A gang under test. Every pod records what its trainer does, and at the end the records are judged.

    A test that freezes, kills or force-deletes pods adds their uids to `fenced` (`fence` does it for a node); it adds
    the ranks that get a new pod, as they should, to `moved`.
    """

    def __init__(self, name: str, ranks: int = 8, *, spec: Json | None = None, template: Json | None = None) -> None:
        self.name = name
        self.ranks = ranks
        self.fenced: set[str] = set()
        self.moved: set[int] = set()
        self.released: dict[int, float] = {}
        """When attempts were released, as far as the test looked."""
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

    def __enter__(self) -> "Gang":
        clear_records(self.name)
        self.create()
        return self

    def __exit__(
        self, failed: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        kubectl("delete", "gang", self.name, "--ignore-not-found", "--wait=false")
        until(f"the pods of {self.name} are gone", lambda: not self.pods(), 120)
        if failed is None:
            self.judged()

    def judged(self, *, fenced: Iterable[str] = (), moved: Iterable[int] = ()) -> None:
        """Asserts the invariants of attempts, from the trainers' records so far. They speak of mode Enforce."""
        if self.manifest["spec"]["recovery"].get("mode") == "Observe":
            return
        records = records_of(self.name)
        found = judge(
            records.starts(),
            records.alive(),
            fenced=self.fenced | set(fenced),
            moved=self.moved | set(moved),
            released=self.released,
        )
        assert not found, f"gang {self.name} broke invariants:\n" + "\n".join(found)

    def create(self) -> None:
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(self.manifest))

    def object(self) -> Json:
        return get("gang", self.name)

    def status(self) -> Json:
        found: Json = self.object().get("status", {})
        attempt = found.get("attempt", {})
        if attempt.get("releasedAt"):
            self.released[attempt["released"]] = datetime.fromisoformat(attempt["releasedAt"]).timestamp()
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
            spec, status = pod["spec"], pod["status"]
            counts = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
            prepare = {c["name"] for c in spec["initContainers"] if c.get("restartPolicy") != "Always"}
            rank = int(pod["metadata"]["labels"]["fleetctl.dev/rank"])
            out[rank] = Seen(
                uid=pod["metadata"]["uid"],
                node=spec.get("nodeName", ""),
                ip=status.get("podIP", ""),
                restarts={c["name"]: c["restartCount"] for c in counts if c["name"] not in prepare},
            )
        return out

    def seen_since(self, before: dict[int, Seen]) -> dict[int, Seen]:
        """Every rank's pod, once each is another one or its kubelet has said that all in it restarted: that is late."""

        def moved(now: Seen, was: Seen) -> bool:
            return now.uid != was.uid or all(now.restarts.get(name, 0) > count for name, count in was.restarts.items())

        def told() -> dict[int, Seen] | None:
            now = self.seen()
            return now if all(rank in now and moved(now[rank], was) for rank, was in before.items()) else None

        return until("the kubelets tell of the restarts", told)

    def nodes(self) -> dict[int, str]:
        """The node of every rank's pod."""
        return {rank: seen.node for rank, seen in self.seen().items()}

    def fence(self, node: str) -> set[int]:
        """Tells the judge that the pods now on that node are cut off on purpose; their ranks."""
        there = {rank: seen for rank, seen in self.seen().items() if seen.node == node}
        self.fenced |= {seen.uid for seen in there.values()}
        return set(there)

    def events(self) -> list[tuple[str, str]]:
        """Reason and message of the gang's own Events, the oldest first."""
        uid = self.object()["metadata"]["uid"]
        found = get("events", "--field-selector", f"involvedObject.uid={uid}")["items"]
        return [(event["reason"], event["message"]) for event in sorted(found, key=_when)]

    def records(self, file: str = "starts") -> list[Json]:
        """What the containers wrote, those of all pods that this gang ever had, in order of time."""
        return read_records(self.name, file)

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

    def recovered_once(self, attempt: int, before: dict[int, Seen]) -> None:
        """All ranks run that attempt, each having restarted once."""
        self.running(attempt, within_s=90)
        time.sleep(2)  # a second attempt, if there is one, has begun by then
        assert (self.attempt()["target"], self.attempt()["released"]) == (attempt, attempt)
        for rank, now in self.seen_since(before).items():
            was = before[rank]
            assert now.uid == was.uid
            assert now.restarts == {name: count + 1 for name, count in was.restarts.items()}, f"rank {rank}"

    def tell(self, rank: int, command: str, file: str = "command", *, uid: str = "") -> None:
        """Gives the trainer (or, by another file, another container) in the rank's current pod its orders; or the one
        in the pod with that uid, for which the API server is not asked."""
        pod = uid or kubectl("get", "pod", self.pod(rank), "-o", "jsonpath={.metadata.uid}")
        path = folder_of(self.name) / pod / file
        until(f"{self.pod(rank)} keeps records", path.parent.is_dir)
        new = path.with_name(f"{file}.new")
        new.write_text(f"{command}\n")
        new.rename(path)

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

    def alive_until(self, uid: str) -> float:
        """When the trainer in that pod was last alive."""
        return max((mark.stat().st_mtime for mark in (folder_of(self.name) / uid).glob("alive-*")), default=0.0)

    def forget_records(self) -> None:
        """What the trainers did so far is no story that the judge could follow."""
        self.released.clear()
        for path in folder_of(self.name).glob("*/starts"):
            path.unlink()

    @contextlib.contextmanager
    def agent_cut_off(self, rank: int) -> Iterator[None]:
        """Drops everything that the controller says to that rank's agent."""
        seen = self.seen()[rank]
        rule = f"FORWARD -d {seen.ip} -p tcp --sport 8443 -j DROP"
        on_node(seen.node, f"iptables -I {rule}")
        try:
            yield
        finally:
            on_node(seen.node, f"iptables -D {rule}")

    def kill_agent(self, rank: int) -> None:
        node, pid = self.agent_pid(rank)
        on_node(node, f"kill -9 {pid}")


def apply(*objects: Json) -> None:
    """Creates or changes objects."""
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))


def held_with(gang: Gang, words: str, within_s: float = 60) -> Json:
    """Waits until the gang is Held for that, and `fleetctl status` and an Event say the same."""

    def found() -> Json | None:
        held = gang.holds("Held")
        return held if held and words in held["message"] else None

    held: Json = until(f"held: {words}", found, within_s)
    assert words in fleetctl_status(gang)
    until("an Event says so", lambda: any(words in message for _, message in gang.events()))
    return held


def no_longer_held(gang: Gang) -> bool:
    """Whether nothing holds it now."""
    return gang.holds("Held") is None


def _when(event: Json) -> str:
    return str(event.get("eventTime") or event.get("firstTimestamp") or event["metadata"]["creationTimestamp"])


def plain_template(name: str, *, env: Iterable[Json] = (), **trainer: Any) -> Json:
    """One trainer a pod, two pods a node; further keys go into the trainer's container."""
    return {
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "containers": [
                {
                    "name": "trainer",
                    "image": "trainer:test",
                    "command": ["python3", "-c", PROGRAM],
                    "env": [*RECORDS_ENV, *env],
                    "volumeMounts": [RECORDS_MOUNT],
                    **trainer,
                }
            ],
            "volumes": [RECORDS_VOLUME],
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
    recording = {"env": RECORDS_ENV, "volumeMounts": [RECORDS_MOUNT]}

    def helper(helper_name: str, **more: Any) -> Json:
        command = ["sh", "-c", waits.format(helper_name)]
        return {"name": helper_name, "image": "busybox:test", "command": command, **recording, **more}

    note = 'echo "{\\"rank\\": $FLEETCTL_RANK, \\"at\\": $(date +%s)}" >>/records/prepared'
    template["spec"]["initContainers"] = [
        {"name": "prepare", "image": "busybox:test", "command": ["sh", "-c", note], **recording},
        helper(
            "logs",
            restartPolicy="Always",
            restartPolicyRules=[{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}],
        ),
    ]
    template["spec"]["containers"].append(helper("nccl-healthcheck"))
    return template


def kill_node(node: str) -> None:
    """The machine dies, and all that runs on it, in this instant."""
    run("docker", "kill", node)


def start_node(node: str) -> None:
    """The machine is switched on again, if it is off; returns when it is of use."""
    since = time.time()
    run("docker", "start", node)
    _until_back(node, since)
    until(f"services are reached from {node}", lambda: "10.96.0.1/32" in on_node(node, SERVICE_RULES, check=False))


def pause_node(node: str) -> None:
    """All processes of the machine stop where they are; it looks dead from outside, and may come back."""
    run("docker", "pause", node)


def unpause_node(node: str) -> None:
    since = time.time()
    run("docker", "unpause", node)
    _until_back(node, since)


def stop_kubelet(node: str) -> None:
    """Pods go on; nobody looks after them, and the node stops renewing its Lease."""
    on_node(node, "systemctl stop kubelet")


def start_kubelet(node: str) -> None:
    since = time.time()
    on_node(node, "systemctl start kubelet")
    _until_back(node, since)


@contextlib.contextmanager
def node_dead(node: str) -> Iterator[None]:
    kill_node(node)
    try:
        yield
    finally:
        start_node(node)


@contextlib.contextmanager
def node_dark(node: str) -> Iterator[None]:
    """The node is frozen, and then goes on as if nothing had been."""
    pause_node(node)
    try:
        yield
    finally:
        unpause_node(node)


@contextlib.contextmanager
def kubelet_stopped(node: str) -> Iterator[None]:
    stop_kubelet(node)
    try:
        yield
    finally:
        start_kubelet(node)


@contextlib.contextmanager
def api_server_away() -> Iterator[None]:
    """The API server is frozen: it takes connections and requests, and answers none before the end. For at most 90 s,
    then the kubelet would restart it."""
    on_node(CONTROL_PLANE, "kill -STOP $(pidof kube-apiserver)")
    try:
        yield
    finally:
        since = time.time()
        on_node(CONTROL_PLANE, "kill -CONT $(pidof kube-apiserver)")
        until("the API server is ready", lambda: kubectl("get", "--raw", "/readyz", check=False) == "ok")
        for node in (CONTROL_PLANE, *WORKERS):
            _until_back(node, since)


def _until_back(node: str, since: float) -> None:
    """Waits until the node is Ready, not only still called so: its kubelet has renewed its Lease and knows its pods."""

    def back() -> bool:
        renewed = kubectl(
            "-n", "kube-node-lease", "get", "lease", node, "-o", "jsonpath={.spec.renewTime}", check=False
        )
        if not renewed or datetime.fromisoformat(renewed).timestamp() < since:
            return False
        conditions = get("node", node)["status"]["conditions"]
        if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            return False
        pods = kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/pods", check=False)
        return bool(pods and json.loads(pods)["items"])

    until(f"{node} is back", back, 90)


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
