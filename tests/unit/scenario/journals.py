"""A small vocabulary for tests of what is told of a run: what may happen in a world, told to listeners event by event.

Rank r runs on node-(r // 2), in the pod llm-r whose uid is `pod-r` (`pod-r.2` for the second one).
"""

from collections.abc import Iterable
from typing import Any, Literal, Self

from fleetctl.rendezvous.messages import Message
from fleetctl.sim.journal import (
    AgentHeard,
    Event,
    Faulted,
    Listener,
    Object,
    ProcessChanged,
    Restarting,
    TrainerEnded,
    TrainerStarted,
    Wrote,
)

GANG = ("default", "llm")
CONTROLLER = "controller/controller-0_1"


class Telling:
    """What happens, in order. `later` moves the time."""

    def __init__(self, *listeners: Listener, ranks: int = 4) -> None:
        self.listeners = listeners
        self.ranks = ranks
        self.at = 0.0
        self.version = 0
        self.gang: Object = {}
        self.pods: dict[int, Object] = {}
        self.pods_of: dict[int, int] = {}
        self.spares: dict[str, Object] = {}
        self.cluster: dict[str, Object] = {}
        self.attempt = 0

    def tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def later(self, seconds: float) -> Self:
        self.at = round(self.at + seconds, 9)
        return self

    # The API server

    def wrote(
        self, plural: str, before: Object | None, after: Object | None, *, by: str = CONTROLLER, part: str = ""
    ) -> Object:
        self.version += 1
        if after is not None:
            after = {**after, "metadata": {**after["metadata"], "resourceVersion": str(self.version)}}
        verb: Any = "create" if before is None else "delete" if after is None else "update"
        meta = (after or before or {})["metadata"]
        self.tell(
            Wrote(
                at=self.at,
                actor=by,
                verb=verb,
                plural=plural,
                namespace="default",
                name=meta["name"],
                subresource=part,
                before=before,
                after=after,
            )
        )
        return after or {}

    def nodes(self, count: int) -> Self:
        for number in range(count):
            self.wrote("nodes", None, {"metadata": {"name": f"node-{number}"}, "spec": {}}, by=f"kubelet/node-{number}")
        return self

    def created(self) -> Self:
        """The gang is."""
        spec = {"groups": [{"name": "worker", "size": self.ranks, "template": {}}]}
        self.gang = self.wrote("gangs", None, {"metadata": {"name": "llm", "uid": "g"}, "spec": spec}, by="somebody")
        return self

    def deleted(self) -> Self:
        """The gang is, and its pods."""
        self.wrote("gangs", self.gang, None, by="somebody")
        for rank in list(self.pods):
            self.pod_gone(rank, by="garbage-collector")
        return self

    def status(self, *, by: str = CONTROLLER, conditions: Object | None = None, **record: Any) -> Self:
        """The record's fields, and conditions as `Held="because"`; `Held=""` is False."""
        old = self.gang.get("status") or {}
        kinds = {c["type"]: c for c in old.get("conditions") or ()}
        for kind, message in (conditions or {}).items():
            kinds[kind] = {"type": kind, "status": "True" if message else "False", "reason": "R", "message": message}
        status = {"attempt": {**(old.get("attempt") or {}), **record}, "conditions": list(kinds.values())}
        self.gang = self.wrote("gangs", self.gang, {**self.gang, "status": status}, by=by, part="status")
        return self

    def raised(self, target: int, because: str = "", *, scope: str = "Container", new_pods: Iterable[int] = ()) -> Self:
        cause = {"scope": scope, "rule": "r", "message": because or "a rank failed"}
        named = [{"rank": rank, "uid": self.pods[rank]["metadata"]["uid"]} for rank in new_pods]
        return self.status(target=target, cause=cause, replacing=named, writer="controller-0_1/0")

    def released(self, attempt: int) -> Self:
        return self.status(released=attempt, replacing=[])

    def pod_created(self, *ranks: int, on: str = "") -> Self:
        """`on`: a node that the controller has chosen."""
        for rank in ranks:
            number = self.pods_of[rank] = self.pods_of.get(rank, 0) + 1
            uid = f"pod-{rank}" + (f".{number}" if number > 1 else "")
            meta = {"name": f"llm-{rank}", "uid": uid, "labels": {"fleetctl.dev/rank": str(rank)}}
            self.pods[rank] = self.wrote("pods", None, {"metadata": meta, "spec": {"nodeName": on} if on else {}})
        return self

    def spare_created(self, *names: str, on: str = "") -> Self:
        for name in names:
            meta = {"name": name, "uid": f"{name}.{self.version}", "labels": {"fleetctl.dev/role": "spare"}}
            self.spares[name] = self.wrote("pods", None, {"metadata": meta, "spec": {"nodeName": on} if on else {}})
        return self

    def spare_is(self, name: str, phase: str, *states: str, reason: str = "") -> Self:
        """Its containers are in these states: running, waiting, terminated."""
        told = {"containerStatuses": [{"state": {state: {}}} for state in states]}
        spare = self.spares[name]
        status = {"phase": phase, **told, **({"reason": reason} if reason else {})}
        self.spares[name] = self.wrote("pods", spare, {**spare, "status": status}, by="kubelet/n")
        return self

    def spare_gone(self, *names: str, by: str = CONTROLLER) -> Self:
        """At once: its end is written down before it goes."""
        for name in names:
            spare = self.spares.pop(name)
            marked = {**spare, "metadata": {**spare["metadata"], "deletionTimestamp": "t"}}
            self.wrote("pods", self.wrote("pods", spare, marked, by=by), None, by=by)
        return self

    def quarantined(self, node: str, *, lifted: bool = False, by: str = CONTROLLER) -> Self:
        labels = {} if lifted else {"fleetctl.dev/quarantine": "true"}
        before = self.cluster.get(node) or {"metadata": {"name": node}, "spec": {}}
        after = {**before, "metadata": {"name": node, "labels": labels}}
        self.cluster[node] = self.wrote("nodes", before, after, by=by)
        return self

    def pod_changed(self, rank: int, *, by: str, **parts: Object) -> Self:
        """Top-level parts of the pod, merged."""
        pod = self.pods[rank]
        changed = {**pod, **{name: {**(pod.get(name) or {}), **part} for name, part in parts.items()}}
        self.pods[rank] = self.wrote("pods", pod, changed, by=by)
        return self

    def bound(self, *ranks: int, to: str) -> Self:
        for rank in ranks:
            self.pod_changed(rank, by="scheduler", spec={"nodeName": to})
        return self

    def pod_deleted(self, *ranks: int, by: str = CONTROLLER) -> Self:
        """Its deletion is asked for."""
        for rank in ranks:
            self.pod_changed(rank, by=by, metadata={"deletionTimestamp": "t"})
        return self

    def pod_gone(self, *ranks: int, by: str = "kubelet/node-0") -> Self:
        for rank in ranks:
            self.wrote("pods", self.pods.pop(rank), None, by=by)
        return self

    def event(self, note: str, reason: str = "Recovering") -> Self:
        """A Kubernetes Event."""
        body = {"metadata": {"name": f"llm.{self.version}"}, "note": note, "reason": reason}
        self.wrote("events", None, body)
        return self

    # The kubelets

    def starts(self, *ranks: int, attempt: int = 0, on: str = "") -> Self:
        """Their trainers start. Without an attempt: the one that started last."""
        self.attempt = attempt or self.attempt
        for rank in ranks:
            self.tell(
                TrainerStarted(
                    at=self.at,
                    gang=GANG,
                    rank=rank,
                    attempt=self.attempt,
                    uid=self.pods[rank]["metadata"]["uid"],
                    pod=f"llm-{rank}",
                    node=on or f"node-{rank // 2}",
                    ticket="t",
                )
            )
        return self

    def ends(
        self,
        *ranks: int,
        code: int = 1,
        why: Literal["itself", "restart", "pod", "node"] = "itself",
        attempt: int = 0,
    ) -> Self:
        for rank in ranks:
            self.tell(
                TrainerEnded(
                    at=self.at,
                    gang=GANG,
                    rank=rank,
                    attempt=attempt or self.attempt,
                    uid=self.pods[rank]["metadata"]["uid"],
                    pod=f"llm-{rank}",
                    node=f"node-{rank // 2}",
                    exit_code=code,
                    why=why,
                )
            )
        return self

    def foreign_trainer(self, *, ends: bool = False) -> Self:
        """The main container of a pod that is not the gang's starts, or ends."""
        whose: Any = {"gang": ("default", ""), "rank": -1, "attempt": 0, "uid": "x", "pod": "llm-0", "node": "node-0"}
        if ends:
            self.tell(TrainerEnded(at=self.at, exit_code=1, why="itself", **whose))
        else:
            self.tell(TrainerStarted(at=self.at, ticket="", **whose))
        return self

    def restarts(self, *ranks: int, each_s: float = 0.0) -> Self:
        """In place, one after the other."""
        for rank in ranks:
            uid = self.pods[rank]["metadata"]["uid"]
            self.tell(
                Restarting(at=self.at, gang=GANG, rank=rank, uid=uid, node="n", by="fleetctl-agent", exit_code=88)
            )
            self.later(each_s)
        return self

    def heard(self, message: Message, *ranks: int) -> Self:
        for rank in ranks:
            self.tell(AgentHeard(at=self.at, uid=self.pods[rank]["metadata"]["uid"], node="n", message=message))
        return self

    # The scenario

    def fault(
        self,
        name: str = "container_exit",
        *,
        ranks: tuple[int, ...] = (),
        nodes: tuple[str, ...] = (),
        phase: Literal["begins", "ends"] = "begins",
        text: str = "",
    ) -> Self:
        self.tell(
            Faulted(
                at=self.at,
                fault=name,
                family="pod",
                phase=phase,
                text=text or f"{name} {phase}",
                ranks=ranks,
                nodes=nodes,
            )
        )
        return self

    def process(self, what: Any, name: str = "controller-0_1") -> Self:
        self.tell(ProcessChanged(at=self.at, process=name, what=what))
        return self

    # Longer tales

    def runs(self, attempt: int = 1) -> Self:
        """From nothing until all trainers run, in three seconds."""
        everyone = range(self.ranks)
        self.created().raised(attempt, "the gang starts", scope="Start").pod_created(*everyone)
        self.later(2).released(attempt).later(1).starts(*everyone, attempt=attempt)
        return self

    def recovers(self, attempt: int, *, because: str = "a rank failed", new_pods: tuple[int, ...] = ()) -> Self:
        """From the raise until all trainers run, in four seconds."""
        everyone = range(self.ranks)
        in_place = [rank for rank in everyone if rank not in new_pods and rank in self.pods]
        self.raised(attempt, because, new_pods=new_pods).later(1).restarts(*in_place)
        self.ends(*in_place, why="restart")
        self.pod_deleted(*new_pods).pod_gone(*new_pods).pod_created(*new_pods)
        self.later(2).released(attempt).later(1).starts(*everyone, attempt=attempt)
        return self
