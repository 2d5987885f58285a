"""Whether a run went as its scenario says, and the sentence for each expectation that was not met."""

from typing import Any

import pytest

from fleetctl.scenario.expectations import Expectations, bound_text
from fleetctl.scenario.figures import Figures
from fleetctl.scenario.load import parse
from fleetctl.scenario.model import Bound

from .journals import Telling

SCENARIO = """\
version: 1
name: x
why: any end can come
world: {gang: {ranks: 4}, trainer: {runs_for: 1h}}
timeline:
- {at: 1s, fault: gang_edited, with: {spec: {suspend: true}}}
- {at: 2s, fault: gang_deleted}
expect:"""


class Run(Telling):
    """A run of a scenario that expects this."""

    def __init__(self, *expect: str) -> None:
        text = "\n- ".join((SCENARIO, *expect))
        self.expectations = Expectations(parse(text, "x.yaml"))
        self.figures = Figures()
        super().__init__(self.expectations, self.figures)

    @property
    def reached(self) -> bool:
        return self.expectations.reached(self.at)

    def unmet(self) -> list[str]:
        return self.expectations.judge(self.at, self.figures.finish(self.at))


def test_the_gang_runs_once_all_trainers_of_the_released_attempt_do() -> None:
    run = Run("running: {}").created()
    assert not run.reached
    run.raised(1, scope="Start").pod_created(0, 1, 2, 3).released(1).starts(0, 1, 2, attempt=1)
    assert not run.reached
    assert run.unmet() == [
        "expected the gang to run within 120 s; at the end target was 1, released 1, 3 of 4 trainers ran attempt 1"
    ]
    run.later(1).starts(3)
    assert run.reached
    assert run.unmet() == []


def test_the_gang_does_not_run_while_a_new_attempt_is_wanted() -> None:
    run = Run("running: {}").runs().raised(2)
    assert not run.reached


def test_the_gang_does_not_run_while_one_of_its_machines_stands_still() -> None:
    run = Run("running: {}").runs().fault("node_frozen", nodes=("node-1",))
    assert not run.reached
    run.fault("node_frozen", nodes=("node-1",), phase="ends")
    assert run.reached


def test_trainers_of_a_former_gang_do_not_count() -> None:
    run = Run("running: {}").runs().deleted().created().raised(1, scope="Start").pod_created(0, 1, 2, 3).released(1)
    assert not run.reached
    run.starts(0, 1, 2, 3)
    assert run.reached


def test_the_trainer_of_somebody_elses_pod_does_not_count() -> None:
    run = Run("running: {}").runs().ends(0, 1, 2, 3).foreign_trainer()
    assert not run.reached
    assert "no trainer ran" in run.unmet()[0]


def test_another_attempt_than_the_one_that_is_expected_does_not_count() -> None:
    run = Run("running: {attempt: 2}").runs()
    assert not run.reached
    run.recovers(2)
    assert run.reached


def test_an_end_that_comes_too_late_is_told_with_the_time_it_took() -> None:
    run = Run("running: {attempt: 2, within: 4s}").runs().later(27).fault(ranks=(1,)).ends(1).later(1).recovers(2)
    assert run.unmet() == ["expected the gang to run attempt 2 within 4 s of the last fault (30.0 s); it took 5.0 s"]
    run = Run("running: {attempt: 2, within: 5s}").runs().later(27).fault(ranks=(1,)).ends(1).later(1).recovers(2)
    assert run.unmet() == []


def test_the_time_counts_from_the_end_of_a_fault_too() -> None:
    run = Run("running: {attempt: 2, within: 5s}").runs().fault("node_dark", nodes=("node-0",)).later(60)
    run.fault("node_dark", nodes=("node-0",), phase="ends").raised(2).recovers(2)
    assert run.unmet() == []


def test_an_end_that_does_not_last_was_none() -> None:
    run = Run("running: {within: 5s}").runs().later(30).ends(1)
    assert run.unmet() == [
        "expected the gang to run within 5 s; at the end target was 1, released 1, 3 of 4 trainers ran attempt 1"
    ]


@pytest.mark.parametrize("end", ["completed", "suspended"])
def test_an_end_by_condition_wants_it_true(end: str) -> None:
    run = Run(f"{end}: {{}}").runs()
    assert not run.reached
    run.status(conditions={end.capitalize(): "so it is"})
    assert run.reached
    run.status(conditions={end.capitalize(): ""})
    assert not run.reached


