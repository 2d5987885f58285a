"""The controller's end of a stream. Agents are played by hand."""

import asyncio

import pytest
from desk import Desk, hello
from memory_streams import connected_pair, in_virtual_time, now, pipe_of, settle

from fleetctl.gang.state import Life, Promise, Report, Steps
from fleetctl.rendezvous.identity import Admission
from fleetctl.rendezvous.messages import (
    HARDWARE_KEPT,
    Beat,
    BeatAck,
    Bye,
    Hardware,
    NotLeader,
    Ping,
    Pong,
    Prove,
    Proved,
    Refused,
    Release,
    Released,
    Reset,
    TryAgain,
    Welcome,
)

LED_BY = NotLeader("10.0.0.9:8443")

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
    await agent.hears(LED_BY)
    agent.writer.close()
    await settle()
    assert desk.rendezvous.statistics.streams == 0


@in_virtual_time
async def test_an_agent_that_stays_with_a_standby_is_welcomed_on_the_same_stream_once_that_leads():
    desk = Desk()
    desk.leads = False
    agent = desk.stranger()
    agent.say(hello(attempt=2))
    for _ in range(3):  # every two seconds: else it would give us up
        await agent.hears(LED_BY)
    assert now() == pytest.approx(1004)
    agent.say(Hardware("xid-79", "GPU-3", "off the bus", 1.0))  # it says that again to whoever welcomes it
    await settle()
    assert (desk.rendezvous.attended, desk.rendezvous.sessions()) == (0, [])
    desk.leads = True
    desk.rendezvous.leadership_changed()
    await agent.hears(Welcome(5.0))
    assert now() == pytest.approx(1004)
    assert desk.life().attempt == 2
    assert desk.rendezvous.attended == 1


@in_virtual_time
async def test_a_thousand_that_stay_are_welcomed_within_a_second_and_not_all_at_once():
    desk = Desk()
    desk.leads = False
    agents = [desk.stranger() for _ in range(1000)]
    for number, agent in enumerate(agents):
        agent.say(hello(f"u{number}"))
    await settle()
    await asyncio.sleep(0.5)
    desk.leads = True
    desk.rendezvous.leadership_changed()
    desk.rendezvous.leadership_changed()  # and again, before anything has happened
    assert desk.rendezvous.statistics.welcomed == 0
    await asyncio.sleep(0.5)
    assert 450 <= desk.rendezvous.statistics.welcomed <= 550
    await asyncio.sleep(0.55)
    assert desk.rendezvous.statistics.welcomed == 1000
    assert desk.rendezvous.attended == 1000


@in_virtual_time
async def test_whoever_stays_is_told_at_once_when_another_leads_and_is_not_dismissed():
    desk = Desk()
    desk.leads, desk.address = False, ""
    agent = desk.stranger()
    agent.say(hello())
    await agent.hears(NotLeader(""))
    await asyncio.sleep(0.5)
    desk.address = "10.0.0.9:8443"
    desk.rendezvous.dismiss_all()
    desk.rendezvous.leadership_changed()
    await agent.hears(LED_BY)
    assert now() == pytest.approx(1000.5)
    assert desk.rendezvous.statistics.streams == 1


@in_virtual_time
async def test_a_stranger_that_never_leaves_a_standby_is_let_go_of():
    desk = Desk()
    desk.leads = False
    agent = desk.stranger()
    agent.say(hello())
    for _ in range(15):
        await agent.hears(LED_BY)
    await agent.is_closed()
    assert now() == pytest.approx(1030)
    assert desk.rendezvous.statistics.streams == 0


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
async def test_who_leads_no_more_hears_its_agents_while_nobody_else_can_lead_and_tells_them_nothing():
    desk = Desk()
    runs, waits = await desk.agent("u0", attempt=1), await desk.agent("u1")
    desk.rendezvous.release("u1", 1, "t")
    await waits.hears(Ping(1, "t"))
    desk.leads, desk.lapsed = False, True
    desk.rendezvous.reset("u0", 2)
    waits.say(Pong(1, "t"))
    await settle()
    assert desk.life("u1").promise == Promise(attempt=1, ticket="t")
    await waits.hears_nothing()
    runs.say(Beat())
    await runs.hears(BeatAck())
    newcomer = await desk.agent("u2", life="life-9")
    desk.leads, desk.lapsed = True, False
    desk.rendezvous.reset("u0", 2)
    await runs.hears(Reset(2))
    assert desk.rendezvous.statistics.not_leader == 0
    await newcomer.hears_nothing()


