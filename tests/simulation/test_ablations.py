"""Each safeguard of the design is switched off by itself, and a scenario that is shipped shows that it is missed.

The docstring names the safeguard, the test's name what happens without it: an invariant that the oracle finds broken,
or a cost that the scenario does not allow. That each scenario ends as it says with all safeguards on, test_scenarios.py
shows with the same seed. Where one safeguard is covered by another, both are switched off, and the test says so.

The promise's floor (an agent accepts nothing below what it promised) is shown to be missed in the agent's machine
alone: an agent reads one stream at a time, a controller's record only grows, and only those are released who hold its
ticket, so no simulated run has brought an old ping after a new one. tests/model has networks that do.
"""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetctl.agent import machine
from fleetctl.agent.machine import Machine, OpenGate
from fleetctl.controller import executor, nodes
from fleetctl.controller.cache import Cache
from fleetctl.gang import attempt, breaker, judgement, recreate
from fleetctl.gang import plan as planning
from fleetctl.gang.conditions import seconds_since
from fleetctl.gang.diagnose import node_state, strikes
from fleetctl.gang.diagnose.case import Case
from fleetctl.gang.snapshot import Memory, Snapshot
from fleetctl.gang.spec import Breaker
from fleetctl.kube.client import KubeClient
from fleetctl.kube.elector import LeaseElector
from fleetctl.kube.objects import Pod
from fleetctl.rendezvous import server
from fleetctl.rendezvous.messages import Ping, Release
from fleetctl.scenario.load import load, parse
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.simulate import simulate
from fleetctl.sim.apiserver import ApiServer
from fleetctl.sim.containers import Volume
from fleetctl.sim.journal import Event, TrainerStarted, Wrote
from fleetctl.sim.kubelet import Kubelet

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SEED = 1


class Belated:
    """Watches a run for trainers that start an attempt after a later one was released: the oracle forgives those whose
    machine was frozen or cut off, for nobody could have stopped them. Here somebody could: the agent."""

    def __init__(self) -> None:
        self.ranks: set[int] = set()
        self._released = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Wrote) and event.plural == "gangs" and event.after:
            record = (event.after.get("status") or {}).get("attempt") or {}
            self._released = max(self._released, record.get("released", 0))
        elif isinstance(event, TrainerStarted) and event.attempt < self._released:
            self.ranks.add(event.rank)


def run(name: str, watch: Callable[[Event], None] | None = None) -> Outcome:
    outcome = simulate(load(SCENARIOS / f"{name}.yaml"), SEED, watch=watch)
    assert not outcome.broken
    return outcome


def broken(outcome: Outcome) -> set[str]:
    """The invariants that the run violated."""
    assert outcome.verdict == "fail"
    assert not outcome.broken
    return {violation.invariant for violation in outcome.violations}


def never(_: attempt.Situation) -> bool:
    return False


