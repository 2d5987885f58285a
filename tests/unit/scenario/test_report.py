"""What people and programs are told of runs, and the trace that says whether two runs were the same."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from fleetctl.rendezvous.messages import Release, Reset
from fleetctl.scenario import report
from fleetctl.scenario.load import parse
from fleetctl.scenario.many import run_all
from fleetctl.scenario.model import KindCluster, Scenario
from fleetctl.scenario.outcome import Line, Outcome, Trace, not_run
from fleetctl.sim.oracle import Violation

from .journals import Telling

SCENARIO = parse(
    """\
version: 1
name: demo
why: |
  A rank dies,
  and comes back.
world: {gang: {ranks: 1024}, nodes: 130}
timeline:
- {at: 30s, fault: container_exit, select: {rank: 1}}
expect:
- running: {}
- figures: {pods_recreated: 8, detect_s: {max: 2}, signal_s: {max: 1}}
""",
    "scenarios/demo.yaml",
)


def outcome(**changes: Any) -> Outcome:
    figures = {"detect_s": 0.412, "signal_s": None, "pods_recreated": 8, "controller_writes": 1055}
    passed = Outcome("demo", 7, "pass", wall_s=2.13, virtual_s=96.3, trace_hash="9f0c", figures=figures)
    for name, value in changes.items():
        setattr(passed, name, value)
    return passed


# Text


def test_the_header_says_what_is_replayed_and_why() -> None:
    assert list(report.header(SCENARIO, 7)) == [
        "demo: A rank dies, and comes back.",
        "  1,024 ranks on 130 nodes (room for 8 each, 8 a rack), 1 controller, 1 fault, seed 7",
    ]


def test_the_verdict_is_one_line() -> None:
    assert report.verdict(outcome()) == "PASS demo  seed 7  96.3 s simulated in 2.1 s  trace 9f0c"
    assert report.verdict(outcome(verdict="fail")).startswith("FAIL demo  seed 7")
    broken = not_run("demo", 7, "it fell over")
    assert report.verdict(broken) == "BROKEN demo  seed 7  0.0 s simulated in 0.0 s  trace -"


def test_figures_stand_beside_what_was_expected_of_them() -> None:
    assert list(report.figures_table(SCENARIO, outcome())) == [
        "  figure             value  expected",
        "  detect_s           0.412  at most 2",
        "  signal_s               -  at most 1  MISSED",
        "  pods_recreated         8  8",
        "  controller_writes  1,055",
    ]


def test_what_was_wrong_is_a_line_each_but_not_twenty_of_a_kind() -> None:
    violations = [Violation("S7", float(at), f"at {at}") for at in range(20)] + [Violation("S4", 1200.0, "no cause")]
    failed = outcome(violations=violations, unmet=["expected never Held; seen"], broken="KeyError: 'x'")
    assert list(report.problems(failed)) == [
        "BROKEN    KeyError: 'x'",
        "VIOLATED  S7 at 0.0 s: at 0",
        "VIOLATED  S7 at 1.0 s: at 1",
        "VIOLATED  S7 at 2.0 s: at 2",
        "VIOLATED  S4 at 1,200.0 s: no cause",
        "VIOLATED  S7 17 more times",
        "UNMET     expected never Held; seen",
    ]


def test_a_failed_run_is_told_by_its_faults_decisions_and_violations_and_its_end() -> None:
    facts = [Line(float(at), "kubelets", f"fact {at}") for at in range(30)]
    story = [*facts, Line(3.5, "scenario", "node-1: goes dark", "fault"), Line(4.5, "c", "attempt 2: why", "decision")]
    failed = outcome(verdict="fail", story=story, violations=[Violation("S4", 5.5, "no cause")])
    told = list(report.failed_run(SCENARIO, failed))
    assert told[1:8] == [
        "       …  4 lines left out",
        "     3.5  FAULT  node-1: goes dark",
        "       …  1 line left out",
        "     4.5  attempt 2: why",
        "       …  1 line left out",
        "     5.5  VIOLATED  S4: no cause",
        "       …  9 lines left out",
    ]
    assert told[8:23] == [f"    {at}.0  fact {at}" for at in range(15, 30)]
    assert told[23:] == ["VIOLATED  S4 at 5.5 s: no cause", "fleetctl replay scenarios/demo.yaml --seed 7", ""]


def test_a_path_with_a_space_can_be_pasted_into_a_shell() -> None:
    scenario = msgspec.structs.replace(SCENARIO, path=Path("my scenarios/demo.yaml"))
    assert report.replay_command(scenario, 3) == "fleetctl replay 'my scenarios/demo.yaml' --seed 3"


def test_many_seeds_are_summed_up_by_how_their_figures_spread() -> None:
    runs = [outcome(seed=seed, figures={"detect_s": seed / 10, "signal_s": None}) for seed in range(1, 6)]
    runs[2].verdict = "fail"
    runs.append(not_run("demo", 6, "the process of this run died"))
    assert list(report.summary(SCENARIO, runs)) == [
        "  figure    least  median  most  expected",
        "  detect_s    0.1     0.3   0.5  at most 2",
        "  signal_s      -       -     -  at most 1",
        "FAIL demo  seeds 1..6  4 of 6 seeds passed; 1 failed (3); 1 could not run (6)  481.5 s simulated",
    ]


def test_seeds_none_of_which_could_run_have_no_figures() -> None:
    (line,) = report.summary(SCENARIO, [not_run("demo", seed, "x") for seed in range(1, 15)])
    assert "0 of 14 seeds passed; 14 could not run (1, 2, 3, 4, 5, 6, 7, 8, 9, 10 …)" in line


# A run on kind


KIND = msgspec.structs.replace(SCENARIO, kind=KindCluster(ranks=8, workers=4))


def on_kind(**changes: Any) -> Outcome:
    return outcome(backend="kind", trace_hash="", **changes)


def test_a_run_on_kind_is_told_by_its_size_there_and_its_real_time() -> None:
    assert list(report.header(KIND, 7, "kind"))[1] == (
        "  8 ranks on 4 workers of a kind cluster, 1 controller, 1 fault, seed 7"
    )
    assert report.verdict(on_kind()) == "PASS demo  seed 7  96.3 s on kind"
    assert report.verdict(not_run("demo", 7, "no Docker", "kind")) == "BROKEN demo  seed 7  0.0 s on kind"
    assert list(report.summary(KIND, [on_kind()]))[-1].endswith("96.3 s on kind")


def test_a_run_on_kind_is_done_again_on_kind() -> None:
    command = "fleetctl replay --backend kind scenarios/demo.yaml --seed 7"
    assert list(report.failed_run(KIND, on_kind(verdict="fail")))[-2] == command
    told = json.loads(msgspec.json.encode(report.as_json(KIND, on_kind())))
    assert (told["backend"], told["replay"]) == ("kind", command)
    assert report.as_json(KIND, outcome())["backend"] == "sim"


def test_both_runs_stand_beside_each_other_with_what_was_expected() -> None:
    figures = {"detect_s": 2.5, "pods_recreated": 9, "recover_s": None, "signal_s": None, "attempts": 2}
    sim, kind = outcome(), on_kind(verdict="fail", figures=figures, virtual_s=104.5)
    sim.figures["recover_s"] = None
    sim.figures["pods_recreated"] = None
    assert list(report.side_by_side(KIND, sim, kind)) == [
        "  figure               sim  kind  expected",
        "  detect_s           0.412   2.5  at most 2  MISSED on kind",
        "  pods_recreated         -     9  8  MISSED on sim and kind",
        "  controller_writes  1,055     -",
        "  attempts               -     2",
        "PASS demo  seed 7  96.3 s simulated in 2.1 s  trace 9f0c",
        "FAIL demo  seed 7  104.5 s on kind",
    ]


# JSON


def test_a_run_is_one_json_object() -> None:
    failed = outcome(verdict="fail", violations=[Violation("S4", 5.5, "no cause")], story=[Line(1.0, "a", "b")])
    told = json.loads(msgspec.json.encode(report.as_json(SCENARIO, failed)))
    assert told["violations"] == [{"invariant": "S4", "at": 5.5, "text": "no cause"}]
    assert told["figures"]["signal_s"] is None
    assert told["replay"] == "fleetctl replay scenarios/demo.yaml --seed 7"
    assert told["story"] == [{"at": 1.0, "actor": "a", "text": "b", "level": "fact"}]
    assert {"verdict", "wall_s", "virtual_s", "seed", "trace_hash", "scenario", "unmet", "broken"} <= set(told)


def test_many_runs_are_one_json_document_with_the_stories_of_those_that_failed() -> None:
    told = report.many_as_json([(SCENARIO, outcome()), (SCENARIO, outcome(verdict="fail"))])
    assert told["verdict"] == "fail"
    assert ["story" in run for run in told["runs"]] == [False, True]
    assert report.many_as_json([(SCENARIO, outcome())])["verdict"] == "pass"


# The trace


def eventful(*listeners: Any) -> Telling:
    """A run in which every kind of event happens."""
    telling = Telling(*listeners).nodes(2).process("leads").runs().later(7.1234567)
    telling.fault("node_dark", nodes=("node-1",), text="dark").ends(3).heard(Reset(2), 0, 1, 2).heard(
        Release(2, "t"), 3
    )
    telling.recovers(2, new_pods=(3,)).bound(3, to="node-0").pod_changed(
        3, by="kubelet/node-0", status={"phase": "Running"}
    )
    return telling


def test_the_hash_is_that_of_the_file() -> None:
    lines: list[bytes] = []
    trace = Trace(lines.append)
    eventful(trace)
    assert trace.digest() == hashlib.blake2b(b"".join(lines), digest_size=8).hexdigest()
    assert len(trace.digest()) == 16


def test_each_line_is_a_json_object_that_names_what_changed() -> None:
    lines: list[bytes] = []
    eventful(Trace(lines.append))
    told = [json.loads(line) for line in lines]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    raised = next(
        each for each in told if (each.get("attempt") or {} if each["event"] == "update" else {}).get("target") == 2
    )
    assert raised == {
        "at": 10.123457,
        "event": "update",
        "what": "gangs/status",
        "name": "llm",
        "actor": "controller/controller-0_1",
        "version": raised["version"],
        "attempt": {
            "target": 2,
            "released": 1,
            "writer": "controller-0_1/0",
            "cause": "a rank failed",
            "replacing": "3",
            "replace_created_before": 0,
        },
    }
    assert [each["phase"] for each in told if "phase" in each] == ["Running"]
    assert [each["name"] for each in told if each.get("gone")] == ["llm-3"]
    assert {"event": "agent heard", "message": "Reset", "attempt": 2}.items() <= next(
        each for each in told if each["event"] == "agent heard"
    ).items()


def test_equal_runs_have_equal_hashes_and_others_have_not() -> None:
    first, second, third = Trace(), Trace(), Trace()
    eventful(first)
    eventful(second)
    eventful(third).later(1).restarts(0)
    assert first.digest() == second.digest() != third.digest()


def test_bodies_that_differ_without_meaning_do_not_count() -> None:
    digests = set()
    for certificate in ("one", "another"):
        trace = Trace()
        Telling(trace).wrote("secrets", None, {"metadata": {"name": "ca"}, "data": {"tls.crt": certificate}})
        digests.add(trace.digest())
    assert len(digests) == 1


def test_listening_is_cheap() -> None:
    trace = Trace()
    telling = Telling().runs()
    events: list[Any] = []
    telling.listeners = (events.append,)
    telling.restarts(*[0] * 1000).heard(Reset(2), *[1] * 1000)
    began = time.process_time()
    for event in events:
        trace(event)
    assert (time.process_time() - began) / len(events) < 50e-6  # 3 µs on a quiet machine


# Many runs: these functions run in processes of their own, and are found by name


def passes(scenario: Scenario, seed: int) -> Outcome:
    return Outcome(scenario.name, seed, "pass", 0.0, float(seed), "")


def dies_at_3(scenario: Scenario, seed: int) -> Outcome:
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return passes(scenario, seed)


def raises_at_3(scenario: Scenario, seed: int) -> Outcome:
    if seed == 3:
        raise LookupError("no such thing")
    return passes(scenario, seed)


def is_deaf_to_ctrl_c(scenario: Scenario, seed: int) -> Outcome:
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return Outcome(scenario.name, seed, "pass" if blocked else "fail", 0.0, 0.0, "")


def test_every_run_comes_back_with_its_number() -> None:
    ended = dict(run_all([(SCENARIO, seed) for seed in range(10, 16)], passes, jobs=2))
    assert {number: o.seed for number, o in ended.items()} == {n: n + 10 for n in range(6)}


def test_a_run_that_takes_its_process_with_it_is_told_and_costs_no_other() -> None:
    ended = dict(run_all([(SCENARIO, seed) for seed in range(1, 7)], dies_at_3, jobs=2))
    assert [ended[n].broken for n in range(6)] == ["", "", "the process of this run died", "", "", ""]
    assert [ended[n].seed for n in range(6)] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_raises_is_told_and_costs_no_other() -> None:
    ended = dict(run_all([(SCENARIO, seed) for seed in range(1, 5)], raises_at_3, jobs=2))
    assert [ended[n].broken for n in range(4)] == ["", "", "LookupError: no such thing", ""]


def test_ctrl_c_is_for_the_first_process_to_answer() -> None:
    ((_, ended),) = run_all([(SCENARIO, 1)], is_deaf_to_ctrl_c, jobs=1)
    assert ended.verdict == "pass"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
