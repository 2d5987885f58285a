"""A rank that loses its machine takes the room of a spare: no scheduler, no image to pull. The next pods stay off a
machine that was found bad, until somebody lifts that.
"""

import json
import time
from typing import Any

import pytest
from fleet import (
    FLEETCTL,
    WORKERS,
    Audit,
    Gang,
    fleetctl_status,
    get,
    kill_node,
    kubectl,
    plain_template,
    run,
    start_node,
    until,
)

pytestmark = [pytest.mark.usefixtures("fleet"), pytest.mark.timeout(600)]
ROLE = "fleetctl.dev/role"


class Spared(Gang):
    """A gang with spares: one rank or spare on each worker."""

    def __init__(self, name: str, ranks: int, spares: int) -> None:
        template = plain_template(name)
        groups = [{"name": "worker", "size": ranks, "template": template, "spares": spares}]
        super().__init__(name, ranks, spec={"groups": groups})

    def pods(self) -> list[dict[str, Any]]:
        """Those of ranks; and all, once the gang is gone."""
        there = super().pods()
        ranks = [pod for pod in there if pod["metadata"]["labels"][ROLE] == "rank"]
        return ranks or there

    def spares(self) -> dict[str, str]:
        """The nodes of spares that are ready, by uid."""
        found = get("pods", "-l", f"fleetctl.dev/gang={self.name},{ROLE}=spare")["items"]
        return {
            pod["metadata"]["uid"]: pod["spec"]["nodeName"]
            for pod in found
            if all("running" in c["state"] for c in pod["status"].get("containerStatuses", [{"state": {}}]))
        }


def test_a_rank_of_a_killed_node_takes_the_room_of_a_spare() -> None:
    with Spared("spared", 3, 1) as gang:
        gang.running(attempt=1, within_s=120)
        [(spare, room)] = until("the spare is ready", gang.spares).items()
        assert {*gang.nodes().values(), room} == set(WORKERS)
        assert "Spares:   1/1 ready" in fleetctl_status(gang)
        before, node = gang.seen(), gang.nodes()[1]
        gang.moved |= gang.fence(node)
        audit = Audit()
        kill_node(node)
        try:
            gang.running(attempt=2, within_s=120)
            now = gang.seen()
            assert (now[1].uid, now[1].node) != (before[1].uid, before[1].node)
            assert now[1].node == room
            changes = audit.pod_changes()
            assert not [each for each in changes if "pods/binding" in each and "spared-worker-1" in each]
            gone = changes.index("delete pods spared-worker-spare-0")
            assert gone < changes.index("create pods spared-worker-1")
            assert gang.status()["history"][0]["placed"] == "rank 1 takes a spare"
            assert "takes a spare" in run(FLEETCTL, "explain", gang.name)
        finally:
            start_node(node)
        until("the spare is made anew", lambda: [uid for uid in gang.spares() if uid != spare], 120)


def test_a_lemon_is_quarantined_until_somebody_lifts_that() -> None:
    with Gang("lemon", 4) as gang:
        gang.running(attempt=1, within_s=120)
        node = gang.nodes()[2]
        for attempt in (2, 3):
            gang.tell(2, "exit 139")
            gang.running(attempt)
        gang.moved |= {rank for rank, there in gang.nodes().items() if there == node}
        gang.tell(2, "exit 139")  # the third time within two days
        gang.running(attempt=4)
        assert gang.nodes()[2] != node
        marked = until("the node is quarantined", lambda: _quarantine_of(node))
        try:
            assert marked["rule"] == "lemon"
            assert marked["gangs"] == ["default/lemon"]
            told = run(FLEETCTL, "quarantine")
            assert node in told
            assert "lemon" in told
            taints = get("node", node)["spec"]["taints"]
            assert [t["effect"] for t in taints if t["key"] == "fleetctl.dev/quarantine"] == ["NoSchedule"]
        finally:
            lifted = run(FLEETCTL, "quarantine", "--lift", node)
        assert node in lifted
        assert _quarantine_of(node) is None
        assert not [t for t in get("node", node)["spec"].get("taints", []) if t["key"] == "fleetctl.dev/quarantine"]
        time.sleep(5)  # and nobody does it again
        assert _quarantine_of(node) is None
        kubectl("annotate", "node", node, "fleetctl.dev/strikes-")


def _quarantine_of(node: str) -> dict[str, Any] | None:
    written = get("node", node)["metadata"]["annotations"].get("fleetctl.dev/quarantine")
    return json.loads(written) if written else None
