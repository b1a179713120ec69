"""Makes the settings of ``vipd userdata``, and refuses what does not go together."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from vipd.config import table, table_userdata
from vipd.config.model import AddressMode, ClusterInfo, NodeOs, UserdataSettings
from vipd.config.option import Option, wrong
from vipd.config.sources import Given, gather
from vipd.config.table_userdata import USERDATA_OPTIONS
from vipd.core.model import Vip
from vipd.errors import ConfigError

NODES_OWN = "/var/lib/kubelet/kubeconfig"
"""Where the EKS images for Amazon Linux and Ubuntu have it."""

OF_THE_CLUSTER = (table_userdata.CLUSTER_NAME, table_userdata.ENDPOINT, table_userdata.AUTHORITY)

VIPDS_OWN: tuple[Option[Any], ...] = (
    table_userdata.LEASE,
    table_userdata.NAMESPACE,
    table_userdata.ADDRESS_MODE,
    table_userdata.KUBECONFIG,
)
"""What only vipd has a use for."""


def load_userdata(flags: argparse.Namespace, environ: Mapping[str, str]) -> UserdataSettings:
    """From flags that ``add_arguments`` declared and argparse has read.  Raises ConfigError."""
    given = gather(flags, environ, USERDATA_OPTIONS, table.CONFIG)
    os = given.one(table_userdata.OS, NodeOs.AL2023)
    image = given.one(table_userdata.IMAGE, "")
    settings = UserdataSettings(
        vips=tuple(Vip(v.address, v.prefixlen, "") for v in given.all(table_userdata.VIP)),
        option=given.one(table_userdata.OPTION, 1),
        os=os,
        interface=given.one(table_userdata.INTERFACE, "auto"),
        bootstrap_image=given.one(table_userdata.BOOTSTRAP_IMAGE, ""),
        wheel=given.one(table_userdata.WHEEL, ""),
        image=image,
        lease=given.one(table_userdata.LEASE, ""),
        namespace=given.one(table_userdata.NAMESPACE, "vipd"),
        address_mode=given.one(
            table_userdata.ADDRESS_MODE, AddressMode.STATIC if os is NodeOs.AL2 else AddressMode.MANAGED
        ),
        kubeconfig=given.one(table_userdata.KUBECONFIG, "" if image else NODES_OWN),
        cluster=_cluster(given, os),
    )
    _check(settings, given)
    return settings


def _cluster(given: Given, os: NodeOs) -> ClusterInfo | None:
    options: tuple[Option[Any], ...] = (*OF_THE_CLUSTER, table_userdata.SERVICE_CIDR)
    told = [option for option in options if given.all(option)]
    if not told:
        return None
    needed: tuple[Option[str], ...] = OF_THE_CLUSTER
    missing = [option.flag for option in needed if not given.all(option)]
    cidr = (*given.all(table_userdata.SERVICE_CIDR), None)[0]
    if os is NodeOs.AL2023 and cidr is None:
        missing.append(table_userdata.SERVICE_CIDR.flag)
    if missing:
        raise ConfigError(
            f"{given.origin(told[0].name)}: joining the cluster needs {', '.join(missing)}, too; allowed: all of them, "
            "or none"
        )
    name, endpoint, authority = (given.one(option, "") for option in needed)
    return ClusterInfo(name, endpoint, authority, cidr)


def _check(settings: UserdataSettings, given: Given) -> None:
    if not settings.vips:
        raise ConfigError(f"--vip: not given; allowed: {table_userdata.VIP.allowed}")
    for number, vip in enumerate(settings.vips):
        if vip.address in [other.address for other in settings.vips[:number]]:
            raise wrong(given.origin("vip"), str(vip.address), "is there twice", "each address once")
    _check_bottlerocket(settings, given)
    if settings.option == 1:
        _only_with_option_2(given)
    elif settings.runs_vipd:
        _check_vipd(settings, given)
    else:
        _check_without_vipd(settings, given)


def _check_bottlerocket(settings: UserdataSettings, given: Given) -> None:
    if settings.os is not NodeOs.BOTTLEROCKET:
        if settings.bootstrap_image:
            raise ConfigError(
                f"{given.origin('bootstrap-image')}: goes with --os bottlerocket; allowed: without it here"
            )
        return
    if settings.option == 2:
        raise wrong(
            given.origin("option"),
            "2",
            "cannot be on bottlerocket, where nothing runs on the host but containers",
            "1, or no user data and a DaemonSet with 'vipd host --address-mode managed'",
        )
    if not settings.bootstrap_image:
        raise ConfigError(
            "--bootstrap-image: not given; --os bottlerocket puts the address there by a bootstrap container; allowed: "
            f"{table_userdata.BOOTSTRAP_IMAGE.allowed}; or no user data and 'vipd host --address-mode managed'"
        )


def _only_with_option_2(given: Given) -> None:
    for option in (table_userdata.WHEEL, table_userdata.IMAGE, *VIPDS_OWN):
        if given.all(option):
            raise ConfigError(f"{given.origin(option.name)}: goes with --option 2; allowed: without it here")


def _check_vipd(settings: UserdataSettings, given: Given) -> None:
    if settings.wheel and settings.image:
        raise ConfigError(f"{given.origin('image')}: excludes {given.origin('wheel')}; allowed: one of them")
    if not settings.lease:
        raise ConfigError("--lease: not given; allowed: the name of the Lease that elects the VIPs' owner")
    if not settings.kubeconfig:
        raise ConfigError(
            "--kubeconfig: not given; allowed with --image: a kubeconfig with a token or a client certificate, for the "
            "credential plugin of the node's own is not in the image"
        )
    if settings.os is not NodeOs.AL2:
        return
    if settings.wheel:
        problem = "cannot be on al2, which has no Python 3.11"
        raise wrong(given.origin("wheel"), settings.wheel, problem, "--image, or another --os")
    if settings.address_mode is AddressMode.MANAGED:
        raise wrong(
            given.origin("address-mode"),
            "managed",
            "cannot be on al2: its kernel (5.10) does not keep the protocol number of addresses",
            "static",
        )


def _check_without_vipd(settings: UserdataSettings, given: Given) -> None:
    for option in VIPDS_OWN:
        if given.all(option):
            raise ConfigError(f"{given.origin(option.name)}: goes with --wheel or --image; allowed: one of these, too")
    six = [vip for vip in settings.vips if vip.address.version == 6]
    if six:
        raise wrong(
            given.origin("vip"),
            str(six[0].address),
            "cannot be reassigned in one call, which is all that option 2 does without vipd",
            "IPv4 addresses, or --wheel or --image",
        )
