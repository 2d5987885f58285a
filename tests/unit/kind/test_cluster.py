"""A kind cluster is found as it is, or made and always taken away again. Refusals: test_replay_kind.py."""

import asyncio
import json
from pathlib import Path

import pytest
from docker import Docker

from fleetctl.kind import cluster as under_test
from fleetctl.kind.cluster import Cluster, Unsuitable, find, made
from fleetctl.kind.shell import CommandFailed

CREATE = "kind create cluster --name mine --wait 120s --config -"
DELETE = "kind delete cluster --name mine"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    docker = Docker(tmp_path)
    docker.stands_in(monkeypatch)
    return docker


@pytest.fixture
async def cluster(docker: Docker) -> Cluster:
    docker.runs("demo", 2)
    return await find("kind-demo", 2)


# Found


async def test_a_cluster_is_found_with_its_nodes_in_order_and_nothing_is_changed(docker: Docker) -> None:
    nodes = docker.runs("demo", 11)
    docker.clusters["demo"] = sorted(nodes, key=lambda node: node.name)  # worker, worker10, worker11, worker2 …
    docker.runs("other", 3)
    found = await find("kind-demo", 11)
    workers = ("demo-worker", *(f"demo-worker{number}" for number in range(2, 12)))
    assert found == Cluster(
        "demo", "demo-control-plane", workers, docker.folder / "records", docker.folder / "audit" / "audit.log"
    )
    assert docker.changes == []


@pytest.mark.parametrize(("minor", "git"), [("36", "v1.36.0"), ("37+", "v1.37.1-gke.4")])
async def test_kubernetes_may_be_newer(minor: str, git: str, docker: Docker) -> None:
    docker.runs("demo", 2)
    docker.version = (minor, git)
    assert (await find("kind-demo", 2)).name == "demo"


async def test_fleetctl_may_be_there_if_no_gangs_are(docker: Docker) -> None:
    docker.runs("demo", 2)
    docker.knows_gangs = True
    assert (await find("kind-demo", 2)).name == "demo"


async def test_no_answer_about_gangs_is_not_taken_for_none(docker: Docker) -> None:
    docker.runs("demo", 2)
    docker.knows_gangs = True
    docker.fails["kubectl get gangs"] = CommandFailed("etcd is away")
    with pytest.raises(CommandFailed):
        await find("kind-demo", 2)


async def test_whether_restarts_in_place_are_on_is_asked_without_creating_anything(docker: Docker) -> None:
    docker.runs("demo", 2)
    await find("kind-demo", 2)
    ((asked, pod),) = [(command, stdin) for command, stdin in docker.calls if "create" in command]
    assert "--dry-run=server" in asked.split()
    (container,) = json.loads(pod)["spec"]["containers"]
    assert [rule["action"] for rule in container["restartPolicyRules"]] == ["RestartAllContainers"]


# Made


async def test_a_cluster_that_was_made_may_be_used_and_is_gone_in_the_end(docker: Docker, tmp_path: Path) -> None:
    docker.runs("somebody-s", 4)
    async with made("mine", 3, tmp_path / "shared", keep=False) as context:
        assert context == "kind-mine"
        assert docker.changes == [CREATE]
        found = await find(context, 3)
    assert (found.records, found.audit_log) == (tmp_path / "shared/records", tmp_path / "shared/audit/audit.log")
    assert docker.changes == [CREATE, DELETE]
    assert list(docker.clusters) == ["somebody-s"]


async def test_the_api_server_keeps_an_audit_log_that_we_may_read_and_pods_may_write_records(
    docker: Docker, tmp_path: Path
) -> None:
    async with made("mine", 3, tmp_path, keep=False):
        assert (tmp_path / "audit/audit.log").read_text() == ""
        assert "fleetctl.dev" in (tmp_path / "audit/policy.yaml").read_text()
        assert (tmp_path / "records").stat().st_mode & 0o777 == 0o777
    (config,) = [json.loads(stdin) for command, stdin in docker.calls if command == CREATE]
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker", "worker"]
    api_server = json.loads(config["kubeadmConfigPatches"][0])["apiServer"]
    assert {each["name"]: each["value"] for each in api_server["extraArgs"]} == {
        "audit-policy-file": "/kind/audit/policy.yaml",
        "audit-log-path": "/kind/audit/audit.log",
    }
    (volume,) = api_server["extraVolumes"]
    assert (volume["hostPath"], volume["mountPath"]) == ("/kind/audit", "/kind/audit")


