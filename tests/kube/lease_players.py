"""A holder and a standby as a script: they write into the Lease what vipd would, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api_server import RunningApi

from vipd.core.annotations import OFFER, REQUEST, TENURE, render_offer, render_tenure
from vipd.core.model import Fence, LeaseDraft, LeaseView, Offer, Tenure, Written
from vipd.kube.leases import KubeLeases

VIP = "10.0.1.100"
A, B = "web-0_uid-a", "web-1_uid-b"
ENI_A, ENI_B = "eni-0a", "eni-0b"


@dataclass
class Players:
    """Writes to one Lease under the names of its members."""

    client: Any
    name: str = "web-vip"
    fence: Fence = Fence.ENI
    duration_s: int = 15
    behind_s: float = 0.0
    """How far their clock is behind this machine's."""

    def __post_init__(self) -> None:
        self.store = KubeLeases(self.client, namespace="default", name=self.name, wall=self.wall)

    def wall(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self.behind_s)

    async def seen(self) -> LeaseView:
        found = await self.store.read(timeout_s=2)
        assert isinstance(found, LeaseView)
        return found

    def draft(self, tenure: Tenure, base: LeaseView | None, **annotations: str | None) -> LeaseDraft:
        same = base is not None and (base.holder, base.transitions) == (tenure.holder, tenure.transitions)
        others: dict[str, str | None] = {} if same else {OFFER: None, REQUEST: None}
        return LeaseDraft(
            holder=tenure.holder,
            duration_s=self.duration_s,
            transitions=tenure.transitions,
            acquire_time=base.acquire_time if base and same else None,
            annotations={TENURE: render_tenure(tenure), **others, **annotations},
        )

    async def begin(self, holder: str = A, **fields: Any) -> LeaseView:
        """Create the Lease with its first tenure."""
        told = {"eni": ENI_A, "fence": self.fence, "moved": True, "vips": (VIP,), "why": "lease-free", **fields}
        tenure = Tenure(holder, 4, f"process-of-{holder}", **told)
        return _view(await self.store.create(self.draft(tenure, None), timeout_s=2))

    async def write(self, base: LeaseView, tenure: Tenure, **annotations: str | None) -> LeaseView:
        return _view(await self.store.replace(base, self.draft(tenure, base, **annotations), timeout_s=2))

    async def renew(self) -> LeaseView:
        base = await self.seen()
        assert base.tenure is not None
        return await self.write(base, base.tenure)

    async def release(self) -> LeaseView:
        base = await self.seen()
        draft = LeaseDraft(holder="", duration_s=1, transitions=base.transitions, acquire_time=None)
        return _view(await self.store.replace(base, draft, timeout_s=2))

    async def offer(self, base: LeaseView, *, id: str = "", why: str = "requested") -> LeaseView:
        """Answer the request in ``base``."""
        assert base.tenure is not None
        asked = base.request
        offer = Offer(base.holder, base.transitions, id=id or (asked.id if asked else "own"), to="", why=why)
        return await self.write(base, base.tenure, **{OFFER: render_offer(offer), REQUEST: None})

    async def cancel(self, base: LeaseView) -> LeaseView:
        assert base.tenure is not None
        return await self.write(base, base.tenure, **{OFFER: None})

    async def take(self, base: LeaseView, holder: str = B, **fields: Any) -> LeaseView:
        told = {"eni": ENI_B, "fence": self.fence, "vips": (VIP,), "why": "offered", **fields}
        return await self.write(base, Tenure(holder, base.transitions + 1, f"process-of-{holder}", **told))

    async def moved(self, base: LeaseView) -> LeaseView:
        assert base.tenure is not None
        return await self.write(base, replace(base.tenure, moved=True))

    async def requested(self) -> LeaseView:
        """Once somebody asks."""
        return await self.until(lambda view: view.request is not None)

    async def until(self, condition: Callable[[LeaseView], bool]) -> LeaseView:
        async with asyncio.timeout(10), aclosing(self.store.watch()) as seen:
            async for view in seen:
                if isinstance(view, LeaseView) and condition(view):
                    return view
        raise AssertionError("a watch does not end")

    @contextlib.asynccontextmanager
    async def acting(self, script: Callable[[Players], Any]) -> AsyncIterator[None]:
        """A script that runs beside the test and must not fail."""
        task = asyncio.create_task(script(self))
        try:
            yield
            async with asyncio.timeout(5):
                await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _view(outcome: Any) -> LeaseView:
    assert isinstance(outcome, Written), outcome
    return outcome.view


def put_pod(
    api: RunningApi, name: str, role: str, *, lease: str = "web-vip", namespace: str = "default", **body: Any
) -> str:
    """A labelled Pod; its identity."""
    return _put(api, "pods", name, role, lease=lease, namespace=namespace, **body)


def put_node(api: RunningApi, name: str, role: str, *, lease: str = "web-vip") -> str:
    """A labelled Node; its identity."""
    _put(api, "nodes", name, role, lease=lease, namespace="")
    return name


def _put(api: RunningApi, resource: str, name: str, role: str, *, lease: str, namespace: str, **body: Any) -> str:
    from vipd.lab.kubeapi.kinds import NODES, PODS

    kind = PODS if resource == "pods" else NODES
    labels = {"vipd.io/lease": lease, "vipd.io/role": role}
    made = api.store.create(kind, namespace, {"metadata": {"name": name, "labels": labels}, **body})
    return f"{name}_{made['metadata']['uid']}"


def request_text(view: LeaseView, **fields: Any) -> str:
    """The annotation of somebody's request."""
    said = {"h": view.holder, "n": view.transitions, "id": "r1", "by": "eve@laptop", "to": "", "prio": 1000, **fields}
    return json.dumps(said)
