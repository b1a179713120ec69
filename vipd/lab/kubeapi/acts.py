"""What each verb but watch comes to: a request's body in, the answer's document out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vipd.lab.kubeapi.kinds import Kind, Object
from vipd.lab.kubeapi.patch import patch_of
from vipd.lab.kubeapi.schema import render
from vipd.lab.kubeapi.status import Refused, bad_request, no_such_method, too_large_version
from vipd.lab.kubeapi.store import Store, parse_version
from vipd.lab.kubeapi.target import Target

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Given:
    """What came with the request."""

    query: Mapping[str, str]
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What goes back."""

    code: int
    document: Object


def act(store: Store, target: Target, given: Given, *, may_create: Callable[[], None]) -> Done:
    """Carry it out, at once and as a whole.  Raises Refused."""
    kind, space, name = target.existing(), target.namespace, target.name
    dry = bool(given.query.get("dryRun"))
    if target.verb in ("get", "list"):
        return Done(200, _read(store, target, given))
    if target.verb == "create":
        return Done(201, render(kind, store.create(kind, space, body_of(given), dry_run=dry)))
    if target.verb == "update":
        body = body_of(given)
        code = 201 if store.find(kind, space, name) is None else 200
        return Done(code, render(kind, store.update(kind, space, name, body, may_create=may_create, dry_run=dry)))
    if target.verb == "patch":
        patch = patch_of(given.content_type, _json(given.body))
        return Done(200, render(kind, store.patch(kind, space, name, patch, dry_run=dry)))
    if target.verb == "delete":
        return Done(200, _delete(store, kind, target, given, dry_run=dry))
    raise no_such_method()


def _version(target: Target, given: Given) -> int:
    """As ``parse_version``; a list words its refusal in another way."""
    try:
        return parse_version(given.query.get("resourceVersion", ""))
    except Refused as refused:
        if target.verb == "get":
            raise
        raise bad_request(f"invalid resource version: {refused.message}") from None


def _read(store: Store, target: Target, given: Given) -> Object:
    kind = target.existing()
    wanted = _version(target, given)
    if wanted > store.version:
        raise too_large_version(wanted, store.version)
    if target.verb == "get":
        return render(kind, store.get(kind, target.namespace, target.name))
    selected = target.selector(given.query)
    # The items of a typed list bear neither kind nor apiVersion.
    items = [
        {key: value for key, value in render(kind, found).items() if key not in ("kind", "apiVersion")}
        for found in store.all(kind, target.namespace or None)
        if selected(found)
    ]
    return {
        "kind": f"{kind.kind}List",
        "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": str(store.version)},
        "items": items,
    }


def _delete(store: Store, kind: Kind, target: Target, given: Given, *, dry_run: bool) -> Object:
    options = body_of(given) if given.body else {}
    conditions = options.get("preconditions") or {}
    uid, version = conditions.get("uid") or "", conditions.get("resourceVersion") or ""
    gone = store.delete(kind, target.namespace, target.name, uid=uid, version=version, dry_run=dry_run)
    if kind.returns_deleted:
        return render(kind, gone)
    details = {"name": target.name, "group": kind.group, "kind": kind.resource, "uid": gone["metadata"]["uid"]}
    if not kind.group:
        del details["group"]
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def body_of(given: Given) -> dict[str, Any]:
    """The JSON object that came.  Raises Refused (400, 415)."""
    if given.content_type not in (JSON, "", "application/octet-stream"):
        message = f"the body of the request was in an unknown format - accepted media types include: {JSON}"
        raise Refused(415, "UnsupportedMediaType", message)
    found = _json(given.body)
    if not isinstance(found, dict):
        raise bad_request("couldn't get version/kind; json parse error: the body is no JSON object")
    return found


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def review(document: Mapping[str, Any], allowed: Callable[[str, str, str], bool]) -> Done:
    """A SelfSubjectAccessReview; ``allowed``: (verb, resource, namespace) -> whether the asking user may."""
    asked = (document.get("spec") or {}).get("resourceAttributes")
    if not isinstance(asked, dict):
        raise bad_request("spec.resourceAttributes: this API reviews resource attributes alone")
    verb, resource, namespace = (str(asked.get(key) or "") for key in ("verb", "resource", "namespace"))
    granted = allowed(verb, resource, namespace)
    status = {"allowed": True, "reason": "the lab's table of rights allows it"} if granted else {"allowed": False}
    return Done(201, {**document, "metadata": {"creationTimestamp": None}, "status": status})
