"""The ``ClaimWatch`` port over packet sockets: who else says that a VIP is his.

The kernel wakes the process for ARP packets and neighbour advertisements about the VIPs alone, and a storm of those
costs little: a bounded number is read, at bounded intervals, and what is left over the kernel drops.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import re
import socket
import struct
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

from vipd.announce import wire
from vipd.announce.bpf import Program, advertisements_of, arp_from, attach
from vipd.core.model import Address, AddressClaim, LinkState, Vip
from vipd.errors import AnnounceError

BATCH = 32
"""Frames read from one socket at a time."""

PAUSE_S = 0.02
"""Least time between two readings while listening: with BATCH the most that a storm can have read."""

REPEAT_S = 0.2
"""A claim of the same address by the same MAC is yielded again after this time."""

MACS = 8
"""The most MACs that are heard of for one address within REPEAT_S: a storm may bear a new one in each frame."""

QUESTIONS, ANSWER_S = 3, 0.1
"""How often ``anybody`` asks, and how long it waits after each question (seconds)."""

_MTU = 2048
"""No neighbour message is longer; one that is would be truncated here, and so be ignored."""

_ETHERNET = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_RECEIVES_NOTHING = 0
_FOR_US = (socket.PACKET_HOST, socket.PACKET_BROADCAST, socket.PACKET_MULTICAST)
"""Not outgoing frames, and none for other hosts: the kernel marks frames of foreign VLANs as such, too."""

_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_MULTICAST = 263, 1, 0
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_SIOCGIFADDR = 0x8915


class PacketClaims:
    """Sockets are opened for each call and closed with it (CAP_NET_RAW)."""

    async def listen(self, vips: Sequence[Vip], link: LinkState) -> AsyncGenerator[AddressClaim, None]:
        """Claims seen on this link from now on, until the generator is closed.

        ``vips``: those of this interface.  A claim is an ARP request or reply from the VIP (RFC 5227, section 2.4;
        probes, which come from 0.0.0.0, are none), or a neighbour advertisement for it.  What comes from, or speaks
        of, the MAC in ``link`` is none: bridges may bring back one's own frames, and ipvlan siblings share the MAC.
        Bounded: REPEAT_S, MACS.  VLAN-tagged frames are ignored.

        Raises AnnounceError where it cannot listen (no right, no such interface), and when the interface goes down
        or away later on: the caller decides whether and when to listen anew.  So does the caller when the interface
        has another MAC.
        """
        own, recent = link.mac, _Recent()
        with ExitStack() as stack:
            with _errors(f"listen for claims on {link.name}"):
                mac = _mac(link)
                socks = [stack.enter_context(s) for s in _sockets(link, [v.address for v in vips], but_from=mac)]
            watched = {vip.address for vip in vips}
            while True:
                await _readable(socks)
                with _errors(f"listen for claims on {link.name}"):
                    heard = [one for sock in socks for one in _take(sock)]
                now = asyncio.get_running_loop().time()
                for one in heard:
                    foreign = own not in (one.mac, one.source) and one.address in watched
                    if foreign and recent.fresh(one, now):
                        yield AddressClaim(address=one.address, interface=link.name, mac=one.mac)
                await asyncio.sleep(PAUSE_S)

    async def anybody(self, vip: Vip, link: LinkState) -> bool:
        """Whether anybody behind the link's own MAC answers for the VIP: True at once, False after 0.3 s.

        Children of one ENI share its MAC (ipvlan), and a VPC lets no other MAC send from it.  Answers with another MAC
        are the VPC's own: it answers for every mapped address, wherever that is.
        As in RFC 5227, section 2.1.1, whoever speaks as the VIP meanwhile bears it, too.  Raises AnnounceError.
        """
        with ExitStack() as stack:
            with _errors(f"ask for {vip}"):
                mac = _mac(link)
                [sock] = [stack.enter_context(s) for s in _sockets(link, [vip.address])]
                asking = wire.question(vip.address, mac=mac, sender=_own_address(vip, link))
            for _ in range(QUESTIONS):
                with _errors(f"ask for {vip}"):
                    sock.send(asking)
                if await _answered(sock, vip, link.mac):
                    return True
            return False


class _Recent:
    """Which claims were yielded within the last REPEAT_S."""

    def __init__(self) -> None:
        self._seen: dict[Address, dict[str, float]] = {}

    def fresh(self, heard: wire.Heard, now: float) -> bool:
        macs = {mac: at for mac, at in self._seen.get(heard.address, {}).items() if now - at < REPEAT_S}
        fresh = heard.mac not in macs and len(macs) < MACS
        if fresh:
            macs[heard.mac] = now
        self._seen[heard.address] = macs
        return fresh


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "no errno")
        hint = "; packet sockets need CAP_NET_RAW" if error.errno == errno.EPERM else ""
        raise AnnounceError(f"cannot {what}: {code}, {error.strerror}{hint}") from error


def _mac(link: LinkState) -> bytes:
    if not _ETHERNET.fullmatch(link.mac):
        raise AnnounceError(f"cannot listen on {link.name}: it has no Ethernet address ({link.mac or 'none'})")
    return bytes.fromhex(link.mac.replace(":", ""))


def _sockets(
    link: LinkState, addresses: Sequence[Address], *, but_from: bytes | None = None
) -> Iterator[socket.socket]:
    """One socket for each IP version among the addresses.

    Not one for all (ETH_P_ALL): that makes the kernel clone every frame that the interface sends.  Sockets for one
    protocol are shown only what arrives.
    """
    four = [address for address in addresses if address.version == 4]
    six = [address for address in addresses if address.version == 6]
    if four:
        yield _opened(link, wire.ETH_P_ARP, arp_from(four, but_from=but_from))
    if six:
        yield _opened(link, wire.ETH_P_IPV6, advertisements_of(six, but_from=but_from))


def _opened(link: LinkState, protocol: int, program: Program) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _RECEIVES_NOTHING)
    try:
        attach(sock, program)  # before it is bound: nothing unfiltered is ever queued
        if protocol == wire.ETH_P_IPV6:
            # Advertisements to all nodes; a card may drop the frames of a group that nobody joined (packet(7)).
            group = struct.pack("iHH8s", link.index, _PACKET_MR_MULTICAST, len(_ALL_NODES_MAC), _ALL_NODES_MAC)
            sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, group)
        sock.bind((link.name, protocol))
        if socket.if_nametoindex(link.name) != link.index:
            raise OSError(errno.ENODEV, f"{link.name} is another interface by now than the one with index {link.index}")
    except BaseException:
        sock.close()
        raise
    return sock


async def _readable(socks: Sequence[socket.socket]) -> None:
    """Return when one of the sockets has something.

    They are watched only meanwhile: the loop would turn without end on a socket whose reader is busy elsewhere.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    for sock in socks:
        loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        for sock in socks:
            loop.remove_reader(sock)


