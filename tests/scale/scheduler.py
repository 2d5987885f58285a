"""The real kube-scheduler, with leader election off and more queries allowed (1,000/s) than by default (50/s).

With the default it would bind 50 pods a second at most; large clusters raise it.
"""

import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetctl.apiserver.server import die_with_parent, free_ports
from tests.conformance.realserver import (
    STARTS_WITHIN_S,
    Missing,
    RealServer,
    programs,
    token_of,
)

QUERIES_PER_S = 1000


@contextmanager
def scheduling(server: RealServer, folder: Path) -> Iterator[int]:
    """Its pid, once it knows what there is. Raises Missing."""
    program = programs() / "kube-scheduler"
    if not shutil.which(program):
        raise Missing(f"no kube-scheduler in {program.parent}")
    (port,) = free_ports(1)
    command = [str(program), f"--config={_config(server, folder)}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
    with (folder / "kube-scheduler.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        _wait_for(f"https://127.0.0.1:{port}/readyz", process, folder)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _config(server: RealServer, folder: Path) -> Path:
    cluster = {"server": server.url, "certificate-authority": str(server.authority)}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": token_of("scheduler")}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    (folder / "scheduler-kubeconfig").write_text(json.dumps(kubeconfig))
    connection = {"kubeconfig": str(folder / "scheduler-kubeconfig"), "qps": QUERIES_PER_S, "burst": QUERIES_PER_S}
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": connection,
    }
    path = folder / "scheduler.json"
    path.write_text(json.dumps(config))
    return path


def _wait_for(url: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # its certificate is its own
    end = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, context=trusting, timeout=10):
                return
        except OSError as error:
            if time.monotonic() > end or process.poll() is not None:
                log = (folder / "kube-scheduler.log").read_text()[-2000:]
                raise RuntimeError(f"the scheduler did not start: {error}\n{log}") from error
        time.sleep(0.1)
