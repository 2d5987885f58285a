"""Every way in which an API server fails its clients, in the middle of a recovery: real programs, real bytes.

Each time the same recovery takes place, only later: nobody restarts a second time, no pod is made or deleted.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleetctl.apiserver.world import ApiServerWorld
from fleetctl.sim.requests import Request
from fleetctl.sim.troubles import Between, Further, Outage, Outcome, Stalled, Trouble
from fleetctl.sim.watch import Line, Sink, Watch
from tests.apiserver.trial import Trial, look_inside, rates, target_is_raised, trial

CONTROLLER = "controller"
AT_MOST_A_SECOND = 5.0
TAKES_A_NEW_TOKEN_WITHIN_S = 6.0
RANKS = 8


def scenario(*faults: str, within_s: int = 60, quiet_s: int = 8) -> str:
    """A trainer exits; then these faults."""
    return f"""\
version: 1
name: trial
why: A trainer exits and its API server fails the controller meanwhile.
world:
  gang: {{name: g, ranks: {RANKS}}}
  ranks_per_node: 2
  nodes: 5
timeline:
- at: 6s
  fault: container_exit
  select: {{rank: 3}}
  with: {{exit_code: 3}}
{"".join(f"- {fault}{chr(10)}" for fault in faults)}expect:
- running: {{attempt: 2, within: {within_s}s}}
- quiet: {{for: {quiet_s}s}}
- same_pods: {{ranks: "0-{RANKS - 1}"}}
- figures: {{attempts: 2, pods_created: {RANKS}, pods_deleted: 0, in_place_restarts: {RANKS}}}
"""


def mid_recovery(fault: str, seconds: int, more: str = "") -> str:
    return scenario(f"{{when: {{target: 2}}, fault: {fault}, for: {seconds}s{more}}}")


def log_of(run: Trial) -> str:
    return run.world.controllers[0].log.read_text()


def asked(run: Trial, since: float, until: float) -> tuple[float, float]:
    return rates([at for at, _ in run.requests.seen], since, until)


ANSWERS = {
    "throttled": ("api_throttled", 20, ", with: {share: 100%, retry_after: 2s}"),
    "internal_error": ("api_errors", 20, ", with: {share: 100%, status: 500}"),
    "unavailable": ("api_errors", 20, ", with: {share: 100%, status: 503}"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_server_that_answers_nothing_but_errors(name: str, tmp_path: Path) -> None:
    fault, seconds, more = ANSWERS[name]
    run = trial(mid_recovery(fault, seconds, more), tmp_path)
    run.when, run.do = target_is_raised, lambda _: asyncio.sleep(seconds)
    run.run()
    mean, worst = asked(run, run.began, run.ended)
    print(f"{name}: {mean:.1f} requests/s, {worst:.1f} in the worst ten seconds")
    assert worst <= AT_MOST_A_SECOND


def test_every_third_answer_and_every_third_watch_is_torn(tmp_path: Path) -> None:
    run = trial(mid_recovery("connections_reset", 20, ", with: {share: 33%}"), tmp_path)
    run.run()
    assert "the connection broke" in log_of(run)


def test_slow_answers(tmp_path: Path) -> None:
    trial(mid_recovery("api_slow", 20, ", with: {latency: 1s..5s}"), tmp_path).run()


# Watches


@dataclass(frozen=True)
class DeadStreams(Stalled):
    """The watches that are open when it begins are silent for ever; later ones are not."""

    dead: list[Request] = field(default_factory=list)

    def concerns(self, request: Request) -> bool:
        return any(request is each for each in self.dead)


def test_watches_that_fall_silent_and_stay_open(tmp_path: Path) -> None:
    """For good: a rank that fails when they should be known to be dead recovers as ever."""
    again = "{at: 165s, fault: container_exit, select: {rank: 5}, with: {exit_code: 3}}"
    text = scenario(again).replace("attempt: 2", "attempt: 3").replace("attempts: 2", "attempts: 3")
    run = trial(text.replace(f"in_place_restarts: {RANKS}", f"in_place_restarts: {2 * RANKS}"), tmp_path)

    async def silence(world: ApiServerWorld) -> None:
        open_now = [request for _, request in run.requests.seen if request.verb == "watch"]
        world.door.begin(DeadStreams(dead=open_now))

    run.when, run.do = target_is_raised, silence
    run.run()
    watched_again = {r.plural for at, r in run.requests.seen if r.verb == "watch" and at > run.ended}
    assert {"pods", "gangs"} <= watched_again


@dataclass(frozen=True)
class Truncated(Trouble):
    """Of each line of a watch that is opened meanwhile, the second half is missing."""

    async def meet(self, request: Request, further: Further, between: Between) -> Outcome:
        outcome = await further()
        if isinstance(outcome, Watch):
            opened = outcome.open
            outcome.open = lambda sink: opened(_halving(sink))  # type: ignore[method-assign]
        return outcome


def _halving(sink: Sink) -> Sink:
    return lambda line: sink(Line(line.type, line.key, line.data[: len(line.data) // 2] + b"\n"))


def test_truncated_lines(tmp_path: Path) -> None:
    """Nothing is learnt by a watch; the run lasts longer than that."""
    run = trial(scenario(quiet_s=20), tmp_path)

    async def truncate(world: ApiServerWorld) -> None:
        trouble = Truncated(actor=CONTROLLER)
        world.door.begin(trouble)
        world.door.break_watches(actor=CONTROLLER)
        await asyncio.sleep(15)
        world.door.end(trouble)
        world.door.break_watches(actor=CONTROLLER)

    run.when, run.do = target_is_raised, truncate
    run.run()
    assert "are not the JSON we asked for" in log_of(run)


# Credentials


def test_a_token_that_is_rejected_until_there_is_a_new_one(tmp_path: Path) -> None:
    run = trial(scenario(), tmp_path)

    async def rotate(world: ApiServerWorld) -> None:
        [controller] = world.controllers
        world.door.programs = {"another-token": controller}
        await asyncio.sleep(15)
        run.ended = time.time()
        controller.token_file.write_text("another-token\n")

    run.when, run.do = target_is_raised, rotate
    run.run()
    assert "Unauthorized" in log_of(run)
    let_in_at = min(at for at, _ in run.requests.seen if at > run.began + 1)  # what was on its way comes before
    assert run.ended <= let_in_at <= run.ended + TAKES_A_NEW_TOKEN_WITHIN_S


# Nobody there


def test_refused_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    look_inside(monkeypatch, told)
    servers = tmp_path / "servers"
    servers.mkdir()
    run = trial(mid_recovery("api_outage", 60), servers)
    run.when, run.do = target_is_raised, lambda _: asyncio.sleep(60)
    run.run()
    connects = [float(line) for file in told.glob("*.connects") for line in file.read_text().split()]
    mean, worst = rates(connects, run.began, run.ended)
    print(f"refused: {mean:.2f} connections/s tried, {worst:.1f} in the worst ten seconds")
    assert not [at for at, _ in run.requests.seen if run.began + 1 < at < run.ended - 1]
    assert "Cannot connect" in log_of(run)
    assert connects
    assert worst <= AT_MOST_A_SECOND


def test_each_connection_closed_for_a_minute(tmp_path: Path) -> None:
    run = trial(scenario(within_s=100), tmp_path)

    async def close_all(world: ApiServerWorld) -> None:
        trouble = Outage(actor=CONTROLLER)
        world.door.begin(trouble)
        await asyncio.sleep(60)
        world.door.end(trouble)

    run.when, run.do = target_is_raised, close_all
    run.run()
    mean, worst = asked(run, run.began, run.ended)
    print(f"closed: {mean:.2f} requests/s, {worst:.1f} in the worst ten seconds")
    assert worst <= AT_MOST_A_SECOND


# The server itself


async def killed(world: ApiServerWorld, program: str, down_s: float) -> None:
    """And started again."""
    assert world.server is not None
    world.server.kill(program)
    await asyncio.sleep(down_s)
    world.server.start(program)
    await world.server.ready()


def test_the_api_server_is_killed(tmp_path: Path) -> None:
    run = trial(scenario(), tmp_path)
    run.when, run.do = target_is_raised, lambda world: killed(world, "kube-apiserver", 5)
    run.run()


def test_etcd_is_killed(tmp_path: Path) -> None:
    run = trial(scenario(), tmp_path)
    run.when, run.do = target_is_raised, lambda world: killed(world, "etcd", 5)
    run.run()


def test_history_is_lost(tmp_path: Path) -> None:
    """etcd forgets it, and the API server's cache with its process: who goes on from before is told 410."""
    run = trial(scenario(), tmp_path)

    async def forget(world: ApiServerWorld) -> None:
        assert world.server is not None
        await world.server.compact()
        await killed(world, "kube-apiserver", 0)

    run.when, run.do = target_is_raised, forget
    run.run()
    listed = {request.plural for at, request in run.requests.seen if request.verb == "list" and at > run.began}
    assert "listing again" in log_of(run)
    assert {"pods", "gangs"} <= listed
