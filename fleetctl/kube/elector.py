"""At most one leader among several controllers, by a Lease, after client-go's rules.

A candidate never compares the times written in the Lease with its own clock. It notes, on its own monotonic clock, when
it last saw the record *change*; if that is longer ago than the record's duration, the holder is gone. A leader that
cannot renew stops calling itself one after `renew_for`, which is shorter than `duration`, so it has stopped before
anybody else may start.

This is not fencing: a paused process may believe for a moment what is no longer true. Whoever writes as leader also
carries `transitions` and compares-and-swaps.
"""

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from fleetctl.clock import Clock
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError, Conflict, NotFound
from fleetctl.kube.objects import LEASES, Lease, LeaseSpec, ObjectMeta
from fleetctl.kube.retry import JITTER, Seconds
from fleetctl.stamps import rfc3339_micro

log = logging.getLogger(__name__)

ADDRESS = "fleetctl.dev/rendezvous"
"""The Lease's annotation that says where its holder is reached."""
JITTER_FACTOR = 1.2
FRESH_S = 5.0
"""A holder that lives renews every two seconds, and who waits looks every one and a half: for longer than that it is
not well. A thousand agents dial us meanwhile, again and again, to be sent to where nobody answers."""
RELEASE_WITHIN: Seconds = 2.0


