"""fleetctl that is there is left as it is; where there is none it is deployed, and taken away again."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from docker import IMAGE, Docker

from fleetctl.kind.cluster import Cluster, Unsuitable, find
from fleetctl.kind.install import MANIFESTS, deployed
from fleetctl.kind.shell import CommandFailed

TAKEN_AWAY = "kubectl delete -k /kind/fleetctl/overlay --ignore-not-found"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    docker = Docker(tmp_path)
    docker.stands_in(monkeypatch)
    return docker


@pytest.fixture
async def cluster(docker: Docker) -> Cluster:
    docker.runs("demo", 2)
    return await find("kind-demo", 2)


def overlay(docker: Docker) -> Any:
    """The kustomization that was put into the control plane."""
    (script,) = [stdin for _, stdin in docker.calls if "kustomization.yaml" in stdin]
    return json.loads(script.splitlines()[1])


async def test_fleetctl_is_deployed_and_taken_away_again(docker: Docker, cluster: Cluster) -> None:
    nodes = ("demo-control-plane", "demo-worker", "demo-worker2")
    async with deployed(cluster, None) as image:
        assert image == IMAGE
        *loaded, cleared, copied, written, applied = docker.changes
        assert loaded == [
            f"sh -c docker save {IMAGE} | docker exec -i {node} ctr -n k8s.io images import -" for node in nodes
        ]
        assert cleared.startswith("demo-control-plane: sh -s < rm -rf /kind/fleetctl &&")
        assert copied == f"docker cp {MANIFESTS} demo-control-plane:/kind/fleetctl/manifests"
        assert written.startswith("demo-control-plane: sh -s < cat >/kind/fleetctl/overlay/kustomization.yaml")
        assert applied == "kubectl apply -k /kind/fleetctl/overlay"
        assert docker.calls[-1][0].startswith("kubectl -n fleetctl-system rollout status")  # it is waited for
        before = len(docker.changes)
    assert docker.changes[before:] == [TAKEN_AWAY]


async def test_the_controller_runs_where_no_fault_hits_it(docker: Docker, cluster: Cluster) -> None:
    async with deployed(cluster, None):
        pass
    (patch,) = overlay(docker)["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": "fleetctl-controller"}
    selector, tolerations, replicas = json.loads(patch["patch"])
    assert selector["value"] == {"node-role.kubernetes.io/control-plane": ""}
    assert [each["key"] for each in tolerations["value"]] == ["node-role.kubernetes.io/control-plane"]
    assert replicas["value"] == 1


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("mine:1", "mine", "1"),
        ("mine", "mine", "latest"),
        ("registry:5000/team/mine:1", "registry:5000/team/mine", "1"),
        ("registry:5000/mine", "registry:5000/mine", "latest"),
    ],
)
async def test_an_image_may_be_named(image: str, name: str, tag: str, docker: Docker, cluster: Cluster) -> None:
    docker.images.add(image)
    async with deployed(cluster, image) as runs:
        assert runs == image
    assert overlay(docker)["images"] == [{"name": "fleetctl", "newName": name, "newTag": tag}]


@pytest.mark.parametrize("error", [RuntimeError("no"), CommandFailed("no"), asyncio.CancelledError()])
async def test_what_we_deployed_is_taken_away_however_its_use_ends(
    error: BaseException, docker: Docker, cluster: Cluster
) -> None:
    with pytest.raises(type(error)):
        async with deployed(cluster, None):
            raise error
    assert docker.changes[-1] == TAKEN_AWAY


@pytest.mark.parametrize("words", ["docker save", "docker cp", "kubectl apply", "rollout status"])
@pytest.mark.parametrize("error", [CommandFailed("no"), asyncio.CancelledError()])
async def test_what_is_half_deployed_is_taken_away(
    error: BaseException, words: str, docker: Docker, cluster: Cluster
) -> None:
    docker.fails[words] = error
    with pytest.raises(type(error)):
        async with deployed(cluster, None):
            pytest.fail("it does not run")
    assert docker.changes[-1] == TAKEN_AWAY


async def test_that_it_cannot_be_taken_away_does_not_hide_why_the_run_ended(docker: Docker, cluster: Cluster) -> None:
    docker.fails["kubectl delete -k"] = CommandFailed("no")
    with pytest.raises(RuntimeError, match="why"):
        async with deployed(cluster, None):
            raise RuntimeError("why")


@pytest.mark.parametrize("error", [None, RuntimeError("no"), asyncio.CancelledError()])
@pytest.mark.parametrize("image", [None, "theirs:3"])
async def test_fleetctl_that_is_there_is_waited_for_and_stays(
    error: BaseException | None, image: str | None, docker: Docker, cluster: Cluster
) -> None:
    docker.deployed = "theirs:3"
    try:
        async with deployed(cluster, image) as runs:
            assert runs == "theirs:3"
            assert docker.calls[-1][0].startswith("kubectl -n fleetctl-system rollout status")
            if error:
                raise error
    except (RuntimeError, asyncio.CancelledError) as raised:
        assert raised is error  # noqa: PT017
    assert docker.changes == []


async def test_an_image_other_than_the_one_that_is_there_is_refused(docker: Docker, cluster: Cluster) -> None:
    docker.deployed = "theirs:3"
    with pytest.raises(Unsuitable):
        async with deployed(cluster, "mine:1"):
            pytest.fail("it is another image")
    assert docker.changes == []
