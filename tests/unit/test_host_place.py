"""``--interface auto``: the interface in front of the ENI that is in the VIPs' subnet, whatever it is called."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from vipd.agent import host_place
from vipd.agent.host import outside_services
from vipd.agent.host_place import NoPlace, choose
from vipd.aws.imds import ImdsError
from vipd.config import load_host
from vipd.core.model import Eni, LinkState, Vip
from vipd.errors import ConfigError, LinkError


def eni(letter: str, device: int, *cidrs: str) -> Eni:
    return Eni(
        id=f"eni-{letter:0>17}",
        mac=f"02:00:00:00:01:0{letter}",
        device_number=device,
        subnet_cidrs=tuple(map(ipaddress.ip_network, cidrs)),
    )


def link(name: str, index: int, letter: str) -> LinkState:
    return LinkState(name=name, index=index, up=True, mac=f"02:00:00:00:01:0{letter}")


def vip(text: str) -> Vip:
    return Vip(ipaddress.ip_address(text), 32 if "." in text else 128, "auto")


LO = LinkState(name="lo", index=1, up=True, mac="00:00:00:00:00:00", loopback=True)
PRIMARY = eni("a", 0, "10.0.1.0/24", "fd00:10:0:1::/64")
FOR_PODS = eni("b", 1, "10.0.1.0/24")
ELSEWHERE = eni("c", 2, "10.0.2.0/24")
LINKS = [LO, link("ens5", 2, "a"), link("ens6", 3, "b"), link("eth2", 4, "c")]


@pytest.mark.parametrize(("text", "name"), [("10.0.1.100", "ens5"), ("fd00:10:0:1::100", "ens5"), ("10.0.2.9", "eth2")])
def test_it_is_the_one_of_the_eni_in_the_subnet_and_of_several_the_first(text: str, name: str) -> None:
    assert choose([ELSEWHERE, FOR_PODS, PRIMARY], LINKS, [vip(text)]) == name


def test_a_child_that_bears_the_enis_mac_is_not_taken_for_it() -> None:
    links = [link("a-child", 17, "a"), *LINKS]
    assert choose([PRIMARY], links, [vip("10.0.1.100")]) == "ens5"


def test_all_vips_need_one_eni() -> None:
    found = choose([PRIMARY, ELSEWHERE], LINKS, [vip("10.0.1.100"), vip("10.0.2.100")])
    assert isinstance(found, NoPlace)


def test_a_node_in_another_subnet_is_no_candidate_and_says_which_it_is_in() -> None:
    found = choose([ELSEWHERE], LINKS, [vip("10.0.1.100")])
    assert isinstance(found, NoPlace)
    assert "10.0.1.100" in found.detail
    assert "10.0.2.0/24" in found.detail


def test_the_operators_eni_is_taken_in_the_place_of_the_first() -> None:
    assert choose([PRIMARY, FOR_PODS], LINKS, [vip("10.0.1.100")], eni_id=FOR_PODS.id) == "ens6"
    with pytest.raises(ConfigError, match=r"--eni eni-.*: not an ENI of this node; allowed are .*0000a"):
        choose([PRIMARY], LINKS, [vip("10.0.1.100")], eni_id=ELSEWHERE.id)


def test_outside_of_the_hosts_network_no_interface_bears_the_mac_and_it_says_so() -> None:
    with pytest.raises(ConfigError, match=r"no interface here bears the MAC of an ENI .*hostNetwork: true"):
        choose([PRIMARY], [LO, link("eth0", 2, "f")], [vip("10.0.1.100")])


def test_an_eni_whose_interface_is_not_there_yet_is_waited_for() -> None:
    found = choose([PRIMARY, ELSEWHERE], LINKS[:2], [vip("10.0.2.9")])
    assert isinstance(found, NoPlace)
    assert "no interface bears its MAC 02:00:00:00:01:0c yet" in found.detail


def test_a_vip_that_kubernetes_may_give_to_a_service_is_refused() -> None:
    settings = load_host(["--vip=172.20.3.4", "--lease=x"], {}, namespace_file=Path("/nonexistent"))
    outside_services(settings, ())
    outside_services(settings, [ipaddress.ip_network("10.100.0.0/16"), ipaddress.ip_network("fd00::/108")])
    with pytest.raises(ConfigError, match=r"172\.20\.3\.4 is in the service CIDR 172\.20\.0\.0/16") as refused:
        outside_services(settings, [ipaddress.ip_network("172.20.0.0/16")])
    assert refused.value.exit_code == 2


class Failing:
    """A kernel and an IMDS that fail as told."""

    def __init__(self, *, kernel: str = "", imds: str = "") -> None:
        self.kernel, self.imds = kernel, imds

    async def links(self) -> list[LinkState]:
        if self.kernel:
            raise LinkError(self.kernel)
        return LINKS

    async def enis(self) -> dict[str, Eni]:
        if self.imds:
            raise ImdsError(self.imds)
        return {PRIMARY.mac: PRIMARY}


async def test_a_node_that_waits_goes_on_waiting_whatever_fails_and_tells_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_place, "START_S", 0.0)
    settings = load_host(["--vip", "10.0.1.100", "--lease", "vip"], {"POD_NAMESPACE": "lab"})
    before = "no ENI of this node is in the subnet"
    for failing, word in (
        (Failing(imds="IMDS is silent"), "IMDS is silent"),
        (Failing(kernel="no netlink"), "netlink"),
    ):
        for _ in range(3):
            found = await host_place.place_again(settings, failing, failing, before)  # type: ignore[arg-type]
            assert isinstance(found, NoPlace)
            assert word in found.detail
            before = found.detail
    assert [caplog.text.count(word) for word in ("IMDS is silent", "no netlink")] == [1, 1]
    well = Failing()
    found = await host_place.place_again(settings, well, well, before)  # type: ignore[arg-type]
    assert not isinstance(found, NoPlace)
    assert found.interface == "ens5"
