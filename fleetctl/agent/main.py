"""The agent as a program: environment, files, TLS and signals around session.py."""

import asyncio
import asyncio.sslproto
import os
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, NoReturn

from fleetctl.agent.coordinator import Coordinator, Stream
from fleetctl.agent.files import Files, StateError
from fleetctl.agent.gate import Gate
from fleetctl.agent.hardware import HardwareFile
from fleetctl.agent.machine import Machine
from fleetctl.agent.progress import read_progress
from fleetctl.agent.session import Agent
from fleetctl.rendezvous.messages import LINE_LIMIT, Beat

HARDWARE_EVERY_S = 1.0
"""How often we look whether something was reported. Not with the beat: a device that is lost must be known at once."""


class Settings(NamedTuple):
    rendezvous: str
    server_name: str
    credentials_dir: str
    namespace: str
    pod: str
    probe_port: int
    state_dir: str
    shared_dir: str
    coordinator_gate: str = ""
    coordinator_pod: str = ""
    progress_file: str = ""


def read_settings(environ: Mapping[str, str]) -> Settings:
    try:
        return Settings(
            rendezvous=environ["FLEETCTL_RENDEZVOUS"],
            server_name=environ["FLEETCTL_SERVER_NAME"],
            credentials_dir=environ["FLEETCTL_CREDENTIALS_DIR"],
            namespace=environ["FLEETCTL_NAMESPACE"],
            pod=environ["FLEETCTL_POD"],
            probe_port=int(environ["FLEETCTL_PROBE_PORT"]),
            state_dir=environ.get("FLEETCTL_STATE_DIR", "/fleetctl/agent"),
            shared_dir=environ.get("FLEETCTL_SHARED_DIR", "/fleetctl/shared"),
            coordinator_gate=environ.get("FLEETCTL_COORDINATOR_GATE", ""),
            coordinator_pod=environ.get("FLEETCTL_COORDINATOR_POD", ""),
            progress_file=environ.get("FLEETCTL_PROGRESS_FILE", ""),
        )
    except (KeyError, ValueError) as error:
        raise StateError(f"the environment lacks {error}; the controller sets it when it makes the pod") from error


def tls_streams(settings: Settings) -> Callable[[str], Awaitable[Stream]]:
    """Dials over TLS; the authority is read at every dial, because it rotates."""

    async def open_stream(address: str) -> Stream:
        host, port = _host_and_port(address or settings.rendezvous)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(f"{settings.credentials_dir}/ca.crt")
        return await asyncio.open_connection(
            host,
            port,
            limit=LINE_LIMIT,
            ssl=context,
            server_hostname=settings.server_name,
            ssl_shutdown_timeout=1.0,
        )

    return open_stream


def coordinator(settings: Settings) -> Coordinator | None:
    if not (settings.coordinator_gate and settings.coordinator_pod):
        return None
    return Coordinator(
        f"{settings.namespace}/{settings.coordinator_pod}",
        lambda: asyncio.open_connection(*_host_and_port(settings.coordinator_gate)),
    )


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def attend(settings: Settings, say: Callable[[str], None]) -> int:
    """One run of the agent, from its files to its exit code."""
    files = Files(settings.state_dir, settings.shared_dir, say)
    machine = Machine(*files.load())
    gate = Gate(f"{settings.namespace}/{settings.pod}", machine.life_id)
    if machine.attempt:
        gate.open()
    state = f"runs attempt {machine.attempt}" if machine.attempt else "waits at the barrier"
    say(f"life {machine.life_id} {state}")

    def read_token() -> str:
        with open(f"{settings.credentials_dir}/token", encoding="ascii") as file:  # noqa: PTH123  # see files.py
            return file.read().strip()

    step_file = settings.progress_file
    hardware = HardwareFile(f"{step_file.rpartition('/')[0]}/hardware")
    agent = Agent(
        machine,
        keeper=files,
        open_gate=gate.open,
        open_stream=tls_streams(settings),
        read_token=read_token,
        boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        chance=lambda: int.from_bytes(os.urandom(4)) / 2**32,
        say=say,
        coordinator=coordinator(settings),
        read_progress=lambda: read_progress(step_file, machine.started_at) if step_file else Beat(),
        read_hardware=hardware.read,
    )
    loop = asyncio.get_running_loop()

    def look_at_hardware() -> None:
        agent.tell_hardware()
        loop.call_later(HARDWARE_EVERY_S, look_at_hardware)

    if step_file:
        look_at_hardware()
    loop.add_signal_handler(signal.SIGTERM, agent.stop)
    loop.add_signal_handler(signal.SIGINT, agent.stop)
    try:
        servers = await gate.listen(settings.probe_port)
    except OSError as error:
        raise StateError(f"cannot listen for the startup probe on port {settings.probe_port}: {error}") from error
    try:
        return await agent.run()
    finally:
        for server in servers:
            server.close()


def main() -> NoReturn:
    asyncio.sslproto.SSLProtocol.max_size = 16384  # one TLS record; the default buffers 256 KiB

    def say(line: str) -> None:
        sys.stderr.write(f"fleetctl agent: {line}\n")
        sys.stderr.flush()

    try:
        code = asyncio.new_event_loop().run_until_complete(attend(read_settings(os.environ), say))
    except StateError as error:
        say(str(error))
        code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # A thread that still waits for a name server must not hold up the exit, as the interpreter's own would.
    os._exit(code)
