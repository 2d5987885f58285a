"""Records what a real kubelet tells the API server of pods that restart in place: `make record-restart`.

One gang on the kind cluster; rank 3's trainer exits 3, and rank 5 is told to restart. The simulated kubelet is compared
with this recording (tests/simulation/test_kubelet_truth.py). Times are seconds since the trainer was told to exit, as
the watch saw them.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fleet import Gang, Json, deploy, until

OUT = Path(__file__).parents[1] / "simulation/recorded/restart_in_place.json"
TRIGGER, TOLD = 3, 5


def state_of(status: Json) -> str:
    """`running`, `waiting RestartingAllContainers`, `terminated 3`."""
    (kind, facts), *_ = [*status["state"].items(), ("waiting", {})]
    detail = facts.get("reason", "") if kind == "waiting" else facts.get("exitCode", "") if kind == "terminated" else ""
    return f"{kind} {detail}".strip()


def seen(pod: Json) -> Json:
    status = pod["status"]
    inits = {s["name"]: s for s in status.get("initContainerStatuses", [])}
    regular = {s["name"]: s for s in status.get("containerStatuses", [])}
    restarting = [c["status"] for c in status["conditions"] if c["type"] == "AllContainersRestarting"]
    return {
        "phase": status["phase"],
        "restarting": restarting == ["True"],
        "agent": state_of(inits["fleetctl-agent"]),
        "trainer": state_of(regular["trainer"]),
        "restarts": regular["trainer"]["restartCount"],
    }


def watch(pod: str, into: list[tuple[float, Json]]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["kubectl", "get", "pod", pod, "-w", "-o", "json", "--output-watch-events"], stdout=subprocess.PIPE, text=True
    )

    def read() -> None:
        decoder, text = json.JSONDecoder(), ""
        assert process.stdout
        for line in process.stdout:
            text += line
            try:
                event, _ = decoder.raw_decode(text.lstrip())
            except json.JSONDecodeError:
                continue
            into.append((time.time(), seen(event["object"])))
            text = ""

    threading.Thread(target=read, daemon=True).start()
    return process


def main() -> None:
    deploy()
    with Gang("recorded") as gang:
        gang.running(attempt=1)
        lines: dict[int, list[tuple[float, Json]]] = {TRIGGER: [], TOLD: []}
        watches = [watch(gang.pod(rank), into) for rank, into in lines.items()]
        until("both are watched", lambda: all(lines.values()))
        began = time.time()
        gang.tell(TRIGGER, "exit 3")
        gang.running(attempt=2)
        until("the kubelets have said so", lambda: all(of[-1][1]["trainer"] == "running" for of in lines.values()))
        time.sleep(3)
        for process in watches:
            process.terminate()
        story = {
            name: [{"at": round(max(0.0, at - began), 3), **facts} for at, facts in lines[rank]]
            for name, rank in (("trigger", TRIGGER), ("told", TOLD))
        }
        OUT.write_text(json.dumps(story, indent=1) + "\n")
        print(f"written: {OUT}")


if __name__ == "__main__":
    main()
