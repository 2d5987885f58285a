"""The controller as a whole: who leads, what is watched, who is talked to, and one loop for each gang.

Only wiring. Everything is given its loop, clock and transport from here, so that a simulator can wire the same parts.
"""

import asyncio
import contextlib
import importlib
import logging
import random
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from fleetctl.clock import Clock, SystemClock
from fleetctl.controller import orphans, turns
from fleetctl.controller.authority import AuthorityKeeper
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import Executor, PodSettings
from fleetctl.controller.health import Health
from fleetctl.controller.loop import GangLoop
from fleetctl.controller.nodes import Nodes
from fleetctl.controller.quarantine import Keeper
from fleetctl.controller.resources import GangObject
from fleetctl.controller.turns import Durations
from fleetctl.controller.views import gang_view
from fleetctl.controller.witness import LeaseWitness
from fleetctl.errors import GiveUp, Retry
from fleetctl.gang.attempt import term_of
from fleetctl.gang.identity import Gang
from fleetctl.gang.pods import AUDIENCE, LABEL_GANG
from fleetctl.gang.state import Zombie
from fleetctl.kube.auth import load_endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.kube.connect import connect
from fleetctl.kube.elector import LeaseElector
from fleetctl.kube.errors import NotFound, Unauthorized
from fleetctl.kube.objects import PODS
from fleetctl.kube.reflector import Key
from fleetctl.rendezvous.identity import Admission, PodIdentity
from fleetctl.rendezvous.server import Rendezvous
from fleetctl.rendezvous.tokens import TokenVerifier

log = logging.getLogger(__name__)
LEASE = "fleetctl-controller"
START_AGAIN_S = 2.0
LOOK_FOR_SPARES_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a controller is started.

    `namespace` is the controller's own (None: that of the credentials); `watch` the one whose gangs it looks after
    (None: all). `agent_image` None: the image of the pod we run in. `rendezvous` is host:port as agents reach us,
    `listen_port` where we listen for them; `health_port` 0 turns the probes off. `identity` is this process's alone,
    `direct` the host:port where agents reach it and no other ("": there is none, they go by `rendezvous`).
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    watch: str | None = None
    agent_image: str | None = None
    rendezvous: str
    listen_port: int = 8443
    health_port: int = 8080
    identity: str
    direct: str = ""


