"""The registry of faults, and what is generated from the types: schema and tables say what the code says."""

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from fleetctl.scenario import faults, form, reference
from fleetctl.scenario.faults import FAULTS, ContainerExit
from fleetctl.scenario.load import parse
from fleetctl.scenario.reader import READS, default_of, fields_of, kind_of
from fleetctl.scenario.schema import as_text, schema
from fleetctl.sim import journal

SCENARIOS = Path(__file__).parents[3] / "scenarios"
README = (SCENARIOS / "README.md").read_text()


def test_the_schema_is_current() -> None:
    assert (SCENARIOS / "schema.json").read_text() == as_text(), (
        "scenarios/schema.json is not what the types say: fleetctl scenario schema >scenarios/schema.json"
    )


def test_the_tables_are_current() -> None:
    assert reference.fill(README) == README, (
        "scenarios/README.md is not what the types say: python -m fleetctl.scenario.reference scenarios/README.md"
    )


def test_every_table_has_its_place_on_the_page() -> None:
    assert re.findall(r"<!-- table: (\w+) -->", README) == [*reference.tables()]


def test_the_example_on_the_page_is_a_scenario() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse(example, "one-crash.yaml").name == "one-crash"


def test_every_fault_is_listed() -> None:
    families = faults.Fault.__subclasses__()
    made = {kind for family in families for kind in family.__subclasses__()} | {faults.NoCapacity}
    assert {*FAULTS.values()} == made


def test_the_families_are_those_of_the_journal() -> None:
    assert {*get_args(faults.Family)} == {*get_args(journal.Family)} == {fault.family for fault in FAULTS.values()}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_says_what_it_does_and_can_be_done_somewhere(fault: type[faults.Fault]) -> None:
    assert fault.name == re.sub(r"(?<!^)(?=[A-Z])", "_", fault.__name__).lower()
    assert reference.summary(fault).endswith(".")
    assert fault.__doc__ not in {base.__doc__ for base in fault.__bases__}
    assert "sim" in fault.backends


@pytest.mark.parametrize("kind", [*FAULTS.values(), *form.EXPECTATIONS.values()], ids=[*FAULTS, *form.EXPECTATIONS])
def test_a_default_is_a_value_that_may_be_written(kind: type[msgspec.Struct]) -> None:
    for each in fields_of(kind).values():
        reads, written = kind_of(each.type).reads, reference.default_in_file(each)
        if reads in READS and written is not None:
            assert READS[reads].parse(written) == default_of(each)
            assert re.fullmatch(READS[reads].pattern, written)


def test_a_signal_is_an_exit_code_to_the_kubelet() -> None:
    assert (ContainerExit(signal="SIGSEGV").code, ContainerExit(exit_code=3).code) == (139, 3)


def test_the_schema_knows_each_fault_with_its_parameters_and_its_target() -> None:
    by_name = {
        each["if"]["properties"]["fault"]["const"]: each["then"]
        for each in schema()["properties"]["timeline"]["items"]["allOf"]
    }
    assert [*by_name] == [*FAULTS]
    exits, dark, outage = by_name["container_exit"], by_name["node_dark"], by_name["api_outage"]
    assert exits["properties"]["with"]["properties"]["exit_code"] == {
        "type": "integer", "minimum": 0, "maximum": 255, "default": 1,
    }  # fmt: skip
    assert exits["properties"]["for"] is False
    assert (exits["required"], outage["properties"]["select"]) == (["select"], False)
    assert dark["properties"]["select"]["propertyNames"]["enum"] == ["node", "nodes", "node_of", "rack", "any", "count"]
    assert by_name["node_tainted"]["required"] == ["select", "with"]


def test_the_schema_is_strict_about_keys_everywhere() -> None:
    text = json.dumps(schema())
    objects = re.findall(r'"properties": \{', text)
    strict = re.findall(r'"additionalProperties": false', text)
    conditions = 2 * len(FAULTS)  # the parts of `if` and `then` speak of some keys only
    assert len(objects) == len(strict) + conditions
