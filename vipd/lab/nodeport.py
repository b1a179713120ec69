"""What kube-proxy does for a NodePort, on a lab's node: packets for any of its addresses at that port go to a pod.

The same decision as kube-proxy's for all addresses of the node (``fib daddr type local``), in nftables, by netlink:
no program has to be installed for it.  Numbers are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable

_NETLINK_NETFILTER = 12
_BATCH_BEGIN, _BATCH_END, _NEWTABLE, _NEWCHAIN, _NEWRULE = 0x10, 0x11, 0xA00, 0xA03, 0xA06
_SUBSYSTEM = 10
_REQUEST, _ACK, _CREATE, _APPEND = 0x01, 0x04, 0x400, 0x800
_NESTED = 0x8000
_IPV4 = 2
_DSTNAT = -100
"""The priority of destination NAT."""

TABLE, CHAIN = b"nodeports\0", b"prerouting\0"


def forward(node_port: int, pod: str, pod_port: int) -> None:
    """Have TCP to ``node_port`` of every IPv4 address of this namespace answered by the pod.  Raises OSError."""
    chain = [
        _attribute(1, TABLE),
        _attribute(3, CHAIN),
        _nest(4, [_number(1, 0), _number(2, _DSTNAT)]),
        _attribute(7, b"nat\0"),
    ]
    rule = [_attribute(1, TABLE), _attribute(2, CHAIN), _nest(4, _expressions(node_port, pod, pod_port))]
    _send([(_NEWTABLE, [_attribute(1, TABLE)]), (_NEWCHAIN, chain), (_NEWRULE, rule)])


def _expressions(node_port: int, pod: str, pod_port: int) -> list[bytes]:
    """``fib daddr type local tcp dport PORT dnat to POD:PORT``."""
    local, tcp = struct.pack("=I", 2), bytes([socket.IPPROTO_TCP])
    return [
        _expression("fib", [_number(1, 1), _number(2, 3), _number(3, 2)]),
        _expression("cmp", [_number(1, 1), _number(2, 0), _data(3, local)]),
        _expression("meta", [_number(1, 1), _number(2, 16)]),
        _expression("cmp", [_number(1, 1), _number(2, 0), _data(3, tcp)]),
        _expression("payload", [_number(1, 1), _number(2, 2), _number(3, 2), _number(4, 2)]),
        _expression("cmp", [_number(1, 1), _number(2, 0), _data(3, struct.pack("!H", node_port))]),
        _expression("immediate", [_number(1, 1), _data(2, socket.inet_aton(pod))]),
        _expression("immediate", [_number(1, 2), _data(2, struct.pack("!H", pod_port))]),
        _expression("nat", [_number(1, 1), _number(2, _IPV4), _number(3, 1), _number(5, 2)]),
    ]


def _expression(name: str, attributes: Iterable[bytes]) -> bytes:
    return _nest(1, [_attribute(1, name.encode() + b"\0"), _nest(2, attributes)])


def _data(kind: int, value: bytes) -> bytes:
    return _nest(kind, [_attribute(1, value)])


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!i", value))


def _nest(kind: int, attributes: Iterable[bytes]) -> bytes:
    return _attribute(kind | _NESTED, b"".join(attributes))


def _attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute: its length, its type, its value padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, number: int, family: int, resource: int, body: bytes) -> bytes:
    head = struct.pack("=BBH", family, 0, socket.htons(resource))
    return struct.pack("=IHHII", 16 + len(head) + len(body), kind, _REQUEST | flags, number, 0) + head + body


def _send(messages: list[tuple[int, list[bytes]]]) -> None:
    """All of them as one transaction; each is answered."""
    parts = [_message(_BATCH_BEGIN, 0, 0, 0, _SUBSYSTEM, b"")]
    parts += [
        _message(kind, _ACK | _CREATE | _APPEND, number, _IPV4, 0, b"".join(body))
        for number, (kind, body) in enumerate(messages, 1)
    ]
    parts.append(_message(_BATCH_END, 0, 0, 0, _SUBSYSTEM, b""))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.settimeout(2.0)
        sock.bind((0, 0))
        sock.send(b"".join(parts))
        for _ in messages:
            answer = sock.recv(8192)
            # struct nlmsgerr: 0, or the negative of an errno.
            error = -struct.unpack_from("=i", answer, 16)[0]
            if error:
                raise OSError(error, f"nftables: {os.strerror(error)}")
