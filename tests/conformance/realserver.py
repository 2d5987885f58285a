"""A real kube-apiserver with its etcd, on ports of 127.0.0.1 that are free, for as long as a block lasts.

No controllers run: nothing collects garbage, and what is in a namespace stays. Whoever holds a token may do anything;
only those of the group system:masters are exempt from the server's flow control.
"""

import base64
import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trustme
import yaml

from fleetctl.apiserver.server import die_with_parent, free_ports
from fleetctl.controller.resources import GANGS

HERE = Path(__file__).parent
CRD = HERE.parents[1] / "manifests" / "crd.yaml"
TOKEN = "a-token-of-the-tests"
STARTS_WITHIN_S = 60.0


class Missing(Exception):
    """There is no server to be had here, and why."""


def programs() -> Path:
    """The folder with etcd and kube-apiserver. Raises Missing."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        found = Path(assets)
    else:
        built = subprocess.run([HERE / "programs"], capture_output=True, text=True)
        if built.returncode:
            raise Missing(built.stderr.strip().rpartition("\n")[2] or "tests/conformance/programs failed")
        found = Path(built.stdout.strip())
    for name in ("etcd", "kube-apiserver"):
        if not shutil.which(found / name):
            raise Missing(f"no {name} in {found}")
    return found


def token_of(user: str) -> str:
    """Of one of the `users` that `running` was told of."""
    return f"{TOKEN}-{user}"


class RealServer:
    """`url` is where it listens, `tls` and the file `authority` how to trust it, `pids` those of its two programs."""

    def __init__(self, url: str, etcd: str, tls: ssl.SSLContext, authority: Path) -> None:
        self.url = url
        self.tls = tls
        self.authority = authority
        self.pids: dict[str, int] = {}
        self._etcd = etcd

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What a person would do beside the test. Raises HTTPError."""
        return self._send(method, self.url + path, body, {"Authorization": f"Bearer {TOKEN}"})

    def compact(self) -> None:
        """etcd forgets what was before now."""
        now = self._gateway("kv/range", {"key": base64.b64encode(b"any").decode()})["header"]["revision"]
        self._gateway("kv/compaction", {"revision": now, "physical": True})

    def _gateway(self, path: str, body: Any) -> Any:
        return self._send("POST", f"{self._etcd}/v3/{path}", body, {})

    def _send(self, method: str, url: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
        with urllib.request.urlopen(request, context=self.tls, timeout=10) as answer:
            return json.load(answer)


AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:apiserver"]}
- {level: Metadata}
"""


@contextmanager
def running(
    folder: Path, *, users: Mapping[str, str] = MappingProxyType({}), audit: Path | None = None
) -> Iterator[RealServer]:
    """Ready, and it knows Gangs. `folder` is empty, and keeps the logs. Raises Missing.

    `users` have a token and a group each. `audit` is the file that all requests are told to, bodies left out.
    """
    found = programs()
    port, clients, peers = free_ports(3)
    etcd, url = f"http://127.0.0.1:{clients}", f"https://127.0.0.1:{port}"
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    tokens = [f"{TOKEN},admin,admin,system:masters", *(f"{token_of(u)},{u},{u},{group}" for u, group in users.items())]
    (folder / "tokens.csv").write_text("\n".join(tokens) + "\n")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    server = RealServer(url, etcd, tls, folder / "ca.pem")
    commands = (
        [
            found / "etcd",
            "--unsafe-no-fsync",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
        ],
        [
            found / "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--etcd-compaction-interval=0",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={folder / 'server.pem'}",
            f"--tls-private-key-file={folder / 'server.pem'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'server.pem'}",
            f"--service-account-signing-key-file={folder / 'server.pem'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            *_audited(folder, audit),
        ],
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        command, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent
                    )
                )
            server.pids[Path(command[0]).name] = started[-1].pid
        _wait_for(server, "/readyz?verbose", started, folder)
        with CRD.open() as text:
            server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", yaml.safe_load(text))
        _wait_for(server, GANGS.collection(), started, folder)
        yield server
    finally:
        for program in reversed(started):
            program.kill()
            program.wait()


def _audited(folder: Path, audit: Path | None) -> list[str]:
    if audit is None:
        return []
    (folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
    policy = f"--audit-policy-file={folder / 'audit-policy.yaml'}"
    return [policy, f"--audit-log-path={audit}", "--audit-log-maxsize=4000"]


def _wait_for(server: RealServer, path: str, started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request, context=server.tls, timeout=10):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > end or any(program.poll() is not None for program in started):
                log = (folder / "kube-apiserver.log").read_text()[-2000:]
                raise RuntimeError(f"the API server did not start: {error}\n{log}") from error
        time.sleep(0.1)
