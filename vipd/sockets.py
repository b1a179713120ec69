"""What the clients of the Kubernetes API and of EC2 want of their sockets."""

from __future__ import annotations

import socket
import struct

_ON_AT_ONCE = struct.pack("ii", 1, 0)


def forget_when_closed(sock: socket.socket) -> None:
    """Have the kernel forget, when the socket is closed, what it has not delivered yet (SO_LINGER of 0 s, socket(7)).

    Whoever gives up on an answer closes the connection, and so does a process that ends.  Else the kernel goes on
    sending (tcp(7), tcp_orphan_retries), and a request that got no answer because the way was cut arrives when the way
    is back: after the right to send it has ended, or after the next process has said otherwise.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ON_AT_ONCE)
