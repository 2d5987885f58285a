"""The samples are gangs that fleetctl would accept."""

from pathlib import Path

import msgspec
import pytest
import yaml

from fleetctl.gang import template
from fleetctl.gang.identity import Gang
from fleetctl.gang.spec import GangSpec

SAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "samples").glob("*.yaml"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sample(sample: Path) -> None:
    manifest = yaml.safe_load(sample.read_text())
    spec = msgspec.convert(manifest["spec"], GangSpec)
    gang = Gang(namespace="default", name=manifest["metadata"]["name"], uid="u", spec=spec)
    assert template.problems(gang) == []
    assert template.warnings(gang) == []
