"""Members are listed page by page, and whatever their objects contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api_server import RunningApi
from client_faults import Request, serving

from vipd.core.model import CallFailed, CallFailure
from vipd.errors import KubeError
from vipd.kube.connect import connect
from vipd.kube.namespace import default_namespace
from vipd.kube.roster import MAX_PAGES, read_roster


def pod(name: str, role: str = "standby", **metadata: Any) -> dict[str, Any]:
    labels = {"vipd.io/lease": "web-vip", "vipd.io/role": role}
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": labels, **metadata}}


def pages(*found: list[Any]) -> Any:
    """Answers with one page after the other; of Nodes there are none."""

    async def answer(request: Request) -> None:
        if request.path.endswith("nodes"):
            await request.answer(200, {"items": []})
            return
        number = int(request.query.get("continue", "0"))
        more = {"continue": str(number + 1)} if number + 1 < len(found) else {}
        await request.answer(200, {"metadata": more, "items": found[number]})

    return answer


async def test_all_pages_are_read(tmp_path: Path) -> None:
    handler = pages([pod("a")], [pod("b", "active")], [pod("c", "fault")])
    async with serving(handler, tmp_path) as (server, client):
        roster = await read_roster(client, namespace="default", lease="web-vip", timeout_s=2)
    members = roster.of("default", "web-vip")
    assert members is not None
    assert [(member.name, member.ready) for member in members] == [("b", False), ("a", True), ("c", False)]
    selectors = {request.query["labelSelector"] for request in server.requests}
    assert selectors == {"vipd.io/lease=web-vip"}


async def test_a_list_without_end_is_given_up(tmp_path: Path) -> None:
    async with serving(pages(*[[pod("a")]] * (MAX_PAGES + 1)), tmp_path) as (_, client):
        roster = await read_roster(client, namespace=None, timeout_s=2)
    assert isinstance(roster.pods, CallFailed)
    assert roster.of("default", "web-vip") is None


async def test_strange_objects_are_no_members(tmp_path: Path) -> None:
    strange = [None, 7, {}, {"metadata": []}, pod("gone", status="x") | {"status": {"phase": "Failed"}}]
    leaving = pod("old", deletionTimestamp="2026-03-01T12:00:00Z")
    unlabelled = {"metadata": {"name": "x", "labels": {"vipd.io/lease": 3}}}
    async with serving(pages([*strange, leaving, unlabelled]), tmp_path) as (_, client):
        roster = await read_roster(client, namespace="default", timeout_s=2)
    assert isinstance(roster.pods, tuple)
    assert [(member.name, member.lease, member.ready) for member in roster.pods] == [
        ("old", "web-vip", False),
        ("x", "", False),
    ]


@pytest.mark.parametrize(("status", "failure"), [(403, CallFailure.FORBIDDEN), (500, CallFailure.SERVER)])
async def test_a_refusal_is_a_value(tmp_path: Path, status: int, failure: CallFailure) -> None:
    async with serving(lambda r: r.answer(status, {}), tmp_path) as (_, client):
        roster = await read_roster(client, namespace="default", timeout_s=2)
    assert isinstance(roster.nodes, CallFailed)
    assert roster.nodes.failure is failure


# ----------------------------------------------------------------------------- the default namespace


async def test_the_namespace_is_that_of_the_context(api: RunningApi, tmp_path: Path) -> None:
    config = str(api.kubeconfig(tmp_path / "kc", namespace="prod"))
    assert default_namespace(kubeconfig=config, environ={}) == "prod"
    assert default_namespace(environ={"KUBECONFIG": config}) == "prod"
    assert default_namespace(kubeconfig=config, context="lab", environ={}) == "prod"
    unnamed = str(api.kubeconfig(tmp_path / "unnamed", namespace=""))
    assert default_namespace(kubeconfig=unnamed, environ={}) == "default"
    with pytest.raises(KubeError, match="cannot be used"):
        await connect(kubeconfig=config, context="other", environ={})


def test_in_a_pod_the_namespace_is_its_own(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    assert default_namespace(environ=environ, service_account=tmp_path) == "default"
    (tmp_path / "namespace").write_text("prod\n")
    assert default_namespace(environ=environ, service_account=tmp_path) == "prod"


def test_in_a_pod_a_context_is_one_of_the_kubeconfig(api: RunningApi, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("of-the-pod\n")
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBECONFIG": str(api.kubeconfig(tmp_path / "kc", namespace="prod")),
    }
    assert default_namespace(context="lab", environ=environ, service_account=tmp_path) == "prod"


async def test_a_member_is_known_by_the_identity_that_it_tells(tmp_path: Path) -> None:
    told = pod("b", annotations={"vipd.io/identity": "blue/7"})
    async with serving(pages([pod("a"), told]), tmp_path) as (_, client):
        roster = await read_roster(client, namespace="default", lease="web-vip", timeout_s=2)
    members = roster.of("default", "web-vip")
    assert members is not None
    assert [member.identity for member in members] == ["a_uid-a", "blue/7"]
