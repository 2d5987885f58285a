"""The rivals write, list and watch as often as jobset.md says they do, and bring every rank to the new attempt.

On a real API server; skipped, with the reason, where there is none.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from fleetctl.gang.pods import LABEL_ATTEMPT
from tests.conformance.realserver import Missing
from tests.scale import rivals
from tests.scale.client import Object
from tests.scale.fleet import PER_NODE, a_gang, build
from tests.scale.jobset import ATTEMPT, READY_FLIPS, ROOT
from tests.scale.rivals import PACE_PER_S, Measured, Site, jobset, paced, recreate

RANKS = 16
STATUSES = 5 * RANKS
"""What kubelets tell of a restart in place, or of an end and a start."""
pytestmark = pytest.mark.timeout(120, func_only=True)  # the programs may have to be built first


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    try:
        with rivals.site(tmp_path_factory.mktemp("site")) as site:
            yield site
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a real API server: {missing}")
        pytest.skip(f"no real API server: {missing}")


def pods(site: Site, name: str) -> list[Object]:
    found: list[Object] = site.server.ask("GET", f"/api/v1/namespaces/{name}/pods")["items"]
    return found


def asked(measured: Measured) -> dict[tuple[str, str], int]:
    """By user, verb and resource in short, but for watches that the server hung up on because they were read slowly."""
    out: Counter[tuple[str, str]] = Counter()
    for request, number in measured.requests.items():
        assert request.code == 0, request
        if request.verb == "watch" and request.user != "agent":
            continue
        out[request.user, f"{request.verb} {request.what}"] += number
    return dict(out)


def test_jobset_restarts_in_place_with_a_patch_a_list_and_a_watch_per_rank(here: Site):
    measured = asyncio.run(jobset(here, "in-place", RANKS, kubelets=True, quiet_s=0.2))
    assert asked(measured) == {
        ("agent", "get /api"): RANKS,
        ("agent", "get /apis"): RANKS,
        ("agent", "list jobsets"): RANKS,
        ("agent", "watch jobsets"): RANKS,
        ("agent", "patch pods"): RANKS,
        ("controller", "update jobsets/status"): 2 + READY_FLIPS,
        ("kubelet", "get pods"): STATUSES,
        ("kubelet", "patch pods/status"): STATUSES,
    }
    found = pods(here, "in-place")
    assert [pod["metadata"]["annotations"][ATTEMPT] for pod in found] == ["1"] * RANKS
    assert restarts(found) == {1}
    (there,) = here.server.ask("GET", f"{ROOT}/namespaces/in-place/jobsets")["items"]
    assert there["status"]["currentInPlaceRestartAttempt"] == 1
    assert there["status"]["previousInPlaceRestartAttempt"] == 0


def test_to_recreate_a_gang_takes_a_delete_a_post_and_a_binding_per_rank(here: Site):
    measured = asyncio.run(recreate(here, "anew", RANKS, kubelets=True, quiet_s=0.2))
    assert asked(measured) == {
        ("controller", "delete pods"): RANKS,
        ("controller", "create pods"): RANKS,
        ("scheduler", "create pods/binding"): RANKS,
        ("scheduler", "create events"): RANKS,
        ("kubelet", "get pods"): STATUSES,
        ("kubelet", "patch pods/status"): STATUSES,
        ("kubelet", "delete pods"): RANKS,
    }
    found = pods(here, "anew")
    assert [pod["metadata"]["labels"][LABEL_ATTEMPT] for pod in found] == ["2"] * RANKS
    assert {pod["status"]["phase"] for pod in found} == {"Running"}
    assert restarts(found) == {0}


def test_to_recreate_slowly_takes_as_much_and_longer(here: Site):
    measured = asyncio.run(paced(here, "slowly", RANKS, kubelets=False, quiet_s=0.2))
    assert asked(measured) == {
        ("controller", "delete pods"): RANKS,
        ("controller", "create pods"): RANKS,
        ("scheduler", "create pods/binding"): RANKS,
        ("scheduler", "create events"): RANKS,
    }
    assert measured.seconds >= RANKS / PACE_PER_S
    found = pods(here, "slowly")
    assert [pod["metadata"]["labels"][LABEL_ATTEMPT] for pod in found] == ["2"] * RANKS
    assert Counter(pod["spec"]["nodeName"] for pod in found) == {"slowly-0": PER_NODE, "slowly-1": PER_NODE}


def test_a_pod_is_as_large_as_pods_are(here: Site):
    fleet = asyncio.run(build(here.server, a_gang("large", 1)))
    (pod,) = pods(here, "large")
    assert pod["metadata"]["uid"] == fleet.uids["llm-worker-0"]
    assert len(json.dumps(pod, separators=(",", ":"))) >= 8192
    assert {field["manager"] for field in pod["metadata"]["managedFields"]} == {"fleetctl", "kubelet"}


def restarts(found: list[Object]) -> set[int]:
    return {c["restartCount"] for pod in found for c in pod["status"]["containerStatuses"]}
