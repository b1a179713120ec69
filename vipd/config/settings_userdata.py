"""Makes the settings of ``vipd userdata``, and refuses what does not go together.

A wrong launch template is found out when nodes boot, one by one; so everything that can be known here is refused here.
"""

from __future__ import annotations

import argparse
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from vipd.config import table, table_host, table_init
from vipd.config import table_userdata as t
from vipd.config.model import AddressMode
from vipd.config.model_userdata import (
    Cluster,
    HostService,
    Image,
    KubeconfigFile,
    KubeconfigRole,
    NodeOption,
    NodeOs,
    StaticAddress,
    UserdataSettings,
    Wheel,
)
from vipd.config.option import Option, quoted, wrong
from vipd.config.sources import Given, gather
from vipd.errors import ConfigError

KUBELETS = ("/var/lib/kubelet/kubeconfig", "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/kubelet/kubeconfig")
"""Where the kubelet's own kubeconfig lies: EKS AMIs (amazon-eks-ami, nodeadm/internal/kubelet/kubeconfig.go), kubeadm,
Bottlerocket."""

POD = "vipd host --address-mode managed in a DaemonSet"


def load_userdata(flags: argparse.Namespace, environ: Mapping[str, str]) -> UserdataSettings:
    """The settings, from flags that ``add_arguments`` declared and argparse has read.

    Raises ConfigError that names where a wrong value came from.
    """
    others = (*table.SIDECAR_OPTIONS, *table_init.INIT_OPTIONS, *table_host.HOST_OPTIONS)
    given = gather(flags, environ, t.USERDATA_OPTIONS, t.CONFIG, others=others)
    option = given.one(t.OPTION, NodeOption.ADDRESS)
    node_os = given.one(t.OS, NodeOs.AL2023)
    _check_bottlerocket(given, option, node_os)
    if option is NodeOption.ADDRESS:
        _refuse(given, t.SERVICE_OPTIONS, "goes with option 2 alone", "--option 2, or leave it out")
    service = _service(given, node_os)
    return UserdataSettings(
        vips=_vips(given, option, service),
        option=option,
        os=node_os,
        interface=given.one(t.INTERFACE, None),
        region=given.one(t.REGION, "") or None,
        service=service,
        cluster=_cluster(given),
        bootstrap_image=given.one(t.BOOTSTRAP_IMAGE, "") or None,
    )


def _said(given: Given, option: Option[Any]) -> bool:
    return bool(given.all(option))


def _refuse(given: Given, options: Sequence[Option[Any]], problem: str, allowed: str) -> None:
    for option in options:
        for value in given.all(option)[:1]:
            raise wrong(given.origin(option.name), _text(value), problem, allowed)


def _text(value: object) -> str:
    """As it was written, near enough for an error."""
    return value.text if isinstance(value, Wheel) else value.reference if isinstance(value, Image) else str(value)


def _vips(given: Given, option: NodeOption, service: HostService | None) -> tuple[StaticAddress, ...]:
    vips = given.all(t.VIP)
    if not vips:
        raise ConfigError(f"--vip: not given; allowed: {t.VIP.allowed}")
    addresses = [vip.address for vip in vips]
    for vip in vips:
        if addresses.count(vip.address) > 1:
            raise wrong(given.origin("vip"), str(vip.address), "is there twice", "each address once")
        if vip.address.version == 6 and option is NodeOption.NO_CONTAINER and service is None:
            # AssignIpv6Addresses has no AllowReassignment: it fails for as long as another ENI has the address.
            raise wrong(
                given.origin("vip"),
                str(vip),
                "is IPv6, which EC2 does not reassign in one call",
                "IPv4, or vipd to do it: --vipd-wheel or --vipd-image",
            )
    return vips


def _check_bottlerocket(given: Given, option: NodeOption, node_os: NodeOs) -> None:
    """Its host has no shell, no package manager and no units of others: what runs there is a container."""
    if node_os is not NodeOs.BOTTLEROCKET:
        _refuse(given, [t.BOOTSTRAP_IMAGE], "is for Bottlerocket", "--os bottlerocket, or leave it out")
        return
    if option is NodeOption.NO_CONTAINER:
        raise wrong(
            given.origin("option"),
            str(option),
            "cannot be on Bottlerocket, where nothing but containers can be added",
            f"1 with --bootstrap-image, or instead {POD}",
        )
    if not _said(given, t.BOOTSTRAP_IMAGE):
        raise ConfigError(
            "--bootstrap-image: not given, and Bottlerocket's host has no shell to run a script; "
            f"allowed: {t.BOOTSTRAP_IMAGE.allowed}, or instead {POD}"
        )


