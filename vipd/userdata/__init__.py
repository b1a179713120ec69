"""EC2 user data that gives nodes a NodePort VIP: text made from settings, deterministic, without network.

Cloud-init runs user data once in an instance's life, so nothing here acts by itself: scripts and systemd units are
written to the node, and these act at every boot.  Two lines that look as if they did that and do not:
``ip address add ... >> /etc/rc.local`` runs the command and stores what it prints, which is nothing; and Amazon Linux
2023 has no rc.local.
"""

from vipd.userdata.document import render

__all__ = ["render"]
