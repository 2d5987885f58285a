"""`fleetctl explain GANG`: what happened to a gang, on what evidence, what was done about it and what was not, and why.

Reads the API server; changes nothing. What was stored when it happened is shown as it was stored. Of a rank or a node
the pods and the Node are judged once more, by the controller's own rules but without what only it hears and watches
(the agents, the nodes' Leases); whatever comes of that is marked.
"""

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from fleetctl.cli.status import find, namespace_of
from fleetctl.clock import SystemClock
from fleetctl.controller.resources import GangObject
from fleetctl.controller.views import gang_view, members, node_view
from fleetctl.errors import GiveUp
from fleetctl.gang.activity import activity, by_activity
from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.diagnose.case import Circumstances
from fleetctl.gang.explain import STAMP, UNTIMED, Story, labelled, standing, stories, told
from fleetctl.gang.state import Member, Node, Promise, Seconds, Verdict
from fleetctl.kube.auth import load_endpoint
from fleetctl.kube.client import KubeClient
from fleetctl.kube.connect import connect
from fleetctl.kube.errors import Forbidden, NotFound
from fleetctl.kube.objects import NODES
from fleetctl.stamps import rfc3339

AGAIN = "diagnosed again from what the API server shows now; agents are not heard here, and Leases not watched"
NOTHING = "nothing is wrong with it that the API server shows"
_READ_OF_NODES = ("name", "exists", "ready", "taints", "conditions", "domains", "strikes", "quarantined")
NAMES_MAX = 20
"""So many names of what there is are told to whoever asked for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One of these, or none: the gang's latest incident."""

    rank: int | None = None
    node: str = ""
    incident: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read. `nodes`: those that were asked for, by name; None where we may not read it."""

    gang: GangObject
    ranks: tuple[Member, ...]
    nodes: Mapping[str, Node | None]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`story`: what is stored. `members`: the ranks that were asked for, by number or by node; `verdicts` what is wrong
    with them now, None if that was not looked at."""

    story: Story | None = None
    members: tuple[Member, ...] = ()
    verdicts: tuple[Verdict, ...] | None = None


def run(options: argparse.Namespace) -> int:
    """Print the explanation."""
    asked = Question(rank=options.rank, node=options.node, incident=options.incident)
    seen = asyncio.run(_read(options, asked))
    found = answer(seen, asked)
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(as_json(seen, asked, found))).decode())
    else:
        print("\n".join(as_text(seen, asked, found)))
    return 0


async def _read(options: argparse.Namespace, asked: Question) -> Seen:
    endpoint = await load_endpoint(options.kubeconfig, options.context)
    async with connect(endpoint, "explain") as client:
        return await look(client, namespace_of(options, endpoint), options.gang, asked, SystemClock().now())


async def look(client: KubeClient, namespace: str, name: str, asked: Question, now: datetime) -> Seen:
    """Reads the gang, its pods, and the Node that the question is about."""
    gang, pods = await find(client, namespace, name)
    view = gang_view(gang)
    wanted = asked.node
    if asked.rank is not None and asked.rank < len(view.slots):
        pod = pods.get(view.slots[asked.rank].pod_name)
        wanted = pod.spec.node_name if pod else ""
    nodes: dict[str, Node | None] = {}
    if wanted:
        try:
            nodes[wanted] = node_view(wanted, await client.get(NODES, None, wanted))
        except NotFound:
            nodes[wanted] = node_view(wanted, None, gone=True)
        except Forbidden:
            nodes[wanted] = None
    return Seen(gang=gang, ranks=members(view, pods, lambda _: None, nodes.get), nodes=nodes, now=now)


def answer(seen: Seen, asked: Question) -> Answer:
    """What there is to say. Raises GiveUp if there is no such rank, node or incident."""
    known = stories(seen.gang.status)
    if asked.incident is not None:
        return Answer(story=_incident(seen, known, asked.incident))
    if asked.rank is None and not asked.node:
        return Answer(story=known[0] if known else None)
    about = (_rank(seen, asked.rank),) if asked.rank is not None else _on(seen, asked.node, known)
    story = next((each for each in known if _is_about(each, asked, about)), None)
    if story is not None and story.recovered is None:
        return Answer(story=story, members=about)
    ranks = {member.rank for member in about}
    now = tuple(verdict for verdict in _diagnosed(seen) if verdict.rank in ranks)
    return Answer(story=story, members=about, verdicts=now)


def as_text(seen: Seen, asked: Question, found: Answer) -> Iterator[str]:
    """The lines of the explanation."""
    meta, status = seen.gang.metadata, seen.gang.status
    running = status.condition("Running")
    yield from labelled("Gang", f"{meta.namespace}/{meta.name}")
    yield from labelled("State", running.reason if running else "New")
    yield from standing(status)
    if asked.node:
        yield from _of_node(asked.node, seen.nodes.get(asked.node), found.members)
    else:
        for member in found.members:
            yield from labelled("Rank", _of_rank(member))
    if found.story is not None:
        yield ""
        yield from told(found.story, status)
    elif found.verdicts is None:
        yield from labelled("Incident", "none is stored")
    if found.verdicts is not None:
        yield ""
        yield from _now(found)


