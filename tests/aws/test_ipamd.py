"""What the VPC CNI's ipamd tells of itself, and that nothing else is believed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.agent.ipamd_gate import IpamdGate
from vipd.aws import ipamd
from vipd.core.model import Eni, Vip
from vipd.lab.ipamd import Ipamd
from vipd.lab.vpc import LAB_SUBNET, EniRecord

VIP = ip_address("10.0.1.100")
ENI = Eni(id="eni-0000000000000000a", mac="02:00:00:00:01:0a")


def record() -> EniRecord:
    return EniRecord(
        id=ENI.id,
        mac=ENI.mac,
        subnet=LAB_SUBNET,
        primary=ip_address("10.0.1.11"),
        instance_id="i-1",
        secondaries=[VIP],
    )


async def served(server: Ipamd) -> ipamd.Pool | None:
    sock = socket.create_server(("127.0.0.1", 0))
    await server.start(sock)
    try:
        return await ipamd.look(f"http://127.0.0.1:{sock.getsockname()[1]}/v1/enis")
    finally:
        await server.stop()


async def test_an_address_in_the_pool_and_one_that_a_pod_has() -> None:
    server = Ipamd(record())
    assert await served(server) == ipamd.Pool(frozenset({ENI.id}), {VIP: ""})
    server = Ipamd(record())
    server.given[VIP] = ("shop", "cart")
    assert await served(server) == ipamd.Pool(frozenset({ENI.id}), {VIP: "shop/cart"})


async def test_nobody_there_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert await ipamd.look(f"http://127.0.0.1:{port}/v1/enis") is None


def test_a_prefixs_addresses_are_in_no_pool_but_for_those_that_pods_have() -> None:
    given_to = {"10.0.1.33": {"IPAMKey": {"containerID": "abc"}}, "10.0.1.34": {"IPAMKey": {"containerID": ""}}}
    cidrs = {"10.0.1.32/28": {"IPAddresses": given_to, "IsPrefix": True}}
    pool = ipamd.parse(json.dumps({"ENIs": {ENI.id: {"AvailableIPv4Cidrs": cidrs}}}).encode())
    assert pool is not None
    assert pool.addresses == {ip_address("10.0.1.33"): "of container abc"}


shapes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(["10.0.1.100", "10.0.1.100/32"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "ENIs",
                    ENI.id,
                    "AvailableIPv4Cidrs",
                    "10.0.1.100/32",
                    "IPAddresses",
                    "10.0.1.100",
                    "IPAMKey",
                    "containerID",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(shapes)
def test_whatever_answers_it_is_understood_or_passed_over(document: object) -> None:
    pool = ipamd.parse(json.dumps(document).encode())
    assert pool is None or all(pod.isprintable() for pod in pool.addresses.values())


@given(st.binary(max_size=60))
def test_bytes_that_are_no_answer_are_passed_over(body: bytes) -> None:
    assert ipamd.parse(body) is None


# ------------------------------------------------------------------------------------------ the gate


@pytest.fixture
def scene() -> tuple[IpamdGate, list[str], Callable[[ipamd.Pool | None], str]]:
    warned: list[str] = []
    gate = IpamdGate([Vip(VIP, 32, "ens5")], {"ens5": ENI}, lambda reason, _: warned.append(reason))
    return gate, warned, gate._take_in


def test_without_ipamd_or_on_an_eni_that_it_leaves_alone_nothing_is_said(scene: tuple) -> None:  # type: ignore[type-arg]
    gate, warned, take_in = scene
    assert take_in(None) == ""
    assert gate.status()["answers"] is False
    assert take_in(ipamd.Pool(frozenset({"eni-2"}), {})) == ""
    assert warned == []


def test_each_thing_is_told_once_and_a_pod_that_has_it_ends_candidacy(scene: tuple) -> None:  # type: ignore[type-arg]
    gate, warned, take_in = scene
    mine = frozenset({ENI.id})
    for _ in range(2):
        assert take_in(ipamd.Pool(mine, {})) == ""
    assert warned == ["ManagedByVpcCni"]
    for _ in range(2):
        assert take_in(ipamd.Pool(mine, {VIP: ""})) == ""
    assert warned == ["ManagedByVpcCni", "AdoptedByVpcCni"]
    for _ in range(2):
        assert take_in(ipamd.Pool(mine, {VIP: "shop/cart"})) == "ipamd has given 10.0.1.100 to the pod shop/cart"
    assert warned == ["ManagedByVpcCni", "AdoptedByVpcCni", "GivenToPod"]
    assert gate.status() == {
        "answers": True,
        "managed_enis": [ENI.id],
        "adopted": ["10.0.1.100"],
        "given_to_pods": {"10.0.1.100": "shop/cart"},
    }
    assert take_in(ipamd.Pool(mine, {VIP: ""})) == ""


def test_what_it_said_last_holds_while_it_is_silent_and_is_told_once(scene: tuple) -> None:  # type: ignore[type-arg]
    _, warned, take_in = scene
    given = ipamd.Pool(frozenset({ENI.id}), {VIP: "shop/cart"})
    told = [take_in(pool) for pool in (given, None, given, None)]
    assert set(told) == {"ipamd has given 10.0.1.100 to the pod shop/cart"}
    assert warned == ["ManagedByVpcCni", "AdoptedByVpcCni", "GivenToPod"]
    assert take_in(ipamd.Pool(frozenset({ENI.id}), {})) == ""
