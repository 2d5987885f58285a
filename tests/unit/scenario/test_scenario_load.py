"""What a scenario file says, and what is said to whoever wrote a wrong one."""

from pathlib import Path

import pytest
import yaml

from fleetctl.errors import GiveUp
from fleetctl.gang.spec import Recovery
from fleetctl.scenario.durations import Range
from fleetctl.scenario.faults import ContainerExit, GangEdited, NodeDark
from fleetctl.scenario.load import ScenarioError, load, parse
from fleetctl.scenario.model import Bound, End, NotJudged, Select, Sometime, WantedCause, When, World

from .examples import TINY, WHOLE

REFUSALS = yaml.safe_load((Path(__file__).parent / "refusals.yaml").read_text())


def problems(text: str, name: str = "whole.yaml") -> list[str]:
    """What is wrong with the text, without the file's name: `LINE: reason; fix`."""
    with pytest.raises(ScenarioError) as refused:
        parse(text, name)
    assert all(problem.startswith(f"{name}:") for problem in refused.value.problems)
    return [problem.removeprefix(f"{name}:") for problem in refused.value.problems]


def changed(old: str, new: str) -> str:
    assert WHOLE.count(old) == 1, old
    return WHOLE.replace(old, new)


def test_what_is_not_said_has_its_default() -> None:
    tiny = parse(TINY, "tiny.yaml")
    assert (tiny.seed, tiny.backends, tiny.policy, tiny.policy_given) == (1, ("sim",), Recovery(), {})
    assert (tiny.world.nodes, tiny.world.controllers, tiny.world.gang.name) == (3, 1, "llm")
    assert (tiny.world.trainer.runs_for, tiny.world.trainer.stops_in) == (None, Range(0.05, 0.2))
    assert tiny.world.trainer.checkpoint_every is None
    assert (tiny.timeline, tiny.expect.end) == ((), End(kind="running", within=120))


def test_the_world_makes_room_for_the_ranks_and_two_nodes_to_spare() -> None:
    text = TINY.replace("gang: {ranks: 8}", "gang: {ranks: 17}\n  ranks_per_node: 4")
    assert parse(text, "tiny.yaml").world.nodes == 7
    spared = text.replace("ranks: 17", "ranks: 17, spares: 5")
    assert (parse(spared, "tiny.yaml").world.nodes, parse(spared, "tiny.yaml").world.gang.spares) == (9, 5)


def test_spares_and_quarantine_are_expected_by_number() -> None:
    world, expect = parse(TINY, "tiny.yaml").world, parse(TINY, "tiny.yaml").expect
    assert (world.gang.spares, expect.quarantined, expect.spares_ready) == (0, None, None)
    more = TINY.rstrip() + '\n- quarantined: {nodes: "0,2"}\n- spares: {ready: 0}\n'
    asked = parse(more, "tiny.yaml").expect
    assert (asked.quarantined, asked.spares_ready) == ((0, 2), 0)
    assert parse(more.replace('"0,2"', "none"), "tiny.yaml").expect.quarantined == ()


def test_everything_that_can_be_said_is_typed_and_resolved() -> None:
    whole = parse(WHOLE, "whole.yaml")
    exits, dark, edited = whole.timeline
    assert whole.policy == Recovery(in_place_deadline_seconds=60, rules=whole.policy.rules)
    assert whole.policy.fatal_codes("worker") == {3}
    assert whole.policy_given["inPlaceDeadlineSeconds"] == 60
    assert (whole.world.trainer.stops_in, whole.world.trainer.checkpoint_every) == (Range(3, 3), 120)
    assert (exits.at, exits.when, exits.spread, exits.lasts, exits.line) == (30, None, 10, None, 15)
    assert exits.fault == ContainerExit(signal="SIGSEGV")
    assert exits.select == Select(ranks=(3, 17, 18, 19))
    assert (dark.at, dark.after, dark.fault, dark.lasts) == (None, 0.5, NodeDark(), 60)
    assert dark.when == When(kind="restarting", value=17, occurrence=2)
    assert dark.select == Select(nodes=(12, 13))
    assert edited.fault == GangEdited(spec={"recovery": {"paused": True}, "suspend": None})
    expect = whole.expect
    assert (expect.end, expect.quiet_s) == (End(kind="running", attempt=3, within=60), 30)
    assert (expect.never, expect.sometime) == (("Held",), (Sometime(condition="Recovering", message="SIGSEGV"),))
    assert expect.causes == (
        WantedCause(rule="fatal-signal", scope="Container", rank=3),
        WantedCause(rule="node-dead"),
    )
    assert (expect.same_pods, expect.new_pods) == (tuple(range(8)), ())
    assert expect.figures == {"pods_recreated": Bound(min=8, max=8), "detect_s": Bound(max=2)}
    assert expect.not_judged == (NotJudged(invariant="S4", because="the test says so"),)


@pytest.mark.parametrize(
    ("select", "resolved"),
    [
        ("{node: 3}", Select(nodes=(3,))),
        ('{nodes: "0-1,4"}', Select(nodes=(0, 1, 4))),
        ("{node_of: 17}", Select(node_of=17)),
        ("{rack: 4}", Select(nodes=(16, 17, 18, 19))),
        ("{any: 2}", Select(any=2)),
    ],
)
def test_the_ways_to_select_nodes(select: str, resolved: Select) -> None:
    assert parse(changed("{rack: 3, count: 2}", select), "whole.yaml").timeline[1].select == resolved


