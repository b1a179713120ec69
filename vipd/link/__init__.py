"""Addresses, links and their changes in this network namespace, over netlink."""
