"""Watches the kubelets' Leases of silent nodes: for how long has this one stood still while others moved?

A renewTime is an opaque string that changes or does not; no clock is ever compared with ours. Every doubt is resolved
so that a node seems to live longer: an answer counts from when it arrived, a read from when it was sent, a movement
from the read before the one that showed it. Leases that all stand still are news of the API server or of the network,
not of one node; when they move again, the observation begins anew, because kubelets come back one after the other.

Only observes: what follows, gang/diagnose says. Reads nothing while no node is silent. Give it a connection of its own.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from math import inf

from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import ApiError, NotFound
from fleetctl.kube.objects import LEASES

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
LOOK_EVERY_S = 2.0
LOOK_AT_MOST_EVERY_S = 0.5
LOOK_WITHIN_S = 3.0
"""What a look may take, and so each of its reads, the client's repetitions included."""
READS_AT_ONCE = 20
READS_A_LOOK = 100
"""Of more silent nodes than that, some wait for the next look: a thousand ranks may take long to restart in place."""
REFERENCES = 2
RENEW_S = 10.0
"""A kubelet renews its Lease so often: for so long a movement shows that kubelets can."""
LONGEST_LULL_S = 16.0
"""Renewals may be 10.4 s apart and lie between two looks each, so even a single other node moves more often."""


@dataclass(slots=True)
class _Lease:
    """What was seen of one node's Lease. `value` is its renewTime, None if it does not exist.

    Loop times: `since` when the first answer with this value arrived, `sent` when the last read that got it was sent.
    """

    value: str | None
    since: float
    sent: float


class LeaseWitness:
    """Observes the Leases of the nodes in `watched()`, which is asked at every look.

    `references()` are names of nodes, those whose kubelets most likely live first, always in the same order; the first
    two that are not watched are read too. `progressed_at(node)` is the loop time of the latest progress that any rank
    of a gang with a pod on that node reported, 0 for never. `changed(node)` is called after each look for every watched
    node, and once for a node that is no longer watched.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        watched: Callable[[], Collection[str]],
        references: Callable[[], Iterable[str]],
        progressed_at: Callable[[str], float],
        changed: Callable[[str], None],
    ) -> None:
        self._client = client
        self._ask_watched = watched
        self._ask_references = references
        self._progressed_at = progressed_at
        self._changed = changed
        self._wanted = asyncio.Event()
        self._watched: frozenset[str] = frozenset()
        self._references: frozenset[str] = frozenset()
        self._leases: dict[str, _Lease] = {}
        self._asked_at: dict[str, float] = {}
        self._movers: list[tuple[float, str]] = []
        """The two nodes whose Leases moved last, and when: one of them is another than the node in question."""
        self._moved_at = 0.0
        self._moving_since = -inf
        """Since then there was no lull."""

    async def run(self) -> None:
        """Look every two seconds until cancelled, whatever the API server says."""
        while True:
            self._wanted.clear()
            started = _now()
            await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(started + LOOK_EVERY_S):
                    await self._wanted.wait()
            await asyncio.sleep(started + LOOK_AT_MOST_EVERY_S - _now())

    def look_now(self) -> None:
        """Do not wait for the next look: somebody fell silent."""
        self._wanted.set()

    def is_watched(self, node: str) -> bool:
        """Whether the latest look was also at this node, because it was silent."""
        return node in self._watched

    def still_s(self, node: str) -> float:
        """For how long this node's Lease is proven not to have moved while others' did; 0.0 if it is not watched."""
        seen = self._leases.get(node)
        if seen is None or node not in self._watched:
            return 0.0
        others_moved_at = max((at for at, mover in self._movers if mover != node), default=-inf)
        start = max(seen.since, self._moving_since, self._progressed_at(node))
        return max(0.0, min(seen.sent, others_moved_at + RENEW_S) - start)

    async def _look(self) -> None:
        watched = frozenset(self._ask_watched())
        if not self._watched:
            self._movers, self._moved_at, self._moving_since = [], _now(), -inf
        references = list(islice((n for n in self._ask_references() if n not in watched), REFERENCES if watched else 0))
        # a reference that falls silent begins anew, as any other node does
        kept = (self._watched & watched) | self._references.intersection(references)
        self._leases = {node: lease for node, lease in self._leases.items() if node in kept}
        self._asked_at = {node: at for node, at in self._asked_at.items() if node in kept}
        forgotten = self._watched - watched
        self._watched, self._references = watched, frozenset(references)
        # without the references nothing is proven; of the others, those come first that the last look did not get to
        longest_unasked = sorted(watched, key=lambda node: (self._asked_at.get(node, -inf), node))
        await self._read_all([*references, *longest_unasked[:READS_A_LOOK]])
        for node in sorted(watched | forgotten):
            self._changed(node)

    async def _read_all(self, nodes: Sequence[str]) -> None:
        gate = asyncio.Semaphore(READS_AT_ONCE)
        try:
            async with asyncio.timeout(LOOK_WITHIN_S), asyncio.TaskGroup() as reads:
                for node in nodes:
                    reads.create_task(self._read(node, gate))
        except TimeoutError:
            log.warning("%d Leases could not all be read within %g s", len(nodes), LOOK_WITHIN_S)

    async def _read(self, node: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            self._asked_at[node] = sent = _now()
            try:
                value = await self._renew_time(node)
            except ApiError as error:
                log.warning("the Lease of node %s was not read: %s", node, error)
            else:
                self._take(node, value, sent)

    async def _renew_time(self, node: str) -> str | None:
        try:
            lease = await self._client.get(LEASES, NAMESPACE, node, timeout=LOOK_WITHIN_S)
        except NotFound as error:
            if error.reason != "NotFound":
                raise  # a load balancer's page is not the API server's word
            return None
        return lease.spec.renew_time or ""

    def _take(self, node: str, value: str | None, sent: float) -> None:
        seen = self._leases.get(node)
        if seen is not None and seen.value == value:
            seen.sent = sent
            return
        if seen is not None and value is not None:  # who deletes a Lease is no kubelet
            self._note_movement(node, seen.sent)
        self._leases[node] = _Lease(value, since=_now(), sent=sent)

    def _note_movement(self, node: str, earliest: float) -> None:
        """A kubelet renewed its Lease, at `earliest` then and now at the latest."""
        now = _now()
        if now - self._moved_at > LONGEST_LULL_S:
            self._moving_since = now
        self._moved_at = max(self._moved_at, earliest)
        others = [(at, mover) for at, mover in self._movers if mover != node]
        self._movers = sorted([*others, (earliest, node)])[-2:]


def _now() -> float:
    return asyncio.get_running_loop().time()
