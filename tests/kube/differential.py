"""The same random requests for two Kubernetes APIs, and what of their answers is comparable.

Every object that was ever answered is remembered with each API's own uid and resourceVersion; a request names them by
their number, so that both APIs are asked the same.  In answers they are replaced by such numbers in turn, times and
managedFields are left out, and what remains must be equal.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from dataclasses import dataclass, field
from typing import Any

from api_server import Raw

NAMES = ("vip", "vip-2", "other")
UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TOO_OLD = re.compile(r"(too old resource version: )\d+ \(\d+\)")
PATCHED = "patch: Invalid value: "
"""A patch that leaves no Lease is refused with the whole object and the words of Go's decoder after this."""

LEASES = "leases"
NEVER = "999999999"
"""A resourceVersion that neither has reached."""

GOOD_SPECS: list[Any] = [
    {"holderIdentity": "a", "leaseDurationSeconds": 3, "leaseTransitions": 1},
    {"holderIdentity": "b", "leaseDurationSeconds": 15, "renewTime": "2026-03-01T12:00:00.000000Z"},
    {"holderIdentity": "", "leaseDurationSeconds": 1},
    {"holderIdentity": "ü\u0000 \n\U0001f512", "acquireTime": "2026-03-01T12:00:00.123456Z"},
    {"renewTime": "2026-03-01T14:00:00.500000+02:00"},
    {"leaseTransitions": 2**31 - 1, "leaseDurationSeconds": 2**31 - 1},
    {"holderIdentity": None, "renewTime": None},
    {},
]
ODD_SPECS: list[Any] = [
    {"leaseDurationSeconds": 0},
    {"leaseDurationSeconds": -3, "leaseTransitions": -1},
    {"leaseDurationSeconds": 2**31},
    {"leaseDurationSeconds": "3"},
    {"leaseDurationSeconds": 1.5},
    {"leaseDurationSeconds": True},
    {"holderIdentity": 7},
    {"holderIdentity": ["a"]},
    {"holderIdentity": {"a": 1}},
    {"renewTime": "2026-03-01T12:00:00Z"},
    {"renewTime": "yesterday"},
    {"renewTime": 1},
    {"acquireTime": ""},
    {"leaseTransitions": "1"},
    {"vendor": "x", "holderIdentity": "a"},
    [],
    "spec",
    7,
    None,
]
METADATA: list[dict[str, Any]] = [
    {"annotations": {"vipd.io/tenure": '{"h": "a"}', "note": "keep"}},
    {"labels": {"team": "net"}},
    {"annotations": {"vipd.io/tenure": None}},
    {"labels": None, "annotations": None},
    {"annotations": {}, "labels": {}},
    {"finalizers": []},
    {"generation": 7, "creationTimestamp": "2020-01-01T00:00:00Z"},
    {"unknown": 1},
]
ODD_METADATA: list[dict[str, Any]] = [
    {"annotations": {"note": 7}},
    {"annotations": ["x"]},
    {"labels": {"a b": "x"}},
    {"labels": {"a": "x" * 64}},
    {"annotations": {"": "x"}},
    {"annotations": {"big": "x" * (256 * 1024 + 1)}},
    {"namespace": "elsewhere"},
    {"name": "another"},
    {"name": 7},
    {"finalizers": "x"},
]
HEADS: list[dict[str, Any]] = [
    {"kind": "Pod"},
    {"apiVersion": "v1"},
    {"apiVersion": "coordination.k8s.io/v9"},
    {"kind": ""},
    {"apiVersion": None},
    {"kind": 7},
]


@dataclass
class Memory:
    """What one API has called the objects that it answered with."""

    uids: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    by_name: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The uids and versions of one name: ("uid" or "resourceVersion", name)."""

    def learn(self, body: Any) -> None:
        """Remember an object's names."""
        metadata = body.get("metadata") if isinstance(body, dict) else None
        if not isinstance(metadata, dict) or body.get("kind") != "Lease":
            return
        for known, key in ((self.uids, "uid"), (self.versions, "resourceVersion")):
            if metadata[key] not in known:
                known.append(metadata[key])
                self.by_name.setdefault((key, metadata["name"]), []).append(metadata[key])

    def named(self, key: str, name: str, wanted: int | str | None) -> str | None:
        """A remembered uid or version of this name by its number, else what was wanted as it is."""
        if not isinstance(wanted, int):
            return wanted
        known = self.by_name.get((key, name), [])
        return known[wanted % len(known)] if known else None


@dataclass(frozen=True)
class Step:
    """One request; ``uid`` and ``version`` are numbers of remembered objects, or given as they are."""

    method: str
    path: str
    body: Any = None
    uid: int | str | None = None
    version: int | str | None = None
    where: str = "metadata"
    """Where in the body uid and version stand: "metadata" or "preconditions"."""
    query: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def request(self, memory: Memory) -> Any:
        """The body for the API that this is the memory of."""
        name = self.path.rpartition("/")[2]
        wanted = {"uid": self.uid, "resourceVersion": self.version}
        named = {key: memory.named(key, name, value) for key, value in wanted.items()}
        given = {key: value for key, value in named.items() if value is not None}
        if not isinstance(self.body, dict) or not given:
            return self.body
        inner = self.body.get(self.where)
        return {**self.body, self.where: {**(inner if isinstance(inner, dict) else {}), **given}}


