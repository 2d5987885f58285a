"""`fleetctl controller`: runs the controller until it is told to stop."""

import argparse
import asyncio
import contextlib
import signal

from fleetctl.clock import SystemClock
from fleetctl.controller import app, log, turns


def run(options: argparse.Namespace) -> int:
    """Returns when SIGTERM or SIGINT came and the Lease is released."""
    log.configure(SystemClock(), verbose=options.verbose)
    settings = app.Settings(
        kubeconfig=options.kubeconfig,
        context=options.context,
        namespace=options.namespace,
        watch=options.watch,
        agent_image=options.agent_image,
        rendezvous=options.rendezvous,
        listen_port=options.listen_port,
        health_port=options.health_port,
        identity=options.identity or app.own_identity(),
        direct=options.direct,
    )
    with asyncio.Runner(loop_factory=turns.new_loop) as runner:
        runner.run(_until_told_to_stop(settings))
    return 0


async def _until_told_to_stop(settings: app.Settings) -> None:
    running = asyncio.create_task(app.run(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