@in_virtual_time
async def test_who_leads_no_more_acknowledges_no_beat_once_another_may_lead_and_says_nothing_else():
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
    assert now() == pytest.approx(1029, abs=0.1)
    await settle()
    assert not desk.life().connected
    assert pipe_of(agent.writer).other.aborted
    assert desk.rendezvous.statistics.silent == 1
    assert desk.changes == ["u0"] * 5, "hello, silent, heard, silent, lost"


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


# silence


@in_virtual_time
async def test_two_beats_without_a_word_are_silence_and_the_next_word_ends_it():
    desk = Desk()
    agent = await desk.agent()
    await asyncio.sleep(9.9)
    assert not desk.life().silent
    await asyncio.sleep(0.2)
    assert (desk.life().silent, desk.life().connected) == (True, True)
    assert desk.changes == ["u0"] * 2
    agent.say(Beat())
    await agent.hears(BeatAck())
    assert not desk.life().silent
    assert desk.changes == ["u0"] * 3
    await asyncio.sleep(9.9)
    assert not desk.life().silent
    await asyncio.sleep(0.2)
    assert desk.life().silent
    assert desk.changes == ["u0"] * 4


@in_virtual_time
async def test_a_controller_that_slept_itself_does_not_take_it_for_silence():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Beat())
    asyncio.get_running_loop().now += 16
    await agent.hears(BeatAck())
    assert (desk.life().silent, desk.life().connected) == (False, True)


@pytest.mark.parametrize(
    "line", [b'{"type":"beat"}\n', b'{"type":"news"}\n', b'{"type":"pong","attempt":1,"ticket":"t"}\n']
)
def test_whatever_is_heard_ends_the_silence(line):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await desk.agent()
        await asyncio.sleep(12)
        assert desk.life().silent
        agent.say_line(line)
        await settle()
        assert not desk.life().silent

    run()


@in_virtual_time
async def test_a_beat_stretched_by_the_server_stretches_the_silence():
    desk = Desk(beat_s=20.0)
    agent = desk.stranger()
    agent.say(hello())
    await asyncio.sleep(39.9)
    assert not desk.life().silent
    await asyncio.sleep(0.2)
    assert desk.life().silent


@in_virtual_time
async def test_a_stream_that_breaks_off_without_a_goodbye_is_silence_at_once():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    agent.writer.close()
    await settle()
    assert (desk.life().silent, desk.life().connected) == (True, False)
    assert desk.changes == ["u0"] * 2
    await asyncio.sleep(60)
    assert desk.changes == ["u0"] * 2
    await desk.agent(attempt=1)
    assert (desk.life().silent, desk.life().connected) == (False, True)


async def goodbye(desk, agent):
    agent.say(Bye())
    await settle()


async def reset(desk, agent):
    desk.rendezvous.reset("u0", 2)
    await agent.hears(Reset(2))


@pytest.mark.parametrize("leave", [goodbye, reset])
def test_whoever_was_expected_to_go_is_silent_two_beats_after_it_went(leave):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await desk.agent(attempt=1)
        await leave(desk, agent)
        agent.writer.close()
        await asyncio.sleep(9.9)
        assert (desk.life().silent, desk.life().connected) == (False, False)
        before = len(desk.changes)
        await asyncio.sleep(0.2)
        assert desk.life().silent
        assert len(desk.changes) == before + 1

    run()


