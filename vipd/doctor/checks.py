"""The checks: each looks at one thing, and none changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from vipd.agent.aws import AwsSide
from vipd.agent.static_address import by_others, has_address, missing, not_ours
from vipd.aws import ipamd
from vipd.checks.make import make_checks
from vipd.config import AddressMode, HostSettings, MemberSettings
from vipd.core.model import CallFailed, LinkState, Mapped
from vipd.doctor.finding import Finding, fail, ok, unknown, warn
from vipd.kube.nodes import Node, NodeWatch, why_unfit
from vipd.kube.preflight import preflight
from vipd.kube.services import service_cidrs
from vipd.link.kernel import kernel_note

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

    from vipd.link.kernel import KernelLink

CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13}
"""Bits of capabilities(7)."""

MAPPING_S = 2.0
WATCH_S = 1.0
"""A watch that is refused is so at once."""


def capabilities(status: str) -> Finding:
    """Of ``/proc/self/status``: what adding an address and announcing it take."""
    bits = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    missing = [name for name, bit in CAPABILITIES.items() if not bits >> bit & 1]
    if missing:
        return fail("capabilities", f"{', '.join(missing)} is missing; add it to the container's securityContext")
    return ok("capabilities", ", ".join(CAPABILITIES))


def kernel(settings: MemberSettings, release: str) -> Finding:
    """Whether it can keep vipd's addresses apart from others."""
    static = isinstance(settings, HostSettings) and settings.address_mode is AddressMode.STATIC
    note = "" if static else kernel_note(release)
    return warn("kernel", note) if note else ok("kernel", f"Linux {release}")


def interfaces(settings: MemberSettings, links: Mapping[str, LinkState]) -> list[Finding]:
    """Whether the interfaces of the VIPs are there and up."""
    found = []
    for name in sorted({vip.interface for vip in settings.vips}):
        link = links.get(name)
        if link is None:
            there = ", ".join(sorted(links))
            found.append(fail("interface", f"there is no interface {name}; interfaces here: {there}"))
        elif not link.up:
            found.append(fail("interface", f"interface {name} is down"))
        else:
            found.append(ok("interface", f"{name} is up ({link.mac})"))
    return found


def enis(aws: AwsSide) -> list[Finding]:
    """Which ENI is behind which interface: found and fit, or ``connect_aws`` would have raised."""
    return [
        ok("eni", f"{name} is {eni.id} in {', '.join(map(str, eni.subnet_cidrs)) or 'an unknown subnet'}")
        for name, eni in sorted(aws.enis.items())
    ]


async def mapping(settings: MemberSettings, aws: AwsSide) -> list[Finding]:
    """Where the VPC maps the VIPs now."""
    found = []
    for vip in settings.vips:
        eni = aws.enis[vip.interface]
        seen = (await aws.reader.read(eni, [vip.address], timeout_s=MAPPING_S))[vip.address]
        if seen is Mapped.UNKNOWN:
            found.append(unknown("mapping", f"IMDS does not tell whether {vip.address} is mapped to {eni.id}"))
        else:
            where = f"mapped to this node's {eni.id}" if seen is Mapped.MINE else "not mapped to this node"
            found.append(ok("mapping", f"{vip.address} is {where} at present"))
    return found


async def kubernetes(settings: MemberSettings, client: ApiClient) -> list[Finding]:
    """Whether the API answers, and allows what the election needs."""
    found = await preflight(client, namespace=settings.namespace, name=settings.lease)
    if found.problems:
        return [fail("kubernetes", problem) for problem in found.problems]
    if any(permission.allowed is None for permission in found.permissions):
        return [warn("kubernetes", f"{found.host} answers, but does not tell what this account may do")]
    return [ok("kubernetes", f"{found.host} answers, and allows the Lease {settings.namespace}/{settings.lease}")]


