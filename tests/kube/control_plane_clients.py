"""Who calls the real kube-apiserver in the tests of itself, and with what."""

from __future__ import annotations

import ssl

import aiohttp
from rbac import rules

from vipd.lab.controlplane.admin import Admin
from vipd.lab.controlplane.controlplane import ControlPlane

LEASE = {"metadata": {"name": "vip"}, "spec": {"holderIdentity": "a"}}
POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def member(plane: ControlPlane, place: str) -> Admin:
    """Calls with the token of a ServiceAccount that has the rights of the example's Role."""
    plane.admin.grant(place, "vipd", rules("Role"))
    return Admin(plane.url, ca=plane.ca, token=plane.admin.account_token(place, "vipd"))


def operator(plane: ControlPlane, place: str) -> Admin:
    """The same with those of the example's ClusterRole, and no others."""
    plane.admin.grant(place, "operator", [], everywhere=rules("ClusterRole"))
    return Admin(plane.url, ca=plane.ca, token=plane.admin.account_token(place, "operator"))


def connected(plane: ControlPlane) -> aiohttp.ClientSession:
    """An administrator's session of plain requests."""
    tls = ssl.create_default_context(cafile=str(plane.ca))
    headers = {"Authorization": f"Bearer {plane.admin.token}"}
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), headers=headers)
