"""What must hold between settings, each of which is possible by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vipd.config import table
from vipd.config.checkspec import CheckSpec
from vipd.config.model import AddressMode, EniMode, FenceChoice, HostSettings, MemberSettings, SidecarSettings
from vipd.config.option import wrong
from vipd.config.table_host import AUTO
from vipd.core import timing
from vipd.core.model import Network, Vip
from vipd.errors import ConfigError

MIN_FENCE_LEASE_S = 2
"""Fence lease: the kernel counts an address's lifetime in whole seconds and may remove it 0.4 s late."""

A_VIP = "at least one ADDR[/PREFIX][%IF], as flag, variable or file key"

Origin = Callable[[str], str]
"""Gives "flag --x", "variable VIPD_X" or "file F key x" for an option's name."""


def longest_interval_s(duration_s: int) -> float:
    """The longest renew interval that a duration allows, in seconds.

    A renewal that starts an interval after the last one must be answered before the right to act ends: the interval
    and one attempt's time limit fit into the duration less its margin.
    """
    return round(duration_s - timing.margin_s(duration_s) - timing.attempt_timeout_s(duration_s), 3)


def check(settings: SidecarSettings, origin: Origin) -> None:
    """Raises ConfigError that names the option to change."""
    _check_follow(settings, origin)
    if settings.vips:
        _check_member(settings, origin)
        return
    _check_interval(settings, origin)
    _check_no_vips(settings, origin)


def check_host(settings: HostSettings, origin: Origin) -> None:
    """Raises ConfigError that names the option to change."""
    if not settings.vips:
        raise ConfigError(f"--vip: not given; allowed: {A_VIP}")
    _check_member(settings, origin)
    if settings.address_mode is AddressMode.STATIC:
        _check_static(settings, origin)
    if any(vip.interface == AUTO for vip in settings.vips) and settings.eni_mode is EniMode.NONE:
        raise ConfigError(
            f"{origin('interface')}: '{AUTO}' asks IMDS for an ENI, but {origin('eni')} says none; allowed: the name "
            "of an interface there"
        )
    if settings.kube_proxy is not None and settings.kube_proxy in settings.checks:
        raise wrong(origin("check"), str(settings.kube_proxy), "is what --kube-proxy asks already", "each check once")


def _check_static(settings: HostSettings, origin: Origin) -> None:
    alone = (
        f"does not go with {origin('address-mode')} static: every node bears the address then, and the mapping to an "
        "ENI is all that tells them apart"
    )
    if settings.eni_mode is EniMode.NONE:
        raise wrong(origin("eni"), "none", alone, "--address-mode managed there")
    if settings.fence is FenceChoice.LEASE:
        raise wrong(origin("fence"), "lease", alone, "eni or auto, or --address-mode managed")


def _check_member(settings: MemberSettings, origin: Origin) -> None:
    _check_interval(settings, origin)
    _check_vips(settings.vips, origin)
    if not settings.lease:
        raise ConfigError("--lease: not given; allowed: the name of the Lease that elects the VIPs' owner")
    _check_eni(settings, origin)
    _check_fence(settings, origin)
    _check_subnets(settings.vips, settings.subnet_cidrs, origin)
    _check_checks(settings.checks, origin)


def _check_follow(settings: SidecarSettings, origin: Origin) -> None:
    if settings.follow and settings.eni_mode is EniMode.NONE:
        raise ConfigError(
            f"{origin('follow')}: 'true' needs ENIs to map addresses to, but {origin('eni')} says none; "
            "allowed: --no-follow there"
        )
    if settings.release and not settings.follow:
        raise ConfigError(f"{origin('release')}: 'true' does nothing without following; allowed: with --follow")
    if settings.follow_interfaces and not settings.follow:
        names = ", ".join(settings.follow_interfaces)
        raise wrong(origin("follow-interface"), names, "does nothing without following", "with --follow")
    usual_s = table.RELEASE_AFTER.parse(table.RELEASE_AFTER.default)
    if settings.release_after_s != usual_s and not settings.release:
        told = f"{settings.release_after_s:g}s"
        raise wrong(origin("release-after"), told, "does nothing without releasing", "with --release")


def _check_no_vips(settings: SidecarSettings, origin: Origin) -> None:
    if settings.lease:
        raise ConfigError(f"{origin('lease')}: {settings.lease} elects nobody, --vip: not given; allowed: {A_VIP}")
    if settings.checks:
        raise ConfigError(f"{origin('check')}: checks gate VIPs, --vip: not given; allowed: {A_VIP}")
    if not settings.follow:
        raise ConfigError(f"--vip: not given, and nothing is followed; allowed: {A_VIP}, or --follow with ENIs")


def _check_vips(vips: Sequence[Vip], origin: Origin) -> None:
    seen: dict[object, Vip] = {}
    for vip in vips:
        if vip.address in seen:
            raise ConfigError(
                f"{origin('vip')}: {vip.address} is there twice ({seen[vip.address]} and {vip}); "
                "allowed: each address once, on one interface"
            )
        seen[vip.address] = vip


def _check_interval(settings: MemberSettings, origin: Origin) -> None:
    most = longest_interval_s(settings.lease_duration_s)
    if settings.renew_interval_s > most:
        raise ConfigError(
            f"{origin('renew-interval')}: {settings.renew_interval_s:g}s is too long for lease-duration "
            f"{settings.lease_duration_s}s; allowed: 0.1s to {most:g}s, so that a renewal is answered before "
            "the right to act ends"
        )


def _check_eni(settings: MemberSettings, origin: Origin) -> None:
    if settings.eni_mode is not EniMode.GIVEN:
        return
    missing = sorted({vip.interface for vip in settings.vips} - set(settings.eni_ids))
    if missing == [AUTO]:
        raise ConfigError(
            f"{origin('eni')}: names the ENI of {', '.join(sorted(settings.eni_ids))}, but {origin('interface')} is "
            f"{AUTO}; allowed: --interface with that name, or eni-... without %IF"
        )
    if missing:
        raise ConfigError(
            f"{origin('eni')}: names no ENI for interface {', '.join(missing)}; "
            "allowed: auto, none, or one eni-...%IF for each interface with a VIP"
        )


def _check_fence(settings: MemberSettings, origin: Origin) -> None:
    managed = settings.eni_mode is not EniMode.NONE
    if settings.fence is FenceChoice.ENI and not managed:
        raise ConfigError(
            f"{origin('fence')}: 'eni' needs an ENI, but {origin('eni')} says none; allowed: lease or auto there"
        )
    by_lease = settings.fence is FenceChoice.LEASE or not managed
    if by_lease and settings.lease_duration_s < MIN_FENCE_LEASE_S:
        raise ConfigError(
            f"{origin('lease-duration')}: {settings.lease_duration_s}s is too short with fence lease; allowed: "
            f"{MIN_FENCE_LEASE_S}s or more there, because the kernel counts address lifetimes in whole seconds"
        )


def _check_subnets(vips: Sequence[Vip], cidrs: Sequence[Network], origin: Origin) -> None:
    for vip in vips:
        same_family = [cidr for cidr in cidrs if cidr.version == vip.address.version]
        if same_family and not any(vip.address in cidr for cidr in same_family):
            blocks = ", ".join(map(str, same_family))
            raise ConfigError(
                f"{origin('vip')}: {vip.address} is outside {origin('subnet-cidr')}; allowed: in {blocks}"
            )


def _check_checks(checks: Sequence[CheckSpec], origin: Origin) -> None:
    for number, spec in enumerate(checks):
        if spec in checks[:number]:
            raise wrong(origin("check"), str(spec), "is there twice", "each check once")
