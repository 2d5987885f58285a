"""Where the cluster is and who we are. On an ordinary loop: exec plugins are programs."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from fleetctl.errors import GiveUp
from fleetctl.kube import auth, errors
from fleetctl.kube.auth import load_endpoint

CA = trustme.CA()


@pytest.fixture(autouse=True)
def nobody_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def every_request_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LOOK_AGAIN_AFTER", 0.0)


def kubeconfig(path: Path, user: dict[str, Any], namespace: str = "ml") -> Path:
    """Two contexts: `main`, the current one, and `other`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    CA.cert_pem.write_to_path(str(path.parent / "ca.pem"))
    config = {
        "clusters": [
            {"name": "c", "cluster": {"server": "https://cluster.example:6443/", "certificate-authority": "ca.pem"}}
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u", "namespace": namespace}},
            {"name": "other", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "main",
    }
    path.write_text(yaml.safe_dump(config))
    return path


def plugin(directory: Path, expires: str | None) -> dict[str, Any]:
    """An exec plugin whose tokens count how often it ran."""
    status = {"token": "TOKEN"} | ({"expirationTimestamp": expires} if expires else {})
    program = (
        "import json, pathlib\n"
        f"runs = pathlib.Path({str(directory / 'runs')!r})\n"
        "count = len(runs.read_text()) + 1 if runs.exists() else 1\n"
        "runs.write_text('x' * count)\n"
        f"status = {status!r} | {{'token': f'token-{{count}}'}}\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',"
        " 'status': status}))\n"
    )
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", program],
        }
    }


async def test_a_kubeconfig_gives_server_namespace_and_token(tmp_path: Path):
    path = kubeconfig(tmp_path / "config", {"token": "static"})
    endpoint = await load_endpoint(path)
    assert (endpoint.server, endpoint.namespace) == ("https://cluster.example:6443", "ml")
    assert await endpoint.headers() == {"Authorization": "Bearer static"}
    assert endpoint.tls is not None
    assert endpoint.tls.verify_mode == ssl.CERT_REQUIRED


async def test_another_context_can_be_chosen(tmp_path: Path):
    path = kubeconfig(tmp_path / "config", {"token": "static"})
    assert (await load_endpoint(path, context="other")).namespace == "default"


async def test_the_flag_comes_before_the_environment_and_that_before_home(tmp_path: Path, monkeypatch):
    kubeconfig(tmp_path / ".kube" / "config", {"token": "x"}, namespace="home")
    assert (await load_endpoint()).namespace == "home"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "env", {"token": "x"}, namespace="environment")))
    assert (await load_endpoint()).namespace == "environment"
    flag = kubeconfig(tmp_path / "flag", {"token": "x"}, namespace="flag")
    assert (await load_endpoint(flag)).namespace == "flag"


@pytest.mark.parametrize("where", [{}, {"kubeconfig": "/does/not/exist"}, {"context": "main"}])
async def test_a_missing_configuration_says_what_to_do(where):
    with pytest.raises(GiveUp, match="pass --kubeconfig, set KUBECONFIG"):
        await load_endpoint(**where)


@pytest.mark.parametrize("content", ["", "[]", "{}", "current-context: nobody", "{{{", "current-context: main\n"])
async def test_a_broken_kubeconfig_is_named(tmp_path: Path, content: str):
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(GiveUp, match=str(path)):
        await load_endpoint(path)


async def test_an_unknown_context_is_named(tmp_path: Path):
    with pytest.raises(GiveUp, match="nowhere"):
        await load_endpoint(kubeconfig(tmp_path / "config", {"token": "x"}), context="nowhere")


async def test_a_client_certificate_is_presented(tmp_path: Path):
    issued = CA.issue_cert("client.example")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    user = {"client-certificate": "client.pem", "client-key": "client.key"}
    endpoint = await load_endpoint(kubeconfig(tmp_path / "config", user))
    assert await endpoint.headers() == {}
    (tmp_path / "client.key").write_text("not a key")
    with pytest.raises(GiveUp, match="certificate cannot be used"):
        await load_endpoint(kubeconfig(tmp_path / "config", user))


