"""What changes in this namespace, as the kernel tells it: addresses that go, links that change.  No polling.

Lost messages (ENOBUFS) and a broken socket are answered with ``MonitorResync``: look at the kernel again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import rtnl

from vipd.core.model import LinkState
from vipd.core.ports import AddressGone, LinkChanged, LinkEvent, MonitorResync

log = logging.getLogger("vipd.link")

_GROUPS = rtnl.RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
REOPEN_PAUSE_S = 0.2


def link_state(message: Any) -> LinkState:
    """An RTM_NEWLINK message as a value.

    Up means administratively up with carrier (IFF_LOWER_UP) and an operational state that is not down; ipvlan, macvlan
    and loopback often report the state UNKNOWN, which counts as up (operstates.rst).
    """
    flags = message["flags"]
    state = message.get("operstate") or "UNKNOWN"
    up = bool(flags & _IFF_UP) and bool(flags & _IFF_LOWER_UP) and state in ("UP", "UNKNOWN", "DORMANT")
    return LinkState(
        name=message.get("ifname"), index=message["index"], up=up, mac=(message.get("address") or "").lower()
    )


class LinkMonitor:
    """One netlink socket, subscribed to links and addresses."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    async def events(self) -> AsyncIterator[LinkEvent]:
        """For ever; closing the iterator closes the socket."""
        while True:
            ipr = AsyncIPRoute()
            try:
                await ipr.bind(groups=_GROUPS)
                await self._learn_names()
                yield MonitorResync()
                while True:
                    async for message in ipr.get():
                        for event in self._translate(message):
                            yield event
            except OSError as error:
                log.warning("the netlink monitor lost events (%s): looking at the kernel again", error)
                await asyncio.sleep(REOPEN_PAUSE_S)
            finally:
                ipr.close()

    async def _learn_names(self) -> None:
        async with AsyncIPRoute() as ipr:
            self._names = {m["index"]: m.get("ifname") async for m in await ipr.link("dump")}

    def _translate(self, message: Any) -> list[LinkEvent]:
        match message.get("event"):
            case "RTM_NEWLINK":
                state = link_state(message)
                before = self._names.get(state.index)
                self._names[state.index] = state.name
                renamed = before is not None and before != state.name
                gone: list[LinkEvent] = [LinkChanged(name=before, link=None)] if renamed and before else []
                return [*gone, LinkChanged(name=state.name, link=state)]
            case "RTM_DELLINK":
                name = self._names.pop(message["index"], message.get("ifname"))
                return [LinkChanged(name=name, link=None)]
            case "RTM_DELADDR":
                name = self._names.get(message["index"])
                address = ip_address(message.get("local") or message.get("address"))
                return [AddressGone(address=address, interface=name)] if name else []
            case _:
                return []
