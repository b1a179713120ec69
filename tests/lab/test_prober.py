"""The prober and the responder, over real sockets: what is lost, who answered, and what a busy machine does to it."""

from __future__ import annotations

import asyncio
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest

from vipd.lab.netns import Namespace
from vipd.lab.probes import ProbeLog

VIP4, VIP6 = "10.0.1.100", "fd00:10:0:1::100"
PORT = 7000
LO = 1


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Bench:
    """A namespace with the VIPs on its lo, in which responders and a prober run."""

    def __init__(self) -> None:
        self.space = Namespace("probes")
        self._running: list[asyncio.subprocess.Process] = []

    async def vip(self, address: str, *, there: bool) -> None:
        length = 128 if ":" in address else 32
        await self.space.ipr.addr("add" if there else "del", index=LO, address=address, prefixlen=length)

    async def responder(self, name: str) -> asyncio.subprocess.Process:
        process = await self._python("vipd.lab.responder", "--name", name, "--port", str(PORT))
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 10) == b"ready\n"
        return process

    async def prober(self, *targets: str) -> asyncio.subprocess.Process:
        """A prober that has sent its first probes."""
        pairs = [word for target in targets for word in ("--target", target)]
        process = await self._python("vipd.lab.prober", *pairs, "--port", str(PORT), "--interval-ms", "2")
        assert process.stdout is not None
        self._first = await asyncio.wait_for(process.stdout.readline(), 10)
        return process

    async def logs(self, prober: asyncio.subprocess.Process) -> dict[str, ProbeLog]:
        """End the prober, and what it has written."""
        prober.send_signal(signal.SIGTERM)
        rest, _ = await asyncio.wait_for(prober.communicate(), 10)
        assert prober.returncode == 0
        return parsed((self._first + rest).decode().splitlines())

    async def _python(self, module: str, *arguments: str) -> asyncio.subprocess.Process:
        process = await self.space.spawn([sys.executable, "-m", module, *arguments], stdout=asyncio.subprocess.PIPE)
        self._running.append(process)
        return process

    async def close(self) -> None:
        for process in self._running:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        await self.space.close()


def parsed(lines: Sequence[str]) -> dict[str, ProbeLog]:
    logs: dict[str, ProbeLog] = {}
    stalls = []
    for line in lines:
        target, _, rest = line.partition(" ")
        if target == "stall":
            stalls.append(rest)
        else:
            logs.setdefault(target, ProbeLog(target)).add(rest)
    for log in logs.values():
        for stall in stalls:
            log.stalled(stall)
    return logs


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.space.start()
    for address in (VIP4, VIP6):
        await bench.vip(address, there=True)
    yield bench
    await bench.close()


async def test_every_probe_to_a_vip_that_is_there_is_answered_in_both_families_at_a_steady_rate(bench: Bench) -> None:
    await bench.responder("a")
    prober = await bench.prober(VIP4, VIP6)
    start = now()
    await asyncio.sleep(1.0)
    end = now()
    logs = await bench.logs(prober)

    assert set(logs) == {VIP4, VIP6}
    for log in logs.values():
        window = log.window(start, end)
        assert window.lost == 0
        assert window.first_who == window.last_who == "a"
        stalled = sum(until - since for since, until in log.stalls)
        assert window.sent == pytest.approx((end - start - stalled) * 500, rel=0.05)
        steps = [later.sent_at - one.sent_at for one, later in pairwise(log.between(start, end))]
        assert statistics.median(steps) == pytest.approx(0.002, rel=0.25)


async def test_an_address_that_is_away_costs_its_probes_and_the_log_tells_who_took_over(bench: Bench) -> None:
    first = await bench.responder("a")
    prober = await bench.prober(VIP4, VIP6)
    start = now()
    await asyncio.sleep(0.2)
    await bench.vip(VIP4, there=False)
    gone_at = now()
    await asyncio.sleep(0.3)
    first.kill()
    await first.wait()
    await bench.responder("b")
    await bench.vip(VIP4, there=True)
    back_at = now()
    await asyncio.sleep(0.3)
    end = now()
    log = (await bench.logs(prober))[VIP4]

    assert log.window(start, gone_at - 0.05).lost == 0
    assert log.window(back_at + 0.05, end).lost == 0
    window = log.window(start, end)
    away_s = back_at - gone_at
    assert window.gap_s == pytest.approx(away_s, abs=0.05)
    assert window.lost == pytest.approx(away_s * 500, rel=0.15)
    assert (window.first_who, window.last_who) == ("a", "b")


async def test_late_answers_count_until_a_second_has_passed(bench: Bench) -> None:
    responder = await bench.responder("a")
    prober = await bench.prober(VIP4)
    start = now()
    await asyncio.sleep(0.1)
    responder.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.3)
    responder.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.2)
    end = now()
    log = (await bench.logs(prober))[VIP4]

    assert log.window(start, end).lost == 0
    slowest = max(p.answered_at - p.sent_at for p in log.probes if p.answered_at is not None)
    assert 0.2 < slowest < 1.0


async def test_what_is_not_answered_within_a_second_is_lost_even_if_an_answer_comes(bench: Bench) -> None:
    responder = await bench.responder("a")
    prober = await bench.prober(VIP4)
    responder.send_signal(signal.SIGSTOP)
    stopped_at = now()
    await asyncio.sleep(1.3)
    responder.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.1)
    log = (await bench.logs(prober))[VIP4]

    too_old = log.between(stopped_at + 0.05, stopped_at + 0.25)
    assert too_old
    assert all(p.answered_at is None for p in too_old)


