"""The VIP as an address of the node's interface: a script that looks every 2 s whether it is there, and its unit.

Why no file of the distribution's network configuration says it:

- systemd-networkd (AL2023): a drop-in belongs to a .network file by its name.  The one that matches the primary ENI is
  80-ec2.network, or 70-IF.network by amazon-ec2-net-utils, or 70-eks-IF.network by nodeadm, which disables the first;
  a drop-in for another one of them is passed over in silence (amazon-eks-ami, nodeadm/cmd/nodeadm-internal/udev).  A
  .network file of our own would have to take the place of theirs, and lose what they say about DHCP and routes.
- netplan (Ubuntu): cloud-init's file names the interface by an id that differs between releases; a second id for the
  same interface is an error or a second configuration.
- network-scripts (AL2): ifcfg-IF:0 needs the name, which is not known before the boot, and ec2-net-utils removes the
  addresses flagged as secondary that IMDS does not list (ec2net-functions, rewrite_aliases).  One with the prefix /32
  is not flagged so by the kernel.
"""

from __future__ import annotations

from vipd.config.model_userdata import UserdataSettings
from vipd.userdata.nodefile import NodeFile, program, unit
from vipd.userdata.parts import script


def address_files(settings: UserdataSettings) -> tuple[NodeFile, ...]:
    """What puts the VIPs on the interface and keeps them there."""
    return program("vipd-address", address_script(settings)), unit("vipd-address.service")


def address_script(settings: UserdataSettings, *, once: bool = False) -> str:
    """``vipd-address keep`` (default) for a unit, ``vipd-address once`` for what has to end.

    ``once``: as if that had been its argument.
    """
    values = {"INTERFACE": settings.interface or "", "VIPS": " ".join(str(vip) for vip in settings.vips)}
    return script(values, "imds.sh", "interface.sh", "address.sh", arguments=("once",) if once else ())
