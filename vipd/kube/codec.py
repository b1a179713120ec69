"""A Lease as JSON, and the values the core speaks in.

Reading: anything that a Lease may have become in other hands (wrong types, absurd numbers, times nobody can
parse, huge annotations) gives a LeaseView with neutral values, never an exception.  Writing: the fields that
client-go's leader election writes, in the form the API server insists on, and nothing foreign is lost.
"""

from __future__ import annotations

import copy
import ipaddress
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE, render_tenure
from vipd.core.model import Fence, LeaseDraft, LeaseView, Offer, Request, Tenure

__all__ = [
    "API_VERSION",
    "create_body",
    "format_micro_time",
    "lease_view",
    "parse_offer",
    "parse_request",
    "parse_shared",
    "parse_tenure",
    "parse_time",
    "render_tenure",
    "replace_body",
]

API_VERSION = "coordination.k8s.io/v1"

INT32_MAX = 2**31 - 1
"""``leaseDurationSeconds`` and ``leaseTransitions`` are int32 on the wire (coordination/v1 types.go)."""

MAX_ANNOTATION_CHARS = 16384
"""A tenure takes about 250 characters, and 40 more for each further VIP; far longer text is not ours."""

_TIME = re.compile(
    r"(?P<second>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,30}))?(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_ENI_LIST = re.compile(r"[A-Za-z0-9,-]{0,1024}")
_MAX_INCARNATION_CHARS = 256
_MAX_NAME_CHARS = 512
_MAX_INTERVAL_S = 86_400.0
_VERSION = re.compile(r"[!-~]{1,128}")
_MAX_DEPTH = 64
"""A Lease nests six levels (managedFields); writing back what is far deeper would exceed Python's recursion limit."""


def format_micro_time(moment: datetime) -> str:
    """A MicroTime as the API server demands it: always six digits, always ``Z``.

    ``isoformat()`` drops a fraction of zero, and kube-apiserver answers that with 400 (its parser knows only the
    layout ``2006-01-02T15:04:05.000000Z07:00``, apimachinery micro_time.go).  A naive time is taken for UTC.
    """
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 time in UTC, digits beyond the microsecond cut off; None where it is none."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    fraction = (match["fraction"] or "")[:6].ljust(6, "0")
    zone = "+00:00" if match["zone"] in "Zz" else match["zone"]
    try:
        return datetime.fromisoformat(f"{match['second'].upper()}.{fraction}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def lease_view(raw: object) -> LeaseView:
    """One reading of a Lease.  Never raises; ``uid`` or ``resource_version`` is empty where ``raw`` is no object."""
    body: Mapping[str, Any] = raw if isinstance(raw, dict) and not _too_deep(raw) else {}
    metadata, spec = _mapping(body.get("metadata")), _mapping(body.get("spec"))
    holder = _text(spec.get("holderIdentity"))
    transitions = _int32(spec.get("leaseTransitions"), least=0)
    annotations = _mapping(metadata.get("annotations"))
    former = None if holder else parse_former(annotations.get(TENURE), transitions)
    last = former.holder if former else holder
    return LeaseView(
        uid=_text(metadata.get("uid")),
        resource_version=_version(metadata.get("resourceVersion")),
        holder=holder,
        duration_s=_int32(spec.get("leaseDurationSeconds"), least=1),
        transitions=transitions,
        acquire_time=parse_time(spec.get("acquireTime")),
        renew_time=parse_time(spec.get("renewTime")),
        tenure=parse_tenure(annotations.get(TENURE), holder, transitions),
        offer=parse_offer(annotations.get(OFFER), holder, transitions),
        request=parse_request(annotations.get(REQUEST), holder, transitions),
        shared_eni=parse_shared(annotations.get(SHARED), last, transitions),
        raw=body,
        former=former,
    )


def parse_former(text: object, transitions: int) -> Tenure | None:
    """The tenure that a Lease without a holder still bears: that of who released it, with these transitions."""
    said = _object(text)
    return parse_tenure(text, _text(said.get("h")), transitions) if said is not None else None


def parse_tenure(text: object, holder: str, transitions: int) -> Tenure | None:
    """The annotation ``vipd.io/tenure``, where it is well formed and speaks of this holder and these transitions."""
    said = _said(text, holder, transitions)
    if said is None:
        return None
    incarnation, eni, interval = _text(said.get("inc")), said.get("eni"), said.get("interval")
    if not 0 < len(incarnation) <= _MAX_INCARNATION_CHARS:
        return None
    if not isinstance(eni, str) or not _ENI_LIST.fullmatch(eni):
        return None
    if said.get("fence") not in tuple(Fence) or not isinstance(said.get("moved"), bool):
        return None
    if not _is_int(said.get("prio")) or abs(said["prio"]) > INT32_MAX:
        return None
    if not isinstance(interval, int | float) or isinstance(interval, bool):
        return None
    # The range is compared before the conversion: an integer of a thousand digits is no float.
    if not 0 < interval <= _MAX_INTERVAL_S or not math.isfinite(interval):
        return None
    return Tenure(
        holder=holder,
        transitions=transitions,
        incarnation=incarnation,
        eni=eni,
        fence=Fence(said["fence"]),
        priority=said["prio"],
        interval_s=float(interval),
        moved=said["moved"],
        vips=_addresses(said.get("vips")),
        why=said["why"] if _is_name(said.get("why")) else "",
    )


def parse_offer(text: object, holder: str, transitions: int) -> Offer | None:
    """The annotation ``vipd.io/offer``, where it is well formed and speaks of this tenure."""
    said = _said(text, holder, transitions)
    if said is None or not _is_name(said.get("id")) or not said["id"]:
        return None
    if not _is_name(said.get("to")) or not _is_name(said.get("why")):
        return None
    return Offer(holder, transitions, id=said["id"], to=said["to"], why=said["why"])


def parse_request(text: object, holder: str, transitions: int) -> Request | None:
    """The annotation ``vipd.io/request``, where it is well formed and speaks of this tenure."""
    said = _said(text, holder, transitions)
    if said is None or not _is_name(said.get("id")) or not said["id"]:
        return None
    if not _is_name(said.get("by")) or not _is_name(said.get("to")):
        return None
    if not _is_int(said.get("prio")) or abs(said["prio"]) > INT32_MAX:
        return None
    return Request(holder, transitions, id=said["id"], by=said["by"], to=said["to"], priority=said["prio"])


def parse_shared(text: object, holder: str, transitions: int) -> str:
    """The ENI that the annotation ``vipd.io/shared`` names, where it speaks of this tenure; else empty."""
    said = _said(text, holder, transitions)
    eni = said.get("eni") if said else None
    return eni if isinstance(eni, str) and _ENI_LIST.fullmatch(eni) else ""


def _said(text: object, holder: str, transitions: int) -> Mapping[str, Any] | None:
    """The annotation as an object, where it speaks of this holder and these transitions."""
    said = _object(text)
    if said is None or not holder or said.get("h") != holder:
        return None
    return said if _is_int(said.get("n")) and said["n"] == transitions else None


def _object(text: object) -> Mapping[str, Any] | None:
    if not isinstance(text, str) or len(text) > MAX_ANNOTATION_CHARS:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _addresses(value: object) -> tuple[str, ...]:
    """IP addresses joined by commas; none where one of them is no address, since nobody decides by them."""
    if not isinstance(value, str) or not value or "%" in value:
        return ()
    texts = tuple(value.split(","))
    try:
        for text in texts:
            ipaddress.ip_address(text)
    except ValueError:
        return ()
    return texts


def _is_name(value: object) -> bool:
    """A name as annotations bear it: text that can be logged, not longer than an identity may be."""
    return isinstance(value, str) and len(value) <= _MAX_NAME_CHARS and value.isprintable()


def create_body(*, namespace: str, name: str, draft: LeaseDraft, renew_time: datetime) -> dict[str, Any]:
    """The object to POST."""
    body: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": _spec(draft, renew_time),
    }
    annotations = {key: text for key, text in draft.annotations.items() if text is not None}
    if annotations:
        body["metadata"]["annotations"] = annotations
    return body


def replace_body(
    base: LeaseView, *, namespace: str, name: str, draft: LeaseDraft, renew_time: datetime
) -> dict[str, Any]:
    """The object to PUT over ``base``: labels, owners, finalizers, other annotations and unknown spec fields stay.

    It bears base's resourceVersion (compare-and-swap) and uid: without the uid, a PUT to a Lease that was deleted
    in between would create it anew, because Leases allow creation by update (registry/coordination/lease strategy).
    """
    metadata = copy.deepcopy(dict(_mapping(base.raw.get("metadata"))))
    spec = copy.deepcopy(dict(_mapping(base.raw.get("spec"))))
    annotations = dict(_mapping(metadata.get("annotations")))
    for key, text in draft.annotations.items():
        if text is None:
            annotations.pop(key, None)
        else:
            annotations[key] = text
    metadata["annotations"] = annotations
    metadata.update(name=name, namespace=namespace, uid=base.uid, resourceVersion=base.resource_version)
    spec.update(_spec(draft, renew_time))
    return {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}


def _spec(draft: LeaseDraft, renew_time: datetime) -> dict[str, Any]:
    """The five fields that client-go writes (LeaderElectionRecordToLeaseSpec), also when it releases:

    then the holder is "", the duration 1, both times are now and the transitions stay (leaderelection.go, release).
    """
    return {
        "holderIdentity": draft.holder,
        "leaseDurationSeconds": draft.duration_s,
        "acquireTime": format_micro_time(draft.acquire_time or renew_time),
        "renewTime": format_micro_time(renew_time),
        "leaseTransitions": draft.transitions,
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """A string that can be logged and compared: JSON may bear lone surrogates, which no UTF-8 stream takes."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode("utf-8")


def _version(value: object) -> str:
    """A resourceVersion; empty where it is none that an API server gives.

    Versions are compared as integers, and Python takes neither "²", which is a digit, nor 4301 of them for one.
    """
    return value if isinstance(value, str) and _VERSION.fullmatch(value) else ""


def _too_deep(raw: Mapping[str, Any]) -> bool:
    """Whether it nests deeper than any Lease; walked level by level, since recursion is what it is to spare."""
    level: list[Any] = [raw]
    for _ in range(_MAX_DEPTH):
        inner = [each for value in level for each in (value.values() if isinstance(value, dict) else value)]
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _int32(value: object, *, least: int) -> int:
    """The number, or 0 where it is no int32 or less than ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if least <= value <= INT32_MAX else 0
