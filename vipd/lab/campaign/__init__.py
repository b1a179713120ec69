"""The fault campaign: random faults and pairs of them on running processes under probe traffic, judged one by one."""