def as_json(seen: Seen, asked: Question, found: Answer) -> dict[str, Any]:
    """The same for programs."""
    meta, status = seen.gang.metadata, seen.gang.status
    story = found.story
    out: dict[str, Any] = {
        "namespace": meta.namespace,
        "name": meta.name,
        "conditions": msgspec.to_builtins(status.conditions),
        "breaker": msgspec.to_builtins(status.breaker),
        "incident": None,
    }
    if story is not None:
        out["incident"] = {
            "attempt": story.attempt,
            "open": story.recovered is None and not story.ended,
            "cause": msgspec.to_builtins(story.cause),
            "soFar": story.so_far,
            "evidence": msgspec.to_builtins(story.incident),
            "recovered": msgspec.to_builtins(story.recovered),
        }
    if asked.node:
        node = msgspec.to_builtins(seen.nodes.get(asked.node))
        out["node"] = node and {key: node[key] for key in _READ_OF_NODES}
    if found.members:
        out["ranks"] = {str(m.rank): activity(m) for m in found.members}
    if found.verdicts is not None:
        out["diagnosedAgain"] = {"from": AGAIN, "verdicts": msgspec.to_builtins(found.verdicts)}
    return out


def _incident(seen: Seen, known: Sequence[Story], number: int) -> Story:
    for story in known:
        if story.attempt == number:
            return story
    name = seen.gang.metadata.name
    if not known:
        raise GiveUp(f'gang "{name}" has no incident {number}: none is stored')
    raise GiveUp(
        f'gang "{name}" has no incident {number}: stored are {", ".join(str(s.attempt) for s in known)} '
        "(the attempts that they led to)"
    )


def _rank(seen: Seen, number: int) -> Member:
    if number < len(seen.ranks):
        return seen.ranks[number]
    raise GiveUp(f'gang "{seen.gang.metadata.name}" has no rank {number}: its ranks are 0-{len(seen.ranks) - 1}')


def _on(seen: Seen, node: str, known: Sequence[Story]) -> tuple[Member, ...]:
    """The ranks on that node; none if they are gone from it and an incident tells of it still."""
    there = tuple(m for m in seen.ranks if m.pod and m.pod.node == node)
    if there or any(story.cause.node == node for story in known):
        return there
    names = sorted({m.pod.node for m in seen.ranks if m.pod and m.pod.node})
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    has = f"its nodes are {', '.join(names[:NAMES_MAX])}{more}" if names else "none of its ranks is on a node"
    raise GiveUp(f'gang "{seen.gang.metadata.name}" has no rank on node "{node}": {has}')


def _is_about(story: Story, asked: Question, about: Sequence[Member]) -> bool:
    """Ranks move: who is on a node now need not have been there when a closed incident was open."""
    if asked.node and (story.names(asked.node) or story.recovered is not None):
        return story.names(asked.node)
    return any(story.speaks_of(member.rank) for member in about)


def _diagnosed(seen: Seen) -> tuple[Verdict, ...]:
    record, policy = seen.gang.status.attempt, seen.gang.spec.recovery
    gang = Circumstances(
        released=Promise(attempt=record.released, ticket=record.ticket),
        target=record.target,
        rules=policy.rules,
        progress=policy.progress,
        in_place_deadline_s=policy.in_place_deadline_seconds,
        recreate_deadline_s=policy.recreate_deadline_seconds,
        now=seen.now.timestamp(),
    )
    return diagnose(seen.ranks, gang)


def _of_rank(member: Member) -> str:
    where = f" on node {member.pod.node}" if member.pod and member.pod.node else ""
    return f"{member.rank}, pod {member.pod_name}{where}: {activity(member)}"


def _of_node(name: str, node: Node | None, there: Sequence[Member]) -> Iterator[str]:
    lines = [name if node else f"{name}, which we may not read (it takes the right to get nodes)"]
    if node is not None and not node.exists:
        lines = [f"{name}, which is no longer there"]
    elif node is not None:
        lines.append(f"Ready: {node.ready}")
        lines += [f"conditions: {', '.join(sorted(node.conditions))}"] * bool(node.conditions)
        lines += [f"taints: {', '.join(sorted(node.taints))}"] * bool(node.taints)
        lines += [f"domains: {', '.join(node.domains)}"] * bool(node.domains)
        lines += ["in quarantine, it gets no new pods: see fleetctl quarantine"] * node.quarantined
    yield from labelled("Node", *lines, "its Lease was not read: whether it is dead, the controller watches")
    if node is not None and node.strikes:
        yield from labelled("Strikes", *(f"{_stamp(s.at)}  {s.who}: {s.rule}" for s in node.strikes))
    doing = by_activity(there)
    yield from labelled("Ranks", *(f"{of}  {what}" for what, of in doing.items()) if doing else ("none",))


def _now(found: Answer) -> Iterator[str]:
    yield from labelled("Now", AGAIN)
    if not found.verdicts:
        yield from labelled("Cause", NOTHING)
    for cause, rule, scope in dict.fromkeys((v.because, v.rule, v.scope) for v in found.verdicts or ()):
        yield from labelled("Cause", cause)
        yield from labelled("Rule", f"{rule} (scope: {scope})")
    yield from labelled("Evidence", *(line for member in found.members for line in _endings(member)))


def _endings(member: Member) -> Iterator[str]:
    for container in member.pod.containers if member.pod else ():
        if (ended := container.ended) is not None:
            what = f"container {container.name} exited {ended.exit_code}{f' ({ended.reason})' if ended.reason else ''}"
            yield f"{_stamp(ended.finished_at):{STAMP}}  rank {member.rank}: {what}"


def _stamp(at: Seconds) -> str:
    return rfc3339(datetime.fromtimestamp(at, UTC)) if at else UNTIMED
