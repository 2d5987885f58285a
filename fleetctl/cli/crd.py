"""`fleetctl crd`: prints the CustomResourceDefinition that this version works with."""

import msgspec

from fleetctl.gang.crd import definition


def run() -> int:
    """Print it as YAML, to be piped into `kubectl apply -f -`."""
    print("# generated from fleetctl/gang/spec.py by: make manifests")
    print(msgspec.yaml.encode(definition()).decode(), end="")
    return 0
