"""What clients ask before they ask for anything: versions, groups, resources, health."""

from __future__ import annotations

from typing import Any

from vipd.lab.kubeapi.kinds import KINDS
from vipd.lab.kubeapi.status import no_such_path

PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
"""Served without a token, as system:public-info-viewer allows."""

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0-vipd-lab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def discover(path: str) -> dict[str, Any] | str:
    """The document (or the text, for health) at this path.  Raises Refused (404)."""
    path = path.rstrip("/")
    if path == "/version":
        return VERSION
    if path.startswith(PUBLIC):
        return "ok"
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        groups = sorted({k.api_version for k in KINDS if k.group})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]}
    prefix, _, version = path.removeprefix("/").partition("/")
    if prefix in ("api", "apis") and any(
        version == k.api_version and bool(k.group) == (prefix == "apis") for k in KINDS
    ):
        return _resources(version)
    found = next((k for k in KINDS if prefix == "apis" and k.group == version and version), None)
    if found is None:
        raise no_such_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(found.api_version)}


def _group(api_version: str) -> dict[str, Any]:
    name, _, version = api_version.partition("/")
    served = {"groupVersion": api_version, "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _resources(api_version: str) -> dict[str, Any]:
    listed = [
        {
            "name": k.resource,
            "singularName": k.kind.lower(),
            "namespaced": k.namespaced,
            "kind": k.kind,
            "verbs": VERBS,
            **({"shortNames": list(k.short_names)} if k.short_names else {}),
        }
        for k in KINDS
        if k.api_version == api_version
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": listed}
