"""One session with the API server: one connection pool, one TLS context, sockets that notice a dead peer.

Knows nothing of requests. A half-open connection is found three times over: by keepalive while nothing is sent, by
TCP_USER_TIMEOUT while something is, and by the watch's own dead man's switch when a proxy in between keeps it alive.
"""

import importlib.metadata
import platform
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from fleetctl.kube.auth import Endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.kube.retry import JITTER

KEEPALIVE_IDLE = 15
KEEPALIVE_INTERVAL = 5
KEEPALIVE_PROBES = 3
LONGEST_LINE = 2**21
"""Half of the bytes a watch event may have. etcd takes 1.5 MiB."""

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


@asynccontextmanager
async def connect(endpoint: Endpoint, component: str, *, rng: random.Random = JITTER) -> AsyncIterator[KubeClient]:
    """A client for `endpoint` until the block ends. `component` appears in the server's audit log.

    The leader elector deserves one of its own: it must not queue for a connection behind a thousand pods.
    """
    connector = aiohttp.TCPConnector(
        ssl=endpoint.tls if endpoint.tls is not None else True, socket_factory=watchful_socket
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": user_agent(component), "Accept": "application/json, */*;q=0.1"},
        read_bufsize=LONGEST_LINE,
    )
    # aiohttp by itself sends a PUT or DELETE again if a reused connection breaks; ours to decide (retry.py)
    session._retry_connection = False
    async with session:
        yield KubeClient(session, endpoint, rng=rng)


def watchful_socket(address: AddressInfo) -> socket.socket:
    """A socket that gives up on a dead peer after 30 s, idle or not."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (  # by name: macOS has other ones
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", 1000 * (KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_PROBES)),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def user_agent(component: str) -> str:
    """`fleetctl/0.1.0 (linux/amd64) controller`."""
    try:
        version = importlib.metadata.version("fleetctl")
    except importlib.metadata.PackageNotFoundError:
        version = "dev"  # run from a checkout
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"fleetctl/{version} ({platform.system().lower()}/{arch}) {component}"
