"""`fleetctl replay --backend kind`, as it is typed: what it refuses, what it leaves behind, and its exit code."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "kind"))  # the vocabulary
from docker import IMAGE, Docker

from fleetctl.cli import main as cli
from fleetctl.cli import replay_kind
from fleetctl.kind import install
from fleetctl.kind.cluster import Cluster
from fleetctl.kind.shell import CommandFailed
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.outcome import Outcome
from fleetctl.sim.journal import Event, Faulted

SCENARIO = """\
version: 1
name: NAME
why: nothing happens
seed: 7
backends: [sim, kind]
world:
  gang: {ranks: 8}
kind: {ranks: 8, workers: 4}
expect:
- running: {within: 60s}
"""
MADE = "kind create cluster --name fleetctl-replay --wait 120s --config -"
DELETED = "kind delete cluster --name fleetctl-replay"
TAKEN_AWAY = "kubectl delete -k /kind/fleetctl/overlay --ignore-not-found"


Described = Callable[[Docker], object]
"""Changes a Docker in which everything is as it should be."""


def file(folder: Path, name: str = "demo", **changes: str) -> Path:
    text = SCENARIO.replace("NAME", name)
    for old, new in changes.items():
        text = text.replace(*{"workers": ("workers: 4", new), "backends": ("[sim, kind]", new)}[old])
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def fleetctl(*arguments: object) -> int:
    """Its exit code."""
    try:
        return cli._dispatch(["fleetctl", "replay", *map(str, arguments)])
    except SystemExit as ended:  # argparse's way to say that the usage was wrong
        return int(ended.code or 0)


class Rehearsals:
    """Stands in for the runs on the cluster. `ends` is how each of them does."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.clusters: list[Cluster] = []
        self.images: list[str] = []
        self.ends: dict[str, Any] = {}
        self.raises: BaseException | None = None

    async def rehearse(
        self,
        scenario: Scenario,
        seed: int,
        cluster: Cluster,
        image: str,
        *,
        watch: Callable[[Event], None] | None = None,
    ) -> Outcome:
        self.docker.changes.append(f"rehearse {scenario.name} {seed}")
        self.clusters.append(cluster)
        self.images.append(image)
        if watch:
            watch(Faulted(at=3.0, fault="node_dark", family="node", phase="begins", text="demo-worker: goes dark"))
        if self.raises:
            raise self.raises
        told = {"verdict": "pass", "wall_s": 20.0, "virtual_s": 12.5, "trace_hash": "", "backend": "kind"}
        return Outcome(scenario.name, seed, **(told | self.ends))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """With a kind cluster "demo" that will do; fleetctl is not deployed there."""
    docker = Docker(tmp_path)
    docker.stands_in(monkeypatch)
    docker.runs("demo", 4)
    return docker


