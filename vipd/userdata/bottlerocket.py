"""Bottlerocket: TOML settings.  The host has no shell, so a bootstrap container runs the script.

Bootstrap containers run in the host's network namespace with CAP_NET_ADMIN, at each boot before the kubelet, one after
the network is up, and the boot waits for them (bottlerocket-core-kit, sources/host-ctr, withBootstrap).
"""

from __future__ import annotations

import base64

from vipd.config.model_userdata import Cluster, UserdataSettings
from vipd.userdata.address import address_script
from vipd.userdata.joining import dns_address

COMMENT = """\
# Written by vipd userdata.
#
# The image has to run the file that it finds as /.bottlerocket/bootstrap-containers/current/user-data (decoded), and to
# have sh, awk, sed and iproute2's ip; curl, where the interface is to be found by IMDS and not by the default route.
#
# It ends when the address is there. What removes the address later, a reconfigured link, is mended by the next boot
# alone: where that is too little use vipd host --address-mode managed in a DaemonSet, which needs none of this.
"""

ESSENTIAL = """\
# true: a node that cannot bear the address must not join. Once elected it would swallow what is sent to the address.
"""


def bottlerocket(settings: UserdataSettings) -> str:
    """The settings."""
    joining = "" if settings.cluster is None else _kubernetes(settings.cluster)
    # By itself the script goes on for ever, and so would the boot.
    script = address_script(settings, once=True)
    return (
        COMMENT
        + joining
        + "\n[settings.bootstrap-containers.vipd-address]\n"
        + f"source = {basic_string(settings.bootstrap_image or '')}\n"
        + 'mode = "always"\n'
        + ESSENTIAL
        + "essential = true\n"
        + f"user-data = {basic_string(base64.b64encode(script.encode('ascii')).decode('ascii'))}\n"
    )


def _kubernetes(cluster: Cluster) -> str:
    values = {
        "cluster-name": cluster.name,
        "api-server": cluster.endpoint,
        "cluster-certificate": cluster.certificate_authority,
        "cluster-dns-ip": dns_address(cluster),
    }
    return "\n[settings.kubernetes]\n" + "".join(f"{key} = {basic_string(text)}\n" for key, text in values.items())


def basic_string(text: str) -> str:
    """A TOML basic string (TOML 1.0.0, "String")."""
    escaped = "".join(_escaped(character) for character in text)
    return f'"{escaped}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"