class Script:
    """Draws steps; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def step(self) -> Step:
        """The next one."""
        kinds = (self._create, self._update, self._update, self._update, self._patch, self._delete, self._read)
        return self.rng.choice(kinds)()

    def _body(self, name: str) -> dict[str, Any]:
        rng = self.rng
        body: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        body["spec"] = rng.choice(GOOD_SPECS if rng.random() < 0.7 else ODD_SPECS)
        if rng.random() < 0.5:
            body["metadata"] |= rng.choice(METADATA if rng.random() < 0.7 else ODD_METADATA)
        if rng.random() < 0.05:
            body |= rng.choice(HEADS)
        return body

    def _version(self) -> int | str | None:
        """Mostly the newest, else an older one, none, or nonsense."""
        return self.rng.choice((-1, -1, -1, -1, -1, -1, -1, -2, -3, None, "0", "abc", "-1", NEVER, ""))

    def _uid(self) -> int | str | None:
        return self.rng.choice((None, None, None, -1, -1, -1, 0, "", "11111111-2222-3333-4444-555555555555"))

    def _create(self) -> Step:
        name = self.rng.choice(NAMES)
        version = self.rng.choice((None, None, None, "0", NEVER))
        return Step("POST", LEASES, self._body(name), version=version, query=self._dry())

    def _update(self) -> Step:
        name = self.rng.choice(NAMES)
        return Step(
            "PUT", f"{LEASES}/{name}", self._body(name), uid=self._uid(), version=self._version(), query=self._dry()
        )

    def _patch(self) -> Step:
        name, rng = self.rng.choice(NAMES), self.rng
        body = {key: value for key, value in self._body(name).items() if rng.random() < 0.6}
        kind = "application/merge-patch+json"
        return Step("PATCH", f"{LEASES}/{name}", body, uid=self._uid(), version=self._version(), content_type=kind)

    def _delete(self) -> Step:
        name = self.rng.choice(NAMES)
        if self.rng.random() < 0.5:
            return Step("DELETE", f"{LEASES}/{name}")
        version = self.rng.choice((None, -1, -2, NEVER))
        uid = self.rng.choice((None, -1, 0, "11111111-2222-3333-4444-555555555555"))
        return Step(
            "DELETE", f"{LEASES}/{name}", {"preconditions": {}}, uid=uid, version=version, where="preconditions"
        )

    def _read(self) -> Step:
        rng = self.rng
        if rng.random() < 0.5:
            return Step("GET", f"{LEASES}/{rng.choice(NAMES)}")
        selector = rng.choice(({}, {"fieldSelector": "metadata.name=vip"}, {"labelSelector": "team=net"}))
        return Step("GET", LEASES, query=selector)

    def _dry(self) -> dict[str, str]:
        return {"dryRun": "All"} if self.rng.random() < 0.1 else {}


class Side:
    """One API with its memory."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.memory = Memory()

    async def take(self, step: Step) -> tuple[int, Any]:
        """Ask; what came, comparable."""
        status, body = await self.raw(
            step.method, step.path, step.request(self.memory), content_type=step.content_type, **step.query
        )
        if "dryRun" not in step.query:
            self.memory.learn(body)
        return status, self._refusal(body) if status == 400 else self.comparable(body)

    def _refusal(self, body: Any) -> Any:
        """Of a request that cannot be read nothing but that: the words are those of a Go decoder."""
        return body.get("reason")

    async def events(self, version: int) -> list[tuple[str, Any]]:
        """What a watch from a remembered version tells until its time, one second, is up."""
        status, told = await self.watch(self.memory.versions[version])
        assert status == 200
        return [(event["type"], event["object"]) for event in told]

    async def watch(self, version: str) -> tuple[int, list[Any]]:
        """The status of a watch from this version, and each line that came until its second was up."""
        params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "1"}
        headers = {"Authorization": f"Bearer {self.raw.api.token}"}
        async with self.raw.session.get(self.raw.url(LEASES), params=params, headers=headers) as answer:
            told = [json.loads(line) async for line in answer.content]
            return answer.status, [self.comparable(line) for line in told]

    def comparable(self, body: Any, key: str = "") -> Any:
        """The answer with this API's own names replaced, and without what no two APIs have in common."""
        if isinstance(body, dict):
            left_out = {"managedFields", "creationTimestamp"}
            if body.get("kind") == "LeaseList":
                left_out.add("metadata")  # the version of a cluster in which others write, too
            if body.get("field") == "patch":
                left_out.add("message")
            return {name: self.comparable(value, name) for name, value in body.items() if name not in left_out}
        if isinstance(body, list):
            found = [self.comparable(item) for item in body]
            # A real one checks the metadata of an update several times, and says so each time.
            return [item for at, item in enumerate(found) if key != "causes" or item not in found[:at]]
        if key == "resourceVersion" and isinstance(body, str):
            known = self.memory.versions
            # A deletion has a version of its own that no answer has named.
            return f"version {known.index(body)}" if body in known else "a version"
        return self._words(body) if isinstance(body, str) else body

    def _words(self, text: str) -> str:
        for number, uid in enumerate(self.memory.uids):
            text = text.replace(uid, f"<uid {number}>")
        text = UID.sub("<uid>", text).partition(PATCHED)[0]
        # A dry run does not know where etcd keeps things.
        text = text.replace("/registry/leases", "/leases")
        text = TOO_OLD.sub(r"\1<a version> (<the oldest>)", text)
        for number, version in enumerate(self.memory.versions):
            text = re.sub(rf"(ResourceVersion in (?:the precondition|record) )\({version}\)", rf"\1<{number}>", text)
        return text


async def both(one: Side, other: Side, step: Step) -> tuple[tuple[int, Any], tuple[int, Any]]:
    """The answers of both to one step."""
    first, second = await asyncio.gather(one.take(step), other.take(step))
    return first, second
