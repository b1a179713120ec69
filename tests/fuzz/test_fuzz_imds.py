"""Whatever IMDS, or something else at its address, answers: an ImdsError or "unknown", and "gone" only where said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest
from client_faults import FaultyApi, Request
from fuzzing import fuzz
from hostile import repeated
from hypothesis import given
from hypothesis import strategies as st

from vipd.aws.discovery import find_eni, find_region
from vipd.aws.imds import Imds, ImdsError
from vipd.aws.mapping import ImdsMapping
from vipd.core.model import Eni, Mapped
from vipd.errors import AwsError, VipdError

MAC = "02:00:00:00:01:0a"
ENI = Eni(id="eni-0000000000000000a", mac=MAC)
VIP4, VIP6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")
AT = f"/latest/meta-data/network/interfaces/macs/{MAC}/"
TOKEN = "/latest/api/token"

TRUTH = {
    TOKEN: b"token",
    "/latest/meta-data/placement/region": b"us-east-2",
    "/latest/meta-data/network/interfaces/macs/": f"{MAC}/".encode(),
    f"{AT}interface-id": ENI.id.encode(),
    f"{AT}device-number": b"1",
    f"{AT}vpc-id": b"vpc-1",
    f"{AT}subnet-ipv4-cidr-block": b"10.0.1.0/24",
    f"{AT}subnet-ipv6-cidr-blocks": b"fd00:10:0:1::/64",
    f"{AT}local-ipv4s": b"10.0.1.11\n10.0.1.100",
    f"{AT}ipv6s": b"fd00:10:0:1::100",
}


@dataclass(frozen=True)
class Answer:
    """One answer as bytes on the wire; ``cut`` bytes are missing at its end."""

    status: int
    body: bytes
    headers: str = ""
    cut: int = 0
    raw: bool = False

    async def play(self, request: Request) -> None:
        if self.raw:
            await request.send(self.body)
            request.cut()
            return
        head = f"HTTP/1.1 {self.status} X\r\n{self.headers}Content-Length: {len(self.body)}\r\n\r\n"
        whole = head.encode("utf-8", "replace") + self.body
        await request.send(whole[: len(whole) - self.cut] if self.cut else whole)
        if self.cut:
            # What is missing never comes, but nobody is to wait for it: FIN, not a silence.
            request.writer.close()


garbage = (
    st.binary(max_size=60)
    | st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace"))
    | st.sampled_from(
        [
            b"",
            b"\n",
            b"<html><body>Sign in</body></html>",
            b"fe80::1%eth0",
            b"fd00::1",
            b"10.0.1.999",
            b"10.0.1.11\n<html>",
            b"\xff\xfe1\x000\x00",
            b"02:00:00:00:01:0b",
            b"../../../x",
            b"tok\ren\n: x",
            "²".encode(),
            b"eni-0000000000000000b",
        ]
    )
    | repeated(("9", 5000), ("10.0.1.11\n", 20_000), ("x", 300_000)).map(str.encode)
)
headers = st.sampled_from(
    [
        "",
        "",
        "Content-Type: text/plain; charset=utf-16\r\n",
        "Content-Type: text/plain; charset=nope\r\n",
        "Content-Encoding: gzip\r\n",
        "Location: http://127.0.0.1:1/\r\n",
        "Location: http://[\r\n",
        "X: \u00ff\r\n",
    ]
)
answers = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 200, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 503, 999]),
    body=garbage,
    headers=headers,
    cut=st.sampled_from([0, 0, 0, 1, 7]),
    raw=st.sampled_from([False] * 7 + [True]),
)


@dataclass
class Metadata:
    """The truth, but for some paths."""

    lies: dict[str, Answer] = field(default_factory=dict)

    async def __call__(self, request: Request) -> None:
        lie = self.lies.get(request.path)
        if lie is not None:
            await lie.play(request)
        elif request.path in TRUTH:
            await request.answer(200, TRUTH[request.path])
        else:
            await request.answer(404, b"")


@asynccontextmanager
async def asking(lies: dict[str, Answer]) -> AsyncIterator[Imds]:
    server = FaultyApi(Metadata(lies))
    await server.start()
    # Time enough: an answer that never comes is another test's.
    imds = Imds(server.url, total_s=5.0)
    try:
        yield imds
    finally:
        await imds.close()
        await server.stop()


async def said(imds: Imds) -> dict[Any, Mapped]:
    return dict(await ImdsMapping(imds).read(ENI, (VIP4, VIP6), timeout_s=5.0))


liars = st.dictionaries(st.sampled_from(sorted(TRUTH)), answers, min_size=1, max_size=3)


def is_list(answer: Answer | None, version: int) -> bool:
    """Whether it is just what IMDS would say of an ENI without the VIP: then "gone" is the truth."""
    if answer is None or answer.raw or answer.cut or answer.status != 200:
        return False
    try:
        found = [ip_address(line) for line in answer.body.decode("ascii").split()]
    except ValueError:
        return False
    return all(a.version == version for a in found) and (bool(found) or version == 6)


@fuzz(150)
@given(liars)
def test_garbage_is_unknown_and_never_gone(lies: dict[str, Answer]) -> None:
    async def ask() -> dict[Any, Mapped]:
        async with asking(lies) as imds:
            return await said(imds)

    seen = asyncio.run(ask())
    for address, key in ((VIP4, "local-ipv4s"), (VIP6, "ipv6s")):
        if seen[address] is Mapped.GONE:
            lie = lies.get(AT + key)
            # A 404 to the IPv6 key is how IMDS says that there is none, but only of an ENI that it knows.
            none = lie is not None and lie.status == 404 and address.version == 6 and f"{AT}interface-id" not in lies
            assert none or is_list(lie, address.version), f"{address} is called gone for {lie}"


@fuzz(100)
@given(liars)
def test_discovery_finds_the_eni_or_says_in_one_error_what_is_wrong(lies: dict[str, Answer]) -> None:
    async def ask() -> list[Eni | str | bool | VipdError]:
        async with asking(lies) as imds:
            found = find_eni(imds, interface="net1", mac=MAC), find_region(None, {}, imds), imds.ping()
            return [await _outcome(work) for work in found]

    for told in asyncio.run(ask()):
        assert not isinstance(told, Eni) or told.mac == MAC
        assert not isinstance(told, VipdError) or ("\n" not in str(told) and len(str(told)) < 1500)


async def _outcome(work: Awaitable[Eni | str | bool]) -> Eni | str | bool | VipdError:
    try:
        return await work
    except VipdError as error:
        return error


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (f"{AT}local-ipv4s", Answer(200, b"\xff\xfe1\x000\x00")),
        (f"{AT}local-ipv4s", Answer(200, b"10.0.1.11", headers="Content-Type: text/plain; charset=utf-16\r\n")),
        (TOKEN, Answer(200, b"tok\r\nen: x")),
        (TOKEN, Answer(200, b"\xff")),
        (TOKEN, Answer(200, b"")),
        (f"{AT}local-ipv4s", Answer(200, b"")),
        (f"{AT}local-ipv4s", Answer(200, b"fd00:10:0:1::100")),
        (f"{AT}local-ipv4s", Answer(302, b"", headers="Location: /latest/meta-data/placement/region\r\n")),
        (f"{AT}local-ipv4s", Answer(200, b"10.0.1.11\n" * 20_000)),
        (f"{AT}local-ipv4s", Answer(200, b"10.0.1.11\n10.0.1.100", cut=2)),
    ],
)
async def test_what_was_taken_for_an_answer_or_broke_the_reader_once(path: str, answer: Answer) -> None:
    async with asking({path: answer}) as imds:
        seen = (await said(imds))[VIP4]
        # What a Content-Type claims about ASCII digits changes nothing.
        assert seen is (Mapped.GONE if "utf-16" in answer.headers else Mapped.UNKNOWN)


async def test_an_ipv6_address_is_gone_only_from_an_eni_that_imds_knows() -> None:
    none = {f"{AT}ipv6s": Answer(404, b"")}
    for lies, verdict in (
        (none, Mapped.GONE),
        ({**none, f"{AT}interface-id": Answer(200, ENI.id.encode() + b"\n")}, Mapped.GONE),
        ({**none, f"{AT}interface-id": Answer(404, b"")}, Mapped.UNKNOWN),
        ({**none, f"{AT}interface-id": Answer(200, b"eni-0000000000000000b")}, Mapped.UNKNOWN),
    ):
        async with asking(lies) as imds:
            assert (await said(imds))[VIP6] is verdict


async def test_a_device_number_that_is_a_digit_but_no_number_breaks_nothing() -> None:
    for body in ("²".encode(), b"9" * 5000):
        async with asking({f"{AT}device-number": Answer(200, body)}) as imds:
            told = await _outcome(find_eni(imds, interface="net1", mac=MAC))
            assert isinstance(told, ImdsError) or (isinstance(told, Eni) and told.device_number == 0)


async def test_a_region_that_is_a_page_is_an_error_with_advice() -> None:
    async with asking({"/latest/meta-data/placement/region": Answer(200, b"<html>Sign in</html>")}) as imds:
        with pytest.raises(AwsError, match="is not a region"):
            await find_region(None, {}, imds)