@pytest.mark.parametrize("leave", [goodbye, reset])
def test_whoever_comes_back_meanwhile_is_not_silent(leave):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await desk.agent(attempt=1)
        await leave(desk, agent)
        agent.writer.close()
        await asyncio.sleep(9)
        again = await desk.agent(life="life-2")
        for _ in range(6):
            changes = len(desk.changes)
            await asyncio.sleep(4)
            assert not desk.life().silent
            assert len(desk.changes) == changes
            again.say(Beat())

    run()


@in_virtual_time
async def test_a_reset_on_an_earlier_stream_excuses_nothing():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    await reset(desk, agent)
    again = await desk.agent(attempt=1)
    again.writer.close()
    await settle()
    assert desk.life().silent


@in_virtual_time
async def test_who_was_silent_before_it_was_lost_stays_so():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    await goodbye(desk, agent)
    await asyncio.sleep(12)
    assert (desk.life().silent, desk.life().connected) == (True, True)
    agent.writer.close()
    await settle()
    assert (desk.life().silent, desk.life().connected) == (True, False)


@in_virtual_time
async def test_a_displaced_stream_makes_nobody_silent():
    desk = Desk()
    await desk.agent(life="life-1")
    await desk.agent(life="life-2")
    await settle()
    assert not desk.life().silent


# superseded pods


async def zombie(desk, attempt=1, how="superseded"):
    """An agent of a pod that was deleted or replaced, learnt while it was connected or when it said hello."""
    if how == "admitted so":
        desk.admission = Admission.SUPERSEDED
        return await desk.agent(attempt=attempt)
    agent = await desk.agent(attempt=attempt)
    desk.rendezvous.supersede("u0")
    return agent


HOWS = pytest.mark.parametrize("how", ["superseded", "admitted so"])


@HOWS
def test_a_superseded_pod_is_parked(how):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await zombie(desk, attempt=0, how=how)
        assert desk.rendezvous.life("u0") is None
        [session] = desk.rendezvous.superseded()
        assert (session.identity.uid, session.life.waits, session.life.silent) == ("u0", True, False)
        assert desk.rendezvous.statistics.superseded == 1
        for _ in range(20):  # for good: it never has a reason to dial again
            await asyncio.sleep(5)
            agent.say(Beat())
            await agent.hears(BeatAck())
        assert desk.rendezvous.statistics.welcomed == 1

    run()


@HOWS
def test_a_superseded_pod_is_never_pinged_released_or_asked_for_a_proof(how):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await zombie(desk, attempt=0, how=how)
        desk.rendezvous.ping("u0", 1, "t")
        desk.rendezvous.release("u0", 1, "t")
        desk.rendezvous.prove("u0", "uid-of-0", "life-0")
        agent.say(Pong(1, "t"))
        await agent.hears_nothing()
        desk.rendezvous.release("u0", 1, "t")
        await agent.hears_nothing()

    run()


@HOWS
def test_a_superseded_pod_that_runs_is_reset(how):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await zombie(desk, how=how)
        assert not desk.rendezvous.superseded()[0].life.waits
        desk.rendezvous.reset("u0", 1)
        await agent.hears_nothing()
        desk.rendezvous.reset("u0", 2)
        await agent.hears(Reset(2))

    run()


@HOWS
def test_a_superseded_pod_is_dropped_when_its_stream_ends(how):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await zombie(desk, how=how)
        agent.say(Bye())
        await settle()
        changes = len(desk.changes)
        agent.writer.close()
        await settle()
        assert desk.rendezvous.sessions() == []
        assert len(desk.changes) == changes + 1
        await asyncio.sleep(60)
        assert len(desk.changes) == changes + 1, "no timer is left"

    run()


@HOWS
def test_a_superseded_pod_never_becomes_current_again(how):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await zombie(desk, how=how)
        desk.admission = Admission.MEMBER
        agent.say(hello(life="life-2"))
        await agent.hears(Welcome(5.0))
        again = await desk.agent(life="life-3")
        await agent.is_closed()
        assert desk.rendezvous.life("u0") is None
        assert [session.life.life_id for session in desk.rendezvous.superseded()] == ["life-3"]
        desk.rendezvous.ping("u0", 1, "t")
        await again.hears_nothing()
        desk.rendezvous.supersede("u0")
        assert desk.rendezvous.statistics.superseded == 1

    run()


