"""The VIP's mapping to the node's ENI without vipd: the aws command, once a boot.

Its limits stand in the script, because whoever reads it on a node has nothing else at hand.
"""

from __future__ import annotations

from vipd.config.model_userdata import UserdataSettings
from vipd.userdata.nodefile import NodeFile, program, unit
from vipd.userdata.parts import script


def mapping_files(settings: UserdataSettings) -> tuple[NodeFile, ...]:
    """What takes the mapping.  All VIPs are IPv4."""
    values = {
        "INTERFACE": settings.interface or "",
        "ADDRESSES": " ".join(str(vip.address) for vip in settings.vips),
        "REGION": settings.region or "",
    }
    taking = script(values, "mapping-limits.sh", "imds.sh", "interface.sh", "mapping.sh")
    return program("vipd-mapping", taking), unit("vipd-mapping.service")
