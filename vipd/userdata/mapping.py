"""Without vipd: the node maps the VIP to its own ENI, once at each boot.

The command that the sample means by ``aws ec2 assignprivateaddresses``.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from vipd.core.model import Vip
from vipd.userdata.address import INTERFACE_OF_DEFAULT_ROUTE
from vipd.userdata.plan import SBIN, UNITS, File, Plan

NAME = "vipd-nodeport-mapping"
SCRIPT = f"{SBIN}/{NAME}"


def plan(vips: Sequence[Vip], interface: str) -> Plan:
    """Script and service."""
    files = (File(SCRIPT, script(vips, interface), executable=True), File(f"{UNITS}/{NAME}.service", SERVICE))
    return Plan(files, (f"{NAME}.service",))


def script(vips: Sequence[Vip], interface: str) -> str:
    """POSIX sh with curl and the AWS CLI.  IPv4 alone: EC2 reassigns no IPv6 address in one call."""
    addresses = " ".join(str(vip.address) for vip in vips)
    return f"""\
#!/bin/sh
# Maps the NodePort VIP to this node's ENI, once at boot. Its limits, which vipd has not:
# - the node that booted last has the VIP; two that boot together take it from each other;
# - nobody takes it over when that node dies, until another one boots;
# - a node that is drained, or whose kube-proxy is down, keeps it.
# It needs the AWS CLI, and ec2:AssignPrivateIpAddresses in the node's role.
set -eu
interface={shlex.quote(interface)}
{INTERFACE_OF_DEFAULT_ROUTE}
imds=http://169.254.169.254/latest
token=$(curl -sSf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$imds/api/token")
ask() {{ curl -sSf -m 5 -H "X-aws-ec2-metadata-token: $token" "$imds/meta-data/$1"; }}
mac=$(cat "/sys/class/net/$interface/address")
eni=$(ask "network/interfaces/macs/$mac/interface-id")
region=$(ask placement/region)
aws ec2 assign-private-ip-addresses --region "$region" --network-interface-id "$eni" \\
  --private-ip-addresses {addresses} --allow-reassignment
"""


SERVICE = f"""\
[Unit]
Description=NodePort VIP mapped to this node's ENI, once at boot
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
# Until it is done: systemd before 244 (AL2 has 219) takes no Restart= for a oneshot.
TimeoutStartSec=infinity
ExecStart=/bin/sh -c "until {SCRIPT}; do sleep 5; done"

[Install]
WantedBy=multi-user.target
"""
