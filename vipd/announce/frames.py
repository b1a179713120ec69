"""The frames that tell neighbours where a VIP is, built with scapy.

Run as a program it prints frames as JSON: a sidecar has them built by a short-lived child, so that it does not carry
scapy's memory (~58 MB) for its whole life.

    python -m vipd.announce.frames 10.0.1.100 02:00:00:00:01:0a [ADDRESS MAC ...]
"""

from __future__ import annotations

import json
import logging
import sys

from vipd.core.model import Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
"""Where IPv6 multicast to all nodes goes on Ethernet (RFC 2464, section 7)."""


def announcement(address: Address, mac: str) -> tuple[bytes, ...]:
    """The frames of one round for ``address`` at ``mac``.

    IPv4: a gratuitous ARP request and reply, both broadcast (RFC 5944, section 4.6: some stacks update their caches
    from one only; RFC 5227, section 3, prefers the request).  Sender and target protocol address are the VIP.
    IPv6: an unsolicited neighbour advertisement to all nodes with the override flag (RFC 4861, section 7.2.6).
    """
    # scapy warns about missing routes and reads none that matter here.
    logging.getLogger("scapy").setLevel(logging.ERROR)
    return _garp(str(address), mac) if address.version == 4 else _unsolicited_na(str(address), mac)


def _garp(address: str, mac: str) -> tuple[bytes, ...]:
    from scapy.layers.l2 import ARP, Ether

    ethernet = Ether(src=mac, dst=BROADCAST)
    request = ethernet / ARP(op=1, hwsrc=mac, psrc=address, hwdst="00:00:00:00:00:00", pdst=address)
    # RFC 5944: in a gratuitous reply the target hardware address is the sender's.
    reply = ethernet / ARP(op=2, hwsrc=mac, psrc=address, hwdst=mac, pdst=address)
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
    from ipaddress import ip_address

    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    print(json.dumps([[f.hex() for f in announcement(ip_address(a), mac)] for a, mac in pairs]))


if __name__ == "__main__":
    main(sys.argv[1:])
