"""The client finds its configuration, keeps its token fresh, and says what is wrong in words."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from client_faults import LEASE, FaultyApi, Request, kubeconfig, serving

from vipd.core.model import CallFailed, CallFailure, LeaseView
from vipd.errors import KubeError
from vipd.kube import connect as connect_module
from vipd.kube.connect import connect, own_namespace
from vipd.kube.leases import KubeLeases
from vipd.kube.preflight import LEASE_VERBS, REVIEW_PATH, preflight


def service_account(tmp_path: Path) -> Path:
    """What the kubelet mounts, with a CA of our own."""
    directory = tmp_path / "sa"
    directory.mkdir()
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*make.split(), "-keyout", str(tmp_path / "key.pem"), "-out", str(directory / "ca.crt")],
        check=True,
        capture_output=True,
    )
    (directory / "token").write_text("first\n")
    (directory / "namespace").write_text("vips\n")
    return directory


async def test_in_a_pod_each_request_bears_the_token_of_that_moment(tmp_path: Path) -> None:
    directory = service_account(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "ca.crt", tmp_path / "key.pem")
    server = FaultyApi(lambda r: r.answer(200, LEASE), tls=context)
    await server.start()
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    client = await connect(environ=environ, service_account=directory)
    store = KubeLeases(client, namespace="vips", name="vip")
    assert isinstance(await store.read(timeout_s=2), LeaseView)
    (directory / "token").write_text("second\n")
    assert isinstance(await store.read(timeout_s=2), LeaseView)
    (directory / "token").write_text("")
    assert isinstance(await store.read(timeout_s=2), LeaseView)
    (directory / "token").unlink()
    assert isinstance(await store.read(timeout_s=2), LeaseView)
    await client.close()
    await server.stop()
    bearers = [r.headers["authorization"] for r in server.requests]
    assert bearers == ["Bearer first", "Bearer second", "Bearer second", "Bearer second"]
    assert own_namespace(service_account=directory) == "vips"


async def test_a_pod_without_a_mounted_service_account_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="automountServiceAccountToken"):
        await connect(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, service_account=tmp_path)


async def test_an_empty_token_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("x")
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(KubeError, match="empty"):
        await connect(environ={"KUBERNETES_SERVICE_HOST": "fd00::1"}, service_account=tmp_path)


async def test_a_ca_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    (tmp_path / "token").write_text("t")
    with pytest.raises(KubeError, match="certificates"):
        await connect(environ={"KUBERNETES_SERVICE_HOST": "fd00::1"}, service_account=tmp_path)


async def test_no_configuration_at_all_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match=r"\.kube/config does not exist.*KUBECONFIG"):
        await connect(environ={"HOME": str(tmp_path)})
    assert own_namespace(service_account=tmp_path) is None


async def test_kubeconfig_of_the_environment_and_of_the_home_are_found(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(kubeconfig("http://127.0.0.1:1"))
    (tmp_path / "other").write_text(kubeconfig("http://127.0.0.1:2"))
    home = await connect(environ={"HOME": str(tmp_path)})
    named = await connect(environ={"HOME": str(tmp_path), "KUBECONFIG": f"/nowhere:{tmp_path / 'other'}"})
    assert (home.configuration.host, named.configuration.host) == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    await home.close()
    await named.close()


async def test_in_a_pod_a_context_is_one_of_the_kubeconfig(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(kubeconfig("http://127.0.0.1:1").replace('"x"', '"prod"'))
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBECONFIG": str(config)}
    client = await connect(context="prod", environ=environ, service_account=tmp_path)
    assert client.configuration.host == "http://127.0.0.1:1"
    await client.close()
    with pytest.raises(KubeError, match=r"--context asks for a kubeconfig, and /nowhere does not exist"):
        await connect(context="prod", environ={**environ, "KUBECONFIG": "/nowhere"}, service_account=tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "a: b", "\x00", kubeconfig("http://x").replace('"x"', '"y"', 1), "- 1"]
)
async def test_what_is_no_kubeconfig_is_told_with_its_path(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(KubeError, match=str(path)):
        await connect(environ={"KUBECONFIG": str(path)})


async def test_a_kubeconfig_without_permission_or_that_is_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match=str(tmp_path)):
        await connect(environ={"KUBECONFIG": str(tmp_path)})


async def test_a_token_file_of_a_kubeconfig_is_read_for_each_request(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, _):
        config = json.loads(kubeconfig(server.url))
        config["users"][0]["user"] = {"tokenFile": "token"}
        (tmp_path / "token").write_text("first")
        (tmp_path / "with-file").write_text(json.dumps(config))
        client = await connect(kubeconfig=str(tmp_path / "with-file"))
        store = KubeLeases(client, namespace="default", name="vip")
        await store.read(timeout_s=1)
        (tmp_path / "token").write_text("second")
        await store.read(timeout_s=1)
        await client.close()
    assert [r.headers["authorization"] for r in server.requests] == ["Bearer first", "Bearer second"]


def plugin(tmp_path: Path, url: str, script: str) -> str:
    """A kubeconfig whose credentials come from a shell script."""
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    config = json.loads(kubeconfig(url))
    config["users"][0]["user"] = {
        "exec": {"command": str(path), "apiVersion": "client.authentication.k8s.io/v1beta1"},
    }
    (tmp_path / "with-plugin").write_text(json.dumps(config))
    return str(tmp_path / "with-plugin")


def credential(tmp_path: Path, *, minutes: int) -> str:
    """The part of a plugin's script that gives the token "run1", then "run2" and so on, each good for so long."""
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    document: dict[str, Any] = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "kind": "ExecCredential",
        "status": {"token": "COUNT", "expirationTimestamp": soon},
    }
    return f"""echo x >> {tmp_path}/runs
run=$(wc -l < {tmp_path}/runs)
if [ "$run" = "$(cat {tmp_path}/hangs 2>/dev/null)" ]; then echo $$ > {tmp_path}/pid; exec sleep 60; fi
echo '{json.dumps(document)}' | sed "s/COUNT/run$run/" """