@in_virtual_time
async def test_superseding_a_pod_says_so_and_withdraws_its_release():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.release("u0", 1, "t")
    await agent.hears(Ping(1, "t"))
    desk.rendezvous.supersede("u0")
    assert desk.changes == ["u0"] * 2
    agent.say(Pong(1, "t"))
    await agent.hears_nothing()


@in_virtual_time
async def test_a_superseded_pod_without_a_stream_is_as_if_never_seen():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Bye())
    agent.writer.close()
    await settle()
    desk.rendezvous.supersede("u0")
    changes = len(desk.changes)
    assert desk.rendezvous.sessions() == []
    assert desk.rendezvous.life("u0") is None
    await asyncio.sleep(60)
    assert len(desk.changes) == changes, "the goodbye's timer is gone"
    desk.rendezvous.supersede("u0")
    desk.rendezvous.supersede("u1")
    assert len(desk.changes) == changes


@pytest.mark.parametrize("same_stream", [True, False])
def test_a_pod_found_superseded_at_its_next_hello_is_so_from_then_on(same_stream):
    @in_virtual_time
    async def run():
        desk = Desk()
        agent = await desk.agent()
        desk.admission = Admission.SUPERSEDED
        if same_stream:
            agent.say(hello(life="life-2"))
            await agent.hears(Welcome(5.0))
        else:
            agent = await desk.agent(life="life-2")
        assert desk.rendezvous.life("u0") is None
        assert [session.life.life_id for session in desk.rendezvous.superseded()] == ["life-2"]
        assert desk.rendezvous.statistics.superseded == 1

    run()


@in_virtual_time
async def test_a_lost_pod_that_comes_back_superseded_is_so():
    desk = Desk()
    agent = await desk.agent()
    agent.writer.close()
    await settle()
    await zombie(desk, how="admitted so")
    assert desk.rendezvous.life("u0") is None
    assert len(desk.rendezvous.superseded()) == 1


@in_virtual_time
async def test_a_superseded_pod_falls_silent_and_is_heard_again_like_any_other():
    desk = Desk()
    agent = await zombie(desk)
    changes = len(desk.changes)
    await asyncio.sleep(12)
    assert desk.rendezvous.superseded()[0].life.silent
    agent.say(Beat())
    await agent.hears(BeatAck())
    assert not desk.rendezvous.superseded()[0].life.silent
    assert len(desk.changes) == changes + 2


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


# the path to the coordinator


@in_virtual_time
async def test_a_proof_is_remembered_for_the_pod_it_was_asked_for():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.prove("u0", "uid-of-0", "life-0")
    await agent.hears(Prove("life-0"))
    assert desk.life().reaches == ""
    changes = len(desk.changes)
    agent.say(Proved("life-0"))
    await settle()
    assert desk.life().reaches == "uid-of-0"
    assert len(desk.changes) == changes + 1


@in_virtual_time
async def test_the_proof_of_another_life_or_one_nobody_asked_for_counts_for_nothing():
    desk = Desk()
    agent = await desk.agent()
    agent.say(Proved("life-0"))
    await settle()
    assert desk.life().reaches == ""
    desk.rendezvous.prove("u0", "uid-of-0", "life-0")
    desk.rendezvous.prove("u0", "uid-of-the-next", "life-1")
    await agent.hears(Prove("life-0"), Prove("life-1"))
    agent.say(Proved("life-0"))
    await settle()
    assert desk.life().reaches == ""
    agent.say(Proved("life-1"))
    await settle()
    assert desk.life().reaches == "uid-of-the-next"


@in_virtual_time
async def test_what_a_pod_reaches_outlives_its_streams_and_lives():
    desk = Desk()
    agent = await desk.agent()
    desk.rendezvous.prove("u0", "uid-of-0", "life-0")
    agent.say(Proved("life-0"))
    await settle()
    agent.say(hello())
    await settle()
    assert desk.life().reaches == "uid-of-0"
    agent.writer.close()
    await desk.agent(life="life-2")
    assert desk.life().reaches == "uid-of-0"
    await desk.agent("u1")
    assert desk.life("u1").reaches == ""