def own_identity() -> str:
    """That of no other process; a pod's name is not, if its container restarts."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


async def run(settings: Settings) -> None:
    """Run a controller until cancelled. Raises ConfigurationError, ApiError if it cannot start."""
    from fleetctl.controller.metrics import Metrics  # a library that a simulated controller does without

    clock = SystemClock()
    endpoint = await load_endpoint(settings.kubeconfig, settings.context)
    namespace = settings.namespace or endpoint.namespace
    health = Health()
    async with (
        health.answering(settings.health_port),
        connect(endpoint, "controller") as client,
        connect(endpoint, "elector") as lease_client,
        connect(endpoint, "witness") as witness_client,
    ):
        connections = Connections(client, lease_client, witness_client)
        controller = await open_controller(connections, clock, random.SystemRandom(), namespace, settings)
        late, clients = turns.Lateness(), (client, lease_client, witness_client)
        told = Metrics(
            blocked=late,
            signals=controller.signals(),
            writes=lambda: [each.writes for each in clients],
            agents=controller.agents,
            releases=controller.releases,
        )
        health.ready, health.metrics = controller.is_ready, told.text
        async with asyncio.TaskGroup() as tasks:
            works = (
                late.measure(),
                turns.spare_what_lives(controller.agents, controller.agents_gone),
                _ready_to_place(controller),
            )
            beside = [tasks.create_task(work) for work in works]
            try:
                await controller.run()
            finally:
                for task in beside:
                    task.cancel()


async def _ready_to_place(controller: "Controller") -> None:
    """Loads what places lost ranks before one is lost: it takes a quarter of a second, and 29 MiB that gangs without
    spares do without."""
    while not controller.has_spares():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(LOOK_FOR_SPARES_S)
    await asyncio.to_thread(importlib.import_module, "networkx")


@dataclass(frozen=True)
class Connections:
    """To the API server: for everything, for our own Lease, and for the Leases of nodes that fell silent. None of the
    latter two may wait behind the others."""

    everything: KubeClient
    elector: KubeClient
    witness: KubeClient


async def open_controller(
    connections: Connections, clock: Clock, rng: random.Random, namespace: str, settings: Settings
) -> "Controller":
    """A controller, once the API server can be reached: until then we wait, for it would not help to be restarted."""
    client = connections.everything
    while True:
        try:
            authority = await AuthorityKeeper.open(client, clock, namespace, _server_name(settings))
            agent_image = settings.agent_image or await _own_image(client, namespace)
        except (Retry, Unauthorized) as error:
            log.warning("waiting: %s", error)
            await asyncio.sleep(START_AGAIN_S)
        else:
            return Controller(connections, clock, rng, namespace, authority, agent_image, settings)


class Controller:
    """All parts of one controller."""

    def __init__(
        self,
        connections: Connections,
        clock: Clock,
        rng: random.Random,
        namespace: str,
        authority: AuthorityKeeper,
        agent_image: str,
        settings: Settings,
    ) -> None:
        client = self._client = connections.everything
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._authority = authority
        self._loops: dict[Key, GangLoop] = {}
        self._gang_tasks: asyncio.TaskGroup | None = None
        self._term = -1
        self._led_since = 0.0
        self._leadership_turned = asyncio.Event()
        self._elector = LeaseElector(
            connections.elector,
            namespace,
            LEASE,
            settings.identity,
            clock,
            address=settings.direct,
            changed=self._leadership_changed,
            rng=rng,
        )
        self._cache = Cache(client, self._gang_changed, namespace=settings.watch, pod_gone=self._pod_gone, rng=rng)
        self._rendezvous = Rendezvous(
            authenticate=TokenVerifier(
                lambda: client.raw_get("/openid/v1/jwks"), self._read_issuer, audience=AUDIENCE, clock=clock
            ),
            admit=self._admit,
            leading=self._leads,
            attending=self._attends,
            leader_address=self._other_leader,
            on_change=self._life_changed,
        )
        self._nodes = Nodes(
            self._cache,
            self._rendezvous,
            led_since=lambda: self._led_since if self._leads() else None,
            still_s=lambda name: self._witness.still_s(name),
        )
        self._witness = LeaseWitness(
            connections.witness,
            watched=self._nodes.silent,
            references=self._nodes.others,
            progressed_at=self._nodes.alive_at,
            changed=self._node_evidence_changed,
        )
        self._keeper = Keeper(client, self._cache, clock, leading=self._leads, watch=settings.watch)
        self._executor = Executor(
            client,
            self._rendezvous,
            self._cache,
            clock,
            PodSettings(
                agent_image=agent_image,
                rendezvous=settings.rendezvous,
                server_name=_server_name(settings),
            ),
            self._keeper,
            identity=settings.identity,
            bundle=lambda: authority.bundle,
            leading=self._leads,
            rng=rng,
        )

    async def run(self) -> None:
        """Until cancelled. The work stops before the Lease is released."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._elector.run())
            try:
                await self._work()
            except asyncio.CancelledError:
                log.info("stopping")
                raise

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._gang_tasks = tasks
            tasks.create_task(self._cache.run())
            tasks.create_task(self._attend_agents())
            tasks.create_task(self._authority.run(self._leads, self._all_gangs))
            tasks.create_task(self._witness.run())
            tasks.create_task(self._keeper.run())
            tasks.create_task(orphans.clear(self._client, self._cache, self._nodes, self._leads))
            await self._cache.synced()
            log.info("synced: %d gangs", len(self._cache.gangs()))
            for key in self._cache.gangs():
                self._gang_changed(key)
            try:
                await asyncio.Event().wait()
            finally:
                self._gang_tasks = None  # agents may still speak, but nobody begins anything any more

    async def _attend_agents(self) -> None:
        """A standby says who leads, and keeps those who cannot get there until it leads itself."""
        await self._cache.synced()
        async with self._rendezvous.listening(None, self._settings.listen_port, self._authority.context):
            while True:
                await self._until(lambda: self._elector.leading)
                if await self._begin_term():
                    await self._until(lambda: not self._attends())

    async def _begin_term(self) -> bool:
        """Who led before us may have made pods that our watch does not show yet. From now on only we make any. Until
        those are seen, a pod that was replaced, and whose agent still speaks, would count as a member.

        False: our term has another number by now."""
        term = self._elector.transitions
        await self._cache.refresh()
        if (latest := self._latest_term()) >= term:
            log.warning("the Lease counts %d terms, a gang's record %d: somebody deleted it", term, latest)
            self._elector.count_from(latest + 1)
            await self._until(lambda: not self._elector.leading or self._elector.transitions != term)
            return False
        self._term, self._led_since = term, asyncio.get_running_loop().time()
        self._rendezvous.leadership_changed()
        for loop in self._loops.values():
            loop.changed()
        return True

    def _other_leader(self) -> str:
        """Where to send agents: never to ourselves. A term of ours begins a moment after we hold the Lease, and whoever
        is sent to us by our address dials anew, while whoever stays is welcomed then."""
        return "" if self._elector.holder == self._elector.identity else self._elector.holders_address

    def _latest_term(self) -> int:
        """The last one in which another leader wrote a gang's record."""
        writers = (gang.status.attempt.writer for gang in self._all_gangs())
        return max((term_of(w) for w in writers if not w.startswith(f"{self._settings.identity}/")), default=-1)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._leadership_turned.clear()
            await self._leadership_turned.wait()

    def is_ready(self) -> bool:
        """Whether everything was read once. A standby is ready too."""
        return self._cache.is_synced

    def agents(self) -> int:
        """How many have a stream to us, as the one who leads."""
        return self._rendezvous.attended

    def agents_gone(self) -> int:
        """How many streams have ended."""
        return self._rendezvous.ended

    def has_spares(self) -> bool:
        """Whether any gang asks for some."""
        return any(group.spares for gang in self._all_gangs() for group in gang.spec.groups)

    def releases(self) -> Mapping[str, int]:
        """How many attempts were released, by rung."""
        return self._executor.releases

    def signals(self) -> Durations:
        """How long it took to reset all ranks once a target was raised."""
        return self._executor.signals

    def _leads(self) -> bool:
        return self._elector.leading and self._elector.transitions == self._term

    def _attends(self) -> bool:
        """Whether the agents are ours: an API server that is away for a moment is no reason to send a thousand off."""
        return (self._elector.leading or self._elector.lapsed) and self._elector.transitions == self._term

    def _writer(self) -> str | None:
        """Who we write as while we lead."""
        return f"{self._settings.identity}/{self._elector.transitions}" if self._leads() else None

    def _leadership_changed(self) -> None:
        self._leadership_turned.set()
        if not (self._elector.leading or self._elector.lapsed):
            self._rendezvous.dismiss_all()
        self._rendezvous.leadership_changed()
        for loop in self._loops.values():
            loop.changed()

    def _gang_changed(self, key: Key) -> None:
        loop, gang = self._loops.get(key), self._cache.gang(key)
        if gang is not None:
            self._nodes.are_in(gang.spec.placement.topology_keys)
        if loop is not None:
            loop.changed()
        elif self._cache.is_synced and self._gang_tasks is not None and gang is not None:
            self._gang_tasks.create_task(self._look_after(key))

    async def _look_after(self, key: Key) -> None:
        if key in self._loops:
            return
        loop = self._loops[key] = GangLoop(
            key,
            self._client,
            self._cache,
            self._executor,
            self._clock,
            life=self._rendezvous.life,
            steps=self._rendezvous.steps,
            node=self._nodes.view,
            zombies=self._zombies,
            writer=self._writer,
            rng=self._rng,
        )
        try:
            await loop.run()
        finally:
            del self._loops[key]
        self._keeper.look_now()

    def _life_changed(self, identity: PodIdentity) -> None:
        pod, life = self._cache.pod(identity.namespace, identity.pod), self._rendezvous.life(identity.uid)
        if pod is not None and pod.metadata.uid == identity.uid and life is not None:
            if life.silent:
                self._witness.look_now()
            else:
                self._nodes.heard(pod.spec.node_name)
        key = self._gang_with(identity)
        if key is not None:
            self._gang_changed(key)

    def _node_evidence_changed(self, name: str) -> None:
        for pod in self._cache.pods_on(name):
            if key := self._cache.gang_of(pod.metadata.uid):
                self._gang_changed(key)

    def _pod_gone(self, uid: str) -> None:
        self._rendezvous.supersede(uid)

    async def _admit(self, identity: PodIdentity) -> Admission:
        known = self._cache.pod(identity.namespace, identity.pod)
        if known is not None and known.metadata.uid == identity.uid:
            return Admission.MEMBER
        with contextlib.suppress(NotFound):
            pod = await self._client.get(PODS, identity.namespace, identity.pod)
            if pod.metadata.uid == identity.uid:
                return Admission.NOT_YET if LABEL_GANG in pod.metadata.labels else Admission.STRANGER
        # Its token is genuine, so there was such a pod; by its name, it was a gang's.
        return Admission.SUPERSEDED if self._gang_with(identity) else Admission.STRANGER

    def _gang_with(self, identity: PodIdentity) -> Key | None:
        """The gang that has, or by the pod's name had, this member."""
        if known := self._cache.gang_of(identity.uid):
            return known
        for key in self._cache.gangs():
            gang = self._cache.gang(key)
            near = gang is not None and key[0] == identity.namespace and identity.pod.startswith(f"{key[1]}-")
            if gang is not None and near and identity.pod in gang_view(gang).ranks:
                return key
        return None

    def _zombies(self, gang: Gang) -> tuple[Zombie, ...]:
        """Who speaks of this gang's ranks and is not its member any more."""
        return tuple(
            Zombie(rank=gang.ranks[session.identity.pod], life=session.life)
            for session in self._rendezvous.superseded()
            if session.identity.namespace == gang.namespace and session.identity.pod in gang.ranks
        )

    async def _read_issuer(self) -> str:
        discovery = await self._client.raw_get("/.well-known/openid-configuration")
        return msgspec.json.decode(discovery, type=_Discovery).issuer

    def _all_gangs(self) -> list[GangObject]:
        return [gang for key in self._cache.gangs() if (gang := self._cache.gang(key))]


class _Discovery(msgspec.Struct):
    issuer: str


async def _own_image(client: KubeClient, namespace: str) -> str:
    """The image of the pod we run in: agents are the same program."""
    try:
        pod = await client.get(PODS, namespace, socket.gethostname())
    except NotFound as error:
        raise GiveUp("not running in a pod, so there is no image of our own: pass --agent-image") from error
    return pod.spec.containers[0].image


def _server_name(settings: Settings) -> str:
    return settings.rendezvous.rpartition(":")[0].strip("[]")