@pytest.mark.parametrize("end", ["failed", "held"])
def test_an_end_with_a_message_wants_that_message(end: str) -> None:
    run = Run(f'{end}: {{message: "exited 3", within: 60s}}').runs()
    run.status(conditions={end.capitalize(): "rank 1 exited 4"})
    assert not run.reached
    seen = f"target was 1, released 1, 4 of 4 trainers ran attempt 1, {end.capitalize()}: rank 1 exited 4"
    assert run.unmet() == [f'expected the gang to be {end} ("exited 3") within 60 s; at the end {seen}']
    run.status(conditions={end.capitalize(): "rank 1 exited 3"})
    assert run.reached
    assert run.unmet() == []


def test_gone_means_the_gang_and_its_pods() -> None:
    run = Run("gone: {}").runs()
    run.wrote("gangs", run.gang, None, by="somebody")
    assert not run.reached
    assert run.unmet() == ["expected the gang to be gone within 120 s; at the end there was no gang, and 4 of its pods"]
    run.pod_gone(0, 1, 2, 3)
    assert run.reached


def test_quiet_is_broken_by_any_write_of_a_controller_but_a_lease() -> None:
    run = Run("running: {}", "quiet: {for: 10s}").runs().later(9.9)
    assert run.unmet() == []
    run.event("a note").later(9.5)
    run.wrote("leases", None, {"metadata": {"name": "l"}})
    run.wrote("nodes", None, {"metadata": {"name": "n"}}, by="somebody")
    assert run.unmet() == ["expected 10 s of quiet at the end (22.4 s); the last write was at 12.9 s"]
    run.later(0.6)
    assert run.unmet() == []


def test_never_is_told_with_the_first_time_it_was() -> None:
    run = Run("running: {}", "never: {condition: Held}").runs()
    assert run.unmet() == []
    run.status(conditions={"Held": "node-1 is suspect"}).later(5).status(conditions={"Held": ""})
    assert run.unmet() == ["expected never Held; seen at 3.0 s: node-1 is suspect"]


def caused(run: Run, *causes: tuple[str, str, int], under_way: tuple[str, str, int] | None = None) -> Run:
    """Its history has recoveries with these causes, the first one first: rule, scope, rank."""

    def cause(rule: str, scope: str, rank: int) -> dict[str, Any]:
        return {"rule": rule, "scope": scope, "rank": rank, "message": "?"}

    history = [{"attempt": 1, "cause": {"rule": "start", "scope": "Start", "message": "?"}}]
    history = [{"attempt": 2, "cause": cause(*each)} for each in reversed(causes)] + history
    record = {"target": 9, "released": 8, "cause": cause(*under_way)} if under_way else {"target": 9, "released": 9}
    run.gang = run.wrote("gangs", run.gang, {**run.gang, "status": {"attempt": record, "history": history}})
    return run


SEGFAULT, DEAD = ("fatal-signal", "Container", 3), ("node-dead", "Node", 0)


@pytest.mark.parametrize(
    ("wanted", "causes", "unmet"),
    [
        (["{rule: fatal-signal}"], [SEGFAULT], ""),
        (["{rule: fatal-signal, scope: Container, rank: 3}"], [DEAD, SEGFAULT], ""),
        (["{rule: node-dead}", "{rule: fatal-signal}"], [DEAD, SEGFAULT], ""),
        (["{rule: fatal-signal}", "{rule: node-dead}"], [DEAD, SEGFAULT], "node-dead; the causes were: "),
        (["{rule: fatal-signal}", "{rule: fatal-signal}"], [SEGFAULT], "fatal-signal; the causes were: "),
        (["{rule: fatal-signal, rank: 2}"], [SEGFAULT], "fatal-signal of rank 2; the causes were: "),
        (
            ["{rule: node-dead, scope: Unknown}"],
            [DEAD],
            "node-dead (Unknown); the causes were: node-dead (rank 0, Node)",
        ),
        (["{rule: start}"], [], "start; the causes were: none"),
    ],
)
def test_causes_are_met_in_their_order(wanted: list[str], causes: list[tuple[str, str, int]], unmet: str) -> None:
    found = caused(Run("suspended: {}", *(f"cause: {each}" for each in wanted)).created(), *causes).unmet()
    told = [each for each in found if "cause" in each]
    assert (unmet in told[0], len(told)) == (True, 1) if unmet else told == []


def test_the_cause_of_a_recovery_that_is_under_way_counts() -> None:
    run = caused(Run("suspended: {}", "cause: {rule: node-dead}").created(), SEGFAULT, under_way=DEAD)
    assert not [each for each in run.unmet() if "cause" in each]