@in_virtual_time
async def test_a_proof_is_asked_for_once_a_second_whether_the_life_runs_or_waits():
    desk = Desk()
    for uid, attempt in (("u0", 0), ("u1", 3)):
        agent = await desk.agent(uid, attempt=attempt)
        for _ in range(3):
            desk.rendezvous.prove(uid, "uid-of-0", "life-0")
        await agent.hears(Prove("life-0"))
        await agent.hears_nothing(1.0)
        desk.rendezvous.prove(uid, "uid-of-0", "life-0")
        await agent.hears(Prove("life-0"))
    assert desk.rendezvous.statistics.proves == 4
    desk.rendezvous.prove("u9", "uid-of-0", "life-0")


# progress


@in_virtual_time
async def test_a_higher_step_of_the_same_life_is_progress_and_only_the_first_a_change():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    times = []
    for step in (None, 10, 10, 11, None, 11, 5, 6):
        await asyncio.sleep(5)
        agent.say(Beat(step))
        await agent.hears(BeatAck())
        times.append(desk.rendezvous.progressed_at("u0"))
    assert times == pytest.approx([0, 0, 0, 1020, 1020, 1020, 1020, 1040], abs=0.1)
    assert desk.changes == ["u0", "u0"]
    assert desk.rendezvous.progressed_at("u1") == 0.0


@in_virtual_time
async def test_the_first_step_of_another_life_is_no_progress():
    desk = Desk()

    async def hears(agent, step):
        agent.say(Beat(step))
        await agent.hears(BeatAck())
        return desk.rendezvous.progressed_at("u0")

    agent = await desk.agent(life="life-1", attempt=1)
    await hears(agent, 1)
    before = await hears(agent, 2)
    assert before > 1000
    await asyncio.sleep(5)
    agent = await desk.agent(life="life-2", attempt=2)
    assert await hears(agent, 3) == before
    await asyncio.sleep(5)
    agent = await desk.agent(life="life-2", attempt=2)
    assert await hears(agent, 4) == pytest.approx(1010, abs=0.1), "the same life on a new stream"


@in_virtual_time
async def test_a_superseded_pods_progress_is_not_the_gangs():
    desk = Desk()
    agent = await zombie(desk)
    for step in (1, 2):
        agent.say(Beat(step))
        await agent.hears(BeatAck())
    assert desk.rendezvous.progressed_at("u0") == 0.0
    assert desk.rendezvous.steps("u0") is None


async def beats(desk, agent, *told, every=5.0):
    """Says each, and gives what is known then."""
    known = []
    for beat in told:
        await asyncio.sleep(every)
        agent.say(beat)
        await agent.hears(BeatAck())
        known.append(desk.rendezvous.steps("u0"))
    return known


@in_virtual_time
async def test_how_far_a_trainer_is_since_when_and_how_long_a_step_takes_it():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    assert desk.rendezvous.steps("u0") is None
    nothing, first, second, same = await beats(desk, agent, Beat(), Beat(10), Beat(12, 1.5), Beat(12, 1.5))
    assert nothing is None
    assert (first.step, first.at, first.mean_s, first.work_s) == (10, pytest.approx(1010, abs=0.1), 0.0, 0.0)
    assert (second.step, second.at, second.work_s) == (12, pytest.approx(1015, abs=0.1), 1.5)
    assert second.mean_s == pytest.approx(2.5, abs=0.1)
    assert same is second, "nothing is new"
    told = [Beat(12 + 2 * n + (n % 2)) for n in range(1, 60)]  # of 5 s, three steps and one by turns
    *_, last = await beats(desk, agent, *told)
    assert last.mean_s == pytest.approx(2.5, abs=0.2)
    *_, slower = await beats(desk, agent, *(Beat(last.step + n) for n in range(1, 30)))
    assert slower.mean_s == pytest.approx(5.0, abs=0.3)
    assert desk.changes == ["u0", "u0"], "of its hello, and of the first step that it tells"


