"""The static address: on the node's interface at every boot, and again when something took it off.

A unit that ran once would not do.  The tools that care for the network know nothing of the address: systemd-networkd
drops foreign addresses when it sets a link up anew (AL2023, Ubuntu), dhclient's scripts when a lease is another one
(AL2).  So a timer puts it back every 10 s; where it is there, `ip address replace` changes nothing.  rc.local, which
the sample used, does not exist on AL2023, and a configuration file would have to name the interface, which is eth0,
ens5 or enX0 by image and instance type.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from vipd.core.model import Vip
from vipd.userdata.plan import SBIN, UNITS, File, Plan

NAME = "vipd-nodeport-address"
SCRIPT = f"{SBIN}/{NAME}"
EVERY_S = 10

INTERFACE_OF_DEFAULT_ROUTE = """\
if [ "$interface" = auto ]; then
  interface=$(ip -o route show default | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }')
  [ -n "$interface" ] || { echo "there is no default route yet, so no interface" >&2; exit 1; }
fi
"""
"""The primary ENI's, whatever the interface is called."""


def plan(vips: Sequence[Vip], interface: str) -> Plan:
    """Script, service and timer."""
    files = (File(SCRIPT, script(vips, interface), executable=True), File(f"{UNITS}/{NAME}.service", SERVICE))
    return Plan((*files, File(f"{UNITS}/{NAME}.timer", TIMER)), (f"{NAME}.timer",))


def script(vips: Sequence[Vip], interface: str) -> str:
    """POSIX sh; it may run at any time, and any number of times."""
    lines = "".join(f"put {vip.address.version} {vip.address}/{vip.address.max_prefixlen}\n" for vip in vips)
    return f"""\
#!/bin/sh
# Puts the NodePort VIP on this node's interface; it may run any number of times.
set -eu
interface={shlex.quote(interface)}
{INTERFACE_OF_DEFAULT_ROUTE}
# As /32 or /128: with the subnet's prefix it would become the interface's first address where it comes before DHCP's,
# and the node's own would get no route. No duplicate address detection: every node has it.
put() {{
  if [ "$1" = 6 ]; then
    ip -6 address replace "$2" dev "$interface" nodad
  else
    ip -4 address replace "$2" dev "$interface"
  fi
}}
{lines}"""


SERVICE = f"""\
[Unit]
Description=NodePort VIP on this node's interface
After=network.target

[Service]
Type=oneshot
ExecStart={SCRIPT}
"""

TIMER = f"""\
[Unit]
Description=NodePort VIP on this node's interface, again and again

[Timer]
OnBootSec=1s
OnActiveSec=1s
OnUnitActiveSec={EVERY_S}s
OnUnitInactiveSec={EVERY_S}s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
