"""A proxy between the controller and the API server that holds a named write for as long as a test wants.

The controller under test gets a kubeconfig that points here (plain HTTP inside the test's own network) and uses its own
token, so that the API server still sees who writes.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from fleet import CONTROL_PLANE, controller_ready, deploy, kubectl, on_node, run

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request of the controller to the API server."""

    method: str
    path: str
    body: bytes


Names = Callable[[Request], bool]
"""Whether a request is the one to hold."""


@dataclass
class Hold:
    """One request that is to be held: before it reaches the API server, or after, so that its answer is late."""

    names: Names
    before: bool
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    used: bool = False


class HoldingProxy:
    """Runs in a thread of its own; `url` is how the controller reaches it."""

    def __init__(self) -> None:
        cluster = yaml.safe_load(kubectl("config", "view", "--raw", "--minify"))["clusters"][0]["cluster"]
        self._server = cluster["server"]
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
            self._tls = ssl.create_default_context(cafile=file.name)
        gateway = run("docker", "network", "inspect", "kind", "-f", "{{json .IPAM.Config}}")
        self._host = next(c["Gateway"] for c in json.loads(gateway) if "." in c.get("Gateway", ""))
        self._hold: Hold | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "HoldingProxy":
        # the host knows no way back to a pod
        self._masquerade = f"POSTROUTING -t nat -s 10.244.0.0/16 -d {self._host} -j MASQUERADE"
        on_node(CONTROL_PLANE, f"iptables -A {self._masquerade}")
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        on_node(CONTROL_PLANE, f"iptables -D {self._masquerade}")
        if self._hold:
            self._hold.go_on.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @contextlib.contextmanager
    def holding(self, names: Names, *, before: bool) -> Iterator[Hold]:
        """Holds the first request of that kind; let go at the end."""
        hold = self._hold = Hold(names, before)
        try:
            yield hold
        finally:
            hold.go_on.set()
            self._hold = None

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{path:.*}", self._pass_on)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, self._host, 0)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"http://{self._host}:{port}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        hold = self._hold if self._is_held(Request(request.method, request.path, body)) else None
        if hold and hold.before:
            await self._wait(hold)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        url = self._server + request.path_qs
        patience = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, data=body or None, headers=headers, timeout=patience
        ) as answer:
            if hold and not hold.before:
                await answer.read()
                await self._wait(hold)
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "content-length")}
            out = web.StreamResponse(status=answer.status, headers=kept)
            await out.prepare(request)
            async for chunk in answer.content.iter_any():
                await out.write(chunk)
            await out.write_eof()
            return out

    def _is_held(self, request: Request) -> bool:
        hold = self._hold
        if hold is None or hold.used:
            return False
        hold.used = hold.names(request)
        return hold.used

    @staticmethod
    async def _wait(hold: Hold) -> None:
        hold.reached.set()
        await asyncio.to_thread(hold.go_on.wait)


def writes_record(of_that_kind: Callable[[Json], bool]) -> Names:
    """A write of the status whose record (`status.attempt`) is of that kind."""

    def names(request: Request) -> bool:
        if request.method != "PUT" or not request.path.endswith("/status"):
            return False
        return of_that_kind(json.loads(request.body).get("status", {}).get("attempt", {}))

    return names


def raises_target_to(attempt: int) -> Names:
    return writes_record(lambda record: record.get("target") == attempt != record.get("released"))


def releases(attempt: int) -> Names:
    return writes_record(lambda record: record.get("released") == attempt)


@contextlib.contextmanager
def controller_behind(proxy: HoldingProxy) -> Iterator[None]:
    """Points the deployed controller at the proxy, and back at the end."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxied",
        "clusters": [{"name": "proxied", "cluster": {"server": proxy.url}}],
        "users": [
            {"name": "own", "user": {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}},
        ],
        "contexts": [
            {"name": "proxied", "context": {"cluster": "proxied", "user": "own", "namespace": "fleetctl-system"}}
        ],
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "proxied", "namespace": "fleetctl-system"},
        "data": {"config": yaml.safe_dump(kubeconfig)},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(config))
    container = {
        "name": "controller",
        "env": [{"name": "KUBECONFIG", "value": "/proxied/config"}],
        "volumeMounts": [{"name": "proxied", "mountPath": "/proxied"}],
    }
    volumes = [{"name": "proxied", "configMap": {"name": "proxied"}}]
    _patch({"spec": {"containers": [container], "volumes": volumes}})
    try:
        yield
    finally:
        deploy()


def _patch(template: Json) -> None:
    patch = json.dumps({"spec": {"template": template}})
    kubectl("-n", "fleetctl-system", "patch", "deployment", "fleetctl-controller", "-p", patch)
    controller_ready()


def kill_controller(pod: str = "") -> None:
    """SIGKILL of this replica, or of all: no goodbye, no released Lease. The pod is deleted; whoever leads next has to
    wait for the Lease to end."""
    script = (
        "for p in /proc/[0-9]*; do tr '\\0' ' ' 2>/dev/null <$p/cmdline | grep -q 'fleetctl controller ' && "
        f"tr '\\0' '\\n' 2>/dev/null <$p/environ | grep -q '^HOSTNAME={pod or '.*'}$' && "
        "kill -9 ${p#/proc/}; done; true"
    )
    on_node(CONTROL_PLANE, script)
    pods = (pod,) if pod else ("-l", "app.kubernetes.io/component=controller")
    kubectl("-n", "fleetctl-system", "delete", "pod", *pods, "--grace-period=0", "--force", "--wait=false")
