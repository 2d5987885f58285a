"""How long a recovery takes beside the least that Kubernetes needs: `make bench-recovery`.

    floor    8 plain pods, a trivial shell sidecar and the same trainer in each, all told in one instant to exit 88:
             from then until the last trainer runs again
    fault    8 ranks under fleetctl, one trainer exits 1: from its exit until the last trainer runs again
    dead     8 ranks on 4 nodes, a node is killed (docker kill): from then until all 8 run again, 2 of them in new pods
    dark     the same, the node is frozen instead (docker pause)

Floor and fault take turns in one run on one cluster, so that the machine's noise hits both; then dead and dark take
turns. The last lines have the medians; the rounds are printed above them.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from fleet import (
    WORKERS,
    Audit,
    Gang,
    Json,
    clear_records,
    deploy,
    folder_of,
    kill_node,
    kubectl,
    pause_node,
    plain_template,
    read_records,
    start_node,
    unpause_node,
    until,
)

RANKS = 8
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
NODE_ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
WAIT_FOR_GO = "touch /records/up; until rm /records/go 2>/dev/null; do usleep 20000; done; exit 88"


def floor_pod(rank: int) -> Json:
    names = {"FLEETCTL_GANG": "floor", "FLEETCTL_RANK": str(rank), "FLEETCTL_ATTEMPT_FILE": "/records/attempt"}
    template = plain_template("floor", env=[{"name": name, "value": value} for name, value in names.items()])["spec"]
    trainer = template["containers"][0]
    restart = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
    sidecar = {
        "name": "agent",
        "image": "busybox:test",
        "command": ["sh", "-c", f"trap 'exit 0' TERM; echo 1 >/records/attempt; {WAIT_FOR_GO}"],
        "restartPolicy": "Always",
        "restartPolicyRules": [restart],
        "startupProbe": {"exec": {"command": ["test", "-e", "/records/up"]}, "periodSeconds": 1},
        "env": trainer["env"],
        "volumeMounts": trainer["volumeMounts"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"floor-{rank}", "labels": {"fleetctl.dev/gang": "floor", "of": "floor"}},
        "spec": {**template, "restartPolicy": "Never", "initContainers": [sidecar]},
    }


class Floor:
    """The plain pods."""

    def __enter__(self) -> "Floor":
        clear_records("floor")
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(floor_pod(rank) for rank in range(RANKS)))
        kubectl("wait", "pod", "-l", "of=floor", "--for=condition=Ready", "--timeout=120s", timeout=150)
        return self

    def __exit__(self, *_: object) -> None:
        kubectl("delete", "pod", "-l", "of=floor", "--grace-period=1")

    def starts(self) -> list[Json]:
        return read_records("floor", "starts")

    def round(self) -> float:
        """Seconds from the word to the last start."""
        before = len(self.starts())
        told = time.time()
        for pod in folder_of("floor").iterdir():
            (pod / "go").touch()
        until("the floor is back", lambda: len(self.starts()) == before + RANKS)
        return max(s["at"] for s in self.starts()) - told


def fault_round(gang: Gang, rank: int) -> dict[str, Any]:
    attempt, audit = gang.attempt()["released"] + 1, Audit()
    gang.tell(rank, "exit 1")
    starts = gang.running(attempt).values()
    died = gang.records("deaths")[-1]["at"]
    time.sleep(2)  # the last Event
    seconds = gang.status()["history"][0]["seconds"]
    return {
        "fault": max(starts) - died,
        "skew": max(starts) - min(starts),
        "barrier": seconds["barrier"],
        "total": seconds["total"],
        "writes": len(audit.writes_of_controller()),
        "agent_calls": len(audit.calls_of_agents()),
    }


def node_round(kind: str, node: str) -> dict[str, Any]:
    """One node lost under a fresh gang, two ranks on each."""
    lose, bring_back = {"dead": (kill_node, start_node), "dark": (pause_node, unpause_node)}[kind]
    with Gang("bench-node", RANKS) as gang:
        gang.running(attempt=1, within_s=120)
        time.sleep(7)  # a beat may be due at any time
        lost, audit = gang.fence(node), Audit()
        gang.moved |= lost
        lost_at = time.time()
        lose(node)
        try:
            starts = gang.running(attempt=2, within_s=150).values()
            time.sleep(2)  # the last Event
            moved = gang.status()["history"][0]
        finally:
            bring_back(node)
        return {
            "pods": len(lost),
            "lost": max(starts) - lost_at,
            "judged": min(starts) - lost_at - moved["seconds"]["total"],
            "total": moved["seconds"]["total"],
            "writes": len(audit.writes_of_controller()),
        }


def container_faults() -> list[dict[str, Any]]:
    rounds = []
    with Floor() as floor, Gang("bench", RANKS) as gang:
        gang.running(attempt=1, within_s=120)
        print("round  floor_s  fault_s  ratio  skew_s  barrier_s  total_s  writes  agent_calls")
        for number in range(ROUNDS):
            floor_s = floor.round()
            time.sleep(2)  # the load of one must not reach into the other
            found = fault_round(gang, number % RANKS)
            found |= {"floor": floor_s, "ratio": found["fault"] / floor_s}
            rounds.append(found)
            print(
                f"{number + 1:5}  {floor_s:7.2f}  {found['fault']:7.2f}  {found['ratio']:5.2f}  {found['skew']:6.2f}"
                f"  {found['barrier']:9.2f}  {found['total']:7.2f}  {found['writes']:6}  {found['agent_calls']:11}",
                flush=True,
            )
            time.sleep(2)
    return rounds


def lost_nodes() -> dict[str, list[dict[str, Any]]]:
    rounds: dict[str, list[dict[str, Any]]] = {"dead": [], "dark": []}
    print("round  node  pods  until_judged_s  until_released_s  until_all_run_s  writes")
    for number in range(NODE_ROUNDS):
        for kind, found in rounds.items():
            this = node_round(kind, WORKERS[number % len(WORKERS)])
            found.append(this)
            released = this["judged"] + this["total"]
            print(
                f"{number + 1:5}  {kind}  {this['pods']:4}  {this['judged']:14.1f}  {released:16.1f}"
                f"  {this['lost']:15.1f}  {this['writes']:6}",
                flush=True,
            )
    return rounds


def median(rounds: list[dict[str, Any]], name: str) -> float:
    return statistics.median(r[name] for r in rounds)


def main() -> None:
    deploy()
    faults, nodes = container_faults(), lost_nodes()
    calls = sum(r["agent_calls"] for r in faults)
    print(f"floor_s={median(faults, 'floor'):.2f} (medians of {ROUNDS}; floor: the same machine, the same minute)")
    print(
        f"container_fault_ratio={median(faults, 'fault') / median(faults, 'floor'):.2f} "
        f"container_fault_s={median(faults, 'fault'):.2f} release_skew_s={median(faults, 'skew'):.2f} "
        f"controller_writes={median(faults, 'writes'):.0f} agent_api_calls={calls}"
    )
    print(
        f"dead_node_s={median(nodes['dead'], 'lost'):.1f} dark_node_s={median(nodes['dark'], 'lost'):.1f} "
        f"dead_node_writes={median(nodes['dead'], 'writes'):.0f} (medians of {NODE_ROUNDS}, 2 pods on the node)"
    )


if __name__ == "__main__":
    main()
