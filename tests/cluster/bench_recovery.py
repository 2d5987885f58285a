"""How long a recovery takes beside the least that Kubernetes needs: `make bench-recovery`.

    floor    8 plain pods, a trivial shell sidecar and the same trainer in each, all told in one instant to exit 88:
             from then until the last trainer runs again
    fault    8 ranks under fleetctl, one trainer exits 1: from its exit until the last trainer runs again

Floor and fault take turns in one run on one cluster, so that the machine's noise hits both. The last line has the
medians; the rounds are printed above it.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from fleet import RECORDS, Audit, Gang, Json, deploy, get, kubectl, on_node, plain_template, together, until

RANKS = 8
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
WAIT_FOR_GO = "touch /records/up; until rm /records/go 2>/dev/null; do usleep 20000; done; exit 88"


def floor_pod(rank: int) -> Json:
    template = plain_template("floor")["spec"]
    trainer = template["containers"][0]
    names = {"FLEETCTL_RANK": str(rank), "FLEETCTL_ATTEMPT_FILE": "/records/attempt"}
    trainer["env"] = [{"name": name, "value": value} for name, value in names.items()]
    restart = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
    sidecar = {
        "name": "agent",
        "image": "busybox:test",
        "command": ["sh", "-c", f"trap 'exit 0' TERM; echo 1 >/records/attempt; {WAIT_FOR_GO}"],
        "restartPolicy": "Always",
        "restartPolicyRules": [restart],
        "startupProbe": {"exec": {"command": ["test", "-e", "/records/up"]}, "periodSeconds": 1},
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
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(floor_pod(rank) for rank in range(RANKS)))
        kubectl("wait", "pod", "-l", "of=floor", "--for=condition=Ready", "--timeout=120s", timeout=150)
        self._folders: dict[str, list[str]] = {}
        for pod in get("pods", "-l", "of=floor")["items"]:
            folder = RECORDS.format(uid=pod["metadata"]["uid"])
            self._folders.setdefault(pod["spec"]["nodeName"], []).append(folder)
        return self

    def __exit__(self, *_: object) -> None:
        kubectl("delete", "pod", "-l", "of=floor", "--grace-period=1")

    def starts(self) -> list[Json]:
        told = together(
            lambda node=node, of=of: on_node(node, f"cat {' '.join(f'{f}/starts' for f in of)}")
            for node, of in self._folders.items()
        )
        return [json.loads(line) for text in told for line in text.splitlines()]

    def round(self) -> float:
        """Seconds from the word to the last start."""
        before = len(self.starts())
        told = together(
            lambda node=node, of=of: on_node(node, f"date +%s.%N; touch {' '.join(f'{f}/go' for f in of)}")
            for node, of in self._folders.items()
        )
        until("the floor is back", lambda: len(self.starts()) == before + RANKS)
        return max(s["at"] for s in self.starts()) - min(float(t) for t in told)


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


def main() -> None:
    deploy()
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

    def median(name: str) -> float:
        return statistics.median(r[name] for r in rounds)

    print(f"floor_s={median('floor'):.2f} (medians of {ROUNDS}; floor: the same machine, the same minute)")
    print(
        f"container_fault_ratio={median('fault') / median('floor'):.2f} container_fault_s={median('fault'):.2f} "
        f"release_skew_s={median('skew'):.2f} "
        f"controller_writes={median('writes'):.0f} agent_api_calls={sum(r['agent_calls'] for r in rounds)}"
    )


if __name__ == "__main__":
    main()
