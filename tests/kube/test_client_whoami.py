"""Which Node's credentials we have, if any."""

from __future__ import annotations

from pathlib import Path

import pytest
from client_faults import serving

from vipd.kube.whoami import own_node


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (
            201,
            {"status": {"userInfo": {"username": "system:node:ip-10-0-1-11.ec2.internal"}}},
            "ip-10-0-1-11.ec2.internal",
        ),
        (201, {"status": {"userInfo": {"username": "system:serviceaccount:vipd:vipd"}}}, ""),
        (201, {"status": {"userInfo": {"username": 7}}}, ""),
        (201, {"status": []}, ""),
        (404, {"kind": "Status", "reason": "NotFound"}, ""),
        (500, b"no JSON", ""),
    ],
)
async def test_the_api_tells(tmp_path: Path, status: int, body: object, name: str) -> None:
    async with serving(lambda request: request.answer(status, body), tmp_path) as (server, client):
        assert await own_node(client) == name
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")
    assert request.body["kind"] == "SelfSubjectReview"
