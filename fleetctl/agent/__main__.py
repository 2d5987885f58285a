"""`python -m fleetctl.agent`: what the sidecar's container runs, without the command line's imports."""

from fleetctl.agent.main import main

main()
