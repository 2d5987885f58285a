"""The command line: one file per command, imported only when that command is asked for.

The agent starts in every pod of a gang, so its path through here imports nothing, argparse included.
"""

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import argparse


def main() -> NoReturn:
    """Entry point of `fleetctl` and `kubectl fleet`."""
    if sys.argv[1:] == ["agent"]:
        from fleetctl.agent.main import main as agent

        agent()
    sys.exit(_dispatch(sys.argv))


def _dispatch(argv: list[str]) -> int:
    import argparse
    import importlib.metadata

    from fleetctl.errors import FleetctlError

    called_as_plugin = argv[0].endswith("kubectl-fleet")
    parser = argparse.ArgumentParser(
        prog="kubectl fleet" if called_as_plugin else "fleetctl",
        description="Recovers Kubernetes training gangs in place.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('fleetctl')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_status(commands.add_parser("status", help="what a gang is doing, and why"))
    _add_explain(
        commands.add_parser("explain", help="what happened to a gang, the evidence, and what was done and why")
    )
    _add_quarantine(commands.add_parser("quarantine", help="the nodes that get no new pods, and why; let one out"))
    _add_controller(commands.add_parser("controller", help="run the controller"))
    commands.add_parser("agent", help="the sidecar in each pod (the controller adds it)")
    commands.add_parser("crd", help="print the CustomResourceDefinition")
    _add_scenario(commands.add_parser("scenario", help="check scenario files, and tell what may be written in one"))
    _add_replay(commands.add_parser("replay", help="try scenarios on a simulated cluster, or on kind"))
    options = parser.parse_args(argv[1:])
    try:
        match options.command:
            case "status":
                from fleetctl.cli import status

                return status.run(options)
            case "explain":
                from fleetctl.cli import explain

                return explain.run(options)
            case "quarantine":
                from fleetctl.cli import quarantine

                return quarantine.run(options)
            case "controller":
                from fleetctl.cli import controller

                return controller.run(options)
            case "crd":
                from fleetctl.cli import crd

                return crd.run()
            case "replay":
                from fleetctl.cli import replay

                return replay.run(options)
            case "scenario":
                from fleetctl.cli import scenario

                return scenario.run(options)
    except FleetctlError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 2


def _add_replay(parser: "argparse.ArgumentParser") -> None:
    from pathlib import Path

    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument(
        "--nemesis",
        action="store_true",
        help="instead of files: random faults for a gang of 12 ranks, one after the other",
    )
    parser.add_argument("--faults", type=_count, metavar="N", help="so many of them (default: 10)")
    parser.add_argument(
        "--campaign",
        action="store_true",
        help="instead of files: a random world and random faults for each seed, and a report on all",
    )
    parser.add_argument("--ranks", type=_count, metavar="N", help="of these gangs (default: 8 to 64, drawn)")
    parser.add_argument(
        "--progress", type=Path, metavar="FILE", help="keep what is finished there, and go on after it when run again"
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=_whole, metavar="N", help="default: the file's")
    seeds.add_argument("--seeds", type=_seed_range, metavar="A..B", help="one run for each, both included")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write every event of a single run there, JSON Lines"
    )
    parser.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: one for each processor)")
    parser.add_argument(
        "--backend",
        choices=["sim", "apiserver", "kind", "both"],
        default="sim",
        help="sim: in a simulated cluster; apiserver: simulated nodes around a real API server, in real time; kind: on "
        "a real cluster, made for it; both: in the simulator and on kind, side by side (default: sim)",
    )
    kind = parser.add_argument_group("on kind")
    kind.add_argument("--context", metavar="NAME", help="use this kind cluster (kind-NAME), and leave it there")
    kind.add_argument("--keep", action="store_true", help="keep the cluster that is made")
    kind.add_argument("--image", metavar="IMAGE", help="of fleetctl, if it is not deployed there (default: make image)")
    kind.add_argument("--logs", type=Path, metavar="DIR", help="where to keep timeline and logs of a run that failed")


def _whole(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number; write one such as 17')
    return int(text)


def _count(text: str) -> int:
    import argparse

    if not (number := _whole(text)):
        raise argparse.ArgumentTypeError("0 would do nothing; write 1 or more")
    return number


def _seed_range(text: str) -> range:
    import argparse

    first, dots, last = text.partition("..")
    if not dots:
        raise argparse.ArgumentTypeError(f'"{text}" is no range of seeds; write the first and the last, such as 1..50')
    low, high = _whole(first), _whole(last)
    if low > high:
        raise argparse.ArgumentTypeError(f'"{text}" is upside down; write {high}..{low}')
    return range(low, high + 1)


def _add_scenario(parser: "argparse.ArgumentParser") -> None:
    from pathlib import Path

    parser.add_argument("--list-faults", action="store_true", help="every fault, its target and its parameters")
    parser.add_argument("--list-expectations", action="store_true", help="every expectation, and the figures")
    verbs = parser.add_subparsers(dest="scenario_command", metavar="VERB")
    check = verbs.add_parser("check", help="say everything that is wrong with scenario files")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    verbs.add_parser("schema", help="print the JSON Schema of scenario files, for editors")


def _add_connection(parser: "argparse.ArgumentParser") -> None:
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, then ~/.kube/config, then the pod's"
    )
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig")


def _add_status(parser: "argparse.ArgumentParser") -> None:
    _add_connection(parser)
    parser.add_argument("gang", metavar="GANG")
    parser.add_argument("-n", "--namespace", help="default: that of the context")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")


def _add_explain(parser: "argparse.ArgumentParser") -> None:
    _add_status(parser)
    about = parser.add_mutually_exclusive_group()
    about.add_argument("--rank", type=_whole, metavar="R", help="what happened to this rank last, and how it is now")
    about.add_argument(
        "--node", default="", metavar="NODE", help="the same for all ranks on that node, and for the node"
    )
    about.add_argument(
        "--incident",
        type=_whole,
        metavar="N",
        help="the one that led to attempt N (default: the open one, or the latest)",
    )


def _add_quarantine(parser: "argparse.ArgumentParser") -> None:
    _add_connection(parser)
    parser.add_argument("--lift", default="", metavar="NODE", help="let it get pods again, and forgive its strikes")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")


def _add_controller(parser: "argparse.ArgumentParser") -> None:
    _add_connection(parser)
    parser.add_argument("-n", "--namespace", help="the controller's own: its Lease and certificate authority are there")
    parser.add_argument("--watch", metavar="NAMESPACE", help="look after gangs of this namespace only (default: all)")
    parser.add_argument(
        "--agent-image", metavar="IMAGE", help="image of the agents (default: that of the pod we run in)"
    )
    parser.add_argument(
        "--rendezvous",
        required=True,
        metavar="HOST:PORT",
        help="where agents reach this controller, such as its Service",
    )
    parser.add_argument("--listen-port", type=int, default=8443, metavar="PORT", help="for agents (default: 8443)")
    parser.add_argument(
        "--health-port", type=int, default=8080, metavar="PORT", help="for probes, 0: none (default: 8080)"
    )
    parser.add_argument(
        "--identity",
        metavar="NAME",
        help="who holds the Lease: this process alone (default: host and chance)",
    )
    parser.add_argument(
        "--direct",
        default="",
        metavar="HOST:PORT",
        help="where agents reach this replica and no other: one that does not lead sends them there (default: nowhere)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
