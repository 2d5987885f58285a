import asyncio
import socket

import pytest
from memory_streams import connected_pair, in_virtual_time, now, settle

from fleetctl.agent.gate import Gate

POD = "team-a/llm-worker-7"
PATH = f"/released/{POD}"


def ask(gate, path=PATH, method="GET"):
    """The kubelet's question, on a connection of its own."""
    (reader, writer), server = connected_pair()
    asyncio.get_running_loop().create_task(gate.serve(*server)).add_done_callback(lambda task: task.result())
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: 10.0.0.7:8081\r\nUser-Agent: kube-probe/1.36\r\n\r\n".encode())
    return reader, writer


async def status(question):
    answer = await question[0].read()
    return int(answer.split()[1]) if answer else None


@in_virtual_time
async def test_an_open_gate_answers_at_once():
    gate = Gate(POD, "life-1")
    gate.open()
    assert await status(ask(gate)) == 200
    assert now() == pytest.approx(1000)


@in_virtual_time
async def test_a_closed_gate_holds_the_question_and_answers_when_it_opens():
    gate = Gate(POD, "life-1")
    question = ask(gate)
    asyncio.get_running_loop().call_later(7, gate.open)
    assert await status(question) == 200
    assert now() == pytest.approx(1007)


@in_virtual_time
async def test_every_held_question_is_answered():
    gate = Gate(POD, "life-1")
    questions = [ask(gate) for _ in range(3)]
    await settle()
    gate.open()
    assert [await status(question) for question in questions] == [200, 200, 200]


@in_virtual_time
async def test_after_the_hold_it_says_not_yet():
    assert await status(ask(Gate(POD, "life-1"))) == 503
    assert now() == pytest.approx(1025)


@pytest.mark.parametrize(
    "path",
    [
        "/released/team-a/llm-worker-8", "/released/team-b/llm-worker-7", "/", PATH + "/", PATH + "0", "/healthz",
        "/life/team-a/llm-worker-8", "/life/team-b/llm-worker-7", "/life/", f"/life/{POD}/", f"/life/{POD}0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_open", [True, False])
def test_it_answers_for_its_own_pod_only_and_at_once(path, is_open):
    @in_virtual_time
    async def run():
        gate = Gate(POD, "life-1")
        if is_open:
            gate.open()
        assert await status(ask(gate, path)) == 404
        assert now() == pytest.approx(1000)

    run()


@in_virtual_time
async def test_another_method_is_not_found():
    gate = Gate(POD, "life-1")
    assert await status(ask(gate, method="POST")) == 404
    assert await status(ask(gate, f"/life/{POD}", method="POST")) == 404


@pytest.mark.parametrize("is_open", [True, False])
def test_it_tells_its_life_at_once(is_open):
    @in_virtual_time
    async def run():
        gate = Gate(POD, "life-1")
        if is_open:
            gate.open()
        reader, _ = ask(gate, f"/life/{POD}")
        answer = await reader.read()
        assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nlife-1"
        assert now() == pytest.approx(1000)

    run()


@in_virtual_time
async def test_it_tells_its_life_while_it_holds_as_many_questions_as_it_may():
    gate = Gate(POD, "life-1")
    questions = [ask(gate) for _ in range(32)]
    await settle()
    assert await status(ask(gate, f"/life/{POD}")) == 200
    gate.open()
    assert {await status(question) for question in questions} == {200}


@in_virtual_time
async def test_a_client_that_goes_away_is_dropped():
    gate = Gate(POD, "life-1")
    _, writer = ask(gate)
    await settle()
    assert len(gate._held) == 1
    writer.close()
    await settle()
    assert not gate._held


@in_virtual_time
async def test_more_questions_than_a_kubelet_has_are_not_held():
    gate = Gate(POD, "life-1")
    questions = [ask(gate) for _ in range(32)]
    await settle()
    assert await status(ask(gate)) == 503
    assert now() < 1001
    gate.open()
    assert {await status(question) for question in questions} == {200}


@in_virtual_time
async def test_an_endless_header_or_none_is_dropped():
    gate = Gate(POD, "life-1")
    (reader, writer), server = connected_pair()
    task = asyncio.create_task(gate.serve(*server))
    writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert await reader.read() == b""
    await task
    (reader, writer), server = connected_pair()
    task = asyncio.create_task(gate.serve(*server))
    assert await reader.read() == b""
    assert now() == pytest.approx(1005)
    await task


async def test_it_listens_on_both_ip_versions():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gate = Gate(POD, "life-1")
    gate.open()
    servers = await gate.listen(port)
    for host in ("127.0.0.1", "::1")[: len(servers)]:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
    with pytest.raises(OSError, match="in use"):
        await gate.listen(port)
    for server in servers:
        server.close()
        await server.wait_closed()
