"""The script of ``vipd userdata`` on a real interface, with the real ``ip``."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_address

import pytest
from link_lan import Lan

from vipd.core.model import Vip
from vipd.userdata.address import script

VIPS = [Vip(ip_address("10.0.1.100"), 24, ""), Vip(ip_address("fd00:10:0:1::100"), 64, "")]

pytestmark = pytest.mark.skipif(shutil.which("ip") is None, reason="ip is not installed (apt-get install iproute2)")


def run(interface: str) -> None:
    done = subprocess.run(
        ["sh", "-c", script(VIPS, interface)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_the_addresses_are_there_at_once_and_a_second_time_changes_nothing(lan: Lan) -> None:
    await lan.set("net1", state="down")
    await lan.set("net1", ifname="ens5")
    await lan.ipr.link("set", index=await lan.index("ens5"), state="up")
    run("ens5")
    first = await borne(lan)
    assert first == {("10.0.1.100", 32), ("fd00:10:0:1::100", 128)}
    run("ens5")
    assert await borne(lan) == first


async def test_auto_is_the_interface_of_the_default_route(lan: Lan) -> None:
    await lan.create("net2", mac="02:00:00:00:01:0b")
    index = await lan.index("net2")
    await lan.ipr.addr("add", index=index, address="10.0.9.5", prefixlen=24)
    await lan.ipr.route("add", dst="0.0.0.0/0", gateway="10.0.9.1")
    run("auto")
    assert await borne(lan, "net2") >= {("10.0.1.100", 32), ("fd00:10:0:1::100", 128)}
    assert await borne(lan, "net1") == set()


async def test_what_was_taken_off_is_put_back(lan: Lan) -> None:
    run("net1")
    await lan.delete_address("10.0.1.100", 32)
    run("net1")
    assert ("10.0.1.100", 32) in await borne(lan, "net1")


async def borne(lan: Lan, name: str = "ens5") -> set[tuple[str, int]]:
    index = await lan.index(name)
    found = [m async for m in await lan.ipr.addr("dump", index=index)]
    return {(m.get("address"), m["prefixlen"]) for m in found if not m.get("address").startswith("fe80:")}
