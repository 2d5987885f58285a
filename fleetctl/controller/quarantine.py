"""Quarantine on the Nodes: set when a machine is judged, within bounds that all gangs share; lifted when it is over.

What is quarantined, and when that ends, gang/quarantine.py says; here it is written. A Node's taints are a list that
others write too, so each write names the version it was made for, and is made anew if somebody wrote first.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from fleetctl.clock import Clock
from fleetctl.controller.cache import Cache
from fleetctl.controller.views import DOMAINS, domains_of, node_view
from fleetctl.errors import FleetctlError
from fleetctl.gang import quarantine
from fleetctl.gang.diagnose.node_state import BAD_CONDITIONS, is_suspect
from fleetctl.gang.identity import Gang
from fleetctl.gang.quarantine import QUARANTINE, Accused, Mark, Room
from fleetctl.gang.spec import GangSpec
from fleetctl.gang.strikes import STRIKES
from fleetctl.kube.client import KubeClient
from fleetctl.kube.errors import Conflict
from fleetctl.kube.objects import NODES, Node, Taint
from fleetctl.stamps import rfc3339, unix_seconds

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0
CALLS_AT_ONCE = 20
TRIES = 5
TELL_AGAIN_S = 3600.0
NAMED = 8
"""So many refused nodes are named in a sentence."""

Change = Callable[[Node], Mapping[str, Any] | None]
"""What to patch in a Node as it is now; None: nothing."""


class Keeper:
    """Puts machines into quarantine and lets them out. `watch`: the namespace whose gangs we see (None: all); those of
    others are other controllers' to take off a Node."""

    def __init__(
        self, client: KubeClient, cache: Cache, clock: Clock, *, leading: Callable[[], bool], watch: str | None = None
    ) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock
        self._leading = leading
        self._watch = watch
        self._gate = asyncio.Semaphore(CALLS_AT_ONCE)
        self._look = asyncio.Event()
        self._under_way: set[tuple[str, str]] = set()
        """(node, gang) of the writes that have no answer yet."""
        self._written: dict[str, Node] = {}
        """Nodes as our writes left them, until the watch has got there."""
        self._told: dict[tuple[str, str], float] = {}
        """When each gang was told that a node is not quarantined."""

    async def quarantine(self, gang: Gang, accused: Sequence[Accused]) -> str:
        """Keep new pods off these machines, as far as the bounds allow. Returns what the gang's owner must be told of
        those that are not quarantined, "" if that is nothing, or nothing new."""
        name = f"{gang.namespace}/{gang.name}"
        chosen, refused = self._chosen(gang, name, accused)
        self._under_way |= {(each.node, name) for each in chosen}
        sentence = self._refusal(name, refused)
        await asyncio.gather(*(self._quarantine(name, each) for each in chosen))
        return sentence

    def look_now(self) -> None:
        """A gang is gone."""
        self._look.set()

    async def run(self) -> None:
        """Lift what is over, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._look.wait()
            self._look.clear()
            if self._leading():
                await self._lift_what_is_over()

    def _chosen(self, gang: Gang, name: str, accused: Sequence[Accused]) -> tuple[list[Accused], dict[str, str]]:
        """Who is to be quarantined because of that gang; and by node why others are not."""
        chosen, refused, room = [], {}, None
        by_others = {node for node, _ in self._under_way}
        for each in accused:
            node = self._node(each.node)
            if node is None or (each.node, name) in self._under_way:
                continue
            if QUARANTINE in node.metadata.labels:
                if (mark := mark_of(node)) and name not in mark.gangs:
                    chosen.append(each)
            elif not quarantine.is_selected(node.metadata.labels, gang.spec.groups):
                refused[each.node] = "no nodeSelector of the gang selects it"
            elif each.node in by_others:
                chosen.append(each)
            else:
                room = room or self._room(gang.spec)
                if why := room.why_not(each.node, gang.spec.recovery.quarantine):
                    refused[each.node] = why
                else:
                    room.take(each.node)
                    chosen.append(each)
        return chosen, refused

    def _room(self, spec: GangSpec) -> Room:
        keys = spec.placement.topology_keys or DOMAINS
        nodes = {name: node for name in self._cache.nodes() if (node := self._node(name))}
        taken = {name for name, node in nodes.items() if QUARANTINE in node.metadata.labels}
        fleet = {name: domains_of(node.metadata.labels, keys) for name, node in nodes.items()}
        return Room(fleet, taken | {node for node, _ in self._under_way})

    def _node(self, name: str) -> Node | None:
        """The Node, our own latest write included."""
        seen, own = self._cache.node(name), self._written.get(name)
        if own is not None and seen is not None and own.metadata.uid == seen.metadata.uid and _is_newer(own, seen):
            return own
        self._written.pop(name, None)
        return seen

    def _refusal(self, gang: str, refused: Mapping[str, str]) -> str:
        now = asyncio.get_running_loop().time()
        self._told = {key: at for key, at in self._told.items() if now < at + TELL_AGAIN_S}
        news = sorted(node for node in refused if (gang, node) not in self._told)
        self._told |= {(gang, node): now for node in news}
        if not news:
            return ""
        more = ", …" if len(news) > NAMED else ""
        sentence = f"not quarantined, though judged bad: {', '.join(news[:NAMED])}{more}: {refused[news[0]]}"
        log.warning(sentence, extra={"gang": gang})
        return sentence

    async def _quarantine(self, gang: str, judged: Accused) -> None:
        try:
            async with self._gate:
                node = self._node(judged.node)
                if node is None or not self._leading():
                    return
                at = rfc3339(self._clock.now())
                self._written[judged.node] = await change(self._client, node, quarantined(judged, gang, at))
            log.info("node %s is quarantined: %s", judged.node, judged.evidence, extra={"gang": gang})
        except FleetctlError as error:
            log.warning("node %s is not quarantined: %s", judged.node, error, extra={"gang": gang})
        finally:
            self._under_way.discard((judged.node, gang))

    async def _lift_what_is_over(self) -> None:
        gangs = self._gangs()
        for name in list(self._written):
            self._node(name)  # forgets what the watch has shown
        await asyncio.gather(*(self._review(node, mark, gangs) for node, mark in self._quarantined()))

    def _gangs(self) -> dict[str, GangSpec]:
        found = ((key, self._cache.gang(key)) for key in self._cache.gangs())
        return {"/".join(key): gang.spec for key, gang in found if gang is not None}

    def _quarantined(self) -> Iterator[tuple[Node, Mark]]:
        for name in list(self._cache.nodes()):
            node = self._node(name)
            if node is not None and QUARANTINE in node.metadata.labels and (mark := mark_of(node)):
                yield node, mark

    async def _review(self, node: Node, mark: Mark, gangs: Mapping[str, GangSpec]) -> None:
        name = node.metadata.name
        ours = [gang for gang in mark.gangs if self._watch is None or gang.startswith(f"{self._watch}/")]
        gone = [gang for gang in ours if gang not in gangs]
        left = [gangs[gang].recovery.quarantine for gang in ours if gang in gangs]
        all_known = len(ours) == len(mark.gangs)
        why = quarantine.why_over(
            mark,
            uid=node.metadata.uid,
            gone=gone,
            clean_s=_clean_s(node, mark, self._clock.now().timestamp()),
            after_hours=quarantine.lift_after_hours(left) if all_known else 0,
        )
        if not (why or gone):
            return

        def patch(there: Node) -> Mapping[str, Any] | None:
            if mark_of(there) != mark:
                return None  # somebody has changed it: we look again in a minute
            return lifted(there) if why else _annotated(mark.without(gone))

        try:
            async with self._gate:
                self._written[name] = await change(self._client, node, patch)
            if why:
                log.info("node %s is quarantined no longer: %s", name, why)
        except FleetctlError as error:
            log.warning("the quarantine of node %s is not lifted: %s", name, error)


async def change(client: KubeClient, node: Node, what: Change) -> Node:
    """Patch the Node as it is; if somebody wrote first, as it is then. Returns what it is now."""
    uid = node.metadata.uid
    for _ in range(TRIES - 1):
        with contextlib.suppress(Conflict):
            return await _changed(client, node, what)
        node = await client.get(NODES, None, node.metadata.name)
        if node.metadata.uid != uid:
            return node  # another machine
    return await _changed(client, node, what)


def mark_of(node: Node) -> Mark | None:
    """What its annotation says, None if there is none that can be read."""
    return quarantine.parse(node.metadata.annotations.get(QUARANTINE, ""))


def quarantined(judged: Accused, gang: str, at: str) -> Change:
    """Adds label, taint and annotation; to a Node that has them, one more gang that wants it."""

    def patch(node: Node) -> Mapping[str, Any] | None:
        mark = mark_of(node) if QUARANTINE in node.metadata.labels else None
        if mark is not None:
            return None if gang in mark.gangs else _annotated(mark.wanted_by(gang))
        mark = Mark(rule=judged.rule, evidence=judged.evidence, gangs=(gang,), at=at, uid=node.metadata.uid)
        taints = [*_others(node), Taint(key=QUARANTINE, value=judged.rule, effect="NoSchedule")]
        annotated = _annotated(mark)["metadata"]
        return {
            "metadata": {"labels": {QUARANTINE: "true"}, **annotated},
            "spec": {"taints": msgspec.to_builtins(taints)},
        }

    return patch


def lifted(node: Node, *, forgiven: bool = False) -> Mapping[str, Any] | None:
    """Removes label, taint and annotation, those that are there; None if none is. `forgiven`: the strikes as well."""
    meta, others = node.metadata, _others(node)
    if QUARANTINE not in meta.labels and QUARANTINE not in meta.annotations and len(others) == len(node.spec.taints):
        return None
    annotations = (QUARANTINE, STRIKES) if forgiven else (QUARANTINE,)
    return {
        "metadata": {"labels": {QUARANTINE: None}, "annotations": dict.fromkeys(annotations)},
        "spec": {"taints": msgspec.to_builtins(others) or None},
    }


async def _changed(client: KubeClient, node: Node, what: Change) -> Node:
    body = what(node)
    if body is None:
        return node
    metadata = {**body["metadata"], "resourceVersion": node.metadata.resource_version}
    return await client.patch(NODES, None, node.metadata.name, {**body, "metadata": metadata}, kind="merge")


def _annotated(mark: Mark) -> dict[str, Any]:
    return {"metadata": {"annotations": {QUARANTINE: quarantine.format(mark)}}}


def _others(node: Node) -> list[Taint]:
    return [taint for taint in node.spec.taints if taint.key != QUARANTINE]


def _clean_s(node: Node, mark: Mark, now: float) -> float:
    """For how long nothing has spoken against the machine."""
    view = replace(node_view(node.metadata.name, node), quarantined=False)
    if is_suspect(view):
        return 0.0
    ends = (unix_seconds(c.last_transition_time) for c in node.status.conditions if c.type in BAD_CONDITIONS)
    return quarantine.clean_s(mark, view.strikes, max(ends, default=0.0), now)


def _is_newer(one: Node, other: Node) -> bool:
    return int(one.metadata.resource_version) > int(other.metadata.resource_version)
