"""Addresses, links and their changes in this network namespace, over netlink."""

from vipd.link.lean import put_off

put_off("pyroute2")
