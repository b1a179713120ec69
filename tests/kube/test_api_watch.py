"""Watches of the lab's Kubernetes API: from now, from a version, from one that is gone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from api_server import Raw, RunningApi, lease
from kubernetes.aio.client import ApiException, CoordinationV1Api
from kubernetes.aio.watch import Watch

from vipd.lab.kubeapi.store import LEASES

SOON_S = 2.0


class Stream:
    """A watch over plain HTTP."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, Any]:
        """The next event: its type and object."""
        line = await asyncio.wait_for(self.answer.content.readline(), SOON_S)
        assert line, "the stream ended"
        event = json.loads(line)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(word, found["metadata"]["name"]) for word, found in events]

    async def silent(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self.answer.content.readline(), seconds)
        except TimeoutError:
            return True
        return False

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.answer.content.readline(), SOON_S) == b""


@asynccontextmanager
async def watching(raw: Raw, path: str = "leases", **query: str) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {raw.api.token}"}
    params = {"watch": "true"} | query
    async with raw.session.get(raw.url(path), params=params, headers=headers) as answer:
        assert answer.status == 200
        yield Stream(answer)


async def until(what: Any) -> None:
    for _ in range(200):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


async def test_a_watch_without_a_version_begins_with_what_there_is(raw: Raw) -> None:
    await raw("POST", "leases", lease("a"))
    await raw("POST", "leases", lease("b"))
    async with watching(raw) as stream:
        assert await stream.names(2) == [("ADDED", "a"), ("ADDED", "b")]
        await raw("DELETE", "leases/a")
        assert await stream.names(1) == [("DELETED", "a")]


async def test_a_watch_goes_on_after_its_version(raw: Raw) -> None:
    _, first = await raw("POST", "leases", lease(holderIdentity="a"))
    version = first["metadata"]["resourceVersion"]
    _, second = await raw("PUT", "leases/vip", lease(version=version, holderIdentity="b"))
    async with watching(raw, resourceVersion=version) as stream:
        assert await stream.next() == ("MODIFIED", second)
        await raw("DELETE", "leases/vip")
        word, gone = await stream.next()
        assert word == "DELETED"
        assert int(gone["metadata"]["resourceVersion"]) > int(second["metadata"]["resourceVersion"])


async def test_a_watch_of_one_name_hears_of_no_other(raw: Raw) -> None:
    async with watching(raw, fieldSelector="metadata.name=vip") as stream:
        await raw("POST", "leases", lease("other"))
        await raw("POST", "leases", lease("vip"))
        assert await stream.names(1) == [("ADDED", "vip")]


async def test_a_watch_of_a_namespace_hears_of_no_other(raw: Raw) -> None:
    """Not in "default", where the tests are, but in a namespace that a real control plane has as well."""
    everywhere = "/apis/coordination.k8s.io/v1/leases"
    selected = {"labelSelector": "test=here"}
    far, near = lease("far"), lease("near")
    for each in (far, near):
        each["metadata"]["labels"] = {"test": "here"}
    elsewhere = "/apis/coordination.k8s.io/v1/namespaces/kube-public/leases"
    async with watching(raw) as stream, watching(raw, everywhere, **selected) as both:
        assert (await raw("POST", elsewhere, far))[0] == 201
        await raw("POST", "leases", near)
        assert await stream.names(1) == [("ADDED", "near")]
        assert await both.names(2) == [("ADDED", "far"), ("ADDED", "near")]
    await raw("DELETE", f"{elsewhere}/far")


async def test_a_change_of_labels_brings_an_object_into_the_watch_and_out_of_it(raw: Raw) -> None:
    async with watching(raw, labelSelector="on=1") as stream:
        await raw("POST", "leases", lease())
        for labels in ({"on": "1"}, {"on": "1", "x": "y"}, {"on": None}):
            patch = {"metadata": {"labels": labels}}
            await raw("PATCH", "leases/vip", patch, content_type="application/merge-patch+json")
        assert [word for word, _ in await stream.names(3)] == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_write_that_changes_nothing_is_no_event(raw: Raw) -> None:
    _, first = await raw("POST", "leases", lease("a"))
    async with watching(raw, resourceVersion=first["metadata"]["resourceVersion"]) as stream:
        await raw("PUT", "leases/a", first)
        await raw("POST", "leases", lease("b"))
        assert await stream.names(1) == [("ADDED", "b")]


