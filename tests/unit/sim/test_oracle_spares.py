"""What the oracle says of spares: they are no ranks, their room is given once, and a race has its deadline."""

from typing import Any

from fleetctl.sim.journal import Object

from .histories import NAMESPACE, History


class Story(History):
    """A gang of four ranks on two nodes; spares by name."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.spares: dict[str, Object] = {}

    def spare(self, name: str, node: str, *, ready: bool = True, by: str = "a") -> "Story":
        owner = {"apiVersion": "fleetctl.dev/v1alpha1", "kind": "Gang", "uid": self.gang["metadata"]["uid"]}
        labels = {"fleetctl.dev/gang": self.name, "fleetctl.dev/role": "spare"}
        meta = {"name": name, "namespace": NAMESPACE, "uid": self.uid("spare"), "labels": labels}
        made = {"metadata": {**meta, "ownerReferences": [owner]}, "spec": {}, "status": {"phase": "Pending"}}
        self.wrote("pods", None, made, by=by, verb="create")
        bound = {**made, "spec": {"nodeName": node}}
        self.wrote("pods", made, bound, by="scheduler")
        self.spares[name] = bound
        return self.spare_is_ready(name) if ready else self

    def spare_is_ready(self, name: str, *, running: bool = True) -> "Story":
        state = {"running": {}} if running else {"waiting": {"reason": "CrashLoopBackOff"}}
        containers = [{"name": "trainer", "state": {"running": {}}}, {"name": "fleetctl-hold", "state": state}]
        before = self.spares[name]
        self.spares[name] = {**before, "status": {"phase": "Running", "containerStatuses": containers}}
        self.wrote("pods", before, self.spares[name], by="kubelet/n")
        return self

    def spare_goes(self, name: str, *, by: str = "a", at_once: bool = True) -> "Story":
        """Marked, and gone: at once, or once its kubelet says so."""
        before = self.spares.pop(name)
        marked = {**before, "metadata": {**before["metadata"], "deletionTimestamp": self.stamp()}}
        self.wrote("pods", before, marked, by=by, verb="delete")
        self.wrote("pods", marked, None, by=by if at_once else "kubelet/n", verb="delete")
        return self

    def takes(self, rank: int, node: str) -> "Story":
        """The rank's pod is made on that node."""
        owner = {"apiVersion": "fleetctl.dev/v1alpha1", "kind": "Gang", "uid": self.gang["metadata"]["uid"]}
        body = self.pod_body(rank, self.record.get("target", 1), [owner])
        self.pods[rank] = {**body, "spec": {"nodeName": node}}
        self.wrote("pods", None, self.pods[rank], by="a", verb="create")
        return self

    def loses(self, rank: int) -> "Story":
        """Its node is dead: the record names its pod, which is gone."""
        self.fault("node_killed", "node", nodes=(f"node-{rank // 2}",)).stops(rank, "node")
        self.raises("Node", "node-dead", rank, replacing=(self.entry(rank),)).delete_pod(rank, at_once=True)
        return self


def runs() -> Story:
    story = Story()
    story.runs().later(60)
    return story


# S17


def test_s17_a_rank_is_put_where_a_spare_was_put_out() -> None:
    story = runs().spare("s", "node-3").loses(0).spare_goes("s").takes(0, "node-3")
    assert story.broken() == set()
    assert story.looked_at("S17")


def test_s17_not_where_no_spare_was() -> None:
    story = runs().spare("s", "node-3").loses(0).spare_goes("s").takes(0, "node-2")
    assert story.broken() == {"S17"}
    assert "created pod llm-worker-0 on node-2, where no spare was put out for it" in story.told()


def test_s17_not_while_the_spare_is_there() -> None:
    assert runs().spare("s", "node-3").loses(0).takes(0, "node-3").broken() == {"S17"}


def test_s17_not_twice() -> None:
    story = runs().spare("s", "node-3").loses(0).spare_goes("s").takes(0, "node-3")
    story.raises("Unknown", "pod-gone", 0, replacing=(story.entry(0),)).delete_pod(0, at_once=True)
    assert "S17" not in story.broken()
    assert "S17" in story.takes(0, "node-3").broken()