async def test_a_prober_that_was_held_up_says_so_and_counts_no_loss(bench: Bench) -> None:
    await bench.responder("a")
    prober = await bench.prober(VIP4)
    start = now()
    await asyncio.sleep(0.1)
    prober.send_signal(signal.SIGSTOP)
    held_at = now()
    await asyncio.sleep(0.3)
    prober.send_signal(signal.SIGCONT)
    freed_at = now()
    await asyncio.sleep(0.2)
    end = now()
    log = (await bench.logs(prober))[VIP4]

    assert any(since < held_at + 0.05 and until > freed_at - 0.05 for since, until in log.stalls)
    window = log.window(start, end)
    assert window.lost == 0
    assert window.gap_s < 0.1
    # It goes on at its pace and does not make up for the 150 probes that it missed.
    assert len(log.between(freed_at, freed_at + 0.05)) < 50


async def test_an_answer_from_another_address_is_none(bench: Bench) -> None:
    sock = bench.space.open(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", PORT))
    sock.setblocking(False)

    def echo() -> None:
        # Without IP_PKTINFO the kernel picks the source by the route back: 127.0.0.1, not the address asked.
        data, peer = sock.recvfrom(128)
        sock.sendto(data + b"liar", peer)

    asyncio.get_running_loop().add_reader(sock, echo)
    prober = await bench.prober("127.0.0.9")
    await asyncio.sleep(0.2)
    log = (await bench.logs(prober))["127.0.0.9"]
    asyncio.get_running_loop().remove_reader(sock)
    sock.close()

    assert len(log.probes) > 50
    assert all(p.answered_at is None for p in log.probes)


@pytest.mark.parametrize("address", [VIP4, VIP6, "127.0.0.9", "::1"])
async def test_the_responder_answers_from_the_address_it_was_asked_at(bench: Bench, address: str) -> None:
    await bench.responder("node-7")
    sock = bench.space.open(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    with sock:
        sock.sendto((41).to_bytes(8, "big"), (address, PORT))
        data, peer = sock.recvfrom(128)

    assert peer[:2] == (address, PORT)
    assert (int.from_bytes(data[:8], "big"), data[8:]) == (41, b"node-7")


@pytest.mark.parametrize("module", ["prober", "responder"])
def test_it_imports_nothing_that_costs_time(module: str) -> None:
    heavy = {"asyncio", "logging", "json", "ipaddress", "dataclasses", "pyroute2", "vipd.core"}
    code = f"import sys; old = set(sys.modules); import vipd.lab.{module}; print(*(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    loaded = set(done.stdout.split())
    assert f"vipd.lab.{module}" in loaded
    assert not loaded & heavy


def log_of(*probes: tuple[float, str], stalls: Sequence[tuple[float, float]] = ()) -> ProbeLog:
    log = ProbeLog(VIP4)
    for number, (sent_at, who) in enumerate(probes):
        log.add(f"{number} {sent_at} {sent_at + 0.0002 if who else '-'} {who or '-'}")
    for since, until in stalls:
        log.stalled(f"{since} {until}")
    return log


def steady(start: float, end: float, who: str) -> list[tuple[float, str]]:
    return [(start + 0.002 * n, who) for n in range(round((end - start) / 0.002))]


def test_without_a_loss_the_gap_is_the_interval() -> None:
    window = log_of(*steady(10, 11, "a")).window(10.1, 10.9)

    assert (window.sent, window.lost, window.first_who) == (400, 0, "a")
    assert window.gap_s == pytest.approx(0.002)


def test_the_gap_goes_from_the_last_answered_probe_to_the_next_one() -> None:
    log = log_of(*steady(10, 11, "a"), *steady(11, 11.5, ""), *steady(11.5, 12, "b"))
    window = log.window(10.9, 11.9)

    assert window.lost == 250
    assert window.gap_s == pytest.approx(0.502)
    assert window.gap_from == pytest.approx(10.998)
    assert (window.first_who, window.last_who) == ("a", "b")


def test_a_vip_that_never_answers_again_has_a_gap_to_the_end_of_the_window() -> None:
    log = log_of(*steady(10, 11, "a"), *steady(11, 14, ""))

    assert log.window(10.9, 14.0).gap_s == pytest.approx(3.002)


def test_a_stall_of_the_prober_is_no_gap() -> None:
    log = log_of(*steady(10, 11, "a"), *steady(11.5, 12, "a"), stalls=[(11.0, 11.5)])
    window = log.window(10.5, 11.9)

    assert window.lost == 0
    assert window.gap_s == pytest.approx(0.002)


def test_a_stall_in_the_middle_of_an_outage_does_not_shorten_it() -> None:
    down = [*steady(11, 11.2, ""), *steady(11.7, 12, "")]
    log = log_of(*steady(10, 11, "a"), *down, *steady(12, 13, "b"), stalls=[(11.2, 11.7)])

    assert log.window(10.5, 12.9).gap_s == pytest.approx(1.002)


def test_a_stall_at_the_edge_of_an_outage_is_left_out_of_it() -> None:
    log = log_of(*steady(10, 11, "a"), *steady(11.5, 12, ""), *steady(12, 13, "b"), stalls=[(11.0, 11.5)])

    assert log.window(10.5, 12.9).gap_s == pytest.approx(0.502)
