"""Makes the settings of ``vipd sidecar``, ``host`` and ``init`` from what was said, and fills in what was not."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vipd.config import table, table_host, table_init, values
from vipd.config.check import check, check_host
from vipd.config.flags import Parser, add_arguments
from vipd.config.model import (
    AddressMode,
    EniMode,
    FenceChoice,
    HostSettings,
    InitSettings,
    LogFormat,
    LogLevel,
    MemberSettings,
    PodInfo,
    SidecarSettings,
)
from vipd.config.option import Option, wrong
from vipd.config.sources import Given, gather
from vipd.config.table_host import HOST_OPTIONS
from vipd.config.table_init import INIT_OPTIONS
from vipd.config.values import Listen
from vipd.core.model import Address, Vip

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where the kubelet tells a pod its namespace."""

DEFAULT_LISTEN = Listen("0.0.0.0", 9808)


class Reloaded(NamedTuple):
    """The new settings, and the names of the options (as in the file) whose effective value is another one."""

    settings: MemberSettings
    changed: tuple[str, ...]


def load_sidecar(
    argv: Sequence[str], environ: Mapping[str, str], *, namespace_file: Path = NAMESPACE_FILE
) -> SidecarSettings:
    """The settings that ``argv`` (what follows ``vipd sidecar``), the environment and the file make.

    Raises ConfigError that names where a wrong value came from.
    """
    parser = Parser(prog="vipd sidecar", add_help=False)
    add_arguments(parser, (*table.SIDECAR_OPTIONS, table.CONFIG))
    return from_flags(parser.parse_args(list(argv)), environ, namespace_file=namespace_file)


def load_host(
    argv: Sequence[str], environ: Mapping[str, str], *, namespace_file: Path = NAMESPACE_FILE
) -> HostSettings:
    """As ``load_sidecar``, of what follows ``vipd host``."""
    parser = Parser(prog="vipd host", add_help=False)
    add_arguments(parser, (*HOST_OPTIONS, table.CONFIG))
    return host_from_flags(parser.parse_args(list(argv)), environ, namespace_file=namespace_file)


def reload(
    previous: MemberSettings,
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    namespace_file: Path = NAMESPACE_FILE,
) -> Reloaded:
    """Reads everything again.  Raises ConfigError, and then ``previous`` is to stay in force."""
    settings: MemberSettings
    options: tuple[Option[Any], ...]
    if isinstance(previous, HostSettings):
        settings, options = load_host(argv, environ, namespace_file=namespace_file), HOST_OPTIONS
    else:
        settings, options = load_sidecar(argv, environ, namespace_file=namespace_file), table.SIDECAR_OPTIONS
    changed = tuple(
        option.name
        for option in options
        if any(getattr(settings, field) != getattr(previous, field) for field in option.fields)
    )
    return Reloaded(settings, changed)


def from_flags(
    flags: argparse.Namespace, environ: Mapping[str, str], *, namespace_file: Path = NAMESPACE_FILE
) -> SidecarSettings:
    """As ``load_sidecar``, from flags that ``add_arguments`` declared and argparse has read."""
    given = gather(flags, environ, table.SIDECAR_OPTIONS, table.CONFIG, others=INIT_OPTIONS)
    pod = _pod(environ)
    member = _member(given, pod, interface=given.one(table.INTERFACE, "net1"), namespace_file=namespace_file)
    settings = SidecarSettings(
        **member,
        identity=given.one(table.IDENTITY, "") or _identity(pod),
        follow=given.one(table.FOLLOW, member["eni_mode"] is not EniMode.NONE),
        follow_interfaces=given.all(table.FOLLOW_INTERFACE),
        ignore=given.all(table.IGNORE),
        release=given.one(table.RELEASE, False),
        release_after_s=given.one(table.RELEASE_AFTER, table.RELEASE_AFTER.parse(table.RELEASE_AFTER.default)),
    )
    check(settings, given.origin)
    return settings


