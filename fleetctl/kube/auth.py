"""Where the API server is and who we are: a kubeconfig, or the ServiceAccount of the pod we run in.

The only module that touches kubernetes_asyncio, for kubeconfigs and their plugins, and only inside functions: importing
it costs 0.5 s and 35 MiB. A controller in its pod reads three files instead.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fleetctl.errors import GiveUp
from fleetctl.kube.errors import Unavailable

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config.kube_config import KubeConfigLoader

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK_AGAIN_AFTER = 30.0
"""Seconds for which a token is used without asking whether it is about to expire."""

NO_CONFIGURATION = (
    "no Kubernetes cluster is configured: pass --kubeconfig, set KUBECONFIG, write ~/.kube/config, "
    "or run in a pod that has a ServiceAccount token"
)


class ConfigurationError(GiveUp):
    """The cluster's address or our credentials cannot be had; the message says what to change."""


class Credentials(Protocol):
    """Where the Authorization header comes from."""

    async def authorization(self, *, fresh: bool) -> str | None:
        """`Bearer …` or `Basic …`; None if the certificate says it all. `fresh`: the last one was refused."""
        ...


@dataclass(kw_only=True)
class Endpoint:
    """An API server and how to be let in.

    `tls` is None for plain HTTP, `namespace` is that of the context, `server_name` what the certificate must say if
    that is not the host, `proxy` the URL of one.
    """

    server: str
    tls: ssl.SSLContext | None = None
    namespace: str = "default"
    server_name: str | None = None
    proxy: str | None = None
    credentials: Credentials | None = None
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def headers(self) -> dict[str, str]:
        """The headers that say who we are. Raises Unavailable if credentials ran out and cannot be had now."""
        return await self._headers(fresh=False)

    async def refresh(self, rejected: Mapping[str, str]) -> dict[str, str]:
        """New headers after a 401. A hundred requests rejected together run an exec plugin once."""
        async with self._refreshing:
            current = await self._headers(fresh=False)
            return current if current != rejected else await self._headers(fresh=True)

    async def _headers(self, *, fresh: bool) -> dict[str, str]:
        value = await self.credentials.authorization(fresh=fresh) if self.credentials else None
        return {"Authorization": value} if value else {}


async def load_endpoint(kubeconfig: str | Path | None = None, context: str | None = None) -> Endpoint:
    """The cluster to talk to: `kubeconfig`, else $KUBECONFIG, else ~/.kube/config, else the pod's ServiceAccount.

    Raises ConfigurationError, whose message says what to do.
    """
    if path := str(kubeconfig or os.environ.get("KUBECONFIG") or _existing("~/.kube/config")):
        return await _from_kubeconfig(path, context)
    if context:
        raise ConfigurationError(f"context {context!r} was asked for, but {NO_CONFIGURATION}")
    return _from_service_account()


def _existing(paths: str) -> str:
    """`paths` (as in $KUBECONFIG, several are merged) if one of them exists, else nothing."""
    return paths if any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path) else ""


async def _from_kubeconfig(path: str, context: str | None) -> Endpoint:
    if not _existing(path):
        raise ConfigurationError(f"kubeconfig {path} does not exist; {NO_CONFIGURATION}")
    loaded: KubeConfigLoader | None = None

    async def load(*, fresh: bool) -> "Configuration":
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.config import load_kube_config

        nonlocal loaded
        configuration = Configuration()
        if loaded is None or fresh:
            # persist_config=False: in 36.1 writing back a renewed OIDC token raises TypeError
            loaded = await load_kube_config(
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )
        elif not _exec_plugin_without_expiry(loaded):
            await loaded.load_and_set(configuration)
        return configuration

    credentials = _Reloaded(load)
    configuration = await _first(credentials, f"kubeconfig {path}")
    named = loaded.current_context if loaded else None
    namespace = (named or {}).get("context", {}).get("namespace") or "default"
    return _endpoint(configuration, namespace, credentials)


def _exec_plugin_without_expiry(loader: "KubeConfigLoader") -> bool:
    """Such a plugin's token is good until refused; the library would run the plugin every time."""
    return "exec" in (loader._user or {}) and not hasattr(loader, "exec_plugin_expiry")


