"""Carries out what the core asks for, and posts the answers back as events.

Nothing here decides.  Kernel operations run one after the other in the order asked; Lease, EC2 and IMDS calls run
beside each other, so that a renewal never waits for any of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from vipd.core.messages import (
    AddressesPut,
    AddressesRemoved,
    AnnotateLease,
    AssignEni,
    EniAnswered,
    Event,
    LeaseRead,
    LeaseWrote,
    LinkSeen,
    MappingSeen,
    Probed,
    PutAddresses,
    ReadLease,
    RemoveAddresses,
    WriteLease,
)
from vipd.core.model import Address, Assigned, Eni, LinkState, Mapped, Vip
from vipd.core.ports import Announcer, ClaimWatch, Clock, Kernel, LeaseStore, MappingReader, Mover
from vipd.errors import AnnounceError, LinkError
from vipd.observe.metrics import Metrics

log = logging.getLogger("vipd.hands")

MAPPING_TIMEOUT_S = 1.0
"""IMDS is link-local and answers in milliseconds; a whole second is silence."""

CLOSE_S = 2.0
"""How long kernel operations may take at the end."""


class Hands:
    """The effects, on real or simulated adapters."""

    def __init__(
        self,
        vips: Sequence[Vip],
        *,
        clock: Clock,
        store: LeaseStore,
        kernel: Kernel,
        announcer: Announcer,
        metrics: Metrics,
        enis: Mapping[str, Eni] | None = None,
        macs: Mapping[str, str] | None = None,
        reader: MappingReader | None = None,
        mover: Mover | None = None,
        claims: ClaimWatch | None = None,
    ) -> None:
        """``enis``: the ENI of each VIP interface; empty, with no reader and mover, where none is managed.

        ``macs``: the MAC of that ENI, for each interface that bore it at the start.
        """
        self.vips = tuple(vips)
        self.clock = clock
        self.store = store
        self.kernel = kernel
        self.claims = claims
        self.links: dict[str, LinkState | None] = {}
        self.right_until: Callable[[], float] = lambda: float("-inf")
        self._announcer = announcer
        self._metrics = metrics
        self._enis = dict(enis or {})
        self._macs = dict(macs or {})
        self._reader = reader
        self._mover = mover
        self._post: Callable[[Event], None] = lambda event: None
        self._broke: Callable[[BaseException], None] = lambda error: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._kernel_jobs: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()

    def start(
        self,
        post: Callable[[Event], None],
        right_until: Callable[[], float],
        broke: Callable[[BaseException], None],
    ) -> None:
        """Begin to take effects; answers go to ``post``, and what must never happen to ``broke``."""
        self._post = post
        self._broke = broke
        self.right_until = right_until
        self._spawn(self._kernel_worker())

    async def close(self) -> None:
        """Stop everything that is under way; kernel operations already asked for are finished first."""
        try:
            await asyncio.wait_for(self._kernel_jobs.join(), CLOSE_S)
        except TimeoutError:
            log.error("the kernel did not answer for %s s; VIPs left behind end with their lifetime", CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # The core would wait for this answer for ever: better a restart than a member that does nothing.
            self._broke(error)

    # ---------------------------------------------------------------------------------------- Lease

    def read_lease(self, effect: ReadLease) -> None:
        self._spawn(self._read_lease(effect))

    async def _read_lease(self, effect: ReadLease) -> None:
        sent_at = self.clock.now()
        outcome = await self.store.read(timeout_s=effect.timeout_s)
        self._post(LeaseRead(outcome=outcome, sent_at=sent_at))

    def write_lease(self, effect: WriteLease) -> None:
        self._spawn(self._write_lease(effect))

    async def _write_lease(self, effect: WriteLease) -> None:
        sent_at = self.clock.now()
        if effect.base is None:
            outcome = await self.store.create(effect.draft, timeout_s=effect.timeout_s)
        else:
            outcome = await self.store.replace(effect.base, effect.draft, timeout_s=effect.timeout_s)
        self._metrics.lease_write(effect.kind.value, outcome, self.clock.now() - sent_at)
        self._post(LeaseWrote(kind=effect.kind, outcome=outcome, sent_at=sent_at))

    def annotate_lease(self, effect: AnnotateLease) -> None:
        self._spawn(self._annotate_lease(effect))

    async def _annotate_lease(self, effect: AnnotateLease) -> None:
        sent_at = self.clock.now()
        outcome = await self.store.annotate(effect.base, effect.annotations, timeout_s=effect.timeout_s)
        self._metrics.lease_write(effect.kind.value, outcome, self.clock.now() - sent_at)
        self._post(LeaseWrote(kind=effect.kind, outcome=outcome, sent_at=sent_at))

    # --------------------------------------------------------------------------------------- kernel

    async def _kernel_worker(self) -> None:
        while True:
            job = await self._kernel_jobs.get()
            try:
                await job
            finally:
                self._kernel_jobs.task_done()

    def put_addresses(self, effect: PutAddresses) -> None:
        self._kernel_jobs.put_nowait(self._put_addresses(effect))

    async def _put_addresses(self, effect: PutAddresses) -> None:
        borne: set[Address] = set()
        failures: list[str] = []
        for vip in self.vips:
            try:
                if await self._put(vip, effect):
                    borne.add(vip.address)
                else:
                    failures.append(f"{vip}: the right to bear it ended meanwhile")
            except LinkError as error:
                failures.append(str(error))
                if await self._still_there(vip):
                    borne.add(vip.address)
        self._post(AddressesPut(borne=frozenset(borne), failure="; ".join(failures)))

    async def _put(self, vip: Vip, effect: PutAddresses) -> bool:
        """Add or refresh it with a lifetime that ends in time; False: none does any more, and it is not there."""
        given_s = None
        # Where it stalled on its way, but there is right left: a shorter lifetime, in the place of no address.
        while (valid_s := self._fitting_s(effect)) > 0 and valid_s != given_s:
            await self.kernel.put(vip, valid_s=valid_s)
            given_s = valid_s
        if valid_s > 0 and (effect.not_after is None or self.clock.now() <= effect.not_after):
            return True
        # Past the end of the right, and `replace` re-adds what had expired.
        await self.kernel.remove(vip)
        return False

    def _fitting_s(self, effect: PutAddresses) -> int:
        """The lifetime that ends in time when it begins now; 0 or less: none does."""
        late_s = 0.0 if effect.in_time is None else self.clock.now() - effect.in_time
        return effect.valid_s - max(0, math.ceil(late_s))

    async def _still_there(self, vip: Vip) -> bool:
        """Whether a refresh failed and left what was there: it answers until its lifetime ends; it is to be removed."""
        try:
            there = await self.kernel.borne()
        except LinkError:
            return False
        return any(b.vip.address == vip.address and b.vip.interface == vip.interface for b in there)

    def remove_addresses(self, effect: RemoveAddresses) -> None:
        self._kernel_jobs.put_nowait(self._remove_addresses())

    async def _remove_addresses(self) -> None:
        failures: list[str] = []
        for vip in self.vips:
            try:
                await self._remove(vip)
            except LinkError as error:
                failures.append(str(error))
        self._post(AddressesRemoved(failure="; ".join(failures)))

    async def _remove(self, vip: Vip) -> None:
        """Once more where it failed: as long as the address may be there nobody else may take."""
        try:
            await self.kernel.remove(vip)
        except LinkError as error:
            log.warning("trying once more: %s", error)
            await self.kernel.remove(vip)

    # ------------------------------------------------------------------------------------- announce

    def link_changed(self, name: str, link: LinkState | None) -> None:
        """Remember an interface's state; one with another MAC needs other frames."""
        before, self.links[name] = self.links.get(name), link
        if link is not None and (before is None or before.mac != link.mac):
            self._spawn(self._warm(link))

    def link_seen(self) -> LinkSeen:
        """Whether the VIPs can be served over their interfaces, and what is wrong with the first that cannot."""
        for name, link in self.links.items():
            if link is None:
                return LinkSeen(up=False, detail=f"interface {name} is gone")
            if not link.up:
                return LinkSeen(up=False, detail=f"interface {name} is down")
            if link.mac != self._macs.get(name, link.mac):
                # Made anew in front of another ENI: the calls would go on naming the former one.
                detail = f"{name} now bears another MAC ({link.mac}) than {self._enis[name].id}; restart vipd"
                return LinkSeen(up=False, detail=detail)
        return LinkSeen(up=True)

    async def _warm(self, link: LinkState) -> None:
        try:
            await self._announcer.warm(self.vips, [link])
        except (AnnounceError, OSError) as error:
            log.warning("could not prepare announcements for %s, they are built when needed: %s", link.name, error)

    def announce(self) -> None:
        """One round for every VIP, at once; a failure is logged and the next round comes anyway."""
        for vip in self.vips:
            link = self.links.get(vip.interface)
            if link is None:
                continue
            try:
                self._announcer.announce(vip, link)
                self._metrics.announced("garp" if vip.address.version == 4 else "na")
            except AnnounceError as error:
                log.warning("announcement failed: %s", error)

    def probe_addresses(self) -> None:
        self._spawn(self._probe_addresses())

    async def _probe_addresses(self) -> None:
        answers = await asyncio.gather(*(self._anybody(vip) for vip in self.vips))
        self._post(Probed(answered=True in answers, asked=None not in answers))

    async def _anybody(self, vip: Vip) -> bool | None:
        """Whether anybody answers for the VIP; None where the link cannot be asked."""
        link = self.links.get(vip.interface)
        if self.claims is None or link is None:
            return False
        try:
            return await self.claims.anybody(vip, link)
        except AnnounceError as error:
            log.warning("could not ask whether anybody bears %s: %s", vip, error)
            return None

    # ------------------------------------------------------------------------------------------ ENI

    def assign_eni(self, effect: AssignEni) -> None:
        self._spawn(self._assign_eni(effect))

    async def _assign_eni(self, effect: AssignEni) -> None:
        if self._mover is None:
            raise AssertionError("asked to move a mapping where no ENI is managed")
        mover, sent_at = self._mover, self.clock.now()

        async def one(eni: Eni, addresses: Sequence[Address]) -> Sequence[Assigned]:
            return await mover.assign(eni, addresses, right_until=self.right_until, previous=effect.previous)

        answers = await asyncio.gather(*(one(eni, a) for eni, a in self._by_eni(effect.addresses)))
        results = tuple(result for answer in answers for result in answer)
        self._metrics.assigned(results, self.clock.now() - sent_at)
        self._post(EniAnswered(key=effect.key, results=results, sent_at=sent_at))

    def read_mapping(self) -> None:
        self._spawn(self._read_mapping())

    async def _read_mapping(self) -> None:
        if self._reader is None:
            raise AssertionError("asked for a mapping where no ENI is managed")
        reader, asked_at = self._reader, self.clock.now()
        groups = self._by_eni([vip.address for vip in self.vips])
        answers = await asyncio.gather(*(reader.read(eni, a, timeout_s=MAPPING_TIMEOUT_S) for eni, a in groups))
        mapping: dict[Address, Mapped] = {}
        for answer in answers:
            mapping.update(answer)
        self._metrics.mapping_read(mapping)
        self._post(MappingSeen(mapping=mapping, asked_at=asked_at))

    def _by_eni(self, addresses: Sequence[Address]) -> list[tuple[Eni, list[Address]]]:
        groups: dict[str, tuple[Eni, list[Address]]] = {}
        for vip in self.vips:
            if vip.address in addresses:
                eni = self._enis[vip.interface]
                groups.setdefault(eni.id, (eni, []))[1].append(vip.address)
        return list(groups.values())
