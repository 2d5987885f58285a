"""How long the controller's event loop is blocked: the longest single turn of each thing it does for a large gang.

python tests/simulation/bench_blocking.py [RANKS [AGENTS]]: milliseconds of CPU of the longest turn, beside the bar of
100 ms, and the process's memory. A turn is what asyncio does between two looks at the clock: a timer, a probe or a
renewal of the Lease waits for so long. CPU and not wall time, so that neighbours on the machine do not count.

Real: the client's decoding, reflector, cache, views, plan, executor, rendezvous with tokens and TLS, witness. Not real:
the API server, whose answers are at hand (pods of 8 kB and more, managedFields included), and the agents, which are the
sockets of another process, AGENTS of them (2,048); of the other ranks only the lives are there.
"""

import asyncio
import gc
import json
import random
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from fleetctl.clock import SystemClock
from fleetctl.controller import turns
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import Executor, PodSettings
from fleetctl.controller.loop import GangLoop
from fleetctl.controller.nodes import Nodes
from fleetctl.controller.quarantine import Keeper
from fleetctl.controller.resources import GangObject
from fleetctl.controller.views import gang_view
from fleetctl.controller.witness import LeaseWitness
from fleetctl.gang import pods
from fleetctl.gang.actions import Ping, Release
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import AttemptRecord, GangSpec, GangStatus, Group
from fleetctl.gang.state import Life, Promise, Steps
from fleetctl.kube.auth import Endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.rendezvous.certificates import Authority, server_context
from fleetctl.rendezvous.identity import Admission
from fleetctl.rendezvous.messages import Hello, Pong, Released, decode, encode
from fleetctl.rendezvous.messages import Ping as PingMessage
from fleetctl.rendezvous.messages import Release as ReleaseMessage
from fleetctl.rendezvous.server import Rendezvous, Session
from fleetctl.rendezvous.tokens import TokenVerifier

BAR_MS = 100
A_NODE = 8
LOOKS = 3
HANDSHAKES = 32
"""So many agents shake hands at a time: all of them together share one core here, and each must be done within 5 s."""
NAMESPACE, NAME, ISSUER, SERVER_NAME = "team-a", "llm", "https://kubernetes.default.svc", "fleetctl-rendezvous"
HELD = Promise(attempt=4, ticket="t")
STARTED, ENDED = 1_795_000_000.0, "2026-11-18T20:10:00Z"
Json = dict[str, Any]


# ---- the API server ----


class Api:
    """As an aiohttp session: lists in pages, watches that are silent, writes answered with what was written."""

    def __init__(self) -> None:
        self.listed: dict[str, list[bytes]] = {}
        self.version = 1000
        self.renewals = 0

    async def request(self, method: str, url: Any, *, params: Json, data: bytes | None, **_: Any) -> "Answer":
        await asyncio.sleep(0)
        path = url.path
        if params.get("watch"):
            await asyncio.Event().wait()
        if method == "GET" and path.startswith("/apis/coordination"):
            self.renewals += 1
            renewed = f"2026-11-21T06:00:00.{self.renewals:06}Z"
            return Answer(msgspec.json.encode({"metadata": {"name": "n"}, "spec": {"renewTime": renewed}}))
        if method == "GET":
            return Answer(self._page(path.rpartition("/")[2], params))
        self.version += 1
        body = json.loads(data or b"{}")
        body.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        return Answer(msgspec.json.encode(body))

    def _page(self, plural: str, params: Json) -> bytes:
        items, start = self.listed[plural], int(params.get("continue") or 0)
        end = start + int(params["limit"])
        rest = str(end) if end < len(items) else ""
        meta = msgspec.json.encode({"resourceVersion": str(self.version), "continue": rest})
        return b'{"metadata":' + meta + b',"items":[' + b",".join(items[start:end]) + b"]}"


class Answer:
    status, content_type, headers = 200, "application/json", {}

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def a_gang(ranks: int, **attempt: Any) -> Json:
    environment = [{"name": f"NCCL_SETTING_{n}", "value": f"value-of-setting-{n}"} for n in range(32)]
    container = {"name": "trainer", "image": "registry/llm:7", "command": ["torchrun", "train.py"], "env": environment}
    spec = GangSpec(groups=[Group(name="worker", size=ranks, template={"spec": {"containers": [container]}})])
    stamp = "2026-11-21T05:00:00.000000Z"
    record = AttemptRecord(
        target=4, released=4, ticket="t", writer="c/1", released_at=stamp, started_at=stamp, **attempt
    )
    meta = {"namespace": NAMESPACE, "name": NAME, "uid": "g", "generation": 1, "resourceVersion": "900"}
    return msgspec.to_builtins({"metadata": meta, "spec": spec, "status": GangStatus(attempt=record)})


