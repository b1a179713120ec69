"""Which interfaces are a pod's secondary ones: the rules, and the routes they are told by."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from link_lan import Lan

from vipd.core.model import Address, LinkState, LocalAddress
from vipd.errors import LinkError
from vipd.link import netlink
from vipd.link.kernel import KernelLink
from vipd.link.primary import DefaultRoutes, secondary_interfaces

BLACKHOLE, UNREACHABLE = 6, 7
LOOPBACK, *PODS = [
    LinkState(name, index, True, f"02:00:00:00:00:0{index}", loopback=name == "lo")
    for index, name in enumerate(("lo", "eth0", "net1", "net2"), start=1)
]
POD_IP, POD_IP6, NET_IP = ip_address("10.0.0.5"), ip_address("fd00::5"), ip_address("10.0.1.100")
ADDRESSES = [
    LocalAddress(ip_address("127.0.0.1"), 8, "lo", universe=False),
    LocalAddress(POD_IP, 32, "eth0"),
    LocalAddress(POD_IP6, 128, "eth0"),
    LocalAddress(NET_IP, 24, "net1"),
]


def routes(ipv4: str = "", ipv6: str = "") -> DefaultRoutes:
    return DefaultRoutes(frozenset(ipv4.split()), frozenset(ipv6.split()))


def secondary(default: DefaultRoutes, *pod_ips: Address) -> set[str]:
    return set(secondary_interfaces([LOOPBACK, *PODS], ADDRESSES, default, pod_ips=pod_ips))


@pytest.mark.parametrize("pod_ips", [(POD_IP,), (POD_IP6,), (POD_IP, POD_IP6)], ids=["ipv4", "ipv6", "both"])
def test_the_bearer_of_the_pods_address_is_primary_wherever_the_default_route_is(pod_ips: tuple[Address, ...]) -> None:
    assert secondary(routes("net1", "net1"), *pod_ips) == {"net1", "net2"}


def test_bearers_of_two_pod_addresses_are_both_primary() -> None:
    assert secondary(routes("net2"), NET_IP, POD_IP6) == {"net2"}


@pytest.mark.parametrize("pod_ips", [(), (ip_address("10.0.0.6"),)], ids=["none given", "none borne"])
def test_without_a_bearer_the_ipv4_default_routes_tell(pod_ips: tuple[Address, ...]) -> None:
    assert secondary(routes("eth0", "net1"), *pod_ips) == {"net1", "net2"}
    assert secondary(routes("eth0 net2"), *pod_ips) == {"net1"}


def test_without_an_ipv4_default_route_the_ipv6_ones_tell() -> None:
    assert secondary(routes("", "eth0")) == {"net1", "net2"}


def test_without_any_of_them_all_are_secondary_but_the_loopback() -> None:
    assert secondary(routes()) == {"eth0", "net1", "net2"}


def test_a_loopback_interface_is_neither_primary_nor_secondary() -> None:
    assert secondary(routes("eth0"), ip_address("127.0.0.1")) == {"net1", "net2"}
    assert secondary(routes("lo", "net1")) == {"eth0", "net2"}


def test_an_interface_that_has_gone_is_no_primary() -> None:
    assert secondary(routes("eth7", "eth0")) == {"net1", "net2"}


async def test_the_loopback_interface_is_known_by_its_flag_under_any_name(lan: Lan, kernel: KernelLink) -> None:
    await lan.set("lo", state="down")
    await lan.set("lo", ifname="home0")
    await lan.set("home0", state="up")
    assert {link.name: link.loopback for link in await kernel.links()} == {"home0": True, "net1": False}


async def test_a_namespace_without_routes_has_no_default_route(namespace: None) -> None:
    # Its IPv4 routing table does not even exist yet.
    kernel = KernelLink()
    assert await kernel.default_route_interfaces() == DefaultRoutes()
    await kernel.close()


async def test_default_routes_of_both_families_are_found_among_others(lan: Lan, kernel: KernelLink) -> None:
    await lan.create("net2")
    one, two = await lan.index(), await lan.index("net2")
    await lan.ipr.route("add", dst="10.8.0.0/16", oif=two)
    await lan.ipr.route("add", dst="fd00:8::/32", oif=one)
    assert await kernel.default_route_interfaces() == DefaultRoutes()
    await lan.ipr.route("add", dst="0.0.0.0/0", oif=one)
    await lan.ipr.route("add", dst="::/0", oif=two)
    assert await kernel.default_route_interfaces() == routes("net1", "net2")
    await lan.ipr.route("add", dst="0.0.0.0/0", oif=two, priority=100)
    assert await kernel.default_route_interfaces() == routes("net1 net2", "net2")


@pytest.mark.parametrize(
    ("default", "prefix", "prefixlen", "found"),
    [("0.0.0.0/0", "10.0.{}.", 24, routes("net1 net2")), ("::/0", "fd00:{}::", 64, routes("", "net1 net2"))],
    ids=["ipv4", "ipv6"],
)
async def test_every_path_of_a_default_route_counts(
    lan: Lan, kernel: KernelLink, default: str, prefix: str, prefixlen: int, found: DefaultRoutes
) -> None:
    await lan.create("net2")
    paths = []
    for name, subnet in (("net1", 1), ("net2", 2)):
        index, hosts = await lan.index(name), prefix.format(subnet)
        await lan.ipr.addr("add", index=index, address=f"{hosts}1", prefixlen=prefixlen)
        paths.append({"oif": index, "gateway": f"{hosts}2"})
    await lan.ipr.route("add", dst=default, multipath=paths)
    assert await kernel.default_route_interfaces() == found


async def test_dead_ends_and_other_tables_are_no_default_routes(lan: Lan, kernel: KernelLink) -> None:
    for number, kind in enumerate((BLACKHOLE, UNREACHABLE), start=1):
        await lan.ipr.route("add", dst="0.0.0.0/0", type=kind, priority=number)
        await lan.ipr.route("add", dst="::/0", type=kind, priority=number)
    await lan.ipr.route("add", dst="0.0.0.0/0", oif=await lan.index(), table=77)
    await lan.ipr.route("add", dst="::/0", oif=await lan.index(), table=1077)
    assert await kernel.default_route_interfaces() == DefaultRoutes()


async def test_a_kernel_that_does_not_answer_is_told(
    lan: Lan, kernel: KernelLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink, "CALL_TIMEOUT_S", 0.0)
    with pytest.raises(LinkError, match="cannot list default routes: no answer from the kernel within 0 s"):
        await kernel.default_route_interfaces()
    with pytest.raises(LinkError, match="cannot list addresses: no answer from the kernel within 0 s"):
        await kernel.addresses()


async def test_a_pod_whose_default_route_multus_put_on_net1_keeps_eth0_as_its_primary(
    lan: Lan, kernel: KernelLink
) -> None:
    await lan.create("eth0")
    await lan.ipr.addr("add", index=await lan.index("eth0"), address=str(POD_IP), prefixlen=32)
    await lan.add_address(str(NET_IP), 24)
    await lan.ipr.route("add", dst="0.0.0.0/0", oif=await lan.index("net1"))
    links = [link for link in await kernel.links() if not link.name.endswith("-peer")]
    addresses, default = await kernel.addresses(), await kernel.default_route_interfaces()
    assert secondary_interfaces(links, addresses, default, pod_ips=[POD_IP]) == {"net1"}
    assert secondary_interfaces(links, addresses, default) == {"eth0"}
