"""What may come from outside in place of JSON values, Leases and annotations."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE

texts = st.text(max_size=30) | st.text(st.characters(), max_size=8)
"""The second kind has lone surrogates, which JSON may bear and UTF-8 not."""

numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**63, 10**30, 1e308, float("inf"), float("nan"), 3.0])
)

json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int) -> Any:
    """Lists in lists in an object."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return {"deep": value}


deep_values = st.sampled_from([10, 60, 70, 300]).map(nested)


def repeated(*choices: tuple[str, int]) -> st.SearchStrategy[str]:
    """One of these texts, so many times; drawn by its place, so that no example is printed in full length."""
    return st.integers(0, len(choices) - 1).map(lambda i: choices[i][0] * choices[i][1])


times = (
    st.datetimes().map(lambda t: t.isoformat() + "Z")
    | st.sampled_from(
        [
            "0000-00-00T00:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59.999999-23:59",
            "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00." + "9" * 40 + "Z",
            "2026-03-01T12:00:60.000000Z",
            "2026-03-01T12:00:00.000001+99:99",
            "2026-03-01 12:00:00",
            "٢٠٢٦-03-01T12:00:00Z",
        ]
    )
    | json_values
)

versions = (
    st.integers(0, 10**6).map(str)
    | st.sampled_from(["", "²", "٣", "-1", "1_0", "a b"])
    | repeated(("9", 5000))
    | json_values
)

names = st.sampled_from(["a", "b", "vip", "", "a ", "A", "a\ud800"]) | repeated(("x", 10_000)) | texts
transitions = st.integers(-1, 5) | numbers
durations = st.sampled_from([0, -1, 1, 3, 15, 2**31 - 1, 2**31, 2**63, 3.5, "3", True, None]) | json_values


def annotation(holder: st.SearchStrategy[Any], count: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The text of one of vipd's annotations, or nearly, or not at all."""
    said = st.fixed_dictionaries(
        {"h": holder, "n": count},
        optional={
            "inc": names,
            "eni": st.sampled_from(["", "eni-a", "eni-b", "eni-a,eni-b", "\n"]) | json_values,
            "fence": st.sampled_from(["eni", "lease", "", "both"]) | json_values,
            "prio": numbers | json_values,
            "interval": numbers | json_values,
            "moved": st.booleans() | json_values,
            "vips": st.sampled_from(["", "10.0.1.100", "10.0.1.100,::1", "fe80::1%x"]) | json_values,
            "why": names | json_values,
            "id": names | json_values,
            "to": names | json_values,
            "by": names | json_values,
        },
    )
    whole = (
        said.map(json.dumps)
        | json_values
        | json_values.map(json.dumps)
        | st.just('{"h":"a","n":1e999}')
        | repeated(("[", 20_000), ("{", 5000), ("9", 6000), ('{"h":', 3000), ("x", 1_000_000))
    )
    # Deferred, for the one reason that its representation in messages is short then.
    return st.deferred(lambda: whole)


def leases() -> st.SearchStrategy[Any]:
    """A Lease of any shape, and more often one that is nearly right."""
    notes = st.fixed_dictionaries(
        {},
        optional={
            **{key: annotation(names, transitions) for key in (TENURE, OFFER, REQUEST, SHARED)},
            "example.com/other": json_values,
        },
    )
    metadata = st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("vip") | json_values,
            "uid": st.just("u1") | json_values,
            "resourceVersion": versions,
            "annotations": notes | json_values,
            "labels": json_values,
            "managedFields": json_values | deep_values,
        },
    )
    spec = st.fixed_dictionaries(
        {},
        optional={
            "holderIdentity": names | json_values,
            "leaseDurationSeconds": durations,
            "leaseTransitions": transitions | json_values,
            "acquireTime": times,
            "renewTime": times,
            "preferredHolder": json_values | deep_values,
        },
    )
    lease = st.fixed_dictionaries(
        {}, optional={"metadata": metadata | json_values, "spec": spec | json_values, "kind": json_values}
    )
    whole = lease | json_values | deep_values
    return st.deferred(lambda: whole)
