"""The lab's client of a NodePort: a new connection and one HTTP GET every 5 ms, and who answered when.

    python -m vipd.lab.httpprober --target 10.0.1.100 --port 30080 --interval-ms 5

Streams the lines of ``vipd.lab.prober``.  A request whose connection was reset is sent once more, as HTTP clients may
do with a GET (RFC 9110, 9.2.2): an address that moves cannot take connections along.
``again TARGET SENT_AT`` tells of it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from dataclasses import dataclass, field

from vipd.lab.prober import LATE_S, STALL_S, TIMEOUT_S, Probe, now

AT_ONCE = 400
"""Requests under way at most: those of two seconds."""


@dataclass(slots=True)
class Client:
    """Asks one target."""

    target: str
    port: int
    open: deque[tuple[Probe, asyncio.Task[None]]] = field(default_factory=deque)
    again: list[float] = field(default_factory=list)

    def send(self, number: int) -> None:
        """Begin a request."""
        probe = Probe(number, now())
        self.open.append((probe, asyncio.ensure_future(self._ask(probe))))

    async def _ask(self, probe: Probe) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for attempt in range(2):
                    try:
                        who = await self._get()
                    except (ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError):
                        if attempt:
                            return
                        self.again.append(probe.sent_at)
                        continue
                    probe.answered_at, probe.who = now(), who
                    return
        except (OSError, TimeoutError):
            # An unanswered request, which is what it is.
            return

    async def _get(self) -> str:
        """Who answers.  Raises OSError, and IncompleteReadError where the answer broke off."""
        reader, writer = await asyncio.open_connection(self.target, self.port)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {self.target}\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                return "-"
            return (await reader.read()).decode() or "-"
        finally:
            writer.transport.abort()

    def settled(self) -> list[str]:
        """Lines of the requests at the head that have ended."""
        lines = [f"again {self.target} {sent_at:.6f}" for sent_at in self.again]
        self.again.clear()
        while self.open and self.open[0][1].done():
            probe, task = self.open.popleft()
            task.result()
            lines.append(probe.line(self.target))
        return lines


def flush(clients: list[Client]) -> None:
    lines = [line for client in clients for line in client.settled()]
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


async def probe(clients: list[Client], interval_s: float) -> None:
    """Probe until SIGTERM, then wait a moment for late answers."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C reaches the whole group; the lab ends its prober itself, after the last answers.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    number, due = 0, now()
    while not stop.is_set():
        at = now()
        if at - due > STALL_S:
            print(f"stall {due:.6f} {at:.6f}")
            due = at
        for client in clients:
            if len(client.open) < AT_ONCE:
                client.send(number)
        number += 1
        due += interval_s
        flush(clients)
        await asyncio.sleep(max(0.0, due - now()))
    await asyncio.sleep(LATE_S)
    flush(clients)


def main(arguments: list[str]) -> None:
    """The program."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    options = dict(pairs)
    port = int(options["--port"])
    clients = [Client(value, port) for key, value in pairs if key == "--target"]
    asyncio.run(probe(clients, float(options.get("--interval-ms", "5")) / 1000))


if __name__ == "__main__":
    main(sys.argv[1:])
