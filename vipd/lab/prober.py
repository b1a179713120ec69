"""The lab's client: a numbered UDP probe to each VIP every 2 ms, and who answered when.

    python -m vipd.lab.prober --target 10.0.1.100 --port 7000 --interval-ms 2

Streams lines ``target sequence sent_at answered_at who`` (CLOCK_BOOTTIME seconds; ``-`` for what did not come within a
second) in the order of sending.  When it was itself held up by the machine it skips the probes it could not send in
time and writes ``stall from until``, so that a busy machine does not look like a lost VIP.
"""

from __future__ import annotations

import select
import signal
import socket
import struct
import sys
import time
from collections import deque

TIMEOUT_S = 1.0
"""An answer that takes longer counts as none."""

STALL_S = 0.03
"""A probe that would be sent later than this was held up by the machine."""

FLUSH_S = 0.02
_HEADER = struct.Struct("!Q")


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Target:
    """One VIP: its socket, and the probes that are still open."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.peer = (address, port)
        self.open: deque[list[object]] = deque()
        self.by_number: dict[int, list[object]] = {}

    def send(self, number: int) -> None:
        sent_at = now()
        record: list[object] = [number, sent_at, None, ""]
        self.open.append(record)
        self.by_number[number] = record
        try:
            self.sock.sendto(_HEADER.pack(number), self.peer)
        except OSError:
            # Unreachable or no buffer: an unanswered probe, which is what it is.
            return

    def receive(self) -> None:
        while True:
            try:
                data, peer = self.sock.recvfrom(128)
            except BlockingIOError:
                return
            except OSError:
                continue  # a queued ICMP error; the probe stays unanswered
            at = now()
            if len(data) < 8 or peer[0] != self.address:
                continue
            record = self.by_number.get(_HEADER.unpack(data[:8])[0])
            if record is not None and record[2] is None:
                record[2] = at
                record[3] = data[8:].decode(errors="replace")

    def settled(self, *, all_of_them: bool = False) -> list[str]:
        """Lines of the probes at the head that were answered or have timed out."""
        lines = []
        limit = now() - TIMEOUT_S
        while self.open:
            number, sent_at, answered_at, who = self.open[0]
            assert isinstance(sent_at, float)
            if answered_at is None and sent_at > limit and not all_of_them:
                break
            self.open.popleft()
            self.by_number.pop(number, None)  # type: ignore[call-overload]
            answered = f"{answered_at:.6f}" if isinstance(answered_at, float) else "-"
            lines.append(f"{self.address} {number} {sent_at:.6f} {answered} {who or '-'}")
        return lines


def probe(targets: list[Target], interval_s: float) -> None:
    """Probe until SIGTERM, then wait a moment for late answers."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    socks = [t.sock for t in targets]
    number, due, flush_at = 0, now(), now() + FLUSH_S
    while not stop:
        at = now()
        if at >= due:
            if at - due > STALL_S:
                print(f"stall {due:.6f} {at:.6f}")
                due = at
            for target in targets:
                target.send(number)
            number += 1
            due += interval_s
        readable, _, _ = select.select(socks, [], [], max(0.0, due - now()))
        for target in targets:
            if target.sock in readable:
                target.receive()
        if at >= flush_at:
            flush_at = at + FLUSH_S
            flush(targets)
    deadline = now() + 0.3
    while now() < deadline:
        readable, _, _ = select.select(socks, [], [], 0.05)
        for target in targets:
            target.receive()
    flush(targets, all_of_them=True)


def flush(targets: list[Target], *, all_of_them: bool = False) -> None:
    lines = [line for target in targets for line in target.settled(all_of_them=all_of_them)]
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """The program."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    options = dict(pairs)
    port = int(options["--port"])
    targets = [Target(value, port) for key, value in pairs if key == "--target"]
    probe(targets, float(options.get("--interval-ms", "2")) / 1000)


if __name__ == "__main__":
    main(sys.argv[1:])
