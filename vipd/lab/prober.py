"""The lab's client: a numbered UDP probe to each VIP every 2 ms, and who answered when.

    python -m vipd.lab.prober --target 10.0.1.100 --port 7000 --interval-ms 2

Streams lines ``target sequence sent_at answered_at who`` (CLOCK_BOOTTIME seconds; ``-`` for what did not come within a
second) in the order of sending, so a probe that is still open holds back the lines after it for a second at most.

Probes are due at fixed moments, so that they do not drift.  When the machine holds the prober up, it catches up on what
it missed; after more than ``STALL_S`` it skips that and writes ``stall from until``: a busy machine must not look like
a lost VIP.  Answers that had come by the time it was woken still count, however late it reads them.
"""

from __future__ import annotations

import select
import signal
import socket
import struct
import sys
import time
from collections import deque

from vipd.lab.responder import roomy

TIMEOUT_S = 1.0
"""An answer that takes longer counts as none."""

STALL_S = 0.03
"""A probe that would be sent later than this was held up by the machine, and is skipped."""

LATE_S = 0.3
"""How long answers are waited for after SIGTERM."""

FLUSH_S = 0.02
_HEADER = struct.Struct("!Q")


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Probe:
    """One numbered probe on its way."""

    __slots__ = ("answered_at", "number", "sent_at", "who")

    def __init__(self, number: int, sent_at: float) -> None:
        self.number = number
        self.sent_at = sent_at
        self.answered_at: float | None = None
        self.who = "-"

    def line(self, target: str) -> str:
        answered = "-" if self.answered_at is None else f"{self.answered_at:.6f}"
        return f"{target} {self.number} {self.sent_at:.6f} {answered} {self.who}"


class Target:
    """One VIP: its socket, and the probes that are still open."""

    def __init__(self, address: str, port: int) -> None:
        self.name = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        roomy(self.sock)
        self.peer = (address, port)
        self.source = socket.inet_ntop(family, socket.inet_pton(family, address))
        self.open: deque[Probe] = deque()
        self.by_number: dict[int, Probe] = {}

    def send(self, number: int) -> None:
        probe = Probe(number, now())
        self.open.append(probe)
        self.by_number[number] = probe
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
            if len(data) < _HEADER.size or peer[0] != self.source:
                continue  # an answer from another address is none: a connected client would not take it
            probe = self.by_number.get(_HEADER.unpack_from(data)[0])
            if probe is not None and probe.answered_at is None:
                probe.answered_at = now()
                probe.who = data[_HEADER.size :].decode(errors="replace") or "-"

    def settled(self, *, all_of_them: bool = False) -> list[str]:
        """Lines of the probes at the head that were answered or have timed out."""
        lines = []
        limit = now() - TIMEOUT_S
        while self.open:
            probe = self.open[0]
            if probe.answered_at is None and probe.sent_at > limit and not all_of_them:
                break
            self.open.popleft()
            del self.by_number[probe.number]
            lines.append(probe.line(self.name))
        return lines


def probe(targets: list[Target], interval_s: float) -> None:
    """Probe until SIGTERM, then wait a moment for late answers."""
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    # Ctrl-C reaches the whole group; the lab ends its prober itself, after the last answers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        receive(targets, max(0.0, due - now()))
        # After receiving: what waited in the socket while the prober was held up has not timed out.
        if at >= flush_at:
            flush_at = at + FLUSH_S
            flush(targets)
    deadline = now() + LATE_S
    while now() < deadline:
        receive(targets, 0.05)
    flush(targets, all_of_them=True)


def receive(targets: list[Target], wait_s: float) -> None:
    readable, _, _ = select.select([target.sock for target in targets], [], [], wait_s)
    for target in targets:
        if target.sock in readable:
            target.receive()


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
