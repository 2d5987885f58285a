"""`python -m fleetctl` is `fleetctl`."""

from fleetctl.cli.main import main

main()