def replace_test(off: pytest.MonkeyPatch, name: str, test: attempt.Test) -> None:
    """In the table of steps."""
    assert any(t.__name__ == name for tests, _ in attempt.STEPS for t in tests)
    steps = tuple((tuple(test if t.__name__ == name else t for t in tests), step) for tests, step in attempt.STEPS)
    off.setattr(attempt, "STEPS", steps)


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Switches things off."""
    return monkeypatch


# ---- writes ----


def without_preconditions(off: pytest.MonkeyPatch, *names: str) -> None:
    delete = KubeClient.delete

    async def careless(self: KubeClient, *args: Any, **options: Any) -> bool:
        return await delete(self, *args, **{**options, **dict.fromkeys(names)})

    off.setattr(KubeClient, "delete", careless)


def test_without_the_resource_version_a_late_delete_ends_a_pod_that_has_come_back(off: pytest.MonkeyPatch) -> None:
    """The resourceVersion precondition of deletes."""
    without_preconditions(off, "resource_version")
    assert {"S6", "S9"} <= broken(run("late-delete-of-a-pod-that-lives"))


def test_without_uid_and_resource_version_a_late_delete_ends_the_pod_that_came_after(off: pytest.MonkeyPatch) -> None:
    """The uid precondition of deletes. No two objects have had one resourceVersion, so that covers it."""
    without_preconditions(off, "uid", "resource_version")
    assert {"S6", "S9"} <= broken(run("late-delete"))


def test_without_compare_and_swap_a_late_write_undoes_a_release(off: pytest.MonkeyPatch) -> None:
    """Compare-and-swap of the status."""
    changed = ApiServer._changed

    def overwritten(self: ApiServer, request: Any, stored: Any, body: Any) -> Any:
        if request.plural == "gangs":
            version = stored.body["metadata"]["resourceVersion"]
            body = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
        return changed(self, request, stored, body)

    off.setattr(ApiServer, "_changed", overwritten)
    assert {"S9", "S10"} <= broken(run("late-status-write"))


def test_without_taking_over_first_a_leader_acts_in_the_name_of_another(off: pytest.MonkeyPatch) -> None:
    """The writer: a new leader writes its own name into the record before anything else."""
    replace_test(off, "written_by_another", never)
    assert "S9" in broken(run("controller-crash-before-release"))


def test_without_the_later_writer_a_leader_that_does_not_step_down_takes_the_record_back(
    off: pytest.MonkeyPatch,
) -> None:
    """The writer: a later leader's name in the record. The Lease covers it, and is not kept to here."""
    init, renew = LeaseElector.__init__, LeaseElector._attempt

    def stubborn(self: LeaseElector, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self._renew_for = math.inf

    off.setattr(LeaseElector, "__init__", stubborn)
    off.setattr(LeaseElector, "_attempt", lambda self, within: renew(self, min(within, 5.0)))
    text = (SCENARIOS / "two-leaders.yaml").read_text()
    two_leaders = parse(text.replace("for: 60s", "for: 33s"), "two-leaders.yaml")
    assert simulate(two_leaders, SEED).verdict == "pass"
    replace_test(off, "written_by_a_later_leader", never)
    assert "S9" in broken(simulate(two_leaders, SEED))


def test_without_the_names_of_victims_pods_are_deleted_that_no_record_gives_up(off: pytest.MonkeyPatch) -> None:
    """The record names the pods that may be deleted, before they are."""
    off.setattr(planning, "_names", lambda victims: [])
    off.setattr(attempt.Situation, "named", property(lambda self: self.victims))
    off.setattr(attempt.Situation, "unnamed", property(lambda self: ()))
    assert "S6" in broken(run("node-killed"))


def test_without_the_owner_check_somebody_elses_pod_is_waited_for_in_silence(off: pytest.MonkeyPatch) -> None:
    """A create that meets AlreadyExists succeeds only for our own uid."""
    off.setattr(executor, "_refuse_unless_ours", lambda *_: None)
    assert {"L1", "L3"} <= broken(run("foreign-pod-takes-the-name"))


# ---- the barrier ----


def test_without_the_barrier_an_attempt_is_released_while_earlier_trainers_run(off: pytest.MonkeyPatch) -> None:
    """Everyone stands at the barrier, and promises, before a release."""

    def present(s: attempt.Situation) -> bool:
        return s.record.target > 1 or everyone_present(s)

    def promised(s: attempt.Situation) -> bool:
        asked = s.round is not None and s.round.promise.attempt == s.record.target
        return asked and (s.record.target > 1 or everyone_promised(s))

    everyone_present, everyone_promised = attempt.everyone_present, attempt.everyone_promised
    replace_test(off, "everyone_present", present)
    replace_test(off, "everyone_promised", promised)
    assert "S1" in broken(run("container-exit"))


def test_without_everyones_pong_an_attempt_is_released_with_ranks_that_are_lost(off: pytest.MonkeyPatch) -> None:
    """The ping round. Each such release costs a restart, until the budget is spent."""

    def asked(s: attempt.Situation) -> bool:
        return s.round is not None and s.round.promise.attempt == s.record.target

    replace_test(off, "everyone_promised", asked)
    outcome = run("power-loss-at-the-barrier")
    assert "L1" in broken(outcome)
    assert outcome.figures["attempts"] > 2  # type: ignore[operator]


async def only_synced(self: Cache) -> None:
    """Instead of Cache.refresh."""
    await self.synced()


def test_without_a_fresh_view_a_new_leader_takes_a_replaced_pod_for_a_member(off: pytest.MonkeyPatch) -> None:
    """The fresh view: a new leader reads gangs and pods anew before it decides anything."""
    off.setattr(Cache, "refresh", only_synced)
    assert "S1" in broken(run("standby-that-lags-behind"))


def test_without_our_own_writes_a_pod_that_we_made_is_gone_and_all_restart(off: pytest.MonkeyPatch) -> None:
    """Own writes: they count until the watch has got there. Here they are forgotten after five seconds."""
    written: dict[str, float] = {}
    wrote = Cache.wrote_pod

    def note(self: Cache, pod: Pod) -> None:
        written[pod.metadata.uid] = asyncio.get_running_loop().time()
        wrote(self, pod)

    off.setattr(Cache, "wrote_pod", note)
    off.setattr(Cache, "_is_past", lambda _, own: asyncio.get_running_loop().time() > written.get(own.uid, 0.0) + 5)
    outcome = run("watch-behind-our-own-writes")
    assert outcome.figures["attempts"] > 2  # type: ignore[operator]


def test_without_a_fresh_ticket_a_replaced_rank_is_let_in_beside_its_successor(off: pytest.MonkeyPatch) -> None:
    """The ticket: fresh and random for each round, and who is released is a question of it, not of the attempt. Missed
    only by a controller without a fresh view of the pods, which costs no more than a needless attempt by itself."""
    off.setattr(Cache, "refresh", only_synced)
    assert broken(run("replaced-pod-before-a-late-watch")) == {"S16"}
    init = Snapshot.__init__

    def always_the_same(self: Snapshot, **facts: Any) -> None:
        init(self, **{**facts, "fresh_ticket": "t"})

    off.setattr(Snapshot, "__init__", always_the_same)
    assert {"S2", "S5"} <= broken(run("replaced-pod-before-a-late-watch"))


def test_without_a_kept_promise_an_agent_that_dies_before_its_release_costs_another_attempt(
    off: pytest.MonkeyPatch,
) -> None:
    """The promise is persisted before the pong."""
    load_all = Volume.load
    off.setattr(Volume, "load", lambda self: load_all(self)._replace(promise=None, floor=0))
    outcome = run("agent-dies-between-promise-and-release")
    assert outcome.verdict == "fail"
    assert outcome.figures["attempts"] == 3


def test_without_the_floor_an_old_ping_and_release_start_an_attempt_that_is_over(off: pytest.MonkeyPatch) -> None:
    """The promise: nothing below it is accepted. In the machine alone, see above."""

    def told() -> list[machine.Action]:
        agent = Machine("life", 0.0, None, 0)
        messages = (Ping(3, "new"), Ping(2, "old"), Release(2, "old"))
        return [action for at, message in enumerate(messages) for action in agent.on_message(message, float(at))]

    assert not any(isinstance(action, OpenGate) for action in told())
    on_ping = machine._RULES[Ping]

    def forgetful(self: Machine, message: Ping, now: float) -> list[machine.Action]:
        self.floor = 0
        return on_ping(self, message, now)

    off.setitem(machine._RULES, Ping, forgetful)
    assert OpenGate(2) in told()


def test_without_an_end_to_releases_ranks_that_wake_start_an_attempt_that_is_over(off: pytest.MonkeyPatch) -> None:
    """A release is obeyed only within RELEASE_WITHIN_S of the life's own pong. (The server's FRESH_S only spares agents
    the releases that they would refuse.)"""
    story = "release-in-a-frozen-socket-without-api"
    run(story, watch := Belated())
    assert not watch.ranks
    off.setattr(machine, "RELEASE_WITHIN_S", math.inf)
    run(story, watch := Belated())
    assert watch.ranks


def test_without_waiting_for_the_pong_ranks_that_wake_start_an_attempt_that_is_over(off: pytest.MonkeyPatch) -> None:
    """No release is written behind a ping: who wakes would answer the one and obey the other."""

    def at_once(self: server.Rendezvous, uid: str, number: int, ticket: str) -> None:
        stream, life = self._reach(uid)
        if stream and life.waits:
            self._send(stream, Ping(number, ticket))
            self._send(stream, Release(number, ticket))

    off.setattr(server.Rendezvous, "release", at_once)
    run("release-in-a-frozen-socket-without-api", watch := Belated())
    assert watch.ranks


def test_without_a_new_life_id_a_rebooted_rank_starts_alone_in_the_attempt_it_had_left(off: pytest.MonkeyPatch) -> None:
    """The life id: a new one whenever all containers start again."""
    begin = Volume.begin_life
    off.setattr(Volume, "begin_life", lambda self, life, at: begin(self, self.life_id or life, at))
    assert "S2" in broken(run("node-rebooted-twice"))


def test_without_a_life_id_that_outlives_the_agent_its_restart_is_taken_for_the_trainers(
    off: pytest.MonkeyPatch,
) -> None:
    """The life id: a plain restart of the agent keeps it."""
    start = Kubelet._start_agent

    def start_anew(self: Kubelet, pod: Any) -> None:
        if pod.agent.restarts:
            pod.volume.begin_life(f"{pod.volume.life_id}-{pod.agent.restarts}", self._world.unix_time())
        start(self, pod)

    off.setattr(Kubelet, "_start_agent", start_anew)
    assert {"S1", "S16"} <= broken(run("agent-exits"))


# ---- evidence ----


def test_without_the_rule_of_stale_evidence_one_fault_restarts_the_gang_again_and_again(
    off: pytest.MonkeyPatch,
) -> None:
    """Evidence stamped before the life began is discarded."""
    off.setattr(Case, "is_of_this_life", lambda self, stamp: self.member.life is not None)
    outcome = run("slow-kubelet")
    assert outcome.verdict == "fail"
    assert outcome.figures["attempts"] == 4


def test_without_its_own_waiting_a_controller_that_was_away_counts_everybody_as_late(off: pytest.MonkeyPatch) -> None:
    """The own connection: deadlines count from when this controller began to wait."""
    waiting = judgement._waiting

    def since_the_raise(s: Snapshot, memory: Memory) -> Any:
        raised_at = s.monotonic - seconds_since(s.status.attempt.started_at, s.now)
        return {rank: (aspect, min(raised_at, at)) for rank, (aspect, at) in waiting(s, memory).items()}

    off.setattr(judgement, "_waiting", since_the_raise)
    assert "L1" in broken(run("controller-away-while-gathering"))


def no_lease_proof(off: pytest.MonkeyPatch) -> None:
    off.setattr(node_state, "DEAD_AFTER_S", 0.0)
    off.setattr(node_state, "SEVERAL_HOLD_S", 0.0)
    off.setattr(node_state, "CORRELATED_HOLD_S", 0.0)


def test_without_rejoining_and_lease_proof_a_new_leader_deletes_who_has_not_found_it_yet(
    off: pytest.MonkeyPatch,
) -> None:
    """The own connection: nobody is silent before agents have had the time to find this controller. The Lease proof
    covers it."""
    off.setattr(nodes, "REJOIN_S", -math.inf)
    no_lease_proof(off)
    assert {"S4", "S14", "S16"} <= broken(run("controller-away"))


def test_without_lease_proof_machines_that_train_lose_their_pods(off: pytest.MonkeyPatch) -> None:
    """Silent agents alone prove no death: the kubelet's Lease must stand still, too."""
    no_lease_proof(off)
    assert {"S4", "S16"} <= broken(run("all-agents-unreachable"))


def test_without_a_hold_machines_that_are_dark_together_lose_their_pods(off: pytest.MonkeyPatch) -> None:
    """Correlated failures wait: it may be the network."""
    off.setattr(node_state, "SEVERAL_HOLD_S", 0.0)
    off.setattr(node_state, "CORRELATED_HOLD_S", 20.0)
    outcome = run("two-nodes-dark-and-back")
    assert outcome.verdict == "fail"
    assert outcome.figures["pods_deleted"] == 4


@pytest.mark.parametrize(
    ("where", "name", "seconds"),
    [(node_state, "CORRELATED_HOLD_S", 40.0), (judgement, "DOMAIN_BACK_S", 0.0)],
    ids=["the hold", "the last nodes to come back"],
)
def test_without_the_hold_of_a_domain_a_switch_that_reboots_costs_pods(
    where: Any, name: str, seconds: float, off: pytest.MonkeyPatch
) -> None:
    """A silent failure domain is waited for as long as a switch takes, and the last of its nodes with it."""
    assert run("switch-reboots").verdict == "pass"
    off.setattr(where, name, seconds)
    assert run("switch-reboots").figures["pods_deleted"] > 0


class _Everywhere(dict[str, set[str]]):
    """As if nobody had failed on another node than the one that is asked about."""

    def __missing__(self, who: str) -> Any:
        return _Any()


class _Any:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def test_without_its_rank_a_strike_counts_against_every_machine_where_a_rank_fails(off: pytest.MonkeyPatch) -> None:
    """A fault that follows its rank is the rank's; and one way of failing counts against a machine the third time."""
    assert run("fault-follows-the-rank").figures["pods_recreated"] <= 2
    off.setattr(strikes, "_decide", lambda struck: len(struck) > 1)
    off.setattr(strikes, "_struck", lambda whole: _Everywhere())
    off.setattr(planning.quarantine, "accused", lambda verdicts: ())  # it would run out of machines before
    assert run("fault-follows-the-rank").figures["pods_recreated"] > 2


# ---- brakes ----


def test_without_the_breaker_a_health_check_gone_wrong_moves_ranks(off: pytest.MonkeyPatch) -> None:
    """The breaker; and the moment for which a call must last, so that many are seen together."""
    wrong = run("broken-health-check")
    assert (wrong.verdict, wrong.figures["pods_deleted"]) == ("pass", 0)
    off.setattr(breaker, "HEED_S", 0.0)
    assert run("broken-health-check").figures["pods_deleted"] > 0
    off.setattr(Breaker, "allows", lambda self, nodes: nodes)
    replace_test(off, "too_much_is_bad", never)
    assert run("broken-health-check").figures["pods_deleted"] >= 20


def test_without_the_ceiling_pods_of_more_nodes_than_allowed_are_deleted(off: pytest.MonkeyPatch) -> None:
    """The unhealthy ceiling."""
    replace_test(off, "too_much_is_bad", never)
    assert "S13" in broken(run("more-nodes-than-the-ceiling"))


def test_without_the_pace_all_pods_are_created_at_once(off: pytest.MonkeyPatch) -> None:
    """The pace of creates and deletes."""
    text = (SCENARIOS / "start.yaml").read_text().split("expect:")[0]
    many = text.replace("ranks: 8}\n  ranks_per_node: 2\n  nodes: 5", "ranks: 160}\n  ranks_per_node: 8\n  nodes: 20")
    large = parse(many + "expect:\n- running: {attempt: 1, within: 60s}\n", "start.yaml")
    assert large.world.gang.ranks == 160
    assert simulate(large, SEED).verdict == "pass"
    off.setattr(recreate, "PODS_A_SECOND", 10_000)
    assert "S7" in broken(simulate(large, SEED))


def test_without_a_spend_that_is_kept_restarts_are_free(off: pytest.MonkeyPatch) -> None:
    """Budgets are kept in the status."""
    off.setattr(planning.budget, "spend", lambda spent, *_, **__: spent)
    assert "S8" in broken(run("container-exit"))