def host_from_flags(
    flags: argparse.Namespace, environ: Mapping[str, str], *, namespace_file: Path = NAMESPACE_FILE
) -> HostSettings:
    """As ``load_host``, from flags that ``add_arguments`` declared and argparse has read."""
    given = gather(flags, environ, HOST_OPTIONS, table.CONFIG)
    pod = _pod(environ)
    mode = given.one(table_host.ADDRESS_MODE, AddressMode.MANAGED)
    node = given.one(table_host.NODE, "") or pod.node or _host_name("--node")
    proxy_check = table_host.KUBE_PROXY.parse(table_host.KUBE_PROXY_HEALTH)
    settings = HostSettings(
        **_member(
            given,
            replace(pod, node=node),
            interface=given.one(table_host.INTERFACE, table_host.AUTO),
            namespace_file=namespace_file,
        ),
        identity=given.one(table.IDENTITY, "") or _identity(pod),
        address_mode=mode,
        announce=given.one(table_host.ANNOUNCE, mode is AddressMode.MANAGED),
        node=node,
        node_gate=given.one(table_host.NODE_GATE, True),
        kube_proxy=given.one(table_host.KUBE_PROXY, proxy_check),
    )
    check_host(settings, given.origin)
    return settings


def _member(given: Given, pod: PodInfo, *, interface: str, namespace_file: Path) -> dict[str, Any]:
    """What all members of an election are told alike, by the names of MemberSettings."""
    duration_s = given.one(table.LEASE_DURATION, 3)
    eni_mode, eni_ids = _eni(given, interface)
    return {
        "vips": tuple(Vip(v.address, v.prefixlen, v.interface or interface) for v in given.all(table.VIP)),
        "lease": given.one(table.LEASE, ""),
        "namespace": given.one(table.NAMESPACE, "") or pod.namespace or _namespace(namespace_file),
        "interface": interface,
        "lease_duration_s": duration_s,
        "renew_interval_s": given.one(table.RENEW_INTERVAL, round(duration_s / 3, 3)),
        "priority": given.one(table.PRIORITY, 100),
        "preempt": given.one(table.PREEMPT, False),
        "fence": given.one(table.FENCE, FenceChoice.AUTO),
        "eni_mode": eni_mode,
        "eni_ids": eni_ids,
        "region": given.one(table.REGION, "") or None,
        "subnet_cidrs": given.all(table.SUBNET_CIDR),
        "checks": given.all(table.CHECK),
        "check_interval_s": given.one(table.CHECK_INTERVAL, 1.0),
        "check_timeout_s": given.one(table.CHECK_TIMEOUT, 1.0),
        "check_rise": given.one(table.CHECK_RISE, 2),
        "check_fall": given.one(table.CHECK_FALL, 3),
        "listen": given.one(table.LISTEN, DEFAULT_LISTEN),
        "grace_s": given.one(table.GRACE, 30.0),
        "interface_timeout_s": given.one(table.INTERFACE_TIMEOUT, 60.0),
        "log_format": given.one(table.LOG_FORMAT, LogFormat.AUTO),
        "log_level": given.one(table.LOG_LEVEL, LogLevel.INFO),
        "pod": pod,
    }


def load_init(flags: argparse.Namespace, environ: Mapping[str, str]) -> InitSettings:
    """The settings of ``vipd init``, from flags that ``add_arguments`` declared and argparse has read.

    Raises ConfigError that names where a wrong value came from.
    """
    given = gather(flags, environ, INIT_OPTIONS, table_init.CONFIG, others=table.SIDECAR_OPTIONS)
    interfaces = given.all(table_init.INTERFACE)
    eni_mode, eni_ids = _eni(given, interfaces[0] if len(interfaces) == 1 else "net1")
    if eni_mode is EniMode.NONE:
        raise wrong(
            given.origin("eni"), "none", "leaves nothing to do", "auto, or eni-...[%IF]; leave the initContainer out"
        )
    status = given.one(table_init.NETWORK_STATUS, "")
    if not status and Path(table_init.NETWORK_STATUS_FILE).exists():
        status = table_init.NETWORK_STATUS_FILE
    return InitSettings(
        interfaces=interfaces,
        network_status=status or None,
        timeout_s=given.one(table_init.TIMEOUT, 60.0),
        allow_none=given.one(table_init.ALLOW_NONE, False),
        ignore=given.all(table.IGNORE),
        skip=frozenset(vip.address for vip in given.all(table_init.VIP)),
        eni_ids=eni_ids,
        region=given.one(table.REGION, "") or None,
        subnet_cidrs=given.all(table.SUBNET_CIDR),
        log_format=given.one(table.LOG_FORMAT, LogFormat.AUTO),
        log_level=given.one(table.LOG_LEVEL, LogLevel.INFO),
        pod=_pod(environ),
    )


