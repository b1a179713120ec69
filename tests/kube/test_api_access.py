"""Who may do what in the lab's Kubernetes API, and what is served besides Leases."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from asyncio import to_thread
from pathlib import Path
from typing import Any

import pytest
from api_server import Raw, RunningApi, lease
from kubernetes.aio.client import CoreV1Api, EventsV1Api, VersionApi

ROBOT = "system:serviceaccount:ns:name"
MERGE = "application/merge-patch+json"


async def test_without_a_token_or_with_an_unknown_one_it_is_401(raw: Raw) -> None:
    for token in (None, "nobodys"):
        status, body = await raw("GET", "leases", token=token)
        assert (status, body["reason"], body["message"]) == (401, "Unauthorized", "Unauthorized")


async def test_anonymous_requests_may_be_let_in(raw: Raw, api: RunningApi) -> None:
    api.access.anonymous = "system:anonymous"
    assert (await raw("GET", "leases", token=None))[0] == 403
    api.access.rights["system:anonymous"] = {("list", "leases")}
    assert (await raw("GET", "leases", token=None))[0] == 200
    assert (await raw("GET", "leases", token="nobodys"))[0] == 401


async def test_a_token_expires_while_the_server_runs(raw: Raw, api: RunningApi) -> None:
    api.add_user(ROBOT, "t2")
    assert (await raw("GET", "leases", token="t2"))[0] == 200
    api.expire_token("t2")
    assert (await raw("GET", "leases", token="t2"))[0] == 401


async def test_what_is_not_allowed_is_forbidden_in_the_real_words(raw: Raw, api: RunningApi) -> None:
    api.add_user(ROBOT, "t2", {("get", "leases")})
    path = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
    status, body = await raw("PUT", f"{path}/x", lease("x"), token="t2")
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == (
        f'leases.coordination.k8s.io "x" is forbidden: User "{ROBOT}" cannot update resource "leases" '
        'in API group "coordination.k8s.io" in the namespace "ns"'
    )
    _, body = await raw("GET", "/api/v1/nodes", token="t2")
    assert body["message"] == (
        f'nodes is forbidden: User "{ROBOT}" cannot list resource "nodes" in API group "" at the cluster scope'
    )
    _, body = await raw("GET", path, token="t2", watch="true", fieldSelector="metadata.name=x")
    assert body["message"].startswith(f'leases.coordination.k8s.io "x" is forbidden: User "{ROBOT}" cannot watch ')


async def test_a_right_may_hold_in_one_namespace_alone(raw: Raw, api: RunningApi) -> None:
    api.add_user(ROBOT, "t2", {("list", "leases", "default")})
    assert (await raw("GET", "leases", token="t2"))[0] == 200
    assert (await raw("GET", "/apis/coordination.k8s.io/v1/namespaces/other/leases", token="t2"))[0] == 403
    assert (await raw("GET", "/apis/coordination.k8s.io/v1/leases", token="t2"))[0] == 403


async def test_creating_by_put_needs_the_right_to_create(raw: Raw, api: RunningApi) -> None:
    api.add_user(ROBOT, "t2", {("update", "leases")})
    status, body = await raw("PUT", "leases/vip", lease(), token="t2")
    assert status == 403
    assert "cannot create resource" in body["message"]
    assert api.lease("default", "vip") is None


async def test_access_is_reviewed(raw: Raw, api: RunningApi) -> None:
    api.add_user(ROBOT, "t2", {("get", "leases")})
    answers = {}
    for verb in ("get", "update"):
        attributes = {"namespace": "default", "verb": verb, "group": "coordination.k8s.io", "resource": "leases"}
        body = {"spec": {"resourceAttributes": attributes}}
        status, made = await raw("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, token="t2")
        assert status == 201
        answers[verb] = made["status"]["allowed"]
    assert answers == {"get": True, "update": False}


async def test_health_and_version_need_no_token(api: RunningApi, raw: Raw) -> None:
    for path in ("/healthz", "/readyz", "/livez"):
        async with raw.session.get(api.url + path) as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
    assert (await raw("GET", "/version", token=None))[1]["major"] == "1"
    assert (await raw("GET", "/apis", token=None))[0] == 401


async def test_discovery_names_what_is_served(raw: Raw) -> None:
    _, groups = await raw("GET", "/apis")
    assert {g["preferredVersion"]["groupVersion"] for g in groups["groups"]} == {
        "coordination.k8s.io/v1",
        "events.k8s.io/v1",
    }
    _, found = await raw("GET", "/api/v1")
    assert {r["name"]: r["namespaced"] for r in found["resources"]} == {"pods": True, "nodes": False, "events": True}
    assert (await raw("GET", "/apis/coordination.k8s.io"))[1]["kind"] == "APIGroup"
    assert (await raw("GET", "/apis/apps/v1"))[0] == 404


async def test_pods_and_nodes_are_kept_and_patched(client: Any, raw: Raw) -> None:
    core = CoreV1Api(client)
    pod = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}}
    made = await core.create_namespaced_pod("default", pod)
    assert made.spec.containers[0].image == "i"
    patched = await core.patch_namespaced_pod("web", "default", {"metadata": {"labels": {"vipd.io/role": "active"}}})
    assert patched.metadata.labels == {"vipd.io/role": "active"}
    listed = await core.list_pod_for_all_namespaces(field_selector="spec.nodeName=n")
    assert [found.metadata.name for found in listed.items] == ["web"]
    await raw("POST", "/api/v1/nodes", {"metadata": {"name": "n"}})
    node = await core.patch_node("n", {"metadata": {"labels": {"a": "b"}}})
    assert (node.metadata.labels, node.metadata.namespace) == ({"a": "b"}, None)
    status, body = await raw("PATCH", "/api/v1/nodes/n", {"metadata": {"uid": "x"}}, content_type=MERGE)
    assert (status, "field is immutable" in body["message"]) == (422, True)
    assert (await core.delete_namespaced_pod("web", "default")).metadata.name == "web"


async def test_an_event_shows_under_both_names(client: Any, raw: Raw) -> None:
    about = {"kind": "Lease", "namespace": "default", "name": "vip"}
    event = {
        "metadata": {"name": "vip.1"},
        "regarding": about,
        "note": "it moved",
        "reason": "TookOver",
        "action": "Move",
        "type": "Normal",
        "eventTime": "2026-03-01T12:00:00.000001Z",
        "reportingController": "vipd",
        "reportingInstance": "a",
    }
    made = await EventsV1Api(client).create_namespaced_event("default", event)
    assert made.note == "it moved"
    old = await CoreV1Api(client).read_namespaced_event("vip.1", "default")
    assert (old.message, old.involved_object.name, old.reporting_component) == ("it moved", "vip", "vipd")
    _, found = await raw("GET", "/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=vip")
    assert len(found["items"]) == 1
    _, none = await raw("GET", "/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=other")
    assert none["items"] == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"involvedObject": {"namespace": "other"}}, "does not match event.namespace"),
        ({"eventTime": "2026-03-01T12:00:00.000001Z"}, "reportingController: Required value"),
    ],
)
async def test_an_event_that_makes_no_sense_is_invalid(raw: Raw, fields: Any, complaint: str) -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}} | fields
    status, body = await raw("POST", "/api/v1/namespaces/default/events", event)
    assert status == 422
    assert complaint in body["message"]


async def test_a_new_style_event_must_not_look_old(raw: Raw) -> None:
    event = {"metadata": {"name": "e"}, "regarding": {"namespace": "default"}, "deprecatedCount": 1}
    status, body = await raw("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert status == 422
    assert {cause["field"] for cause in body["details"]["causes"]} == {"eventTime", "type", "count"}


async def test_the_client_reads_the_version(client: Any) -> None:
    assert (await VersionApi(client).get_code()).git_version.startswith("v1.")


async def test_a_socket_from_elsewhere_is_served(raw: Raw) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    server = RunningApi()
    server.add_user("u", server.token)
    await server.start(sock)
    try:
        assert server.url == f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert (await Raw(raw.session, server)("GET", "leases"))[0] == 200
    finally:
        await server.stop()


async def test_a_server_that_comes_back_is_the_same_cluster(raw: Raw, api: RunningApi) -> None:
    _, made = await raw("POST", "leases", lease(holderIdentity="a"))
    port = int(api.url.rpartition(":")[2])
    await api.stop()
    with pytest.raises(OSError, match="Connect"):
        await raw("GET", "leases/vip")
    await api.start(port=port)
    assert (await raw("GET", "leases/vip"))[1] == made


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_finds_its_way(api: RunningApi, raw: Raw, tmp_path: Path) -> None:
    await raw("POST", "leases", lease(holderIdentity="a"))
    config = api.kubeconfig(tmp_path / "config")
    api.access.anonymous = api.access.tokens[api.token]

    def kubectl(*arguments: str) -> str:
        command = ["kubectl", f"--kubeconfig={config}", f"--cache-dir={tmp_path}/cache", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "vip" in await to_thread(kubectl, "get", "lease")
    annotated = await to_thread(kubectl, "annotate", "lease", "vip", "vipd.io/x=1", "-o", "json")
    assert json.loads(annotated)["metadata"]["annotations"] == {"vipd.io/x": "1"}
    assert "deleted" in await to_thread(kubectl, "delete", "lease", "vip", "--wait=false")
    assert api.lease("default", "vip") is None
