"""One rtnetlink socket for requests: bounded in time, and with errors that say what was tried.

Dumps are filtered by the kernel (NETLINK_GET_STRICT_CHK), so that a node with hundreds of interfaces costs no more
than a pod, and taken again where the kernel says that they were disturbed (NLM_F_DUMP_INTR).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, nla, nlmsg
from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkError
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_SETLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from vipd.errors import LinkError

CALL_TIMEOUT_S = 1.0
"""For one operation as a whole.  The kernel answers within a millisecond; more means that it is not well."""

_DUMP_INTR = 0x10
_DUMP_ATTEMPTS = 3


class Netlink:
    """The socket is opened when first needed, in the network namespace of then, and anew after trouble."""

    def __init__(self) -> None:
        self._ipr: AsyncIPRoute | None = None
        self._turn = asyncio.Lock()
        """A netlink socket carries one dump at a time: a second one gets EBUSY."""

    @asynccontextmanager
    async def operation(self, what: str) -> AsyncIterator[AsyncIPRoute]:
        """The socket, for one operation of at most CALL_TIMEOUT_S.  Raises LinkError ("cannot ``what``: ...").

        The NetlinkError, where it was one, is the LinkError's ``__cause__``.
        """
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S), self._turn:
                if self._ipr is None:
                    self._ipr = AsyncIPRoute(strict_check=True, ext_ack=True)
                yield self._ipr
        except NetlinkError as error:
            raise LinkError(f"cannot {what}: {_text(error)}") from error
        except TimeoutError as error:
            # An answer that comes late must not be taken for another's.
            self.close()
            raise LinkError(f"cannot {what}: no answer from the kernel within {CALL_TIMEOUT_S:g} s") from error
        except (OSError, NetlinkDecodeError) as error:
            self.close()
            raise LinkError(f"cannot {what}: {error}") from error

    def close(self) -> None:
        """Give back the socket."""
        ipr, self._ipr = self._ipr, None
        if ipr is not None:
            ipr.close()


def _text(error: NetlinkError) -> str:
    """The errno's text, and the kernel's own words (extended ACK) where it gave some."""
    words = error.args[1] if len(error.args) > 1 else ""
    text = os.strerror(error.code)
    return text if words in ("", text) else f"{text} ({words})"


async def dump(ipr: AsyncIPRoute, query: nlmsg, kind: int) -> list[Any]:
    """Everything that the kernel answers to a request of type ``kind`` (RTM_GET...)."""
    for _ in range(_DUMP_ATTEMPTS):
        found = [m async for m in await ipr.nlm_request(query, kind, NLM_F_REQUEST | NLM_F_DUMP)]
        if not any(m["header"]["flags"] & _DUMP_INTR for m in found):
            break
    return found


async def addresses(ipr: AsyncIPRoute, *, index: int = 0, family: int = 0) -> list[Any]:
    """RTM_NEWADDR messages of one interface (0: of all) and one address family (0: both)."""
    query = ifaddrmsg()
    query["family"], query["index"] = family, index
    found = await dump(ipr, query, RTM_GETADDR)
    # A kernel older than 4.20 knows no strict checking and sends everything.
    return [m for m in found if index in (0, m["index"]) and family in (0, m["family"])]


async def links(ipr: AsyncIPRoute) -> list[Any]:
    """RTM_NEWLINK messages of all interfaces."""
    for _ in range(_DUMP_ATTEMPTS):
        found = [m async for m in await ipr.link("dump")]
        if not any(m["header"]["flags"] & _DUMP_INTR for m in found):
            break
    return found


class _Promotion(nlmsg):  # type: ignore[misc]
    """RTM_SETLINK with IFLA_AF_SPEC / AF_INET / IFLA_INET_CONF / IPV4_DEVCONF_PROMOTE_SECONDARIES (linux/ip.h).

    The sysctl of the same meaning cannot be written in most containers, whose /proc/sys is read-only; this needs no
    more than CAP_NET_ADMIN.  (Not a subclass of ifinfmsg: it would inherit the attribute table that pyroute2 compiled.)
    """

    prefix = "IFLA_"
    fields = ifinfmsg.fields
    nla_map = ((26, "IFLA_AF_SPEC", "spec"),)

    class spec(nla):  # type: ignore[misc]
        nla_map = ((2, "AF_INET", "inet"),)

        class inet(nla):  # type: ignore[misc]
            nla_map = ((1, "IFLA_INET_CONF", "conf"),)

            class conf(nla):  # type: ignore[misc]
                nla_map = ((20, "IPV4_DEVCONF_PROMOTE_SECONDARIES", "uint32"),)


async def promote_secondaries(ipr: AsyncIPRoute, index: int) -> None:
    """Turn on ``promote_secondaries`` for one interface (ip-sysctl.rst).

    Without it the end of a primary IPv4 address, by hand or at the end of its lifetime, takes all other addresses of
    its subnet along.
    """
    request = _Promotion()
    request["index"] = index
    conf = {"attrs": [["IFLA_INET_CONF", {"attrs": [["IPV4_DEVCONF_PROMOTE_SECONDARIES", 1]]}]]}
    request["attrs"] = [["IFLA_AF_SPEC", {"attrs": [["AF_INET", conf]]}]]
    async for _ in await ipr.nlm_request(request, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK):
        pass
