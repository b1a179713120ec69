"""Bottlerocket's user data is TOML, and nothing of ours can run on the host but in a container.

A bootstrap container has the host's network and CAP_NET_ADMIN (bottlerocket-core-kit, sources/host-ctr), and runs at
each boot before the kubelet.  So the address can be put there once a boot; nothing puts it back, no service runs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from vipd.config.model import ClusterInfo
from vipd.core.model import Vip
from vipd.userdata.address import script
from vipd.userdata.join import toml

CONTAINER = "vipd-nodeport-address"


def settings(vips: Sequence[Vip], interface: str, image: str, cluster: ClusterInfo | None) -> str:
    """TOML.  Values are ASCII, so JSON's strings are TOML's, too."""
    data = base64.b64encode(script(vips, interface).encode()).decode()
    told = {"source": image, "mode": "always", "essential": False, "user-data": data}
    joining = _table("settings.kubernetes", toml(cluster)) + "\n" if cluster else ""
    return f"""\
# Written by vipd userdata.
# The address is put on the interface at each boot, before the kubelet starts, and nobody puts it back when it goes:
# then 'vipd host --address-mode static' on this node is no candidate. '--address-mode managed' needs no user data.
# The image runs what it finds in /.bottlerocket/bootstrap-containers/current/user-data with sh, and has ip and awk.
{joining}{_table(f"settings.bootstrap-containers.{CONTAINER}", told)}"""


def _table(name: str, values: dict[str, object] | dict[str, str]) -> str:
    return "".join([f"[{name}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in values.items())])