async def reads_until(store: KubeLeases, server: FaultyApi, bearer: str) -> None:
    """Read the Lease until a request bears this token."""
    async with asyncio.timeout(10):
        while not server.requests or server.requests[-1].headers["authorization"] != f"Bearer {bearer}":
            await store.read(timeout_s=1)
            await asyncio.sleep(0.03)


async def test_a_credential_plugin_is_run_again_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_module, "EXEC_CHECK_S", 0.0)
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, _):
        client = await connect(kubeconfig=plugin(tmp_path, server.url, credential(tmp_path, minutes=1)))
        await reads_until(KubeLeases(client, namespace="default", name="vip"), server, "run2")
        await closed(client)
    assert server.requests[0].headers["authorization"] == "Bearer run1"


async def test_a_credential_plugin_that_hangs_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connect_module, "EXEC_CHECK_S", 0.0)
    monkeypatch.setattr(connect_module, "PLUGIN_S", 0.5)
    (tmp_path / "hangs").write_text("2")
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, _):
        client = await connect(kubeconfig=plugin(tmp_path, server.url, credential(tmp_path, minutes=1)))
        await reads_until(KubeLeases(client, namespace="default", name="vip"), server, "run3")
        await closed(client)
    assert "The credential plugin did not answer within 0.5 s; it will be started again." in caplog.text
    assert not await alive((tmp_path / "pid").read_text())


async def test_a_credential_plugin_that_hangs_at_start_is_told_and_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_module, "PLUGIN_S", 0.5)
    (tmp_path / "hangs").write_text("1")
    with pytest.raises(KubeError, match=r"The credential plugin that the kubeconfig .* did not answer within 0\.5 s"):
        await connect(kubeconfig=plugin(tmp_path, "http://127.0.0.1:1", credential(tmp_path, minutes=1)))
    assert not await alive((tmp_path / "pid").read_text())


async def alive(pid: str) -> bool:
    """Whether the process is there still, a moment after it was killed."""
    for _ in range(50):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        await asyncio.sleep(0.02)
    return True


async def closed(client: Any) -> None:
    """Close the client once its plugin runs no more: the test's loop outlives no process."""
    task = client.configuration.refresh_api_key_hook._task
    await client.close()
    await asyncio.gather(*[task] if task else [])


async def test_a_token_that_is_refused_before_its_end_is_renewed_but_not_for_ever_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_module, "EXEC_CHECK_S", 0.3)
    taken = "run2"

    async def answer(request: Request) -> None:
        known = request.headers["authorization"] == f"Bearer {taken}"
        await (request.answer(200, LEASE) if known else request.answer(401, {"message": "Unauthorized"}))

    async with serving(answer, tmp_path) as (server, _):
        client = await connect(kubeconfig=plugin(tmp_path, server.url, credential(tmp_path, minutes=60)))
        store = KubeLeases(client, namespace="default", name="vip")
        await reads_until(store, server, "run2")
        assert isinstance(await store.read(timeout_s=1), LeaseView)
        taken = "none"
        for _ in range(30):
            await store.read(timeout_s=1)
            await asyncio.sleep(0.03)
        await closed(client)
    assert 3 <= len((tmp_path / "runs").read_text().split()) <= 6