@pytest.fixture
def runs(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Rehearsals:
    runs = Rehearsals(docker)
    monkeypatch.setattr(replay_kind, "rehearse", runs.rehearse)
    return runs


def steps(docker: Docker) -> list[str]:
    """What was changed, without the details of how fleetctl is deployed."""
    of_deploying = ("sh -c docker save", "docker cp", "demo-control", "fleetctl-replay-control")
    return [change for change in docker.changes if not change.startswith(of_deploying)]


# Refused


def stop(docker: Docker, number: int, state: str) -> None:
    docker.clusters["demo"][number].state = state


def has(**facts: Any) -> Described:
    """Nothing is different but these facts."""
    return lambda docker: vars(docker).update(facts)


def two_planes(docker: Docker) -> None:
    docker.runs("demo", 5)[5].role = "control-plane"


def not_ready(docker: Docker) -> None:
    docker.clusters["demo"][2].ready = False
    docker.clusters["demo"][3].ready = False


def shares_no(number: int) -> Described:
    return lambda docker: docker.clusters["demo"][number].mounts.clear()


def audit_is_not_here(docker: Docker) -> None:
    (docker.folder / "audit").rmdir()


OTHER = "use another cluster, or another kind: {workers: …} in its file"
SHARES = (
    "with this machine, from which a run is judged; leave --context out and one is made that does (--keep keeps it)"
)
FOUND: list[tuple[str, Described, str]] = [
    (
        "no docker",
        lambda docker: docker.programs.clear(),
        "there is no docker here: install Docker, or use --backend sim",
    ),
    (
        "Docker does not answer",
        has(fails={"docker version": CommandFailed("docker version: exit 1: no daemon")}),
        "Docker does not answer: start it, or use --backend sim (docker version: exit 1: no daemon)",
    ),
    (
        "no such cluster",
        lambda docker: docker.clusters.clear(),
        'Docker has no nodes of a kind cluster "demo": see kind get clusters',
    ),
    (
        "more workers",
        lambda docker: docker.runs("demo", 5),
        f'kind cluster "demo" has 1 control planes and 5 workers; the scenario is for 1 and 4: {OTHER}',
    ),
    (
        "fewer workers",
        lambda docker: docker.runs("demo", 3),
        f'kind cluster "demo" has 1 control planes and 3 workers; the scenario is for 1 and 4: {OTHER}',
    ),
    (
        "two control planes",
        two_planes,
        f'kind cluster "demo" has 2 control planes and 4 workers; the scenario is for 1 and 4: {OTHER}',
    ),
    (
        "a stopped node",
        lambda docker: stop(docker, 0, "exited"),
        "nodes are not running: demo-control-plane: docker start (or unpause) them",
    ),
    (
        "a paused node",
        lambda docker: stop(docker, 2, "paused"),
        "nodes are not running: demo-worker2: docker start (or unpause) them",
    ),
    (
        "no API server",
        has(fails={"kubectl version": CommandFailed("kubectl: exit 1: connection refused")}),
        "the API server does not answer: kubectl: exit 1: connection refused",
    ),
    (
        "nodes that are no containers",
        has(strangers=["gpu-7", "gpu-12"]),
        "nodes that are no containers of this kind cluster: gpu-12, gpu-7: nothing is touched",
    ),
    ("not Ready", not_ready, "nodes are not Ready: demo-worker2, demo-worker3: wait, or make another cluster"),
    (
        "Kubernetes 1.35",
        has(version=("35", "v1.35.2")),
        "this is Kubernetes v1.35.2; restarts in place need 1.36: kind create cluster --image kindest/node:v1.36.4",
    ),
    (
        "the feature gate is off",
        has(restarts_all=False),
        "the API server knows no RestartAllContainers: its feature gate RestartAllContainersOnContainerExits is off",
    ),
    (
        "gangs of somebody",
        has(knows_gangs=True, gangs=["llm", "bert"]),
        "gangs are there already (gang.fleetctl.dev/llm, gang.fleetctl.dev/bert): delete them, or use another cluster",
    ),
    ("no records", shares_no(1), f'kind cluster "demo" shares no /records {SHARES}'),
    ("no audit log", shares_no(0), f'kind cluster "demo" shares no /kind/audit {SHARES}'),
    ("an audit log elsewhere", audit_is_not_here, f'kind cluster "demo" shares no /kind/audit {SHARES}'),
]


@pytest.mark.parametrize(("described", "refusal"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
@pytest.mark.parametrize("fleetctl_is_there", [False, True])
def test_a_cluster_that_will_not_do_is_refused_before_anything_is_touched(
    fleetctl_is_there: bool,
    described: Described,
    refusal: str,
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    docker.deployed = IMAGE if fleetctl_is_there else ""
    described(docker)
    assert fleetctl("--backend", "kind", "--context", "kind-demo", file(tmp_path)) == 3
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"fleetctl replay: {refusal}\n")
    assert docker.changes == []


@pytest.mark.parametrize("context", ["production", "minikube", "demo", "my-kind-demo", ""])
def test_a_cluster_that_is_not_of_kind_is_never_touched(
    context: str, docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetctl("--backend", "kind", "--context", context, file(tmp_path)) == 3
    assert capsys.readouterr().err == (
        f'fleetctl replay: context "{context}" is not one of kind (they are called kind-NAME), and may be a cluster '
        "that somebody needs: leave --context out, and one is made\n"
    )
    assert docker.changes == []
    assert [command for command, _ in docker.calls] == ["docker version"]


NO_IMAGE = "Docker has no image other:1: make image, or name another with --image"
NOT_INSTALLED: list[tuple[str, Described, tuple[str, ...], str]] = [
    (
        "another image is deployed",
        has(deployed="theirs:3"),
        ("--image", "other:1"),
        "fleetctl is deployed there as theirs:3: leave --image out, or delete it: kubectl delete -k manifests",
    ),
    ("no such image", has(), ("--image", "other:1"), NO_IMAGE),
    ("no image", has(images=set()), (), NO_IMAGE.replace("other:1", IMAGE)),
]


@pytest.mark.parametrize(
    ("described", "options", "refusal"), [case[1:] for case in NOT_INSTALLED], ids=[case[0] for case in NOT_INSTALLED]
)
def test_fleetctl_that_cannot_be_deployed_is_told_before_anything_is_touched(
    described: Described,
    options: tuple[str, ...],
    refusal: str,
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    described(docker)
    assert fleetctl("--backend", "kind", "--context", "kind-demo", *options, file(tmp_path)) == 3
    assert capsys.readouterr().err == f"fleetctl replay: {refusal}\n"
    assert docker.changes == []


@pytest.mark.parametrize("context", [(), ("--context", "kind-demo")])
def test_without_a_checkout_nothing_can_be_deployed(
    context: tuple[str, ...],
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(install, "MANIFESTS", tmp_path / "manifests")
    assert fleetctl("--backend", "kind", *context, file(tmp_path)) == 3
    assert capsys.readouterr().err == (
        f"fleetctl replay: there are no manifests at {tmp_path}/manifests: run fleetctl from a checkout, or deploy it "
        "yourself first\n"
    )
    assert docker.changes == []


NOT_MADE: list[tuple[str, Described, str]] = [
    FOUND[0],
    FOUND[1],
    (
        "no kind",
        has(programs={"docker"}),
        "there is no kind here: install it (kind.sigs.k8s.io), or name a cluster with --context",
    ),
    (
        "a cluster of that name",
        lambda docker: docker.runs("fleetctl-replay", 4),
        'a kind cluster "fleetctl-replay" is there already: use it with --context kind-fleetctl-replay, or delete it',
    ),
    ("no image", has(images=set()), NO_IMAGE.replace("other:1", IMAGE)),
]


@pytest.mark.parametrize(("described", "refusal"), [case[1:] for case in NOT_MADE], ids=[case[0] for case in NOT_MADE])
def test_a_cluster_that_cannot_be_made_is_told_before_anything_is_touched(
    described: Described,
    refusal: str,
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    described(docker)
    assert fleetctl("--backend", "kind", file(tmp_path)) == 3
    assert capsys.readouterr().err.splitlines()[-1] == f"fleetctl replay: {refusal}"
    assert docker.changes == []


def test_files_that_want_different_clusters_are_replayed_apart(
    docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = file(tmp_path, "four"), file(tmp_path, "two", workers="workers: 2")
    assert fleetctl("--backend", "kind", "--context", "kind-demo", *files) == 3
    assert capsys.readouterr().err == "fleetctl replay: the files want clusters of [2, 4] workers: replay them apart\n"
    assert docker.calls == []


# Usage


@pytest.mark.parametrize("backend", ["kind", "both"])
def test_files_that_are_not_made_for_kind_are_told(
    backend: str, docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = file(tmp_path, "good"), *(file(tmp_path, name, backends="[sim]") for name in ("a", "b"))
    assert fleetctl("--backend", backend, "--seeds", "1..3", *files) == 2
    assert capsys.readouterr().err == (
        f"fleetctl replay: {files[1]}, {files[2]}: not made for kind; backends: in the file says where it runs\n"
    )
    assert docker.calls == []


@pytest.mark.parametrize("backend", ["kind", "both"])
@pytest.mark.parametrize("options", [("--trace", "t"), ("--jobs", "2")])
def test_traces_and_jobs_are_of_the_simulator(
    options: tuple[str, str],
    backend: str,
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fleetctl("--backend", backend, *options, file(tmp_path)) == 2
    assert capsys.readouterr().err == "fleetctl replay: --trace and --jobs are for --backend sim\n"
    assert docker.calls == []


@pytest.mark.parametrize(
    "options", [("--context", "kind-demo"), ("--keep",), ("--image", "mine:1"), ("--logs", "folder")]
)
@pytest.mark.parametrize("backend", [(), ("--backend", "sim")])
def test_options_of_kind_are_not_taken_for_the_simulator(
    backend: tuple[str, ...],
    options: tuple[str, ...],
    docker: Docker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fleetctl(*backend, *options, file(tmp_path)) == 2
    assert (
        capsys.readouterr().err
        == "fleetctl replay: --context, --keep, --image and --logs are for --backend kind or both\n"
    )
    assert docker.calls == []


# What is left behind


def test_a_cluster_is_made_used_for_all_runs_and_deleted(docker: Docker, runs: Rehearsals, tmp_path: Path) -> None:
    files = file(tmp_path, "a"), file(tmp_path, "b")
    assert fleetctl("--backend", "kind", *files, "--seeds", "1..2") == 0
    each = [f"rehearse {name} {seed}" for name in ("a", "b") for seed in (1, 2)]
    deployed = ["kubectl apply -k /kind/fleetctl/overlay", *each, TAKEN_AWAY]
    assert steps(docker) == [MADE, *deployed, DELETED]
    assert {cluster.name for cluster in runs.clusters} == {"fleetctl-replay"}
    assert set(runs.images) == {IMAGE}
    assert not runs.clusters[0].records.parent.exists()  # nor are records and log left


WAYS: list[tuple[str, dict[str, Any], BaseException | None, int]] = [
    ("passes", {}, None, 0),
    ("fails", {"verdict": "fail", "unmet": ["expected x; seen y"]}, None, 1),
    ("breaks", {"verdict": "fail", "broken": "no world"}, None, 3),
    ("loses Docker", {}, CommandFailed("docker exec: exit 1: no"), 3),
    ("is interrupted", {}, asyncio.CancelledError(), 130),
]


@pytest.mark.parametrize(("ends", "raises", "code"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])
@pytest.mark.parametrize("keep", [False, True])
def test_what_was_made_is_gone_however_the_run_ends_unless_it_is_kept(
    keep: bool,
    ends: dict[str, Any],
    raises: BaseException | None,
    code: int,
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runs.ends, runs.raises = ends, raises
    options = ["--keep"] if keep else []
    assert fleetctl("--backend", "kind", *options, "--logs", tmp_path / "logs", file(tmp_path)) == code
    applied = "kubectl apply -k /kind/fleetctl/overlay"
    changed = [each for each in steps(docker) if " logs " not in each and " events " not in each]
    assert changed == [MADE, applied, "rehearse demo 7", TAKEN_AWAY, *([] if keep else [DELETED])]
    assert runs.clusters[0].records.exists() == keep


@pytest.mark.parametrize(("ends", "raises", "code"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])
@pytest.mark.parametrize("there", ["", "theirs:3"])
def test_a_cluster_that_was_there_stays_as_it_was(
    there: str,
    ends: dict[str, Any],
    raises: BaseException | None,
    code: int,
    docker: Docker,
    runs: Rehearsals,
    tmp_path: Path,
) -> None:
    docker.deployed = there
    runs.ends, runs.raises = ends, raises
    arguments = ("--backend", "kind", "--context", "kind-demo", "--logs", tmp_path / "logs", file(tmp_path))
    assert fleetctl(*arguments) == code
    assert docker.deployed == there
    assert "demo" in docker.clusters
    assert not [change for change in docker.changes if change.startswith("kind ")]
    assert runs.images == [there or IMAGE]


def test_a_cluster_that_kind_fails_to_make_is_code_3(
    docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.fails["kind create"] = CommandFailed("kind create cluster: exit 1: no space left")
    assert fleetctl("--backend", "kind", file(tmp_path)) == 3
    assert capsys.readouterr().err.splitlines() == [
        "making a kind cluster of 4 workers …",
        "fleetctl replay: kind create cluster: exit 1: no space left",
    ]
    assert docker.changes == [MADE, DELETED]


# What is told


def test_a_run_is_told_as_it_happens_and_judged(
    docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetctl("--backend", "kind", "--context", "kind-demo", file(tmp_path)) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "demo: nothing happens"
    assert "     3.0  FAULT  demo-worker: goes dark" in lines
    assert lines[-1].startswith("PASS demo  seed 7")
    assert told.err == ""


def test_a_run_that_failed_leaves_logs(
    docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.ends = {"verdict": "fail", "unmet": ["expected x; seen y"]}
    logs = tmp_path / "logs"
    assert fleetctl("--backend", "kind", "--context", "kind-demo", "--logs", logs, file(tmp_path)) == 1
    told = capsys.readouterr()
    assert "UNMET     expected x; seen y" in told.out
    assert told.err == f"logs: {logs}\n"
    assert {path.name for path in logs.iterdir()} >= {"controller.log", "timeline.txt"}


def test_with_both_each_run_is_simulated_first(
    docker: Docker, runs: Rehearsals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--backend", "both", "--context", "kind-demo", "-o", "json", file(tmp_path))
    assert fleetctl(*arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["backend"] for run in told["runs"]] == ["sim", "kind"]
    assert [run["verdict"] for run in told["runs"]] == ["pass", "pass"]


# Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("context", [(), ("--context", "kind-demo")])
def test_a_signal_cleans_up_and_is_130(
    number: signal.Signals,
    context: tuple[str, ...],
    docker: Docker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def goes_on_for_ever(*_: object, **__: object) -> Outcome:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(replay_kind, "rehearse", goes_on_for_ever)
    assert fleetctl("--backend", "kind", *context, file(tmp_path)) == 130
    assert steps(docker)[-1] == (TAKEN_AWAY if context else DELETED)
    assert (docker.deployed, list(docker.clusters)) == ("", ["demo"])
    assert capsys.readouterr().err.endswith("fleetctl replay: interrupted; the cluster is as it was\n")


def test_a_second_signal_does_not_keep_it_from_cleaning_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned_up = []

    async def works(*_: object) -> list[Outcome]:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(100):  # what has come is delivered
                await asyncio.sleep(0)
            cleaned_up.append(True)
        raise AssertionError

    monkeypatch.setattr(replay_kind, "_all", works)
    assert fleetctl("--backend", "kind", file(tmp_path)) == 130
    assert cleaned_up == [True]