def test_a_last_rack_may_be_smaller() -> None:
    text = changed("nodes: 20\n  nodes_per_rack: 4", "nodes: 17\n  nodes_per_rack: 4").replace(
        "{rack: 3, count: 2}", "{rack: 4}"
    )
    assert parse(text, "whole.yaml").timeline[1].select == Select(nodes=(16,))


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal["told"])
def test_a_wrong_part_is_told_with_its_line_and_what_to_write(refusal: dict[str, str]) -> None:
    assert problems(changed(refusal["part"], refusal["written"])) == [refusal["told"]]


def test_a_fault_that_a_backend_cannot_do_is_told_at_the_fault() -> None:
    text = changed("backends: [sim]", "backends: [sim, kind]").replace("fault: node_dark", "fault: kubelet_slow", 1)
    told = problems(text.replace("{fault: node_dark}", "{fault: kubelet_slow}"))
    (problem,) = told
    assert problem == (
        "22: fault kubelet_slow cannot be done on kind, one of this scenario's backends; take kind out of backends, or "
        "choose a fault that can (fleetctl scenario --list-faults)"
    )


def test_two_faults_that_wait_for_each_other_never_begin() -> None:
    text = changed("when: {restarting: 17, occurrence: 2}", "when: {fault: gang_edited}").replace(
        "expect:", "- when: {fault: container_exit}\n  fault: clock_jump\nexpect:"
    )
    assert problems(text) == [
        "20: when.fault: node_dark waits for gang_edited, which waits too and never begins; write at instead",
        "25: when.fault: gang_edited waits for node_dark, which waits too and never begins; write at instead",
    ]


def test_trainers_that_run_for_ever_do_not_complete_unless_a_fault_ends_them() -> None:
    text = changed("runs_for: 10m, ", "").replace("running: {attempt: 3, within: 60s}", "completed: {}")
    told = "29: completed never comes: trainers run for ever; write world.trainer.runs_for, such as 10m"
    assert problems(text) == [told]
    assert parse(text.replace("{signal: SIGSEGV}", "{exit_code: 0}"), "whole.yaml").expect.end.kind == "completed"


def test_a_fault_that_is_written_wrong_is_not_said_to_be_missing_for_the_end() -> None:
    step = "- at: 30\n  fault: gang_deleted\nexpect:"
    text = WHOLE.replace("expect:", step).replace("running: {attempt: 3, within: 60s}", "gone: {}")
    assert problems(text) == ['28: at: "30" has no unit; write 30s if you mean seconds (units are ms, s, m, h)']


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = WHOLE.replace("seed: 7", "sede: 7").replace("at: 30s", "at: 30").replace("rack: 3", "rack: 9")
    told = problems(text.replace("attempt: 3", "attempt: 0").replace("ranks: 0-7", "ranks: 7-0"))
    assert [problem.partition(":")[0] for problem in told] == ["5", "15", "23", "29", "33"]


def test_a_world_that_is_wrong_does_not_hide_a_rank_that_does_not_exist() -> None:
    assert problems(changed("1ms..5ms", "5").replace("17-19", "17-128")) == [
        '11: world.latency.api: "5" has no unit; write 5s if you mean seconds (units are ms, s, m, h)',
        "17: rank 128 does not exist; write 0 to 127",
    ]


def test_a_later_version_is_not_told_what_else_this_one_does_not_know() -> None:
    assert len(problems(WHOLE.replace("version: 1", "version: 2").replace("seed:", "seeds:"))) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1: the file is empty; begin with version: 1"),
        ("# nothing\n", "1: the file is empty; begin with version: 1"),
        ("hello", '1: the file is "hello"; write a mapping with keys such as version, name or why'),
        ("- 1", "1: the file is a list; write a mapping with keys such as version, name or why"),
        ("a: [1", "1: not YAML: expected ',' or ']', but got '<stream end>'; look at this line and the one before"),
        ("a:\n\t- b", "2: not YAML: found character '\\t' that cannot start any token; indent with spaces"),
        (
            "a: 1\n---\nb: 2",
            "2: not YAML: but found another document; keep one document to a file, without a second ---",
        ),
        ("a: 1\nb: \x07", "2: not YAML: the character U+0007; take it out"),
        ('a: "\\U00110000"', "1: not YAML: chr() arg not in range(0x110000); look at this line"),
        ("[" * 1000, "1: nested too deeply; nothing in a scenario is deeper than ten levels"),
    ],
)
def test_what_is_no_scenario_at_all(text: str, told: str) -> None:
    assert problems(text) == [told]


def test_a_value_with_a_type_of_yaml_s_own_is_not_read() -> None:
    assert problems(changed("seed: 7", "seed: !!python/name:os.system 7")) == [
        "5: seed is something that is not read here (python/name:os.system); write a whole number, at least 0"
    ]


def test_the_name_of_a_text_that_is_in_no_file_is_its_own_affair() -> None:
    assert parse(TINY, "<test>").name == "tiny"


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    assert load(file).path == file


def test_what_cannot_be_read_is_a_problem_like_any_other(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"why: caf\xe9")
    with pytest.raises(ScenarioError, match=r"latin.yaml:1: not UTF-8 at byte 8; save it as UTF-8"):
        load(latin)
    with pytest.raises(
        GiveUp, match=r"none.yaml:1: cannot be read \(No such file or directory\); name a scenario file"
    ):
        load(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="Is a directory"):
        load(tmp_path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(Path("\0"))


def test_a_world_made_by_hand_has_its_nodes_too() -> None:
    assert World(gang=parse(TINY, "tiny.yaml").world.gang, ranks_per_node=3).nodes == 5