def a_pod(gang: Gang, rank: int) -> Json:
    """As it is stored: bound, Running, with what kubelets and managers of fields add."""
    slot = gang.slots[rank]
    body = pods.pod(gang, slot, 1, agent_image="fleetctl:1", rendezvous="r:8443", server_name=SERVER_NAME)
    body["metadata"] |= {"uid": uid_of(rank), "resourceVersion": str(rank + 1), "creationTimestamp": ENDED}
    body["spec"]["nodeName"] = f"node-{rank // A_NODE}"
    body["status"] = {
        "phase": "Running",
        "podIP": f"10.{rank >> 16}.{rank >> 8 & 255}.{rank & 255}",
        "startTime": ENDED,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": ENDED, "observedGeneration": 1}
            for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
        ],
        "containerStatuses": [_running(c["name"], rank) for c in body["spec"]["containers"]],
        "initContainerStatuses": [_running(c["name"], rank) for c in body["spec"]["initContainers"]],
    }
    fields = {f"f:{key}": {".": {}, "f:value": {}, "f:lastTransitionTime": {}} for key in _keys(body)}
    body["metadata"]["managedFields"] = [
        {"manager": m, "operation": "Update", "apiVersion": "v1", "time": ENDED, "fieldsType": "V1", "fieldsV1": fields}
        for m in ("fleetctl", "kubelet")
    ]
    return body


def _running(name: str, rank: int) -> Json:
    image = f"sha256:{rank:064x}"
    state = {"running": {"startedAt": ENDED}}
    return {"name": name, "ready": True, "started": True, "restartCount": 1, "imageID": image, "image": "llm:7",
            "containerID": f"containerd://{rank:064x}", "state": state, "lastState": {}}  # fmt: skip


def _keys(body: object) -> list[str]:
    if isinstance(body, dict):
        return [*body, *(key for value in body.values() for key in _keys(value))][:40]
    return []


def ended(pod: Json) -> Json:
    """The trainer exited, and the kubelet restarts all containers."""
    status = json.loads(json.dumps(pod["status"]))
    end = {"exitCode": 134, "reason": "Error", "startedAt": ENDED, "finishedAt": ENDED}
    status["containerStatuses"][0]["state"] = {"terminated": end}
    status["conditions"].append({"type": "AllContainersRestarting", "status": "True", "lastTransitionTime": ENDED})
    version = str(int(pod["metadata"]["resourceVersion"]) + 1_000_000)
    return pod | {"metadata": pod["metadata"] | {"resourceVersion": version}, "status": status}


def a_node(number: int) -> Json:
    conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": ENDED}]
    labels = {"topology.kubernetes.io/zone": f"z{number // 64}", "topology.kubernetes.io/rack": f"r{number // 16}"}
    meta = {"name": f"node-{number}", "uid": f"n{number}", "resourceVersion": "7", "labels": labels}
    return {"metadata": meta, "spec": {}, "status": {"conditions": conditions}}


def uid_of(rank: int) -> str:
    return f"00000000-0000-4000-8000-{rank:012d}"


# ---- the agents: another process ----


def token(key: rsa.RSAPrivateKey, rank: int) -> str:
    pod = {"name": f"{NAME}-worker-{rank}", "uid": uid_of(rank)}
    now = int(time.time())
    claims = {
        "aud": ["fleetctl"],
        "iss": ISSUER,
        "nbf": now,
        "exp": now + 3607,
        "kubernetes.io": {"namespace": NAMESPACE, "pod": pod},
        "sub": "system:serviceaccount:team-a:default",
    }
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "k"})


async def agents(port: int, ca: str, tokens: list[str]) -> None:
    """All come at once, promise when asked, and go when released."""
    context = ssl.create_default_context(cafile=ca)
    gate = asyncio.Semaphore(HANDSHAKES)

    async def agent(token: str) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=SERVER_NAME)
            writer.write(encode(Hello(token, "life", STARTED, 0, None)))
        while line := await reader.readline():
            match decode(line):
                case PingMessage(attempt, ticket):
                    writer.write(encode(Pong(attempt, ticket)))
                case ReleaseMessage(attempt, _):
                    writer.write(encode(Released(attempt)))

    await asyncio.gather(*(agent(each) for each in tokens))


# ---- the measure ----