async def test_an_exec_plugins_token_is_used_until_it_is_about_to_expire(tmp_path, every_request_looks_again):
    endpoint = await load_endpoint(kubeconfig(tmp_path / "config", plugin(tmp_path, "2999-01-01T00:00:00Z")))
    assert [await endpoint.headers() for _ in range(3)] == [{"Authorization": "Bearer token-1"}] * 3


async def test_an_exec_plugins_expiring_token_is_renewed_in_time(tmp_path, every_request_looks_again):
    endpoint = await load_endpoint(kubeconfig(tmp_path / "config", plugin(tmp_path, "2020-01-01T00:00:00Z")))
    assert await endpoint.headers() == {"Authorization": "Bearer token-2"}


async def test_an_exec_plugins_token_without_expiry_is_good_until_refused(tmp_path, every_request_looks_again):
    endpoint = await load_endpoint(kubeconfig(tmp_path / "config", plugin(tmp_path, None)))
    first = await endpoint.headers()
    assert first == {"Authorization": "Bearer token-1"}
    renewed = await asyncio.gather(*(endpoint.refresh(first) for _ in range(5)))
    assert renewed == [{"Authorization": "Bearer token-2"}] * 5


async def test_a_plugin_that_fails_at_the_start_is_named_and_later_only_waited_for(tmp_path, every_request_looks_again):
    path = kubeconfig(tmp_path / "config", plugin(tmp_path, "2020-01-01T00:00:00Z"))
    endpoint = await load_endpoint(path)
    (tmp_path / "runs").unlink()
    (tmp_path / "runs").mkdir()
    with pytest.raises(errors.Unavailable, match="credentials: cannot be refreshed") as raised:
        await endpoint.headers()
    assert raised.value.unsent
    with pytest.raises(GiveUp, match="process returned 1"):
        await load_endpoint(path)


async def test_in_a_pod_the_service_accounts_token_is_read_again(tmp_path, monkeypatch, every_request_looks_again):
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    CA.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "namespace").write_text("fleet-system\n")
    (tmp_path / "token").write_text("one\n")
    endpoint = await load_endpoint()
    assert (endpoint.server, endpoint.namespace) == ("https://[fd00::1]:443", "fleet-system")
    assert await endpoint.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    assert await endpoint.headers() == {"Authorization": "Bearer two"}


async def test_in_a_pod_without_a_token_the_message_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", tmp_path / "nothing")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(GiveUp, match=r"nothing cannot be used: .*No such file or directory: '.*nothing/token'"):
        await load_endpoint()


async def test_an_empty_token_is_no_token(tmp_path, monkeypatch, every_request_looks_again):
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    CA.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("one")
    endpoint = await load_endpoint()
    assert endpoint.server == "https://10.0.0.1:443"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(errors.Unavailable, match="token is empty") as raised:
        await endpoint.headers()
    assert raised.value.unsent
    with pytest.raises(GiveUp, match="token is empty"):
        await load_endpoint()


def test_in_a_pod_the_library_for_kubeconfigs_is_not_imported(tmp_path):
    CA.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("one")
    program = (
        "import asyncio, pathlib, sys; from fleetctl.kube import auth;"
        f"auth.SERVICE_ACCOUNT = pathlib.Path({str(tmp_path)!r}); asyncio.run(auth.load_endpoint());"
        "sys.exit('kubernetes_asyncio' in sys.modules)"
    )
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path.cwd(), env=environment)
    assert ran.returncode == 0


def test_importing_the_client_does_not_import_the_library_for_credentials():
    program = "import fleetctl.kube.connect, sys; sys.exit('kubernetes_asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=Path.cwd()).returncode == 0
