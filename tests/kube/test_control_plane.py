"""The real kube-apiserver is what it says it is, speaks TLS, ends as it is told, and comes back with its objects."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from control_plane_clients import LEASE, POD, connected, member

from vipd.errors import VipdError
from vipd.lab.controlplane import pki
from vipd.lab.controlplane.binaries import VARIABLE, find
from vipd.lab.controlplane.controlplane import ControlPlane

GO_MOD = Path(__file__).parent / "envtest" / "go.mod"
COORDINATION = "/apis/coordination.k8s.io/v1"


def running(folder: Path) -> list[str]:
    """The processes that were told of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if f"{folder}/" in command:
            found.append(command)
    return found


def test_it_is_the_release_that_is_pinned(control_plane: ControlPlane) -> None:
    said = subprocess.run([find().kube_apiserver, "--version"], check=True, capture_output=True, text=True).stdout
    code, answer = control_plane.admin.call("GET", "/version")
    assert code == 200
    assert f"Kubernetes {answer['gitVersion']}\n" == said
    assert answer["gitVersion"].startswith(f"v{answer['major']}.{answer['minor']}.")
    if VARIABLE not in os.environ:
        pinned = re.search(r"^\tk8s.io/kubernetes (v\S+)", GO_MOD.read_text(), re.MULTILINE)
        assert pinned is not None
        assert answer["gitVersion"] == pinned[1], "built from another go.mod: run `make envtest`"


def test_a_pod_can_be_made_where_nobody_makes_service_accounts(control_plane: ControlPlane, place: str) -> None:
    pod = control_plane.admin.ensure(f"/api/v1/namespaces/{place}/pods", POD)
    assert pod["status"]["phase"] == "Pending"


def test_what_cannot_start_says_where_its_log_is_and_leaves_no_process(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    folder = tmp_path / "plane"
    with pytest.raises(VipdError) as refused, ControlPlane(find(), folder, flags=["--no-such-flag"]):
        pass
    log = folder / "kube-apiserver.log"
    assert str(refused.value) == f"kube-apiserver ended with exit code 1; its log: {log}"
    assert "unknown flag: --no-such-flag" in log.read_text()
    assert running(folder) == []


async def test_an_unmodified_client_talks_tls_with_the_token(
    control_plane: ControlPlane, place: str, tmp_path: Path
) -> None:
    from kubernetes.aio import client

    token = member(control_plane, place).token
    config = control_plane.kubeconfig(tmp_path / "config", token=token, namespace=place)
    async with await client_of(config) as api:
        leases = client.CoordinationV1Api(api)
        made = await leases.create_namespaced_lease(place, LEASE)
        assert made.spec.holder_identity == "a"
        with pytest.raises(client.ApiException) as refused:
            await leases.delete_namespaced_lease("vip", place)
        assert refused.value.status == 403


async def test_a_client_that_trusts_another_authority_does_not_talk(
    control_plane: ControlPlane, place: str, tmp_path: Path
) -> None:
    from kubernetes.aio import client

    (tmp_path / "other").mkdir()
    config = control_plane.kubeconfig(tmp_path / "config")
    document = json.loads(config.read_text())
    document["clusters"][0]["cluster"]["certificate-authority"] = str(
        pki.make(tmp_path / "other", address="127.0.0.1").ca
    )
    config.write_text(json.dumps(document))
    async with await client_of(config) as api:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.CoordinationV1Api(api).read_namespaced_lease("vip", place)


async def client_of(kubeconfig: Path) -> Any:
    """An unmodified ``kubernetes.aio`` client."""
    from kubernetes.aio import client, config

    settings = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=settings)
    return client.ApiClient(settings)


@pytest.mark.parametrize("kill", [False, True])
def test_what_was_written_is_there_after_a_restart(control_plane: ControlPlane, place: str, kill: bool) -> None:
    vipd = member(control_plane, place)
    leases = f"{COORDINATION}/namespaces/{place}/leases"
    _, made = vipd.call("POST", leases, LEASE)
    control_plane.stop_api(kill=kill)
    try:
        with pytest.raises(OSError, match="refused"):
            vipd.call("GET", f"{leases}/vip")
    finally:
        control_plane.start_api()
    code, found = vipd.call("GET", f"{leases}/vip")
    assert (code, found["metadata"], found["spec"]) == (200, made["metadata"], made["spec"])


async def test_an_orderly_end_ends_the_watches(control_plane: ControlPlane) -> None:
    url = f"{control_plane.url}{COORDINATION}/leases?watch=true"
    async with connected(control_plane) as session, session.get(url) as watch:
        assert watch.status == 200
        stop = asyncio.create_task(asyncio.to_thread(control_plane.stop_api))
        try:
            # One that is killed breaks the stream off, and reading it to its end would raise.
            await watch.read()
        finally:
            await stop
            await asyncio.to_thread(control_plane.start_api)


async def test_frozen_it_answers_nothing_and_thawed_it_goes_on(control_plane: ControlPlane) -> None:
    url = f"{control_plane.url}/version"
    async with connected(control_plane) as session:
        with control_plane.frozen(), pytest.raises(TimeoutError):
            await session.get(url, timeout=aiohttp.ClientTimeout(total=1))
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=30)) as answer:
            assert answer.status == 200
