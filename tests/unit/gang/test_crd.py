"""manifests/crd.yaml says what the code says."""

from pathlib import Path

import yaml

from fleetctl.gang.crd import definition

MANIFESTS = Path(__file__).parents[3] / "manifests"


def test_the_manifest_is_current() -> None:
    written = yaml.safe_load((MANIFESTS / "crd.yaml").read_text())
    assert written == definition(), "manifests/crd.yaml is not what the types say: run make manifests"


def test_every_field_a_user_may_write_is_described() -> None:
    spec = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    group = spec["properties"]["groups"]["items"]["properties"]
    assert all("description" in field for field in group.values())


def test_what_must_be_said_is_not_filled_in_and_lists_that_are_absent_stay_so() -> None:
    """A rule without `match` would else be a rule for everything, and `has()` in CEL would always hold."""
    spec = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    recovery = spec["recovery"]
    assert recovery["default"] == recovery["properties"]["breaker"]["default"] == {}
    rules = recovery["properties"]["rules"]
    assert "default" not in rules
    assert rules["items"]["required"] == ["match", "action"]
    match = rules["items"]["properties"]["match"]
    assert "default" not in match
    assert all(lists["minItems"] == 1 and "default" not in lists for lists in match["properties"].values())
