"""All checks of a mode, one after the other; what a later one needs and is not there, is left out."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import AsyncExitStack

from vipd.agent.aws import AwsSide, connect_aws
from vipd.agent.host_place import NoPlace, place
from vipd.agent.member import choose_fence
from vipd.aws.imds import Imds
from vipd.config import EniMode, HostSettings, MemberSettings
from vipd.core.model import LinkState
from vipd.doctor import checks
from vipd.doctor.finding import Finding, fail
from vipd.doctor.kubeproxy import nodeport_addresses
from vipd.errors import VipdError
from vipd.kube.connect import connect
from vipd.link.kernel import KernelLink


async def examine(settings: MemberSettings, environ: Mapping[str, str], proc_status: str) -> list[Finding]:
    """Every finding, in the order in which vipd itself would come upon it.  ``proc_status``: /proc/self/status."""
    async with AsyncExitStack() as stack:
        kernel = KernelLink()
        stack.push_async_callback(kernel.close)
        found = [checks.capabilities(proc_status), checks.kernel(settings, platform.release())]
        links = {link.name: link for link in await kernel.links()}
        placed = await _placed(settings, links)
        if isinstance(placed, Finding):
            found.append(placed)
        else:
            settings = placed
            found += checks.interfaces(settings, links)
            found += await _aws(settings, links, environ, stack)
        found += await _kubernetes(settings, environ, stack)
        found += await checks.checks(settings)
        if isinstance(settings, HostSettings):
            vips = [vip.address for vip in settings.vips]
            found += await nodeport_addresses(vips, static=settings.address_mode == "static")
            if not isinstance(placed, Finding):
                found += await checks.address(settings, kernel)
    return found


async def _placed(settings: MemberSettings, links: Mapping[str, LinkState]) -> MemberSettings | Finding:
    """The settings with a real interface; a finding where there is none."""
    if not isinstance(settings, HostSettings):
        return settings
    imds = Imds()
    try:
        found = await place(settings, imds, list(links.values()))
    except VipdError as error:
        return fail("interface", str(error))
    finally:
        await imds.close()
    return fail("interface", f"no candidate: {found.detail}") if isinstance(found, NoPlace) else found


async def _aws(
    settings: MemberSettings, links: Mapping[str, LinkState], environ: Mapping[str, str], stack: AsyncExitStack
) -> list[Finding]:
    try:
        aws = await _connected(settings, links, environ)
        choose_fence(settings, managed=aws is not None)
    except VipdError as error:
        return list(checks.failed("aws", error))
    if aws is None:
        return []
    stack.push_async_callback(aws.close)
    return [*checks.enis(aws), *await checks.mapping(settings, aws), *await checks.vpc_cni(settings, aws)]


async def _connected(
    settings: MemberSettings, links: Mapping[str, LinkState], environ: Mapping[str, str]
) -> AwsSide | None:
    names = {vip.interface for vip in settings.vips} & set(links)
    if settings.eni_mode is EniMode.NONE or not names:
        return None
    return await connect_aws(
        [vip for vip in settings.vips if vip.interface in names],
        {name: links[name] for name in names},
        eni_ids=settings.eni_ids,
        region=settings.region,
        subnet_cidrs=settings.subnet_cidrs,
        environ=environ,
    )


async def _kubernetes(settings: MemberSettings, environ: Mapping[str, str], stack: AsyncExitStack) -> list[Finding]:
    try:
        client = await connect(environ=environ)
    except VipdError as error:
        return list(checks.failed("kubernetes", error))
    stack.push_async_callback(client.close)
    found = await checks.kubernetes(settings, client)
    if isinstance(settings, HostSettings):
        found += await checks.services(settings, client)
        if settings.node_gate:
            found.append(await checks.node(settings, client))
    return found
