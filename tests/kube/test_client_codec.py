"""A Lease of any shape can be read, and what is written is what client-go and the API server expect."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.core.annotations import TENURE
from vipd.core.model import Fence, LeaseDraft, LeaseView, Tenure
from vipd.kube.codec import (
    create_body,
    format_micro_time,
    lease_view,
    parse_tenure,
    parse_time,
    render_tenure,
    replace_body,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 0, tzinfo=UTC)

# What client-go writes: LeaderElectionRecordToLeaseSpec of a leader "a" (15 s), and of its release.
CLIENT_GO_HELD = json.loads(
    """{"kind":"Lease","apiVersion":"coordination.k8s.io/v1",
    "metadata":{"name":"vip","namespace":"default","uid":"0a1b","resourceVersion":"41"},
    "spec":{"holderIdentity":"a","leaseDurationSeconds":15,"acquireTime":"2026-03-01T11:59:00.123456Z",
    "renewTime":"2026-03-01T12:00:00.000000Z","leaseTransitions":3}}"""
)
CLIENT_GO_RELEASED = {
    "holderIdentity": "",
    "leaseDurationSeconds": 1,
    "acquireTime": "2026-03-01T12:00:00.000000Z",
    "renewTime": "2026-03-01T12:00:00.000000Z",
    "leaseTransitions": 3,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("2026-03-01T12:00:00.000000Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
hostile_leases = json_values | st.fixed_dictionaries(
    {},
    optional={
        "metadata": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "uid": json_values,
                "resourceVersion": json_values,
                "annotations": json_values | st.fixed_dictionaries({TENURE: json_values | json_values.map(json.dumps)}),
            },
        ),
        "spec": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "holderIdentity": json_values,
                "leaseDurationSeconds": json_values,
                "leaseTransitions": json_values,
                "acquireTime": json_values,
                "renewTime": json_values,
            },
        ),
    },
)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)
tenures = st.builds(
    Tenure,
    holder=names,
    transitions=st.integers(0, 2**31 - 1),
    incarnation=names,
    eni=st.lists(st.from_regex(r"eni-[0-9a-f]{17}", fullmatch=True), max_size=3).map(lambda e: ",".join(sorted(e))),
    fence=st.sampled_from(Fence),
    priority=st.integers(-1000, 1000),
    interval_s=st.floats(0.001, 86_400),
    moved=st.booleans(),
    vips=st.lists(st.ip_addresses().map(str), max_size=3).map(tuple),
    why=st.sampled_from(["", "lease-expired", "offered"]),
)


@given(hostile_leases)
def test_any_json_is_read_and_can_be_the_base_of_a_write(raw: Any) -> None:
    before = copy.deepcopy(raw)
    view = lease_view(raw)
    assert isinstance(view.holder, str)
    assert 0 <= view.duration_s < 2**31
    assert 0 <= view.transitions < 2**31
    view.holder.encode(), view.uid.encode()
    draft = LeaseDraft(holder="b", duration_s=3, transitions=4, acquire_time=view.acquire_time, annotations={"k": "v"})
    body = replace_body(view, namespace="default", name="vip", draft=draft, renew_time=NOW)
    assert body["metadata"]["annotations"]["k"] == "v"
    assert lease_view(body).holder == "b"
    assert repr(raw) == repr(before)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("leaseDurationSeconds", -5, ("duration_s", 0)),
        ("leaseDurationSeconds", "15", ("duration_s", 0)),
        ("leaseDurationSeconds", 10**30, ("duration_s", 0)),
        ("leaseDurationSeconds", True, ("duration_s", 0)),
        ("leaseTransitions", -1, ("transitions", 0)),
        ("leaseTransitions", None, ("transitions", 0)),
        ("holderIdentity", None, ("holder", "")),
        ("holderIdentity", ["a"], ("holder", "")),
        ("renewTime", "yesterday", ("renew_time", None)),
        ("renewTime", "9999-12-31T23:59:59-23:00", ("renew_time", None)),
        ("renewTime", "2026-02-30T00:00:00Z", ("renew_time", None)),
        ("renewTime", 1772366400, ("renew_time", None)),
    ],
)
def test_a_field_in_wrong_hands_becomes_neutral(field: str, value: object, read: tuple[str, object]) -> None:
    raw = copy.deepcopy(CLIENT_GO_HELD)
    raw["spec"][field] = value
    assert getattr(lease_view(raw), read[0]) == read[1]


def test_a_lease_of_client_go_is_read() -> None:
    assert lease_view(CLIENT_GO_HELD) == LeaseView(
        uid="0a1b",
        resource_version="41",
        holder="a",
        duration_s=15,
        transitions=3,
        acquire_time=datetime(2026, 3, 1, 11, 59, 0, 123456, tzinfo=UTC),
        renew_time=NOW,
        tenure=None,
    )


def test_a_release_is_what_client_go_writes() -> None:
    draft = LeaseDraft(holder="", duration_s=1, transitions=3, acquire_time=None)
    body = replace_body(lease_view(CLIENT_GO_HELD), namespace="default", name="vip", draft=draft, renew_time=NOW)
    assert body["spec"] == CLIENT_GO_RELEASED


def test_a_renewal_keeps_acquire_time_to_the_microsecond() -> None:
    view = lease_view(CLIENT_GO_HELD)
    draft = LeaseDraft(holder="a", duration_s=15, transitions=3, acquire_time=view.acquire_time)
    body = replace_body(view, namespace="default", name="vip", draft=draft, renew_time=NOW)
    assert body["spec"] == CLIENT_GO_HELD["spec"]


def test_a_new_lease_has_the_five_fields_of_client_go_and_no_more() -> None:
    draft = LeaseDraft(holder="a", duration_s=3, transitions=0, acquire_time=None, annotations={"x": "1", "gone": None})
    body = create_body(namespace="default", name="vip", draft=draft, renew_time=NOW)
    assert body["metadata"] == {"name": "vip", "namespace": "default", "annotations": {"x": "1"}}
    assert set(body["spec"]) == set(CLIENT_GO_RELEASED)


def test_a_replace_loses_nothing_foreign_and_bears_version_and_uid() -> None:
    raw = copy.deepcopy(CLIENT_GO_HELD)
    foreign = {
        "labels": {"team": "net"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
        "finalizers": ["example.com/keep"],
    }
    raw["metadata"].update(copy.deepcopy(foreign), annotations={"note": "mine", "vipd.io/offer": "{}"})
    raw["spec"].update(strategy="OldestEmulationVersion", preferredHolder="c")
    draft = LeaseDraft(
        holder="b", duration_s=3, transitions=4, acquire_time=None, annotations={"vipd.io/offer": None, TENURE: "t"}
    )
    body = replace_body(lease_view(raw), namespace="default", name="vip", draft=draft, renew_time=NOW)
    assert {key: body["metadata"][key] for key in foreign} == foreign
    assert body["metadata"]["annotations"] == {"note": "mine", TENURE: "t"}
    assert (body["metadata"]["uid"], body["metadata"]["resourceVersion"]) == ("0a1b", "41")
    assert (body["spec"]["strategy"], body["spec"]["preferredHolder"]) == ("OldestEmulationVersion", "c")


# Within the years that every zone can turn into UTC.
@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.timezones()))
def test_a_micro_time_has_six_digits_and_z_and_comes_back(moment: datetime) -> None:
    text = format_micro_time(moment)
    assert len(text) == len("2006-01-02T15:04:05.000000Z")
    assert text.endswith("Z")
    assert parse_time(text) == moment.astimezone(UTC)


def test_times_of_other_writers_are_read() -> None:
    assert parse_time("2026-03-01T12:00:00Z") == NOW
    assert parse_time("2026-03-01T14:00:00+02:00") == NOW
    assert parse_time("2026-03-01T12:00:00.123456789Z") == NOW + timedelta(microseconds=123456)
    assert parse_time("2026-03-01T12:00:00.5Z") == NOW + timedelta(microseconds=500_000)
    assert format_micro_time(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-03-01T12:00:00.000000Z"


@given(tenures)
def test_a_tenure_comes_back_as_it_was_written(tenure: Tenure) -> None:
    assert parse_tenure(render_tenure(tenure), tenure.holder, tenure.transitions) == tenure


@given(tenures)
def test_a_tenure_of_another_holder_or_count_is_void(tenure: Tenure) -> None:
    text = render_tenure(tenure)
    assert parse_tenure(text, tenure.holder + "x", tenure.transitions) is None
    assert parse_tenure(text, tenure.holder, tenure.transitions + 1) is None


@pytest.mark.parametrize(
    "change",
    [
        {"h": 1},
        {"n": "3"},
        {"n": 3.0},
        {"inc": ""},
        {"inc": None},
        {"eni": None},
        {"eni": "eni-1; rm"},
        {"fence": "wall"},
        {"fence": ["eni"]},
        {"prio": 1.5},
        {"prio": 10**40},
        {"interval": 0},
        {"interval": -1},
        {"interval": "1"},
        {"interval": True},
        {"interval": float("nan")},
        {"interval": float("inf")},
        {"interval": 10**400},
        {"moved": "yes"},
        {"moved": 1},
    ],
    ids=str,
)
def test_a_tenure_with_one_wrong_field_is_void(change: dict[str, object]) -> None:
    good = {"h": "a", "n": 3, "inc": "u", "eni": "", "fence": "eni", "prio": 1, "interval": 1, "moved": True}
    assert parse_tenure(json.dumps(good), "a", 3) is not None
    assert parse_tenure(json.dumps({**good, **change}), "a", 3) is None


@pytest.mark.parametrize("wrong", [None, 7, "x", "10.0.1.100,", "fe80::1%e", "10.0.1.100\n", ["10.0.1.100"]], ids=repr)
def test_what_a_tenure_tells_people_may_be_anything_without_voiding_it(wrong: object) -> None:
    good = {"h": "a", "n": 3, "inc": "u", "eni": "", "fence": "eni", "prio": 1, "interval": 1, "moved": True}
    old, tenure = parse_tenure(json.dumps(good), "a", 3), Tenure("a", 3, "u", fence=Fence.ENI, priority=1, moved=True)
    assert old == tenure
    assert parse_tenure(json.dumps({**good, "vips": wrong, "why": "\x00"}), "a", 3) == tenure


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 4000, "x" * 1_000_000, "9" * 4090, b"{}", None], ids=repr
)
def test_a_tenure_that_is_no_object_is_void(text: object) -> None:
    assert parse_tenure(text, "a", 3) is None
