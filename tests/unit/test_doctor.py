"""``vipd doctor``: what it says about kube-proxy's NodePort addresses, and how findings are told."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.agent.host import _nobody_elses
from vipd.config import load_host
from vipd.core.model import LocalAddress
from vipd.doctor.checks import address, capabilities
from vipd.doctor.finding import Finding, Verdict, as_json, exit_code, fail, ok, table, unknown, warn
from vipd.doctor.kubeproxy import Config, judge, nodeport_addresses, parse, read
from vipd.errors import ConfigError
from vipd.link.kernel import VIPD_PROTO

NOT_OURS = (
    "VIP 10.0.1.100/32%ens5: the address is on ens5 already, and vipd did not put it there (user data?); allowed: "
    "--address-mode static, or an address that only vipd adds"
)
VIP, VIP6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")


@pytest.mark.parametrize(
    ("mode", "addresses", "managed", "static"),
    [
        ("iptables", (), "ok", "ok"),
        ("iptables", ("0.0.0.0/0",), "ok", "ok"),
        ("iptables", ("10.0.1.0/24",), "warn", "ok"),
        ("iptables", ("10.0.2.0/24",), "fail", "fail"),
        ("iptables", ("127.0.0.0/8", "10.0.1.0/24"), "warn", "ok"),
        ("iptables", ("primary",), "fail", "fail"),
        ("iptables", ("fd00::/8",), "ok", "ok"),
        ("nftables", (), "fail", "fail"),
        ("nftables", ("primary",), "fail", "fail"),
        ("nftables", ("0.0.0.0/0",), "ok", "ok"),
        ("nftables", ("10.0.1.11/32",), "fail", "fail"),
        ("nftables", ("10.0.0.0/16",), "warn", "ok"),
        ("ipvs", (), "warn", "ok"),
        ("ipvs", ("0.0.0.0/0",), "warn", "ok"),
        ("ipvs", ("10.0.1.0/24",), "warn", "ok"),
        ("ipvs", ("10.0.2.0/24",), "fail", "fail"),
    ],
)
def test_whether_nodeports_are_served_at_the_vip(
    mode: str, addresses: tuple[str, ...], managed: str, static: str
) -> None:
    config = Config(mode, addresses)
    assert judge(config, VIP, static=False).verdict == managed
    assert judge(config, VIP, static=True).verdict == static


def test_the_advice_is_of_the_vips_family() -> None:
    assert "--nodeport-addresses 0.0.0.0/0" in judge(Config("nftables", ()), VIP, static=False).detail
    assert "--nodeport-addresses ::/0" in judge(Config("nftables", ()), VIP6, static=False).detail
    assert judge(Config("nftables", ("10.0.0.0/8",)), VIP6, static=False).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"mode": "nftables", "nodePortAddresses": ["primary"]}, Config("nftables", ("primary",))),
        ({"Mode": "ipvs", "NodePortAddresses": None}, Config("ipvs", ())),
        ({"mode": ""}, Config("iptables", ())),
        ({"mode": "kernelspace"}, None),
        ({"nodePortAddresses": "10.0.0.0/8"}, None),
        ({"mode": ["x"]}, None),
        ([], None),
    ],
)
def test_kube_proxys_configuration_is_read(config: object, found: Config | None) -> None:
    assert parse(json.dumps({"kubeproxy.config.k8s.io": config}).encode()) == found


@given(
    st.recursive(st.none() | st.booleans() | st.text(max_size=6), lambda i: st.lists(i) | st.dictionaries(st.text(), i))
)
def test_whatever_answers_it_is_understood_or_not(document: object) -> None:
    parse(json.dumps(document).encode())
    parse(json.dumps({"kubeproxy.config.k8s.io": document}).encode())


async def test_it_is_asked_over_http() -> None:
    body = json.dumps({"kubeproxy.config.k8s.io": {"mode": "nftables", "nodePortAddresses": ["primary"]}}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /configz ")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        (finding,) = await nodeport_addresses([VIP], static=False, url=url)
        assert finding.verdict is Verdict.FAIL
    told = await read(url)
    assert isinstance(told, str)
    assert "does not tell its configuration" in told
    (finding,) = await nodeport_addresses([VIP], static=False, url=url)
    assert finding.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("bits", "verdict", "word"),
    [
        ("0000000000003000", "ok", "NET_ADMIN, NET_RAW"),
        ("0000000000001000", "fail", "NET_RAW"),
        ("0", "fail", "NET_ADMIN"),
    ],
)
def test_the_capabilities_that_it_takes(bits: str, verdict: str, word: str) -> None:
    finding = capabilities(f"Name:\tvipd\nCapEff:\t{bits}\n")
    assert finding.verdict == verdict
    assert word in finding.detail


class Interface:
    """A kernel with the VIP on ens5, by the hand that the protocol number names."""

    def __init__(self, proto: int) -> None:
        self._proto = proto

    async def addresses(self) -> list[LocalAddress]:
        return [LocalAddress(address=VIP, prefixlen=32, interface="ens5", proto=self._proto)]


@pytest.mark.parametrize(
    ("mode", "proto", "found"),
    [
        ("managed", 0, [fail("address", NOT_OURS)]),
        ("managed", VIPD_PROTO, []),
        ("static", 0, [ok("address", "10.0.1.100 is on ens5")]),
    ],
)
async def test_an_address_that_is_there_already_is_found_as_vipd_host_finds_it(
    mode: str, proto: int, found: list[Finding]
) -> None:
    kernel: Any = Interface(proto)
    settings = load_host(["--vip=10.0.1.100%ens5", "--lease=x", f"--address-mode={mode}"], {})
    assert await address(settings, kernel) == found
    refused = ""
    try:
        await _nobody_elses(settings, kernel)
    except ConfigError as error:
        refused = str(error)
    assert refused == (NOT_OURS if found == [fail("address", NOT_OURS)] else "")


def test_findings_are_lines_or_json_and_only_failures_are_failures() -> None:
    found = [ok("eni", "x is y"), warn("vpc-cni", "z"), unknown("service-cidr", "?")]
    assert exit_code(found) == 0
    assert exit_code([*found, fail("node", "n")]) == 1
    assert table(found) == "✓ eni           x is y\n! vpc-cni       z\n? service-cidr  ?\n"
    assert json.loads(as_json(found))[1] == {"check": "vpc-cni", "verdict": "warn", "detail": "z"}
