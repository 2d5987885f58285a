"""`fleetctl status GANG`: what a gang is doing and why, from the API server alone. Reads; changes nothing."""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from fleetctl.cli.quarantine import quarantined
from fleetctl.clock import SystemClock
from fleetctl.controller.quarantine import mark_of
from fleetctl.controller.resources import GANGS, GangObject
from fleetctl.controller.views import gang_view, members
from fleetctl.controller.views import spares as spares_of
from fleetctl.errors import GiveUp
from fleetctl.gang.activity import activity, by_activity
from fleetctl.gang.explain import done, failed, outcome
from fleetctl.gang.pods import LABEL_GANG
from fleetctl.gang.spec import Recovered
from fleetctl.gang.state import Member, Spare
from fleetctl.kube.auth import Endpoint, load_endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.kube.connect import connect
from fleetctl.kube.errors import Forbidden, NotFound
from fleetctl.kube.objects import PODS, Pod

Nodes = Sequence[str] | None
"""Names; None: whoever asks may not list nodes."""


def run(options: argparse.Namespace) -> int:
    """Print the status of one gang."""
    gang, ranks, spares, nodes = asyncio.run(_read(options))
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(as_json(gang, ranks, spares, nodes))).decode())
    else:
        print("\n".join(as_text(gang, ranks, SystemClock().now(), spares, nodes)))
    return 0


async def _read(options: argparse.Namespace) -> tuple[GangObject, tuple[Member, ...], tuple[Spare, ...], Nodes]:
    endpoint = await load_endpoint(options.kubeconfig, options.context)
    async with connect(endpoint, "status") as client:
        gang, pods = await find(client, namespace_of(options, endpoint), options.gang)
        nodes = await quarantined_by(client, gang)
    view = gang_view(gang)
    ranks, spares = members(view, pods, lambda _: None, lambda _: None), spares_of(view, pods, lambda _: None)
    return gang, ranks, spares, nodes


async def quarantined_by(client: KubeClient, gang: GangObject) -> Nodes:
    """The nodes that get no new pods because of what this gang met there."""
    try:
        nodes = await quarantined(client)
    except Forbidden:
        return None
    name = f"{gang.metadata.namespace}/{gang.metadata.name}"
    return [node.metadata.name for node in nodes if (mark := mark_of(node)) and name in mark.gangs]


def namespace_of(options: argparse.Namespace, endpoint: Endpoint) -> str:
    """The one that was asked for, or the context's."""
    return options.namespace or endpoint.namespace


async def find(client: KubeClient, namespace: str, name: str) -> tuple[GangObject, dict[str, Pod]]:
    """A gang, and its pods by name. Raises GiveUp if there is no such gang."""
    try:
        gang = await client.get(GANGS, namespace, name)
    except NotFound as error:
        raise GiveUp(
            f'gang "{name}" not found in namespace "{namespace}": see kubectl get gangs -A '
            "(no such resource? kubectl apply -k manifests)"
        ) from error
    found = await client.list(PODS, namespace, label_selector=f"{LABEL_GANG}={name}")
    return gang, {pod.metadata.name: pod for pod in found.items}


def as_text(
    gang: GangObject, ranks: tuple[Member, ...], now: datetime, spares: Sequence[Spare] = (), nodes: Nodes = None
) -> Iterator[str]:
    """The lines of the status. `nodes`: those in quarantine because of this gang."""
    status, record = gang.status, gang.status.attempt
    running = status.condition("Running")
    yield f"Gang:     {gang.metadata.namespace}/{gang.metadata.name}"
    if running:
        yield f"State:    {running.reason}{_age(running.last_transition_time, now)}"
        yield f"          {running.message}"
    else:
        yield "State:    New: no controller has looked at it yet; is one running?"
    policy = gang.spec.recovery
    if policy.mode == "Observe" and not policy.paused:
        yield "Mode:     Observe: decides and reports, touches nothing"
    yield f"Attempt:  {record.target}" + (f" (released: {record.released})" if record.target > record.released else "")
    doing = by_activity(ranks)
    yield f"Ready:    {sum(1 for m in ranks if _trains(m))}/{gang.spec.size}"
    width = max((len(of) for of in doing.values()), default=0)
    for number, (what, of) in enumerate(doing.items()):
        yield f"{'Ranks:' if number == 0 else '':9} {of:{width}}  {what}"
    if wanted := sum(group.spares for group in gang.spec.groups):
        yield f"Spares:   {_ready(spares)}/{wanted} ready"
    if nodes:
        yield f"Nodes:    in quarantine: {', '.join(nodes)}; see fleetctl quarantine"
    latch = status.breaker
    if latch:
        yield f"Breaker:  opened {_age(latch.since, now).removeprefix(', ')}"
        yield f"          {latch.message}"
    for kind in ("Held", "Failed", "Completed", "Accepted"):
        condition = status.condition(kind)
        if latch and condition and condition.message == latch.message:
            continue
        told = condition and (kind != "Accepted" or condition.reason == "AcceptedWithWarnings")
        if condition and told and condition.status == "True":
            yield f"{kind + ':':9} {condition.message}"
    for last in status.history[:1]:
        yield f"Last:     attempt {last.attempt}: {_how(last)}, released after {last.seconds.total:.1f} s"
        yield f"          (at the barrier after {last.seconds.barrier:.1f} s){_age(last.at, now)}"
        if came := outcome(last, status):
            yield f"          {came}"
    if status.holds("Failed") or latch or any(failed(last, status) for last in status.history[:1]):
        yield f"          see fleetctl explain {gang.metadata.name} -n {gang.metadata.namespace}"
    spent, budget = status.budgets.application, policy.budgets.application
    yield (
        f"Budget:   {sum(spent.hours.values())} of {budget.restarts} restarts in {budget.within_hours} h, "
        f"{spent.since_progress} of {budget.without_progress} in a row without progress"
    )
    if lost := sum(status.budgets.node.hours.values()):
        allowed = policy.budgets.node
        yield f"          {lost} of {allowed.restarts} because of nodes or lost pods in {allowed.within_hours} h"


def _how(last: Recovered) -> str:
    begins = last.rung in ("Start", "Resume")
    return done(last) if begins else f"{last.cause.message}; {done(last)}"


def as_json(
    gang: GangObject, ranks: tuple[Member, ...], spares: Sequence[Spare] = (), nodes: Nodes = None
) -> dict[str, Any]:
    """The same for programs: the Gang's status, and what each rank does."""
    running = gang.status.condition("Running")
    return {
        "namespace": gang.metadata.namespace,
        "name": gang.metadata.name,
        "size": gang.spec.size,
        "ready": sum(1 for m in ranks if _trains(m)),
        "spares": {"wanted": sum(group.spares for group in gang.spec.groups), "ready": _ready(spares)},
        "quarantined": nodes,
        "state": running.reason if running else "New",
        "message": running.message if running else "",
        "ranks": by_activity(ranks),
        "status": msgspec.to_builtins(gang.status),
    }


def _ready(spares: Sequence[Spare]) -> int:
    return sum(1 for spare in spares if spare.ready and not spare.deleting)


def _trains(member: Member) -> bool:
    return activity(member) == "training"


def _age(stamp: str, now: datetime) -> str:
    seconds = max(0, int((now - datetime.fromisoformat(stamp)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f", {seconds // size}{unit} ago"
    return f", {seconds}s ago"
