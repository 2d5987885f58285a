"""A dead node costs its own pods and one restart in place of everybody else; a node that lives costs nothing.

Long forms (FLEETCTL_LONG_TESTS=1, `make cluster-test-long`) leave nodes dark, and everything else away, for as long as
people do: three minutes and one.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from fleet import (
    LONG,
    WORKERS,
    Audit,
    Gang,
    Seen,
    agents_out_of_reach,
    api_server_away,
    controller_ready,
    fleetctl_status,
    kill_node,
    kubectl,
    kubelet_stopped,
    node_dark,
    node_dead,
    pause_node,
    plain_template,
    start_node,
    together,
    unpause_node,
    until,
)
from holding_proxy import HoldingProxy, controller_behind, releases

pytestmark = [pytest.mark.usefixtures("fleet"), pytest.mark.timeout(600)]
DARK_S = 180 if LONG else 45
STOPPED_S = 180 if LONG else 60  # Kubernetes says NotReady after 45 to 53 s
AWAY_S = 60 if LONG else 20
ARRIVES_S = 8  # what would have been said in the meantime arrives


def recovered(gang: Gang, attempt: int, before: dict[int, Seen], lost: set[int], within_s: float = 120) -> None:
    """All ranks run that attempt: the lost ones in new pods elsewhere, each other having restarted in place once."""
    gang.running(attempt, within_s)
    now, bad = gang.seen_since(before), {before[rank].node for rank in lost}
    for rank, was in before.items():
        if rank in lost:
            assert now[rank].uid != was.uid, f"rank {rank} kept its pod"
            assert now[rank].node not in bad, f"rank {rank} is on {now[rank].node} again"
        else:
            assert (now[rank].uid, now[rank].ip) == (was.uid, was.ip), f"rank {rank} was replaced"
            assert now[rank].restarts == {n: count + 1 for n, count in was.restarts.items()}, f"rank {rank}"
    record = gang.attempt()
    assert (record["target"], record["released"]) == (attempt, attempt)
    assert "replacing" not in record


def lose(gang: Gang, node: str) -> set[int]:
    """The ranks that this node will cost; tells the judge."""
    ranks = gang.fence(node)
    gang.moved |= ranks
    assert ranks
    return ranks


def test_a_killed_node_at_rest_during_a_reset_and_with_a_fault_at_once() -> None:
    """One node dies under five gangs: with rank 0 on it; during a reset; at the moment of a container fault; observed
    only; and one that is deleted afterwards."""
    with ExitStack() as stack:
        plain, resetting, faulty, observed, deleted = gangs = [
            stack.enter_context(Gang(name, ranks, spec=spec))
            for name, ranks, spec in (
                ("plain", 4, {}),
                ("resetting", 4, {}),
                ("faulty", 4, {}),
                ("observed", 4, {"recovery": {"mode": "Observe"}}),
                ("deleted", 4, {}),
            )
        ]
        together(lambda gang=gang: gang.running(attempt=1, within_s=180) for gang in gangs)
        node = plain.nodes()[0]
        lost = {gang.name: lose(gang, node) for gang in gangs}
        before = {gang.name: gang.seen() for gang in gangs}
        spared = {gang.name: next(r for r in range(gang.ranks) if r not in lost[gang.name]) for gang in gangs}
        audit = Audit()

        resetting.tell(spared["resetting"], "exit 1")
        until("the target is raised", lambda: resetting.attempt().get("target") == 2, every_s=0.05)
        faulty_uid = before["faulty"][spared["faulty"]].uid
        kill_node(node)
        stack.callback(start_node, node)
        faulty.tell(spared["faulty"], "exit 5", uid=faulty_uid)
        kubectl("delete", "gang", "deleted", "--cascade=foreground", "--wait=false")

        for gang in (plain, resetting, faulty):
            recovered(gang, 2, before[gang.name], lost[gang.name])
        cause = plain.attempt()["cause"]
        assert (cause["scope"], cause["rule"]) == ("Node", "node-dead")
        assert cause["message"].startswith(f"node {node} is dead: its agents are silent and its Lease did not move")
        assert plain.status()["history"][0]["rung"] == "RecreatePod"
        assert "recreated, the others restarted in place" in fleetctl_status(plain)
        assert ("Recovering", f"attempt 2: {cause['message']}") in plain.events()

        assert {p["metadata"]["name"] for p in observed.pods()} == {observed.pod(rank) for rank in range(4)}
        assert observed.attempt()["target"] == 1
        held = until("it says what it would do", lambda: observed.holds("Held"))
        assert held["reason"] == "Observe"
        assert held["message"].startswith(f"Observe: would begin attempt 2: node {node} is dead")
        assert "Mode:     Observe" in fleetctl_status(observed)

        kubectl("wait", "--for=delete", "gang/deleted", "--timeout=60s")  # nothing hangs
        assert deleted.pods() == []
        deletions = [change for change in audit.pod_changes() if change.startswith("delete pods plain-")]
        assert len(deletions) == len(lost["plain"])


def test_a_node_that_goes_dark_and_comes_back_runs_nothing_any_more() -> None:
    with Gang("dark") as gang:
        gang.running(attempt=1)
        before, node = gang.seen(), gang.nodes()[3]
        lost = lose(gang, node)
        with node_dark(node):
            paused_at = time.monotonic()
            recovered(gang, 2, before, lost)
            time.sleep(max(0.0, DARK_S - (time.monotonic() - paused_at)))
        time.sleep(ARRIVES_S)
        zombies = [s for s in gang.records() if s["uid"] in gang.fenced]
        assert {(s["rank"], s["attempt"]) for s in zombies} == {(rank, 1) for rank in lost}
        assert gang.attempt()["target"] == 2
        until("the old pods are gone from the node", lambda: not _alive(gang, before, lost))


def _alive(gang: Gang, before: dict[int, Seen], lost: set[int]) -> list[int]:
    """The ranks whose old trainer was alive within the last two seconds."""
    return [rank for rank in lost if gang.alive_until(before[rank].uid) > time.time() - 2]


def test_a_release_that_waited_in_a_frozen_agents_socket_starts_nothing() -> None:
    with HoldingProxy() as proxy, controller_behind(proxy), Gang("frozen") as gang:
        gang.running(attempt=1, within_s=90)
        before, node = gang.seen(), gang.nodes()[5]
        lost = lose(gang, node)
        with proxy.holding(releases(2), before=True) as hold:
            gang.tell(next(r for r in range(8) if r not in lost), "exit 1")
            assert hold.reached.wait(60)  # everybody has promised
            pause_node(node)
        try:
            # attempt 2 is released; two of its ranks cannot hear that, and are judged dead: attempt 3
            gang.running(3, within_s=150)
        finally:
            unpause_node(node)
        time.sleep(ARRIVES_S)
        old = {before[rank].uid for rank in lost}
        assert {s["attempt"] for s in gang.records() if s["uid"] in old} == {1}
        assert gang.attempt()["target"] == 3


def test_a_node_rebooted_in_five_seconds_comes_back_in_place() -> None:
    with Gang("rebooted") as gang:
        gang.running(attempt=1)
        before, node, audit = gang.seen(), gang.nodes()[2], Audit()
        kill_node(node)
        time.sleep(5)
        start_node(node)
        gang.running(attempt=2, within_s=90)
        assert {rank: seen.uid for rank, seen in gang.seen().items()} == {r: s.uid for r, s in before.items()}
        assert audit.pod_changes() == []
        assert gang.attempt()["target"] == 2


@pytest.mark.long  # its scenario is always replayed
def test_two_nodes_lost_five_seconds_apart_are_one_restart_of_the_others() -> None:
    spec = {"recovery": {"unhealthyCeiling": "50%"}}
    with Gang("two", spec=spec) as gang, ExitStack() as stack:
        gang.running(attempt=1)
        before = gang.seen()
        first, second = WORKERS[1], WORKERS[2]
        lost = lose(gang, first) | lose(gang, second)
        stack.enter_context(node_dead(first))
        time.sleep(5)
        stack.enter_context(node_dead(second))
        recovered(gang, 2, before, lost, within_s=180)


@pytest.mark.long
def test_more_nodes_than_the_ceiling_allows_are_not_touched_until_somebody_says_so() -> None:
    with Gang("ceiling") as gang, ExitStack() as stack:
        gang.running(attempt=1)
        before, audit = gang.seen(), Audit()
        lost = lose(gang, WORKERS[0]) | lose(gang, WORKERS[3])
        stack.enter_context(node_dark(WORKERS[0]))
        stack.enter_context(node_dark(WORKERS[3]))
        held = until("the gang is held", lambda: gang.holds("Held"), 120)
        assert held["reason"] == "UnhealthyCeiling"
        assert held["message"].startswith(f"2 of 4 nodes are judged bad ({WORKERS[0]}, {WORKERS[3]}), more than the 1")
        assert "Held:" in fleetctl_status(gang)
        time.sleep(5)
        assert audit.pod_changes() == []
        patch = '{"spec": {"recovery": {"unhealthyCeiling": "50%"}}}'
        kubectl("patch", "gang", gang.name, "--type=merge", "-p", patch)
        recovered(gang, 2, before, lost)


@contextmanager
def undisturbed(gang: Gang) -> Iterator[None]:
    """Whatever happens meanwhile: no pod is touched, no rank restarts, nobody starts another attempt."""
    before, attempt, audit = gang.seen(), gang.attempt(), Audit()
    yield
    time.sleep(3)
    assert audit.pod_changes() == []
    after = gang.attempt()
    assert (after["target"], after["released"]) == (attempt["released"], attempt["released"])
    assert gang.seen() == before


@pytest.fixture(scope="module")
def calm(fleet: None) -> Iterator[Gang]:
    """A gang that must not notice anything."""
    with Gang("calm") as gang:
        gang.running(attempt=1)
        yield gang


def test_a_stopped_kubelet_and_an_agent_cut_off_under_trainers_that_live(calm: Gang) -> None:
    nodes = calm.nodes()
    other = next(rank for rank, node in nodes.items() if node != nodes[1])
    with undisturbed(calm), kubelet_stopped(nodes[1]):
        with calm.agent_cut_off(other):
            time.sleep(60)
        time.sleep(STOPPED_S - 60)


def test_an_api_server_that_is_away(calm: Gang) -> None:
    with undisturbed(calm), api_server_away():
        time.sleep(AWAY_S)


def test_a_controller_that_is_away_and_then_the_network_of_all_agents(calm: Gang) -> None:
    with undisturbed(calm):
        kubectl("-n", "fleetctl-system", "scale", "deployment/fleetctl-controller", "--replicas=0")
        time.sleep(AWAY_S)
        kubectl("-n", "fleetctl-system", "scale", "deployment/fleetctl-controller", "--replicas=1")
        controller_ready()
        with agents_out_of_reach(WORKERS):
            time.sleep(AWAY_S)
    calm.tell(1, "exit 1")  # and everybody is back: the next fault is recovered from
    calm.running(2)


@pytest.mark.long
def test_progress_of_the_others_vetoes_the_death_of_a_silent_node() -> None:
    """Agents cut off and kubelet stopped: all the proof there is, were it not for trainers that go on in lockstep."""
    template = plain_template("steps", env=[{"name": "STEPS", "value": "yes"}])
    with Gang("steps", template=template) as gang:
        gang.running(attempt=1)
        node = gang.nodes()[6]
        with undisturbed(gang), kubelet_stopped(node), agents_out_of_reach((node,)):
            time.sleep(50)
