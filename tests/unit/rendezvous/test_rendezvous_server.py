"""The controller's end of a stream. Agents are played by hand."""

import asyncio

import pytest
from desk import Desk, hello
from memory_streams import connected_pair, in_virtual_time, now, pipe_of, settle

from fleetctl.gang.state import Life, Promise
from fleetctl.rendezvous.identity import Admission
from fleetctl.rendezvous.messages import (
    Beat,
    BeatAck,
    Bye,
    NotLeader,
    Ping,
    Pong,
    Refused,
    Release,
    Released,
    Reset,
    TryAgain,
    Welcome,
)

# hello, admission, refusal


@in_virtual_time
async def test_a_member_is_welcomed_and_its_life_known():
    desk = Desk(beat_s=7.0)
    agent = desk.stranger()
    agent.say(hello(attempt=3, promise=(3, "t")))
    await agent.hears(Welcome(7.0))
    assert desk.life() == Life(
        uid="u0", life_id="life-1", started_at=7.0, attempt=3, promise=Promise(attempt=3, ticket="t")
    )
    assert desk.changes == ["u0"]
    assert desk.rendezvous.life("u1") is None


@pytest.mark.parametrize(
    ("token", "admission", "answer"),
    [
        ("bad", Admission.MEMBER, Refused("the token is bad")),
        ("unavailable", Admission.MEMBER, TryAgain("keys cannot be read")),
        ("u0", Admission.NOT_YET, TryAgain("pod team-a/pod-u0 is not known yet")),
        ("u0", Admission.STRANGER, Refused("pod team-a/pod-u0 is no member of a gang")),
    ],
)
def test_whoever_is_not_admitted_is_told_why(token, admission, answer):
    @in_virtual_time
    async def run():
        desk = Desk()
        desk.admission = admission
        agent = desk.stranger()
        agent.say(hello(token))
        await agent.hears(answer)
        await agent.is_closed()
        assert desk.changes == []
        assert desk.rendezvous.sessions() == []
        assert desk.rendezvous.statistics.streams == 0

    run()


@in_virtual_time
async def test_who_says_no_hello_within_five_seconds_is_dropped():
    desk = Desk()
    agent = desk.stranger()
    await agent.is_closed()
    assert now() == pytest.approx(1005)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b'{"type":"beat"}\n', b'{"type":"new"}\n', b"x" * 20_000])
def test_a_stream_that_does_not_begin_with_hello_is_closed(line):
    @in_virtual_time
    async def run():
        desk = Desk()
        other = await desk.agent("u1")
        agent = desk.stranger()
        agent.say_line(line)
        await agent.is_closed()
        assert desk.rendezvous.statistics.bad_lines == 1
        other.say(Beat())
        await other.hears(BeatAck())

    run()


@in_virtual_time
async def test_a_bad_line_closes_that_stream_and_the_life_is_lost_not_forgotten():
    desk = Desk()
    agent = await desk.agent()
    agent.say_line(b'{"type":"pong","attempt":"one"}\n')
    await agent.is_closed()
    assert not desk.life().connected


@in_virtual_time
async def test_a_stream_cannot_speak_for_a_second_pod():
    desk = Desk()
    agent = await desk.agent("u0")
    agent.say(hello("u1"))
    await agent.hears(Refused("a stream speaks for one pod only"))
    await agent.is_closed()
    assert desk.rendezvous.life("u1") is None


@in_virtual_time
async def test_hello_again_is_verified_again():
    desk = Desk()
    agent = await desk.agent()
    agent.say(hello(attempt=2))
    await agent.hears(Welcome(5.0))
    assert desk.life().attempt == 2
    agent.say(hello("bad"))
    await agent.hears(Refused("the token is bad"))
    await agent.is_closed()


@in_virtual_time
async def test_more_streams_than_the_limit_are_not_served():
    desk = Desk(stream_limit=2)
    await desk.agent("u0")
    await desk.agent("u1")
    third = desk.stranger()
    await third.is_closed()
    assert desk.rendezvous.statistics.over_limit == 1


# who leads


@in_virtual_time
async def test_a_standby_names_the_leader():
    desk = Desk()
    desk.leads = False
    agent = desk.stranger()
    agent.say(hello())
    await agent.hears(NotLeader("10.0.0.9:8443"))
    await agent.is_closed()


@in_virtual_time
async def test_leadership_lost_while_a_token_is_verified_counts():
    desk = Desk()
    agent = desk.stranger()
    agent.say(hello("u0 after 2"))
    await asyncio.sleep(1)
    desk.leads = False
    await agent.hears(NotLeader("10.0.0.9:8443"))
    assert desk.rendezvous.sessions() == []


