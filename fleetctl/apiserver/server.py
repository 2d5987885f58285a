"""A real kube-apiserver with its etcd, on free ports of this machine, for as long as a block lasts.

No controllers run in it: nothing collects garbage, schedules or marks nodes but those of the world that uses it. Each
actor has a token of its own, and all may do anything: the audit log says who did what.

Knows nothing of simulated worlds.
"""

import asyncio
import base64
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleetctl.errors import FleetctlError

STARTS_WITHIN_S = 90.0
ASSETS = "KUBEBUILDER_ASSETS"
_PR_SET_PDEATHSIG = 1
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""


class NoServer(FleetctlError):
    """There is no API server to be had here; the message says what to do."""


def token_of(actor: str) -> str:
    """The token that the server knows this actor by."""
    return f"token-of-{actor}"


@dataclass
class Server:
    """`url` is where it listens, `tls` how to trust it. `etcd` and `apiserver` are the running programs."""

    url: str
    folder: Path
    etcd_url: str
    commands: dict[str, list[str]]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "certificates" / "apiserver.crt"))

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def pid(self, program: str) -> int:
        """Of `etcd` or `kube-apiserver`."""
        return self.running[program].pid

    def start(self, program: str) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            self.running[program] = subprocess.Popen(
                self.commands[program], stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent
            )

    def kill(self, program: str) -> None:
        """As by SIGKILL."""
        self.running[program].kill()
        self.running[program].wait()

    async def ready(self) -> None:
        """Returns once it answers. Raises NoServer with the end of its log."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STARTS_WITHIN_S), aiohttp.ClientSession() as session:
                while all(program.poll() is None for program in self.running.values()):
                    if await self._answers(session):
                        return
                    await asyncio.sleep(0.2)
        log = (self.folder / "kube-apiserver.log").read_text()[-2000:]
        raise NoServer(f"kube-apiserver did not start:\n{log}")

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        headers = {"Authorization": f"Bearer {token_of('somebody')}"}
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with session.get(f"{self.url}/readyz", headers=headers, ssl=self.tls) as response:
                return response.status == 200
        return False

    async def compact(self) -> None:
        """etcd forgets what was before now, and soon the API server's watch cache too."""
        async with aiohttp.ClientSession() as session:
            key = base64.b64encode(b"any").decode()
            async with session.post(f"{self.etcd_url}/v3/kv/range", json={"key": key}) as response:
                now = (await response.json())["header"]["revision"]
            async with session.post(f"{self.etcd_url}/v3/kv/compaction", json={"revision": now, "physical": True}) as r:
                r.raise_for_status()


def programs() -> Path:
    """The folder with etcd and kube-apiserver. Raises NoServer."""
    of_path = shutil.which("kube-apiserver")
    folder = Path(os.environ[ASSETS]) if os.environ.get(ASSETS) else Path(of_path).parent if of_path else None
    if folder is None:
        raise NoServer(f"set {ASSETS} to the folder that holds etcd and kube-apiserver, or put them on the PATH")
    for name in ("etcd", "kube-apiserver"):
        if not shutil.which(name, path=str(folder)):
            raise NoServer(f"no {name} in {folder}: set {ASSETS} to a folder that holds etcd and kube-apiserver")
    return folder


@asynccontextmanager
async def server(folder: Path, actors: Iterable[str]) -> AsyncIterator[Server]:
    """One that is ready. `folder` is empty, and keeps the logs; `actors` are those who have a token."""
    made = _prepared(folder, programs(), [*actors, "somebody"])
    try:
        made.start("etcd")
        made.start("kube-apiserver")
        await made.ready()
        yield made
    finally:
        for program in reversed(made.running.values()):
            program.kill()
            program.wait()


def _prepared(folder: Path, found: Path, actors: Iterable[str]) -> Server:
    port, clients, peers = free_ports(3)
    etcd, url = f"http://127.0.0.1:{clients}", f"https://127.0.0.1:{port}"
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "accounts.key").write_bytes(key)
    (folder / "tokens.csv").write_text("".join(f"{token_of(a)},{a},{a},{_group(a)}\n" for a in actors))
    (folder / "audit.yaml").write_text(AUDIT_POLICY)
    commands = {
        "etcd": [
            f"{found / 'etcd'}",
            "--unsafe-no-fsync",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
        ],
        "kube-apiserver": [
            f"{found / 'kube-apiserver'}",
            f"--etcd-servers={etcd}",
            "--etcd-compaction-interval=0",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=TaintNodesByCondition",  # nobody here would take that taint away
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'accounts.key'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={folder / 'audit.yaml'}",
            f"--audit-log-path={folder / 'audit.log'}",
        ],
    }
    return Server(url, folder, etcd, commands)


def _group(actor: str) -> str:
    """By which the server shares out its attention (API priority and fairness), as in a cluster."""
    return {"kubelet": "system:nodes", "somebody": "system:masters"}.get(actor, "system:serviceaccounts")


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def die_with_parent() -> None:
    """Also when we are killed and no `finally` runs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
