"""What changes in this namespace, as the kernel tells it: addresses that come and go, links that change.
No polling.

Lost messages (ENOBUFS) and a broken socket are answered with ``MonitorResync``: look at the kernel again.  So is what
cannot be understood: an address on an interface never heard of.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink import rtnl
from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkError

from vipd.core.model import LinkState
from vipd.core.ports import AddressCame, AddressGone, LinkChanged, LinkEvent, MonitorResync
from vipd.link.messages import address_of, link_state, local_address
from vipd.link.netlink import CALL_TIMEOUT_S, links

log = logging.getLogger("vipd.link")

_GROUPS = rtnl.RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR
_RCVBUF = 1 << 20
REOPEN_PAUSE_S = 0.2
"""Least time between two openings of the socket: the first trouble is answered at once, lasting trouble not hotly."""

_TROUBLE = (OSError, NetlinkError, NetlinkDecodeError, KeyError)
"""pyroute2 raises OSError for ENOBUFS, NetlinkError for other socket errors, and KeyError when bind() finds no free
port number (hostNetwork containers all have small process ids, which netlink ports are made of)."""


class LinkMonitor:
    """One netlink socket, subscribed to links and addresses; for one reader."""

    def __init__(self, *, rcvbuf: int = _RCVBUF) -> None:
        """``rcvbuf``: bytes the kernel may hold for this socket before it drops events."""
        self._rcvbuf = rcvbuf
        self._links: dict[int, LinkState] = {}

    async def events(self) -> AsyncGenerator[LinkEvent, None]:
        """For ever; the first one is MonitorResync.  Closing the generator closes the socket."""
        opened_at = -REOPEN_PAUSE_S
        while True:
            await asyncio.sleep(max(0.0, opened_at + REOPEN_PAUSE_S - time.monotonic()))
            opened_at = time.monotonic()
            ipr = AsyncIPRoute(rcvbuf=self._rcvbuf)
            try:
                await self._subscribe(ipr)
                yield MonitorResync()
                while True:
                    async for message in ipr.get():
                        for event in self._translate(message):
                            yield event
            except _TROUBLE as error:
                log.warning("the netlink monitor lost events (%s): looking at the kernel again", error)
            finally:
                ipr.close()

    async def _subscribe(self, ipr: AsyncIPRoute) -> None:
        # Bounded, because an overrun in the middle of the dump would leave it waiting for its rest.
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await ipr.bind(groups=_GROUPS)
            self._links = {state.index: state for state in map(link_state, await links(ipr))}

    def _translate(self, message: Any) -> Iterator[LinkEvent]:
        # Bridges tell of their ports in messages of the same types but family AF_BRIDGE; RTM_DELLINK means there that
        # the interface left the bridge, not that it is gone.
        event, family = message.get("event"), message.get("family")
        if event == "RTM_NEWLINK" and family == socket.AF_UNSPEC and message.get("ifname"):
            yield from self._changed(link_state(message))
        elif event == "RTM_DELLINK" and family == socket.AF_UNSPEC:
            known = self._links.pop(message["index"], None)
            yield LinkChanged(name=known.name if known else message.get("ifname"), link=None)
        elif event in ("RTM_NEWADDR", "RTM_DELADDR"):
            known = self._links.get(message["index"])
            if known is None:
                yield MonitorResync()
            elif event == "RTM_NEWADDR":
                yield AddressCame(local_address(message, known.name))
            else:
                yield AddressGone(address=address_of(message), interface=known.name)

    def _changed(self, state: LinkState) -> Iterator[LinkEvent]:
        before = self._links.get(state.index)
        self._links[state.index] = state
        if before is not None and before.name != state.name:
            yield LinkChanged(name=before.name, link=None)
        if before != state:
            yield LinkChanged(name=state.name, link=state)
