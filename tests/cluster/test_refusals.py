"""Bad input gets a clear answer that says what to do, and nothing is created; strangers are turned away."""

import contextlib
import copy
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Audit, Gang, get, kubectl, on_node, plain_template, run, until

pytestmark = pytest.mark.usefixtures("fleet")
SERVER_NAME = "fleetctl-rendezvous.fleetctl-system.svc"
RULE = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}


def template_with(**trainer: Any) -> dict[str, Any]:
    return plain_template("bad", **trainer)


@pytest.mark.parametrize(
    ("template", "field", "fix"),
    [
        (
            template_with(containerRestartPolicy="Never"),
            "spec.groups[0].template.spec.containers[0].containerRestartPolicy",
            "use restartPolicy with restartPolicyRules[].exitCodes",
        ),
        (
            template_with(
                restartPolicy="Never",
                restartPolicyRules=[{"action": "RestartAllContainers", "onExit": RULE["exitCodes"]}],
            ),
            "spec.groups[0].template.spec.containers[0].restartPolicyRules[0].onExit",
            "restartPolicyRules[].exitCodes: {operator: In, values: [...]}",
        ),
        (
            template_with(restartPolicy="Always"),
            "spec.groups[0].template.spec.containers[0].restartPolicy",
            "leave it out, fleetctl restarts the gang",
        ),
        (
            template_with(comand=["typo"]),
            "spec.groups[0].template",
            'unknown field "spec.containers[0].comand"',
        ),
        (
            template_with(resources={"limits": {"memory": "lots"}}),
            "spec.groups[0].template",
            "quantities must match",
        ),
        (
            template_with(volumeMounts=[{"name": "nowhere", "mountPath": "/x"}]),
            "spec.groups[0].template.spec.containers[0].volumeMounts[0].name",
            "Not found",
        ),
    ],
    ids=["containerRestartPolicy", "onExit", "trainer-always", "typo", "quantity", "volume"],
)
def test_a_bad_template_is_refused_by_name_and_nothing_is_created(
    template: dict[str, Any], field: str, fix: str
) -> None:
    audit = Audit()
    with Gang("bad", ranks=2, template=template) as gang:
        refused = until("the gang is judged", lambda: gang.condition("Accepted"))
        assert refused["status"] == "False"
        assert refused["message"].startswith(field), refused["message"]
        assert fix in refused["message"]
        assert "NotAccepted" in kubectl("get", "gang", "bad")
        assert gang.pods() == []
        assert get("services,configmaps", "-l", "fleetctl.dev/gang=bad")["items"] == []
        assert audit.pod_changes() == []


def test_what_works_but_not_as_meant_is_a_warning() -> None:
    template = template_with(lifecycle={"preStop": {"exec": {"command": ["true"]}}})
    with Gang("bad", ranks=2, template=template) as gang:
        gang.running(attempt=1)
        accepted = gang.condition("Accepted")
        assert accepted is not None
        assert (accepted["status"], accepted["reason"]) == ("True", "AcceptedWithWarnings")
        assert "containers[0].lifecycle.preStop: is not run when a pod restarts in place" in accepted["message"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "groups", 0, "size"), 0, "should be greater than or equal to 1"),
        (("spec", "coordinator"), {"group": "nope"}, "coordinator.group names no group"),
        (("spec", "coordinator"), {"index": 2}, "coordinator.index is outside its group: use 0 to size - 1"),
        (
            ("spec", "recovery"),
            {"rules": [{"match": {"exitCodes": [64]}, "action": "Explode"}]},
            'supported values: "FailGang"',
        ),
        (("spec", "surprise"), 1, 'unknown field "spec.surprise"'),
        (("metadata", "name"), "9lives", "metadata.name in body should match"),
    ],
)
def test_our_own_fields_are_refused_at_admission(path: tuple[Any, ...], value: Any, said: str) -> None:
    manifest = copy.deepcopy(Gang("bad", ranks=2).manifest)
    *parents, last = path
    place: Any = manifest
    for key in parents:
        place = place[key]
    place[last] = value
    answer = subprocess.run(
        ["kubectl", "apply", "-f", "-"], input=yaml.safe_dump(manifest), capture_output=True, text=True, check=False
    )
    assert answer.returncode != 0
    assert said in answer.stderr