def _eni(given: Given, interface: str) -> tuple[EniMode, Mapping[str, str]]:
    told = given.all(table.ENI)
    words = {eni.id for eni in told} & {"auto", "none"}
    if len(told) > 1 and words:
        raise wrong(given.origin(table.ENI.name), sorted(words)[0], "stands alone", table.ENI.allowed)
    if not told or words == {"auto"}:
        return EniMode.AUTO, MappingProxyType({})
    if words:
        return EniMode.NONE, MappingProxyType({})
    ids: dict[str, str] = {}
    for eni in told:
        name = eni.interface or interface
        if ids.setdefault(name, eni.id) != eni.id:
            raise wrong(given.origin(table.ENI.name), eni.id, f"is the second ENI of interface {name}", "one for each")
    return EniMode.GIVEN, MappingProxyType(ids)


def _pod(environ: Mapping[str, str]) -> PodInfo:
    """The Downward API's variables, as the manifests name them."""
    ip, namespace, node = (environ.get(name, "").strip() for name in ("POD_IP", "POD_NAMESPACE", "NODE_NAME"))
    try:
        address = ipaddress.ip_address(ip) if ip else None
    except ValueError as error:
        raise wrong("variable POD_IP", ip, "is not an IP address", "status.podIP of the Downward API") from error
    if namespace:
        _expect("variable POD_NAMESPACE", namespace, values.label, "metadata.namespace of the Downward API")
    if node:
        _expect("variable NODE_NAME", node, values.subdomain, "spec.nodeName of the Downward API")
    return PodInfo(
        name=environ.get("POD_NAME", "").strip(),
        namespace=namespace,
        uid=environ.get("POD_UID", "").strip(),
        ip=address,
        node=node,
        ips=_pod_ips(environ) | ({address} if address else set()),
    )


def _pod_ips(environ: Mapping[str, str]) -> frozenset[Address]:
    """POD_IPS: status.podIPs, separated by commas."""
    texts = [text.strip() for text in environ.get("POD_IPS", "").split(",") if text.strip()]
    try:
        return frozenset(ipaddress.ip_address(text) for text in texts)
    except ValueError as error:
        problem, allowed = "has a part that is no IP address", "status.podIPs of the Downward API"
        raise wrong("variable POD_IPS", ",".join(texts), problem, allowed) from error


def _namespace(file: Path) -> str:
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        # Not in a pod, or its ServiceAccount token is not mounted.
        return "default"
    return _expect(f"file {file}", text, values.label, "a namespace; --namespace overrides it") if text else "default"


def _identity(pod: PodInfo) -> str:
    if pod.name:
        text = f"{pod.name}_{pod.uid}" if pod.uid else pod.name
        return _expect("variables POD_NAME and POD_UID", text, values.identity, table.IDENTITY.allowed)
    return _expect("the host name", socket.gethostname(), values.identity, "a host name, or --identity")


def _host_name(flag: str) -> str:
    """The host name as Kubernetes names a Node by default: in lower case (kubelet, --hostname-override)."""
    allowed = f"an RFC 1123 name; {flag} overrides it"
    return _expect("the host name", socket.gethostname().lower(), values.subdomain, allowed)


def _expect(origin: str, text: str, parse: values.TextParser, allowed: str) -> str:
    try:
        return parse(text)
    except ValueError as error:
        raise wrong(origin, text, str(error), allowed) from error
