"""Label and field selectors of lists and watches: equality, and for labels whether they are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vipd.lab.kubeapi.kinds import Kind, Object
from vipd.lab.kubeapi.status import bad_request

_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"),
    "nodes": ("spec.unschedulable",),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "reason",
        "source",
        "type",
    ),
}
"""Fields that may be selected by, besides metadata.name and metadata.namespace."""


@dataclass(frozen=True, slots=True)
class Term:
    """``key=value``, ``key!=value``, ``key`` or ``!key``."""

    key: str
    value: str | None
    wanted: bool = True

    def holds(self, found: str | None) -> bool:
        """Whether a value (None: there is none) satisfies it."""
        here = found is not None if self.value is None else found == self.value
        return here == self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """What a list or watch is narrowed to."""

    fields: tuple[Term, ...] = ()
    labels: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, kind: Kind, *, fields: str, labels: str) -> Selector:
        """Raises Refused (400) for fields that the resource cannot be selected by, and for set expressions."""
        known = ("metadata.name", "metadata.namespace", *_FIELDS.get(kind.resource, ()))
        terms = _parse(fields, "field")
        for term in terms:
            if term.key not in known or term.value is None:
                raise bad_request(f"field label not supported: {term.key}")
        return cls(terms, _parse(labels, "label"))

    def __call__(self, found: Object) -> bool:
        labels = found["metadata"].get("labels", {})
        return all(term.holds(labels.get(term.key)) for term in self.labels) and all(
            term.holds(_field(found, term.key)) for term in self.fields
        )

    @property
    def name(self) -> str:
        """The one name that can be selected, or empty."""
        return next((t.value or "" for t in self.fields if t.key == "metadata.name" and t.wanted), "")


def _field(found: Object, path: str) -> str:
    value: object = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):  # an Event's source is selected by its component
        value = value.get("component")
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _parse(text: str, what: str) -> tuple[Term, ...]:
    return tuple(_term(part.strip(), what) for part in text.split(",") if part.strip())


def _term(text: str, what: str) -> Term:
    if any(sign in text for sign in "()<> "):
        raise bad_request(f"unable to parse requirement: this API knows no set-based {what} selectors: {text}")
    splits: tuple[tuple[str, Callable[[str, str], Term]], ...] = (
        ("!=", lambda key, value: Term(key, value, wanted=False)),
        ("==", Term),
        ("=", Term),
    )
    for sign, make in splits:
        key, found, value = text.partition(sign)
        if found:
            return make(key, value)
    return Term(text[1:], None, wanted=False) if text.startswith("!") else Term(text, None)
