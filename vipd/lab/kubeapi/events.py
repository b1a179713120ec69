"""Events: one set of objects under two names (core v1 and events.k8s.io/v1), and what is checked of them.

Stored as core v1.  The checks are those of kubernetes, pkg/apis/core/validation/events.go: an Event made through
events.k8s.io/v1, or one with an eventTime, has to be complete; an old-style one hardly.
"""

from __future__ import annotations

from typing import Any

from vipd.lab.kubeapi.decode import Fields, Type, decode_fields
from vipd.lab.kubeapi.kinds import EVENTS_V1, Kind, Object
from vipd.lab.kubeapi.status import FieldError

MAX_CHARS = {"reportingInstance": 128, "action": 128, "reason": 128, "message": 1024}

_RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
"""core v1 -> events.k8s.io/v1"""

_FIELDS: Fields = {
    "involvedObject": Type.OBJECT,
    "reason": Type.STRING,
    "message": Type.STRING,
    "source": {"component": Type.STRING, "host": Type.STRING},
    "firstTimestamp": Type.TIME,
    "lastTimestamp": Type.TIME,
    "count": Type.INT32,
    "type": Type.STRING,
    "eventTime": Type.MICRO_TIME,
    "series": {"count": Type.INT32, "lastObservedTime": Type.MICRO_TIME},
    "action": Type.STRING,
    "related": Type.OBJECT,
    "reportingComponent": Type.STRING,
    "reportingInstance": Type.STRING,
}
_ALWAYS_THERE: dict[str, Any] = {
    "involvedObject": {},
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
"""Fields without ``omitempty``."""


def decode_event(kind: Kind, body: Object) -> dict[str, Any]:
    """All but the metadata, as core v1 has it.  Raises Undecodable."""
    if kind is EVENTS_V1:
        body = {core: body[newer] for core, newer in _names(body) if newer in body}
    return _ALWAYS_THERE | decode_fields(body, _FIELDS, struct="Event", path="")


def render_event(kind: Kind, event: Object) -> Object:
    """The stored Event as this version of the API shows it."""
    if kind is not EVENTS_V1:
        return event
    renamed = {_RENAMED.get(name, name): value for name, value in event.items()}
    return renamed | {"apiVersion": kind.api_version}


def _names(body: Object) -> list[tuple[str, str]]:
    unchanged = [(name, name) for name in body if name not in _RENAMED and name not in _RENAMED.values()]
    return [*_RENAMED.items(), *unchanged]


def check_event(kind: Kind, event: Object) -> list[FieldError]:
    """What is wrong with a new Event; empty where nothing is."""
    namespace, involved = event["metadata"]["namespace"], event["involvedObject"].get("namespace") or ""
    found = []
    homeless = ("default", "kube-system") if event["eventTime"] else ("default",)
    strange = namespace != involved if involved and not event["eventTime"] else not involved
    if strange and (involved or namespace not in homeless):
        wrong = f'Invalid value: "{involved}": does not match event.namespace'
        found.append(FieldError("involvedObject.namespace", wrong))
    if event["eventTime"]:
        found += _check_complete(event)
    if kind is EVENTS_V1:
        found += _check_new_style(event)
    return found


def _check_complete(event: Object) -> list[FieldError]:
    found = []
    for name in ("reportingComponent", "reportingInstance", "action", "reason"):
        if not event.get(name):
            shown = "reportingController" if name == "reportingComponent" else name
            found.append(FieldError(shown, "Required value", "FieldValueRequired"))
    for name, limit in MAX_CHARS.items():
        if len(event.get(name, "").encode()) > limit:
            found.append(FieldError(name, f'Invalid value: "": can have at most {limit} characters'))
    return found


def _check_new_style(event: Object) -> list[FieldError]:
    found = []
    if not event["eventTime"]:
        found.append(FieldError("eventTime", "Required value", "FieldValueRequired"))
    if event.get("type") not in ("Normal", "Warning"):
        found.append(FieldError("type", f'Invalid value: "": has invalid value: {event.get("type", "")}'))
    for name in ("firstTimestamp", "lastTimestamp", "count", "source"):
        if event.get(name):
            found.append(FieldError(name, 'Invalid value: "": needs to be unset'))
    return found