def _take(sock: socket.socket) -> list[wire.Heard]:
    """What was said in the next frames, at most BATCH.  Raises OSError."""
    heard = []
    for _ in range(BATCH):
        try:
            frame, address = sock.recvfrom(_MTU)
        except BlockingIOError:
            break
        said = wire.read(frame) if address[2] in _FOR_US else None
        if said is not None:
            heard.append(said)
    return heard


async def _answered(sock: socket.socket, vip: Vip, mac: str) -> bool:
    """Whether somebody speaks for the VIP within ANSWER_S."""
    try:
        async with asyncio.timeout(ANSWER_S):
            while True:
                await _readable([sock])
                with _errors(f"ask for {vip}"):
                    if any((said.address, said.mac) == (vip.address, mac) for said in _take(sock)):
                        return True
    except TimeoutError:
        return False


def _own_address(vip: Vip, link: LinkState) -> Address | None:
    """The interface's own address to ask from: its first IPv4 address, or its IPv6 link-local address; None without.

    ipvlan (L2) hands the answer of a sibling, which bears the same MAC, to the interface that bears the address it is
    sent to (ipvlan_addr_lookup): an answer to nobody, as ARP probes get it, ends at the parent.  And a solicitation
    from nobody would make a neighbour that is just checking the VIP for duplicates give it up (RFC 4862, 5.4.3).
    The VIP itself is never asked from: that would be a claim.
    """
    found = _first_ipv4(link) if vip.address.version == 4 else _link_local(link)
    return None if found == vip.address else found


def _first_ipv4(link: LinkState) -> IPv4Address | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("16s24x", link.name.encode()))
        except OSError:
            return None  # it has none (EADDRNOTAVAIL); whether it is there at all the packet socket knows
    return IPv4Address(answer[20:24])


def _link_local(link: LinkState) -> IPv6Address | None:
    """What the kernel itself would choose to send from on this link; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("ff02::1", 9, 0, link.index))
        except OSError:
            return None  # no address that is ready for use
        chosen = ip_address(sock.getsockname()[0].partition("%")[0])
    return chosen if isinstance(chosen, IPv6Address) and chosen.is_link_local else None
