"""What is known of the machines that gangs run on: their Node objects, who on them can be heard, what the witness saw.

A node is *silent* when not one agent on it can be heard and at least one should be. That is no verdict: what it means
is judged in gang/diagnose/node_state.py. An agent should be heard if it ever was, or if its container runs; and not
before we have led for long enough to be found. Where no agent should be heard, a Node that is not ready makes us look.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from fleetctl.controller.cache import Cache
from fleetctl.controller.views import DOMAINS, node_view, ready
from fleetctl.gang import state
from fleetctl.gang.pods import AGENT
from fleetctl.kube.objects import Node, Pod
from fleetctl.kube.reflector import Key
from fleetctl.rendezvous.server import Rendezvous

REJOIN_S = 15.0
"""Within so many seconds of our leadership every agent that lives has found us: three beats, and its pauses."""


class Nodes:
    """`led_since`: loop time since when we lead, None while we do not. `still_s`: the witness."""

    def __init__(
        self,
        cache: Cache,
        rendezvous: Rendezvous,
        *,
        led_since: Callable[[], float | None],
        still_s: Callable[[str], float],
    ) -> None:
        self._cache = cache
        self._rendezvous = rendezvous
        self._led_since = led_since
        self._still_s = still_s
        self._heard_at: dict[str, float] = {}
        self._progress: dict[Key, tuple[tuple[int, int], float]] = {}
        self._views: dict[str, tuple[Node, state.Node]] = {}
        self._domains: tuple[str, ...] = DOMAINS

    def view(self, name: str) -> state.Node:
        """The node as decisions see it; the same object as before if nothing is new."""
        silent = self._is_silent(name)
        still_s = self._still_s(name) if silent else 0.0
        there = self._cache.node(name)
        if there is None:
            self._views.pop(name, None)
            return node_view(name, None, gone=self._cache.node_is_gone(name), silent=silent, still_s=still_s)
        of, known = self._views.get(name, (None, None))
        if known is None or of is not there or (known.silent, known.still_s) != (silent, still_s):
            known = node_view(name, there, silent=silent, still_s=still_s, labels_of_domains=self._domains)
            self._views[name] = there, known
        return known

    def are_in(self, labels: Iterable[str]) -> None:
        """Those labels name failure domains too: a gang says so (`placement.topologyKeys`)."""
        more = [label for label in labels if label not in self._domains]
        if more:
            self._domains = (*self._domains, *more)
            self._views.clear()

    def silent(self) -> set[str]:
        """The nodes that must be looked at; none while we do not lead."""
        if self._led_since() is None:
            return set()
        return {name for name in self._cache.nodes_in_use() if self._is_silent(name)}

    def others(self) -> Iterator[str]:
        """Nodes whose Leases show that the API server is not behind: first those that gangs use, then those ready."""
        used = set(self._cache.nodes_in_use())

        def doubt(name: str) -> tuple[bool, bool, str]:
            return name not in used, ready(self._cache.node(name)) != "True", name

        return iter(sorted(self._cache.nodes(), key=doubt))

    def heard(self, name: str) -> None:
        """An agent on that node spoke: whatever was observed of its silence begins anew."""
        self._heard_at[name] = asyncio.get_running_loop().time()

    def alive_at(self, name: str) -> float:
        """When we last had reason to believe in that node, loop time: its agent spoke, or its gangs made progress."""
        gangs = {key for pod in self._cache.pods_on(name) if (key := self._cache.gang_of(pod.metadata.uid))}
        return max(self._heard_at.get(name, 0.0), max(map(self._progressed_at, gangs), default=0.0))

    def _progressed_at(self, gang: Key) -> float:
        """When any rank of the gang made a step last; asked for every silent node, and worked out when it is news."""
        as_of = self._rendezvous.progress_told, self._cache.pod_changes
        known, at = self._progress.get(gang, (None, 0.0))
        if known != as_of:
            pods = self._cache.pods(gang).values()
            at = max((self._rendezvous.progressed_at(pod.metadata.uid) for pod in pods), default=0.0)
            self._progress[gang] = as_of, at
        return at

    def _is_silent(self, name: str) -> bool:
        expected = False
        for pod in _living(self._cache.pods_on(name)):
            life = self._rendezvous.life(pod.metadata.uid)
            if life is not None and not life.silent:
                return False
            expected = expected or life is not None or _agent_runs(pod)
        return self._has_led_long_enough() if expected else ready(self._cache.node(name)) != "True"

    def _has_led_long_enough(self) -> bool:
        since = self._led_since()
        return since is not None and asyncio.get_running_loop().time() >= since + REJOIN_S


def _agent_runs(pod: Pod) -> bool:
    return any(c.name == AGENT and c.state.running for c in pod.status.init_container_statuses)


def _living(pods: Iterable[Pod]) -> Iterator[Pod]:
    return (pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed"))
