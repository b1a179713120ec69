"""Whether this network namespace bears an address at this very moment, asked without privileges and from any thread.

A process that was frozen, or a thread that waited for a connection, may know of an address that has left meanwhile.
The kernel knows: it lets a socket be bound to addresses of its own only (ip(7), ipv6(7): EADDRNOTAVAIL).
"""

from __future__ import annotations

import errno
import socket

from vipd.core.model import Address


def bears(address: Address) -> bool:
    """False where it is not here (or still tentative); True too where that cannot be told (ip_nonlocal_bind)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