class Turns:
    """The CPU time of the loop's turns, and of the garbage collector's within them."""

    def __init__(self) -> None:
        self.longest_s = self.collecting_s = self._began = 0.0
        gc.callbacks.append(self._collects)

    def watch(self, loop: Any) -> None:
        turn = loop._run_once

        def timed() -> None:
            began = time.thread_time()
            turn()
            self.longest_s = max(self.longest_s, time.thread_time() - began)

        loop._run_once = timed

    def _collects(self, phase: str, _: object) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.collecting_s = max(self.collecting_s, time.thread_time() - self._began)

    async def during(self, name: str, *works: Any) -> None:
        """Print the longest turn while the work is done; if it is done several times, that of the calmest one."""
        measured = [await self._of(work) for work in works]
        longest, collecting, spent, took = (1000 * seconds for seconds in min(measured))
        over = "" if longest <= BAR_MS else "  over"
        print(f"{name:44}{longest:9.1f}{collecting:9.1f}{spent:10.0f}{took:10.0f}{over}", flush=True)

    async def _of(self, work: Any) -> tuple[float, float, float, float]:
        await asyncio.sleep(0.01)
        self.longest_s = self.collecting_s = 0.0
        began, cpu = time.perf_counter(), time.thread_time()
        await work
        await asyncio.sleep(0.01)
        return self.longest_s, self.collecting_s, time.thread_time() - cpu, time.perf_counter() - began


def memory_mib() -> float:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


# ---- the controller ----


