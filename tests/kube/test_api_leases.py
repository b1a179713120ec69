"""Leases in the lab's Kubernetes API: written and refused as by a real one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_server import Raw, RunningApi, lease
from kubernetes.aio.client import ApiException, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
MERGE = "application/merge-patch+json"


@pytest.fixture
def leases(client: Any) -> CoordinationV1Api:
    return CoordinationV1Api(client)


def typed(holder: str, **spec: Any) -> V1Lease:
    return V1Lease(metadata=V1ObjectMeta(name="vip"), spec=V1LeaseSpec(holder_identity=holder, **spec))


async def test_a_lease_is_created_read_replaced_listed_and_deleted(leases: Any) -> None:
    created = await leases.create_namespaced_lease("default", typed("a", lease_duration_seconds=3))
    assert created.metadata.uid
    assert created.metadata.creation_timestamp.tzinfo is not None
    assert created.metadata.generation is None
    created.spec.holder_identity = "b"
    replaced = await leases.replace_namespaced_lease("vip", "default", created)
    assert int(replaced.metadata.resource_version) > int(created.metadata.resource_version)
    assert (replaced.metadata.uid, replaced.metadata.creation_timestamp) == (
        created.metadata.uid,
        created.metadata.creation_timestamp,
    )
    assert (await leases.read_namespaced_lease("vip", "default")).spec.holder_identity == "b"
    listed = await leases.list_lease_for_all_namespaces()
    # A real control plane has Leases of its own.
    assert [found.metadata.name for found in listed.items if found.metadata.namespace == "default"] == ["vip"]
    assert int(listed.metadata.resource_version) >= int(replaced.metadata.resource_version)
    gone = await leases.delete_namespaced_lease("vip", "default")
    assert (gone["status"], gone["details"]["uid"]) == ("Success", created.metadata.uid)
    with pytest.raises(ApiException) as refused:
        await leases.read_namespaced_lease("vip", "default")
    assert refused.value.status == 404
    assert 'leases.coordination.k8s.io \\"vip\\" not found' in refused.value.body


async def test_a_second_creation_is_refused(raw: Raw) -> None:
    await raw("POST", "leases", lease())
    status, body = await raw("POST", "leases", lease())
    assert (status, body["reason"]) == (409, "AlreadyExists")
    assert body["message"] == 'leases.coordination.k8s.io "vip" already exists'
    assert body["details"] == {"name": "vip", "group": "coordination.k8s.io", "kind": "leases"}


async def test_a_stale_put_is_a_conflict_in_the_real_words(raw: Raw) -> None:
    _, first = await raw("POST", "leases", lease(holderIdentity="a"))
    version = first["metadata"]["resourceVersion"]
    assert (await raw("PUT", "leases/vip", lease(version=version, holderIdentity="b")))[0] == 200
    status, body = await raw("PUT", "leases/vip", lease(version=version, holderIdentity="c"))
    assert (status, body["code"], body["reason"], body["kind"]) == (409, 409, "Conflict", "Status")
    assert body["message"] == f'Operation cannot be fulfilled on leases.coordination.k8s.io "vip": {MODIFIED}'
    assert (await raw("GET", "leases/vip"))[1]["spec"] == {"holderIdentity": "b"}


async def test_a_put_for_another_uid_is_a_conflict(raw: Raw) -> None:
    _, first = await raw("POST", "leases", lease())
    version = first["metadata"]["resourceVersion"]
    status, body = await raw("PUT", "leases/vip", lease(version=version, uid="other", holderIdentity="b"))
    assert (status, body["reason"]) == (409, "Conflict")
    assert "Precondition failed: UID in precondition: other, UID in object meta: " in body["message"]


async def test_a_put_of_a_present_lease_needs_a_version(raw: Raw) -> None:
    await raw("POST", "leases", lease())
    status, body = await raw("PUT", "leases/vip", lease(holderIdentity="b"))
    assert (status, body["reason"]) == (422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in body["message"]


@pytest.mark.parametrize("version", ["", "17"])
async def test_a_put_creates_a_missing_lease_even_at_a_version(raw: Raw, version: str) -> None:
    """The trap of AllowCreateOnUpdate: a version alone does not keep a deleted Lease from rising again."""
    status, body = await raw("PUT", "leases/vip", lease(version=version, holderIdentity="a"))
    assert status == 201
    assert body["metadata"]["resourceVersion"] not in ("", version)


async def test_a_uid_keeps_a_put_from_creating(raw: Raw, api: RunningApi) -> None:
    status, body = await raw("PUT", "leases/vip", lease(version="17", uid="gone", holderIdentity="a"))
    assert (status, body["reason"]) == (409, "Conflict")
    assert "UID in precondition: gone, UID in object meta: " in body["message"]
    assert api.lease("default", "vip") is None


async def test_a_put_that_changes_nothing_gets_no_new_version(raw: Raw) -> None:
    _, first = await raw("POST", "leases", lease(holderIdentity="a"))
    status, again = await raw("PUT", "leases/vip", first)
    assert (status, again) == (200, first)


async def test_one_counter_gives_all_versions(raw: Raw) -> None:
    versions = []
    for name in ("a", "b"):
        _, made = await raw("POST", "leases", lease(name))
        versions.append(int(made["metadata"]["resourceVersion"]))
    await raw("DELETE", "leases/a")
    _, listed = await raw("GET", "leases")
    versions.append(int(listed["metadata"]["resourceVersion"]))
    assert versions == [versions[0], versions[0] + 1, versions[0] + 2]


async def test_a_creation_at_a_version_is_refused(raw: Raw) -> None:
    status, body = await raw("POST", "leases", lease(version="5"))
    assert (status, body["message"]) == (500, "resourceVersion should not be set on objects to be created")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2026-03-01T12:00:00.000000Z", "2026-03-01T12:00:00.000000Z"),
        ("2026-03-01T12:00:00.000005Z", "2026-03-01T12:00:00.000005Z"),
        ("2026-03-01T12:00:00.123456+02:00", "2026-03-01T10:00:00.123456Z"),
        ("2026-03-01T12:00:00.123456-00:30", "2026-03-01T12:30:00.123456Z"),
    ],
)
async def test_a_micro_time_is_shown_in_utc_with_six_digits(raw: Raw, given: str, shown: str) -> None:
    _, made = await raw("POST", "leases", lease(renewTime=given, acquireTime=given))
    assert made["spec"] == {"renewTime": shown, "acquireTime": shown}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("2026-03-01T12:00:00Z", 'cannot parse "Z" as ".000000"'),
        ("2026-03-01T12:00:00+00:00", 'cannot parse "+00:00" as ".000000"'),
        ("2026-03-01T12:00:00.123Z", 'cannot parse ".123Z" as ".000000"'),
        ("2026-03-01T12:00:00.123456789Z", 'cannot parse "789Z" as "Z07:00"'),
        ("2026-03-01T12:00:00.123456", 'cannot parse "" as "Z07:00"'),
        ("2026-03-01 12:00:00.123456Z", 'cannot parse " 12:00:00.123456Z" as "T"'),
        ("2026-13-01T12:00:00.123456Z", "month out of range"),
        ("2026-02-30T12:00:00.123456Z", "day out of range"),
        ("2026-03-01T12:00:00.123456Zulu", 'extra text: "ulu"'),
        (5, "cannot unmarshal number"),
    ],
)
async def test_any_other_form_of_time_is_refused(raw: Raw, given: object, complaint: str) -> None:
    status, body = await raw("POST", "leases", lease(renewTime=given))
    assert (status, body["reason"]) == (400, "BadRequest")
    assert body["message"].startswith('Lease in version "v1" cannot be handled as a Lease: ')
    assert complaint in body["message"]


async def test_the_clients_own_whole_second_is_refused(leases: Any) -> None:
    """``isoformat()`` leaves out a fraction of zero; one microsecond more and it is accepted."""
    whole = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with pytest.raises(ApiException) as refused:
        await leases.create_namespaced_lease("default", typed("a", renew_time=whole))
    assert refused.value.status == 400
    made = await leases.create_namespaced_lease("default", typed("a", renew_time=whole + timedelta(microseconds=1)))
    assert made.spec.renew_time == whole + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"holderIdentity": 5}, "cannot unmarshal number into Go struct field LeaseSpec.spec.holderIdentity"),
        ({"holderIdentity": True}, "cannot unmarshal bool"),
        ({"leaseDurationSeconds": "3"}, "cannot unmarshal string into Go struct field LeaseSpec.spec.leaseDuration"),
        ({"leaseDurationSeconds": 1.5}, "cannot unmarshal number 1.5 into"),
        ({"leaseDurationSeconds": 2**31}, "of type int32"),
        ({"leaseTransitions": True}, "cannot unmarshal bool"),
        ([], "cannot unmarshal array"),
    ],
)
async def test_wrong_types_are_bad_requests(raw: Raw, spec: Any, complaint: str) -> None:
    status, body = await raw("POST", "leases", lease() | {"spec": spec})
    assert (status, body["reason"]) == (400, "BadRequest")
    assert complaint in body["message"]


@pytest.mark.parametrize(
    ("spec", "field", "complaint"),
    [
        ({"leaseDurationSeconds": 0}, "spec.leaseDurationSeconds", "Invalid value: 0: must be greater than 0"),
        ({"leaseDurationSeconds": -1}, "spec.leaseDurationSeconds", "Invalid value: -1: must be greater than 0"),
        ({"leaseTransitions": -1}, "spec.leaseTransitions", "Invalid value: -1: must be greater than or equal to 0"),
    ],
)
async def test_impossible_values_are_invalid(raw: Raw, spec: Any, field: str, complaint: str) -> None:
    status, body = await raw("POST", "leases", lease(**spec))
    assert (status, body["reason"]) == (422, "Invalid")
    assert body["message"] == f'Lease.coordination.k8s.io "vip" is invalid: {field}: {complaint}'
    assert [cause["field"] for cause in body["details"]["causes"]] == [field]


async def test_unknown_fields_are_dropped(raw: Raw) -> None:
    body = lease(holderIdentity="a", vendor="x", renewTime=None) | {"status": {"x": 1}}
    _, made = await raw("POST", "leases", body)
    assert made["spec"] == {"holderIdentity": "a"}
    assert set(made) == {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize(
    ("metadata", "status", "complaint"),
    [
        ({"name": "Vip_1"}, 422, "a lowercase RFC 1123 subdomain must consist of"),
        ({"name": "a" * 254}, 422, "must be no more than 253 characters"),
        ({}, 422, "name or generateName is required"),
        ({"name": "vip", "labels": {"vipd.io/lease": "x" * 64}}, 422, "must be no more than 63 bytes"),
        ({"name": "vip", "labels": {"vipd.io/lease": "a b"}}, 422, "a valid label must be an empty string"),
        ({"name": "vip", "annotations": {"vipd.io/": "x"}}, 422, "name part must be non-empty"),
        ({"name": "vip", "annotations": {"a": "x" * 262144}}, 422, "may not be more than 262144 bytes"),
        ({"name": "vip", "annotations": {"a": 1}}, 400, "cannot unmarshal number into"),
        ({"name": "vip", "namespace": "other"}, 400, "the namespace of the provided object does not match"),
    ],
)
async def test_metadata_is_checked(raw: Raw, metadata: Any, status: int, complaint: str) -> None:
    code, body = await raw("POST", "leases", lease() | {"metadata": metadata})
    assert code == status
    assert complaint in body["message"]


async def test_a_stale_put_is_a_conflict_before_its_values_are_looked_at(raw: Raw) -> None:
    _, first = await raw("POST", "leases", lease(holderIdentity="a"))
    wrong = lease(version="1", leaseDurationSeconds=0)
    assert (await raw("PUT", "leases/vip", wrong))[0] == 409
    wrong["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    assert (await raw("PUT", "leases/vip", wrong))[0] == 422


async def test_a_put_under_another_name_or_kind_is_refused(raw: Raw) -> None:
    await raw("POST", "leases", lease())
    assert (await raw("PUT", "leases/vip", lease("other", version="2")))[0] == 400
    assert (await raw("PUT", "leases/vip", lease(version="2") | {"kind": "Pod"}))[0] == 400


async def test_a_merge_patch_sets_and_removes_and_minds_the_version(raw: Raw) -> None:
    body = lease(holderIdentity="a", leaseDurationSeconds=3)
    body["metadata"]["annotations"] = {"x": "1", "y": "2"}
    _, first = await raw("POST", "leases", body)
    patch: dict[str, Any] = {"metadata": {"annotations": {"x": None, "z": "3"}}, "spec": {"holderIdentity": "b"}}
    status, second = await raw("PATCH", "leases/vip", patch, content_type=MERGE)
    assert status == 200
    assert second["metadata"]["annotations"] == {"y": "2", "z": "3"}
    assert second["spec"] == {"holderIdentity": "b", "leaseDurationSeconds": 3}
    patch = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"], "labels": {"a": "b"}}}
    status, refused = await raw("PATCH", "leases/vip", patch, content_type=MERGE)
    assert (status, refused["reason"]) == (409, "Conflict")
    patch["metadata"]["resourceVersion"] = second["metadata"]["resourceVersion"]
    assert (await raw("PATCH", "leases/vip", patch, content_type=MERGE))[0] == 200
    assert (await raw("PATCH", "leases/none", patch, content_type=MERGE))[0] == 404


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"uid": "other"}},
        {"spec": {"leaseDurationSeconds": 0}},
        {"spec": {"renewTime": "2026-03-01T12:00:00Z"}},
        {"metadata": {"resourceVersion": None}, "spec": {"holderIdentity": "b"}},
    ],
)
async def test_a_patch_into_something_impossible_is_invalid(raw: Raw, patch: Any) -> None:
    await raw("POST", "leases", lease(holderIdentity="a"))
    status, body = await raw("PATCH", "leases/vip", patch, content_type=MERGE)
    assert (status, body["reason"]) == (422, "Invalid")


async def test_a_json_patch_is_applied_whole_or_not_at_all(leases: Any, raw: Raw) -> None:
    await raw("POST", "leases", lease(holderIdentity="a"))
    swap = [
        {"op": "test", "path": "/spec/holderIdentity", "value": "a"},
        {"op": "add", "path": "/metadata/annotations", "value": {"vipd.io/x": "1"}},
        {"op": "replace", "path": "/spec/holderIdentity", "value": "b"},
        {"op": "copy", "from": "/metadata/annotations/vipd.io~1x", "path": "/metadata/annotations/y"},
    ]
    patched = await leases.patch_namespaced_lease("vip", "default", swap)
    assert patched.spec.holder_identity == "b"
    assert patched.metadata.annotations == {"vipd.io/x": "1", "y": "1"}
    with pytest.raises(ApiException) as refused:
        await leases.patch_namespaced_lease("vip", "default", [{"op": "remove", "path": "/spec/holderIdentity"}, *swap])
    assert refused.value.status == 422
    assert (await leases.read_namespaced_lease("vip", "default")).spec.holder_identity == "b"


async def test_unknown_formats_are_refused(raw: Raw) -> None:
    await raw("POST", "leases", lease())
    assert (await raw("PATCH", "leases/vip", {}, content_type="text/plain"))[0] == 415
    assert (await raw("POST", "leases", b"k8s", content_type="text/plain"))[0] == 415
    assert (await raw("POST", "leases", b"{"))[0] == 400
    assert (await raw("POST", "leases", b"[]"))[0] == 400
    assert (await raw("POST", "leases", b"{" + b" " * 3 * 1024 * 1024 + b"}"))[0] == 413


async def test_a_delete_minds_its_preconditions(raw: Raw) -> None:
    _, made = await raw("POST", "leases", lease())
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        assert (await raw("DELETE", "leases/vip", {"preconditions": wrong}))[0] == 409
    right = {key: made["metadata"][key] for key in ("uid", "resourceVersion")}
    assert (await raw("DELETE", "leases/vip", {"preconditions": right}))[0] == 200


async def test_a_dry_run_checks_and_changes_nothing(raw: Raw, api: RunningApi) -> None:
    status, made = await raw("POST", "leases", lease(holderIdentity="a"), dryRun="All")
    assert (status, made["spec"]) == (201, {"holderIdentity": "a"})
    assert api.lease("default", "vip") is None
    assert (await raw("POST", "leases", lease(leaseDurationSeconds=0), dryRun="All"))[0] == 422


async def test_lists_are_narrowed_by_labels_and_fields(raw: Raw) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y"}), ("c", {})):
        body = lease(name)
        body["metadata"]["labels"] = labels
        await raw("POST", "leases", body)

    async def names(**query: str) -> list[str]:
        _, listed = await raw("GET", "leases", **query)
        return [found["metadata"]["name"] for found in listed["items"]]

    assert await names(labelSelector="app=x") == ["a"]
    assert await names(labelSelector="app==y") == ["b"]
    assert await names(labelSelector="app!=x") == ["b", "c"]
    assert await names(labelSelector="app") == ["a", "b"]
    assert await names(labelSelector="!app") == ["c"]
    assert await names(fieldSelector="metadata.name=b") == ["b"]
    assert await names(fieldSelector="metadata.name=b", labelSelector="app=x") == []
    assert (await raw("GET", "leases", fieldSelector="spec.holderIdentity=a"))[0] == 400


async def test_a_list_of_the_future_times_out(raw: Raw) -> None:
    status, body = await raw("GET", "leases", resourceVersion=str(10**9))
    assert (status, body["reason"]) == (504, "Timeout")
    assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert (await raw("GET", "leases", resourceVersion="0"))[0] == 200


async def test_what_is_not_served_is_not_found(raw: Raw) -> None:
    assert (await raw("GET", "leases/vip/status"))[0] == 404
    assert (await raw("POST", "/apis/coordination.k8s.io/v1/leases", lease()))[0] == 405


async def test_formats_and_verbs_that_only_a_real_one_knows_are_refused(raw: Raw, api: RunningApi) -> None:
    """Server-side apply, protobuf, DELETE of a collection, other groups: vipd uses none of them."""
    await raw("POST", "leases", lease())
    assert (await raw("PATCH", "leases/vip", {}, content_type="application/apply-patch+yaml"))[0] == 415
    assert (await raw("POST", "leases", b"k8s", content_type="application/vnd.kubernetes.protobuf"))[0] == 415
    assert (await raw("DELETE", "leases"))[0] == 405
    assert (await raw("GET", "/apis/apps/v1/deployments"))[0] == 404
