"""The application of the lab's pods: UDP echo that answers from the address it was asked at, with its node's name.

    python -m vipd.lab.responder --name a --port 7000

Imports next to nothing: it starts at once and costs little beside what is measured.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_RCVBUF = 4 << 20
"""Bytes.  What waited for the answer to an ARP request comes all at once, beside the probes of other addresses."""

_BATCH = 64
"""Datagrams taken from one socket before the other one is looked at again."""


def sockets(port: int) -> tuple[socket.socket, socket.socket]:
    """UDP sockets for IPv4 and IPv6 that tell the address each packet was sent to."""
    four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    four.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    four.bind(("0.0.0.0", port))
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    six.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    six.bind(("::", port))
    for sock in (four, six):
        sock.setblocking(False)
        roomy(sock)
    return four, six


def roomy(sock: socket.socket) -> None:
    """Have room for a second of probes, where the kernel allows it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)


def reply_info(sock: socket.socket, ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The control message that makes the answer come from the address that was asked."""
    for level, kind, data in ancillary:
        if sock.family == socket.AF_INET and (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            # struct in_pktinfo: interface, local address, address in the header (ip(7)).
            _, _, asked = struct.unpack("=i4s4s", data[:12])
            return [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, asked, b"\0\0\0\0"))]
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, data[:16] + struct.pack("=i", 0))]
    return []


def answer(sock: socket.socket, name: bytes) -> None:
    """Echo what is queued, with the name appended."""
    for _ in range(_BATCH):
        try:
            data, ancillary, _, peer = sock.recvmsg(128, 256)
        except BlockingIOError:
            return
        try:
            sock.sendmsg([data[:8], name], reply_info(sock, ancillary), 0, peer)
        except OSError as error:
            # The address left between question and answer: nobody answers, as it should be.
            print(f"responder: {error}", file=sys.stderr)


def main(arguments: list[str]) -> None:
    """Answer until killed."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    name = options["--name"].encode()
    pair = sockets(int(options["--port"]))
    print("ready", flush=True)
    while True:
        for sock in select.select(pair, [], [])[0]:
            answer(sock, name)


if __name__ == "__main__":
    main(sys.argv[1:])
