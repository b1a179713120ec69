"""The right to act bounds every attempt: what is sent, what is waited for, and what a hung EC2 can hold up."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import subprocess
import sys
import time

import pytest
from aiohttp import web
from aws_servers import Scripted, ec2_done, ec2_error, now

from vipd.aws.ec2 import Ec2
from vipd.aws.mover import Ec2Mover
from vipd.core.model import AssignVerdict, Eni

V = AssignVerdict
VIP4 = ipaddress.ip_address("10.0.1.100")
VIP6 = ipaddress.ip_address("fd00:10:0:1::100")
MINE = Eni(id="eni-0000000000000000a", mac="02:00:00:00:01:0a")
pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
async def mover(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> Ec2Mover:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    mover = Ec2Mover(Ec2("us-east-2"))
    await mover.warm()
    return mover


async def action_of(request: web.Request) -> str:
    return str((await request.post())["Action"])


async def obey(request: web.Request) -> web.Response:
    return ec2_done(await action_of(request))


async def test_within_the_right_an_attempt_is_one_request(mover: Ec2Mover, scripted: Scripted) -> None:
    scripted.handler = obey
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert outcome.verdict is V.OK
    assert scripted.requests == ["AssignPrivateIpAddresses"]


async def test_after_the_right_nothing_is_sent(mover: Ec2Mover, scripted: Scripted) -> None:
    outcomes = await mover.assign(MINE, [VIP4, VIP6], right_until=lambda: now() - 0.001)
    assert [o.verdict for o in outcomes] == [V.RIGHT_OVER, V.RIGHT_OVER]
    await asyncio.sleep(0.1)
    assert scripted.requests == []


async def test_the_end_of_the_right_ends_the_wait_and_says_that_the_call_may_still_land(
    mover: Ec2Mover, scripted: Scripted
) -> None:
    async def late(request: web.Request) -> web.Response:
        await asyncio.wait_for(scripted.hold.wait(), 2)
        return await obey(request)

    scripted.handler = late
    end = now() + 0.3
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: end)
    assert 0 <= now() - end < 1.5
    assert outcome.verdict is V.RIGHT_OVER
    assert "may still be applied" in outcome.detail


async def test_a_right_that_moves_on_is_waited_for(mover: Ec2Mover, scripted: Scripted) -> None:
    async def late(request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return await obey(request)

    scripted.handler = late
    end = now() + 0.2

    def renewed() -> None:
        nonlocal end
        end = now() + 5

    asyncio.get_running_loop().call_later(0.1, renewed)
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: end)
    assert outcome.verdict is V.OK


async def test_a_right_voided_at_once_ends_the_wait_at_once(mover: Ec2Mover, scripted: Scripted) -> None:
    async def never(request: web.Request) -> web.Response:
        await scripted.hold.wait()
        return await obey(request)

    scripted.handler = never
    end, started = now() + 30, now()

    def void() -> None:
        nonlocal end
        end = 0.0

    asyncio.get_running_loop().call_later(0.1, void)
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: end)
    assert outcome.verdict is V.RIGHT_OVER
    assert now() - started < 5


async def test_the_second_request_of_an_ipv6_move_is_not_sent_after_the_right(
    mover: Ec2Mover, scripted: Scripted
) -> None:
    async def late(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return await obey(request)

    scripted.handler = late
    renewed = False

    def right() -> float:
        return now() + (30 if renewed or not scripted.requests else -1)

    (outcome,) = await mover.assign(MINE, [VIP6], right_until=right, previous=frozenset({"eni-b"}))
    assert outcome.verdict is V.RIGHT_OVER
    # A new tenure's right must not wake what the old attempt had left to do.
    renewed = True
    await asyncio.sleep(0.4)
    assert scripted.requests == ["UnassignIpv6Addresses"]


async def test_a_cancelled_attempt_sends_nothing_more(mover: Ec2Mover, scripted: Scripted) -> None:
    async def late(request: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return await obey(request)

    scripted.handler = late
    attempt = asyncio.create_task(
        mover.assign(MINE, [VIP6], right_until=lambda: now() + 30, previous=frozenset({"eni-b"}))
    )
    await asyncio.sleep(0.1)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.sleep(0.4)
    assert scripted.requests == ["UnassignIpv6Addresses"]


async def test_a_right_that_ends_while_connecting_lets_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            received.append(await reader.read(100))
        except ConnectionResetError:
            received.append(b"")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://127.0.0.1:{port}")
    mover = Ec2Mover(Ec2("us-east-2"))
    await mover.warm()
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: (time.sleep(0.3), connect(self, to))[1])
    end = now() + 0.15
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: end)
    assert outcome.verdict is V.RIGHT_OVER
    await asyncio.sleep(0.4)
    assert received == [b""], "connected, and closed without a byte"
    server.close()
    await server.wait_closed()


async def test_a_hung_call_does_not_hold_up_the_next(mover: Ec2Mover, scripted: Scripted) -> None:
    async def never(request: web.Request) -> web.Response:
        await scripted.hold.wait()
        return await obey(request)

    scripted.handler = never
    end = now() + 0.1
    assert (await mover.assign(MINE, [VIP4], right_until=lambda: end))[0].verdict is V.RIGHT_OVER
    scripted.handler = obey
    started = now()
    assert (await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5))[0].verdict is V.OK
    assert now() - started < 1


async def test_too_many_hung_calls_are_not_piled_up_further(mover: Ec2Mover, scripted: Scripted) -> None:
    async def never(request: web.Request) -> web.Response:
        await scripted.hold.wait()
        return await obey(request)

    scripted.handler = never
    for sent in range(15):
        # The right is voided as soon as the request has arrived.
        await mover.assign(
            MINE, [VIP4], right_until=lambda sent=sent: now() + (5 if len(scripted.requests) <= sent else 0)
        )
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert (outcome.verdict, outcome.code) == (V.RETRY, "too-many-open-calls")


async def test_what_is_no_answer_of_ec2_is_retried(mover: Ec2Mover, scripted: Scripted) -> None:
    async def proxy_page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>log in first", content_type="text/html")

    scripted.handler = proxy_page
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert outcome.verdict is V.RETRY


async def test_one_attempt_is_one_request_even_when_ec2_throttles(mover: Ec2Mover, scripted: Scripted) -> None:
    async def throttle(_request: web.Request) -> web.Response:
        return ec2_error("RequestLimitExceeded", status=503)

    scripted.handler = throttle
    (outcome,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert (outcome.verdict, outcome.code) == (V.THROTTLED, "RequestLimitExceeded")
    assert scripted.requests == ["AssignPrivateIpAddresses"]


async def test_a_proxy_in_the_environment_is_not_used_for_a_plain_http_endpoint(
    mover: Ec2Mover, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    scripted.handler = obey
    fresh = Ec2Mover(Ec2("us-east-2"))
    assert (await fresh.assign(MINE, [VIP4], right_until=lambda: now() + 5))[0].verdict is V.OK


def test_a_hung_call_does_not_keep_the_process_from_ending(silence_process: str) -> None:
    script = (
        "import asyncio, ipaddress, time\n"
        "from vipd.aws.ec2 import Ec2\nfrom vipd.aws.mover import Ec2Mover\nfrom vipd.core.model import Eni\n"
        "async def main():\n"
        "    mover = Ec2Mover(Ec2('us-east-2', read_timeout_s=60))\n"
        "    await mover.warm()\n"
        "    end = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.2\n"
        "    vip = ipaddress.ip_address('10.0.1.100')\n"
        "    got = await mover.assign(Eni('eni-a', ''), [vip], right_until=lambda: end)\n"
        "    print(got[0].verdict, got[0].detail)\n"
        "asyncio.run(main())\n"
    )
    env = {
        "AWS_ENDPOINT_URL_EC2": silence_process,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_CONFIG_FILE": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=20)
    assert done.stdout.startswith("right-over"), done.stderr
    assert "under way" in done.stdout


@pytest.fixture
def silence_process() -> object:
    """A listening socket that nobody ever reads from."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
