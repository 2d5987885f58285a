"""`fleetctl quarantine`: which nodes get no new pods, and why. With `--lift NODE` that node gets pods again.

Needs the API server alone. Whoever lifts a quarantine vouches for the machine, so what counted against it is forgiven:
else the next failure there, whatever its reason, would make it a lemon again.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from fleetctl.clock import SystemClock
from fleetctl.controller.quarantine import change, lifted, mark_of
from fleetctl.errors import GiveUp
from fleetctl.gang import strikes
from fleetctl.gang.quarantine import QUARANTINE, Mark
from fleetctl.kube.auth import load_endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.kube.connect import connect
from fleetctl.kube.errors import NotFound
from fleetctl.kube.objects import NODES, Node

HEADINGS = ("NODE", "AGE", "RULE", "GANGS", "EVIDENCE")


def run(options: argparse.Namespace) -> int:
    """Print the nodes in quarantine, or let one out."""
    nodes = asyncio.run(_ask(options))
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(as_json(nodes))).decode())
    elif options.lift:
        print("\n".join(as_lifted(nodes[0], SystemClock().now())))
    else:
        print("\n".join(as_text(nodes, SystemClock().now())))
    return 0


async def _ask(options: argparse.Namespace) -> list[Node]:
    endpoint = await load_endpoint(options.kubeconfig, options.context)
    async with connect(endpoint, "quarantine") as client:
        return [await lift(client, options.lift)] if options.lift else await quarantined(client)


async def quarantined(client: KubeClient) -> list[Node]:
    """The nodes in quarantine, by name."""
    found = await client.list(NODES, label_selector=QUARANTINE)
    return sorted(found.items, key=lambda node: node.metadata.name)


async def lift(client: KubeClient, name: str) -> Node:
    """Let a node out. Returns it as it was. Raises GiveUp if it is not in quarantine, or there is none of that name."""
    try:
        node = before = await client.get(NODES, None, name)
    except NotFound as error:
        raise GiveUp(f'node "{name}" not found: see fleetctl quarantine') from error
    if lifted(node) is None:
        raise GiveUp(f'node "{name}" is not in quarantine: see fleetctl quarantine')
    await change(client, node, lambda there: lifted(there, forgiven=True))
    return before


def as_text(nodes: Sequence[Node], now: datetime) -> Iterator[str]:
    """A line for each."""
    if not nodes:
        yield "no node is in quarantine"
        return
    rows = [HEADINGS, *(_row(node, now) for node in nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def as_lifted(before: Node, now: datetime) -> Iterator[str]:
    """What was done. `before`: the node as it was."""
    _, age, rule, gangs, evidence = _row(before, now)
    struck = len(_strikes(before))
    forgiven = f", {struck} {'strike is' if struck == 1 else 'strikes are'} forgiven" if struck else ""
    yield f"node {before.metadata.name} gets pods again: it is quarantined no longer{forgiven}"
    yield f"it was for {age} ({rule}, by {gangs}): {evidence}"


def as_json(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [{"node": node.metadata.name, **msgspec.to_builtins(_mark(node))} for node in nodes]


def _row(node: Node, now: datetime) -> tuple[str, ...]:
    mark = _mark(node)
    age = _age(now.timestamp() - mark.since) if mark.since else "?"
    return node.metadata.name, age, mark.rule or "?", ",".join(mark.gangs) or "?", mark.evidence


def _mark(node: Node) -> Mark:
    """What its annotation says; what the taint does, if somebody has spoilt that."""
    rule = next((taint.value for taint in node.spec.taints if taint.key == QUARANTINE), "")
    return mark_of(node) or Mark(rule=rule, evidence=f"its annotation {QUARANTINE} cannot be read")


def _strikes(node: Node) -> Sequence[object]:
    return strikes.parse(node.metadata.annotations.get(strikes.STRIKES, ""))


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
