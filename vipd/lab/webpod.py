"""The application behind the lab's NodePort: HTTP, one answer a connection, with its node's name.

    python -m vipd.lab.webpod --name a --address 10.244.1.2 --port 8080

Imports next to nothing: it starts at once and costs little beside what is measured.
"""

from __future__ import annotations

import selectors
import socket
import sys

BACKLOG = 256
MAX_REQUEST = 4096


class Server:
    """Reads a request's head, answers, and closes."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        body = name.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._answer = head.encode() + body
        self._sock = sock
        self._selector = selectors.DefaultSelector()
        self._heads: dict[socket.socket, bytes] = {}
        self._selector.register(sock, selectors.EVENT_READ)

    def run(self) -> None:
        """Until killed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._sock:
                    self._accept()
                else:
                    self._read(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except OSError:
            # Reset before it was accepted: the client tells.
            return
        connection.setblocking(False)
        self._heads[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(MAX_REQUEST)
        except OSError:
            data = b""
        head = self._heads[connection] = self._heads[connection] + data
        if data and b"\r\n\r\n" not in head and len(head) < MAX_REQUEST:
            return
        if b"\r\n\r\n" in head:
            try:
                connection.send(self._answer)
            except OSError as error:
                print(f"webpod: {error}", file=sys.stderr)
        self._selector.unregister(connection)
        del self._heads[connection]
        connection.close()


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    sock = socket.create_server((options["--address"], int(options["--port"])), backlog=BACKLOG)
    sock.setblocking(False)
    print("ready", flush=True)
    Server(sock, options["--name"]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
