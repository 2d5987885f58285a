"""The trainer of real clusters: says when it starts and dies as it is told. Runs inside the pods, as `python3 -c`.

It is alone there: standard library only, and nothing of fleetctl. records.py reads what it writes.

/records is a folder of this pod on the host: who tries the gang reads and writes there, whatever has become of pod and
node.

/records/starts       a JSON line for every start, kept over restarts: {"rank", "attempt", "at", "uid", "node", "pod"}
/records/alive-<n>    its time of change is when the trainer of attempt n last ran, to 50 ms
/records/deaths       a JSON line for every death on command: {"rank", "at"}
/records/finished     a JSON line when it had run for as long as it should: {"rank", "at"}
/records/command      what to do now: "exit 3", "crash" (SIGSEGV), "eat" (memory, until killed), "ignore"; taken once.
                      "wait": count one step more and then none, as if another rank hung in it; "go": go on

In the environment:

RUNS_FOR              seconds from its start after which it exits 0; for ever without
STEPS                 whether it counts steps, 20 a second, into the file $FLEETCTL_PROGRESS_FILE
STEP_S                seconds a step takes instead; there are never more than 20 a second. The count is that of the
                      clock, which all nodes share: ranks are in lockstep, and nothing is lost in a restart
"""

import ctypes
import json
import os
import signal
import sys
import time

rank = int(os.environ["FLEETCTL_RANK"])
began = time.monotonic()
runs_for = float(os.environ.get("RUNS_FOR", "inf"))
step_s = float(os.environ.get("STEP_S", "0"))
steps = int(time.time() / step_s) if step_s else 0
waits = False
progress_file = os.environ.get("FLEETCTL_PROGRESS_FILE") if os.environ.get("STEPS") else None


def record(file: str, **what: object) -> None:
    with open(f"/records/{file}", "a") as lines:
        lines.write(json.dumps({"rank": rank, "at": time.time(), **what}) + "\n")


def count(made: int) -> None:
    global steps
    steps = made
    if progress_file:
        with open(progress_file, "w") as file:
            file.write(str(steps))


if os.environ.get("IGNORE_SIGTERM"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))

with open(os.environ["FLEETCTL_ATTEMPT_FILE"]) as file:
    attempt = int(file.read())
alive = f"/records/alive-{attempt}"
record("starts", attempt=attempt, uid=os.environ["POD_UID"], node=os.environ["NODE"], pod=os.environ["POD"])
open(alive, "w").close()

broken_rank, _, habit = os.environ.get("HABIT", "").partition(":")  # "3:exit 1": rank 3 does this at every start
pending = habit if broken_rank == str(rank) else ""
while True:
    os.utime(alive)
    now = time.monotonic()
    made = int(time.time() / step_s) if step_s else steps + 1
    if made > steps and not waits:
        count(made)
    if now >= began + runs_for:
        record("finished")
        sys.exit(0)
    try:
        with open("/records/command") as file:
            pending = file.read().strip()
        os.remove("/records/command")
    except FileNotFoundError:
        time.sleep(0.05)
    if pending in ("wait", "go"):
        waits, pending = pending == "wait", ""
        if waits:
            count(steps + 1)
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
