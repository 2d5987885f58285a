"""Every cluster test has its twin among the scenarios, or a reason why it cannot have one (kind_twins.yaml)."""

import ast
from pathlib import Path

import yaml

TESTS = Path(__file__).parents[1]
SCENARIOS = {path.stem for path in (TESTS.parent / "scenarios").glob("*.yaml")}
TWINS = yaml.safe_load((TESTS / "simulation/kind_twins.yaml").read_text())


def test_every_cluster_test_has_its_twin_or_a_reason() -> None:
    there = {
        path.stem: {
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        for path in (TESTS / "cluster").glob("test_*.py")
    }
    assert {file: set(tests) for file, tests in TWINS.items()} == there


def test_the_twins_exist() -> None:
    for tests in TWINS.values():
        for twins in tests.values():
            if isinstance(twins, dict):
                assert list(twins) == ["none"]
            else:
                assert set(twins) <= SCENARIOS
