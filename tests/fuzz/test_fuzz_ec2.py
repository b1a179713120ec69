"""Whatever EC2, or something else in its place, answers: each address gets a verdict, and OK only when EC2 said so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from xml.sax.saxutils import escape

import botocore.exceptions as bc
import pytest
from aws_servers import now
from fuzzing import fuzz
from hostile import json_values, repeated, texts
from hypothesis import given
from hypothesis import strategies as st

from vipd.aws.ec2 import Ec2
from vipd.aws.mapping import DescribeMapping
from vipd.aws.mover import Ec2Mover
from vipd.aws.verdicts import CODES, HABITS, classify
from vipd.core.model import Assigned, AssignVerdict, Eni, Mapped

V = AssignVerdict
VIP4, VIP6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")
A = Eni(id="eni-0000000000000000a", mac="02:00:00:00:01:0a")
B = "eni-0000000000000000b"


@dataclass
class Scripted:
    """An HTTP server in threads of its own; answers with the next (status, body), and at their end with an error."""

    url: str = ""
    script: list[tuple[int, bytes]] = field(default_factory=list)
    asked: int = 0

    def next(self) -> tuple[int, bytes]:
        self.asked += 1
        return self.script.pop(0) if self.script else (503, b"")


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    scripted = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = scripted.next()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nobody reads it."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    scripted.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield scripted
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(scope="module")
def ec2(server: Scripted) -> Iterator[Ec2]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        patch.setenv("AWS_ENDPOINT_URL_EC2", server.url)
        made = Ec2("us-east-2")
        made.client()
        yield made
    made.close()


# -------------------------------------------------------------------------------------------------- answers

codes = st.sampled_from(sorted(CODES)) | st.sampled_from([part for part, _ in HABITS]) | texts.map(escape)
text_nodes = texts.map(lambda text: escape(text).encode("utf-8", "replace").decode())


def _error(code: str, message: str) -> str:
    return f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"


def _interface(name: str, address: str) -> str:
    return (
        "<DescribeNetworkInterfacesResponse><requestId>0</requestId><networkInterfaceSet><item>"
        f"<networkInterfaceId>{name}</networkInterfaceId><privateIpAddressesSet><item><privateIpAddress>{address}"
        "</privateIpAddress></item></privateIpAddressesSet><ipv6AddressesSet><item><ipv6Address>"
        f"{address}</ipv6Address></item></ipv6AddressesSet></item></networkInterfaceSet>"
        "</DescribeNetworkInterfacesResponse>"
    )


SHAPES = [
    "",
    "garbage",
    "<a/>",
    "<html><body>Sign in</body></html>",
    "<Response/>",
    "<Response><Errors/></Response>",
    "<Response><Errors><Error/></Errors></Response>",
    "<Response><Errors><Error><Code><x/></Code></Error></Errors></Response>",
    "<Response><Errors><Error><Code>InternalError</Code></Error><Error><Code>Throttling</Code></Error></Errors></Response>",
    "<Response><Errors>text</Errors></Response>",
    "<AssignPrivateIpAddressesResponse><requestId/><return>true</return></AssignPrivateIpAddressesResponse>",
    "<a><requestId>0</requestId><networkInterfaceSet>x</networkInterfaceSet></a>",
    "<a><requestId>0</requestId><networkInterfaceSet/></a>",
    "<a><requestId>0</requestId><networkInterfaceSet><item/></networkInterfaceSet></a>",
    "<a><requestId>0</requestId><networkInterfaceSet><item><attachment><deviceIndex>abc</deviceIndex></attachment>"
    "</item></networkInterfaceSet></a>",
    "<a><requestId>0</requestId><networkInterfaceSet><item><attachment><attachTime>soon</attachTime></attachment>"
    "</item></networkInterfaceSet></a>",
    "<a><requestId>0</requestId><networkInterfaceSet><item><attachment><attachTime>99999999999-01-01</attachTime>"
    "</attachment></item></networkInterfaceSet></a>",
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;&b;</x>',
]
bodies = (
    st.sampled_from(SHAPES)
    | st.builds(_error, codes, text_nodes)
    | st.builds(
        _interface,
        st.sampled_from([A.id, B, ""]),
        st.sampled_from([str(VIP4), str(VIP6), "", "10.0.1.999"]) | text_nodes,
    )
    | repeated(("<a>", 3000), ("x", 300_000))
    | st.integers(1, 1500).map(lambda depth: "<a>" * depth + "</a>" * depth)
).map(lambda body: body.encode("utf-8", "replace"))
whole = st.tuples(
    st.sampled_from([200, 200, 301, 400, 400, 403, 404, 413, 429, 500, 503]), bodies | st.binary(max_size=80)
)
answers = st.one_of(whole, st.tuples(whole, st.integers(1, 60)).map(lambda told: (told[0][0], told[0][1][: -told[1]])))


def _says_done(status: int, body: bytes) -> bool:
    return 200 <= status < 300 and b"<requestId>0</requestId>" in body


@fuzz(60)
@given(script=st.lists(answers, min_size=1, max_size=6))
def test_each_address_gets_a_verdict_and_ok_only_from_ec2(
    server: Scripted, ec2: Ec2, script: list[tuple[int, bytes]]
) -> None:
    server.script[:] = script
    server.asked = 0

    async def move() -> list[Assigned]:
        mover = Ec2Mover(ec2)
        return list(await mover.assign(A, (VIP4, VIP6), right_until=lambda: now() + 10, previous=frozenset({B})))

    results = asyncio.run(move())
    assert [each.address for each in results] == [VIP4, VIP6]
    for each in results:
        assert isinstance(each.verdict, AssignVerdict)
        assert len(each.code) <= 100
        assert len(each.detail) <= 2000
        assert "\n" not in each.detail
    if not any(_says_done(*answer) for answer in script):
        assert all(each.verdict is not V.OK for each in results), results
    assert server.asked <= 8, "one attempt, bounded"


@fuzz(60)
@given(answer=answers)
def test_describe_calls_an_address_gone_only_where_it_listed_this_eni(
    server: Scripted, ec2: Ec2, answer: tuple[int, bytes]
) -> None:
    server.script[:] = [answer]
    found = asyncio.run(DescribeMapping(ec2).read(A, (VIP4, VIP6), timeout_s=10))
    assert set(found) == {VIP4, VIP6}
    if Mapped.GONE in found.values():
        assert _says_done(*answer)
        assert f"<networkInterfaceId>{A.id}<".encode() in answer[1]


@pytest.mark.parametrize("body", SHAPES)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_is_not_ec2s_is_tried_again_and_never_taken_for_done(
    server: Scripted, ec2: Ec2, status: int, body: str
) -> None:
    server.script[:] = [(status, body.encode())] * 2

    async def ask() -> tuple[Assigned, Mapped]:
        [moved] = await Ec2Mover(ec2).assign(A, (VIP4,), right_until=lambda: now() + 10)
        seen = await DescribeMapping(ec2).read(A, (VIP4,), timeout_s=10)
        return moved, seen[VIP4]

    moved, seen = asyncio.run(ask())
    done = status == 200 and "<requestId>0<" in body
    assert moved.verdict is (V.OK if done else V.RETRY)
    assert seen is Mapped.UNKNOWN


# --------------------------------------------------------------------------------------------------- errors


@fuzz(200)
@given(
    code=codes | texts | json_values,
    message=texts | json_values | repeated(("x\n", 5000)),
    status=st.integers(0, 999),
)
def test_every_error_has_a_verdict_and_an_unknown_one_is_tried_again(
    code: object, message: object, status: int
) -> None:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    refusal = classify(bc.ClientError(response, "AssignPrivateIpAddresses"))  # type: ignore[arg-type]
    assert refusal.verdict in set(V) - {V.OK, V.RIGHT_OVER}
    assert "\n" not in refusal.detail
    known = str(code) in CODES or any(part in str(code) for part, _ in HABITS)
    assert known or refusal.verdict is V.RETRY


@pytest.mark.parametrize("response", [{}, {"Error": {}}, {"Error": {"Code": None}}, {"ResponseMetadata": {}}])
def test_an_error_without_an_error_is_tried_again(response: dict[str, object]) -> None:
    assert classify(bc.ClientError(response, "DescribeNetworkInterfaces")).verdict is V.RETRY  # type: ignore[arg-type]


def test_what_no_answer_can_be_the_reason_of_is_not_hidden() -> None:
    for bug in (AssertionError("a bug"), TypeError("a bug"), KeyError("a bug")):
        with pytest.raises(type(bug)):
            classify(bug)
