"""From settings to user data, for each operating system."""

from __future__ import annotations

from vipd.config.model import NodeOs, UserdataSettings
from vipd.errors import ConfigError
from vipd.userdata import address, bottlerocket, mapping, service
from vipd.userdata.cloudconfig import cloud_config
from vipd.userdata.join import bootstrap, node_config
from vipd.userdata.mime import Part, multipart
from vipd.userdata.plan import Plan
from vipd.userdata.shell import script

LIMIT = 16 * 1024
"""Bytes of user data in its raw form (EC2 User Guide, "Run commands when you launch an EC2 instance")."""


def render(settings: UserdataSettings) -> str:
    """The whole text.  Raises ConfigError where EC2 would not take it."""
    text = _render(settings)
    size = len(text.encode())
    if size > LIMIT:
        raise ConfigError(f"the user data has {size} bytes; allowed: {LIMIT}, so fewer --vip")
    return text


def _render(settings: UserdataSettings) -> str:
    cluster = settings.cluster
    if settings.os is NodeOs.BOTTLEROCKET:
        return bottlerocket.settings(settings.vips, settings.interface, settings.bootstrap_image, cluster)
    plan = _plan(settings)
    joins = Plan(commands=(bootstrap(cluster),)) if cluster else Plan()
    if settings.os is NodeOs.UBUNTU:
        return cloud_config(plan + joins)
    if settings.os is NodeOs.AL2:
        return multipart([Part("text/x-shellscript", script(plan + joins))])
    parts = [Part("text/x-shellscript", script(plan))]
    return multipart([node_config(cluster), *parts] if cluster else parts)


def _plan(settings: UserdataSettings) -> Plan:
    bears = address.plan(settings.vips, settings.interface)
    if settings.option == 1:
        return bears
    if not settings.runs_vipd:
        return bears + mapping.plan(settings.vips, settings.interface)
    # In managed mode vipd itself puts the address there.
    return (bears if settings.address_mode == "static" else Plan()) + service.plan(settings)
