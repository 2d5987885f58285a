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
