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
    _add_controller(commands.add_parser("controller", help="run the controller"))
    commands.add_parser("agent", help="the sidecar in each pod (the controller adds it)")
    commands.add_parser("crd", help="print the CustomResourceDefinition")
    options = parser.parse_args(argv[1:])
    try:
        match options.command:
            case "status":
                from fleetctl.cli import status

                return status.run(options)
            case "controller":
                from fleetctl.cli import controller

                return controller.run(options)
            case "crd":
                from fleetctl.cli import crd

                return crd.run()
    except FleetctlError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 2


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
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