class Bench:
    def __init__(self, ranks: int, agents: int, turns: Turns) -> None:
        self.ranks, self.agents, self.turns = ranks, agents, turns
        self.api, self.clock = Api(), SystemClock()
        self.client = KubeClient(cast(aiohttp.ClientSession, self.api), Endpoint(server="http://api"))
        self.cache = Cache(self.client, lambda _: None, pod_gone=lambda _: None)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.tokens = [token(key, rank) for rank in range(agents)]
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "k", "alg": "RS256"}

        async def fetch() -> bytes:
            return json.dumps({"keys": [jwk]}).encode()

        async def admit(_: object) -> Admission:
            return Admission.MEMBER

        self.rendezvous = Rendezvous(
            authenticate=TokenVerifier(fetch, ISSUER, "fleetctl"),
            admit=admit,
            leading=lambda: True,
            attending=lambda: True,
            leader_address=lambda: "",
            on_change=lambda identity: self.cache.pod(identity.namespace, identity.pod) and None,
            beat_s=600.0,
        )
        self.nodes = Nodes(
            self.cache, self.rendezvous, led_since=lambda: 0.0, still_s=lambda name: self.witness.still_s(name)
        )
        self.witness = LeaseWitness(
            self.client,
            watched=self.nodes.silent,
            references=self.nodes.others,
            progressed_at=self.nodes.alive_at,
            changed=lambda _: None,
        )
        settings = PodSettings(agent_image="fleetctl:1", rendezvous="r:8443", server_name=SERVER_NAME)
        self.executor = Executor(
            self.client, self.rendezvous, self.cache, self.clock, settings,
            Keeper(self.client, self.cache, self.clock, leading=lambda: True),
            identity="c", bundle=lambda: "", leading=lambda: True, rng=random.Random(1),
        )  # fmt: skip
        self.loop = self.a_loop()

    def a_loop(self) -> GangLoop:
        return GangLoop(
            (NAMESPACE, NAME), self.client, self.cache, self.executor, self.clock, life=self.rendezvous.life,
            steps=self.rendezvous.steps, node=self.nodes.view, zombies=lambda _: (), writer=lambda: "c/1",
            rng=random.Random(1),
        )  # fmt: skip

    async def look(self, name: str, *, anew: bool = True) -> None:
        """Several looks: of one that has seen nothing yet, or of one that has looked before."""
        own = dict(self.cache._own_gangs)

        async def once() -> None:
            self.cache._own_gangs.clear()
            self.cache._own_gangs.update(own)
            if anew:
                self.loop = self.a_loop()
            await self.loop._turn()

        await self.turns.during(f"a look: {name}", *(once() for _ in range(LOOKS)))

    async def run(self) -> None:
        gang = a_gang(self.ranks)
        self.gang = gang_view(msgspec.convert(gang, type=GangObject))
        running = [a_pod(self.gang, rank) for rank in range(self.ranks)]
        stored = [msgspec.json.encode(pod) for pod in running]
        failing = [msgspec.json.encode(ended(pod)) for pod in running]
        nodes = [msgspec.json.encode(a_node(number)) for number in range(-(-self.ranks // A_NODE))]
        self.api.listed = {"gangs": [msgspec.json.encode(gang)], "pods": stored, "nodes": nodes}
        del running
        gc.collect()
        print(f"{self.ranks} ranks, {self.agents} agents; a pod has {len(stored[7])} bytes")
        print(f"{'':44}{'longest':>9}{'of that':>9}{'':>10}{'':>10}")
        print(f"{'':44}{'turn, ms':>9}{'GC, ms':>9}{'CPU, ms':>10}{'wall, ms':>10}   bar: {BAR_MS} ms a turn")
        before = memory_mib()
        following = asyncio.create_task(self.cache.run())
        during = self.turns.during
        await during("LIST of all pods, nodes and gangs", self.cache.synced())
        spared = asyncio.create_task(
            turns.spare_what_lives(lambda: self.rendezvous.attended, lambda: self.rendezvous.ended)
        )
        listed = memory_mib()
        await during("the same again, nothing new", self.cache.refresh())
        for rank in range(self.agents, self.ranks):
            self.live(rank, attempt=4)
        with tempfile.TemporaryDirectory() as folder:
            async with self.connected(Path(folder)):
                uids = tuple(uid_of(rank) for rank in range(self.agents))
                await self.tell(Ping(uids, HELD), "ping", lambda life: life.promise == HELD)
                await self.tell(Release(uids, HELD), "release", lambda life: life.attempt == HELD.attempt)
                with_agents = memory_mib()
                await during("a first look: all run", self.loop._turn())
                looked = memory_mib()
                await self.look("nothing new", anew=False)
                self.steps()
                await self.look("all tell of steps", anew=False)
                self.api.listed["pods"] = failing
                await during("LIST again: all pods have changed", self.cache.refresh())
                await self.look("all ranks have failed")
                for rank in range(self.agents, self.ranks):
                    self.live(rank, attempt=0, life_id="next")
                await self.look("all gather")
                for uid, session in self.rendezvous._sessions.items():
                    session.life = replace(session.life, uid=uid, silent=True)
                await during("the witness looks: all nodes are silent", self.witness._look())
                await self.look("all nodes are silent")

                async def collect() -> None:
                    gc.collect()

                await during("a whole garbage collection", collect())
                print(
                    f"memory, MiB: {before:.0f} before (the answers at hand included), +{listed - before:.0f} listed, "
                    f"+{with_agents - listed:.0f} with agents, +{looked - with_agents:.0f} after the first look, "
                    f"{memory_mib() - before:+.0f} at the end"
                )
        following.cancel()
        spared.cancel()

    def live(self, rank: int, attempt: int, life_id: str = "life") -> None:
        """A rank without a socket."""
        uid = uid_of(rank)
        life = Life(uid=uid, life_id=life_id, started_at=STARTED, attempt=attempt, promise=HELD, floor=4)
        session = self.rendezvous._sessions.get(uid)
        if session is None:
            self.rendezvous._sessions[uid] = Session(identity=cast(Any, None), life=life, stream=None)
        else:
            session.life = life

    def steps(self) -> None:
        now = asyncio.get_running_loop().time()
        for session in self.rendezvous.sessions():
            session.progress.steps = Steps(step=9, at=now, mean_s=2.0, work_s=1.6)
            session.progressed_at = now

    @asynccontextmanager
    async def connected(self, folder: Path) -> AsyncIterator[None]:
        now = datetime.now(UTC)
        authority = Authority.create(now)
        (folder / "ca.crt").write_bytes(authority.bundle)
        (folder / "tokens").write_text("\n".join(self.tokens))
        context = server_context(authority.issue([SERVER_NAME], now))
        async with self.rendezvous.listening("127.0.0.1", 0, context) as server:
            port = server.sockets[0].getsockname()[1]
            words = ["--agents", str(port), str(folder / "ca.crt"), str(folder / "tokens")]
            others = subprocess.Popen([sys.executable, __file__, *words])  # noqa: ASYNC220
            try:
                await self.turns.during("hello of all agents", self._until(lambda life: life.connected))
                yield
            finally:
                others.terminate()
                others.wait()
                await self._closed()

    async def _closed(self) -> None:
        while self.rendezvous.statistics.streams:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def _until(self, test: Callable[[Life], bool]) -> None:
        uids = [uid_of(rank) for rank in range(self.agents)]
        while not all((life := self.rendezvous.life(uid)) and test(life) for uid in uids):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def tell(self, action: Any, name: str, test: Callable[[Life], bool]) -> None:
        async def work() -> None:
            await self.executor._act(action, cast(Any, None), self.gang)
            await self._until(test)

        await self.turns.during(f"{name} to all agents, and their answers", work())


def main(ranks: int, agents: int) -> None:
    measured = Turns()
    with asyncio.Runner(loop_factory=turns.new_loop) as runner:
        measured.watch(runner.get_loop())
        runner.run(Bench(ranks, min(agents, ranks), measured).run())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--agents"]:
        asyncio.run(agents(int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]).read_text().split()))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_240, int(sys.argv[2]) if len(sys.argv) > 2 else 2048)
