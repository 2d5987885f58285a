"""A gang starts together, and each rank is told who it is."""

import time

import pytest
from fleet import RECORDS_ENV, RECORDS_MOUNT, Audit, Gang, get, kubectl, on_node, plain_template, together, until


@pytest.mark.usefixtures("fleet")
def test_no_trainer_starts_before_all_agents_stand_at_the_barrier_and_then_all_do() -> None:
    template = plain_template("start")
    template["spec"]["initContainers"] = [
        {
            "name": "late",
            "image": "busybox:test",
            "command": ["sh", "-c", 'until [ "$FLEETCTL_RANK" -lt 6 ] || [ -e /records/go ]; do usleep 100000; done'],
            "env": RECORDS_ENV,
            "volumeMounts": [RECORDS_MOUNT],
        }
    ]
    with Gang("start", template=template) as gang:
        until("six ranks are at the barrier", lambda: _at_gate(gang) == 6)
        time.sleep(3)
        assert gang.records() == []
        assert "released" not in gang.attempt()
        told = time.time()
        together([lambda: gang.tell(6, "", "go"), lambda: gang.tell(7, "", "go")])
        started = gang.running(attempt=1)
        assert min(started.values()) > told
        skews = [skew(started)]
        while skews[-1] > 1.5 and len(skews) < 4:  # once may be the machine; a defect would show every time
            skews.append(skew(restarted(gang, attempt=len(skews) + 1)))
        assert skews[-1] <= 1.5, f"never together: {skews}"


def skew(started: dict[int, float]) -> float:
    """Seconds between the first and the last trainer."""
    return max(started.values()) - min(started.values())


def restarted(gang: Gang, attempt: int) -> dict[int, float]:
    """When each trainer started after a fault of one."""
    gang.tell(0, "exit 1")
    return gang.running(attempt)


def _at_gate(gang: Gang) -> int:
    """How many agents run."""
    statuses = [s for p in gang.pods() for s in p["status"].get("initContainerStatuses", [])]
    return sum(1 for s in statuses if s["name"] == "fleetctl-agent" and "running" in s["state"])


def test_init_containers_ran_and_images_were_there_before_anyone_was_released(article: Gang) -> None:
    first = min(article.starts(1).values())
    prepared = article.records("prepared")
    assert sorted(line["rank"] for line in prepared) == list(range(8))
    assert max(line["at"] for line in prepared) <= first
    for pod in article.pods():
        names = [c["name"] for c in pod["spec"]["initContainers"]]
        assert names == ["prepare", "logs", "fleetctl-pull-0", "fleetctl-life", "fleetctl-agent"]
        images = {c["name"]: c["image"] for c in pod["spec"]["initContainers"]}
        regular = {c["image"] for c in pod["spec"]["containers"]}
        assert regular == {images["fleetctl-pull-0"], images["fleetctl-life"]}


def test_each_rank_is_told_who_it_is(gang: Gang) -> None:
    told = {}
    for rank in (0, 5):
        lines = kubectl("exec", gang.pod(rank), "-c", "trainer", "--", "env").splitlines()
        told[rank] = dict(line.split("=", 1) for line in lines)
    assert told[5]["FLEETCTL_RANK"] == told[5]["PET_NODE_RANK"] == "5"
    assert told[5]["FLEETCTL_SIZE"] == told[5]["PET_NNODES"] == "8"
    assert told[5]["FLEETCTL_COORDINATOR"] == "llm-coordinator:29500"
    assert (told[5]["PET_MASTER_ADDR"], told[5]["PET_MASTER_PORT"]) == ("llm-coordinator", "29500")


def test_ranks_find_each_other_and_the_coordinator_by_name(gang: Gang) -> None:
    ip = gang.seen()[3].ip
    ask = "import socket; print(socket.gethostbyname('llm-worker-3.llm'), socket.gethostbyname('llm-coordinator'))"
    found = kubectl("exec", gang.pod(6), "-c", "trainer", "--", "python3", "-c", ask).split()
    assert found == [ip, get("service", "llm-coordinator")["spec"]["clusterIP"]]


def test_a_start_costs_two_status_writes_and_no_call_of_an_agent(gang: Gang) -> None:
    audit = Audit()
    with Gang("counted") as counted:
        counted.running(attempt=1)
        assert audit.calls_of_agents() == []
        writes = audit.writes_of_controller()
    assert writes.count("update gangs/status") == 2
    assert writes.count("create pods") == 8 + 1  # one of them a dry run
    assert len(writes) == 2 + 9 + 3 + 1  # two Services and a ConfigMap, one Event


def test_kubectl_shows_size_readiness_attempt_state_and_cause(gang: Gang) -> None:
    header, line = kubectl("get", "gang", gang.name).splitlines()
    assert header.split() == ["NAME", "SIZE", "READY", "ATTEMPT", "STATE", "LAST", "CAUSE", "AGE"]
    assert line.split()[:5] == ["llm", "8", "8", "1", "AllRanksReleased"]


def test_the_agent_is_small(gang: Gang) -> None:
    node, pid = gang.agent_pid(2)
    memory = on_node(node, f"grep VmHWM /proc/{pid}/status")
    assert int(memory.split()[1]) <= 24 * 1024
