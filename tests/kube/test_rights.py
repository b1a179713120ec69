"""With the tokens of the examples' accounts a real kube-apiserver allows what is needed, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from control_plane_clients import LEASE, POD, connected, member, operator
from rbac import EXAMPLE, rules

from vipd.errors import VipdError
from vipd.lab.controlplane.admin import Admin
from vipd.lab.controlplane.controlplane import ControlPlane

COORDINATION = "/apis/coordination.k8s.io/v1"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
LABEL = {"metadata": {"labels": {"vipd.io/role": "active"}}}
Calls = list[tuple[str, str, object]]


def codes(caller: Admin, calls: Calls) -> list[tuple[str, str, int]]:
    return [(method, path, caller.call(method, path, body)[0]) for method, path, body in calls]


def all_with(code: int, calls: Calls) -> list[tuple[str, str, int]]:
    return [(method, path, code) for method, path, _ in calls]


async def test_the_example_is_accepted_as_it_stands(control_plane: ControlPlane) -> None:
    where = {
        "ServiceAccount": "/api/v1/namespaces/default/serviceaccounts",
        "Role": f"{ROLES}/namespaces/default/roles",
        "RoleBinding": f"{ROLES}/namespaces/default/rolebindings",
        "ClusterRole": f"{ROLES}/clusterroles",
    }
    documents = list(yaml.safe_load_all(EXAMPLE.read_text()))
    assert [document["kind"] for document in documents] == list(where)
    headers = {"Content-Type": "application/apply-patch+yaml"}
    # As kubectl apply --server-side --dry-run=server does; unknown fields are errors.
    query = {"fieldManager": "test", "fieldValidation": "Strict", "dryRun": "All", "force": "true"}
    async with connected(control_plane) as session:
        for document in documents:
            url = f"{control_plane.url}{where[document['kind']]}/{document['metadata']['name']}"
            async with session.patch(url, data=yaml.safe_dump(document), params=query, headers=headers) as answer:
                assert answer.status in (200, 201), await answer.text()


def test_a_member_may_do_what_the_election_needs(control_plane: ControlPlane, place: str) -> None:
    vipd = member(control_plane, place)
    control_plane.admin.ensure(f"/api/v1/namespaces/{place}/pods", POD)
    leases = f"{COORDINATION}/namespaces/{place}/leases"
    code, made = vipd.call("POST", leases, LEASE)
    assert code == 201
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": place, "name": "a"}}
    calls: Calls = [
        ("GET", f"{leases}/vip", None),
        ("PUT", f"{leases}/vip", made | {"spec": {"holderIdentity": "b"}}),
        ("PATCH", f"{leases}/vip", {"spec": {"holderIdentity": "c"}}),
        ("GET", f"{leases}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name=vip", None),
        ("PATCH", f"/api/v1/namespaces/{place}/pods/a", LABEL),
    ]
    assert codes(vipd, calls) == all_with(200, calls)
    assert vipd.call("POST", f"/api/v1/namespaces/{place}/events", event)[0] == 201
    assert vipd.call("GET", f"{leases}/vip")[1]["spec"] == {"holderIdentity": "c"}


def test_a_member_may_do_nothing_else(control_plane: ControlPlane, place: str) -> None:
    vipd = member(control_plane, place)
    leases, core = f"{COORDINATION}/namespaces/{place}/leases", f"/api/v1/namespaces/{place}"
    control_plane.admin.ensure(leases, LEASE)
    control_plane.admin.ensure(f"{core}/pods", POD)
    calls: Calls = [
        ("DELETE", f"{leases}/vip", None),
        ("DELETE", leases, None),
        ("GET", leases, None),
        ("GET", f"{COORDINATION}/leases?watch=true&timeoutSeconds=1", None),
        ("GET", f"{COORDINATION}/namespaces/default/leases/vip", None),
        ("POST", f"{COORDINATION}/namespaces/default/leases", LEASE),
        ("GET", f"{core}/pods/a", None),
        ("GET", f"{core}/pods", None),
        ("POST", f"{core}/pods", {**POD, "metadata": {"name": "b"}}),
        ("DELETE", f"{core}/pods/a", None),
        ("PATCH", f"{core}/pods/a/status", {"status": {"phase": "Running"}}),
        ("GET", f"{core}/events", None),
        ("GET", f"{core}/secrets", None),
        ("POST", f"{core}/serviceaccounts/vipd/token", {"spec": {}}),
        ("GET", "/api/v1/nodes", None),
        ("PATCH", f"{ROLES}/namespaces/{place}/roles/vipd", {"rules": []}),
    ]
    assert codes(vipd, calls) == all_with(403, calls)


def test_an_operator_may_look_and_hand_over_and_nothing_else(control_plane: ControlPlane, place: str) -> None:
    hand = operator(control_plane, place)
    lease, core = f"{COORDINATION}/namespaces/{place}/leases/vip", f"/api/v1/namespaces/{place}"
    made = control_plane.admin.ensure(f"{COORDINATION}/namespaces/{place}/leases", LEASE)
    control_plane.admin.ensure(f"{core}/pods", POD)
    allowed: Calls = [
        ("GET", lease, None),
        ("GET", f"{COORDINATION}/leases", None),
        ("GET", f"{COORDINATION}/leases?watch=true&timeoutSeconds=1", None),
        ("PATCH", lease, {"metadata": {"annotations": {"a": "b"}}}),
        ("GET", f"{core}/pods", None),
        ("GET", "/api/v1/pods", None),
        ("GET", "/api/v1/nodes", None),
    ]
    refused: Calls = [
        ("PUT", lease, made),
        ("DELETE", lease, None),
        ("POST", f"{COORDINATION}/namespaces/{place}/leases", {"metadata": {"name": "other"}}),
        ("PATCH", f"{core}/pods/a", LABEL),
        ("GET", f"{core}/pods/a", None),
        ("GET", f"{core}/secrets", None),
    ]
    assert codes(hand, allowed) == all_with(200, allowed)
    assert codes(hand, refused) == all_with(403, refused)


def test_without_a_token_or_with_a_strangers_nothing_is_told(control_plane: ControlPlane, place: str) -> None:
    path = f"{COORDINATION}/namespaces/{place}/leases/vip"
    stranger = Admin(control_plane.url, ca=control_plane.ca, token="nobodys")
    code, answer = stranger.call("GET", path)
    assert (code, answer["reason"]) == (401, "Unauthorized")


def test_a_token_lasts_as_long_as_was_asked_for(control_plane: ControlPlane, place: str) -> None:
    control_plane.admin.grant(place, "vipd", rules("Role"))
    claims = _claims(control_plane.admin.account_token(place, "vipd", lasts_s=600))
    assert claims["exp"] - claims["iat"] == 600
    assert claims["sub"] == f"system:serviceaccount:{place}:vipd"
    with pytest.raises(VipdError, match="may not specify a duration less than 10 minutes"):
        control_plane.admin.account_token(place, "vipd", lasts_s=599)


def _claims(token: str) -> Any:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
