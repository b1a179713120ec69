"""The default routes of the main routing table, by which a pod's primary interface is told from its others.

Only that table and only unicast routes: the kernel leaves out the rest of the dump (NETLINK_GET_STRICT_CHK), so that
a node's local and broadcast routes cost nothing, and ``unreachable default`` is no way out.
"""

from __future__ import annotations

import errno
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from vipd.link.netlink import dump

_MAIN, _UNICAST = 254, 1
"""RT_TABLE_MAIN and RTN_UNICAST (linux/rtnetlink.h)."""


async def default_routes(ipr: AsyncIPRoute, family: int) -> frozenset[int]:
    """The indexes of all interfaces that default routes of this family lead out of, every path of a multipath one."""
    query = rtmsg()
    query["family"], query["table"], query["type"] = family, _MAIN, _UNICAST
    try:
        routes = await dump(ipr, query, RTM_GETROUTE)
    except NetlinkError as error:
        if error.code == errno.ENOENT:
            return frozenset()  # the IPv4 table comes into being with its first route
        raise
    return frozenset(index for route in routes if _is_default(route) for index in _ways_out(route))


def _is_default(route: Any) -> bool:
    # A kernel older than 4.20 knows no strict checking and sends everything.
    return bool(route["dst_len"] == 0 and route["type"] == _UNICAST and route.get_attr("RTA_TABLE") == _MAIN)


def _ways_out(route: Any) -> list[int]:
    paths = [path["oif"] for path in route.get_attr("RTA_MULTIPATH") or ()]
    index = route.get_attr("RTA_OIF")
    return paths if index is None else [index, *paths]
