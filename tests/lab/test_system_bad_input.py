"""Wrong input and missing rights: one clear message, the right exit code, and nothing touched before it is known."""

from __future__ import annotations

import asyncio

import pytest
from system import ended, eventually, fetch, untouched

from vipd.lab.setting import Setting
from vipd.lab.topology import NAMESPACE, RIGHTS, Lab

ONE = Setting(nodes=("a",))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--vip", "10.9.9.9%net1"), 2, ["10.9.9.9", "outside the subnet", "10.0.1.0/24"]),
        (("--vip", "10.0.1.1%net1"), 2, ["10.0.1.1", "reserves"]),
        (("--vip", "10.0.1.255%net1"), 2, ["10.0.1.255", "reserves"]),
        (("--vip", "10.0.1.11%net1"), 2, ["10.0.1.11", "primary"]),
        (("--vip", "10.0.1.77%net9", "--interface-timeout", "1s"), 3, ["net9", "1 s", "net1"]),
        (("--vip", "nonsense"), 2, ["--vip", "nonsense"]),
        (("--vip", "10.0.1.100/33"), 2, ["10.0.1.100/33"]),
        (("--vip", "10.0.1.100"), 2, ["10.0.1.100"]),
        (("--renew-interval", "3s"), 2, ["renew-interval", "3s"]),
        (("--fence", "lease", "--eni", "none", "--grace", "1s"), 2, ["grace"]),
        (("--fence", "eni", "--eni", "none"), 2, ["fence"]),
        (("--eni", "eni-00000000000000bad"), 2, ["eni-00000000000000bad", "eni-0000000000000000a"]),
    ],
)
async def test_wrong_values_end_with_one_sentence_and_touch_nothing(tmp_path, arguments, code, words):
    async with Lab(ONE, folder=tmp_path) as lab:
        got, said = await ended(lab, lab.nodes["a"], *arguments)
        assert got == code, said
        assert [word for word in words if word not in said] == []
        assert untouched(lab)


@pytest.mark.parametrize("duration", ["500ms", "2.5s", "0", "x"])
async def test_a_lease_duration_that_is_no_whole_second_is_refused(tmp_path, duration):
    async with Lab(Setting(nodes=("a",), duration_s=3), folder=tmp_path) as lab:
        lab.vipd_command = lambda node: ["sidecar", "--lease", "vip", "--vip", "10.0.1.100"]  # type: ignore[method-assign]
        got, said = await ended(lab, lab.nodes["a"], "--lease-duration", duration)
        assert got == 2
        assert "lease-duration" in said
        assert duration in said


async def test_a_missing_right_is_named_with_the_rule_that_grants_it(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        lab.api.access.rights["system:serviceaccount:lab:vipd-a"] = RIGHTS - {("get", "leases")}
        got, said = await ended(lab, lab.nodes["a"])
        assert got == 1
        assert 'Not allowed to get the Lease "vip" in the namespace "lab"' in said
        assert 'apiGroups: ["coordination.k8s.io"]' in said
        assert untouched(lab)


async def test_credentials_that_the_api_does_not_know_are_told(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        lab.api.access.tokens.clear()
        got, said = await ended(lab, lab.nodes["a"])
        assert got == 1
        assert "401" in said
        assert untouched(lab)


async def test_no_kubernetes_configuration_is_told(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        got, said = await ended(lab, lab.nodes["a"], env={"KUBECONFIG": str(tmp_path / "nowhere")})
        assert got == 1
        assert "no Kubernetes configuration" in said
        assert untouched(lab)


async def test_a_blocked_imds_is_told_with_the_ways_out(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        node = lab.nodes["a"]
        assert node.imds is not None
        node.imds.faults.silent = True
        got, said = await ended(lab, node)
        assert got == 1
        assert "IMDS" in said
        assert "hop limit" in said
        assert "--eni" in said
        assert untouched(lab)


async def test_no_aws_credentials_are_told_with_the_ways_out(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        node = lab.nodes["a"]
        assert node.imds is not None
        node.imds.access_key = ""
        got, said = await ended(lab, node)
        assert got == 1
        assert "credentials" in said
        assert untouched(lab)


async def test_a_second_vipd_for_one_lease_in_one_namespace_is_refused_with_the_pid_of_the_first(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        node = lab.nodes["a"]
        await lab.start_vipd(node)
        first = node.vipd
        assert first is not None
        await eventually(lambda: bool(lab.api.lease_writes))
        got, said = await ended(lab, node)
        assert got == 1
        assert f"pid {first.pid}" in said
        assert first.returncode is None


async def test_a_full_eni_keeps_the_holder_waiting_for_room_and_not_ready(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        node = lab.nodes["a"]
        assert node.eni is not None
        node.eni.limit4 = node.eni.slots4
        await lab.start_vipd(node)
        await eventually(lambda: any(c.outcome == "PrivateIpAddressLimitExceeded" for c in lab.ec2.log))
        status, why = await fetch(lab, node, "/readyz")
        assert status == 503
        assert "PrivateIpAddressLimitExceeded" in why
        node.eni.limit4 = 30
        await eventually(lambda: lab.mapped_to(lab.setting.vips[0]) == "a")
        await eventually(lambda: lab.observer.bears("a"))


def _annotations(lab: Lab) -> dict[str, str]:
    """Of the Lease; none where there is no Lease yet."""
    lease = lab.api.lease(NAMESPACE, "vip")
    return lease["metadata"].get("annotations", {}) if lease else {}


async def test_the_primary_address_of_another_eni_is_refused_once_and_the_lease_offered_to_others(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        node = lab.nodes["a"]
        lab.vipd_command = lambda n: [  # type: ignore[method-assign]
            *("sidecar", "--lease", "vip", "--vip", "10.0.1.200", "--listen", "127.0.0.1:9808", "--log-format", "json")
        ]
        await lab.start_vipd(node)
        await eventually(lambda: '"why":"cannot-move"' in _annotations(lab).get("vipd.io/offer", ""))
        # Nobody is there to take it: the tenure goes on, and says that it serves nobody.
        await eventually(lambda: "vipd.io/offer" not in _annotations(lab))
        assert lab.api.lease_writes[-1].holder == node.identity
        status, why = await fetch(lab, node, "/readyz")
        assert status == 503
        assert "primary" in why
        calls = [c for c in lab.ec2.log if c.action == "AssignPrivateIpAddresses"]
        assert [c.outcome for c in calls] == ["InvalidParameterValue"]
        assert "primary" in node.log.read_text()


async def test_ec2_that_denies_the_call_is_told_in_status_and_not_hammered(tmp_path):
    async with Lab(ONE, folder=tmp_path) as lab:
        node = lab.nodes["a"]
        lab.ec2.faults.denied.add("AssignPrivateIpAddresses")
        await lab.start_vipd(node)
        await eventually(lambda: any(c.outcome == "UnauthorizedOperation" for c in lab.ec2.log))
        status, why = await fetch(lab, node, "/readyz")
        assert status == 503
        assert "UnauthorizedOperation" in why
        assert len([c for c in lab.ec2.log if c.outcome == "UnauthorizedOperation"]) == 1


async def test_an_imds_that_is_silent_for_a_moment_is_waited_for(tmp_path):
    async with Lab(Setting(nodes=("a",)), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        node.imds.faults.silent = True
        await lab.start_vipd(node)
        await asyncio.sleep(2.5)
        assert node.alive
        node.imds.faults.silent = False
        await eventually(lambda: lab.api.lease(NAMESPACE, "vip") is not None)