def test_sometime_is_met_by_the_right_message_only() -> None:
    run = Run("running: {}", "sometime: {condition: Held, message: quota}").runs()
    run.status(conditions={"Held": "a foreign pod"})
    assert run.unmet() == [
        'expected Held sometime with "quota" in its message; it never was (at the end: a foreign pod)'
    ]
    run.status(conditions={"Held": "exceeded quota"}).status(conditions={"Held": ""})
    assert run.unmet() == []


def test_same_pods_and_new_pods_are_counted_per_rank() -> None:
    run = Run("running: {attempt: 2}", 'same_pods: {ranks: "0-2"}', 'new_pods: {ranks: "3"}').runs()
    run.recovers(2, new_pods=(3,))
    assert run.unmet() == []
    run = Run("running: {attempt: 2}", 'same_pods: {ranks: "0-2"}', 'new_pods: {ranks: "3"}').runs()
    run.recovers(2, new_pods=(1,))
    assert run.unmet() == [
        "expected the same pods all along for rank 0-2; seen otherwise for rank 1",
        "expected new pods for rank 3 exactly; seen for rank 1",
    ]


def test_no_new_pods_can_be_expected() -> None:
    run = Run("running: {}", "new_pods: {ranks: none}").runs()
    assert run.unmet() == []
    run.recovers(2, new_pods=(1,))
    assert run.unmet() == ["expected new pods for none exactly; seen for rank 1"]


def test_somebody_elses_pod_is_not_a_new_one() -> None:
    run = Run("running: {}", "new_pods: {ranks: none}").runs()
    run.wrote("pods", None, {**run.pods[0], "metadata": {**run.pods[0]["metadata"], "uid": "x"}}, by="somebody")
    assert run.unmet() == []


def test_figures_are_compared_with_their_bounds() -> None:
    run = Run("running: {}", "figures: {pods_recreated: 1, attempts: {max: 1}, detect_s: {max: 2}}").runs()
    run.recovers(2, new_pods=(1, 2))
    assert run.unmet() == [
        "expected detect_s at most 2; there was nothing to measure",
        "expected pods_recreated 1; it was 2",
        "expected attempts at most 1; it was 2",
    ]


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        ({"min": 8, "max": 8}, "8"),
        ({"max": 0.5}, "at most 0.5"),
        ({"min": 1}, "at least 1"),
        ({"min": 1, "max": 1024}, "at least 1, at most 1,024"),
    ],
)
def test_bounds_are_written_as_people_read_them(bound: dict[str, Any], text: str) -> None:
    assert bound_text(Bound(**bound)) == text


def test_a_gang_that_was_never_accepted_says_why() -> None:
    run = Run("running: {}").created().status(conditions={"Accepted": ""})
    run.status(conditions={"Accepted": ""})
    assert "at the end target was 0, released 0, no trainer ran, not accepted" in run.unmet()[0]


# Nodes and spares at the end


def test_which_nodes_are_quarantined_at_the_end() -> None:
    def run(*numbers: int, wanted: str = '"1,2"') -> list[str]:
        told = Run("running: {}", f"quarantined: {{nodes: {wanted}}}").runs()
        for number in numbers:
            told.quarantined(f"node-{number}")
        return told.unmet()

    assert run(1, 2) == []
    assert run(2) == ["expected in quarantine at the end: node-1, node-2; it was: node-2"]
    assert run(wanted="none") == []
    assert run(2, wanted="none") == ["expected in quarantine at the end: none; it was: node-2"]


def test_a_node_that_was_let_out_or_is_gone_is_quarantined_no_longer() -> None:
    run = Run("running: {}", "quarantined: {nodes: none}").runs().quarantined("node-1").quarantined("node-2")
    run.quarantined("node-1", lifted=True)
    run.wrote("nodes", run.cluster["node-2"], None)
    assert run.unmet() == []


def test_how_many_spares_are_ready_at_the_end() -> None:
    run = Run("running: {}", "spares: {ready: 2}").runs().spare_created("a", "b", "c", "d")
    for name in ("a", "b", "c"):
        run.spare_is(name, "Running", "running", "running")
    run.spare_is("d", "Running", "running", "waiting")
    assert run.unmet() == ["expected 2 spares ready at the end; it was 3"]
    run.spare_gone("a")
    assert run.unmet() == []
    run.spare_is("b", "Pending", "running", "running")
    assert run.unmet() == ["expected 2 spares ready at the end; it was 1"]
