"""Actions → calls. Carries out a plan in its order and stops at the first action that fails.

Decides nothing. A conflict means that somebody wrote first: the gang is read live and the loop plans again; nothing is
ever written twice blindly.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from fleetctl.clock import Clock
from fleetctl.controller.cache import Cache
from fleetctl.controller.events import emit
from fleetctl.controller.quarantine import Keeper
from fleetctl.controller.resources import GANGS, GangObject
from fleetctl.controller.turns import Durations
from fleetctl.errors import FleetctlError, Retry
from fleetctl.gang import pods, spare_pods, strikes
from fleetctl.gang.actions import (
    Action,
    CreateCompanions,
    CreatePods,
    CreateSpares,
    DeletePods,
    Deletion,
    Notice,
    Ping,
    Plan,
    Prove,
    QuarantineNodes,
    Release,
    Reset,
    StrikeNode,
    WriteStatus,
)
from fleetctl.gang.identity import Gang, Slot
from fleetctl.gang.quarantine import Accused
from fleetctl.gang.spares import Wanted
from fleetctl.gang.state import Strike
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import AlreadyExists, Conflict, NotFound
from fleetctl.kube.objects import CONFIG_MAPS, NODES, PODS, SERVICES, Raw, Resource, T
from fleetctl.rendezvous.server import Rendezvous

log = logging.getLogger(__name__)
CALLS_AT_ONCE = 20
TOLD_AT_ONCE = 512


class NameTaken(Retry):
    """An object of that name exists and is not this gang's: wait until it is gone, or somebody removes it."""


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """What the pods of every gang need to know of this installation."""

    agent_image: str
    rendezvous: str
    server_name: str


