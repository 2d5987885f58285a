"""Real agents at a real rendezvous; the controller is the test."""

import asyncio
import ssl
from datetime import UTC, datetime

import pytest
from desk import Desk
from memory_streams import connected_pair, in_virtual_time, pipe_of, settle

from fleetctl.agent.coordinator import Coordinator
from fleetctl.agent.files import Files
from fleetctl.agent.gate import Gate
from fleetctl.agent.machine import Machine
from fleetctl.agent.main import Settings, tls_streams
from fleetctl.agent.session import Agent
from fleetctl.gang.state import Promise
from fleetctl.rendezvous.certificates import Authority, server_context
from fleetctl.rendezvous.identity import Admission
from fleetctl.rendezvous.messages import Beat


class Pod:
    """One pod's volumes and whichever agent lives in it. Time on its clock is the loop's.

    `service`: the pod that the coordinator's Service leads to, as this one's node sees it.
    """

    def __init__(self, directory, dial, uid="u0"):
        self.directory, self.dial, self.uid = directory, dial, uid
        self.service = None
        self.step = None
        self.lives = 0
        self.gates: list[int] = []
        self.writers: list[asyncio.StreamWriter] = []

    def new_life(self):
        self.lives += 1
        (self.directory / "life").write_text(f"life-{self.lives}\n")
        self.start()

    def start(self):
        files = Files(str(self.directory), str(self.directory), lambda line: None)
        machine = Machine(*files.load())
        self.gate = Gate("team-a/llm-worker-0", machine.life_id)
        self.agent = Agent(
            machine,
            keeper=files,
            open_gate=lambda: self.gates.append(machine.attempt),
            open_stream=self.open_stream,
            read_token=lambda: self.uid,
            boottime=asyncio.get_running_loop().time,
            chance=lambda: 0.5,
            say=lambda line: None,
            coordinator=Coordinator("team-a/llm-worker-0", self.dial_coordinator),
            read_progress=lambda: Beat(self.step),
        )
        self.running = asyncio.create_task(self.agent.run())

    async def open_stream(self, address):
        reader, writer = await self.dial(address)
        self.writers.append(writer)
        return reader, writer

    async def dial_coordinator(self):
        if self.service is None:
            raise ConnectionRefusedError
        ours, theirs = connected_pair()
        asyncio.get_running_loop().create_task(self.service.gate.serve(*theirs))
        return ours

    async def ends(self):
        """Its exit code. Bounded: virtual time would go on for ever while an agent beats."""
        async with asyncio.timeout(60):
            return await self.running

    async def kill(self):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await settle()

    def freeze(self):
        """Nothing more is delivered to it."""
        pipe_of(self.writers[-1]).other.frozen = True

    def thaw(self):
        pipe_of(self.writers[-1]).other.thaw()


async def in_memory(desk, directory, uid="u0"):
    async def dial(address):
        return desk.connect()

    pod = Pod(directory, dial, uid)
    pod.new_life()
    await settle()
    return pod


async def until(true, within=20.0):
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110  # the test looks on; nothing would set an event for it
            await asyncio.sleep(0.01)


async def start_to_new_life(desk, pod):
    """One recovery: first release, reset, a new life at the barrier, second release."""
    meet = desk.rendezvous
    for attempt in (1, 2):
        await until(lambda: meet.life("u0") and desk.life().life_id == f"life-{pod.lives}")
        assert desk.life().waits
        ticket = f"ticket-{attempt}"
        meet.ping("u0", attempt, ticket)
        await until(lambda: desk.life().promise == Promise(attempt=attempt, ticket=ticket))  # noqa: B023
        assert (pod.directory / "promise").exists()
        meet.release("u0", attempt, ticket)
        await until(lambda: desk.life().attempt == attempt)  # noqa: B023
        assert pod.gates[-1] == attempt
        assert (pod.directory / "attempt").read_text() == f"{attempt}\n"
        if attempt == 1:
            meet.reset("u0", 2)
            assert await pod.ends() == 88
            await until(lambda: not desk.life().connected)
            pod.new_life()
    assert pod.gates == [1, 2]


