"""What an administrator does to a control plane: plain HTTPS requests with a token that may do everything."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from vipd.errors import VipdError

TIMEOUT_S = 10.0
RBAC = "rbac.authorization.k8s.io"
Rule = dict[str, Any]
"""A PolicyRule of a Role: apiGroups, resources, verbs."""


class Admin:
    """Blocking calls: for setting things up, not for what is measured."""

    def __init__(self, url: str, *, ca: Path, token: str) -> None:
        self.url = url
        self.token = token
        self._tls = ssl.create_default_context(cafile=str(ca))

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """HTTP status and body (JSON, or text where it is none).  Raises OSError where there is no answer."""
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urlopen(request, timeout=TIMEOUT_S, context=self._tls) as answer:
                return answer.status, _parsed(answer.read())
        except HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    def ensure(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object in a collection; one that is there already does.  Raises VipdError."""
        code, answer = self.call("POST", path, body)
        if code == 409:
            code, answer = self.call("GET", f"{path}/{body['metadata']['name']}")
        if code not in (200, 201):
            raise VipdError(f"kube-apiserver refuses {path}: HTTP {code}: {answer}")
        found: dict[str, Any] = answer
        return found

    def namespace(self, name: str) -> None:
        """Make sure that a namespace is there."""
        self.ensure("/api/v1/namespaces", {"metadata": {"name": name}})

    def grant(self, namespace: str, account: str, rules: Sequence[Rule], *, everywhere: Sequence[Rule] = ()) -> None:
        """A ServiceAccount with these rules in its namespace, and those of ``everywhere`` in the whole cluster."""
        self.namespace(namespace)
        self.ensure(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}})
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        self._bind(f"/namespaces/{namespace}", "Role", account, rules, subject)
        if everywhere:
            self._bind("", "ClusterRole", f"{namespace}-{account}", everywhere, subject)

    def _bind(self, scope: str, kind: str, name: str, rules: Sequence[Rule], subject: dict[str, str]) -> None:
        collection = f"/apis/{RBAC}/v1{scope}/{kind.lower()}"
        named = {"metadata": {"name": name}}
        self.ensure(f"{collection}s", {**named, "rules": list(rules)})
        role = {"apiGroup": RBAC, "kind": kind, "name": name}
        self.ensure(f"{collection}bindings", {**named, "subjects": [subject], "roleRef": role})

    def account_token(self, namespace: str, account: str, *, secret: str = "", lasts_s: int = 3600) -> str:
        """A token of a ServiceAccount (TokenRequest API; no shorter than 600 s).  Raises VipdError.

        ``secret``: one is made of this name, and the token is worth nothing once it is deleted.
        """
        spec: dict[str, Any] = {"expirationSeconds": lasts_s}
        if secret:
            made = self.ensure(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": secret}})
            uid = made["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": uid}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        code, answer = self.call("POST", path, {"spec": spec})
        if code != 201:
            raise VipdError(f"kube-apiserver gives no token for {namespace}/{account}: HTTP {code}: {answer}")
        token: str = answer["status"]["token"]
        return token


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