class Executor:
    """Carries out plans. `bundle` gives the CA certificates as they are now; `leading` is asked before every action."""

    def __init__(
        self,
        client: KubeClient,
        rendezvous: Rendezvous,
        cache: Cache,
        clock: Clock,
        settings: PodSettings,
        keeper: Keeper,
        *,
        identity: str,
        bundle: Callable[[], str],
        leading: Callable[[], bool],
        rng: random.Random,
    ) -> None:
        self._client = client
        self._rendezvous = rendezvous
        self._cache = cache
        self._clock = clock
        self._settings = settings
        self._keeper = keeper
        self._identity = identity
        self._bundle = bundle
        self._leading = leading
        self._rng = rng
        self.releases: Counter[str] = Counter()
        """Attempts that were released, by rung."""
        self.signals = Durations()
        """From the write that raised a target until the last reset for it was sent."""
        self._raised: dict[str, tuple[int, float]] = {}
        """By gang's uid, the target that was raised and when, until its ranks are reset."""
        self._with_companions: set[str] = set()
        """Uids of gangs whose Services and ConfigMap are known to exist."""
        self._no_spares: dict[str, str] = {}
        """By gang's uid, why it gets no spares, as it was told last."""
        self._beside: set[asyncio.Task[None]] = set()
        """Writes that the next step must not wait for, nor fail with."""

    def pod_body(
        self, gang: Gang, slot: Slot, attempt: int, avoid: Collection[str] = (), node: str = ""
    ) -> dict[str, Any]:
        """The pod of a slot, as it would be created, not on the nodes to `avoid`, or on that node."""
        s = self._settings
        return pods.pod(
            gang,
            slot,
            attempt,
            agent_image=s.agent_image,
            rendezvous=s.rendezvous,
            server_name=s.server_name,
            avoid=avoid,
            node=node,
        )

    async def carry_out(self, plan: Plan, seen: GangObject, gang: Gang) -> None:
        """All actions of the plan, while we lead. Raises what the first failing one raised."""
        for action in plan.actions:
            if not self._leading():
                return
            await self._act(action, seen, gang)

    async def _act(self, action: Action, seen: GangObject, gang: Gang) -> None:
        match action:
            case WriteStatus():
                await self._write_status(action, seen)
            case CreateCompanions():
                await self._create_companions(gang)
            case CreatePods(slots, attempt, avoid, onto):
                await _together([self._create_pod(gang, s, attempt, avoid, onto.get(s.rank, "")) for s in slots])
            case CreateSpares(wanted):
                self._do_beside(self._create_spares(gang, wanted, seen))
            case DeletePods(doomed):
                await _together([self._delete_pod(gang, deletion) for deletion in doomed])
            case StrikeNode(node, strike):
                self._do_beside(self._strike(node, strike))
            case QuarantineNodes(accused):
                self._do_beside(self._quarantine(accused, seen, gang))
            case Prove(uids, coordinator_uid, life_id):
                await _each(uids, lambda uid: self._rendezvous.prove(uid, coordinator_uid, life_id))
            case Reset(uids, attempt):
                await _each(uids, lambda uid: self._rendezvous.reset(uid, attempt))
                target, raised_at = self._raised.pop(gang.uid, (0, 0.0))
                if target == attempt:
                    self.signals.note(asyncio.get_running_loop().time() - raised_at)
            case Ping(uids, promise):
                await _each(uids, lambda uid: self._rendezvous.ping(uid, promise.attempt, promise.ticket))
            case Release(uids, promise):
                await _each(uids, lambda uid: self._rendezvous.release(uid, promise.attempt, promise.ticket))
            case _:
                assert_never(action)

    async def _write_status(self, action: WriteStatus, seen: GangObject) -> None:
        wanted = msgspec.structs.replace(seen, status=action.status)
        try:
            written = await self._client.replace_status(GANGS, wanted)
        except Retry:
            # a conflict, or an answer that was lost: only a live read tells what the record says now
            meta = seen.metadata
            self._cache.wrote_gang(await self._read_again(GANGS, meta.namespace, meta.name))
            raise
        self._cache.wrote_gang(written)
        if action.status.attempt.target > seen.status.attempt.target:
            self._raised[seen.metadata.uid] = action.status.attempt.target, asyncio.get_running_loop().time()
        if action.status.attempt.released > seen.status.attempt.released:
            self.releases[action.status.history[0].rung] += 1
        if action.notice:
            self._do_beside(self.notify(written, action.notice))

    def _do_beside(self, write: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(write)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def notify(self, gang: GangObject, notice: Notice) -> None:
        """Write an Event on the gang."""
        await emit(self._client, self._clock, gang, notice, self._identity, self._rng)

    async def _strike(self, name: str, strike: Strike) -> None:
        known = self._cache.node(name)
        before = strikes.parse(known.metadata.annotations.get(strikes.STRIKES, "")) if known else ()
        body = {"metadata": {"annotations": {strikes.STRIKES: strikes.format((*before, strike))}}}
        try:
            await self._client.patch(NODES, None, name, body, kind="merge")
        except FleetctlError as error:
            log.warning("a failure is not counted against node %s: %s", name, error)

    async def _quarantine(self, accused: Sequence[Accused], seen: GangObject, gang: Gang) -> None:
        if refused := await self._keeper.quarantine(gang, accused):
            await self.notify(seen, Notice("NotQuarantined", refused, "Quarantine", "Warning"))

    async def _create_companions(self, gang: Gang) -> None:
        if gang.uid in self._with_companions:
            return
        await self._ensure(CONFIG_MAPS, gang, pods.authority(gang, self._bundle()))
        for service in pods.services(gang):
            await self._ensure(SERVICES, gang, service)
        self._with_companions.add(gang.uid)

    async def _ensure(self, resource: Resource[Raw], gang: Gang, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        try:
            await self._client.create(resource, gang.namespace, body)
        except AlreadyExists:
            there = await self._read_again(resource, gang.namespace, name)
            _refuse_unless_ours(f"{resource.kind} {name}", there, gang)

    async def _create_pod(self, gang: Gang, slot: Slot, attempt: int, avoid: Collection[str], node: str) -> None:
        try:
            pod = await self._client.create(PODS, gang.namespace, self.pod_body(gang, slot, attempt, avoid, node))
        except AlreadyExists:
            pod = await self._read_again(PODS, gang.namespace, slot.pod_name)
            _refuse_unless_ours(f"pod {slot.pod_name}", pod, gang)
        self._cache.wrote_pod(pod)

    async def _create_spares(self, gang: Gang, wanted: Sequence[Wanted], seen: GangObject) -> None:
        """What keeps spares from being made is told once, and tried again: the gang runs without them."""

        async def create(spare: Wanted) -> None:
            body = spare_pods.pod(gang, spare.group, spare.index, agent_image=self._settings.agent_image)
            self._cache.wrote_pod(await self._client.create(PODS, gang.namespace, body))

        try:
            await _together([create(spare) for spare in wanted])
            self._no_spares.pop(gang.uid, None)
        except AlreadyExists:
            pass  # the watch has not got there
        except Retry as error:
            log.warning("a spare of gang %s/%s is not made: %s", gang.namespace, gang.name, error)
        except FleetctlError as error:
            why = f"a spare cannot be made: {error}"
            log.warning("gang %s/%s: %s", gang.namespace, gang.name, why)
            if self._no_spares.get(gang.uid) != why:
                self._no_spares[gang.uid] = why
                await self.notify(seen, Notice("SpareRefused", why, "CreateSpare", "Warning"))

    async def _read_again(self, resource: Resource[T], namespace: str, name: str) -> T:
        """What stood in the way of our write."""
        try:
            return await self._client.get(resource, namespace, name)
        except NotFound as error:
            raise Retry(f"{resource.kind} {namespace}/{name} was there a moment ago") from error

    async def _delete_pod(self, gang: Gang, deletion: Deletion) -> None:
        """Exactly the pod that was judged. If it has changed since, the API server refuses: we look at it as it is."""
        try:
            await self._client.delete(
                PODS,
                gang.namespace,
                deletion.name,
                uid=deletion.uid,
                resource_version=deletion.version,
                grace_seconds=deletion.grace_s,
            )
        except Conflict:
            with contextlib.suppress(NotFound):
                self._cache.wrote_pod(await self._client.get(PODS, gang.namespace, deletion.name))
            raise
        self._cache.deleted_pod(gang.namespace, deletion.name, deletion.uid, at_once=deletion.grace_s == 0)


def _refuse_unless_ours(what: str, there: Any, gang: Gang) -> None:
    if all(owner.uid != gang.uid for owner in there.metadata.owner_references):
        raise NameTaken(f"{what} exists and is not this gang's: delete it, or give the gang another name")


async def _each(uids: Sequence[str], tell: Callable[[str], None]) -> None:
    """Tell all of them, and let others have their turn now and then: each message is encrypted and sent at once."""
    for number, uid in enumerate(uids, start=1):
        tell(uid)
        if number % TOLD_AT_ONCE == 0:
            await asyncio.sleep(0)


async def _together(calls: list[Coroutine[Any, Any, None]]) -> None:
    """All calls, some at a time; then the first error, if there was one. One that fails does not stop the others."""
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(call: Coroutine[Any, Any, None]) -> FleetctlError | None:
        async with gate:
            try:
                await call
            except FleetctlError as error:
                return error
        return None

    errors = [e for e in await asyncio.gather(*(one(c) for c in calls)) if e]
    if errors:
        raise next((e for e in errors if not isinstance(e, Conflict)), errors[0])