def _from_service_account() -> Endpoint:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigurationError(NO_CONFIGURATION)
    credentials = _TokenFile(SERVICE_ACCOUNT / "token")
    try:
        credentials.read()
        tls = _trusting(str(SERVICE_ACCOUNT / "ca.crt"))
    except (OSError, ValueError) as error:
        said = f"the ServiceAccount in {SERVICE_ACCOUNT} cannot be used: {error}"
        raise ConfigurationError(f"{said}; {NO_CONFIGURATION}") from error
    own = SERVICE_ACCOUNT / "namespace"
    namespace = own.read_text().strip() if own.exists() else "default"
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Endpoint(server=server, tls=tls, namespace=namespace, credentials=credentials)


class _TokenFile:
    """A token that the kubelet replaces before it expires."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_at: float | None = None

    async def authorization(self, *, fresh: bool) -> str | None:
        now = asyncio.get_running_loop().time()
        if fresh or self._read_at is None or now >= self._read_at + LOOK_AGAIN_AFTER:
            try:
                self.read()
            except (OSError, ValueError) as error:
                raise Unavailable("credentials", f"cannot be refreshed: {error}", unsent=True) from error
            self._read_at = now
        return f"Bearer {self._token}"

    def read(self) -> None:
        """Raises OSError, ValueError."""
        token = self._path.read_text(encoding="ascii").strip()
        if not token:
            raise ValueError(f"{self._path} is empty")
        self._token = token


class _Load(Protocol):
    def __call__(self, *, fresh: bool) -> "Awaitable[Configuration]": ...


class _Reloaded:
    """Credentials that a loader of the library looks after; it knows when they expire."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._value: str | None = None
        self._loaded_at: float | None = None
        self.on_load: Callable[[Configuration], None] = lambda _: None

    async def authorization(self, *, fresh: bool) -> str | None:
        age = None if self._loaded_at is None else asyncio.get_running_loop().time() - self._loaded_at
        if fresh or age is None or age >= LOOK_AGAIN_AFTER:
            try:
                await self.load(fresh=fresh)
            except Exception as error:  # the library raises ConfigException, KeyError, OSError and what plugins cause
                raise Unavailable("credentials", f"cannot be refreshed: {error}"[:500], unsent=True) from error
        return self._value

    async def load(self, *, fresh: bool) -> "Configuration":
        configuration = await self._load(fresh=fresh)
        self._loaded_at = asyncio.get_running_loop().time()
        self._value = configuration.api_key.get("BearerToken", self._value)
        self._value = self._value and self._value.strip()
        self.on_load(configuration)
        return configuration


async def _first(credentials: _Reloaded, source: str) -> "Configuration":
    try:
        return await credentials.load(fresh=True)
    except Exception as error:  # anything, assertions included, that the library makes of a file that is not in order
        said = str(error)[:500] or type(error).__name__
        raise ConfigurationError(f"{source} cannot be used: {said}; {NO_CONFIGURATION}") from error


def _endpoint(configuration: "Configuration", namespace: str, credentials: _Reloaded) -> Endpoint:
    server = (configuration.host or "").rstrip("/")
    tls = _tls(configuration) if server.startswith("https") else None
    if tls is not None:
        credentials.on_load = lambda fresh: _present_certificate(tls, fresh)
    return Endpoint(
        server=server,
        tls=tls,
        namespace=namespace,
        server_name=configuration.tls_server_name or None,
        proxy=configuration.proxy or None,
        credentials=credentials,
    )


def _tls(configuration: "Configuration") -> ssl.SSLContext:
    try:
        context = _trusting(configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _present_certificate(context, configuration)
    except OSError as error:
        raise ConfigurationError(f"the cluster's or our own certificate cannot be used: {error}") from error
    return context


def _trusting(authority: str | None) -> ssl.SSLContext:
    """Raises OSError."""
    context = ssl.create_default_context(cafile=authority)
    # Python 3.13 made this the default; many clusters' authorities lack the extensions it asks for, and Go does not
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _present_certificate(context: ssl.SSLContext, configuration: "Configuration") -> None:
    """Connections opened from now on show this certificate."""
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
