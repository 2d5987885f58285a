"""How long until all ranks run again after `docker kill` of a node, with a spare and without: `make bench-spares`.

One rank on each of three workers; the fourth has the spare, or is empty. The kill is the start of the clock; the end
is when the last trainer wrote down that it runs. Of that, 20 s are the proof that the machine is dead.
"""

import argparse
import sys
import time
from statistics import median

from fleet import Audit, deploy, kill_node, start_node, until
from test_spares import Spared


def once(gang: Spared, attempt: int, *, spared: bool) -> tuple[float, int, int]:
    """Seconds until all ranks run again, bindings of the replacement, the controller's writes."""
    if spared:
        until("the spare is ready", gang.spares, 120)
    rank = next(r for r, node in sorted(gang.nodes().items()) if r)  # not the coordinator's: the same each time
    node = gang.nodes()[rank]
    gang.moved |= gang.fence(node)
    audit, began = Audit(), time.time()
    kill_node(node)
    try:
        started = gang.running(attempt, within_s=180)
        took = max(started.values()) - began
        bound = [each for each in audit.pod_changes() if "binding" in each and gang.pod(rank) in each]
        return round(took, 1), len(bound), len(audit.writes_of_controller())
    finally:
        start_node(node)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    deploy()
    medians = {}
    for spares in (1, 0):
        with Spared(f"bench-{spares}", 3, spares) as gang:
            gang.running(1, within_s=120)
            found = [once(gang, number + 2, spared=bool(spares)) for number in range(times)]
        medians[spares] = median(took for took, _, _ in found)
        took, bound, wrote = ([each[part] for each in found] for part in range(3))
        print(f"spares {spares}: {took} s; bindings {bound}, controller's writes {wrote}", flush=True)
    print(f"with_spare_s={medians[1]:.1f} without_s={medians[0]:.1f} ratio={medians[0] / medians[1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
