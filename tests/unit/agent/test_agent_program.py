"""The agent as it runs in a pod: a program, over TLS, within its budget."""

import asyncio
import json
import re
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import pytest
import trustme

from fleetctl.rendezvous.messages import (
    Beat,
    Hardware,
    Hello,
    Ping,
    Pong,
    Prove,
    Proved,
    Release,
    Released,
    Reset,
    Welcome,
    encode,
    receive,
)

ROOT = Path(__file__).parents[3]
MEMORY_LIMIT_KIB = 24 * 1024
PROGRAM = (
    f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module('fleetctl.agent', run_name='__main__')"
)


class Pod:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.agents: list[asyncio.subprocess.Process] = []
        for name in ("state", "shared", "credentials"):
            (directory / name).mkdir()
        (directory / "state/life").write_text("life-1\n")
        (directory / "credentials/token").write_text("the-token\n")
        self.authority.cert_pem.write_to_path(str(directory / "credentials/ca.crt"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.probe_port = probe.getsockname()[1]
        self.streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __aenter__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("fleetctl.fleetctl-system.svc").configure_cert(context)
        self.server = await asyncio.start_server(
            lambda *stream: self.streams.put_nowait(stream), "127.0.0.1", 0, ssl=context
        )
        return self

    async def __aexit__(self, *_):
        for agent in self.agents:
            if agent.returncode is None:
                agent.kill()
                await agent.communicate()
        self.server.close()
        await self.server.wait_closed()

    async def start(self, **changes):
        environ = {
            "FLEETCTL_RENDEZVOUS": f"localhost:{self.server.sockets[0].getsockname()[1]}",
            "FLEETCTL_SERVER_NAME": "fleetctl.fleetctl-system.svc",
            "FLEETCTL_CREDENTIALS_DIR": str(self.directory / "credentials"),
            "FLEETCTL_NAMESPACE": "team-a",
            "FLEETCTL_POD": "llm-worker-0",
            "FLEETCTL_PROBE_PORT": str(self.probe_port),
            "FLEETCTL_STATE_DIR": str(self.directory / "state"),
            "FLEETCTL_SHARED_DIR": str(self.directory / "shared"),
            **changes,
        }
        environ = {name: value for name, value in environ.items() if value}
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", PROGRAM, env=environ, stderr=asyncio.subprocess.PIPE
        )
        self.agents.append(agent)
        return agent

    async def probe(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.probe_port)
        writer.write(b"GET /released/team-a/llm-worker-0 HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return int(answer.split()[1])


def memory_of(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return {name: int(kib) for name, kib in re.findall(r"(VmHWM|VmRSS):\s+(\d+) kB", status)}


@pytest.fixture
async def pod(tmp_path):
    async with Pod(tmp_path) as pod:
        yield pod


async def test_from_start_to_reset_within_its_memory(pod, capsys):
    seconds = []
    for _ in range(3):  # the first may have to compile
        began = time.monotonic()
        agent = await pod.start()
        reader, writer = await pod.streams.get()
        hello = await receive(reader)
        seconds.append(time.monotonic() - began)
        if len(seconds) < 3:
            agent.send_signal(signal.SIGTERM)
            writer.close()
            assert await agent.wait() == 0
            await agent.stderr.read()
    assert isinstance(hello, Hello)
    assert (hello.token, hello.life_id, hello.attempt, hello.promise) == ("the-token", "life-1", 0, None)

    probe = asyncio.create_task(pod.probe())
    for message in (Welcome(5.0), Ping(1, "t")):
        writer.write(encode(message))
    assert isinstance(await receive(reader), Pong)
    assert not probe.done()
    writer.write(encode(Release(1, "t")))
    assert isinstance(await receive(reader), Released)
    assert await probe == 200
    assert (pod.directory / "shared/attempt").read_text() == "1\n"
    assert json.loads((pod.directory / "state/promise").read_text()) == {"life": "life-1", "attempt": 1, "ticket": "t"}

    memory = memory_of(agent.pid)
    with capsys.disabled():
        print(f"\nagent: {min(seconds) * 1000:.0f} ms from exec to hello, {memory} KiB")
    assert memory["VmHWM"] <= MEMORY_LIMIT_KIB
    assert min(seconds) < 5

    writer.write(encode(Reset(2)))
    said = (await agent.stderr.read()).decode()
    assert await agent.wait() == 88
    assert "restarting every container for attempt 2" in said
    writer.close()


async def test_a_restarted_agent_of_a_released_life_opens_the_gate_though_nobody_can_be_reached(pod):
    (pod.directory / "state/released").write_text('{"life": "life-1", "attempt": 4}')
    agent = await pod.start(FLEETCTL_RENDEZVOUS="127.0.0.1:1")
    line = await agent.stderr.readline()
    assert b"life life-1 runs attempt 4" in line
    await agent.stderr.readline()  # the first dial failed, so the gate listens
    assert await pod.probe() == 200
    agent.send_signal(signal.SIGTERM)
    await agent.stderr.read()
    assert await agent.wait() == 0


async def test_it_proves_the_path_to_the_coordinator_and_tells_the_step(pod):
    """This pod is its own coordinator."""
    (pod.directory / "step").write_text("17\n")
    agent = await pod.start(
        FLEETCTL_COORDINATOR_GATE=f"127.0.0.1:{pod.probe_port}",
        FLEETCTL_COORDINATOR_POD="llm-worker-0",
        FLEETCTL_PROGRESS_FILE=str(pod.directory / "step"),
    )
    reader, writer = await pod.streams.get()
    assert isinstance(await receive(reader), Hello)
    for message in (Welcome(0.1), Prove("life-1")):
        writer.write(encode(message))
    expected, heard = {repr(Proved("life-1")), repr(Beat(17))}, set()
    while heard < expected:
        heard.add(repr(await receive(reader)))
    assert heard == expected
    agent.send_signal(signal.SIGTERM)
    writer.close()
    await agent.stderr.read()
    assert await agent.wait() == 0


async def test_a_report_of_hardware_is_told_within_two_seconds(pod):
    (pod.directory / "hardware").write_text("7 xid-13 GPU-0\n")
    agent = await pod.start(FLEETCTL_PROGRESS_FILE=str(pod.directory / "step"))
    reader, writer = await pod.streams.get()
    assert isinstance(await receive(reader), Hello)
    writer.write(encode(Welcome(60.0)))
    assert repr(await receive(reader)) == repr(Hardware("xid-13", "GPU-0", "", 7.0))
    with (pod.directory / "hardware").open("a") as file:
        file.write("8.5 xid-79 GPU-3 has fallen off the bus\n")
    async with asyncio.timeout(2.0):
        assert repr(await receive(reader)) == repr(Hardware("xid-79", "GPU-3", "has fallen off the bus", 8.5))
    agent.send_signal(signal.SIGTERM)
    writer.close()
    await agent.stderr.read()
    assert await agent.wait() == 0


async def test_it_trusts_only_the_mounted_authority(pod):
    trustme.CA().cert_pem.write_to_path(str(pod.directory / "credentials/ca.crt"))
    agent = await pod.start()
    await agent.stderr.readline()
    assert b"certificate verify failed" in await agent.stderr.readline()
    pod.authority.cert_pem.write_to_path(str(pod.directory / "credentials/ca.crt"))  # rotated: read at the next dial
    _, writer = await pod.streams.get()
    agent.send_signal(signal.SIGTERM)
    writer.close()
    await agent.stderr.read()
    assert await agent.wait() == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"FLEETCTL_POD": ""}, b"FLEETCTL_POD"), ({"FLEETCTL_STATE_DIR": "/nowhere"}, b"init container")],
)
async def test_what_is_missing_is_named(pod, changes, complaint):
    agent = await pod.start(**changes)
    assert complaint in await agent.stderr.read()
    assert await agent.wait() == 1