def test_s17_a_spare_that_others_put_out_has_left_its_room_to_others() -> None:
    assert runs().spare("s", "node-3").loses(0).spare_goes("s", by="scheduler").takes(0, "node-3").broken() == {"S17"}


def test_s17_a_spare_that_was_given_grace_counts_once_its_kubelet_has_let_it_go() -> None:
    assert runs().spare("s", "node-3").loses(0).spare_goes("s", at_once=False).takes(0, "node-3").broken() == set()


def test_s17_whoever_goes_through_the_scheduler_needs_no_room() -> None:
    story = runs().loses(0).create_pod(0, node="node-2")
    assert story.broken() == set()
    assert not story.looked_at("S17")


# No ranks


def test_a_spare_may_be_deleted_without_being_named() -> None:
    story = runs().spare("s", "node-3").spare_goes("s")
    assert story.broken() == set()
    assert not story.looked_at("S6")
    assert not story.looked_at("S4")


def test_spares_count_for_the_pace() -> None:
    story = runs()
    for number in range(101):
        story.spare(f"s-{number}", "node-3")
    assert story.broken() == {"S7"}


def test_the_nodes_of_spares_do_not_raise_the_ceiling() -> None:
    story = runs()
    for number in range(20):
        story.spare(f"s-{number}", f"node-{number + 10}")
    story.node_dies("node-0").node_dies("node-1", (2, 3))
    story.raises("Node", "node-dead", 0, replacing=tuple(story.entry(rank) for rank in (0, 2)))
    assert story.delete_pod(0, at_once=True).broken() == {"S13"}


def test_what_spares_cost_at_the_start_is_allowed_and_making_them_over_and_over_is_not() -> None:
    def run(spares: int, again: int) -> set[str]:
        story = Story()
        group = {**story.gang["spec"]["groups"][0], "spares": spares}
        story.writes_gang({**story.gang, "spec": {**story.gang["spec"], "groups": [group]}})
        story.runs()
        for number in range(spares):
            story.later(1).spare(f"s-{number}", "node-3")
        for _ in range(again):
            story.later(1).spare_goes("s-0").spare("s-0", "node-3")
        return story.ends().broken()

    assert run(30, 0) == set()
    assert run(30, 20) == {"L4"}


# S4, the race


def gives_up(story: Story) -> set[str]:
    story.writes_record(replacing=[story.entry(0, bad=False)]).delete_pod(0)
    return story.broken()


def raced(after_s: float, *, other: bool = True) -> Story:
    """Rank 0 has been on a spare's node for so long."""
    story = runs().spare("s", "node-2")
    if other:
        story.spare("other", "node-3")
    return story.loses(0).spare_goes("s").takes(0, "node-2").later(after_s)  # type: ignore[return-value]


def test_s4_a_new_pod_has_a_minute_while_a_spare_is_ready() -> None:
    assert gives_up(raced(60)) == set()
    assert gives_up(raced(59)) == {"S4"}


def test_s4_a_new_pod_has_its_long_deadline_while_no_spare_is_ready() -> None:
    assert gives_up(raced(60, other=False)) == {"S4"}
    assert gives_up(raced(60, other=False).spare("late", "node-3", ready=False)) == {"S4"}


def test_s4_a_spare_that_was_ready_a_moment_ago_may_still_be_believed_in() -> None:
    assert gives_up(raced(55).spare_is_ready("other", running=False).later(9)) == set()  # type: ignore[arg-type]
    assert gives_up(raced(55).spare_is_ready("other", running=False).later(11)) == {"S4"}  # type: ignore[arg-type]


def test_s4_the_race_is_run_from_when_the_pod_has_a_node() -> None:
    def bound(after_s: float) -> Story:
        story = runs().spare("other", "node-3").loses(0)
        story.create_pod(0, node="").later(300)
        spec = {**story.pods[0]["spec"], "nodeName": "node-2"}
        story.changes_pod(0, {**story.pods[0], "spec": spec}, by="scheduler").later(after_s)
        return story

    assert gives_up(bound(50)) == set()  # to be bound may have taken a moment
    assert gives_up(bound(49)) == {"S4"}