@in_virtual_time
async def test_a_leader_whose_lease_lapsed_acknowledges_no_beat_and_says_nothing_else():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Beat())
    await agent.hears(BeatAck())
    desk.leads = False
    desk.rendezvous.ping("u0", 1, "t")
    await agent.hears_nothing()
    agent.say(Beat())
    await agent.hears(NotLeader("10.0.0.9:8443"))
    await agent.is_closed()


@in_virtual_time
async def test_all_are_sent_away_at_once():
    desk = Desk()
    agents = [await desk.agent(uid) for uid in ("u0", "u1")]
    desk.rendezvous.dismiss_all()
    for agent in agents:
        await agent.hears(NotLeader("10.0.0.9:8443"))
        await agent.is_closed()


# coming and going


@in_virtual_time
async def test_a_newer_stream_displaces_the_older():
    desk = Desk()
    older = await desk.agent(life="life-1")
    newer = await desk.agent(life="life-2")
    await older.is_closed()
    older.say(Bye())
    await settle()
    assert (desk.life().life_id, desk.life().connected, desk.life().leaving) == ("life-2", True, False)
    desk.rendezvous.ping("u0", 1, "t")
    await newer.hears(Ping(1, "t"))


@in_virtual_time
async def test_the_newer_stream_stays_even_if_the_older_took_longer_to_verify():
    desk = Desk()
    older = desk.stranger()
    older.say(hello("u0 after 3", life="life-1"))
    await settle()
    newer = await desk.agent(life="life-2")
    await older.is_closed()
    assert (desk.life().life_id, desk.life().connected) == ("life-2", True)
    newer.say(Beat())
    await newer.hears(BeatAck())


@in_virtual_time
async def test_a_stream_silent_for_three_beats_is_swept():
    desk = Desk()
    agent = await desk.agent()
    await asyncio.sleep(14)
    agent.say(Beat())
    await agent.hears(BeatAck())
    await asyncio.sleep(14.9)
    assert desk.life().connected
    await agent.is_closed()
    await settle()
    assert not desk.life().connected
    assert pipe_of(agent.writer).other.aborted
    assert desk.rendezvous.statistics.silent == 1
    assert desk.changes == ["u0", "u0"], "hello and loss; a beat is no change"


@in_virtual_time
async def test_goodbye_then_lost_then_a_new_life():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Bye())
    await settle()
    assert (desk.life().leaving, desk.life().connected) == (True, True)
    agent.writer.close()
    await settle()
    assert (desk.life().leaving, desk.life().connected) == (True, False)
    await desk.agent(life="life-2")
    assert (desk.life().leaving, desk.life().connected) == (False, True)


@in_virtual_time
async def test_forgotten_is_as_if_never_seen():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.forget("u0")
    await agent.is_closed()
    assert desk.rendezvous.life("u0") is None
    desk.rendezvous.forget("u0")


@in_virtual_time
async def test_a_stream_that_does_not_drain_is_aborted():
    desk = Desk()
    agent = await desk.agent()
    servers_end = pipe_of(agent.writer).other
    servers_end.frozen = True
    while not servers_end.aborted:
        assert servers_end.get_write_buffer_size() < 70 * 1024
        for _ in range(100):
            agent.say(Beat())
        await settle()
    assert desk.rendezvous.statistics.slow == 1
    await settle()
    assert not desk.life().connected


# ping, release, reset


@in_virtual_time
async def test_a_pong_is_a_promise_and_a_released_ack_an_attempt():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.ping("u0", 1, "t")
    await agent.hears(Ping(1, "t"))
    agent.say(Pong(1, "t"))
    await settle()
    assert (desk.life().promise, desk.life().waits) == (Promise(attempt=1, ticket="t"), True)
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears(Release(1, "t"))
    agent.say(Released(1))
    await settle()
    assert desk.life().attempt == 1
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears_nothing()
    desk.rendezvous.reset("u0", 2)
    await agent.hears(Reset(2))
    assert desk.changes == ["u0"] * 3


@in_virtual_time
async def test_a_release_waits_for_its_pong():
    desk = Desk()
    agent = await desk.agent(promise=(1, "t"))
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears(Ping(1, "t"))
    await agent.hears_nothing()
    agent.say(Pong(1, "t"))
    await agent.hears(Release(1, "t"))


@in_virtual_time
async def test_the_pong_of_another_ticket_releases_nothing():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Pong(1, "other"))
    await settle()
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears(Ping(1, "t"))
    agent.say(Pong(1, "other"))
    await agent.hears_nothing()