@pytest.mark.parametrize("error", [RuntimeError("no"), CommandFailed("no"), asyncio.CancelledError()])
@pytest.mark.parametrize("keep", [False, True])
async def test_a_cluster_that_was_made_is_gone_however_its_use_ends_unless_it_is_kept(
    error: BaseException, keep: bool, docker: Docker, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        async with made("mine", 1, tmp_path, keep=keep):
            raise error
    assert docker.changes == ([CREATE] if keep else [CREATE, DELETE])


async def test_a_cluster_is_kept_if_it_is_to_be(docker: Docker, tmp_path: Path) -> None:
    async with made("mine", 1, tmp_path, keep=True):
        pass
    assert docker.changes == [CREATE]


@pytest.mark.parametrize("error", [CommandFailed("no space"), asyncio.CancelledError()])
async def test_what_is_half_made_is_taken_away(error: BaseException, docker: Docker, tmp_path: Path) -> None:
    docker.fails["kind create"] = error
    with pytest.raises(type(error)):
        async with made("mine", 1, tmp_path, keep=False):
            pytest.fail("there is no cluster to use")
    assert docker.changes == [CREATE, DELETE]


async def test_a_cluster_of_that_name_is_left_alone(docker: Docker, tmp_path: Path) -> None:
    docker.runs("mine", 1)
    with pytest.raises(Unsuitable):
        async with made("mine", 1, tmp_path, keep=False):
            pytest.fail("it is not ours")
    assert docker.changes == []


# Used


async def test_what_is_asked_of_a_cluster(docker: Docker, cluster: Cluster) -> None:
    assert (await cluster.get("node", "demo-worker"))["metadata"]["name"] == "demo-worker"
    assert await cluster.get("pod", "none", "-n", "default") is None
    await cluster.apply({"kind": "Gang"}, {"kind": "Pod"})
    await cluster.on_node("demo-worker2", "ls")
    await cluster.docker("pause", "demo-worker")
    assert docker.changes == [
        'kubectl apply -f - < {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Gang"}, {"kind": "Pod"}]}',
        "demo-worker2: sh -s < ls",
        "docker pause demo-worker",
    ]


@pytest.mark.parametrize("missing", ["renewed", "ready", "pods"])
async def test_a_node_is_back_once_it_is_ready_has_renewed_its_lease_and_knows_its_pods(
    missing: str, docker: Docker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, looks = docker.clusters["demo"][1], 1
    docker.renewed = "2026-11-21T06:00:04Z" if missing == "renewed" else "2026-11-21T06:00:05Z"
    docker.node_pods = [] if missing == "pods" else [{}]
    node.ready = missing != "ready"

    async def next_look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            docker.renewed, docker.node_pods, node.ready = "2026-11-21T06:00:06Z", [{}], True

    monkeypatch.setattr(under_test.asyncio, "sleep", next_look)
    await cluster.back("demo-worker", since=1795240805.0)  # 06:00:05
    assert looks == 3


async def test_a_node_that_does_not_come_back_is_told(
    docker: Docker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "BACK_S", -1.0)
    docker.clusters["demo"][1].ready = False
    with pytest.raises(CommandFailed) as failed:
        await cluster.back("demo-worker", since=0.0)
    assert str(failed.value) == "demo-worker is not Ready again within -1 s"


async def test_an_api_server_that_does_not_answer_yet_is_waited_for(
    docker: Docker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers_again(seconds: float) -> None:
        docker.fails.clear()

    docker.fails["get lease"] = CommandFailed("no answer")
    monkeypatch.setattr(under_test.asyncio, "sleep", answers_again)
    await cluster.back("demo-worker", since=0.0)