async def test_a_version_that_is_gone_is_an_error_event_of_code_410(raw: Raw, api: RunningApi) -> None:
    _, first = await raw("POST", "leases", lease("a"))
    await raw("POST", "leases", lease("b"))
    api.compact()
    async with watching(raw, resourceVersion=first["metadata"]["resourceVersion"]) as stream:
        word, status = await stream.next()
        assert (word, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
        assert status["message"].startswith("too old resource version: ")
        assert await stream.ended()
    assert api.requests[-1].status == 410


async def test_the_version_of_the_compaction_itself_is_still_good(raw: Raw, api: RunningApi) -> None:
    _, first = await raw("POST", "leases", lease("a"))
    api.compact()
    async with watching(raw, resourceVersion=first["metadata"]["resourceVersion"]) as stream:
        await raw("POST", "leases", lease("b"))
        assert await stream.names(1) == [("ADDED", "b")]


async def test_the_window_forgets_by_itself(raw: Raw) -> None:
    narrow = RunningApi(window=2)
    narrow.add_user("u", narrow.token)
    await narrow.start()
    for name in ("a", "b", "c", "d"):
        narrow.store.create(LEASES, "default", lease(name))
    try:
        async with watching(Raw(raw.session, narrow), resourceVersion="2") as stream:
            assert (await stream.next())[0] == "ERROR"
        async with watching(Raw(raw.session, narrow), resourceVersion="3") as stream:
            assert await stream.names(2) == [("ADDED", "c"), ("ADDED", "d")]
    finally:
        await narrow.stop()


async def test_a_watch_ends_in_order_when_its_time_is_up(raw: Raw) -> None:
    began = time.monotonic()
    async with watching(raw, timeoutSeconds="1") as stream:
        assert await stream.ended()
    assert 0.9 < time.monotonic() - began < 1.9


async def test_bookmarks_come_to_who_asks(raw: Raw, api: RunningApi) -> None:
    api.bookmark_s = 0.1
    _, made = await raw("POST", "leases", lease())
    version = made["metadata"]["resourceVersion"]
    async with (
        watching(raw, resourceVersion=version, allowWatchBookmarks="true") as asked,
        watching(raw, resourceVersion=version) as plain,
    ):
        word, bookmark = await asked.next()
        assert (word, bookmark["kind"], bookmark["metadata"]["resourceVersion"]) == ("BOOKMARK", "Lease", version)
        assert await plain.silent(0.3)


async def test_a_streamed_list_ends_with_a_marked_bookmark(raw: Raw) -> None:
    await raw("POST", "leases", lease("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with watching(raw, **query) as stream:
        assert await stream.names(1) == [("ADDED", "a")]
        word, bookmark = await stream.next()
        assert word == "BOOKMARK"
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_version_that_is_no_number_is_refused(raw: Raw) -> None:
    assert (await raw("GET", "leases", watch="true", resourceVersion="abc"))[0] == 500
    assert (await raw("GET", "leases", resourceVersion="abc"))[0] == 400


async def test_a_client_that_leaves_leaves_nothing_behind(raw: Raw, api: RunningApi) -> None:
    async with watching(raw) as stream:
        await until(lambda: len(api.watches) == 1)
        stream.answer.close()
    await until(lambda: not api.watches)


async def test_the_kubernetes_client_watches_and_resumes(client: Any, raw: Raw) -> None:
    leases = CoordinationV1Api(client)
    await raw("POST", "leases", lease("a"))
    seen = []
    async with Watch() as watch:
        async for event in watch.stream(leases.list_namespaced_lease, "default", timeout_seconds=2):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == 1:
                await raw("POST", "leases", lease("b"))
            else:
                break
        version = watch.resource_version
    assert seen == [("ADDED", "a"), ("ADDED", "b")]
    await raw("POST", "leases", lease("c"))
    async with Watch() as watch:
        stream = watch.stream(leases.list_namespaced_lease, "default", resource_version=version, timeout_seconds=2)
        assert (await anext(stream))["object"].metadata.name == "c"


async def test_the_kubernetes_client_sees_410_as_an_exception(client: Any, raw: Raw, api: RunningApi) -> None:
    await raw("POST", "leases", lease("a"))
    api.compact()
    async with Watch() as watch:
        stream = watch.stream(
            CoordinationV1Api(client).list_namespaced_lease, "default", resource_version="1", timeout_seconds=2
        )
        with pytest.raises(ApiException) as refused:
            await anext(stream)
    assert refused.value.status == 410


async def test_watches_broken_or_ended_by_the_lab(raw: Raw, api: RunningApi) -> None:
    async with watching(raw) as broken:
        await until(lambda: len(api.watches) == 1)
        assert api.break_watches() == 1
        with pytest.raises(aiohttp.ClientError):
            await broken.next()
    async with watching(raw) as ended:
        await until(lambda: len(api.watches) == 1)
        assert api.break_watches("nobody") == 0
        assert api.break_watches(gracefully=True) == 1
        assert await ended.ended()


async def test_frozen_watches_are_half_open_and_new_ones_work(raw: Raw, api: RunningApi) -> None:
    async with watching(raw) as frozen:
        await until(lambda: len(api.watches) == 1)
        assert api.freeze_watches() == 1
        await raw("POST", "leases", lease("a"))
        assert await frozen.silent(0.2)
        async with watching(raw) as fresh:
            assert await fresh.names(1) == [("ADDED", "a")]
        api.thaw_watches()
        assert await frozen.names(1) == [("ADDED", "a")]


async def test_a_freezing_fault_silences_new_watches_too(raw: Raw, api: RunningApi) -> None:
    with api.faults.during(freeze=True, resources="leases"):
        await raw("POST", "leases", lease("a"))
        async with watching(raw) as stream:
            assert await stream.silent(0.2)
            api.faults.clear()
            assert await stream.names(1) == [("ADDED", "a")]
