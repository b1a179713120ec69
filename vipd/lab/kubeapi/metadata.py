"""ObjectMeta: what is read of it, and what is checked (apimachinery, api/validation/objectmeta.go).

Names, label values and annotation keys that a real API server would refuse must not pass here first.
"""

from __future__ import annotations

import random
import re
from typing import Any

from vipd.lab.kubeapi.decode import Type, Undecodable, decode_fields, decode_strings
from vipd.lab.kubeapi.status import FieldError

MAX_ANNOTATIONS_BYTES = 256 * 1024
MAX_SUBDOMAIN = 253
MAX_LABEL = 63

_STRINGS = ("name", "generateName", "namespace", "uid", "resourceVersion")
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LABEL_1123 = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL_1123}(\.{_LABEL_1123})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_WORDS = "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_NAME_MESSAGE = (
    f"name part must consist of {_WORDS} (e.g. 'MyName',  or 'my.name',  or '123-abc', "
    f"regex used for validation is '{_QUALIFIED}')"
)
_VALUE_MESSAGE = (
    f"a valid label must be an empty string or consist of {_WORDS} (e.g. 'MyValue',  or 'my_value',  or '12345', "
    f"regex used for validation is '({_QUALIFIED})?')"
)


def decode_metadata(value: object) -> dict[str, Any]:
    """The fields a client may give; empty ones are left out, managedFields are not kept.  Raises Undecodable."""
    known = {**dict.fromkeys(_STRINGS, Type.STRING), "generation": Type.INT64}
    fields = decode_fields(value, known, struct="ObjectMeta", path="metadata")
    given = value if isinstance(value, dict) else {}
    for name in ("labels", "annotations"):
        fields[name] = decode_strings(given.get(name), f"ObjectMeta.metadata.{name}")
    for name in ("ownerReferences", "finalizers"):
        listed = given.get(name) or []
        if not isinstance(listed, list):
            raise Undecodable(f"json: cannot unmarshal into Go struct field ObjectMeta.metadata.{name}")
        fields[name] = listed
    return {key: item for key, item in fields.items() if item}


def generated_name(prefix: str) -> str:
    """A name of the server's choice for ``generateName``."""
    return prefix[: MAX_LABEL - 5] + "".join(random.choices(_NAME_LETTERS, k=5))


def check_metadata(metadata: dict[str, Any]) -> list[FieldError]:
    """What is wrong with it; empty where nothing is."""
    found = [
        FieldError("metadata.name", f'Invalid value: "{metadata["name"]}": {wrong}')
        for wrong in check_subdomain(metadata["name"])
    ]
    for key, value in metadata.get("labels", {}).items():
        found += [FieldError("metadata.labels", f'Invalid value: "{key}": {w}') for w in _check_key(key)]
        found += [FieldError("metadata.labels", f'Invalid value: "{value}": {w}') for w in _check_label(value)]
    annotations = metadata.get("annotations", {})
    for key in annotations:
        wrongs = _check_key(key.lower())
        found += [FieldError("metadata.annotations", f'Invalid value: "{key}": {wrong}') for wrong in wrongs]
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > MAX_ANNOTATIONS_BYTES:
        too_long = f"Too long: may not be more than {MAX_ANNOTATIONS_BYTES} bytes"
        found.append(FieldError("metadata.annotations", too_long, "FieldValueTooLong"))
    return found


def check_subdomain(name: str) -> list[str]:
    """What keeps a string from being a DNS-1123 subdomain."""
    wrong = [] if len(name) <= MAX_SUBDOMAIN else [f"must be no more than {MAX_SUBDOMAIN} characters"]
    return wrong if re.fullmatch(_SUBDOMAIN, name) else [*wrong, _SUBDOMAIN_MESSAGE]


def _check_key(key: str) -> list[str]:
    prefix, slash, name = key.rpartition("/")
    wrong = []
    if "/" in prefix:
        return [f"a qualified name must consist of {_WORDS} with an optional DNS subdomain prefix and '/'"]
    if slash and check_subdomain(prefix):
        wrong += [f"prefix part {w}" for w in check_subdomain(prefix)] if prefix else ["prefix part must be non-empty"]
    if len(name) > MAX_LABEL:
        wrong.append(f"name part must be no more than {MAX_LABEL} characters")
    if not name:
        wrong.append("name part must be non-empty")
    return wrong if re.fullmatch(_QUALIFIED, name) else [*wrong, _NAME_MESSAGE]


def _check_label(value: str) -> list[str]:
    wrong = [] if len(value) <= MAX_LABEL else [f"must be no more than {MAX_LABEL} bytes"]
    return wrong if re.fullmatch(f"({_QUALIFIED})?", value) else [*wrong, _VALUE_MESSAGE]
