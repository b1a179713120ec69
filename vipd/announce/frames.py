"""The frames that tell neighbours where a VIP is, built with scapy.

Run as a program it prints frames as JSON: a sidecar has them built by a short-lived child, so that it does not carry
scapy's memory (over 20 MB beside all else) for its whole life.

    python -m vipd.announce.frames 10.0.1.100 02:00:00:00:01:0a [ADDRESS MAC ...]
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address

from vipd.core.model import Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
"""Where IPv6 multicast to all nodes goes on Ethernet (RFC 2464, section 7)."""

_ARP_REQUEST, _ARP_REPLY = 1, 2


def announcement(address: Address, mac: str) -> tuple[bytes, ...]:
    """The frames of one round for ``address`` at ``mac``.

    IPv4: a gratuitous ARP request and reply, both broadcast, with the VIP as sender and target protocol address
    (RFC 5944, section 4.6, allows either, and some stacks update their caches from one only; RFC 5227, sections 2.3
    and 3, on why the request is the better one).
    IPv6: an unsolicited neighbour advertisement to all nodes with the override flag (RFC 4861, section 7.2.6).
    """
    with _home_hidden():
        _tame_scapy()
        return _garp(str(address), mac) if address.version == 4 else _unsolicited_na(str(address), mac)


@contextmanager
def _home_hidden() -> Iterator[None]:
    """scapy creates directories in the user's home as it is imported, and writes and reads pickles there."""
    names = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "/dev/null/none"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _tame_scapy() -> None:
    """Every field of the frames is given, so scapy need not read the routes, and has nothing to warn of."""
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    from scapy.config import conf

    conf.route_autoload = False
    conf.route6_autoload = False


def _garp(address: str, mac: str) -> tuple[bytes, ...]:
    from scapy.layers.l2 import ARP, Ether

    ethernet = Ether(src=mac, dst=BROADCAST)
    request = ethernet / ARP(op=_ARP_REQUEST, hwsrc=mac, psrc=address, hwdst="00:00:00:00:00:00", pdst=address)
    # RFC 5944, 4.6: a gratuitous reply has the sender's hardware address as target too.  Linux goes by that: any other
    # reply does not override an entry that changed within the last second (arp_is_garp).
    reply = ethernet / ARP(op=_ARP_REPLY, hwsrc=mac, psrc=address, hwdst=mac, pdst=address)
    return bytes(request), bytes(reply)


def _unsolicited_na(address: str, mac: str) -> tuple[bytes, ...]:
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import Ether

    frame = (
        Ether(src=mac, dst=ALL_NODES_MAC)
        / IPv6(src=address, dst=ALL_NODES, hlim=255)
        / ICMPv6ND_NA(R=0, S=0, O=1, tgt=address)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )
    return (bytes(frame),)


def main(arguments: list[str]) -> None:
    """Print ``[[frame, ...], ...]`` in hex for pairs of address and MAC."""
    # Where memory is short this child is to go, not the sidecar that waits for it (proc(5), oom_score_adj).
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    print(json.dumps([[f.hex() for f in announcement(ip_address(a), mac)] for a, mac in pairs]))


if __name__ == "__main__":
    main(sys.argv[1:])