def test_what_cannot_change_is_refused_with_what_to_do_instead(gang: Gang) -> None:
    change = '[{"op": "replace", "path": "/spec/groups/0/size", "value": 9}]'
    answer = subprocess.run(
        ["kubectl", "patch", "gang", gang.name, "--type=json", "-p", change],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be changed: delete the gang and create it again" in answer.stderr


@contextlib.contextmanager
def rendezvous() -> Iterator[int]:
    """A local port that leads to the rendezvous."""
    command = ["kubectl", "-n", "fleetctl-system", "port-forward", "service/fleetctl-rendezvous", ":8443"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout
            found = re.search(r"127.0.0.1:(\d+)", forward.stdout.readline())
            assert found
            yield int(found[1])
        finally:
            forward.terminate()


def answer_to(gang: Gang, token: str) -> dict[str, Any]:
    """What the rendezvous says to a hello with this token."""
    bundle = get("configmap", f"{gang.name}-fleetctl-ca")["data"]["ca.crt"]
    context = ssl.create_default_context(cadata=bundle)
    hello = {"type": "hello", "token": token, "life_id": "x", "started_at": 1, "attempt": 0, "promise": None}
    with (
        rendezvous() as port,
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as stream,
    ):
        stream.sendall(json.dumps(hello).encode() + b"\n")
        answer: dict[str, Any] = json.loads(stream.makefile().readline())
        return answer


def token_for(pod: str, audience: str = "fleetctl") -> str:
    arguments = ("--audience", audience, "--bound-object-kind", "Pod", "--bound-object-name", pod)
    return kubectl("create", "token", "default", *arguments).strip()


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    """A pod that belongs to no gang."""
    kubectl("run", "stranger", "--image=busybox:test", "--restart=Never", "--command", "--", "sleep", "1000")
    kubectl("wait", "pod/stranger", "--for=condition=Ready", "--timeout=60s")
    yield "stranger"
    kubectl("delete", "pod", "stranger", "--grace-period=1")


def test_only_a_members_own_token_is_welcome(gang: Gang, stranger: str) -> None:
    refusals = {
        "": "not a JSON web token",
        "a.b.c": "not a JSON web token",
        token_for(gang.pod(1), audience="somebody-else"): "audience is not 'fleetctl'",
        kubectl("create", "token", "default", "--audience", "fleetctl").strip(): "bound to no pod",
        token_for(stranger): "pod default/stranger is no member of a gang",
    }
    for token, reason in refusals.items():
        answer = answer_to(gang, token)
        assert answer["type"] == "refused"
        assert reason in answer["reason"]
    assert gang.attempt()["target"] == 1


def test_a_token_of_a_pod_that_is_gone_is_refused(gang: Gang) -> None:
    kubectl("run", "shortlived", "--image=busybox:test", "--restart=Never", "--command", "--", "sleep", "1000")
    token = token_for("shortlived")
    kubectl("delete", "pod", "shortlived", "--grace-period=0", "--force")
    answer = answer_to(gang, token)
    assert (answer["type"], answer["reason"]) == ("refused", "pod default/shortlived is no member of a gang")


def test_trainers_hold_no_credential_of_the_agent(gang: Gang) -> None:
    seen = run(
        "kubectl", "exec", gang.pod(0), "-c", "trainer", "--", "sh", "-c",
        "ls /fleetctl; cat /var/run/secrets/kubernetes.io/serviceaccount/token",
    )  # fmt: skip
    *listed, token = seen.splitlines()
    assert listed == ["progress", "shared"]
    answer = answer_to(gang, token.strip())
    assert answer["type"] == "refused"
    assert "audience" in answer["reason"]
    denied = subprocess.run(
        ["kubectl", "exec", gang.pod(0), "-c", "trainer", "--", "sh", "-c", "echo 9 >/fleetctl/shared/attempt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Read-only file system" in denied.stderr


@pytest.mark.parametrize("sample", ["gang.yaml", "pytorch.yaml"])
def test_the_samples_are_accepted_by_the_api_server(sample: str) -> None:
    path = Path(__file__).parents[2] / "manifests" / "samples" / sample
    assert "created (server dry run)" in kubectl("apply", "--dry-run=server", "-f", str(path))


def test_an_image_without_a_shell_is_named_with_the_setting_that_helps() -> None:
    images = on_node("fleetctl-worker", "ctr -n k8s.io images ls -q").split()
    shellless = next(image for image in images if "/pause:" in image)
    template = plain_template("bad", image=shellless, command=["/pause"])
    with Gang("bad", ranks=1, template=template) as gang:
        held = until("the gang is held", lambda: gang.holds("Held"))
        assert "init container fleetctl-life exited 128, StartError" in held["message"]
        assert "Set lifeImage of the group to one that has" in held["message"]
    helped = Gang("bad", ranks=1, template=template)
    helped.manifest["spec"]["groups"][0]["lifeImage"] = "busybox:test"
    with helped as gang:
        until("the rank runs", lambda: gang.attempt().get("released") == 1)
