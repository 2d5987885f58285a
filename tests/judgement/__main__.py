"""`python -m tests.judgement --seeds A..B [--jobs N] [--profile stress]`: how often fleetctl is right, in a table.

Exits 1 if it is less often than issue 8 asks for; `-v` tells each wrong answer.
"""

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from fleetctl.scenario.many import silence
from tests.judgement.judge import Total, judge, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.judgement", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=_seeds, default=range(1, 1001), metavar="A..B")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--profile", choices=("default", "stress"), default="default")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn, initializer=silence) as pool:
        judged = list(pool.map(partial(judge, profile=options.profile), options.seeds, chunksize=5))
    if options.verbose:
        print(*(each.told for each in judged if each.why), sep="\n", end="\n\n")
    print(*table(judged), sep="\n")
    total = Total.of(judged)
    print(total.line())
    return 0 if total.good_enough else 1


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main())