class LeaseElector:
    """A candidate for the Lease `name` in `namespace`.

    `identity` must be unique to this process (a pod's name is not, if its container restarts). `address` is where a
    leader is reached, for those who ask another; "" if that is nobody's business. `changed` is called whenever
    `leading`, `lapsed`, `holder` or `transitions` is no longer what it was; it must be quick.

    Seconds: `duration` others wait for a silent leader, `renew_for` a leader goes on trying to renew, `retry` between
    two tries (who waits for another looks more often). Raises ValueError unless duration > renew_for > 1.2 × retry.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        *,
        address: str = "",
        duration: int = 15,
        renew_for: Seconds = 10.0,
        retry: Seconds = 2.0,
        changed: Callable[[], None] = lambda: None,
        rng: random.Random = JITTER,
    ) -> None:
        if not duration > renew_for > JITTER_FACTOR * retry:
            raise ValueError(f"needs duration > renew_for > 1.2 × retry, has {duration}, {renew_for}, {retry}")
        self.identity = identity
        self._client = client
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._address = address
        self._duration = duration
        self._renew_for = renew_for
        self._retry = retry
        self._changed = changed
        self._rng = rng
        self._at_least = 0
        self._seen = LeaseSpec()
        self._seen_address = ""
        self._lease: Lease | None = None
        self._seen_at: Seconds = 0.0
        self._renewed_at: Seconds | None = None
        """When the last successful renewal was *sent*; None while we do not lead."""
        self._ours_until: Seconds = 0.0
        """Nobody else can lead before that: the last renewal, and how long others wait for us."""
        self._told: tuple[bool, bool, str, int] = (False, False, "", 0)

    @property
    def leading(self) -> bool:
        """True from a renewal that succeeded until `renew_for` seconds after it was sent, and not a moment longer."""
        return self._renewed_at is not None and _now() < self._renewed_at + self._renew_for

    @property
    def lapsed(self) -> bool:
        """We led and could not renew in time, and nobody else can lead yet: there is nobody to send anybody to."""
        return not self.leading and self.holder == self.identity and _now() < self._ours_until

    @property
    def holder(self) -> str:
        """Who held the Lease when we last saw it; empty if nobody."""
        return self._seen.holder_identity

    @property
    def holders_address(self) -> str:
        """Where the holder is reached; empty if nobody said, nobody holds the Lease, or it has not moved of late."""
        return self._seen_address if self.holder and _now() < self._seen_at + FRESH_S else ""

    @property
    def transitions(self) -> int:
        """How often the Lease had changed hands when we last saw it: the number of the holder's term."""
        return self._seen.lease_transitions

    def count_from(self, transitions: int) -> None:
        """Of a later term than this Lease knows of there are traces: it was deleted. From our next renewal on, ours has
        this number at least."""
        self._at_least = transitions

    async def run(self) -> None:
        """Acquire, renew, lose, acquire again, until cancelled; then release.

        Stop the leader's work before you cancel this: the next leader starts at once.
        """
        try:
            while True:
                await self._acquire()
                log.info("%s leads, term %d", self.identity, self.transitions)
                await self._keep()
                log.warning("%s no longer leads; the Lease is held by %r", self.identity, self.holder)
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while not await self._attempt(within=self._renew_for):  # noqa: ASYNC110 - another process decides this
            await asyncio.sleep(self._pause())

    def _pause(self) -> Seconds:
        """Until the next look: soon while our agents wait for us, or another leads, who may let go any moment; then not
        after its time is up."""
        if self.lapsed:
            return self._retry
        if not self._held_by_another():
            return self._retry * (1 + JITTER_FACTOR * self._rng.random())
        left = self._seen_at + self._seen.lease_duration_seconds - _now()
        return min(self._retry * (0.5 + 0.25 * self._rng.random()), left)

    async def _keep(self) -> None:
        """Returns when leadership is lost."""
        while self._renewed_at is not None and (left := self._renewed_at + self._renew_for - _now()) > 0:
            await asyncio.sleep(min(self._retry, left))
            left = self._renewed_at + self._renew_for - _now()
            if left > 0:
                await self._attempt(within=left)
        self._renewed_at = None
        self._tell()
        asyncio.get_running_loop().call_at(self._ours_until, self._tell)

    async def _attempt(self, within: Seconds) -> bool:
        """One try, over after at most `within` seconds: true if we hold the Lease now."""
        # half the deadline, as in client-go: one dead connection must not cost all of it
        within = min(within, self._renew_for / 2)
        try:
            async with asyncio.timeout(within):
                return await self._acquire_or_renew(within)
        except TimeoutError:
            log.warning("lease %s: no answer within %.1f s", self._name, within)
        except ApiError as error:
            log.warning("lease %s: %s", self._name, error)
        finally:
            self._tell()
        return False

    async def _acquire_or_renew(self, within: Seconds) -> bool:
        lease = await self._read(within)
        if self._held_by_another():
            self._renewed_at = None
            return False
        sent_at = _now()
        there = lease.metadata if lease else ObjectMeta(namespace=self._namespace, name=self._name)
        meta = msgspec.structs.replace(there, annotations={**there.annotations, ADDRESS: self._address})
        wanted = Lease(metadata=meta, spec=self._next_spec())
        if lease is None:
            written = await self._client.create(LEASES, self._namespace, wanted, timeout=within)
        else:
            written = await self._client.replace(LEASES, wanted, timeout=within)
        self._observe(written)
        self._renewed_at, self._ours_until = sent_at, sent_at + self._duration
        return True

    async def _read(self, within: Seconds) -> Lease | None:
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name, timeout=within)
        except NotFound:
            return None  # deleted, perhaps; what was last seen still counts, so its holder is not robbed
        self._observe(lease)
        return lease

    def _observe(self, lease: Lease) -> None:
        self._lease = lease
        self._seen_address = lease.metadata.annotations.get(ADDRESS, "")
        if lease.spec != self._seen:
            self._seen = lease.spec
            self._seen_at = _now()

    def _held_by_another(self) -> bool:
        held = self.holder not in {"", self.identity}
        return held and _now() < self._seen_at + self._seen.lease_duration_seconds

    def _next_spec(self) -> LeaseSpec:
        now = rfc3339_micro(self._clock.now())
        mine = self.holder == self.identity
        first = self._seen == LeaseSpec()
        return LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=self._duration,
            acquire_time=self._seen.acquire_time if mine else now,
            renew_time=now,
            lease_transitions=max(self.transitions + (0 if mine or first else 1), self._at_least),
        )

    async def _release(self) -> None:
        """Let the next one in without waiting. Best effort: a Lease not released runs out by itself."""
        held, self._renewed_at, self._ours_until = self._renewed_at is not None, None, 0.0
        self._tell()
        if not held:
            return
        try:
            async with asyncio.timeout(RELEASE_WITHIN):
                try:
                    await self._let_go()
                except Conflict:  # somebody touched it, or took it, or our last renewal was never answered
                    await self._read(RELEASE_WITHIN)
                    await self._let_go()
        except (TimeoutError, ApiError) as error:
            log.warning("lease %s: not released: %s", self._name, error)

    async def _let_go(self) -> None:
        """Of the Lease as last seen: there may be no time to read it first."""
        lease = self._lease
        if lease is not None and self.holder == self.identity:
            spec = msgspec.structs.replace(lease.spec, holder_identity="", lease_duration_seconds=1)
            self._observe(await self._client.replace(LEASES, msgspec.structs.replace(lease, spec=spec)))
            self._tell()

    def _tell(self) -> None:
        now = (self.leading, self.lapsed, self.holder, self.transitions)
        if now != self._told:
            self._told = now
            self._changed()


def _now() -> Seconds:
    return asyncio.get_running_loop().time()