async def test_a_credential_plugin_that_fails_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="credential plugin"):
        await connect(kubeconfig=plugin(tmp_path, "http://127.0.0.1:1", "exit 3"))


def review(request: Request, allowed: dict[str, bool]) -> dict[str, Any]:
    verb = request.body["spec"]["resourceAttributes"]["verb"]
    return {**request.body, "status": {"allowed": allowed.get(verb, True), "reason": ""}}


async def test_preflight_is_content_where_everything_is_allowed(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        await (request.answer(201, review(request, {})) if request.method == "POST" else request.answer(200, LEASE))

    async with serving(answer, tmp_path) as (server, client):
        found = await preflight(client, namespace="default", name="vip")
    found.require()
    assert isinstance(found.lease, LeaseView)
    assert {p.verb: p.allowed for p in found.permissions} == dict.fromkeys(LEASE_VERBS, True)
    asked = [r.body["spec"]["resourceAttributes"] for r in server.requests if r.path == REVIEW_PATH]
    # A create cannot be granted by name, so it must not be asked for by name.
    assert ["name" in attributes for attributes in asked] == [a["verb"] != "create" for a in asked]


async def test_preflight_names_verb_namespace_lease_and_the_missing_rule(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        denied = {"update": False, "create": False}
        await (request.answer(201, review(request, denied)) if request.method == "POST" else request.answer(200, LEASE))

    async with serving(answer, tmp_path) as (_, client):
        found = await preflight(client, namespace="vips", name="vip")
    assert len(found.problems) == 2
    with pytest.raises(KubeError) as raised:
        found.require()
    text = str(raised.value)
    assert 'update the Lease "vip" in the namespace "vips"' in text
    assert 'resources: ["leases"], verbs: ["update"], resourceNames: ["vip"]' in text
    assert 'verbs: ["create"]}' in text


async def test_preflight_explains_a_read_that_is_forbidden(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        said = 'User "system:serviceaccount:default:vipd" cannot get resource "leases"'
        await request.answer(403, {"kind": "Status", "reason": "Forbidden", "message": said})

    async with serving(answer, tmp_path) as (_, client):
        found = await preflight(client, namespace="default", name="vip")
    assert len(found.problems) == 1
    assert "system:serviceaccount:default:vipd" in found.problems[0]
    assert 'verbs: ["get"]' in found.problems[0]


async def test_preflight_is_content_where_the_server_offers_no_reviews(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        await (request.answer(404, {}) if request.method == "POST" else request.answer(200, LEASE))

    async with serving(answer, tmp_path) as (_, client):
        found = await preflight(client, namespace="default", name="vip")
    assert found.problems == ()
    assert {p.allowed for p in found.permissions} == {None}


@pytest.mark.parametrize(
    ("code", "words"),
    [(401, "does not accept the credentials"), (500, "error of its own"), (404, "is no Kubernetes API")],
)
async def test_preflight_explains_other_answers(code: int, words: str, tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(code, {}), tmp_path) as (server, client):
        found = await preflight(client, namespace="default", name="vip")
        assert len(server.requests) == 1
    with pytest.raises(KubeError, match=words):
        found.require()


async def test_preflight_tells_unreachable_from_silent(tmp_path: Path) -> None:
    async with serving(lambda r: r.hang(), tmp_path) as (server, client):
        silent = await preflight(client, namespace="default", name="vip", timeout_s=0.4)
        await server.stop()
        away = await preflight(client, namespace="default", name="vip", timeout_s=1)
    assert isinstance(silent.lease, CallFailed)
    assert isinstance(away.lease, CallFailed)
    assert (silent.lease.failure, away.lease.failure) == (CallFailure.TIMEOUT, CallFailure.UNREACHABLE)
    assert "security groups" in silent.problems[0]
    assert server.url in away.problems[0]


def test_no_model_classes_are_loaded_to_use_the_adapter() -> None:
    """They would cost more memory than everything else in the process."""
    code = (
        "import sys, vipd.kube.connect, vipd.kube.leases, vipd.kube.members, vipd.kube.events, vipd.kube.preflight\n"
        "assert not [m for m in sys.modules if m.startswith('kubernetes')]\n"
        "from kubernetes.aio.client import ApiClient\n"
        "assert not [m for m in sys.modules if m.startswith('kubernetes.aio.client.models.')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