@in_virtual_time
async def test_start_release_reset_new_life(tmp_path):
    desk = Desk()
    await start_to_new_life(desk, await in_memory(desk, tmp_path))


async def test_the_same_over_tls(tmp_path):
    desk = Desk()
    now = datetime.now(UTC)
    authority = Authority.create(now)
    (tmp_path / "ca.crt").write_bytes(authority.bundle)
    context = server_context(authority.issue(["fleetctl.test"], now))
    async with desk.rendezvous.listening("127.0.0.1", 0, context) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = Settings(address, "fleetctl.test", str(tmp_path), "team-a", "pod-0", 0, "", "")
        pod = Pod(tmp_path, tls_streams(settings))
        pod.new_life()
        await start_to_new_life(desk, pod)
        await pod.kill()
        plain = tls_streams(settings._replace(server_name="another.name"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await plain("")
    await until(lambda: desk.rendezvous.statistics.streams == 0)


@in_virtual_time
async def test_an_agent_killed_between_pong_and_release_resumes_with_its_promise(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.ping("u0", 1, "t")
    await settle()
    await pod.kill()
    assert not desk.life().connected
    desk.rendezvous.release("u0", 1, "t")  # committed meanwhile; nobody is there
    pod.start()
    await settle()
    assert (desk.life().life_id, desk.life().promise) == ("life-1", Promise(attempt=1, ticket="t"))
    desk.rendezvous.release("u0", 1, "t")
    await settle()
    assert desk.life().attempt == 1
    assert pod.gates == [1]


@in_virtual_time
async def test_an_agent_killed_after_release_says_it_runs(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.release("u0", 1, "t")
    await settle()
    await pod.kill()
    pod.start()
    await settle()
    assert desk.life().attempt == 1
    assert pod.gates == [1], "main.py opens the gate of a life that was released already"


@in_virtual_time
async def test_a_new_life_is_not_entitled_to_the_old_ones_ticket(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.ping("u0", 3, "t")
    await settle()
    await pod.kill()
    pod.new_life()
    await settle()
    assert desk.life().promise is None
    desk.rendezvous.ping("u0", 2, "u")
    await settle()
    assert desk.life().promise is None, "below what the pod has promised"
    desk.rendezvous.ping("u0", 3, "u")
    await settle()
    assert desk.life().promise == Promise(attempt=3, ticket="u")


@in_virtual_time
async def test_a_frozen_agent_obeys_no_release_when_it_wakes(tmp_path):
    """The barrier pings again and again, the agent freezes after a pong, the ticket is committed; it wakes late."""
    desk = Desk(beat_s=60.0)
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.ping("u0", 1, "t")
    await asyncio.sleep(1.1)
    pod.freeze()
    desk.rendezvous.ping("u0", 1, "t")
    desk.rendezvous.release("u0", 1, "t")
    await asyncio.sleep(8)
    desk.rendezvous.ping("u0", 2, "u")  # the gang has gone on without it
    pod.thaw()
    await settle()
    assert pod.gates == []
    assert desk.life().promise == Promise(attempt=2, ticket="u")


@in_virtual_time
async def test_a_release_that_slept_in_the_socket_ends_in_a_fresh_ping(tmp_path):
    desk = Desk(beat_s=60.0)
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.ping("u0", 1, "t")
    await asyncio.sleep(1.1)
    pod.freeze()
    desk.rendezvous.release("u0", 1, "t")
    await asyncio.sleep(8)
    pod.thaw()
    await settle()
    assert pod.gates == []
    desk.rendezvous.release("u0", 1, "t")
    await settle()
    assert pod.gates == [1]


@in_virtual_time
async def test_agents_find_the_new_leader_by_themselves(tmp_path):
    desks = [Desk(), Desk()]
    desks[1].leads = False

    async def dial(address):
        return desks[1 if address else 0].connect()

    pod = Pod(tmp_path, dial)
    pod.new_life()
    await settle()
    assert desks[0].life().connected
    desks[0].leads, desks[1].leads = False, True
    await asyncio.sleep(6)
    assert not desks[0].life().connected
    assert desks[1].life().connected


@in_virtual_time
async def test_sigterm_is_seen_as_leaving(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    pod.agent.stop()
    assert await pod.ends() == 0
    await settle()
    assert (desk.life().leaving, desk.life().connected) == (True, False)


@in_virtual_time
async def test_a_restart_in_place_is_not_silence_but_a_crash_is(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.release("u0", 1, "t")
    await settle()
    desk.rendezvous.reset("u0", 2)
    assert await pod.ends() == 88
    await asyncio.sleep(4)
    assert (desk.life().silent, desk.life().connected) == (False, False)
    pod.new_life()
    await asyncio.sleep(30)
    assert (desk.life().silent, desk.life().life_id) == (False, "life-2")
    await pod.kill()
    assert desk.life().silent


@in_virtual_time
async def test_a_frozen_agent_is_silent_until_it_is_heard_again(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    await asyncio.sleep(60)
    assert not desk.life().silent
    pipe_of(pod.writers[-1]).frozen = True
    await asyncio.sleep(12)
    assert (desk.life().silent, desk.life().connected) == (True, True)
    pipe_of(pod.writers[-1]).thaw()
    await settle()
    assert not desk.life().silent


@in_virtual_time
async def test_a_zombie_is_reset_once_and_then_waits_for_good(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    desk.rendezvous.release("u0", 1, "t")
    await settle()
    desk.rendezvous.supersede("u0")
    desk.admission = Admission.SUPERSEDED
    desk.rendezvous.reset("u0", 2)
    assert await pod.ends() == 88
    await settle()
    assert desk.rendezvous.superseded() == []
    pod.new_life()
    await settle()
    desk.rendezvous.reset("u0", 2)
    desk.rendezvous.release("u0", 2, "u")
    await asyncio.sleep(600)
    [zombie] = desk.rendezvous.superseded()
    assert (zombie.life.life_id, zombie.life.waits, zombie.life.silent) == ("life-2", True, False)
    assert pod.gates == [1]
    assert desk.rendezvous.statistics.welcomed == 2, "it does not dial again and again"


@in_virtual_time
async def test_after_rank_0_moved_the_others_prove_that_they_reach_it(tmp_path):
    desk = Desk()
    pods = {}
    for uid in ("old", "new", "other"):
        (tmp_path / uid).mkdir()
        pods[uid] = await in_memory(desk, tmp_path / uid, uid)
    other = pods["other"]
    pods["new"].lives = 41
    await pods["new"].kill()
    pods["new"].new_life()
    await settle()

    other.service = pods["old"]
    desk.rendezvous.prove("other", "new", desk.life("new").life_id)
    await asyncio.sleep(3)
    assert desk.life("other").reaches == "", "its node still sends it to the old pod"
    other.service = pods["new"]
    await asyncio.sleep(0.3)
    assert desk.life("other").reaches == "new"
    await other.kill()
    other.new_life()
    await settle()
    assert (desk.life("other").life_id, desk.life("other").reaches) == ("life-2", "new")


@in_virtual_time
async def test_a_trainers_steps_arrive_with_the_beat(tmp_path):
    desk = Desk()
    pod = await in_memory(desk, tmp_path)
    pod.step = 100
    await asyncio.sleep(6)
    assert desk.rendezvous.progressed_at("u0") == 0.0
    pod.step = 101
    await asyncio.sleep(5)
    assert desk.rendezvous.progressed_at("u0") == pytest.approx(1010, abs=0.1)
