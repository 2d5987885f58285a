"""Whether the coordinator's life is reached: every answer that is not exactly that life is a no."""

import asyncio

import pytest
from memory_streams import connected_pair, in_virtual_time, now, settle

from fleetctl.agent.coordinator import Coordinator
from fleetctl.agent.gate import Gate


def coordinator(gate=None, answer=None, pod="team-a/llm-worker-0"):
    async def open_stream():
        ours, theirs = connected_pair()
        if gate:
            asyncio.get_running_loop().create_task(gate.serve(*theirs)).add_done_callback(lambda task: task.result())
        if answer is not None:
            theirs[1].write(answer)
            theirs[1].close()
        return ours

    return Coordinator(pod, open_stream)


@in_virtual_time
async def test_the_life_that_its_gate_tells_is_reached():
    gate = Gate("team-a/llm-worker-0", "life-1")
    assert await coordinator(gate).why_not("life-1") == ""
    assert await coordinator(gate).why_not("life-2") == "another life answers"
    assert await coordinator(gate).why_not("life") == "another life answers"
    assert await coordinator(gate).why_not("life-10") == "another life answers"
    assert await coordinator(gate, pod="team-a/llm-worker-1").why_not("life-1") == "another pod answers"
    assert now() == pytest.approx(1000)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 life-1\r\n\r\nlife-1", b"life-1",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000, b"HTTP/1.1 200 OK\r\n\r\nlife-1" + b"x" * 100_000,
    ],
    ids=lambda answer: repr(answer[:30]),
)  # fmt: skip
def test_nonsense_is_not_that_life(answer):
    @in_virtual_time
    async def run():
        assert await coordinator(answer=answer).why_not("life-1")

    run()


@in_virtual_time
async def test_who_does_not_answer_within_a_second_is_not_reached():
    assert await coordinator().why_not("life-1") == "TimeoutError"
    assert now() == pytest.approx(1001)
    await settle()


@pytest.mark.parametrize("error", [ConnectionRefusedError("nobody there"), OSError("no such name"), ValueError("port")])
def test_who_cannot_be_dialled_is_not_reached(error):
    @in_virtual_time
    async def run():
        async def open_stream():
            raise error

        assert await Coordinator("team-a/llm-worker-0", open_stream).why_not("life-1") == str(error)

    run()
