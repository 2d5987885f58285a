"""Whatever stands in a file: it is a scenario, or every problem is one line that says where and what to do."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleetctl.scenario import form
from fleetctl.scenario.faults import FAULTS
from fleetctl.scenario.load import ScenarioError, load, parse
from fleetctl.scenario.model import Scenario
from fleetctl.scenario.reader import fields_of

from .examples import WHOLE

WORDS = sorted(
    {key for kind in (form.File, form.Step, form.When, form.Select) for key in fields_of(kind)}
    | {*FAULTS, *form.EXPECTATIONS, "gang", "ranks", "exit_code", "min", "within", "spec", "coordinator", "index", ""}
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from([*WORDS, "30s", "-1h", "5ms..80ms", "3,17-24", "10%", "0-999999999", "9" * 5000])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | LEAVES, inner, max_size=4),
    max_leaves=12,
)


def read(text: str) -> Scenario | None:
    """The scenario, or None if it is refused as it should be."""
    try:
        return parse(text, "whole.yaml")
    except ScenarioError as refused:
        problems = refused.problems
    assert problems
    for problem in problems:
        found = re.fullmatch(r"whole\.yaml:([1-9][0-9]*): [^\n]+; [^\n]+", problem)
        assert found, problem
        assert int(found[1]) <= max(text.count("\n"), len(text.splitlines())) + 1
    return None


@settings(deadline=None)
@given(st.text() | st.text(alphabet="abc:-[]{}&*!|>'\"%@,?#\n\t 01~<\\"))
@example("%YAML 1.9999999999999999999999999\n---\na")
@example('"\\U00110000"')
@example("? [a]\n: b")
@example("<<: {a: 1}")
@example("!!int abc: 1")
@example("=: 1")
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)


@settings(deadline=None)
@given(VALUES)
def test_any_value_is_read_or_refused(value: Any) -> None:
    read(yaml.dump(value))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


PLACES = _places(yaml.safe_load(WHOLE))[1:]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES, st.sampled_from(["replace", "remove", "add"])), max_size=3))
def test_a_scenario_with_anything_in_the_wrong_place_is_read_or_refused(changes: list[Any]) -> None:
    value = yaml.safe_load(WHOLE)
    for path, new, how in changes:
        _change(value, path, new, how)
    read(yaml.dump(value, sort_keys=False))


def _change(value: Any, path: tuple[Any, ...], new: Any, how: str) -> None:
    for key in path[:-1]:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return  # an earlier change took it away
    match value, how:
        case dict() | list(), "replace" if isinstance(value, dict) or path[-1] in range(len(value)):
            value[path[-1]] = new
        case dict(), "remove":
            value.pop(path[-1], None)
        case dict(), "add":
            value[f"{path[-1]}s"] = new
        case list(), _:
            value.append(new)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_file_with_damaged_characters_is_read_or_refused(chance: random.Random) -> None:
    text = list(WHOLE)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        text[at : at + chance.randint(0, 3)] = chance.choice(
            ["", ":", "\n", "  ", "{", "]", "'", "-", "&a ", "*a", "!", "9"]
        )
    read("".join(text))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_place_of_a_scenario_may_be_empty_or_of_another_type_without_harm(place: tuple[Any, ...]) -> None:
    for new in (None, -1, "x", [None], {"x": None}):
        value = yaml.safe_load(WHOLE)
        _change(value, place, new, "replace")
        read(yaml.dump(value, sort_keys=False))


def test_any_bytes_are_read_or_refused(tmp_path: Path) -> None:
    chance = random.Random(7)
    for n in range(100):
        file = tmp_path / f"{n}.yaml"
        file.write_bytes(chance.randbytes(40))
        with pytest.raises(ScenarioError):
            load(file)
