"""What happens to an agent alone must not touch its trainer, and what it has promised survives it."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from fleet import Gang, kubectl, on_node, until
from holding_proxy import HoldingProxy, controller_behind, releases


def agent_restarts(gang: Gang, rank: int) -> int:
    return gang.seen()[rank].restarts["fleetctl-agent"]


def trainers_untouched(gang: Gang, attempt: int) -> bool:
    """Whether every trainer still runs that attempt, each started once."""
    starts = gang.records()
    return {s["attempt"] for s in starts} == {attempt} and gang.attempt()["target"] == attempt


@pytest.fixture(scope="module")
def quiet(fleet: None) -> Iterator[Gang]:
    """A gang whose first attempt must live through everything that is done to its agents."""
    with Gang("quiet") as gang:
        gang.running(attempt=1)
        yield gang


def test_an_agent_that_is_killed_restarts_alone(quiet: Gang) -> None:
    before = agent_restarts(quiet, 2)
    quiet.kill_agent(2)
    until("the agent runs again", lambda: agent_restarts(quiet, 2) == before + 1 and _agent_ready(quiet, 2))
    time.sleep(3)
    assert trainers_untouched(quiet, attempt=1)


def test_an_agent_that_runs_out_of_memory_restarts_alone(quiet: Gang) -> None:
    before = agent_restarts(quiet, 5)
    shared_memory = "dd if=/dev/zero of=/dev/shm/hoard bs=1M count=63 2>/dev/null; rm -f /dev/shm/hoard"
    kubectl("exec", quiet.pod(5), "-c", "fleetctl-agent", "--", "sh", "-c", shared_memory, check=False)
    until("the agent runs again", lambda: agent_restarts(quiet, 5) == before + 1 and _agent_ready(quiet, 5))
    kubectl("exec", quiet.pod(5), "-c", "trainer", "--", "rm", "-f", "/dev/shm/hoard")
    time.sleep(3)
    assert trainers_untouched(quiet, attempt=1)


def test_a_restarted_agent_still_takes_part_in_the_next_recovery(quiet: Gang) -> None:
    quiet.tell(0, "exit 1")
    quiet.running(attempt=2)
    assert quiet.attempt()["target"] == 2


@pytest.fixture(scope="module")
def held(fleet: None) -> Iterator[tuple[Gang, HoldingProxy]]:
    """A gang, and a controller whose writes can be held."""
    with HoldingProxy() as proxy, controller_behind(proxy), Gang("held") as gang:
        gang.running(attempt=1, within_s=90)
        yield gang, proxy


def test_an_agent_killed_between_promise_and_release_is_released_without_a_new_attempt(
    held: tuple[Gang, HoldingProxy],
) -> None:
    gang, proxy = held
    attempt = gang.attempt()["released"] + 1
    with proxy.holding(releases(attempt), before=True) as hold:
        gang.tell(3, "exit 3")
        assert hold.reached.wait(60)
        gang.kill_agent(6)
    gang.running(attempt)
    time.sleep(3)
    assert gang.attempt()["target"] == attempt


def test_a_release_lost_with_its_stream_is_sent_again_without_a_new_attempt(held: tuple[Gang, HoldingProxy]) -> None:
    gang, proxy = held
    attempt = gang.attempt()["released"] + 1
    with proxy.holding(releases(attempt), before=True) as hold:
        gang.tell(3, "exit 3")
        assert hold.reached.wait(60)
        with stream_cut(gang, rank=6):
            hold.go_on.set()
            until("the others run", lambda: len(gang.starts(attempt)) == gang.ranks - 1)
            time.sleep(6)  # longer than a promise may be obeyed: a late release must not be
            assert 6 not in gang.starts(attempt)
    gang.running(attempt)
    assert gang.attempt()["target"] == attempt


@contextlib.contextmanager
def stream_cut(gang: Gang, rank: int) -> Iterator[None]:
    """Answers everything the controller sends to that rank's pod with a reset of the connection."""
    seen = gang.seen()[rank]
    rule = f"FORWARD -d {seen.ip} -p tcp --sport 8443 -j REJECT --reject-with tcp-reset"
    on_node(seen.node, f"iptables -I {rule}")
    try:
        yield
    finally:
        on_node(seen.node, f"iptables -D {rule}")


def _agent_ready(gang: Gang, rank: int) -> bool:
    pod = next(p for p in gang.pods() if p["metadata"]["name"] == gang.pod(rank))
    agent = next(s for s in pod["status"]["initContainerStatuses"] if s["name"] == "fleetctl-agent")
    return bool(agent["ready"])