def _service(given: Given, node_os: NodeOs) -> HostService | None:
    program = _program(given, node_os)
    if program is None:
        _refuse(given, t.VIPD_OPTIONS, "is for vipd, which is not there", "with --vipd-wheel or --vipd-image")
        return None
    lease = given.one(t.LEASE, "")
    if not lease:
        raise ConfigError("--lease: not given; allowed: the name of the Lease that elects the VIPs' owner")
    return HostService(
        program=program,
        lease=lease,
        namespace=given.one(t.NAMESPACE, "vipd"),
        address_mode=_address_mode(given, node_os),
        kubeconfig=_kubeconfig(given, program),
    )


def _address_mode(given: Given, node_os: NodeOs) -> AddressMode:
    """vipd knows its own addresses by their protocol number (IFA_PROTO), which the kernel keeps since 5.18."""
    if node_os is not NodeOs.AL2:
        return given.one(t.ADDRESS_MODE, AddressMode.MANAGED)
    mode = given.one(t.ADDRESS_MODE, AddressMode.STATIC)
    if mode is AddressMode.MANAGED:
        raise wrong(
            given.origin("address-mode"),
            str(mode),
            "cannot be on al2: its kernel (5.10) does not keep the protocol number by which vipd knows its addresses",
            "static",
        )
    return mode


def _program(given: Given, node_os: NodeOs) -> Wheel | Image | None:
    wheels, images = given.all(t.VIPD_WHEEL), given.all(t.VIPD_IMAGE)
    if wheels and images:
        raise wrong(given.origin("vipd-image"), images[0].reference, "is there beside a wheel", "one of them")
    if wheels and node_os is NodeOs.AL2:
        raise wrong(
            given.origin("vipd-wheel"),
            wheels[0].text,
            "needs Python 3.11, which Amazon Linux 2 has not",
            "--vipd-image, or --os al2023",
        )
    return wheels[0] if wheels else images[0] if images else None


def _kubeconfig(given: Given, program: Wheel | Image) -> KubeconfigFile | KubeconfigRole:
    path, role, cluster = (given.one(o, "") for o in (t.KUBECONFIG, t.KUBECONFIG_ROLE, t.KUBECONFIG_CLUSTER))
    # Two slashes at the beginning stay two in POSIX's normal form.
    if posixpath.normpath(f"/{path.lstrip('/')}") in KUBELETS:
        raise wrong(
            given.origin("kubeconfig"),
            path,
            "is the kubelet's own, and the NodeRestriction admission plugin lets a node write no Lease but its own one "
            "in kube-node-lease, whatever RBAC says",
            "another kubeconfig, or --kubeconfig-role with --kubeconfig-cluster",
        )
    if path:
        _refuse(given, [t.KUBECONFIG_ROLE, t.KUBECONFIG_CLUSTER], "is there beside --kubeconfig", "one of them")
        return KubeconfigFile(path)
    if not role and not cluster:
        raise ConfigError(
            "--kubeconfig: not given, and the kubelet's own may not write the Lease; allowed: a kubeconfig that is on "
            "the node, or --kubeconfig-role with --kubeconfig-cluster"
        )
    if not role or not cluster:
        missing = t.KUBECONFIG_CLUSTER if role else t.KUBECONFIG_ROLE
        raise ConfigError(f"{missing.flag}: not given; allowed: {missing.allowed}")
    if isinstance(program, Image):
        raise wrong(
            given.origin("kubeconfig-role"),
            role,
            "needs the aws command beside vipd, which the image has not",
            "--kubeconfig with a token or a client certificate in it, or --vipd-wheel",
        )
    return KubeconfigRole(cluster, role)


def _cluster(given: Given) -> Cluster | None:
    missing = [option for option in t.JOIN_OPTIONS if not _said(given, option)]
    if len(missing) == len(t.JOIN_OPTIONS):
        return None
    if missing:
        said = next(option for option in t.JOIN_OPTIONS if option not in missing)
        raise ConfigError(
            f"{missing[0].flag}: not given, but {given.origin(said.name)} is ({quoted(_text(given.all(said)[0]))}); "
            f"allowed: all of {', '.join(option.flag for option in t.JOIN_OPTIONS)}, or none"
        )
    return Cluster(
        name=given.all(t.CLUSTER)[0],
        endpoint=given.all(t.API_SERVER_ENDPOINT)[0],
        certificate_authority=given.all(t.CERTIFICATE_AUTHORITY)[0],
        service_cidr=given.all(t.SERVICE_CIDR)[0],
    )
