"""A small vocabulary for tests of the oracle: what may happen in a run, told to an oracle event by event.

Objects are raw JSON, as the API server would hold them. Rank r is on node-(r // 2); a controller is called by its
identity, and `a` leads with term 1 unless somebody takes over.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from fleetctl.rendezvous.messages import Message
from fleetctl.sim.journal import (
    AgentHeard,
    Event,
    Faulted,
    Listed,
    Object,
    ProcessChanged,
    Restarting,
    TrainerEnded,
    TrainerStarted,
    Verb,
    Wrote,
)
from fleetctl.sim.oracle import Oracle

BEGIN = datetime.fromisoformat("2026-11-21T06:00:00+00:00")
NAMESPACE = "default"


class History:
    """What happened so far. `recovery` is the gang's spec.recovery."""

    def __init__(
        self, ranks: int = 4, recovery: Object | None = None, *, name: str = "llm", listed: bool = True
    ) -> None:
        self.oracle = Oracle()
        self.at = 0.0
        self.ranks = ranks
        self.name = name
        self.gang: Object = {}
        self.pods: dict[int, Object] = {}
        self.uids = 0
        self.term = {"a": 1}
        for node in range(ranks):
            self.node(f"node-{node}")
        if listed:
            self.controller_starts("a")
            self.controller_lists("a")
        self.create_gang(recovery or {})

    # What the oracle says

    def broken(self) -> set[str]:
        return set(self.oracle.counts)

    def looked_at(self, invariant: str) -> bool:
        return self.oracle.evaluated[invariant] > 0

    def told(self) -> str:
        return "\n".join(violation.text for violation in self.oracle.violations)

    def ends(self, end: Any = "running", bound_s: float = 60.0, quiet_s: float = 0.0) -> "History":
        self.oracle.finish(self.at, end=end, bound_s=bound_s, quiet_s=quiet_s)
        return self

    # Time

    def tell(self, event: Event) -> None:
        self.oracle(event)

    def later(self, seconds: float) -> "History":
        self.at += seconds
        return self

    def stamp(self) -> str:
        return (BEGIN + timedelta(seconds=self.at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def uid(self, what: str) -> str:
        self.uids += 1
        return f"{what}-{self.uids}"

    # The API server

    def wrote(
        self,
        plural: str,
        before: Object | None,
        after: Object | None,
        *,
        by: str = "somebody",
        verb: Verb = "update",
        subresource: str = "",
    ) -> None:
        meta = (after or before or {})["metadata"]
        actor = f"controller/{by}" if len(by) == 1 else by
        self.tell(
            Wrote(
                at=self.at,
                actor=actor,
                verb=verb,
                plural=plural,
                namespace=meta.get("namespace", ""),
                name=meta["name"],
                subresource=subresource,
                before=before,
                after=after,
            )
        )

    def node(self, name: str, *, taint: str = "", ready: str = "True") -> None:
        taints = [{"key": taint, "effect": "NoSchedule"}] if taint else []
        status = {"conditions": [{"type": "Ready", "status": ready}]}
        body = {"metadata": {"name": name, "uid": name}, "spec": {"taints": taints}, "status": status}
        self.wrote("nodes", None, body, verb="create")

    # Controllers

    def controller_starts(self, identity: str) -> None:
        self.tell(ProcessChanged(at=self.at, process=identity, what="starts"))

    def controller_lists(self, identity: str, *plurals: str) -> None:
        for plural in plurals or ("gangs", "pods", "nodes"):
            self.tell(Listed(at=self.at, actor=f"controller/{identity}", plural=plural))

    def another_leads(self, identity: str = "b", term: int = 2) -> "History":
        self.controller_starts(identity)
        self.controller_lists(identity)
        self.term[identity] = term
        return self.writes_record(by=identity)

    # The gang

    def create_gang(self, recovery: Object) -> None:
        groups = [{"name": "worker", "size": self.ranks}]
        meta = {"name": self.name, "namespace": NAMESPACE, "uid": self.uid("gang")}
        self.gang = {"metadata": meta, "spec": {"groups": groups, "recovery": recovery}}
        self.wrote("gangs", None, self.gang, verb="create")

    def writes_gang(self, after: Object, *, by: str = "somebody", subresource: str = "") -> "History":
        before, self.gang = self.gang, after
        self.wrote("gangs", before, after, by=by, subresource=subresource)
        return self

    def edit_recovery(self, **recovery: Any) -> "History":
        spec = self.gang["spec"]
        return self.writes_gang({**self.gang, "spec": {**spec, "recovery": {**spec["recovery"], **recovery}}})

    def delete_gang(self) -> "History":
        meta = {**self.gang["metadata"], "deletionTimestamp": self.stamp()}
        return self.writes_gang({**self.gang, "metadata": meta})

    def gang_goes(self) -> "History":
        self.wrote("gangs", self.gang, None, verb="delete", by="garbage-collector")
        return self

    def writes_status(self, status: Object, *, by: str = "a") -> "History":
        return self.writes_gang({**self.gang, "status": status}, by=by, subresource="status")

    @property
    def status(self) -> Object:
        return self.gang.get("status") or {}

    @property
    def record(self) -> Object:
        return self.status.get("attempt") or {}

    def writes_record(self, *, by: str = "a", writer: str = "", **changes: Any) -> "History":
        record = {**self.record, "writer": writer or f"{by}/{self.term.get(by, 1)}", **changes}
        return self.writes_status({**self.status, "attempt": record}, by=by)

    def condition(self, kind: str, status: str = "True", reason: str = "R", message: str = "m") -> "History":
        others = [c for c in self.status.get("conditions", ()) if c["type"] != kind]
        told = {"type": kind, "status": status, "reason": reason, "message": message}
        return self.writes_status({**self.status, "conditions": [*others, told]})

    def raises(
        self,
        scope: str = "Container",
        rule: str = "container-exit",
        rank: int | None = 0,
        *,
        replacing: tuple[Object, ...] = (),
        charged: tuple[str, ...] | None = None,
        target: int | None = None,
        by: str = "a",
    ) -> "History":
        """The target, for that cause. `charged` None: as it should be."""
        paid_by = {"Container": "application", "Node": "node", "Unknown": "node"}
        kinds = charged if charged is not None else tuple(k for s, k in paid_by.items() if s == scope)
        cause: Object = {"scope": scope, "rule": rule, "message": f"rank {rank} did it"}
        if rank is not None:
            cause["rank"] = rank
        record = {
            **self.record,
            "target": self.record.get("target", 0) + 1 if target is None else target,
            "cause": cause,
            "writer": f"{by}/{self.term.get(by, 1)}",
            "startedAt": self.stamp(),
            "replacing": list(replacing),
        }
        status = {**self.status, "attempt": record, "budgets": self._charged(kinds)}
        return self.writes_status(status, by=by)

    def _charged(self, kinds: tuple[str, ...]) -> Object:
        budgets = dict(self.status.get("budgets") or {})
        hour = (BEGIN + timedelta(seconds=self.at)).strftime("%Y-%m-%dT%H")
        for kind in kinds:
            spent = budgets.get(kind) or {}
            hours = {**spent.get("hours", {}), hour: spent.get("hours", {}).get(hour, 0) + 1}
            budgets[kind] = {**spent, "hours": hours}
            if kind == "application":
                budgets[kind]["sinceProgress"] = spent.get("sinceProgress", 0) + 1
        return budgets

    def sets_spend(self, *, by: str = "a", **kinds: Object) -> "History":
        return self.writes_status({**self.status, "budgets": {**self.status.get("budgets", {}), **kinds}}, by=by)

    def releases(self, ticket: str = "", *, by: str = "a", released: int | None = None) -> "History":
        target = self.record["target"] if released is None else released
        return self.writes_record(
            by=by,
            released=target,
            ticket=ticket or f"ticket-{target}",
            replacing=[],
            replaceCreatedBefore=0,
            releasedAt=self.stamp(),
        )

    # Pods

    def entry(self, rank: int, *, bad: bool = True, uid: str = "") -> Object:
        """What the record says of a pod that may be deleted."""
        pod = self.pods[rank]
        node = pod["spec"].get("nodeName", "")
        return {"rank": rank, "uid": uid or pod["metadata"]["uid"], "node": node, "bad": bad}

    def create_pod(self, rank: int, *, by: str = "a", attempt: int | None = None, node: str | None = None) -> "History":
        owner = {"apiVersion": "fleetctl.dev/v1alpha1", "kind": "Gang", "uid": self.gang["metadata"]["uid"]}
        number = self.record.get("target", 1) if attempt is None else attempt
        return self.create(self.pod_body(rank, number, [owner]), rank, by=by, node=node)

    def pod_body(self, rank: int, attempt: int, owners: list[Object], gang: str = "") -> Object:
        labels = {"gang": gang or self.name, "rank": str(rank), "attempt": str(attempt)}
        return {
            "metadata": {
                "name": f"{self.name}-worker-{rank}",
                "namespace": NAMESPACE,
                "uid": self.uid("pod"),
                "labels": {f"fleetctl.dev/{key}": value for key, value in labels.items()},
                "ownerReferences": owners,
            },
            "spec": {},
            "status": {"phase": "Pending"},
        }

    def create(self, body: Object, rank: int, *, by: str, node: str | None = None) -> "History":
        self.pods[rank] = body
        self.wrote("pods", None, body, by=by, verb="create")
        spec = {**body["spec"], "nodeName": f"node-{rank // 2}" if node is None else node}
        return self.changes_pod(rank, {**body, "spec": spec}, by="scheduler")

    def changes_pod(self, rank: int, after: Object, *, by: str = "kubelet/n") -> "History":
        before, self.pods[rank] = self.pods[rank], after
        self.wrote("pods", before, after, by=by)
        return self

    def pod_is(self, rank: int, phase: str, *conditions: Object) -> "History":
        status = {"phase": phase, "conditions": list(conditions)}
        return self.changes_pod(rank, {**self.pods[rank], "status": status})

    def delete_pod(self, rank: int, *, by: str = "a", at_once: bool = False) -> "History":
        """With grace: it terminates from now on."""
        before = self.pods[rank]
        if at_once:
            self.wrote("pods", before, None, by=by, verb="delete")
            return self
        after = {**before, "metadata": {**before["metadata"], "deletionTimestamp": self.stamp()}}
        self.pods[rank] = after
        self.wrote("pods", before, after, by=by, verb="delete")
        return self

    def pod_goes(self, rank: int, *, by: str = "kubelet/n") -> "History":
        return self.delete_pod(rank, by=by, at_once=True)

    # What kubelets run

    def starts(self, rank: int, attempt: int | None = None, *, ticket: str = "", uid: str = "") -> "History":
        pod = self.pods[rank]
        number = self.record.get("released", 0) if attempt is None else attempt
        self.tell(
            TrainerStarted(
                at=self.at,
                gang=(NAMESPACE, self.name),
                rank=rank,
                attempt=number,
                uid=uid or pod["metadata"]["uid"],
                pod=pod["metadata"]["name"],
                node=pod["spec"].get("nodeName", ""),
                ticket=ticket or f"ticket-{number}",
            )
        )
        return self

    def stops(
        self,
        rank: int,
        why: Literal["itself", "restart", "pod", "node"] = "restart",
        exit_code: int = 137,
        *,
        uid: str = "",
    ) -> "History":
        pod = self.pods[rank]
        self.tell(
            TrainerEnded(
                at=self.at,
                gang=(NAMESPACE, self.name),
                rank=rank,
                attempt=self.record.get("released", 0),
                uid=uid or pod["metadata"]["uid"],
                pod=pod["metadata"]["name"],
                node=pod["spec"].get("nodeName", ""),
                exit_code=exit_code,
                why=why,
            )
        )
        return self

    def restarts_in_place(self, rank: int, exit_code: int = 88) -> "History":
        by, uid = "fleetctl-agent" if exit_code == 88 else "trainer", self.pods[rank]["metadata"]["uid"]
        event = Restarting(
            at=self.at, gang=(NAMESPACE, self.name), rank=rank, uid=uid, node="n", by=by, exit_code=exit_code
        )
        self.tell(event)
        return self

    def hears(self, rank: int, message: Message) -> "History":
        self.tell(AgentHeard(at=self.at, uid=self.pods[rank]["metadata"]["uid"], node="n", message=message))
        return self

    def fault(
        self,
        name: str,
        family: Any,
        *,
        ranks: tuple[int, ...] = (),
        nodes: tuple[str, ...] = (),
        fences: tuple[str, ...] = (),
        phase: Literal["begins", "ends"] = "begins",
    ) -> "History":
        self.tell(
            Faulted(
                at=self.at, fault=name, family=family, phase=phase, text=name, ranks=ranks, nodes=nodes, fences=fences
            )
        )
        return self

    # Whole chapters

    def all_pods(self) -> "History":
        for rank in range(self.ranks):
            self.create_pod(rank)
        return self

    def all_start(self) -> "History":
        for rank in range(self.ranks):
            self.starts(rank)
        return self

    def runs(self) -> "History":
        """From nothing to attempt 1, in five seconds."""
        self.raises("Start", "start", None).all_pods()
        return self.later(5).releases().all_start()

    def dies(self, rank: int, exit_code: int = 1) -> "History":
        """The trainer of that rank, by a fault; its pod restarts in place."""
        self.fault("container_exit", "pod", ranks=(rank,))
        self.stops(rank, "itself", exit_code)
        return self.later(0.5).restarts_in_place(rank, exit_code)

    def everyone_else_restarts(self, but: tuple[int, ...] = (0,)) -> "History":
        for rank in range(self.ranks):
            if rank not in but:
                self.restarts_in_place(rank).stops(rank)
        return self

    def recovers(self, rank: int = 0) -> "History":
        """Rank dies, all restart in place, the next attempt runs."""
        self.dies(rank).later(0.1).raises(rank=rank).everyone_else_restarts((rank,))
        return self.later(3).releases().all_start()

    def node_dies(self, node: str = "node-0", ranks: tuple[int, ...] = (0, 1)) -> "History":
        self.fault("node_killed", "node", nodes=(node,))
        for rank in ranks:
            self.stops(rank, "node")
        return self

    def replaces(self, ranks: tuple[int, ...] = (0, 1), node: str = "node-3") -> "History":
        """The record names these pods, whose node died; they are deleted at once, and created anew elsewhere."""
        self.raises("Node", "node-dead", ranks[0], replacing=tuple(self.entry(rank) for rank in ranks))
        for rank in ranks:
            self.delete_pod(rank, at_once=True)
            self.create_pod(rank, node=node)
        return self.everyone_else_restarts(ranks)