@pytest.mark.parametrize(("age", "answer"), [(3.9, Release(1, "t")), (4.1, Ping(1, "t"))])
def test_a_release_follows_only_a_pong_of_the_last_four_seconds(age, answer):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await desk.agent()
        desk.rendezvous.ping("u0", 1, "t")
        await agent.hears(Ping(1, "t"))
        agent.say(Pong(1, "t"))
        await asyncio.sleep(age)
        desk.rendezvous.release("u0", 1, "t")
        await agent.hears(answer)

    run()


@in_virtual_time
async def test_a_release_is_never_written_behind_an_unanswered_ping_for_its_ticket():
    """Frozen with [Ping, Release] in its socket, an agent would obey both whenever it wakes."""
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.ping("u0", 1, "t")
    await agent.hears(Ping(1, "t"))
    agent.say(Pong(1, "t"))
    await asyncio.sleep(1.5)
    desk.rendezvous.ping("u0", 1, "t")  # the barrier is still being asked; now the agent freezes
    desk.rendezvous.release("u0", 1, "t")  # its first pong is only 1.5 s old
    await agent.hears(Ping(1, "t"))
    await agent.hears_nothing()
    agent.say(Pong(1, "t"))
    await agent.hears(Release(1, "t"))


@in_virtual_time
async def test_hello_again_makes_earlier_pongs_stale():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Pong(1, "t"))
    await settle()
    agent.say(hello(promise=(1, "t")))
    await agent.hears(Welcome(5.0))
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears(Ping(1, "t"))


@in_virtual_time
async def test_a_new_stream_knows_no_pong_of_the_old_one():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Pong(1, "t"))
    await settle()
    again = await desk.agent(promise=(1, "t"))
    desk.rendezvous.release("u0", 1, "t")
    await again.hears(Ping(1, "t"))


@in_virtual_time
async def test_a_wish_that_was_not_repeated_is_forgotten():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.release("u0", 1, "t")
    await asyncio.sleep(5)
    agent.say(Pong(1, "t"))
    await agent.hears(Ping(1, "t"))
    await agent.hears_nothing()
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears(Release(1, "t"))


@in_virtual_time
async def test_a_ping_for_something_else_withdraws_the_wish():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.release("u0", 1, "t")
    desk.rendezvous.ping("u0", 2, "u")
    await agent.hears(Ping(1, "t"), Ping(2, "u"))
    agent.say(Pong(1, "t"))
    await agent.hears_nothing()


@in_virtual_time
async def test_asking_again_within_a_second_says_nothing_new():
    desk = Desk()
    waiting, running = await desk.agent("u0"), await desk.agent("u1", attempt=1)
    for _ in range(3):
        desk.rendezvous.ping("u0", 2, "t")
        desk.rendezvous.reset("u1", 2)
    await waiting.hears(Ping(2, "t"))
    await running.hears(Reset(2))
    waiting.say(Pong(2, "t"))
    await settle()
    for _ in range(3):
        desk.rendezvous.release("u0", 2, "t")
    await waiting.hears(Release(2, "t"))
    await asyncio.gather(waiting.hears_nothing(), running.hears_nothing())
    await asyncio.sleep(1)
    desk.rendezvous.release("u0", 2, "t")
    desk.rendezvous.reset("u1", 2)
    await waiting.hears(Release(2, "t"))
    await running.hears(Reset(2))
    statistics = desk.rendezvous.statistics
    assert (statistics.pings, statistics.releases, statistics.resets) == (1, 2, 2)


@in_virtual_time
async def test_only_a_life_that_can_obey_is_told():
    desk = Desk()
    waiting, running = await desk.agent("u0"), await desk.agent("u1", attempt=2)
    desk.rendezvous.reset("u0", 3)
    desk.rendezvous.reset("u1", 2)
    desk.rendezvous.ping("u1", 3, "t")
    desk.rendezvous.release("u1", 3, "t")
    await asyncio.gather(waiting.hears_nothing(), running.hears_nothing())


@in_virtual_time
async def test_a_lost_or_unknown_pod_is_told_nothing():
    desk = Desk()
    agent = await desk.agent()
    agent.writer.close()
    await settle()
    for uid in ("u0", "u1"):
        desk.rendezvous.ping(uid, 1, "t")
        desk.rendezvous.release(uid, 1, "t")
        desk.rendezvous.reset(uid, 1)
    assert desk.rendezvous.statistics.pings == 0


@in_virtual_time
async def test_the_task_of_a_stream_may_be_cancelled():
    desk = Desk()
    _, theirs = connected_pair()
    task = asyncio.create_task(desk.rendezvous.serve(*theirs))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert theirs[1].is_closing()
