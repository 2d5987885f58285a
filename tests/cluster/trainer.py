"""The trainer of the cluster tests: says when it starts and dies as it is told. Runs inside the pods, as `python3 -c`.

/records is a folder of this pod on the host: tests read and write there, whatever has become of pod and node.

/records/starts       a JSON line for every start: {"rank", "attempt", "at", "uid", "node"}; survives restarts in place
/records/alive-<n>    its time of change is when the trainer of attempt n last ran, to 50 ms
/records/deaths       a JSON line for every death on command: {"rank", "at"}
/records/command      what to do now: "exit 3", "crash" (SIGSEGV), "eat" (memory, until killed), "ignore"; taken once

With STEPS in the environment it also counts steps, 20 a second, into the file $FLEETCTL_PROGRESS_FILE.
"""

import ctypes
import json
import os
import signal
import sys
import time

rank = int(os.environ["FLEETCTL_RANK"])
steps = 0
progress_file = os.environ.get("FLEETCTL_PROGRESS_FILE") if os.environ.get("STEPS") else None


def record(file: str, **what: object) -> None:
    with open(f"/records/{file}", "a") as lines:
        lines.write(json.dumps({"rank": rank, "at": time.time(), **what}) + "\n")


if os.environ.get("IGNORE_SIGTERM"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))

with open(os.environ["FLEETCTL_ATTEMPT_FILE"]) as file:
    attempt = int(file.read())
alive = f"/records/alive-{attempt}"
record("starts", attempt=attempt, uid=os.environ["POD_UID"], node=os.environ["NODE"])
open(alive, "w").close()

broken_rank, _, habit = os.environ.get("HABIT", "").partition(":")  # "3:exit 1": rank 3 does this at every start
pending = habit if broken_rank == str(rank) else ""
while True:
    os.utime(alive)
    if progress_file:
        steps += 1
        with open(progress_file, "w") as file:
            file.write(str(steps))
    try:
        with open("/records/command") as file:
            pending = file.read().strip()
        os.remove("/records/command")
    except FileNotFoundError:
        time.sleep(0.05)
    if pending in ("", "ignore"):
        continue
    verb, _, argument = pending.partition(" ")
    record("deaths")
    if verb == "exit":
        os._exit(int(argument))
    if verb == "crash":  # the first process of a container is shielded from kill(), but not from a fault of its own
        ctypes.string_at(0)
    if verb == "eat":
        hoard = [os.urandom(1 << 20) for _ in range(1 << 20)]
    sys.exit(f"no such command: {pending}")