@in_virtual_time
async def test_who_has_stood_still_since_when():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    *_, moved, still, works, back = await beats(desk, agent, Beat(1), Beat(2), Beat(2), Beat(2, 1.0), Beat(1, 1.0))
    assert still.at == works.at == moved.at
    assert works.work_s == 1.0
    assert back == Steps(step=1, at=back.at, mean_s=moved.mean_s, work_s=1.0), "a step back is a step, and no pace"
    assert back.at == pytest.approx(moved.at + 15, abs=0.1)


@in_virtual_time
async def test_a_pause_is_news_and_does_not_count_as_a_long_step():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    await beats(desk, agent, Beat(1), Beat(2), Beat(3))
    desk.changes.clear()
    (paused,) = await beats(desk, agent, Beat(3, None, True))
    assert (paused.paused, desk.changes) == (True, ["u0"])
    await beats(desk, agent, *[Beat(3, None, True)] * 100)
    assert desk.changes == ["u0"]
    (on,) = await beats(desk, agent, Beat(4))
    assert (on.paused, desk.changes) == (False, ["u0", "u0"])
    assert on.mean_s == pytest.approx(5.0, abs=0.1)


@in_virtual_time
async def test_steps_are_of_one_life_that_runs():
    desk = Desk()
    agent = await desk.agent(life="life-1", attempt=1)
    await beats(desk, agent, Beat(1), Beat(2))
    agent = await desk.agent(life="life-1", attempt=1)
    assert desk.rendezvous.steps("u0").step == 2, "the same life on a new stream"
    agent = await desk.agent(life="life-2")
    assert await beats(desk, agent, Beat(2), Beat(3)) == [None, None], "it waits"
    agent.say(Released(2))
    (known,) = await beats(desk, agent, Beat(3))
    assert known.step == 3
    agent = await desk.agent(life="life-3", attempt=3)
    (first,) = await beats(desk, agent, Beat(9))
    assert first == Steps(step=9, at=first.at), "of the earlier lives nothing is left"
    assert desk.rendezvous.steps("u1") is None


# reports of hardware

LOST = Hardware("xid-79", "GPU-3", "has fallen off the bus", 7.5)


def codes(desk):
    return [report.code for report in desk.life().hardware]


@in_virtual_time
async def test_a_report_of_hardware_is_news_once():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    for _ in range(2):
        agent.say(LOST)
        await settle()
    assert desk.life().hardware == (Report(code="xid-79", device="GPU-3", text="has fallen off the bus", at=7.5),)
    assert desk.changes == ["u0", "u0"]
    agent.say(LOST._replace(at=8.0))
    await settle()
    assert codes(desk) == ["xid-79", "xid-79"]
    assert desk.changes == ["u0", "u0", "u0"]


@in_virtual_time
async def test_what_was_reported_stays_with_the_pod_in_its_next_life():
    desk = Desk()
    agent = await desk.agent(life="life-1", attempt=1)
    agent.say(LOST)
    await settle()
    agent = await desk.agent(life="life-2")
    assert codes(desk) == ["xid-79"]
    agent.say(LOST)
    agent.say(LOST._replace(code="xid-48"))
    await settle()
    assert codes(desk) == ["xid-79", "xid-48"]
    agent.writer.close()
    await settle()
    assert codes(desk) == ["xid-79", "xid-48"]


@in_virtual_time
async def test_only_the_latest_reports_are_kept_and_none_is_long():
    desk = Desk()
    agent = await desk.agent(attempt=1)
    for number in range(40):
        agent.say(Hardware(f"xid-{number}", "GPU-0", "", 7.0))
    agent.say(Hardware("c" * 1000, "d" * 1000, "t" * 1000, 7.0))
    await settle()
    *others, last = desk.life().hardware
    assert [report.code for report in others] == [f"xid-{number}" for number in range(41 - HARDWARE_KEPT, 40)]
    assert (len(last.code), len(last.device), len(last.text)) == (63, 63, 200)