async def services(settings: MemberSettings, client: ApiClient) -> list[Finding]:
    """Whether a VIP is an address that Kubernetes may give to a Service."""
    cidrs = await service_cidrs(client)
    if not cidrs:
        return [
            unknown("service-cidr", "the API does not tell the service CIDRs (1.33 and newer do, to who may list them)")
        ]
    inside = [(vip, cidr) for vip in settings.vips for cidr in cidrs if vip.address in cidr]
    if inside:
        return [fail("service-cidr", f"{vip.address} is in the service CIDR {cidr}") for vip, cidr in inside]
    return [ok("service-cidr", f"the VIPs are outside of {', '.join(map(str, cidrs))}")]


async def node(settings: HostSettings, client: ApiClient) -> Finding:
    """Whether this node may own a VIP at present, and its Node can be read and watched."""
    found: Node | CallFailed | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(WATCH_S), aclosing(NodeWatch(client, settings.node).events()) as events:
            async for found in events:
                if isinstance(found, CallFailed):
                    break
    if isinstance(found, CallFailed):
        return fail("node", f"the Node {settings.node} cannot be seen: {found.detail}; or pass --no-node-gate")
    why = why_unfit(found)
    if found is None:
        return fail("node", f"{why} as {settings.node}; name it with --node or NODE_NAME")
    return warn("node", f"{settings.node}: {why}") if why else ok("node", f"{settings.node} is Ready")


async def checks(settings: MemberSettings) -> list[Finding]:
    """One attempt of each health check."""
    specs = list(settings.checks)
    if isinstance(settings, HostSettings) and settings.kube_proxy is not None:
        specs.insert(0, settings.kube_proxy)
    found = []
    for check in make_checks(specs, timeout_s=settings.check_timeout_s):
        problem = await check.run()
        found.append(warn("check", f"{check}: {problem}") if problem else ok("check", f"{check} is healthy"))
    return found


async def vpc_cni(settings: MemberSettings, aws: AwsSide) -> list[Finding]:
    """Whether the VPC CNI manages the VIPs' ENIs, and what it did with the VIPs."""
    pool = await ipamd.look()
    mine = sorted({eni.id for eni in aws.enis.values()})
    if pool is None:
        return [await _by_tags(aws)]
    given = [(vip, pod) for vip in settings.vips if (pod := pool.addresses.get(vip.address))]
    if given:
        return [
            fail("vpc-cni", f"ipamd has given {vip.address} to the pod {pod}; delete that pod") for vip, pod in given
        ]
    managed = [eni for eni in mine if eni in pool.enis]
    if managed:
        return [warn("vpc-cni", f"ipamd manages {', '.join(managed)} and may give the VIP to a pod. {ipamd.WAYS_OUT}")]
    return [ok("vpc-cni", f"ipamd leaves {', '.join(mine)} alone")]


async def _by_tags(aws: AwsSide) -> Finding:
    told = {eni.id: await ipamd.tagged_no_manage(aws.ec2, eni) for eni in aws.enis.values()}
    unmarked = sorted(eni for eni, marked in told.items() if marked is False)
    if unmarked:
        return warn(
            "vpc-cni",
            f"no ipamd answers here; where there is one, it manages {', '.join(unmarked)}, which has no tag "
            f"{ipamd.NO_MANAGE}",
        )
    if None in told.values():
        return unknown("vpc-cni", "no ipamd answers here, and EC2 does not tell the ENI's tags")
    return ok("vpc-cni", f"{', '.join(sorted(told))} bears the tag {ipamd.NO_MANAGE}=true")


async def address(settings: HostSettings, kernel: KernelLink) -> list[Finding]:
    """In static mode: whether user data has done its part; in managed mode: whether it has left that to vipd."""
    if settings.address_mode is AddressMode.MANAGED:
        return [fail("address", not_ours(vip)) for vip in await by_others(kernel, settings.vips)]
    return [
        ok("address", f"{vip.address} is on {vip.interface}")
        if await has_address(kernel, vip)
        else fail("address", missing(vip))
        for vip in settings.vips
    ]


def failed(check: str, error: Exception) -> Sequence[Finding]:
    """What vipd itself would say and end."""
    return [fail(check, str(error))]
