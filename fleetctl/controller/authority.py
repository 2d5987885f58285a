"""Keeps the rendezvous' certificate authority: in a Secret of the controller's namespace, rotated before it ends.

What an authority is and when it is due, `rendezvous/certificates.py` says. Here is only where it lives and who is told:
the server's TLS context gets a new leaf, every gang's ConfigMap the new bundle.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Iterable

from fleetctl.clock import Clock
from fleetctl.controller.resources import GangObject
from fleetctl.controller.views import gang_view
from fleetctl.gang.pods import authority_name
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import AlreadyExists, ApiError, NotFound
from fleetctl.kube.objects import CONFIG_MAPS, SECRETS
from fleetctl.rendezvous.certificates import Authority, load_leaf, server_context

log = logging.getLogger(__name__)
SECRET = "fleetctl-rendezvous-ca"  # noqa: S105  (its name, not its content)
LOOK_FIRST_S = 60.0  # somebody leads by then
LOOK_EVERY_S = 12 * 3600.0


class AuthorityKeeper:
    """The authority, and the TLS context that serves a leaf of it. `server_name` is the name agents ask for."""

    def __init__(
        self, client: KubeClient, clock: Clock, namespace: str, server_name: str, authority: Authority
    ) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._server_name = server_name
        self._authority = authority
        self.context = server_context(authority.issue([server_name], clock.now()))

    @classmethod
    async def open(cls, client: KubeClient, clock: Clock, namespace: str, server_name: str) -> "AuthorityKeeper":
        """The authority of this installation; the first controller makes it."""
        try:
            authority = await _read(client, namespace)
        except NotFound:
            authority = await _create(client, namespace, Authority.create(clock.now()))
        return cls(client, clock, namespace, server_name, authority)

    @property
    def bundle(self) -> str:
        """The certificates that agents trust, PEM."""
        return self._authority.bundle.decode()

    async def run(self, leading: Callable[[], bool], gangs: Callable[[], Iterable[GangObject]]) -> None:
        """Rotate what is due, until cancelled."""
        pause = LOOK_FIRST_S
        while True:
            await asyncio.sleep(pause)
            pause = LOOK_EVERY_S
            try:
                await self._refresh(leading(), gangs())
            except ApiError as error:
                log.warning("certificates: %s", error)

    async def _refresh(self, lead: bool, gangs: Iterable[GangObject]) -> None:
        self._authority = await _read(self._client, self._namespace)
        due = self._authority.rotated(self._clock.now())
        if lead and due is not self._authority:
            await self._client.patch(SECRETS, self._namespace, SECRET, {"data": _encoded(due)})
            self._authority = due
            log.info("a new certificate authority is trusted from now on")
        if lead:
            for gang in gangs:
                await self._tell(gang)
        load_leaf(self.context, self._authority.issue([self._server_name], self._clock.now()))

    async def _tell(self, gang: GangObject) -> None:
        """Give the gang's agents the bundle, if they have another: the last time may have failed."""
        namespace, name, wanted = gang.metadata.namespace, authority_name(gang_view(gang)), {"ca.crt": self.bundle}
        try:
            if (await self._client.get(CONFIG_MAPS, namespace, name)).body.get("data") != wanted:
                await self._client.patch(CONFIG_MAPS, namespace, name, {"data": wanted})
        except NotFound:
            pass  # it has not been started
        except ApiError as error:
            log.warning("certificates: %s", error)


async def _read(client: KubeClient, namespace: str) -> Authority:
    secret = await client.get(SECRETS, namespace, SECRET)
    data = secret.body.get("data")
    return Authority.load({k: base64.b64decode(v) for k, v in data.items()} if isinstance(data, dict) else {})


async def _create(client: KubeClient, namespace: str, authority: Authority) -> Authority:
    body = {"metadata": {"name": SECRET, "namespace": namespace}, "data": _encoded(authority)}
    try:
        await client.create(SECRETS, namespace, body)
    except AlreadyExists:
        return await _read(client, namespace)  # another controller was first
    return authority


def _encoded(authority: Authority) -> dict[str, str]:
    return {k: base64.b64encode(v).decode() for k, v in authority.data.items()}
