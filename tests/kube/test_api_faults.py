"""What goes wrong in the lab's Kubernetes API on purpose, and what it remembers."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from api_server import Raw, RunningApi, lease

from vipd.lab.kubeapi.records import UNANSWERED, LeaseWrite
from vipd.lab.kubeapi.store import LEASES

GONE = (aiohttp.ClientError, TimeoutError)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable"), (504, "Timeout")],
)
async def test_requests_are_refused(raw: Raw, api: RunningApi, status: int, reason: str) -> None:
    with api.faults.during(status=status, verbs="create"):
        code, body = await raw("POST", "leases", lease())
        assert (code, body["reason"], body["code"]) == (status, reason, status)
        assert (await raw("GET", "leases"))[0] == 200
    assert api.lease("default", "vip") is None
    assert (await raw("POST", "leases", lease()))[0] == 201


async def test_a_throttled_client_is_told_when_to_come_again(raw: Raw, api: RunningApi) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    with api.faults.during(status=429, retry_after_s=3):
        async with raw.session.get(raw.url("leases"), headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
            assert (await answer.json())["details"]["retryAfterSeconds"] == 3


async def test_a_fault_hits_whom_it_is_meant_for(raw: Raw, api: RunningApi) -> None:
    api.add_user("other", "t2")
    api.faults.add(status=503, users="other", resources=["leases", "pods"], names="vip")
    assert (await raw("GET", "leases/vip", token="t2"))[0] == 503
    assert (await raw("GET", "leases/vap", token="t2"))[0] == 404
    assert (await raw("GET", "/api/v1/nodes/vip", token="t2"))[0] == 404
    assert (await raw("GET", "leases/vip"))[0] == 404


async def test_a_fault_is_over_after_so_many_requests(raw: Raw, api: RunningApi) -> None:
    api.faults.add(status=500, times=2)
    assert [(await raw("GET", "leases"))[0] for _ in range(3)] == [500, 500, 200]
    api.faults.add(status=500, chance=0.0)
    assert (await raw("GET", "leases"))[0] == 200


async def test_a_request_hangs_until_the_fault_is_cleared(raw: Raw, api: RunningApi) -> None:
    fault = api.faults.add(hang=True)
    pending = asyncio.create_task(raw("POST", "leases", lease()))
    await asyncio.sleep(0.2)
    assert not pending.done()
    assert api.lease("default", "vip") is None
    api.faults.remove(fault)
    assert (await asyncio.wait_for(pending, 2))[0] == 201


async def test_a_hanging_request_whose_client_left_is_never_carried_out(raw: Raw, api: RunningApi) -> None:
    api.faults.add(hang=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw("POST", "leases", lease()), 0.1)
    await asyncio.sleep(0.05)
    api.faults.clear()
    await asyncio.sleep(0.05)
    assert api.lease("default", "vip") is None
    assert [(r.verb, r.status) for r in api.requests] == [("create", UNANSWERED)]


async def test_a_delayed_write_is_applied_late_even_when_its_client_left(raw: Raw, api: RunningApi) -> None:
    with api.faults.during(before_s=0.3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw("POST", "leases", lease()), 0.1)
        assert api.lease("default", "vip") is None
        await asyncio.sleep(0.4)
    assert api.lease("default", "vip") is not None


async def test_an_answer_comes_late_to_a_write_applied_at_once(raw: Raw, api: RunningApi) -> None:
    api.faults.add(after_s=0.3)
    began = time.monotonic()
    pending = asyncio.create_task(raw("POST", "leases", lease()))
    await asyncio.sleep(0.1)
    assert api.lease("default", "vip") is not None
    assert not pending.done()
    assert (await pending)[0] == 201
    assert time.monotonic() - began >= 0.3


async def test_a_write_is_applied_and_its_connection_dropped(raw: Raw, api: RunningApi) -> None:
    api.faults.add(drop=True, verbs="create", times=1)
    with pytest.raises(GONE):
        await raw("POST", "leases", lease())
    assert api.lease("default", "vip") is not None
    assert (api.requests[-1].verb, api.requests[-1].status) == ("create", UNANSWERED)
    assert (await raw("GET", "leases/vip"))[0] == 200


async def test_an_expired_token_does_not_hide_a_fault(raw: Raw, api: RunningApi) -> None:
    with api.faults.during(status=503):
        assert (await raw("GET", "leases", token="nobodys"))[0] == 503
    assert (await raw("GET", "leases", token="nobodys"))[0] == 401


async def test_stopping_ends_what_hangs(raw: Raw, api: RunningApi) -> None:
    api.faults.add(hang=True)
    pending = asyncio.create_task(raw("GET", "leases"))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(api.stop(), 2)
    with pytest.raises(GONE):
        await asyncio.wait_for(pending, 2)


async def test_every_request_is_remembered(raw: Raw, api: RunningApi) -> None:
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    await raw("POST", "leases", lease())
    await raw("GET", "leases/none")
    await raw("GET", "leases", fieldSelector="metadata.name=vip")
    await raw("GET", "leases", token=None)
    user = "system:serviceaccount:default:vipd"
    assert [(r.user, r.verb, r.resource, r.namespace, r.name, r.status) for r in api.requests] == [
        (user, "create", "leases", "default", "", 201),
        (user, "get", "leases", "default", "none", 404),
        (user, "list", "leases", "default", "vip", 200),
        ("", "list", "leases", "default", "", 401),
    ]
    assert all(began <= r.at <= time.clock_gettime(time.CLOCK_BOOTTIME) and r.took_s >= 0 for r in api.requests)


async def test_an_open_watch_is_remembered_from_its_beginning_and_once(raw: Raw, api: RunningApi) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    async with raw.session.get(raw.url("leases"), params={"watch": "1"}, headers=headers):
        assert [(r.verb, r.status) for r in api.requests] == [("watch", 200)]
        assert [watch.call.verb for watch in api.watches] == ["watch"]
    await asyncio.sleep(0.1)
    assert len(api.requests) == 1


async def test_the_history_is_bounded(raw: Raw) -> None:
    server = RunningApi(history=3)
    server.add_user("u", server.token)
    await server.start()
    try:
        for _ in range(5):
            await Raw(raw.session, server)("GET", "leases")
        assert len(server.requests) == 3
    finally:
        await server.stop()


async def test_every_lease_write_is_told_as_it_is_applied(raw: Raw, api: RunningApi) -> None:
    told: list[LeaseWrite] = []
    stop_telling = api.on_lease_write(told.append)
    body = lease(holderIdentity="a", leaseTransitions=4)
    body["metadata"]["annotations"] = {"x": "1"}
    _, made = await raw("POST", "leases", body)
    await raw("PUT", "leases/vip", lease(version="1", holderIdentity="stale"))
    await raw("PUT", "leases/vip", made)
    api.store.delete(LEASES, "default", "vip")
    stop_telling()
    await raw("POST", "leases", lease())
    assert [(w.verb, w.holder, w.transitions) for w in told] == [("create", "a", 4), ("", "a", 4)]
    assert [w.user for w in told] == ["system:serviceaccount:default:vipd", ""]
    first = told[0]
    assert (first.namespace, first.name, dict(first.annotations)) == ("default", "vip", {"x": "1"})
    assert first.spec["leaseTransitions"] == 4
    assert first.began_at <= first.at <= told[1].at
    assert len(api.lease_writes) == 3
